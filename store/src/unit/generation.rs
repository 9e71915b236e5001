//! Evolving: copies in a generation that is not in force yet, and the raise that puts it in force.

use std::collections::BTreeMap;

use crate::error::{NameError, Overflow, ReadError, WriteError};
use crate::id::{ComponentId, Digest, ObjectId, Position};
use crate::json::Json;
use crate::limit;
use crate::object::{Object, Slot, check_bounds, check_slot_name};
use crate::record::RecordWrite;

use super::Unit;

impl Unit {
    /// Keeps an evolved copy of the state that an object has since `base`: these value slots, and the parents and
    /// method slots of that state. Nobody reads it before [`Unit::raise_generation`] puts its generation in force.
    ///
    /// Left out without an error when the object has changed since `base`; then `Store::unevolved` lists it again.
    /// Not a read of the object: what changes beside it is no conflict.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`] when `base` is not the position of a state; [`WriteError::Generation`] when
    /// the generation is that state's; [`WriteError::Invalid`] for a slot's name, or for the name of a
    /// method slot; [`WriteError::TooLarge`] past an object's bounds, 4,096 copies or the unit's bytes.
    pub fn put_shadow(
        &mut self,
        object: ObjectId,
        base: Position,
        generation: u32,
        slots: BTreeMap<String, Json>,
    ) -> Result<(), WriteError> {
        let state = self.shared.read_object(object, base).map_err(ReadError::from)?;
        let state = state.filter(|state| state.position == base).ok_or(ReadError::NoSuchObject(object))?;
        let shadow = evolved(&state, generation, slots)?;
        let bytes = shadow.bytes();
        let record = RecordWrite::Shadow { base, state: Box::new(shadow) };
        Ok(self.layers.put_record(record, bytes)?)
    }

    /// Replaces an object's value slots by evolved ones, in a generation that is not its own; an ordinary write, for what
    /// changes in the commit of the raise itself.
    ///
    /// # Errors
    /// As [`Unit::put_shadow`].
    pub fn evolve(
        &mut self,
        object: ObjectId,
        generation: u32,
        slots: BTreeMap<String, Json>,
    ) -> Result<(), WriteError> {
        let before = self.writable(object)?;
        let (revision, position) = (before.revision, before.position);
        self.put(Object { revision, position, ..evolved(&before, generation, slots)? })
    }

    /// Puts a generation in force from this unit's commit on: every object of the component that has a copy in it
    /// has that state from there on. What the unit writes itself must be in that generation already. With `to` below
    /// `from`, an earlier generation comes back: what is above it needs a copy then.
    ///
    /// Decided by [`CommitError::Unevolved`](crate::CommitError::Unevolved) when an object on the way has no copy, and
    /// as a conflict when `from` is not what is in force. The audit row `generation.raised`, or `generation.lowered`,
    /// names the evolver. The deciding commit looks once at every object of the component and writes none.
    ///
    /// # Errors
    /// [`WriteError::Generation`] when `to` is `from`, or below it and nothing was ever raised; [`WriteError::TooLarge`]
    /// past the unit's records.
    pub fn raise_generation(
        &mut self,
        component: &ComponentId,
        from: u32,
        to: u32,
        evolver: Digest,
    ) -> Result<(), WriteError> {
        let was_raised = || self.shared.generations_at(self.snapshot()).in_force(component, self.snapshot());
        if to == from || (to < from && was_raised().is_none()) {
            return Err(WriteError::Generation { component: component.clone(), found: to, in_force: from });
        }
        let record = RecordWrite::RaiseGeneration { component: component.clone(), from, to, evolver };
        Ok(self.layers.put_record(record, limit::COMPONENT_BYTES_MAX + 256)?)
    }

    /// Nothing is made in a generation below the one that this unit puts in force, else that its snapshot has in force.
    pub(super) fn check_generation(&self, owner: &ComponentId, generation: u32) -> Result<(), WriteError> {
        let before = || self.shared.generations_at(self.snapshot()).in_force(owner, self.snapshot());
        match self.layers.raised_to(owner).or_else(before) {
            Some(in_force) if generation < in_force => {
                Err(WriteError::Generation { component: owner.clone(), found: generation, in_force })
            }
            _ => Ok(()),
        }
    }

    /// Moves these copies, which are in force, among the ordinary rows in this unit's commit.
    pub(crate) fn settle_shadows(&mut self, keys: Vec<crate::tables::ShadowKey>) -> Result<(), Overflow> {
        let bytes = keys.len() * size_of::<crate::tables::ShadowKey>();
        self.layers.put_record(RecordWrite::SettleShadows { keys }, bytes)
    }

    /// Deletes those of these copies that are not in force in this unit's commit.
    pub(crate) fn drop_shadows(&mut self, keys: Vec<crate::tables::ShadowKey>) -> Result<(), Overflow> {
        let bytes = keys.len() * size_of::<crate::tables::ShadowKey>();
        self.layers.put_record(RecordWrite::DropShadows { keys }, bytes)
    }
}

/// The state with other value slots, in another generation.
fn evolved(state: &Object, generation: u32, slots: BTreeMap<String, Json>) -> Result<Object, WriteError> {
    if generation == state.generation {
        let (component, in_force) = (state.owner.clone(), state.generation);
        return Err(WriteError::Generation { component, found: generation, in_force });
    }
    let mut shadow =
        Object { generation, revision: state.revision.next(), position: Position::NONE, ..state.clone() };
    shadow.slots.retain(|_, slot| slot.is_method());
    for (name, value) in slots {
        check_slot_name(&name)?;
        if shadow.slots.contains_key(&name) {
            return Err(
                NameError::new("slot name", &name, "one that no method slot of the object has").into()
            );
        }
        shadow.slots.insert(name, Slot::Value(value));
    }
    check_bounds(&shadow, shadow.bytes())?;
    Ok(shadow)
}
