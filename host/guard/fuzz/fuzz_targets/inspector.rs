//! Any bytes in any pieces: no panic, one verdict, and what passes is a greeting and a READY of ours and then a part of
//! the input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use telos_guard::{Inspector, Refusal};

/// The longest greeting and READY of ours.
const OURS_BYTES_MAX: usize = 64 + 2 + 64;

fuzz_target!(|stream: &[u8]| {
    let whole = inspect([stream]);
    let size = stream.last().map_or(1, |byte| usize::from(*byte) + 1);
    assert_eq!(inspect(stream.chunks(size)), whole);
    assert_eq!(inspect(stream.chunks(1)), whole);
    let (passed, _) = whole;
    assert!(passed.len() <= stream.len() + OURS_BYTES_MAX);
});

fn inspect<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Refusal>) {
    let (mut inspector, mut passed) = (Inspector::new(), Vec::new());
    for piece in pieces {
        if let Err(refusal) = inspector.step(piece, &mut passed) {
            return (passed, Some(refusal));
        }
    }
    (passed, None)
}
