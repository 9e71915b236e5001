//! What of an index lies in an edition on disk: whose its rows are, and which were superseded since.
//!
//! An edition holds vectors that there were at its floor, a position that every snapshot that may be searched is at or
//! after. So a row of it is seen at any position before it was superseded.
//! Never here: which edition serves, files.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use telos_archive::{Edition, Engine, ReadError};

use crate::archive::is_passing;
use crate::error::Failure;
use crate::id::{ObjectId, Position};
use crate::json::Json;
use crate::limit;

use super::{Neighbor, Query, fields, keep_nearest, passes};

/// See the module.
pub(crate) struct Archived {
    edition: Arc<Edition>,
    number: u64,
    /// Of each row, in the order of objects.
    objects: Arc<[ObjectId]>,
    added: Vec<Position>,
    /// Bytes of its metadata.
    metadata: Vec<u32>,
    superseded: Superseded,
    /// Objects that it has rows of, and that were forgotten.
    forgotten: HashSet<ObjectId>,
    /// What a search could not read, once there was some.
    unread: Unread,
}

/// Why an edition is to be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It has rows of what was forgotten.
    Forgotten,
    /// It is not as it was written. What was found.
    Damaged(String),
    /// The system did not give a search what is there, as far as anyone knows. What it said.
    Unread(String),
}

/// Why a search failed, the first of all.
type Unread = Arc<OnceLock<Leave>>;

/// When each row that is no more was superseded: [`Position::NONE`] for one that nobody may see.
type Superseded = Arc<RwLock<HashMap<u32, Position>>>;

/// What a search needs of it, without its index.
pub(crate) struct View {
    edition: Arc<Edition>,
    objects: Arc<[ObjectId]>,
    superseded: Superseded,
    unread: Unread,
}

/// A vector as the database has it.
pub(crate) struct Stored<'a> {
    pub(crate) object: ObjectId,
    pub(crate) added: Position,
    pub(crate) metadata: &'a str,
    pub(crate) bytes: &'a [u8],
}

impl Archived {
    /// An edition of which no row counts yet. Cost: reads whose they are.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn over(number: u64, edition: Arc<Edition>) -> Result<Archived, ReadError> {
        let count = edition.manifest().rows;
        let (mut objects, mut added) = (Vec::new(), Vec::new());
        for row in edition.objects() {
            let (object, position) = row?;
            objects.push(ObjectId::from_bits(object));
            added.push(Position::new(position));
        }
        let metadata = vec![0; objects.len()];
        let superseded = (0..count).map(|row| (row, Position::NONE)).collect();
        let superseded = Arc::new(RwLock::new(superseded));
        let objects = Arc::from(objects);
        let (forgotten, unread) = (HashSet::new(), Unread::default());
        Ok(Archived { edition, number, objects, added, metadata, superseded, forgotten, unread })
    }

    /// Counts the row of an object that was added then, if there is one; answers whether there is.
    pub(crate) fn count(&mut self, object: ObjectId, added: Position, metadata: &str) -> bool {
        self.count_bytes(object, added, metadata.len())
    }

    /// The same, with so many bytes of metadata.
    pub(crate) fn count_bytes(&mut self, object: ObjectId, added: Position, metadata: usize) -> bool {
        let row = self.row(object).filter(|row| self.added[*row as usize] == added);
        let Some(row) = row else { return false };
        self.metadata[row as usize] = u32::try_from(metadata).unwrap_or(u32::MAX);
        self.superseded.write().remove(&row);
        true
    }

    /// Counts what another edition had at `floor` or after, with the dates at which some of it was superseded since.
    pub(crate) fn take_over(&mut self, before: &Archived, floor: Position) {
        before.each_live(|object, added, metadata| {
            self.count_bytes(object, added, metadata);
        });
        for (row, at) in before.superseded.read().iter().filter(|(_, at)| **at > floor) {
            let row = *row as usize;
            let (object, added) = (before.objects[row], before.added[row]);
            if self.count_bytes(object, added, before.metadata[row] as usize) {
                self.remove(*at, object);
            }
        }
    }

    /// Every row that counts was counted: gives back the memory of what is known now.
    pub(crate) fn settle(&self) {
        self.superseded.write().shrink_to_fit();
    }

    /// Objects whose rows do not count.
    pub(crate) fn uncounted(&self) -> Vec<ObjectId> {
        self.superseded.read().keys().map(|row| self.objects[*row as usize]).collect()
    }

    /// Rows that do not count.
    pub(crate) fn dead(&self) -> usize {
        self.superseded.read().len()
    }

    /// Rows, those that do not count included.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let of_superseded = size_of::<(u32, Position)>() + 1;
        self.memory_of_counted() + self.superseded.read().capacity() * of_superseded
    }

    /// Bytes in memory while every row counts.
    pub(crate) fn memory_of_counted(&self) -> usize {
        let of_row = size_of::<ObjectId>() + size_of::<Position>() + size_of::<u32>();
        self.edition.bytes() + self.objects.len() * of_row
    }

    /// How many of the ten nearest it finds, as measured when it was built.
    pub(crate) fn recall(&self) -> f64 {
        self.edition.manifest().recall.at_10
    }

    /// Whose rows it has, sorted.
    pub(crate) fn objects(&self) -> Arc<[ObjectId]> {
        Arc::clone(&self.objects)
    }

    /// The number of its edition.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Why it is to be given up; none while it serves.
    pub(crate) fn to_leave(&self) -> Option<Leave> {
        let is_tainted = !self.forgotten.is_empty();
        is_tainted.then_some(Leave::Forgotten).or_else(|| self.unread.get().cloned())
    }

    /// For a search that is made without the index's lock: it may read from disk.
    pub(crate) fn view(&self) -> View {
        View {
            edition: Arc::clone(&self.edition),
            objects: Arc::clone(&self.objects),
            superseded: Arc::clone(&self.superseded),
            unread: Arc::clone(&self.unread),
        }
    }

    /// Dates the row that an object has now; false when it has none.
    pub(crate) fn remove(&mut self, at: Position, object: ObjectId) -> bool {
        let Some(row) = self.live(object) else { return false };
        self.superseded.write().insert(row, at);
        true
    }

    /// The commit that added the vector an object has as of a position.
    pub(crate) fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let row = self.row(object)?;
        is_seen(&self.superseded.read(), row, at).then(|| self.added[row as usize])
    }

    /// The bytes of metadata of the vector that an object has now.
    pub(crate) fn metadata_of(&self, object: ObjectId) -> Option<usize> {
        self.live(object).map(|row| self.metadata[row as usize] as usize)
    }

    /// Objects that have a vector now, when it was added, and the bytes of its metadata.
    pub(crate) fn each_live(&self, mut with: impl FnMut(ObjectId, Position, usize)) {
        let superseded = self.superseded.read();
        for (number, row) in
            (0_u32..).zip(self.objects.iter()).filter(|(number, _)| !superseded.contains_key(number))
        {
            with(*row, self.added[number as usize], self.metadata[number as usize] as usize);
        }
    }

    /// Rows of these objects are not seen any more, at any position; answers whether there were some. Their bytes are
    /// there as long as the edition is.
    pub(crate) fn forget(&mut self, objects: &HashSet<ObjectId>) -> bool {
        let rows: Vec<(u32, ObjectId)> =
            objects.iter().filter_map(|object| Some((self.row(*object)?, *object))).collect();
        let mut superseded = self.superseded.write();
        for (row, object) in &rows {
            superseded.insert(*row, Position::NONE);
            self.forgotten.insert(*object);
        }
        !rows.is_empty()
    }

    /// Whether it has anything of an object.
    pub(crate) fn holds(&self, object: ObjectId) -> bool {
        self.row(object).is_some()
    }

    fn row(&self, object: ObjectId) -> Option<u32> {
        self.objects.binary_search(&object).ok().and_then(|row| u32::try_from(row).ok())
    }

    fn live(&self, object: ObjectId) -> Option<u32> {
        self.row(object).filter(|row| !self.superseded.read().contains_key(row))
    }
}

impl View {
    /// The nearest, closest first, ties by object. Cost: some reads from disk for each near row; where there is no graph,
    /// or a filter hides most, a look at every direction, and at the metadata of rows nearer than those found so far.
    ///
    /// # Errors
    /// [`ReadError`] when the edition cannot be read: it is to be given up then.
    pub(crate) fn search(&self, query: &Query<'_>) -> Result<Vec<Neighbor>, ReadError> {
        self.find(query).inspect_err(|error| {
            let is_passing = matches!(error, ReadError::File { cause, .. } if is_passing(cause));
            let leave = if is_passing { Leave::Unread } else { Leave::Damaged };
            let _ = self.unread.set(leave(error.to_string()));
        })
    }

    /// As [`View::search`], from the rows that the database has: `each` hands over every row of the collection. None when
    /// some that the snapshot sees were replaced since, so that the database has them no more.
    ///
    /// # Errors
    /// What `each` says.
    pub(crate) fn search_stored(
        &self,
        query: &Query<'_>,
        distance: impl Fn(&[u8]) -> f32,
        each: impl FnOnce(&mut dyn FnMut(Stored<'_>)) -> Result<(), Failure>,
    ) -> Result<Option<Vec<Neighbor>>, Failure> {
        let is_seen = |row: usize| u32::try_from(row).is_ok_and(|row| self.is_seen(row, query));
        let mut seen: HashSet<usize> = (0..self.objects.len()).filter(|row| is_seen(*row)).collect();
        let mut nearest = Vec::new();
        each(&mut |Stored { object, added, metadata, bytes }| {
            let row = self.objects.binary_search(&object).ok().filter(|_| added <= query.at);
            if row.is_some_and(|row| seen.remove(&row)) && does_pass(metadata, query) {
                let distance = distance(bytes);
                nearest.push(Neighbor { object, distance, metadata: Json::trusted(metadata) });
                if nearest.len() >= 2 * limit::NEIGHBORS_MAX {
                    nearest = keep_nearest(std::mem::take(&mut nearest), query.k);
                }
            }
        })?;
        Ok(seen.is_empty().then(|| keep_nearest(nearest, query.k)))
    }

    fn find(&self, query: &Query<'_>) -> Result<Vec<Neighbor>, ReadError> {
        let rows = self.objects.len();
        let wanted = query.k.min(rows);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let mut effort = self.effort(wanted, query.effort);
        let has_graph = self.edition.manifest().engine != Engine::Flat;
        while has_graph && effort <= limit::SEARCH_EFFORT_MAX && effort < rows {
            let shown = self.nearest_shown(self.edition.near(query.place, effort)?, query)?;
            if shown.len() >= wanted {
                return Ok(shown);
            }
            effort *= 4;
        }
        self.nearest_shown(self.edition.scan(query.place, query.k, &|row| self.is_shown(row, query))?, query)
    }

    /// The effort to begin with: as much as was asked for, up to what any search may use, and as is needed.
    fn effort(&self, wanted: usize, asked: Option<usize>) -> usize {
        let enough = (wanted * 2).max(self.edition.manifest().recall.effort).max(limit::SEARCH_EFFORT_MIN);
        enough.max(asked.unwrap_or_default().min(limit::SEARCH_EFFORT_MAX))
    }

    /// The nearest `k` of some rows that are shown: no more are read.
    fn nearest_shown(
        &self,
        mut near: Vec<(u32, f32)>,
        query: &Query<'_>,
    ) -> Result<Vec<Neighbor>, ReadError> {
        // Rows are in the order of objects.
        near.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
        let found = near.into_iter().filter_map(|(row, distance)| self.neighbor(row, distance, query));
        found.take(query.k).collect()
    }

    fn neighbor(&self, row: u32, distance: f32, query: &Query<'_>) -> Option<Result<Neighbor, ReadError>> {
        if !self.is_seen(row, query) {
            return None;
        }
        let entry = match self.edition.row(row) {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let neighbor = || Neighbor {
            object: ObjectId::from_bits(entry.object),
            distance,
            metadata: Json::trusted(&entry.metadata),
        };
        does_pass(&entry.metadata, query).then(|| Ok(neighbor()))
    }

    fn is_shown(&self, row: u32, query: &Query<'_>) -> Result<bool, ReadError> {
        let is_seen = self.is_seen(row, query);
        Ok(is_seen && (query.filter.is_empty() || does_pass(&self.edition.row(row)?.metadata, query)))
    }

    fn is_seen(&self, row: u32, query: &Query<'_>) -> bool {
        is_seen(&self.superseded.read(), row, query.at)
            && self.objects.get(row as usize).is_some_and(|object| !(query.hidden)(*object))
    }
}

fn is_seen(superseded: &HashMap<u32, Position>, row: u32, at: Position) -> bool {
    superseded.get(&row).is_none_or(|superseded| *superseded > at)
}

fn does_pass(metadata: &str, query: &Query<'_>) -> bool {
    let fields = || fields(&Json::trusted(metadata)).unwrap_or_default();
    query.filter.is_empty() || passes(&fields(), query.filter)
}

#[cfg(test)]
mod tests;
