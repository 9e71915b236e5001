use proptest::prelude::*;

use crate::backend::{Backend as _, MemoryBackend};

use super::*;

fn taken(place: &Imaged, blocks_max: usize) -> Image {
    place.lens().image_within(blocks_max, &Arc::default()).unwrap()
}

fn imaged(bytes: &[u8]) -> Imaged {
    let below = MemoryBackend::new();
    below.set_len(bytes.len() as u64).unwrap();
    below.write(0, bytes).unwrap();
    Imaged::over(below.open().unwrap())
}

fn all_of(image: &Image) -> io::Result<Vec<u8>> {
    let mut bytes = vec![1; usize::try_from(image.len().unwrap()).unwrap()];
    image.read(0, &mut bytes).map(|()| bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_image_is_what_the_bytes_were_whatever_is_written_since(
        held in prop::collection::vec(any::<u8>(), 1..20_000),
        writes in prop::collection::vec((0..20_000_u64, prop::collection::vec(any::<u8>(), 1..6_000)), 1..8),
        parts in prop::collection::vec((0..20_000_usize, 0..9_000_usize), 1..4),
    ) {
        let place = imaged(&held);
        place.set_len(held.len() as u64 + 6_000).unwrap();
        let now = [held.as_slice(), &[0; 6_000]].concat();
        let (first, mut last) = (taken(&place, usize::MAX), now.clone());
        for (offset, data) in writes {
            let before = taken(&place, usize::MAX);
            if place.write(offset, &data).is_ok() {
                prop_assert!(all_of(&before).unwrap() == last);
                let at = usize::try_from(offset).unwrap();
                last[at..at + data.len()].copy_from_slice(&data);
            }
        }
        prop_assert!(all_of(&first).unwrap() == now);
        prop_assert!(all_of(&taken(&place, 0)).unwrap() == last);
        for (at, len) in parts {
            let mut part = vec![1; len];
            let expected = now.get(at..at + len);
            prop_assert_eq!(first.read(at as u64, &mut part).is_ok(), expected.is_some());
            prop_assert!(expected.is_none_or(|expected| expected == part));
        }
    }
}

#[test]
fn an_image_is_lost_rather_than_wrong() {
    let place = imaged(&[7; 3 * 4_096 + 5]);
    let (small, stopped) = (taken(&place, 1), taken(&place, 8));
    place.write(0, &[1]).unwrap();
    place.write(4_095, &[1]).unwrap();
    assert_eq!(all_of(&small).unwrap(), vec![7; 3 * 4_096 + 5]);
    place.write(4_095, &[1; 2]).unwrap();
    assert!(all_of(&small).is_err() && small.lost()());
    stopped.is_stopping.store(true, Ordering::Release);
    assert!(all_of(&stopped).is_err() && stopped.lost()());
    let (cut, closed) = (taken(&place, 8), taken(&place, 8));
    place.set_len(4 * 4_096).unwrap();
    assert!(!cut.lost()());
    place.set_len(3 * 4_096).unwrap();
    assert!(all_of(&cut).is_err() && cut.lost()());
    place.close().unwrap();
    assert!(closed.lost()());
    // Somebody still holds it, and others may write to the bytes.
    let refused = place.lens().image(&Arc::default()).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
    let place = imaged(&[7; 5]);
    let (lens, left) = (place.lens(), taken(&place, 8));
    drop(place);
    assert!(all_of(&left).is_err() && left.lost()());
    assert!(lens.image(&Arc::default()).is_err());
}
