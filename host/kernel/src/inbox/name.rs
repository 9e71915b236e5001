//! Names of files as strangers may choose them: which are refused, and how each is shown.
//!
//! A plugin directory is judged alike on every system, so what Windows cannot hold is refused everywhere: a directory
//! that is copied there must not change its meaning. Paths that an operator names are shown by this and not judged.

use std::ffi::OsStr;
use std::path::Path;

/// What Windows opens as a device, whatever follows after a dot.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Devices with a number after them: `0` to `9`, and the three superscripts that Windows takes for digits.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];
const DEVICE_NUMBERS: &str = "0123456789\u{b9}\u{b2}\u{b3}";

/// A path as it is shown to people and written down: what is not UTF-8 has a mark in its place, and what would break
/// a line or turn its direction is escaped. The same as `Path::display` for every other path.
pub fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Text with everything escaped that would break a line, turn its direction or drive a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_unseen(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// What is wrong with the name of an entry and what to do about it, to be said after its path; none when it is fine.
pub(super) fn problem(name: &OsStr) -> Option<&'static str> {
    let Some(name) = name.to_str() else {
        return Some("has a name that is not UTF-8; rename it, or remove it");
    };
    if name.contains(is_unseen) {
        return Some("has a control character in its name, escaped here; rename it, or remove it");
    }
    if name.ends_with(is_dropped) {
        return Some(
            "has a name that ends in a dot or a space, which Windows drops; rename it, or remove it",
        );
    }
    is_device(name).then_some("has the name of a device of Windows; rename it, or remove it")
}

/// Whether a name is a component's, also as Windows would read it.
pub(super) fn is_wasm(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    Path::new(name.trim_end_matches(is_dropped)).extension().is_some_and(|extension| extension == "wasm")
}

fn is_unseen(letter: char) -> bool {
    let turns_or_breaks =
        matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns_or_breaks || letter == '\u{feff}'
}

fn is_dropped(letter: char) -> bool {
    letter == '.' || letter == ' '
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let is_numbered = |device: &&str| {
        let number = stem.strip_prefix(*device).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(number.as_deref(), Some([number]) if DEVICE_NUMBERS.contains(*number))
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(is_numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, reason: Option<&str>) {
        let problem = problem(OsStr::new(name));
        let is_said = match (problem, reason) {
            (Some(problem), Some(reason)) => problem.contains(reason) && problem.contains("rename it"),
            (problem, reason) => problem.is_none() && reason.is_none(),
        };
        assert!(is_said, "{name:?}: {problem:?}, not {reason:?}");
    }

    #[test]
    fn devices_of_windows_are_refused_in_any_case_with_any_ending() {
        for name in ["CON", "con", "NUL.wasm", "nul.tar.wasm", "aux.wasm", "Prn", "AUX .wasm", "conin$.wasm"]
        {
            check(name, Some("device of Windows"));
        }
        for name in ["COM1.wasm", "com0", "LPT9.wasm", "COM\u{b9}.wasm", "lpt\u{b3}"] {
            check(name, Some("device of Windows"));
        }
        for name in ["console.wasm", "COM.wasm", "COM10.wasm", "nully", "a.con", "LPTx.wasm", "com-1.wasm"] {
            check(name, None);
        }
    }

    #[test]
    fn what_windows_drops_from_an_end_is_refused_and_still_a_component() {
        for name in ["x.wasm.", "x.wasm ", "x.wasm. .", "folder ", "folder."] {
            check(name, Some("ends in a dot or a space"));
        }
        assert!(is_wasm(OsStr::new("x.wasm. ")) && is_wasm(OsStr::new("x.wasm")));
        assert!(
            !is_wasm(OsStr::new("x.wasm.bak"))
                && !is_wasm(OsStr::new(".wasm"))
                && !is_wasm(OsStr::new("wasm"))
        );
    }

    #[test]
    fn what_would_break_a_line_is_refused_and_shown_escaped() {
        for (name, as_shown) in [
            ("a\nb.wasm", "a\\nb.wasm"),
            ("a\u{1b}[2J.wasm", "a\\u{1b}[2J.wasm"),
            ("a\u{9b}2J.wasm", "a\\u{9b}2J.wasm"),
            ("a\u{202e}msaw.wasm", "a\\u{202e}msaw.wasm"),
            ("a\u{2028}b.wasm", "a\\u{2028}b.wasm"),
        ] {
            check(name, Some("control character"));
            assert_eq!(shown(Path::new(name)), as_shown);
        }
        for name in
            ["plain.wasm", "Zähler.wasm", "счётчик.wasm", "می\u{200c}شود.wasm", "a\\b.wasm", "a b.wasm"]
        {
            check(name, None);
            assert_eq!(shown(Path::new(name)), Path::new(name).display().to_string());
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf8_is_refused_and_shown_with_a_mark() {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"x\xff.wasm");
        assert!(problem(name).is_some_and(|problem| problem.contains("not UTF-8")));
        assert!(is_wasm(name));
        assert_eq!(shown(Path::new(name)), "x\u{fffd}.wasm");
    }
}
