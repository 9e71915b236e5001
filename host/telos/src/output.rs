//! Printing. Results go to standard output, everything else to standard error.
//!
//! With `--json` standard output holds exactly one JSON value, or one a line for streams, a failure included. Else it
//! is for people: tables, colours on a terminal unless `NO_COLOR` is set. Text that came from guests is stripped of
//! control characters: it must not drive the terminal.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Cell, Color, ContentArrangement, presets};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::error::CommandError;

/// Where a command's words go.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    is_json: bool,
    paint: Paint,
}

/// How text for people looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paint {
    /// Wrap tables to the terminal's width.
    pub(crate) is_terminal: bool,
    pub(crate) has_colour: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Output {
        let is_terminal = io::stdout().is_terminal();
        let wants_no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Output { is_json, paint: Paint { is_terminal, has_colour: is_terminal && !wants_no_colour } }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// A command's whole result: as it is for programs, rendered for people.
    pub(crate) fn result(
        &self,
        value: &Value,
        render: impl FnOnce(&Value, Paint) -> String,
    ) -> Result<(), CommandError> {
        if self.is_json { self.json(value) } else { self.line(&render(value, self.paint)) }
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&self, value: &Value) -> Result<(), CommandError> {
        self.line(&value.to_string())
    }

    pub(crate) fn line(&self, text: &str) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        write!(out, "{text}{end}")?;
        Ok(out.flush()?)
    }

    /// A piece of running text, shown at once.
    pub(crate) fn piece(&self, text: &str) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        write!(out, "{}", plain(text))?;
        Ok(out.flush()?)
    }

    /// For people, beside the result. Nobody there to read it is no failure.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A line on standard error that the next one replaces; only on a terminal.
    pub(crate) fn progress(&self, text: &str) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[2K{}", plain(text));
            let _ = io::stderr().flush();
        }
    }

    /// Says why, and gives the code to end with.
    pub(crate) fn fail(&self, error: &CommandError) -> ExitCode {
        if error.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        if self.is_json {
            // Standard output may be what failed; the code still tells.
            let _ = self.json(&error.to_json());
        } else {
            self.note(&error.to_text());
        }
        ExitCode::from(error.exit_code())
    }
}

impl Paint {
    /// A table without lines; words that say how something stands are coloured.
    pub(crate) fn table(self, headers: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(headers.iter().map(|header| Cell::new(header.to_uppercase())));
        for row in rows {
            table.add_row(row.into_iter().map(|text| self.cell(&text)));
        }
        if !self.is_terminal {
            table.force_no_tty();
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }

    /// Labels and values, one pair a line.
    pub(crate) fn pairs(self, pairs: &[(&str, String)]) -> String {
        let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let shown = pairs.iter().filter(|(_, value)| !value.is_empty());
        shown.map(|(label, value)| format!("{label:width$}  {value}\n")).collect()
    }

    /// The colour of a word that says how something stands.
    pub(crate) fn word(self, word: &str, shown: &str) -> String {
        match (self.has_colour, ansi(word)) {
            (true, Some(code)) => format!("\x1b[{code}m{shown}\x1b[0m"),
            _ => shown.to_owned(),
        }
    }

    fn cell(self, text: &str) -> Cell {
        let cell = Cell::new(plain(text));
        match (self.has_colour, ansi(text)) {
            (true, Some(31)) => cell.fg(Color::Red),
            (true, Some(33)) => cell.fg(Color::Yellow),
            (true, Some(_)) => cell.fg(Color::Green),
            _ => cell,
        }
    }
}

fn ansi(word: &str) -> Option<u8> {
    match word {
        "ok" | "serving" | "passed" => Some(32),
        "degraded" | "staged" | "waiting" | "WARN" => Some(33),
        "failed" | "refused" | "unloadable" | "quarantined" | "ERROR" | "FATAL" => Some(31),
        _ => None,
    }
}

/// A number of things, named by their plural: `1 object`, `2 objects`.
pub(crate) fn counted(value: &Value, name: &str) -> String {
    let count = value[name].as_u64().unwrap_or(0);
    let what = name.replace('_', " ");
    format!("{count} {}", if count == 1 { what.strip_suffix('s').unwrap_or(&what) } else { &what })
}

/// A field for people: text as it is, lists with commas, nothing for null, JSON for the rest.
pub(crate) fn field(value: &Value, name: &str) -> String {
    show(&value[name])
}

pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(show).collect::<Vec<_>>().join(", ")
        }
        other => plain(&other.to_string()),
    }
}

/// The rows of a list field; none when it is absent.
pub(crate) fn rows<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// Milliseconds since 1970 as local date and time; nothing for null.
pub(crate) fn time(value: &Value) -> String {
    let at = value.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map(|at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// Bytes as MiB with one decimal; below one MiB as KiB.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes.div_ceil(1 << 10));
    }
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// The beginning of a digest: enough to tell releases apart.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Control characters, except line feed and tab, become visible.
pub(crate) fn plain(text: &str) -> String {
    let is_harmless = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    text.chars().map(|letter| if is_harmless(letter) { letter } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_from_guests_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\n\tc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
        let table = Paint::default().table(&["name"], vec![vec!["\x1b]0;x\x07".into()]]);
        assert!(!table.contains('\x1b'), "{table:?}");
    }

    #[test]
    fn a_table_off_the_terminal_is_plain_lines() {
        let table = Paint::default().table(&["id", "state"], vec![vec!["counter".into(), "serving".into()]]);
        assert_eq!(table, " ID       STATE\n counter  serving\n");
    }

    #[test]
    fn colour_is_only_for_those_who_see_it() {
        let coloured = Paint { has_colour: true, ..Paint::default() };
        assert_eq!(coloured.word("failed", "FAILED"), "\x1b[31mFAILED\x1b[0m");
        assert_eq!(Paint::default().word("failed", "FAILED"), "FAILED");
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        assert_eq!(show(&json!(["a", 1])), "a, 1");
        assert_eq!(show(&json!(null)), "");
        assert_eq!(show(&json!({"a": [1]})), r#"{"a":[1]}"#);
        assert_eq!(time(&json!(null)), "");
        assert_eq!(time(&json!(1_700_000_000_000_i64)).len(), 19);
    }
}
