//! What somebody approves: how the source differs from what served before, what it promises, and what it is granted.

use serde_json::{Value, json};
use similar::TextDiff;

use crate::output::{Paint, field, rows, show};

/// What every behaviour is granted.
const ALWAYS: [&str; 2] = ["storage", "logging"];
/// The check that an attempt has which served, and fell.
const FELL: &str = "its probation";

/// The digest of the component that a ticket proposes; null when it proposes none.
pub(super) fn digest(ticket: &Value) -> Value {
    chosen(ticket)["digest"].clone()
}

/// What a ticket proposes.
pub(super) fn of(ticket: &Value) -> Value {
    let chosen = chosen(ticket);
    let examples: Vec<Value> = rows(&ticket["spec"], "examples").cloned().collect();
    let uses = chosen["uses"].as_array().cloned().unwrap_or_default();
    let grants: Vec<Value> = ALWAYS.into_iter().map(Value::from).chain(uses).collect();
    let source = chosen["source"].as_str().unwrap_or_default();
    json!({ "diff": diff(served_before(ticket), source), "examples": examples, "grants": grants })
}

/// For people.
pub(super) fn render(proposal: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for line in field(proposal, "diff").lines() {
        let painted = match line.chars().next() {
            Some('+') => paint.word("ok", line),
            Some('-') => paint.word("failed", line),
            _ => line.to_owned(),
        };
        text.push_str(&painted);
        text.push('\n');
    }
    for example in rows(proposal, "examples") {
        let (arguments, expected) = (&example["arguments"], show(&example["expect"]));
        text.push_str(&format!("example `{}`: {arguments} → {expected}\n", field(example, "name")));
    }
    text + &format!("grants: {}", field(proposal, "grants"))
}

fn chosen(ticket: &Value) -> &Value {
    let place = ticket["chosen"].as_u64().and_then(|place| usize::try_from(place).ok());
    place.map_or(&Value::Null, |place| &ticket["attempts"][place])
}

/// The source of the attempt that served last, and fell; empty when none has.
fn served_before(ticket: &Value) -> &str {
    let fell = |attempt: &&Value| rows(attempt, "checks").any(|check| check["name"] == FELL);
    let attempts = ticket["attempts"].as_array().into_iter().flatten();
    attempts.rev().find(fell).and_then(|attempt| attempt["source"].as_str()).unwrap_or_default()
}

fn diff(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    diff.unified_diff().header("what served before", "what is proposed").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(first: &Value) -> Value {
        let proposed = json!({"source": "a\nc\n", "uses": ["inference"], "digest": "d2", "checks": []});
        json!({
            "chosen": 1,
            "attempts": [first, proposed],
            "spec": {"examples": [{"name": "one", "arguments": [1], "expect": {"value": 1}}]},
        })
    }

    #[test]
    fn a_proposal_says_what_changes_what_it_promises_and_what_it_gets() {
        let fell = json!({"source": "a\nb\n", "checks": [{"name": FELL, "passed": false}]});
        let ticket = ticket(&fell);
        assert_eq!(digest(&ticket), "d2");
        let text = render(&of(&ticket), Paint::default());
        assert!(text.contains("\n a\n-b\n+c\n"), "{text}");
        assert!(text.contains("example `one`: [1] → ") && text.contains("grants: "), "{text}");
        for grant in ["storage", "logging", "inference"] {
            assert!(text.contains(grant), "{text}");
        }
    }

    #[test]
    fn what_never_served_is_compared_with_nothing() {
        let failed = json!({"source": "x\n", "checks": [{"name": "it starts", "passed": false}]});
        let text = render(&of(&ticket(&failed)), Paint::default());
        assert!(text.contains("+a\n+c\n") && !text.contains("-x"), "{text}");
    }
}
