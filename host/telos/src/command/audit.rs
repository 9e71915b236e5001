//! `telos audit`: the newest decisions, from the store itself, in the order in which they were made.

use clap::Args;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows, short, show, time};

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only rows after this number: what is new since then.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Only rows before this number: the page before.
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
    /// Only about this plugin or object.
    #[arg(long)]
    subject: Option<String>,
}

pub(crate) async fn run(audit: Audit, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let mut params = json!({"after": audit.after, "limit": audit.limit});
    if let Some(before) = audit.before {
        params["before"] = before.into();
    }
    if let Some(subject) = audit.subject {
        params["subject"] = subject.into();
    }
    let answer = host.call("audit.list", params).await?;
    output.result(&answer, |answer, paint| render_rows(rows(answer, "rows"), paint))
}

/// Audit rows as a table.
pub(super) fn render_rows<'a>(rows: impl Iterator<Item = &'a Value>, paint: Paint) -> String {
    let row = |row: &Value| {
        let (number, position) = (field(row, "number"), field(row, "position"));
        vec![
            number,
            time(&row["at_ms"]),
            position,
            field(row, "kind"),
            field(row, "subject"),
            detail(&row["detail"]),
        ]
    };
    paint.table(&["number", "at", "position", "kind", "subject", "detail"], rows.map(row).collect())
}

/// `from 1, to 2`: what counts nothing is left out, times are dates, digests are cut.
fn detail(detail: &Value) -> String {
    let Some(members) = detail.as_object() else { return show(detail) };
    let is_telling =
        |value: &Value| !(value.is_null() || value == &Value::from(0) || value == &Value::from(""));
    let told = members.iter().filter(|(_, value)| is_telling(value)).map(|(name, value)| {
        let said = if name.ends_with("_ms") && value.as_u64().is_some_and(|ms| ms > YEAR_2000_MS) {
            time(value)
        } else if let Some(digest) = value.as_str().filter(|text| is_digest(text)) {
            short(digest)
        } else {
            show(value)
        };
        format!("{} {said}", name.trim_end_matches("_ms").replace('_', " "))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Milliseconds below this are a length of time, above it a date.
const YEAR_2000_MS: u64 = 946_684_800_000;

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_shows_number_kind_subject_and_detail() {
        let row = json!({"number": 7, "at_ms": 0, "position": 9, "kind": "seat.activate", "subject": "counter", "detail": {"version": "0.2.0"}});
        let text = render_rows([row].iter(), Paint::default());
        assert!(text.contains("seat.activate  counter  version 0.2.0"), "{text}");
    }

    #[track_caller]
    fn check(row: &Value, expected: &str) {
        assert_eq!(detail(row), expected);
    }

    #[test]
    fn what_the_store_decides_by_itself_reads_as_a_sentence() {
        check(&json!({"from": 1, "to": 2}), "from 1, to 2");
        check(
            &json!({"by": "operator", "states": 3, "names": 1, "vectors": 0, "posts": 0}),
            "by operator, names 1, states 3",
        );
        check(
            &json!({"from": 1, "to": 2, "evolver": "ab".repeat(32), "objects": 4, "evolved": 4}),
            "evolved 4, evolver abababababab, from 1, objects 4, to 2",
        );
        let restored = detail(&json!({"position": 7, "created_at_ms": 1_795_737_548_000_u64}));
        assert!(
            restored.starts_with("created at 2026-11-2") && restored.ends_with(", position 7"),
            "{restored}"
        );
        check(
            &json!({"source": "a1", "target": "b2", "selector": "tick", "attempts": 3, "cause": "it trapped", "trace": null}),
            "attempts 3, cause it trapped, selector tick, source a1, target b2",
        );
    }
}
