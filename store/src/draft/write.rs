//! What a draft changes: states in memory first, then in bounded transactions of the copy, all at one position.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::audit::{self, Fact};
use crate::commit::write_name;
use crate::error::{Failure, NameError, Overflow, ReadError, WriteError};
use crate::generation::{self, Generations};
use crate::history;
use crate::id::{ComponentId, Digest, ObjectId, ObjectName, Position, Revision};
use crate::json::Json;
use crate::limit;
use crate::object::{Object, Slot, check_bounds, check_slot_name};
use crate::scan::Scan as _;
use crate::tables::{self, META_OBJECT_ROWS, META_OBJECTS, META_POSITION, OWNED, SEATS, Tables, read_meta};

use super::{Draft, DraftRaise, Pending};

impl Draft {
    /// Makes an empty object, in the generation that its owner is being raised to, or else is in, or in 1. Its identity
    /// follows from the store and the order of making, so a rehearsal makes the same.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past a rehearsal's memory, [`ReadError::Failed`].
    pub fn create(&mut self, owner: ComponentId) -> Result<ObjectId, WriteError> {
        let generation = self.generation_for(&owner).map_err(ReadError::from)?;
        let id = self.next_id()?;
        let (revision, position) = (Revision::NONE.next(), self.position());
        let (parents, slots) = (Vec::new(), Default::default());
        self.put(Object { id, owner, generation, revision, position, parents, slots })?;
        Ok(id)
    }

    /// Whether a component owns objects.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn is_owner(&self, component: &ComponentId) -> Result<bool, Failure> {
        let all = (component.as_str(), 0)..=(component.as_str(), u128::MAX);
        self.read(|txn| Ok(txn.open_table(OWNED)?.rows_in(all)?.next().transpose()?.is_some()))
    }

    /// Whether a name is that of the root object of a component that serves.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn names_root(&self, name: &ObjectName) -> Result<bool, Failure> {
        self.read(|txn| Ok(txn.open_table(SEATS)?.get(name.as_str())?.is_some()))
    }

    /// Sets a value slot, making it when it is absent. The same JSON value, however it is spelt, changes nothing.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`]; [`WriteError::Invalid`] for the slot's name, or for that of a method slot;
    /// [`WriteError::TooLarge`] past an object's bounds or a rehearsal's memory.
    pub fn set_value(&mut self, id: ObjectId, slot: &str, value: Json) -> Result<(), WriteError> {
        check_slot_name(slot)?;
        self.change(id, |object| {
            check_value_slot(object, slot)?;
            let is_same = object.value(slot).is_some_and(|now| now.to_value() == value.to_value());
            if !is_same {
                object.slots.insert(slot.into(), Slot::Value(value));
            }
            Ok(())
        })
    }

    /// Removes a value slot; answers whether it was there.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`]; [`WriteError::Invalid`] for a method slot.
    pub fn remove_value(&mut self, id: ObjectId, slot: &str) -> Result<bool, WriteError> {
        let mut was_there = false;
        self.change(id, |object| {
            check_value_slot(object, slot)?;
            was_there = object.slots.remove(slot).is_some();
            Ok(())
        })?;
        Ok(was_there)
    }

    /// Replaces the parents. A cycle is allowed: lookup visits every object once.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`] for the object or a parent; [`WriteError::TooLarge`] past 32.
    pub fn set_parents(&mut self, id: ObjectId, parents: Vec<ObjectId>) -> Result<(), WriteError> {
        for parent in &parents {
            self.existing(*parent)?;
        }
        self.change(id, |object| {
            object.parents = parents;
            Ok(())
        })
    }

    /// Says in which generation of its owner's schema the object is now: sealing the draft puts it in force, and takes
    /// no draft that leaves another object of that owner behind.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`]; [`WriteError::Generation`] below the one that it is in;
    /// [`WriteError::GenerationUnknown`] above all that [`DraftOptions::generation_of`](super::DraftOptions) finds.
    pub fn set_generation(&mut self, id: ObjectId, generation: u32) -> Result<(), WriteError> {
        self.check_known(id, generation)?;
        let now = self.existing(id)?;
        let (component, in_force) = (&now.owner, now.generation);
        match generation.cmp(&in_force) {
            Ordering::Less => {
                let component = component.clone();
                return Err(WriteError::Generation { component, found: generation, in_force });
            }
            Ordering::Equal => return Ok(()),
            Ordering::Greater => self.note_raise(component, in_force, generation),
        }
        self.put(Object { generation, ..Object::clone(&now) })
    }

    /// Gives an object a name; the same pair again changes nothing.
    ///
    /// # Errors
    /// [`WriteError::NameTaken`] by another object; [`ReadError::NoSuchObject`]; [`WriteError::TooLarge`] past 65,536
    /// names bound or unbound.
    pub fn bind(&mut self, name: &ObjectName, id: ObjectId) -> Result<(), WriteError> {
        self.existing(id)?;
        match self.find(name).map_err(ReadError::from)? {
            Some(by) if by == id => Ok(()),
            Some(by) => Err(WriteError::NameTaken { name: name.clone(), by }),
            None => self.put_name(name, Some(id)),
        }
    }

    /// Takes a name away; answers the object that had it.
    ///
    /// # Errors
    /// As [`Draft::bind`].
    pub fn unbind(&mut self, name: &ObjectName) -> Result<Option<ObjectId>, WriteError> {
        let id = self.find(name).map_err(ReadError::from)?;
        if id.is_some() {
            self.put_name(name, None)?;
        }
        Ok(id)
    }

    /// Writes the states that are not in the copy yet, in one transaction of it.
    pub(super) fn write_pending(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let position = self.position();
        let txn = self.database()?.write()?;
        let mut tables = Tables::of(&txn);
        for pending in self.pending.values() {
            write_state(&mut tables, &self.generations, pending, position)?;
        }
        tables.count_stored()?;
        drop(tables);
        fail::fail_point!("store::draft-before-write");
        txn.commit()?;
        fail::fail_point!("store::draft-written");
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Writes what makes the draft a commit; its states are in the copy.
    pub(super) fn write_rest(
        &mut self,
        fact: &Fact,
        raises: &[DraftRaise],
        evolver: Digest,
    ) -> Result<(), Failure> {
        let position = self.position();
        let txn = self.database()?.write()?;
        let mut tables = Tables::of(&txn);
        for (name, id) in &self.names {
            write_name(&mut tables, name, *id, position)?;
        }
        tables.meta.open()?.insert(META_POSITION, position.get())?;
        history::note_group(&mut tables, position, self.at_ms)?;
        self.write_raises(&mut tables, raises, evolver)?;
        audit::write(&mut tables, fact, position, self.at_ms)?;
        tables.count_stored()?;
        drop(tables);
        Ok(txn.commit()?)
    }

    fn check_known(&mut self, id: ObjectId, generation: u32) -> Result<(), WriteError> {
        let object = self.existing(id)?;
        if self.generation_of.is_none() || generation <= object.generation {
            return Ok(());
        }
        let component = object.owner.clone();
        let known = self.known_generation(&component).map_err(ReadError::from)?;
        match known.is_some_and(|known| generation <= known) {
            true => Ok(()),
            false => Err(WriteError::GenerationUnknown { component, found: generation, known }),
        }
    }

    fn change(
        &mut self,
        id: ObjectId,
        edit: impl FnOnce(&mut Object) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let now = self.existing(id)?;
        let mut next = Object::clone(&now);
        edit(&mut next)?;
        if is_same(&now, &next) { Ok(()) } else { self.put(next) }
    }

    fn put(&mut self, mut next: Object) -> Result<(), WriteError> {
        let bytes = next.bytes();
        check_bounds(&next, bytes)?;
        if self.is_rehearsal {
            let what = "bytes of states that a rehearsal keeps in memory";
            Overflow::check(what, self.bytes + bytes, limit::REHEARSAL_BYTES_MAX)?;
        }
        let before = self.original(next.id).map_err(ReadError::from)?;
        next.revision = before.as_ref().map_or(Revision::NONE, |before| before.revision).next();
        next.position = self.position();
        // States before are kept with those after, and are about as large.
        self.pending_bytes += 2 * bytes;
        self.bytes += bytes;
        self.pending.insert(next.id, Pending { before, after: Arc::new(next) });
        let is_full =
            self.pending_bytes >= limit::DRAFT_STEP_BYTES || self.pending.len() >= limit::DRAFT_STEP_OBJECTS;
        if is_full { Ok(self.write_pending().map_err(ReadError::from)?) } else { Ok(()) }
    }

    fn put_name(&mut self, name: &ObjectName, id: Option<ObjectId>) -> Result<(), WriteError> {
        let more = usize::from(!self.names.contains_key(name));
        let what = "names bound or unbound by one draft";
        Overflow::check(what, self.names.len() + more, limit::DRAFT_NAMES_MAX)?;
        if let Some(Some(before)) = self.names.insert(name.clone(), id)
            && let Some(names) = self.bound.get_mut(&before)
        {
            names.remove(name);
        }
        if let Some(id) = id {
            self.bound.entry(id).or_default().insert(name.clone());
        }
        Ok(())
    }

    fn next_id(&mut self) -> Result<ObjectId, ReadError> {
        loop {
            self.made += 1;
            let text = format!("{} {} {}", self.store, self.position(), self.made);
            let hash = blake3::hash(text.as_bytes());
            let mut bits = [0; 16];
            bits.copy_from_slice(&hash.as_bytes()[..16]);
            let id = ObjectId::from_bits(u128::from_le_bytes(bits));
            if self.object(id)?.is_none() {
                return Ok(id);
            }
        }
    }
}

/// Behaviour follows from components, not from a script over data.
fn check_value_slot(object: &Object, slot: &str) -> Result<(), NameError> {
    match object.method(slot) {
        Some(_) => Err(NameError::new("slot name", slot, "one that no method slot of the object has")),
        None => Ok(()),
    }
}

/// Whether two states differ in nothing but their place in history.
fn is_same(one: &Object, other: &Object) -> bool {
    one.owner == other.owner
        && one.generation == other.generation
        && one.parents == other.parents
        && one.slots == other.slots
}

/// Writes a state, or takes back one that was written earlier when nothing of the change is left.
fn write_state(
    tables: &mut Tables<'_>,
    generations: &Generations,
    Pending { before, after }: &Pending,
    position: Position,
) -> Result<(), Failure> {
    let id = after.id.to_bits();
    let key = (id, position.get());
    if before.as_ref().is_some_and(|before| is_same(before, after)) {
        if tables.take_state(key)? {
            tables.changes.open()?.remove((position.get(), id))?;
            let rows = read_meta(tables.meta.open()?, META_OBJECT_ROWS)?;
            tables.meta.open()?.insert(META_OBJECT_ROWS, rows - 1)?;
        }
        return Ok(());
    }
    generation::drop_outdated(tables, generations, after.id)?;
    let row = tables::encode_object(after)?;
    let is_new_row = tables.put_state(key, &row)?;
    let replaced = before.as_ref().map_or(Position::NONE, |before| before.position);
    tables.changes.open()?.insert((position.get(), id), replaced.get())?;
    if is_new_row {
        tables::add_to_meta(tables, META_OBJECT_ROWS, 1)?;
        if before.is_none() {
            tables::add_to_meta(tables, META_OBJECTS, 1)?;
            tables.owned.open()?.insert((after.owner.as_str(), id), ())?;
        }
    }
    Ok(())
}
