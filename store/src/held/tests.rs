use proptest::prelude::*;
use redb::StorageBackend;

use super::Held;
use crate::backend::{Backend, MemoryBackend};

fn bytes(place: &MemoryBackend) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(place.len().unwrap()).unwrap()];
    place.read(0, &mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The same calls straight to other bytes are the model.
    #[test]
    fn nothing_arrives_before_it_is_let_go_and_everything_then(
        calls in prop::collection::vec((0_u64..12_000, prop::collection::vec(any::<u8>(), 0..6_000)), 1..20),
        let_go_after in 0_usize..20,
    ) {
        let (place, model) = (MemoryBackend::new(), MemoryBackend::new());
        [&place, &model].iter().for_each(|place| place.set_len(10_000).unwrap());
        let held = Held::over(Backend::open(&place).unwrap()).unwrap();
        for (index, (offset, data)) in calls.iter().enumerate() {
            if index == let_go_after {
                prop_assert!(bytes(&place) == [0; 10_000]);
                held.let_go().unwrap();
            }
            if data.is_empty() {
                prop_assert!(held.set_len(*offset).is_ok() && model.set_len(*offset).is_ok());
            } else {
                prop_assert_eq!(held.write(*offset, data).is_ok(), model.write(*offset, data).is_ok());
            }
            held.sync_data().unwrap();
            let mut found = vec![0; usize::try_from(held.len().unwrap()).unwrap()];
            held.read(0, &mut found).unwrap();
            prop_assert!(found == bytes(&model));
        }
        held.let_go().unwrap();
        prop_assert!(bytes(&place) == bytes(&model));
    }
}
