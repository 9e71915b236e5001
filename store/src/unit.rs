//! One unit of work: a snapshot, what was read from it, and what will be written.
//!
//! ```text
//! begin    the newest decided position becomes the snapshot      nothing is locked
//!          or, for units that will write, the newest voted one
//! read     own writes, what is not yet durable, the tables        recorded, and so is what was absent
//! write    into memory only                                       bounds are checked here
//! decide   Store::decide: everything read must still be so        all writes appear together, or none
//! ```
//! Serializable over objects, names and every hop of a lookup, absent ones included. Lists, histories and vector
//! searches see the snapshot and own writes, and are not recorded.
//! Reads are short transactions that pick rows by position, so a unit may live for minutes and pins no pages.
//! Never here: durability, clocks, who may do what.

mod generation;
mod layer;
mod name;
mod record;
mod vector;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::error::{Overflow, ReadError, WriteError};
use crate::id::{ComponentId, ObjectId, ObjectName, Position, Revision};
use crate::limit;
use crate::object::{Found, Object, Slot, check_bounds, check_slot_name};
use crate::order::{Known, Order};
use crate::pin::Pin;
use crate::shared::Shared;
use crate::tables::{self, OBJECTS};
use crate::vectors::CollectionKey;

pub use layer::Savepoint;
pub(crate) use layer::{Layer, Layers};
pub(crate) use name::{list_names, list_names_of, overlay as overlay_names};

/// One unit of work; see the module. Dropping it forgets its writes.
pub struct Unit {
    shared: Arc<Shared>,
    pin: Pin,
    /// The order's era it began in; none for a unit that began on what is decided.
    era: Option<u64>,
    seen: Seen,
    layers: Layers,
}

/// What a unit read, each with the commit that made it so; [`Position::NONE`] for what was absent.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) objects: HashMap<ObjectId, Option<Arc<Object>>>,
    pub(crate) names: HashMap<ObjectName, (Option<ObjectId>, Position)>,
    pub(crate) vectors: HashMap<(CollectionKey, ObjectId), Position>,
    /// Objects that must still exist, whatever their state.
    pub(crate) existing: HashSet<ObjectId>,
    bytes: usize,
}

/// How much a unit has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Objects made or changed.
    pub objects: usize,
    /// Names bound or unbound.
    pub names: usize,
    /// Vectors added or removed.
    pub vectors: usize,
    /// Posts to be sent.
    pub posts: usize,
    /// Posts taken from the outbox.
    pub taken: usize,
    /// Audit rows.
    pub audits: usize,
    /// Changes to system records.
    pub records: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

impl Unit {
    pub(crate) fn new(shared: Arc<Shared>, pin: Pin, era: Option<u64>) -> Unit {
        Unit { shared, pin, era, seen: Seen::default(), layers: Layers::new() }
    }

    pub(crate) fn era(&self) -> Option<u64> {
        self.era
    }

    /// The position whose state this unit sees.
    pub fn snapshot(&self) -> Position {
        self.pin.position()
    }

    /// The object with its own writes; none when there is no such object. Recorded either way.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] when the unit has read more than it may, [`ReadError::Failed`].
    pub fn object(&mut self, id: ObjectId) -> Result<Option<Arc<Object>>, ReadError> {
        if let Some(own) = self.layers.object(id) {
            return Ok(Some(Arc::clone(own)));
        }
        self.committed(id)
    }

    /// The slot as a message would find it: own slots, then parents depth first, left to right, cycles once.
    ///
    /// Every object visited is recorded, so a unit that relied on a slot being nowhere conflicts with whoever
    /// adds it to any of them.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`] for an unknown receiver, [`ReadError::TooLarge`] past 1,024 ancestors.
    pub fn lookup(&mut self, id: ObjectId, slot: &str) -> Result<Option<Found>, ReadError> {
        let mut visited = HashSet::new();
        let mut waiting = vec![id];
        while let Some(next) = waiting.pop() {
            if !visited.insert(next) {
                continue;
            }
            Overflow::check("objects visited by one lookup", visited.len(), limit::ANCESTORS_MAX)?;
            let Some(object) = self.object(next)? else {
                if next == id {
                    return Err(ReadError::NoSuchObject(id));
                }
                continue;
            };
            if let Some(slot) = object.slots.get(slot) {
                return Ok(Some(Found { holder: next, slot: slot.clone() }));
            }
            waiting.extend(object.parents.iter().rev());
        }
        Ok(None)
    }

    /// Makes an empty object.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 32 parents; [`ReadError::NoSuchObject`] for a parent that does not exist;
    /// [`WriteError::Generation`] below the owner's generation in force.
    pub fn create(
        &mut self,
        owner: ComponentId,
        generation: u32,
        parents: Vec<ObjectId>,
    ) -> Result<ObjectId, WriteError> {
        let id = ObjectId::random();
        self.check_generation(&owner, generation)?;
        self.check_parents(&parents)?;
        self.put(Object {
            id,
            owner,
            generation,
            revision: Revision::NONE.next(),
            position: Position::NONE,
            parents,
            slots: Default::default(),
        })?;
        Ok(id)
    }

    /// Sets an own slot, making it when it is absent.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`]; [`WriteError::Invalid`] for the slot's name; [`WriteError::TooLarge`].
    pub fn set_slot(&mut self, id: ObjectId, slot: &str, content: Slot) -> Result<(), WriteError> {
        check_slot_name(slot)?;
        let mut object = self.writable(id)?;
        object.slots.insert(slot.into(), content);
        self.put(object)
    }

    /// Removes an own slot; answers whether it was there. Without it nothing is written.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`].
    pub fn remove_slot(&mut self, id: ObjectId, slot: &str) -> Result<bool, WriteError> {
        let mut object = self.writable(id)?;
        if object.slots.remove(slot).is_none() {
            return Ok(false);
        }
        self.put(object)?;
        Ok(true)
    }

    /// Replaces the parents. A cycle is allowed: lookup visits every object once.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`] for the object or a parent; [`WriteError::TooLarge`] past 32.
    pub fn set_parents(&mut self, id: ObjectId, parents: Vec<ObjectId>) -> Result<(), WriteError> {
        let mut object = self.writable(id)?;
        self.check_parents(&parents)?;
        object.parents = parents;
        self.put(object)
    }

    /// Gives the object to an owner, in a generation of the owner's schema.
    ///
    /// # Errors
    /// [`ReadError::NoSuchObject`]; [`WriteError::Generation`] below the owner's generation in force.
    pub fn set_owner_generation(
        &mut self,
        id: ObjectId,
        owner: ComponentId,
        generation: u32,
    ) -> Result<(), WriteError> {
        self.check_generation(&owner, generation)?;
        let mut object = self.writable(id)?;
        object.owner = owner;
        object.generation = generation;
        self.put(object)
    }

    /// The committed states as of the snapshot, newest first, at most `limit` (capped at 100).
    ///
    /// # Errors
    /// [`ReadError::Failed`]. An unknown object has no states.
    pub fn history(&mut self, id: ObjectId, limit: usize) -> Result<Vec<Arc<Object>>, ReadError> {
        let (at, limit) = (self.snapshot(), limit.min(limit::HISTORY_ROWS_MAX));
        let mut states = self.pending(|order| order.history(id, at));
        states.extend(self.shared.read_history(id, at, limit)?);
        self.shared.past.check(at)?;
        // What became durable meanwhile is in both; a raise may stand between pending states.
        states.sort_by_key(|state| std::cmp::Reverse(state.position));
        states.dedup_by_key(|state| state.position);
        states.truncate(limit);
        Ok(self.shared.past.within_floor(states))
    }

    /// A place to return to. Savepoints nest.
    pub fn savepoint(&mut self) -> Savepoint {
        self.layers.savepoint()
    }

    /// Ends the savepoint and those above it; their writes stay.
    ///
    /// # Panics
    /// When one below it was ended before: a mistake of the host.
    pub fn keep(&mut self, savepoint: Savepoint) {
        self.layers.keep(&savepoint);
    }

    /// Ends the savepoint and those above it; their writes vanish. What was read stays recorded: whoever decided
    /// to discard may have decided so because of it.
    ///
    /// # Panics
    /// When one below it was ended before: a mistake of the host.
    pub fn discard(&mut self, savepoint: Savepoint) {
        self.layers.discard(&savepoint);
    }

    /// Whether nothing is to be written.
    pub fn is_unwritten(&self) -> bool {
        self.layers.is_empty()
    }

    /// How much is to be written. What several open savepoints wrote counts once for each.
    pub fn writes(&self) -> WriteCounts {
        let count = |of: fn(&Layer) -> usize| self.layers.count(of);
        WriteCounts {
            objects: count(|layer| layer.objects.len()),
            names: count(|layer| layer.names.len()),
            vectors: count(|layer| layer.vectors.len()),
            posts: count(|layer| layer.posts.len()),
            taken: count(|layer| layer.taken.len()),
            audits: count(|layer| layer.facts.len()),
            records: count(|layer| layer.records.len()),
            bytes: count(|layer| layer.bytes),
        }
    }

    pub(crate) fn into_parts(self) -> (Seen, Layer) {
        (self.seen, self.layers.flatten())
    }

    /// What the order says to a unit that began on it; nothing once all of the snapshot is durable.
    ///
    /// To be asked before the tables: what leaves the order in between is there.
    fn pending<T: Default>(&self, ask: impl FnOnce(&Order) -> T) -> T {
        if self.era.is_none() || self.shared.position() >= self.snapshot() {
            return T::default();
        }
        ask(&self.shared.order.read())
    }

    /// What the order knows of an object's state as of the snapshot, and whether it is durable.
    fn known(&self, id: ObjectId) -> Option<(Arc<Object>, bool)> {
        // What is decided is in the tables too: whoever began on that does not wait for those who vote.
        let order = match self.era {
            Some(_) => self.shared.order.read(),
            None => self.shared.order.try_read()?,
        };
        match order.state(id, self.snapshot())? {
            Known::Durable(state) => Some((Arc::clone(state), true)),
            Known::Pending(state) => Some((Arc::clone(state), false)),
        }
    }

    /// The committed state as of the snapshot, recorded.
    fn committed(&mut self, id: ObjectId) -> Result<Option<Arc<Object>>, ReadError> {
        if let Some(seen) = self.seen.objects.get(&id) {
            return Ok(seen.clone());
        }
        let at = self.snapshot();
        let found = match self.known(id) {
            Some((state, true)) => {
                self.shared.past.check(at)?;
                Some(state)
            }
            Some((pending, false)) => Some(self.shared.raised_over(pending, at)?),
            None => {
                let found = self.shared.read_object(id, at)?;
                self.shared.past.check(at)?;
                found.map(Arc::new)
            }
        };
        self.seen.record(found.as_ref().map_or(0, |object| object.bytes()))?;
        self.seen.objects.insert(id, found.clone());
        Ok(found)
    }

    /// An absent object is recorded; of a present one only that it must not be forgotten: another state of it is no
    /// reason for a conflict.
    fn check_exists(&mut self, id: ObjectId) -> Result<(), ReadError> {
        let is_known =
            self.layers.object(id).is_some() || matches!(self.seen.objects.get(&id), Some(Some(_)));
        let is_known = is_known || self.seen.existing.contains(&id);
        if is_known {
            return Ok(());
        }
        let at = self.snapshot();
        self.seen.record(0)?;
        if self.known(id).is_some() {
            self.seen.existing.insert(id);
            return Ok(());
        }
        let position =
            self.shared.read_at(OBJECTS, at, |objects| tables::read_object_position(objects, id, at))?;
        if position != Position::NONE {
            self.seen.existing.insert(id);
            return Ok(());
        }
        self.seen.objects.insert(id, None);
        Err(ReadError::NoSuchObject(id))
    }

    fn check_parents(&mut self, parents: &[ObjectId]) -> Result<(), WriteError> {
        Overflow::check("parents of one object", parents.len(), limit::PARENTS_PER_OBJECT_MAX)?;
        Ok(parents.iter().try_for_each(|parent| self.check_exists(*parent))?)
    }

    /// A copy to change, with the revision it will have.
    fn writable(&mut self, id: ObjectId) -> Result<Object, ReadError> {
        if let Some(own) = self.layers.object(id) {
            return Ok(Object::clone(own));
        }
        let committed = self.committed(id)?.ok_or(ReadError::NoSuchObject(id))?;
        let revision = committed.revision.next();
        Ok(Object { revision, position: Position::NONE, ..Object::clone(&committed) })
    }

    fn put(&mut self, object: Object) -> Result<(), WriteError> {
        check_bounds(&object, object.bytes())?;
        Ok(self.layers.put_object(object)?)
    }
}

impl Seen {
    /// Counts one more read.
    fn record(&mut self, bytes: usize) -> Result<(), Overflow> {
        let reads = self.objects.len() + self.names.len() + self.vectors.len() + self.existing.len();
        Overflow::check("reads of one unit", reads + 1, limit::UNIT_READS_MAX)?;
        Overflow::check("bytes read by one unit", self.bytes + bytes, limit::UNIT_READ_BYTES_MAX)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("snapshot", &self.snapshot())
            .field("writes", &self.writes())
            .finish_non_exhaustive()
    }
}
