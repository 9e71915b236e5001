//! The inspector: the same verdict and the same bytes as the model, however a stream is cut.

use proptest::prelude::*;
use telos_guard::Inspector;

use crate::model::judge;
use crate::stream::{cases, greeting, header, long_header, message, message_bomb, ours, ready};

/// What passes of a stream that comes in these pieces, and for what it is refused.
pub(crate) fn inspect<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<&'static str>) {
    let (mut inspector, mut passed) = (Inspector::new(), Vec::new());
    for piece in pieces {
        if let Err(refusal) = inspector.step(piece, &mut passed) {
            let before = passed.len();
            assert_eq!(inspector.step(b"\0\x01x", &mut passed), Err(refusal), "refused is refused for ever");
            assert_eq!(passed.len(), before);
            return (passed, Some(refusal.name()));
        }
    }
    (passed, None)
}

#[track_caller]
pub(crate) fn check(stream: &[u8]) {
    let expected = judge(stream);
    assert_eq!(inspect([stream]), expected, "in one piece");
    assert_eq!(inspect(stream.chunks(1)), expected, "byte by byte");
    assert_eq!(inspect(stream.chunks(7)), expected, "in sevens");
}

#[test]
fn every_case_is_judged_as_its_table_says_however_it_is_cut() {
    for (name, stream, refused) in cases() {
        assert_eq!(inspect([&stream[..]]).1, refused, "{name}");
        check(&stream);
    }
}

#[test]
fn a_message_of_too_many_bytes_passes_up_to_the_header_that_is_too_much() {
    let stream = message_bomb();
    let (passed, refused) = inspect(stream.chunks(16 * 1024));
    assert_eq!(refused, Some("message-bytes"));
    assert_eq!((passed, refused), judge(&stream));
}

#[test]
fn no_byte_of_a_peer_s_greeting_or_ready_passes() {
    let identity = ready(b"another peer's");
    let (passed, refused) = inspect([&greeting()[..], &identity, &message(&[b"x"])]);
    assert_eq!((passed, refused), ([ours(), message(&[b"x"])].concat(), None));
}

#[test]
fn nothing_is_counted_across_messages() {
    let one = message(&[&[9; 1_000][..]; 64]);
    let stream = [greeting(), ready(b""), one.repeat(300)].concat();
    assert_eq!(inspect(stream.chunks(16 * 1024)), ([ours(), one.repeat(300)].concat(), None));
}

#[test]
fn unfinished_messages_are_told_while_they_last() {
    let (mut inspector, mut passed) = (Inspector::new(), Vec::new());
    let mut step = |bytes: &[u8]| {
        inspector.step(bytes, &mut passed).unwrap();
        (inspector.is_ready(), inspector.unfinished_bytes())
    };
    assert_eq!(step(&greeting()), (false, 0));
    assert_eq!(step(&ready(b"")), (true, 0));
    assert_eq!(step(&header(1, 100)), (true, 100));
    assert_eq!(step(&[0; 100]), (true, 100));
    assert_eq!(step(&long_header(0, 50)), (true, 150));
    assert_eq!(step(&[0; 49]), (true, 150));
    assert_eq!(step(&[0; 1]), (true, 0));
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let honest = (0..2_u8, prop::collection::vec(any::<u8>(), 0..300), any::<bool>());
    let honest = honest.prop_map(|(more, body, is_long)| {
        let bytes = body.len() as u64;
        let header = if is_long { long_header(more, bytes) } else { header(more, bytes) };
        [header, body].concat()
    });
    let wild = (any::<u8>(), any::<u64>()).prop_map(|(flags, bytes)| long_header(flags, bytes));
    prop_oneof![20 => honest, 1 => wild, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let begins = prop_oneof![
        12 => Just([greeting(), ready(b"me")].concat()),
        2 => Just(greeting()),
        1 => Just(Vec::new()),
        2 => (0..130_usize, any::<u8>()).prop_map(|(place, byte)| {
            let mut spoilt = [greeting(), ready(b"somebody")].concat();
            let place = place % spoilt.len();
            spoilt[place] = byte;
            spoilt
        }),
    ];
    (begins, prop::collection::vec(frame(), 0..100))
        .prop_map(|(begin, frames)| [begin, frames.concat()].concat())
}

proptest! {
    #[test]
    fn any_stream_in_any_pieces_is_judged_as_by_the_model(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        prop_assert_eq!(inspect(pieces), judge(&stream));
    }

    #[test]
    fn noise_is_no_stream(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(inspect([&bytes[..]]), judge(&bytes));
    }
}
