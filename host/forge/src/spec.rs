//! What a behaviour is to do, as somebody says who does not see its source.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::behaviour::{Account, AccountExample, AccountSelector, AccountSlot};

/// Examples that one behaviour is tried with.
pub const EXAMPLES_MAX: usize = 32;

/// What is asked of a behaviour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// For people, a sentence.
    pub summary: String,
    /// It changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// JSON Schema of the arguments.
    #[serde(default = "anything")]
    pub arguments: Value,
    /// JSON Schema of the answer.
    #[serde(default = "anything")]
    pub returns: Value,
    /// Slots that it may write.
    #[serde(default)]
    pub slots: Vec<AccountSlot>,
    /// Messages, and what comes of them.
    pub examples: Vec<AccountExample>,
}

fn anything() -> Value {
    Value::Bool(true)
}

impl Spec {
    /// # Errors
    /// One sentence: what of it cannot be asked of any behaviour.
    pub fn check(&self) -> Result<(), String> {
        if self.examples.is_empty() || self.examples.len() > EXAMPLES_MAX {
            return Err(format!("{} examples; from 1 to {EXAMPLES_MAX} are taken", self.examples.len()));
        }
        for (name, schema) in [("arguments", &self.arguments), ("returns", &self.returns)] {
            if !schema.is_object() && !schema.is_boolean() {
                return Err(format!("`{name}` is no JSON Schema: it is {schema}"));
            }
        }
        Ok(())
    }

    /// What a behaviour of it says of itself.
    pub fn account(&self, id: &str, version: &str, selector: &str) -> Account {
        Account {
            id: id.to_owned(),
            version: version.to_owned(),
            summary: self.summary.clone(),
            generation: 1,
            slots: self.slots.clone(),
            selectors: vec![AccountSelector {
                name: selector.to_owned(),
                summary: self.summary.clone(),
                arguments: self.arguments.clone(),
                returns: self.returns.clone(),
                read_only: self.read_only,
                examples: self.examples.clone(),
            }],
        }
    }
}
