//! `telos audit`: the newest decisions, from the store itself, in the order in which they were made.

use clap::Args;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows, time};

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
            field(row, "detail"),
        ]
    };
    paint.table(&["number", "at", "position", "kind", "subject", "detail"], rows.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_shows_number_kind_subject_and_detail() {
        let row = json!({"number": 7, "at_ms": 0, "position": 9, "kind": "seat.activate", "subject": "counter", "detail": {"version": "0.2.0"}});
        let text = render_rows([row].iter(), Paint::default());
        assert!(text.contains("seat.activate  counter  {\"version\":\"0.2.0\"}"), "{text}");
    }
}
