//! What `#[plugin]` writes, seen as the host sees it: descriptor, dispatch, evolution.

use std::collections::BTreeMap;

use telos_sdk::Plugin;
use telos_sdk::bindings::exports::telos::host::handler::{self, Guest as _};
use telos_sdk::bindings::exports::telos::host::lifecycle::{self, Guest as _};
use telos_sdk::bindings::telos::host::types::ObjectId;
use telos_sdk::descriptor::{EvolveError, Expectation, Kind, SlotValue, Slots};
use telos_sdk::prelude::*;

struct Probe;

#[derive(Deserialize)]
struct Add {
    #[serde(default)]
    left: i64,
    right: i64,
}

#[derive(Deserialize)]
struct Nothing {}

/// Answers what it is asked,
/// on two lines.
///
/// And more, which is not the summary.
#[plugin(id = "probe", version = "3.2.1", kind = persona, generation = 2)]
#[slot(name = "count", default = 0, summary = "A number.")]
#[slot(name = "note")]
impl Probe {
    /// Adds.
    #[selector(read_only, returns = {"type": "integer"})]
    #[example(name = "adds", before = {"count": 1, "note": [1, {"a": null}]}, arguments = {"right": -2}, returns = -2)]
    #[example(name = "refuses", arguments = {}, refused)]
    #[example(name = "any", generate = "text", send = {"n": 1}, generate = "more", schema = {"type": "integer"}, after = {"count": 1})]
    fn add(_this: &Receiver, arguments: Add) -> Result<i64, Failure> {
        arguments.left.checked_add(arguments.right).ok_or_else(|| Failure::refused("too much"))
    }

    /// Who was asked.
    #[selector(name = "who-am-I")]
    fn who(this: &Receiver) -> Result<Object, Failure> {
        Ok(this.object())
    }

    #[selector]
    fn nothing(_this: &Receiver, _arguments: Nothing) -> Result<(), Failure> {
        Ok(())
    }

    /// Fails with an error of another crate.
    #[selector]
    fn fail(_this: &Receiver) -> Result<u8, Failure> {
        Ok("256".parse::<u8>()?)
    }

    /// Answers a map that JSON cannot say.
    #[selector]
    fn unspeakable(_this: &Receiver) -> Result<BTreeMap<(u8, u8), u8>, Failure> {
        Ok(BTreeMap::from([((1, 2), 3)]))
    }

    #[evolve]
    fn rename(mut slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        match (from, to) {
            (1, 2) => {
                let count =
                    slots.remove("n").ok_or_else(|| EvolveError::Invalid("no slot `n`".to_owned()))?;
                slots.insert("count".to_owned(), count);
                Ok(slots)
            }
            _ => Err(EvolveError::Unsupported),
        }
    }
}

type Component = telos_sdk::Component<Probe>;

fn handle(selector: &str, arguments: &str) -> Result<String, handler::Failure> {
    Component::handle(handler::Message {
        receiver: ObjectId { high: 0, low: 10 },
        selector: selector.to_owned(),
        arguments: arguments.to_owned(),
        trace: String::new(),
    })
}

fn slot(name: &str, value: &str) -> SlotValue {
    SlotValue { name: name.to_owned(), value: value.to_owned() }
}

#[test]
fn the_descriptor_says_what_the_attributes_say() {
    let descriptor = Component::describe();
    assert_eq!((&*descriptor.id, &*descriptor.version), ("probe", "3.2.1"));
    assert_eq!((descriptor.kind, descriptor.generation), (Kind::Persona, 2));
    assert_eq!(descriptor.summary, "Answers what it is asked, on two lines.");
    let slots: Vec<_> =
        descriptor.slots.iter().map(|slot| (&*slot.name, &*slot.summary, slot.default.as_deref())).collect();
    assert_eq!(slots, [("count", "A number.", Some("0")), ("note", "", None)]);
    let selectors: Vec<_> =
        descriptor.selectors.iter().map(|selector| (&*selector.name, selector.read_only)).collect();
    let expected =
        [("add", true), ("who-am-I", false), ("nothing", false), ("fail", false), ("unspeakable", false)];
    assert_eq!(selectors, expected);
    assert_eq!(descriptor.selectors[0].summary, "Adds.");
    assert_eq!(descriptor.selectors[0].arguments, "true");
    assert_eq!(descriptor.selectors[0].returns, r#"{"type":"integer"}"#);
    assert_eq!(descriptor, Component::describe(), "describe is pure");
}

#[test]
fn examples_carry_slots_recordings_and_expectations() {
    let descriptor = Probe::describe();
    let [adds, refuses, any] = &descriptor.selectors[0].examples[..] else { panic!("three examples") };
    assert_eq!(adds.before, [slot("count", "1"), slot("note", r#"[1,{"a":null}]"#)]);
    assert_eq!((&*adds.arguments, &adds.expect), (r#"{"right":-2}"#, &Expectation::Value("-2".to_owned())));
    assert_eq!((&refuses.expect, refuses.before.len()), (&Expectation::Refusal, 0));
    let recordings: Vec<_> =
        any.recordings.iter().map(|recording| (&*recording.operation, &*recording.answer)).collect();
    assert_eq!(recordings, [("generate", "\"text\""), ("send", r#"{"n":1}"#), ("generate", "\"more\"")]);
    assert_eq!((&*any.arguments, any.after.len()), ("null", 1));
    assert_eq!(any.expect, Expectation::Schema(r#"{"type":"integer"}"#.to_owned()));
}

#[test]
fn arguments_and_answers_are_typed() {
    assert_eq!(handle("add", r#"{"left": 2, "right": 3}"#), Ok("5".to_owned()));
    assert_eq!(handle("who-am-I", "{}"), Ok(r#""0000000000000000000000000000000a""#.to_owned()));
    assert_eq!(handle("nothing", "null"), Ok("null".to_owned()), "null stands for no arguments");
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    for arguments in ["null", "{}", r#"{"right": "3"}"#, "{", ""] {
        assert!(matches!(handle("add", arguments), Err(handler::Failure::BadArguments(_))), "{arguments}");
    }
    assert_eq!(
        handle("add", "null"),
        Err(handler::Failure::BadArguments("missing field `right` at line 1 column 2".to_owned()))
    );
}

#[test]
fn errors_become_refusals_and_unknown_selectors_are_said() {
    let refused = |cause: &str| Err(handler::Failure::Refused(cause.to_owned()));
    assert_eq!(handle("fail", "null"), refused("number too large to fit in target type"));
    assert_eq!(handle("add", &format!(r#"{{"left": {}, "right": 1}}"#, i64::MAX)), refused("too much"));
    assert_eq!(handle("unspeakable", "null"), refused("the answer is not JSON: key must be a string"));
    assert_eq!(handle("who", "null"), Err(handler::Failure::UnknownSelector));
}

#[test]
fn slots_evolve_through_the_marked_function_only() {
    assert_eq!(Component::evolve(vec![slot("n", "[1, 2]")], 1, 2), Ok(vec![slot("count", "[1,2]")]));
    assert_eq!(Component::evolve(vec![], 2, 3), Err(lifecycle::EvolveError::Unsupported));
    assert_eq!(
        Component::evolve(vec![slot("m", "1")], 1, 2),
        Err(lifecycle::EvolveError::Invalid("no slot `n`".to_owned()))
    );
    assert!(matches!(Component::evolve(vec![slot("n", "{")], 1, 2), Err(lifecycle::EvolveError::Invalid(_))));
    assert_eq!(Component::devolve(vec![], 2, 1), Err(lifecycle::EvolveError::Unsupported));
}
