//! What a behaviour has to answer, as far as a small mind can be believed. Pure.
//!
//! Asked for one answer in two ways, a mind that knows it mostly comes to the same, and one that guesses mostly does not.
//! What both ways agree on is an exact expectation; else their type is one, where they agree on that; else nothing is.
//! Two kinds of answer are no knowledge even so: one that only repeats its question, and one with a number that the
//! question has not, since a small mind reckons wrong and is sure of it. An exact expectation that is wrong costs a right
//! behaviour, and one that is missing may let a wrong one pass: nothing here can mend both.

use telos_sdk::prelude::*;

use crate::sample::type_of;

/// Characters of a summary.
const SUMMARY_CHARS: usize = 160;

/// What a message is for.
#[derive(Debug, PartialEq)]
pub(crate) struct Purpose {
    pub(crate) summary: String,
    /// Slots of the object that it writes.
    pub(crate) writes: Vec<String>,
}

/// One message, and what the mind said that it answers.
pub(crate) struct Example {
    /// 0 for the message that was missed.
    pub(crate) place: usize,
    pub(crate) arguments: Value,
    pub(crate) votes: Vec<Option<Value>>,
}

impl Purpose {
    /// As the mind said it; its selector in a sentence where that is nothing.
    pub(crate) fn of(said: &str, selector: &str, slots: &serde_json::Map<String, Value>) -> Self {
        let said: Value = serde_json::from_str(said).unwrap_or_default();
        let summary: String =
            said["summary"].as_str().unwrap_or_default().trim().chars().take(SUMMARY_CHARS).collect();
        let mut writes: Vec<String> = serde_json::from_value(said["writes"].clone()).unwrap_or_default();
        writes.retain(|slot| slots.contains_key(slot));
        writes.sort_unstable();
        writes.dedup();
        let summary = if summary.is_empty() { format!("Answers `{selector}`.") } else { summary };
        Self { summary, writes }
    }
}

/// The answer in what a mind said; none where there is none.
pub(crate) fn vote(said: &str) -> Option<Value> {
    let said: Value = serde_json::from_str(said).ok()?;
    said.get("answer").cloned()
}

/// The spec as the host takes it.
pub(crate) fn spec(
    purpose: &Purpose,
    arguments: Value,
    slots: &serde_json::Map<String, Value>,
    examples: &[Example],
) -> Value {
    let votes: Vec<_> = examples.iter().flat_map(|example| &example.votes).collect();
    let written: Vec<_> = purpose.writes.iter().map(|slot| json!({"name": slot, "summary": ""})).collect();
    let before: Vec<_> = slots.iter().map(|(name, value)| json!([name, value])).collect();
    let example = |example: &Example| {
        let name = if example.place == 0 { "as it was missed" } else { "another like it" };
        json!({
            "name": name,
            "before": before,
            "arguments": example.arguments,
            "expect": expectation(&example.arguments, &example.votes),
            "after": [],
        })
    };
    json!({
        "summary": purpose.summary,
        "read_only": written.is_empty(),
        "arguments": arguments,
        "returns": agreed_type(&votes),
        "slots": written,
        "examples": examples.iter().map(example).collect::<Vec<_>>(),
    })
}

fn expectation(arguments: &Value, votes: &[Option<Value>]) -> Value {
    match votes {
        [Some(one), rest @ ..]
            if !rest.is_empty()
                && rest.iter().all(|other| other.as_ref() == Some(one))
                && !repeats(one, arguments)
                && !is_reckoned(one, arguments) =>
        {
            json!({ "value": one })
        }
        votes => json!({ "schema": agreed_type(&votes.iter().collect::<Vec<_>>()) }),
    }
}

/// Schema of the one type of all votes, else of anything.
fn agreed_type(votes: &[&Option<Value>]) -> Value {
    let mut types = votes.iter().map(|vote| vote.as_ref().map(type_of));
    match types.next() {
        Some(Some(first)) if types.all(|other| other == Some(first)) => json!({ "type": first }),
        _ => Value::Bool(true),
    }
}

/// Whether an answer has a number that the arguments have not.
fn is_reckoned(answer: &Value, arguments: &Value) -> bool {
    numbers(answer).iter().any(|number| !numbers(arguments).contains(number))
}

/// All numbers in a value.
fn numbers(value: &Value) -> Vec<&serde_json::Number> {
    match value {
        Value::Number(number) => vec![number],
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(fields) => fields.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

/// Whether an answer is the arguments, or one of them, as it came.
fn repeats(answer: &Value, arguments: &Value) -> bool {
    let is_parameter =
        arguments.as_object().is_some_and(|arguments| arguments.values().any(|value| value == answer));
    answer == arguments || is_parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: Value, votes: &[Option<Value>], expected: Value) {
        assert_eq!(expectation(&arguments, votes), expected);
    }

    #[test]
    fn what_both_ways_agree_on_is_exact_and_less_is_less() {
        check(json!(["b"]), &[Some(json!("a")), Some(json!("a"))], json!({"value": "a"}));
        check(json!([1]), &[Some(json!(3)), Some(json!(4))], json!({"schema": {"type": "number"}}));
        check(json!([1]), &[Some(json!(3)), Some(json!("3"))], json!({"schema": true}));
        check(json!([1]), &[Some(json!(3)), None], json!({"schema": true}));
        check(json!([1]), &[Some(json!(3))], json!({"schema": {"type": "number"}}));
        check(json!([1]), &[], json!({"schema": true}));
    }

    #[test]
    fn a_number_that_the_question_has_not_is_no_exact_one() {
        let twice = |answer: Value| [Some(answer.clone()), Some(answer)];
        check(json!([1, 4]), &twice(json!(5)), json!({"schema": {"type": "number"}}));
        check(json!([1, 4]), &twice(json!({"most": [4]})), json!({"value": {"most": [4]}}));
    }

    #[test]
    fn an_answer_that_repeats_its_question_is_no_exact_one() {
        let list = Some(json!([2, 1]));
        check(json!([2, 1]), &[list.clone(), list.clone()], json!({"schema": {"type": "array"}}));
        check(json!({"rows": [2, 1]}), &[list.clone(), list], json!({"schema": {"type": "array"}}));
    }

    #[test]
    fn a_purpose_names_only_slots_that_are_there() {
        let slots = json!({"at": 1}).as_object().unwrap().clone();
        let found = Purpose::of(r#"{"summary": " Turns. ", "writes": ["at", "gone", "at"]}"#, "turn", &slots);
        assert_eq!(found, Purpose { summary: "Turns.".into(), writes: vec!["at".into()] });
        assert_eq!(Purpose::of("{\"summ", "turn", &slots).summary, "Answers `turn`.");
    }

    #[test]
    fn a_vote_is_the_answer_in_json() {
        assert_eq!(vote(r#"{"steps": "a", "answer": [1]}"#), Some(json!([1])));
        assert_eq!(vote(r#"{"answer": [1"#), None);
        assert_eq!(vote("[1]"), None);
    }
}
