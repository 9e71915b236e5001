//! The gate: what a candidate is tried with, and what its answers say of it.
//!
//! ```text
//! starts       the engine takes its source                              else nothing more is looked at
//! examples     what is asked of it; the first, and those that allow many answers, twice: the same both times
//! golden       the message that missed it, on a copy of its receiver's slots
//! hostile      arguments that nobody promised anything about: a refusal, or an answer, and never a fault
//! slots        nothing written but what is declared
//! ```
//! The candidate writes none of this: neither what it is tried with, nor its score. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::behaviour::{AccountExample, AccountExpectation};
use crate::spec::Spec;
use crate::ticket::Trigger;

/// Longest account of one check, in characters.
const DETAIL_CHARS_MAX: usize = 600;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Nothing was found.
    pub passed: bool,
    /// What was found; empty when nothing was.
    pub detail: String,
    /// Fuel that its message took, where it is about one; none in records of before that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

/// A message that a candidate is sent, on storage of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    /// Slots of its receiver before.
    pub(crate) before: Vec<(String, Value)>,
    /// The arguments.
    pub arguments: Value,
    /// What the host answers meanwhile.
    pub recordings: Vec<(String, Value)>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Example of this place; again, for comparison.
    Example {
        place: usize,
        again: bool,
    },
    Golden {
        again: bool,
    },
    Hostile,
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// The answer, or why there is none.
    pub answer: Result<Value, Fault>,
    /// The receiver's value slots afterwards.
    pub after: BTreeMap<String, Value>,
    /// Work of its instance.
    pub fuel: u64,
}

impl Outcome {
    /// Whether the same came of the same.
    fn is_like(&self, other: &Self) -> bool {
        (&self.answer, &self.after) == (&other.answer, &other.after)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// It declined, which is its right; else it failed.
    pub is_refusal: bool,
    /// In words.
    pub text: String,
}

/// Judges an answer against a JSON Schema; a sentence when it does not fit.
pub(crate) type Satisfies<'a> = &'a dyn Fn(&Value, &Value) -> Result<(), String>;

/// Everything that a candidate is sent, in order.
pub(crate) fn probes(spec: &Spec, trigger: &Trigger) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (place, example) in spec.examples.iter().enumerate() {
        // An answer that is promised exactly must come again when the release is installed.
        let allows_many = !matches!(example.expect, AccountExpectation::Value(_));
        probes.push(of_example(example, Kind::Example { place, again: false }));
        if place == 0 || allows_many {
            probes.push(of_example(example, Kind::Example { place, again: true }));
        }
    }
    for again in [false, true] {
        probes.push(Probe {
            before: trigger.slots.clone(),
            arguments: trigger.arguments.clone(),
            recordings: recordings_for(spec, &trigger.arguments),
            kind: Kind::Golden { again },
        });
    }
    let hostile = |arguments| Probe {
        before: trigger.slots.clone(),
        arguments,
        recordings: Vec::new(),
        kind: Kind::Hostile,
    };
    probes.extend(hostile_arguments().into_iter().map(hostile));
    probes
}

/// What the outcomes of [`probes`], in their order, say of a candidate.
pub(crate) fn judge(
    spec: &Spec,
    probes: &[Probe],
    outcomes: &[Outcome],
    satisfies: Satisfies<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut before: Option<&Outcome> = None;
    for (probe, outcome) in probes.iter().zip(outcomes) {
        match &probe.kind {
            Kind::Example { place, again: false } => {
                let Some(example) = spec.examples.get(*place) else { continue };
                let name = format!("example `{}`", example.name);
                checks.push(of_message(name, as_promised(example, outcome, satisfies), outcome));
            }
            Kind::Golden { again: false } => {
                let name = "the message that missed it".into();
                checks.push(of_message(name, answers(spec, outcome, satisfies), outcome));
            }
            Kind::Example { again: true, .. } | Kind::Golden { again: true } => {
                if before.is_some_and(|before| !before.is_like(outcome)) {
                    let detail = "answered differently the second time".to_owned();
                    checks
                        .push(check(format!("the same again for {}", short(&probe.arguments)), Err(detail)));
                }
            }
            Kind::Hostile => {
                if let Err(fault) = &outcome.answer
                    && !fault.is_refusal
                {
                    let name = format!("hostile arguments {}", short(&probe.arguments));
                    checks.push(check(name, Err(format!("{}; refuse what does not fit", fault.text))));
                }
            }
        }
        if let Some(slot) = undeclared(spec, probe, outcome) {
            let detail = format!("it wrote slot `{slot}`, which is not declared");
            checks.push(check(format!("slots for {}", short(&probe.arguments)), Err(detail)));
        }
        before = Some(outcome);
    }
    for (name, is_kind) in [("the same again", 0), ("hostile arguments", 1), ("declared slots only", 2)] {
        let prefixes = ["the same again for", "hostile arguments ", "slots for "];
        if !checks.iter().any(|check| check.name.starts_with(prefixes[is_kind])) {
            checks.push(check(name.into(), Ok(())));
        }
    }
    checks
}

/// A check of one thing.
pub(crate) fn check(name: String, found: Result<(), String>) -> Check {
    let detail = found.as_ref().err().map(|detail| detail.chars().take(DETAIL_CHARS_MAX).collect());
    Check { name, passed: found.is_ok(), detail: detail.unwrap_or_default(), fuel: None }
}

/// A check of one message, with what that took.
fn of_message(name: String, found: Result<(), String>, outcome: &Outcome) -> Check {
    Check { fuel: Some(outcome.fuel), ..check(name, found) }
}

/// What the host answers to a message: what it does in the first example of the same one.
fn recordings_for(spec: &Spec, arguments: &Value) -> Vec<(String, Value)> {
    let same = spec.examples.iter().find(|example| &example.arguments == arguments);
    same.map(|example| example.recordings.clone()).unwrap_or_default()
}

fn of_example(example: &AccountExample, kind: Kind) -> Probe {
    let AccountExample { before, arguments, recordings, .. } = example.clone();
    Probe { before, arguments, recordings, kind }
}

/// Arguments that no message promises anything about.
fn hostile_arguments() -> Vec<Value> {
    vec![
        Value::Null,
        json!({}),
        json!([]),
        json!(0),
        json!(-1.5e300),
        json!(""),
        json!("\u{0}\u{202e}ñ漢🦀"),
        json!([null, [], {}, "x", 1e308]),
        json!({"__proto__": {"x": 1}, "constructor": null, "length": -1}),
        json!("x".repeat(10_000)),
        Value::from(vec![0; 2_000]),
    ]
}

fn as_promised(example: &AccountExample, outcome: &Outcome, satisfies: Satisfies<'_>) -> Result<(), String> {
    match (&example.expect, &outcome.answer) {
        (AccountExpectation::Refusal, Err(fault)) if fault.is_refusal => return Ok(()),
        (AccountExpectation::Refusal, Ok(answer)) => {
            return Err(format!(
                "answered {} instead of refusing {}",
                short(answer),
                short(&example.arguments)
            ));
        }
        (_, Err(fault)) => return Err(format!("for {}: {}", short(&example.arguments), fault.text)),
        (AccountExpectation::Value(wanted), Ok(answer)) if !same(wanted, answer) => {
            return Err(format!(
                "for {} it answered {} instead of {}",
                short(&example.arguments),
                short(answer),
                short(wanted)
            ));
        }
        (AccountExpectation::Value(_), Ok(_)) => {}
        (AccountExpectation::Schema(schema), Ok(answer)) => satisfies(schema, answer)?,
    }
    for (slot, wanted) in &example.after {
        match outcome.after.get(slot) {
            Some(found) if same(found, wanted) => {}
            Some(found) => {
                return Err(format!("left slot `{slot}` at {} instead of {}", short(found), short(wanted)));
            }
            None => return Err(format!("left no slot `{slot}`; it should be {}", short(wanted))),
        }
    }
    Ok(())
}

fn answers(spec: &Spec, outcome: &Outcome, satisfies: Satisfies<'_>) -> Result<(), String> {
    match &outcome.answer {
        Err(fault) => Err(fault.text.clone()),
        Ok(answer) => satisfies(&spec.returns, answer),
    }
}

/// Equal as JSON numbers are: 1 and 1.0 are one number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

/// A slot that was written although nobody declared it.
fn undeclared<'o>(spec: &Spec, probe: &Probe, outcome: &'o Outcome) -> Option<&'o str> {
    let is_known = |slot: &String| {
        spec.slots.iter().any(|declared| declared.name == *slot)
            || probe
                .before
                .iter()
                .any(|(before, value)| before == slot && outcome.after.get(slot) == Some(value))
    };
    outcome.after.keys().find(|slot| !is_known(slot)).map(String::as_str)
}

/// A value in a sentence.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let example = |name: &str, arguments, expect| AccountExample {
            name: name.into(),
            before: vec![("count".into(), json!(1))],
            arguments,
            recordings: Vec::new(),
            expect,
            after: vec![("count".into(), json!(2))],
        };
        Spec {
            summary: "Counts.".into(),
            read_only: false,
            arguments: json!(true),
            returns: json!({"type": "number"}),
            slots: vec![crate::behaviour::AccountSlot {
                name: "count".into(),
                summary: String::new(),
                default: None,
            }],
            examples: vec![
                example("adds", json!(1), AccountExpectation::Value(json!(2))),
                example("refuses", json!("x"), AccountExpectation::Refusal),
            ],
        }
    }

    fn trigger() -> Trigger {
        Trigger {
            receiver: "0".repeat(32),
            arguments: json!(1),
            slots: vec![("other".into(), json!("kept"))],
        }
    }

    /// A candidate that counts, and does what the test wants instead for some arguments.
    fn outcome(probe: &Probe, instead: &dyn Fn(&Value) -> Option<Outcome>) -> Outcome {
        let mut after: BTreeMap<_, _> = probe.before.iter().cloned().collect();
        if let Some(outcome) = instead(&probe.arguments) {
            return outcome;
        }
        match probe.arguments.as_i64() {
            Some(by) => {
                let count = after.get("count").and_then(Value::as_i64).unwrap_or_default() + by;
                after.insert("count".into(), json!(count));
                Outcome { answer: Ok(json!(count as f64)), after, fuel: 7 }
            }
            None => {
                let fault = Fault { is_refusal: true, text: "no number".into() };
                Outcome { answer: Err(fault), after, fuel: 7 }
            }
        }
    }

    fn judged(instead: &dyn Fn(&Value) -> Option<Outcome>) -> Vec<Check> {
        let probes = probes(&spec(), &trigger());
        let outcomes: Vec<_> = probes.iter().map(|probe| outcome(probe, instead)).collect();
        let satisfies = |schema: &Value, answer: &Value| match (schema["type"].as_str(), answer) {
            (Some("number"), Value::Number(_)) | (None, _) => Ok(()),
            _ => Err(format!("{answer} is no number")),
        };
        judge(&spec(), &probes, &outcomes, &satisfies)
    }

    fn faults(instead: &dyn Fn(&Value) -> Option<Outcome>) -> Vec<String> {
        let failed = judged(instead).into_iter().filter(|check| !check.passed);
        failed.map(|check| format!("{}: {}", check.name, check.detail)).collect()
    }

    fn answering(answer: Value) -> Option<Outcome> {
        Some(Outcome { answer: Ok(answer), after: BTreeMap::new(), fuel: 7 })
    }

    #[test]
    fn what_does_as_it_is_asked_passes_every_check() {
        let checks = judged(&|_| None);
        assert!(checks.iter().all(|check| check.passed), "{checks:?}");
        assert_eq!(checks.len(), 6);
        let counted = checks.iter().filter(|check| check.fuel == Some(7)).count();
        assert_eq!(counted, 3, "each example, and the message that missed it");
    }

    #[test]
    fn each_fault_is_told() {
        let wrong = faults(&|arguments| (arguments == &json!(1)).then(|| answering(json!(7))).flatten());
        assert!(wrong[0].starts_with("example `adds`: for 1 it answered 7 instead of 2"), "{wrong:?}");
        let fails = faults(&|arguments| {
            let fault = Fault { is_refusal: false, text: "TypeError".into() };
            arguments.is_null().then_some(Outcome { answer: Err(fault), after: BTreeMap::new(), fuel: 7 })
        });
        assert_eq!(fails, ["hostile arguments null: TypeError; refuse what does not fit"]);
        let writes = faults(&|arguments| {
            let after = BTreeMap::from([("secret".to_owned(), json!(1))]);
            (arguments == &json!([])).then_some(Outcome { answer: Ok(json!(1)), after, fuel: 7 })
        });
        assert_eq!(writes, ["slots for []: it wrote slot `secret`, which is not declared"]);
        let text = faults(&|arguments| (arguments == &json!(1)).then(|| answering(json!("one"))).flatten());
        assert!(
            text.iter().any(|fault| fault == "the message that missed it: \"one\" is no number"),
            "{text:?}"
        );
    }

    #[test]
    fn the_message_that_missed_it_has_the_answers_of_its_example() {
        let mut spec = spec();
        spec.examples[0].recordings = vec![("send".into(), json!("hello"))];
        let of = |trigger: &Trigger| {
            let probes = probes(&spec, trigger);
            let golden = probes.into_iter().find(|probe| matches!(probe.kind, Kind::Golden { .. }));
            golden.map(|probe| probe.recordings.len())
        };
        assert_eq!(of(&trigger()), Some(1));
        assert_eq!(of(&Trigger { arguments: json!(2), ..trigger() }), Some(0));
    }

    #[test]
    fn an_answer_that_changes_is_told() {
        let calls = std::cell::Cell::new(0);
        let changing = faults(&|arguments| {
            calls.set(calls.get() + 1);
            (arguments == &json!("x")).then(|| answering(json!(calls.get()))).flatten()
        });
        assert!(changing.iter().any(|fault| fault.contains("differently the second time")), "{changing:?}");
    }

    #[test]
    fn numbers_are_equal_as_json_has_them() {
        assert!(same(&json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})));
        assert!(!same(&json!([1]), &json!([1, 2])) && !same(&json!({"a": 1}), &json!({"b": 1})));
    }
}
