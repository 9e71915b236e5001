use std::sync::Arc;

use proptest::prelude::*;
use redb::StorageBackend;

use super::Overlay;
use crate::backend::{Backend, MemoryBackend};
use crate::image::Imaged;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..12_000, prop::collection::vec(any::<u8>(), 1..6_000)).prop_map(|(at, data)| Step::Write(at, data)),
        1 => (0_usize..15_000).prop_map(Step::SetLen),
    ]
}

proptest! {
    /// A copy of the bytes is the model; what is below never changes.
    #[test]
    fn an_overlay_reads_as_a_copy_would_and_leaves_what_is_below(steps in prop::collection::vec(step(), 1..20)) {
        let below = MemoryBackend::new();
        let first: Vec<u8> = (0_u8..=255).cycle().take(10_000).collect();
        below.set_len(10_000).unwrap();
        below.write(0, &first).unwrap();
        let overlay = Overlay::over(Backend::open(&below).unwrap()).unwrap();
        let mut model = first.clone();
        for step in steps {
            match step {
                Step::Write(at, data) => {
                    if model.len() < at + data.len() {
                        model.resize(at + data.len(), 0);
                        overlay.set_len(model.len() as u64).unwrap();
                    }
                    model[at..at + data.len()].copy_from_slice(&data);
                    overlay.write(at as u64, &data).unwrap();
                }
                Step::SetLen(len) => {
                    model.resize(len, 0);
                    overlay.set_len(len as u64).unwrap();
                }
            }
            let mut found = vec![0; model.len()];
            overlay.read(0, &mut found).unwrap();
            prop_assert!(found == model);
            prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
        }
        let mut found = vec![0; 10_000];
        below.read(0, &mut found).unwrap();
        prop_assert!(found == first);
    }
}

#[test]
fn an_overlay_that_is_closed_closes_what_is_below() {
    let below = Imaged::over(Backend::open(&MemoryBackend::new()).unwrap());
    let lens = below.lens();
    let overlay = Overlay::over(Arc::new(below) as Arc<dyn StorageBackend>).unwrap();
    lens.image(&Arc::default()).unwrap();
    overlay.close().unwrap();
    assert!(lens.image(&Arc::default()).is_err());
}
