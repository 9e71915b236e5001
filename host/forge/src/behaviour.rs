//! What a behaviour is made of.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Descriptor and source of one behaviour, as its component carries them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// What `describe` answers, as [`Behaviour::of`] writes it.
    descriptor: Box<RawValue>,
    /// One ES module that exports `handle(self, args, telos)`.
    pub source: String,
    /// Interfaces of the contract that it uses besides storage and logging: `inference`, `messaging`, `vectors`; sorted.
    pub uses: Vec<String>,
}

/// What a behaviour says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The component.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// For people, a sentence.
    pub summary: String,
    /// The schema of stored state, from 1.
    pub generation: u32,
    /// Slots that it keeps in its objects.
    pub slots: Vec<AccountSlot>,
    /// Messages that it understands.
    pub selectors: Vec<AccountSelector>,
}

/// A slot that a behaviour keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSlot {
    /// Its name.
    pub name: String,
    /// For people.
    pub summary: String,
    /// What lookup answers where no object has it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// A message that a behaviour understands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccountSelector {
    /// Its name.
    pub name: String,
    /// For people.
    pub summary: String,
    /// JSON Schema of the arguments.
    pub arguments: Value,
    /// JSON Schema of the answer.
    pub returns: Value,
    /// Promises to change nothing.
    pub read_only: bool,
    /// Messages that it promises to answer so.
    pub examples: Vec<AccountExample>,
}

/// A message that a behaviour promises to answer so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountExample {
    /// Its name.
    pub name: String,
    /// Slots before, by name.
    #[serde(default)]
    pub before: Vec<(String, Value)>,
    /// The message's arguments.
    #[serde(default)]
    pub arguments: Value,
    /// What the host answers: `generate`, `embed`, `send` or `recall`, in their order.
    #[serde(default)]
    pub recordings: Vec<(String, Value)>,
    /// What must come out.
    pub expect: AccountExpectation,
    /// Slots that must be there afterwards, by name.
    #[serde(default)]
    pub after: Vec<(String, Value)>,
}

/// What must come out of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountExpectation {
    /// Exactly this.
    Value(Value),
    /// Any value of this JSON Schema.
    Schema(Value),
    /// A refusal.
    Refusal,
}

impl Behaviour {
    /// A behaviour that says this of itself. Equal parts make equal bytes.
    ///
    /// # Errors
    /// When the account cannot be written as JSON.
    pub fn of(account: &Account, source: String, mut uses: Vec<String>) -> Result<Self, serde_json::Error> {
        uses.sort_unstable();
        uses.dedup();
        let descriptor = serde_json::value::to_raw_value(account)?;
        Ok(Self { descriptor, source, uses })
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When that was not written here.
    pub fn account(&self) -> Result<Account, serde_json::Error> {
        serde_json::from_str(self.descriptor.get())
    }
}

/// A value that is there, also when it is null.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}
