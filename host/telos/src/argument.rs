//! JSON from the command line: as text, from a file (`@FILE`), or from standard input (`-`).

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::{CommandError, usage};

/// The most that is read from a file or standard input; a request holds no more.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// Reads a JSON argument.
///
/// # Errors
/// [`CommandError::Usage`] with line and column when it is not JSON, [`CommandError::File`] when it cannot be read.
pub(crate) fn read_json(argument: &str) -> Result<Value, CommandError> {
    if argument == "-" {
        return parse_json("standard input", &read_all("standard input", std::io::stdin().lock())?);
    }
    match argument.strip_prefix('@') {
        Some(path) => parse_json(path, &read_file(Path::new(path))?),
        None => parse_json("the JSON argument", argument),
    }
}

fn read_file(path: &Path) -> Result<String, CommandError> {
    let what = format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).map_err(|source| CommandError::File { what, source })?;
    read_all(&path.display().to_string(), file)
}

fn read_all(name: &str, source: impl Read) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = source.take(JSON_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|source| CommandError::File { what: format!("cannot read {name}"), source })?;
    if text.len() as u64 > JSON_BYTES_MAX {
        return Err(usage(
            format!("{name} is longer than {JSON_BYTES_MAX} bytes"),
            "send it in smaller pieces",
        ));
    }
    Ok(text)
}

/// Parses, and on a mistake shows the line with a mark under the place.
fn parse_json(name: &str, text: &str) -> Result<Value, CommandError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let shown =
            text.lines().nth(line.saturating_sub(1)).map(|line| mark(line, column)).unwrap_or_default();
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        let message = format!("{name} is not valid JSON at line {line}, column {column}: {what}{shown}");
        usage(message, "quote the whole argument, and strings inside it with double quotes: '{\"by\": 1}'")
    })
}

/// The line around `column` (bytes, from 1), and a caret under it.
fn mark(line: &str, column: usize) -> String {
    let at = line.floor_char_boundary(column.saturating_sub(1));
    let start = line.floor_char_boundary(at.saturating_sub(40));
    let end = line.floor_char_boundary(at + 40);
    let indent = line[start..at].chars().count();
    format!("\n    {}\n    {}^", &line[start..end], " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_comes_from_text_or_a_file() {
        assert_eq!(read_json(r#"{"by": 2}"#).unwrap(), json!({"by": 2}));
        let dir = std::env::temp_dir().join(format!("telos-argument-{}", std::process::id()));
        std::fs::write(&dir, "[1, 2]").unwrap();
        assert_eq!(read_json(&format!("@{}", dir.display())).unwrap(), json!([1, 2]));
        std::fs::remove_file(&dir).unwrap();
        assert!(matches!(read_json("@/no/such/file"), Err(CommandError::File { .. })));
    }

    #[test]
    fn a_mistake_is_told_with_line_column_and_place() {
        let error = read_json("{\n  \"by\": one\n}").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_text();
        assert!(text.contains("line 2, column 9: expected value"), "{text}");
        assert!(text.contains("\n      \"by\": one\n            ^"), "{text}");
    }

    #[test]
    fn a_mistake_at_the_end_or_in_wide_letters_is_no_panic() {
        for text in ["", "{", "\"é", "é", "[1,", "\u{1f600}"] {
            assert_eq!(read_json(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
