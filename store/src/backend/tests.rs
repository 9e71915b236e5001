use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let write = (0..20_000_u64, prop::collection::vec(any::<u8>(), 1..6_000));
    prop_oneof![
        write.prop_map(|(offset, data)| Act::Write(offset, data)),
        (0..25_000_u64).prop_map(Act::SetLen)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_overlay_reads_as_a_vector_and_leaves_its_file_alone(
        held in prop::collection::vec(any::<u8>(), 0..20_000),
        acts in prop::collection::vec(act(), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, &held).unwrap();
        let overlay = Overlay::new(&path).open().unwrap();
        let mut model = held.clone();
        for act in acts {
            match act {
                Act::Write(offset, data) => {
                    let (start, end) = (usize::try_from(offset).unwrap(), usize::try_from(offset).unwrap() + data.len());
                    let fits = end <= model.len();
                    prop_assert_eq!(overlay.write(offset, &data).is_ok(), fits);
                    if fits {
                        model[start..end].copy_from_slice(&data);
                    }
                }
                Act::SetLen(len) => {
                    overlay.set_len(len).unwrap();
                    model.resize(usize::try_from(len).unwrap(), 0);
                }
            }
            let mut read = vec![1; model.len()];
            overlay.read(0, &mut read).unwrap();
            prop_assert!(read == model);
            prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
        }
        prop_assert!(std::fs::read(&path).unwrap() == held);
    }
}
