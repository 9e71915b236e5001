//! Objects: slots and parents, nothing else. An object's shape is its slots; behaviour is a slot like any other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{NameError, Overflow};
use crate::id::{ComponentId, ObjectId, Position, Revision};
use crate::json::Json;
use crate::limit;

/// One state of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Who it is.
    pub id: ObjectId,
    /// The component that made it and may change its parents and method slots.
    pub owner: ComponentId,
    /// The owner's schema generation that this state is in.
    pub generation: u32,
    /// The count of this state; a unit's own write already shows the revision that it will have.
    pub revision: Revision,
    /// The commit that made this state; [`Position::NONE`] while it is a unit's own write.
    pub position: Position,
    /// Where lookup goes on, in order.
    pub parents: Vec<ObjectId>,
    /// Its own slots.
    pub slots: BTreeMap<String, Slot>,
}

/// What one slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Data.
    Value(Json),
    /// Behaviour: a message to this slot runs that component's code with the original receiver.
    Method(MethodSlot),
}

/// Where a method slot's behaviour comes from. As text: `component@requirement#selector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodSlot {
    /// The component that serves it.
    pub component: ComponentId,
    /// The versions of it that may: a semver requirement. Not checked here.
    pub requirement: String,
    /// The selector that it is called with.
    pub selector: String,
}

/// A slot reached by delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The object that has the slot: the receiver or an ancestor.
    pub holder: ObjectId,
    /// What it holds.
    pub slot: Slot,
}

impl Object {
    /// Bytes that count against the object's bound: slot names, values, parents.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.slots.iter().map(|(name, slot)| name.len() + slot.bytes()).sum();
        slots + self.parents.len() * size_of::<ObjectId>()
    }

    /// The own value slot of that name; none for a method slot.
    pub fn value(&self, slot: &str) -> Option<&Json> {
        match self.slots.get(slot) {
            Some(Slot::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// The own method slot of that name; none for a value slot.
    pub fn method(&self, slot: &str) -> Option<&MethodSlot> {
        match self.slots.get(slot) {
            Some(Slot::Method(method)) => Some(method),
            _ => None,
        }
    }
}

impl Slot {
    /// Bytes that count against the object's bound.
    pub fn bytes(&self) -> usize {
        match self {
            Slot::Value(value) => value.as_str().len(),
            Slot::Method(method) => {
                method.component.as_str().len() + method.requirement.len() + method.selector.len() + 2
            }
        }
    }

    /// Whether it is a method slot.
    pub fn is_method(&self) -> bool {
        matches!(self, Slot::Method(_))
    }
}

impl fmt::Display for MethodSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.component, self.requirement, self.selector)
    }
}

impl FromStr for MethodSlot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<MethodSlot, NameError> {
        let malformed = || NameError::new("method slot", text, "component@requirement#selector");
        let (component, rest) = text.split_once('@').ok_or_else(malformed)?;
        let (requirement, selector) = rest.split_once('#').ok_or_else(malformed)?;
        let component = ComponentId::new(component)?;
        if requirement.is_empty() || check_slot_name(selector).is_err() {
            return Err(malformed());
        }
        Ok(MethodSlot { component, requirement: requirement.into(), selector: selector.into() })
    }
}

impl From<MethodSlot> for String {
    fn from(slot: MethodSlot) -> String {
        slot.to_string()
    }
}

impl TryFrom<String> for MethodSlot {
    type Error = NameError;

    fn try_from(text: String) -> Result<MethodSlot, NameError> {
        text.parse()
    }
}

/// A slot name is 1 to 128 bytes without control characters.
pub(crate) fn check_slot_name(name: &str) -> Result<(), NameError> {
    let fits = (1..=limit::SLOT_NAME_BYTES_MAX).contains(&name.len());
    if fits && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(NameError::new("slot name", name, "1 to 128 bytes without control characters"))
}

/// The bounds of one object.
pub(crate) fn check_bounds(object: &Object, bytes: usize) -> Result<(), Overflow> {
    Overflow::check("slots of one object", object.slots.len(), limit::SLOTS_PER_OBJECT_MAX)?;
    Overflow::check("parents of one object", object.parents.len(), limit::PARENTS_PER_OBJECT_MAX)?;
    Overflow::check("bytes of one object", bytes, limit::OBJECT_BYTES_MAX)
}
