//! Who serves, said three times: by the audit's decisions one after the other, by the seats, and by the journal's lines;
//! and what the journal's accounts say that it cost messages.
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
/// What the kernel says of each change that was decided.
const SWAP_ACCOUNT: &str = "swap.account";
/// The journal's line of a restore of the store.
const RESTORED: &str = "audit.store.restored";
/// Decisions after which nobody serves.
const VACATING: [&str; 2] = [REMOVED, "plugin.parked"];

/// What was compared, and what differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SwapReport {
    /// Decisions about seats in the audit.
    pub(crate) decisions: usize,
    /// Those of them that the journal still reaches back to.
    pub(crate) journalled: usize,
    /// Seats.
    pub(crate) seats: usize,
    /// Accounts of changes that the journal has.
    pub(crate) accounts: usize,
    /// Messages that ended in neither an answer nor an error while those changes were on their way; senders that hung up
    /// just then are among them.
    pub(crate) lost: u64,
    /// Differences, a sentence each; none when all three agree.
    pub(crate) differences: Vec<String>,
}

/// Whether a line of the journal says something of seats, or which lines before it do not count any more.
pub(crate) fn concerns(line: &Value) -> bool {
    let event = line["event_name"].as_str().unwrap_or_default();
    event.starts_with("audit.plugin.") || event == SWAP_ACCOUNT || event == RESTORED
}

/// Compares the whole audit, oldest first, with the seats, and with the journal's lines that concern them, in their order.
pub(crate) fn compare(rows: &[AuditRow], seats: &[SeatRecord], lines: &[Value]) -> SwapReport {
    let decisions: Vec<&AuditRow> = rows.iter().filter(|row| is_decision(&row.kind)).collect();
    let mut report = SwapReport { decisions: decisions.len(), seats: seats.len(), ..SwapReport::default() };
    report.differences.extend(seat_differences(&replay(&decisions), seats));
    let Said { decisions: said, accounts } = Said::of(lines);
    let oldest = said.keys().next().copied().unwrap_or(u64::MAX);
    for row in decisions.iter().filter(|row| row.number >= oldest) {
        report.journalled += 1;
        report.differences.extend(line_difference(row, said.get(&row.number).copied()));
    }
    let mut decided: BTreeMap<u64, Vec<&AuditRow>> = BTreeMap::new();
    rows.iter().for_each(|row| decided.entry(row.position.get()).or_default().push(row));
    // What was decided after the audit was read is compared by the next one who asks.
    let newest = decided.keys().next_back().copied().unwrap_or_default();
    let is_past = |account: &&Value| account["swap"].as_u64() <= Some(newest);
    for account in accounts.into_iter().filter(is_past) {
        report.accounts += 1;
        report.lost += account["lost"].as_u64().unwrap_or_default();
        report.differences.extend(account_differences(account, &decided));
    }
    report
}

/// What the journal says of the past that the store has.
#[derive(Default)]
struct Said<'a> {
    /// Lines about decisions, by the number of the audit's row.
    decisions: BTreeMap<u64, &'a Value>,
    accounts: Vec<&'a Value>,
}

impl<'a> Said<'a> {
    /// A restore takes back what was decided since its backup: numbers and positions come again from there on.
    fn of(lines: &'a [Value]) -> Self {
        let mut said = Self::default();
        for line in lines {
            let attributes = &line["attributes"];
            if line["event_name"] == SWAP_ACCOUNT {
                said.accounts.push(attributes);
                continue;
            }
            let Some(number) = attributes["number"].as_u64() else { continue };
            if line["event_name"] == RESTORED {
                let position = attributes["position"].as_u64().unwrap_or_default();
                said.decisions.retain(|before, _| *before < number);
                said.accounts.retain(|account| account["swap"].as_u64() < Some(position));
            } else {
                said.decisions.insert(number, line);
            }
        }
        said
    }
}

/// What an account says otherwise than the audit's rows of the same commit.
fn account_differences(account: &Value, decided: &BTreeMap<u64, Vec<&AuditRow>>) -> Vec<String> {
    let mut differences = Vec::new();
    let swap = account["swap"].as_u64().unwrap_or_default();
    let rows = decided.get(&swap).map_or(&[][..], Vec::as_slice);
    let is_decided = |seat: &Value| {
        rows.iter().any(|row| {
            let is_vacated = VACATING.contains(&row.kind.as_str());
            let digest = if is_vacated { &Value::Null } else { &row.detail["digest"] };
            seat["component"] == row.subject.as_str() && seat["digest"] == *digest
        })
    };
    for seat in account["seats"].as_array().into_iter().flatten().filter(|seat| !is_decided(seat)) {
        let component = seat["component"].as_str().unwrap_or_default();
        differences
            .push(format!("the journal's account of swap {swap} moves {component}, and the audit does not"));
    }
    differences
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
        let expected = SwapReport { decisions: 5, journalled: 5, seats: 1, ..SwapReport::default() };
        assert_eq!(report, expected);
        let newer = compare(&rows, &[seat("a", "a1")], &lines[4..]);
        assert_eq!(
            (newer.journalled, newer.differences.len()),
            (3, 0),
            "older lines are gone with their files"
        );
    }

    #[test]
    fn an_account_says_what_the_audit_says() {
        let rows = [history(), vec![row(8, "plugin.parked", "c", "c1")]].concat();
        let account = |swap: u64, component: &str, digest: Value, lost: u64| {
            let seats = json!([{ "component": component, "digest": digest }]);
            json!({"event_name": SWAP_ACCOUNT, "attributes": {"swap": swap, "seats": seats, "lost": lost}})
        };
        let mut lines: Vec<Value> = rows.iter().map(line).collect();
        lines.extend([
            account(5, "a", json!(digest("a2")), 0),
            account(6, "b", Value::Null, 0),
            account(8, "c", Value::Null, 0),
        ]);
        let report = compare(&rows, &[seat("a", "a1")], &lines);
        assert_eq!((report.accounts, report.lost, report.differences), (3, 0, Vec::new()));
        lines.extend([account(7, "a", json!(digest("a2")), 0), account(7, "a", json!(digest("a1")), 2)]);
        let report = compare(&rows, &[seat("a", "a1")], &lines);
        assert_eq!(
            (report.lost, report.differences),
            (2, vec!["the journal's account of swap 7 moves a, and the audit does not".to_owned()])
        );
    }

    #[test]
    fn what_a_restore_took_back_is_compared_with_nothing() {
        let account = |swap: u64, release: &str| {
            let seats = json!([{ "component": "a", "digest": digest(release) }]);
            json!({"event_name": SWAP_ACCOUNT, "attributes": {"swap": swap, "seats": seats, "lost": 1}})
        };
        let (kept, lost) = (row(1, "plugin.installed", "a", "a1"), row(2, "plugin.swapped", "a", "a2"));
        let later = row(3, "plugin.swapped", "a", "a3");
        let lost_later = row(4, "plugin.swapped", "a", "a1");
        let restored = json!({"event_name": RESTORED, "attributes": {"number": 2, "position": 2}});
        let lines = [
            account(1, "a1"),
            line(&kept),
            account(2, "a2"),
            line(&lost),
            account(4, "a1"),
            line(&lost_later),
            restored,
            account(3, "a3"),
            line(&later),
        ];
        let report = compare(&[kept, later], &[seat("a", "a3")], &lines);
        assert_eq!((report.accounts, report.lost, report.journalled), (2, 2, 2));
        assert!(report.differences.is_empty(), "{report:?}");
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
