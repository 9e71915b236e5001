//! Search by meaning: named collections of vectors that commit together with the objects they describe.
//!
//! redb is the authority: an index holds nothing that redb cannot rebuild, follows decided commits in order, and
//! answers as of any position since its floor.
//! Never here: units, transactions, component rights.

mod archived;
mod candidate;
mod flat;
mod form;
mod layered;
mod opening;
mod room;
mod rows;
mod sealed;
mod sealing;
mod segment;
mod tuning;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use segment::Segment;
use serde::Serialize;
use telos_graph::Engine;

use crate::error::VectorError;
use crate::id::{ComponentId, ObjectId, ObjectName, Position};
use crate::json::Json;
use crate::limit;

pub(crate) use archived::{Archived, Leave, Stored, View};
pub use form::{CollectionForm, Metric, Precision};
pub use layered::IndexShape;
pub(crate) use layered::{Freed, Layered};
pub(crate) use opening::{NoGraph, Opening};
pub(crate) use room::{Growth, Room, bytes, bytes_beside, bytes_of};
pub(crate) use sealed::{Head, Sealed, Unreadable};
pub(crate) use sealing::Sealing;
pub use telos_graph::Engine as VectorEngine;
pub(crate) use work::{Built, Outcome, Work};

/// One hit of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// The object whose vector it is.
    pub object: ObjectId,
    /// How far it is by the collection's metric.
    pub distance: f32,
    /// The metadata given at upsert.
    pub metadata: Json,
}

/// One collection, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionShape {
    /// The component whose collection it is.
    pub owner: ComponentId,
    /// Its name.
    pub collection: String,
    /// How its vectors are compared and kept.
    #[serde(flatten)]
    pub form: CollectionForm,
    /// Its index.
    #[serde(flatten)]
    pub index: IndexShape,
}

/// One collection: components never meet in one, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CollectionKey {
    pub(crate) owner: ComponentId,
    pub(crate) name: ObjectName,
}

/// A vector as it was given, and how it is compared.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) components: Arc<[f32]>,
    pub(crate) metadata: Json,
}

/// What a search asks an index.
pub(crate) struct Query<'a> {
    /// Where the index looks, by the collection's metric.
    pub(crate) place: &'a [f32],
    pub(crate) k: usize,
    /// Near rows that a search of a graph keeps in view; none leaves that to the index.
    pub(crate) effort: Option<usize>,
    pub(crate) at: Position,
    /// Top-level metadata fields that must have exactly these values.
    pub(crate) filter: &'a [(String, serde_json::Value)],
    /// Objects that the asking unit wrote itself and answers from there.
    pub(crate) hidden: &'a dyn Fn(ObjectId) -> bool,
}

/// An index over one collection: exact, or approximate with the same answers within its recall.
pub(crate) trait VectorIndex: Send + Sync {
    /// Adds an object's vector as of a position, or replaces the one it has. `components`: the collection's dimension.
    fn upsert(&mut self, at: Position, object: ObjectId, components: &[f32], metadata: &Json);

    /// Removes an object's vector as of a position.
    fn remove(&mut self, at: Position, object: ObjectId);

    /// The nearest, closest first, ties by object.
    fn search(&self, query: &Query<'_>) -> Vec<Neighbor>;

    /// The commit that added the vector an object has as of a position.
    fn added(&self, object: ObjectId, at: Position) -> Option<Position>;

    /// Drops what no snapshot at or after `oldest` can see; answers the newest removal it dropped.
    fn compact(&mut self, oldest: Position) -> Option<Position>;

    /// Objects that have a vector now, each with the bytes that it counts for.
    fn live(&self) -> Vec<(ObjectId, u64)>;

    /// The bytes that the vector an object has now counts for; 0 without one.
    fn bytes(&self, object: ObjectId) -> u64;

    /// Drops every vector that these objects have or ever had, for old snapshots too.
    fn forget(&mut self, objects: &HashSet<ObjectId>);

    /// Whether it holds anything of an object, dated or not.
    fn holds(&self, object: ObjectId) -> bool;
}

/// One decided change, in the order of positions.
#[derive(Clone, Debug)]
pub(crate) struct IndexChange {
    pub(crate) position: Position,
    pub(crate) collection: CollectionKey,
    pub(crate) form: CollectionForm,
    pub(crate) object: ObjectId,
    /// None removes.
    pub(crate) vector: Option<Vector>,
}

/// The indexes of all collections.
pub(crate) struct VectorSet {
    collections: BTreeMap<CollectionKey, (CollectionForm, Layered)>,
    /// Nothing is answered from before, whatever the collection.
    floor: Position,
    /// The collection that was worked on last: the ones after it come first.
    worked: Option<CollectionKey>,
    /// Rows that a tail gathers before they get a graph.
    tail_rows_max: usize,
}

impl VectorSet {
    /// An empty set that answers nothing from before `floor`, whose tails gather so many rows.
    pub(crate) fn starting_at(floor: Position, tail_rows_max: usize) -> VectorSet {
        VectorSet { collections: BTreeMap::new(), floor, worked: None, tail_rows_max }
    }

    /// Makes a collection; the same again changes nothing.
    pub(crate) fn declare(&mut self, key: &CollectionKey, form: CollectionForm) -> &mut Layered {
        &mut self
            .collections
            .entry(key.clone())
            .or_insert_with(|| (form, Layered::new(form, self.tail_rows_max)))
            .1
    }

    /// Takes the place of a set that was read before; what is being built of that one is cancelled.
    pub(crate) fn inherit(&mut self, before: &mut VectorSet) {
        for (key, (_, index)) in &mut self.collections {
            if let Some((_, before)) = before.collections.get_mut(key) {
                index.inherit(before);
            }
        }
    }

    /// Applies a decided group, then compacts what it touched, once each: compaction reads every row. Answers whether
    /// there may be something to build. `oldest`: the oldest snapshot that anyone may still search.
    pub(crate) fn apply(&mut self, changes: &[IndexChange], oldest: Position) -> bool {
        changes.iter().for_each(|change| self.apply_one(change));
        let touched: BTreeSet<_> = changes.iter().map(|change| &change.collection).collect();
        let mut may_have_work = false;
        for collection in touched {
            let Some((_, index)) = self.collections.get_mut(collection) else { continue };
            if let Some(dropped) = index.compact(oldest) {
                index.raise_floor(dropped);
            }
            may_have_work |= index.may_have_work();
        }
        may_have_work
    }

    /// Whether there may be something to build, whatever snapshots see.
    pub(crate) fn may_have_work(&self) -> bool {
        self.collections.values().any(|(_, index)| index.may_have_work())
    }

    /// Whether there is something to build.
    pub(crate) fn has_work(&self, oldest: Position) -> bool {
        self.collections.values().any(|(_, index)| index.has_work(oldest))
    }

    /// What to build next, of each collection in turn; it is given back by [`VectorSet::install`] or
    /// [`VectorSet::abandon`].
    pub(crate) fn work(&mut self, engine: Engine, oldest: Position) -> Option<(CollectionKey, Work)> {
        let is_after = |key: &&CollectionKey| self.worked.as_ref().is_none_or(|worked| *key > worked);
        let (after, before): (Vec<_>, Vec<_>) =
            self.collections.keys().cloned().partition(|key| is_after(&key));
        let key = after.into_iter().chain(before).find(|key| self.collections[key].1.has_work(oldest))?;
        let work = self.collections.get_mut(&key)?.1.work(engine, oldest)?;
        self.worked = Some(key.clone());
        Some((key, work))
    }

    /// Copies a part of what is to be built; false when that was all.
    pub(crate) fn gather(&self, key: &CollectionKey, work: &mut Work) -> bool {
        self.collections.get(key).is_some_and(|(_, index)| index.gather(work))
    }

    /// Puts what was built in its place; answers what is to be freed.
    pub(crate) fn install(&mut self, key: &CollectionKey, built: Built) -> Freed {
        let Some((_, index)) = self.collections.get_mut(key) else { return Freed::of(built) };
        let (dropped, freed) = index.install(built);
        index.raise_floor(dropped.unwrap_or_default());
        freed
    }

    /// What of a collection lies on disk, to be searched without this lock.
    pub(crate) fn view(&self, key: &CollectionKey) -> Option<View> {
        Some(self.collections.get(key)?.1.archived()?.view())
    }

    /// Puts an edition in the place of all that lies in it; answers what is to be freed. No snapshot from before `floor`
    /// is open.
    pub(crate) fn publish(
        &mut self,
        key: &CollectionKey,
        archived: Archived,
        floor: Position,
    ) -> Option<Freed> {
        let (_, index) = self.collections.get_mut(key)?;
        Some(index.publish(archived, floor))
    }

    /// Puts an index that was read anew in the place of one; what snapshots from before `at` would see is gone.
    pub(crate) fn replace(
        &mut self,
        key: &CollectionKey,
        form: CollectionForm,
        mut index: Layered,
        at: Position,
    ) -> Option<Layered> {
        if let Some((_, before)) = self.collections.get_mut(key) {
            index.inherit(before);
        }
        index.raise_floor(at);
        self.collections.insert(key.clone(), (form, index)).map(|(_, before)| before)
    }

    /// The edition that a collection rests on.
    pub(crate) fn edition(&self, key: &CollectionKey) -> Option<u64> {
        Some(self.collections.get(key)?.1.archived()?.number())
    }

    /// An edition that is to be given up, and why.
    pub(crate) fn to_leave(&self) -> Option<(CollectionKey, u64, Leave)> {
        self.collections.iter().find_map(|(key, (_, index))| {
            let archived = index.archived()?;
            Some((key.clone(), archived.number(), archived.to_leave()?))
        })
    }

    /// Puts an index that was read in the place of an empty one.
    pub(crate) fn put(&mut self, key: CollectionKey, form: CollectionForm, index: Layered) {
        self.collections.insert(key, (form, index));
    }

    /// An empty index for a collection of a form.
    pub(crate) fn empty_index(&self, form: CollectionForm) -> Layered {
        Layered::new(form, self.tail_rows_max)
    }

    /// Whether a segment is to be written down.
    pub(crate) fn has_unsealed(&self) -> bool {
        self.collections.values().any(|(_, index)| index.unsealed().is_some())
    }

    /// The next segment to be written down.
    pub(crate) fn seal(&self, engine: Engine) -> Option<Sealing> {
        self.collections.iter().find_map(|(key, (form, index))| {
            let head = Head::new(key, *form, engine.version().to_owned());
            Sealing::of(key, head, index.unsealed()?)
        })
    }

    /// Copies a part of it to the bytes of a file; false when that was all. None when rows were erased meanwhile.
    pub(crate) fn copy(&self, sealing: &mut Sealing, bytes: &mut Vec<u8>) -> Option<bool> {
        let segment = self.collections.get(&sealing.key)?.1.segment(sealing.number)?;
        sealing.is_of(segment).then(|| sealing.copy(segment, bytes))
    }

    /// A segment was written down in a file, or could not be. Answers whether the file is of use.
    pub(crate) fn end_sealing(&mut self, sealing: &Sealing, file: Option<u64>) -> bool {
        let index = self.collections.get_mut(&sealing.key).map(|(_, index)| index);
        let segment = index.and_then(|index| index.segment_mut(sealing.number));
        let Some(segment) = segment.filter(|segment| sealing.is_of(segment)) else { return false };
        match file {
            Some(file) => segment.seal_as(file),
            None => segment.give_up_sealing(),
        }
        true
    }

    /// The files of all segments that are written down.
    pub(crate) fn files(&self) -> Vec<u64> {
        let segments = self.collections.values().flat_map(|(_, index)| index.segments());
        segments.filter_map(Segment::file).collect()
    }

    /// These files are gone: their segments are to be written down again.
    pub(crate) fn unseal(&mut self, gone: &[u64]) {
        let is_gone = |segment: &&mut Segment| segment.file().is_some_and(|file| gone.contains(&file));
        let segments = self.collections.values_mut().flat_map(|(_, index)| index.segments_mut());
        segments.filter(is_gone).for_each(Segment::unseal);
    }

    /// What was taken to be built will not be.
    pub(crate) fn abandon(&mut self, key: &CollectionKey, has_failed: bool) {
        if let Some((_, index)) = self.collections.get_mut(key) {
            index.abandon(has_failed);
        }
    }

    /// How the index of each collection stands, by owner and name.
    pub(crate) fn shapes(&self) -> Vec<CollectionShape> {
        let shape = |(key, (form, index)): (&CollectionKey, &(CollectionForm, Layered))| CollectionShape {
            owner: key.owner.clone(),
            collection: key.name.as_str().to_owned(),
            form: *form,
            index: index.shape(),
        };
        self.collections.iter().map(shape).collect()
    }

    fn apply_one(&mut self, change: &IndexChange) {
        let index = self.declare(&change.collection, change.form);
        match &change.vector {
            Some(vector) => {
                index.upsert(change.position, change.object, &vector.components, &vector.metadata);
            }
            None => index.remove(change.position, change.object),
        }
    }

    /// Drops every vector of these objects, whatever snapshot still asks for it. Cost: one pass over each tail, and over
    /// the links of each graph with one of them.
    pub(crate) fn forget(&mut self, objects: &HashSet<ObjectId>) {
        self.collections.values_mut().for_each(|(_, index)| index.forget(objects));
    }

    /// Whether any index holds anything of an object.
    pub(crate) fn holds(&self, object: ObjectId) -> bool {
        self.collections.values().any(|(_, index)| index.holds(object))
    }

    /// Whether a collection's index holds anything of some objects.
    pub(crate) fn has_any(&self, key: &CollectionKey, objects: &HashSet<ObjectId>) -> bool {
        let index = self.collections.get(key);
        index.is_some_and(|(_, index)| index.holds_any(objects))
    }

    /// The form of a collection; none when there is no such collection.
    pub(crate) fn form(&self, key: &CollectionKey) -> Option<CollectionForm> {
        self.collections.get(key).map(|(form, _)| *form)
    }

    /// How many collections an owner has.
    pub(crate) fn collections_of(&self, owner: &ComponentId) -> usize {
        self.collections.keys().filter(|key| key.owner == *owner).count()
    }

    /// The index of a collection, when it still holds the state of that snapshot.
    pub(crate) fn at(
        &self,
        key: &CollectionKey,
        at: Position,
    ) -> Result<Option<&dyn VectorIndex>, VectorError> {
        let index = self.collections.get(key).map(|(_, index)| index);
        let oldest = self.floor.max(index.map_or(Position::NONE, Layered::floor));
        if at < oldest {
            return Err(VectorError::SnapshotTooOld { snapshot: at, oldest });
        }
        Ok(index.map(|index| index as &dyn VectorIndex))
    }

    /// The bytes that an object's vector counts for; 0 without one.
    pub(crate) fn bytes(&self, key: &CollectionKey, object: ObjectId) -> u64 {
        self.collections.get(key).map_or(0, |(_, index)| index.bytes(object))
    }

    /// The bytes that all vectors count for. Cost: one look at each.
    pub(crate) fn room(&self) -> Room {
        let mut room = Room::default();
        for (key, (_, index)) in &self.collections {
            let bytes: u64 = index.live().into_iter().map(|(_, bytes)| bytes).sum();
            room.add(&key.owner, bytes);
        }
        room.grow(&Growth::new());
        room
    }

    /// The objects that have a vector now and the bytes that it counts for, per collection.
    pub(crate) fn live(&self) -> HashMap<CollectionKey, BTreeMap<ObjectId, u64>> {
        self.collections
            .iter()
            .map(|(key, (_, index))| (key.clone(), index.live().into_iter().collect()))
            .collect()
    }
}

/// Whether metadata passes a filter.
pub(crate) fn passes(fields: &Fields, filter: &[(String, serde_json::Value)]) -> bool {
    filter.iter().all(|(field, value)| fields.get(field) == Some(value))
}

/// Metadata's top-level fields.
pub(crate) type Fields = serde_json::Map<String, serde_json::Value>;

/// The fields of metadata; none when it is not a JSON object.
pub(crate) fn fields(metadata: &Json) -> Option<Fields> {
    serde_json::from_str(metadata.as_str()).ok()
}

/// The `k` closest, closest first, ties by object.
pub(crate) fn keep_nearest(mut neighbors: Vec<Neighbor>, k: usize) -> Vec<Neighbor> {
    neighbors.sort_by(|left, right| {
        left.distance.total_cmp(&right.distance).then_with(|| left.object.cmp(&right.object))
    });
    neighbors.truncate(k.min(limit::NEIGHBORS_MAX));
    neighbors
}

#[cfg(test)]
mod tests;
