//! Who serves, said three times: by the audit's decisions one after the other, by the seats, and by the journal's lines.
//!
//! Pure: rows and lines come in, differences go out.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use telos_store::{AuditRow, SeatRecord};

/// Decisions that give a component's seat to the release whose digest they name.
const SEATING: [&str; 5] =
    ["plugin.installed", "plugin.swapped", "plugin.rolled-back", "plugin.activated", "plugin.returned"];
const REMOVED: &str = "plugin.removed";

/// What was compared, and what differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SwapReport {
    /// Decisions about seats in the audit.
    pub(crate) decisions: usize,
    /// Those of them that the journal still reaches back to.
    pub(crate) journalled: usize,
    /// Seats.
    pub(crate) seats: usize,
    /// Differences, a sentence each; none when all three agree.
    pub(crate) differences: Vec<String>,
}

/// Compares the whole audit, oldest first, with the seats, and with the journal's lines about plugins.
pub(crate) fn compare(rows: &[AuditRow], seats: &[SeatRecord], lines: &[Value]) -> SwapReport {
    let decisions: Vec<&AuditRow> = rows.iter().filter(|row| is_decision(&row.kind)).collect();
    let mut report = SwapReport { decisions: decisions.len(), seats: seats.len(), ..SwapReport::default() };
    report.differences.extend(seat_differences(&replay(&decisions), seats));
    let said: BTreeMap<u64, &Value> =
        lines.iter().filter_map(|line| Some((line["attributes"]["number"].as_u64()?, line))).collect();
    let oldest = said.keys().next().copied().unwrap_or(u64::MAX);
    for row in decisions.iter().filter(|row| row.number >= oldest) {
        report.journalled += 1;
        report.differences.extend(line_difference(row, said.get(&row.number).copied()));
    }
    report
}

fn is_decision(kind: &str) -> bool {
    SEATING.contains(&kind) || kind == REMOVED
}

/// The digest that each component's seat has after these decisions.
fn replay(decisions: &[&AuditRow]) -> BTreeMap<String, String> {
    let mut seats = BTreeMap::new();
    for row in decisions {
        match row.detail["digest"].as_str() {
            Some(digest) if row.kind != REMOVED => drop(seats.insert(row.subject.clone(), digest.to_owned())),
            _ => drop(seats.remove(&row.subject)),
        }
    }
    seats
}

fn seat_differences(decided: &BTreeMap<String, String>, seats: &[SeatRecord]) -> Vec<String> {
    let mut differences = Vec::new();
    for seat in seats {
        let (component, has) = (seat.component.as_str(), seat.digest.to_string());
        match decided.get(component) {
            Some(digest) if *digest == has => {}
            Some(digest) => {
                differences.push(format!("the seat of {component} has {has}, the audit gave it to {digest}"));
            }
            None => {
                differences.push(format!("the seat of {component} has {has}, the audit gave it to nobody"))
            }
        }
    }
    let is_seated = |component: &String| seats.iter().any(|seat| seat.component.as_str() == component);
    let unseated = decided.iter().filter(|(component, _)| !is_seated(component));
    differences.extend(
        unseated
            .map(|(component, digest)| format!("{component} has no seat, the audit gave one to {digest}")),
    );
    differences
}

fn line_difference(row: &AuditRow, line: Option<&Value>) -> Option<String> {
    let AuditRow { number, kind, subject, .. } = row;
    let Some(line) = line else {
        return Some(format!("the journal lacks decision {number}, {kind} of {subject}"));
    };
    let attributes = &line["attributes"];
    let is_same = attributes["kind"] == kind.as_str()
        && attributes["subject"] == subject.as_str()
        && attributes["detail"] == row.detail;
    (!is_same)
        .then(|| format!("the journal says decision {number} otherwise than the audit, {kind} of {subject}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use telos_store::{ComponentId, Digest, Position};

    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn row(number: u64, kind: &str, subject: &str, release: &str) -> AuditRow {
        AuditRow {
            number,
            at_ms: 0,
            position: Position::new(number),
            kind: kind.into(),
            subject: subject.into(),
            detail: json!({ "digest": digest(release) }),
        }
    }

    fn seat(component: &str, release: &str) -> SeatRecord {
        SeatRecord {
            component: ComponentId::new(component).unwrap(),
            digest: digest(release),
            previous: None,
            returns_to: None,
            swaps: 0,
            since_ms: 0,
        }
    }

    fn line(row: &AuditRow) -> Value {
        json!({"attributes": {"number": row.number, "kind": row.kind, "subject": row.subject, "detail": row.detail}})
    }

    fn history() -> Vec<AuditRow> {
        vec![
            row(1, "plugin.installed", "a", "a1"),
            row(2, "plugin.granted", "a", "a1"),
            row(3, "plugin.installed", "b", "b1"),
            row(4, "plugin.staged", "a", "a3"),
            row(5, "plugin.swapped", "a", "a2"),
            row(6, "plugin.removed", "b", "b1"),
            row(7, "plugin.returned", "a", "a1"),
        ]
    }

    #[test]
    fn three_that_agree_have_no_difference() {
        let rows = history();
        let lines: Vec<Value> = rows.iter().map(line).collect();
        let report = compare(&rows, &[seat("a", "a1")], &lines);
        let expected = SwapReport { decisions: 5, journalled: 5, seats: 1, differences: Vec::new() };
        assert_eq!(report, expected);
        let newer = compare(&rows, &[seat("a", "a1")], &lines[4..]);
        assert_eq!(
            (newer.journalled, newer.differences.len()),
            (3, 0),
            "older lines are gone with their files"
        );
    }

    #[test]
    fn each_that_differs_is_told() {
        let rows = history();
        let mut lines: Vec<Value> = rows.iter().map(line).collect();
        let differences = |seats: &[SeatRecord], lines: &[Value]| compare(&rows, seats, lines).differences;
        assert!(differences(&[seat("a", "a2")], &lines)[0].starts_with("the seat of a has"));
        assert!(differences(&[], &lines)[0].starts_with("a has no seat"));
        assert!(differences(&[seat("a", "a1"), seat("b", "b1")], &lines)[0].contains("to nobody"));
        lines[4]["attributes"]["detail"] = json!({});
        lines.remove(2);
        let told = differences(&[seat("a", "a1")], &lines);
        assert_eq!(
            told,
            [
                "the journal lacks decision 3, plugin.installed of b",
                "the journal says decision 5 otherwise than the audit, plugin.swapped of a"
            ]
        );
    }
}
