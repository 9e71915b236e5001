use super::*;

/// Pushes the tokens; answers the pieces, the last one from `finish`.
fn pieces(stops: &[&str], tokens: &[&[u8]]) -> (Vec<String>, bool) {
    let mut stream = Stream::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
    let mut pieces: Vec<String> = tokens.iter().filter_map(|token| stream.push(token)).collect();
    pieces.extend(stream.finish());
    (pieces, stream.is_stopped())
}

#[track_caller]
fn check(stops: &[&str], tokens: &[&[u8]], expected: &[&str], stopped: bool) {
    let (found, is_stopped) = pieces(stops, tokens);
    assert_eq!(found, expected);
    assert_eq!(is_stopped, stopped);
}

#[test]
fn text_passes_token_by_token() {
    check(&[], &[b"Hel", b"lo", b" you"], &["Hel", "lo", " you"], false);
}

#[test]
fn characters_come_out_whole() {
    let snail = "🐌".as_bytes();
    check(&[], &[b"a", &snail[..1], &snail[1..3], &snail[3..], b"b"], &["a", "🐌", "b"], false);
    check(&[], &["é".as_bytes(), &snail[..2]], &["é", "\u{FFFD}"], false);
}

#[test]
fn bytes_that_are_no_character_become_replacements_without_losing_neighbours() {
    check(&[], &[b"a\xFFb"], &["a\u{FFFD}b"], false);
    check(&[], &[b"\xFF", b"\xF0\x9F", b"x"], &["\u{FFFD}", "\u{FFFD}x"], false);
    check(&[], &[b"\x80\x80"], &["\u{FFFD}\u{FFFD}"], false);
}

#[test]
fn a_stop_text_never_leaks_even_split_over_tokens() {
    check(&["END"], &[b"one E", b"N", b"D two"], &["one "], true);
    check(&["END"], &[b"one END"], &["one "], true);
    check(&["\nUser:"], &[b"hi", b"\n", b"Us", b"er: x"], &["hi"], true);
}

#[test]
fn a_false_start_of_a_stop_text_comes_out_after_all() {
    check(&["END"], &[b"E", b"N", b"o"], &["ENo"], false);
    check(&["aab"], &[b"a", b"a", b"a", b"b"], &["a"], true);
    check(&["END"], &[b"x E", b"N"], &["x ", "EN"], false);
}

#[test]
fn the_earliest_of_several_stop_texts_wins() {
    check(&["yy", "x"], &[b"a yy x"], &["a "], true);
    check(&["ab", "abc"], &[b"zabc"], &["z"], true);
}

#[test]
fn any_cut_of_a_text_gives_the_same_text() {
    let text = "Grüße 🐌 aus STO STOPP, STOP and more".as_bytes();
    for first in 0..text.len() {
        for second in first..text.len() {
            let (found, is_stopped) =
                pieces(&["STOP"], &[&text[..first], &text[first..second], &text[second..]]);
            assert_eq!(
                (found.concat().as_str(), is_stopped),
                ("Grüße 🐌 aus STO ", true),
                "{first} {second}"
            );
        }
    }
}
