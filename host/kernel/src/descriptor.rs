//! What a component says of itself, as the host keeps it: stored as JSON with the release, read without the component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::lifecycle;

/// Most bytes of a descriptor, all texts together.
pub(crate) const DESCRIPTOR_BYTES_MAX: usize = 256 << 10;
/// Most selectors of one component.
pub(crate) const SELECTORS_MAX: usize = 256;

/// A component's account of itself; see `wit/lifecycle.wit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The component's id.
    pub id: String,
    /// Semantic version.
    pub version: semver::Version,
    /// Behaviour, persona or curator.
    pub kind: Kind,
    /// One line for people.
    pub summary: String,
    /// Schema of stored state, from 1.
    pub generation: u32,
    /// Declared value slots by name.
    pub slots: BTreeMap<String, SlotSpec>,
    /// Selectors by name.
    pub selectors: BTreeMap<String, Selector>,
}

/// What a component is to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Answers messages.
    Behaviour,
    /// Talks to people.
    Persona,
    /// Tends memory.
    Curator,
}

/// A declared value slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotSpec {
    /// One line for people.
    pub summary: String,
    /// What lookup answers where no object has the slot.
    pub default: Option<Value>,
}

/// A message the component understands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selector {
    /// One line for people.
    pub summary: String,
    /// JSON Schema of the arguments.
    pub arguments: Value,
    /// JSON Schema of the answer.
    pub returns: Value,
    /// Changes nothing.
    pub read_only: bool,
    /// Promises, run before the release may serve.
    pub examples: Vec<Example>,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Unique within the selector.
    pub name: String,
    /// The receiver's value slots beforehand.
    pub before: Vec<(String, Value)>,
    /// The message's arguments.
    pub arguments: Value,
    /// What the host answers, by operation, in order.
    pub recordings: Vec<Recording>,
    /// What must come out.
    pub expect: Expectation,
    /// Slots the receiver must have afterwards.
    pub after: Vec<(String, Value)>,
}

/// One recorded host answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// `generate`, `embed`, `send` or `recall`.
    pub operation: String,
    /// The answer.
    pub answer: Value,
}

/// What must come out of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// Exactly this value.
    Value(Value),
    /// Any value that satisfies this JSON Schema.
    Schema(Value),
    /// A refusal.
    Refusal,
}

/// Why a descriptor is not acceptable: which field, and what it must be.
#[derive(Debug, thiserror::Error)]
#[error("its descriptor's {field} {problem}")]
pub struct DescriptorError {
    field: String,
    problem: String,
}

fn bad(field: impl Into<String>, problem: impl Into<String>) -> DescriptorError {
    DescriptorError { field: field.into(), problem: problem.into() }
}

impl Descriptor {
    /// What is stored with a release.
    pub(crate) fn of(record: &telos_store::ReleaseRecord) -> serde_json::Result<Self> {
        serde_json::from_str(record.descriptor.as_str())
    }

    /// Which generation of its component's state a release knows; none when its descriptor cannot be read.
    pub fn generation_of(record: &telos_store::ReleaseRecord) -> Option<u32> {
        Self::of(record).ok().map(|descriptor| descriptor.generation)
    }

    /// The descriptor a guest gave, checked.
    pub(crate) fn from_contract(given: lifecycle::Descriptor) -> Result<Self, DescriptorError> {
        telos_store::ComponentId::new(&given.id).map_err(|error| bad("id", error.to_string()))?;
        let version = semver::Version::parse(&given.version)
            .map_err(|error| bad("version", format!("`{}` is not semantic: {error}", given.version)))?;
        if given.generation == 0 {
            return Err(bad("generation", "is 0; generations count from 1"));
        }
        if given.selectors.len() > SELECTORS_MAX {
            return Err(bad("selectors", format!("are {}; at most {SELECTORS_MAX}", given.selectors.len())));
        }
        Ok(Self {
            id: given.id,
            version,
            kind: kind(given.kind),
            summary: given.summary,
            generation: given.generation,
            slots: slots(given.slots)?,
            selectors: selectors(given.selectors)?,
        })
    }
}

fn kind(given: lifecycle::Kind) -> Kind {
    match given {
        lifecycle::Kind::Behaviour => Kind::Behaviour,
        lifecycle::Kind::Persona => Kind::Persona,
        lifecycle::Kind::Curator => Kind::Curator,
    }
}

fn slots(given: Vec<lifecycle::Slot>) -> Result<BTreeMap<String, SlotSpec>, DescriptorError> {
    let mut slots = BTreeMap::new();
    for slot in given {
        let field = format!("slot `{}`", slot.name);
        let default = slot.default.map(|text| json(&format!("{field} default"), &text)).transpose()?;
        if slots.insert(slot.name, SlotSpec { summary: slot.summary, default }).is_some() {
            return Err(bad(field, "is declared twice"));
        }
    }
    Ok(slots)
}

fn selectors(given: Vec<lifecycle::Selector>) -> Result<BTreeMap<String, Selector>, DescriptorError> {
    let mut selectors = BTreeMap::new();
    for selector in given {
        let field = format!("selector `{}`", selector.name);
        if !is_selector_name(&selector.name) {
            return Err(bad(field, "is not 1 to 64 letters, digits, `-` or `_`"));
        }
        let name = selector.name.clone();
        let checked = self::selector(&field, selector)?;
        if selectors.insert(name, checked).is_some() {
            return Err(bad(field, "is declared twice"));
        }
    }
    Ok(selectors)
}

fn selector(field: &str, given: lifecycle::Selector) -> Result<Selector, DescriptorError> {
    Ok(Selector {
        arguments: json(&format!("{field} argument schema"), &given.arguments)?,
        returns: json(&format!("{field} answer schema"), &given.returns)?,
        examples: given.examples.into_iter().map(|given| example(field, given)).collect::<Result<_, _>>()?,
        summary: given.summary,
        read_only: given.read_only,
    })
}

fn example(field: &str, given: lifecycle::Example) -> Result<Example, DescriptorError> {
    let field = format!("{field} example `{}`", given.name);
    Ok(Example {
        before: values(&field, given.before)?,
        arguments: json(&field, &given.arguments)?,
        recordings: recordings(&field, given.recordings)?,
        expect: match given.expect {
            lifecycle::Expectation::Value(text) => Expectation::Value(json(&field, &text)?),
            lifecycle::Expectation::Schema(text) => Expectation::Schema(json(&field, &text)?),
            lifecycle::Expectation::Refusal => Expectation::Refusal,
        },
        after: values(&field, given.after)?,
        name: given.name,
    })
}

fn values(field: &str, given: Vec<lifecycle::SlotValue>) -> Result<Vec<(String, Value)>, DescriptorError> {
    given.into_iter().map(|slot| Ok((slot.name, json(field, &slot.value)?))).collect()
}

fn recordings(field: &str, given: Vec<lifecycle::Recording>) -> Result<Vec<Recording>, DescriptorError> {
    let read = |given: lifecycle::Recording| {
        let known = ["generate", "embed", "send", "recall"].contains(&given.operation.as_str());
        if !known {
            return Err(bad(
                field,
                format!("records `{}`, not generate, embed, send or recall", given.operation),
            ));
        }
        Ok(Recording { answer: json(field, &given.answer)?, operation: given.operation })
    };
    given.into_iter().map(read).collect()
}

fn json(field: &str, text: &str) -> Result<Value, DescriptorError> {
    serde_json::from_str(text).map_err(|error| bad(field, format!("is not JSON: {error}")))
}

fn is_selector_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}
