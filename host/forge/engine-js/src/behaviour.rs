//! What a behaviour is made of, as its component hands it over: what it says of itself, and its source.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bindings::exports::telos::host::lifecycle::{
    Descriptor, Example, Expectation, Kind, Recording, Selector, Slot, SlotValue,
};

/// One behaviour.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Behaviour {
    /// What `describe` answers.
    pub(crate) descriptor: Box<RawValue>,
    /// Its ES module.
    pub(crate) source: String,
    /// Interfaces of the contract that its component imports besides `storage` and `logging`.
    pub(crate) uses: Vec<String>,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    version: String,
    summary: String,
    generation: u32,
    slots: Vec<DescribedSlot>,
    selectors: Vec<DescribedSelector>,
}

#[derive(Deserialize)]
struct DescribedSlot {
    name: String,
    summary: String,
    #[serde(default, deserialize_with = "present")]
    default: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DescribedSelector {
    name: String,
    summary: String,
    arguments: Value,
    returns: Value,
    read_only: bool,
    examples: Vec<DescribedExample>,
}

#[derive(Deserialize)]
struct DescribedExample {
    name: String,
    before: Vec<(String, Value)>,
    arguments: Value,
    recordings: Vec<(String, Value)>,
    expect: DescribedExpectation,
    after: Vec<(String, Value)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DescribedExpectation {
    Value(Value),
    Schema(Value),
    Refusal,
}

impl Behaviour {
    /// The JSON Schema of a selector's arguments, as text.
    pub(crate) fn arguments_of(&self, selector: &str) -> Option<String> {
        let described: Described = serde_json::from_str(self.descriptor.get()).ok()?;
        let selector = described.selectors.into_iter().find(|known| known.name == selector)?;
        Some(selector.arguments.to_string())
    }

    /// # Errors
    /// When the account is not what the assembler writes: that is no behaviour's fault.
    pub(crate) fn describe(&self) -> Result<Descriptor, serde_json::Error> {
        let described: Described = serde_json::from_str(self.descriptor.get())?;
        Ok(Descriptor {
            id: described.id,
            version: described.version,
            kind: Kind::Behaviour,
            summary: described.summary,
            generation: described.generation,
            slots: described.slots.into_iter().map(slot).collect(),
            selectors: described.selectors.into_iter().map(selector).collect(),
        })
    }
}

/// A value that is there, also when it is null.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

fn slot(slot: DescribedSlot) -> Slot {
    Slot { name: slot.name, summary: slot.summary, default: slot.default.map(|value| value.to_string()) }
}

fn selector(selector: DescribedSelector) -> Selector {
    Selector {
        name: selector.name,
        summary: selector.summary,
        arguments: selector.arguments.to_string(),
        returns: selector.returns.to_string(),
        read_only: selector.read_only,
        examples: selector.examples.into_iter().map(example).collect(),
    }
}

fn example(example: DescribedExample) -> Example {
    let recording =
        |(operation, answer): (String, Value)| Recording { operation, answer: answer.to_string() };
    Example {
        name: example.name,
        before: slot_values(example.before),
        arguments: example.arguments.to_string(),
        recordings: example.recordings.into_iter().map(recording).collect(),
        expect: match example.expect {
            DescribedExpectation::Value(value) => Expectation::Value(value.to_string()),
            DescribedExpectation::Schema(schema) => Expectation::Schema(schema.to_string()),
            DescribedExpectation::Refusal => Expectation::Refusal,
        },
        after: slot_values(example.after),
    }
}

fn slot_values(slots: Vec<(String, Value)>) -> Vec<SlotValue> {
    slots.into_iter().map(|(name, value)| SlotValue { name, value: value.to_string() }).collect()
}
