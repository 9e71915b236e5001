//! What a component says of itself, as the contract has it; `#[plugin]` writes all of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bindings::exports::telos::host::lifecycle::EvolveError as WireError;
pub use crate::bindings::exports::telos::host::lifecycle::{
    Descriptor, Example, Expectation, Kind, Recording, Selector, Slot, SlotValue,
};

/// One object's value slots, by name.
pub type Slots = BTreeMap<String, Value>;

/// Why state could not be carried to another generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvolveError {
    /// This release does not know the way.
    #[error("this release does not know the way between these generations")]
    Unsupported,
    /// The object's state is not what was expected; says why.
    #[error("unexpected state: {0}")]
    Invalid(String),
}

impl EvolveError {
    /// The state is not what was expected; `cause` says why, to whoever reads the audit.
    pub fn invalid(cause: impl Into<String>) -> Self {
        Self::Invalid(cause.into())
    }
}

/// The entries of a JSON object as slots; of any other value, none.
pub fn slot_values(object: Value) -> Vec<SlotValue> {
    match object {
        Value::Object(slots) => {
            slots.into_iter().map(|(name, value)| SlotValue { name, value: value.to_string() }).collect()
        }
        _ => Vec::new(),
    }
}

/// Contract slots parsed; the inverse of [`slot_values`].
///
/// # Errors
/// [`EvolveError::Invalid`] when a value is not JSON, which the host promises not to send.
pub(crate) fn parse_slots(slots: Vec<SlotValue>) -> Result<Slots, EvolveError> {
    slots
        .into_iter()
        .map(|slot| match serde_json::from_str(&slot.value) {
            Ok(value) => Ok((slot.name, value)),
            Err(error) => Err(EvolveError::Invalid(format!("slot `{}`: {error}", slot.name))),
        })
        .collect()
}

impl From<EvolveError> for WireError {
    fn from(error: EvolveError) -> Self {
        match error {
            EvolveError::Unsupported => Self::Unsupported,
            EvolveError::Invalid(cause) => Self::Invalid(cause),
        }
    }
}
