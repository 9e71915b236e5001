//! History and time: how much of the past is kept, how it is asked for, and how it goes.
//!
//! ```text
//! moments   which time a position had               with every group; the newest gives way for up to a minute
//! floor     the oldest position that can be read    by age or by count, whichever is reached first
//! prune     the floor, then what ended below it     small commits; a crash falls between two of them
//! forget    every row of an object, in one commit   as if it had never been; only an audit row says otherwise
//! ```
//! A state is *superseded* when a newer one of its object exists; the newest is never pruned. Reads below the floor are
//! refused, so what they would answer never depends on how far pruning has come.
//! Never here: when to prune, who may forget.

mod forget;
mod moment;
mod prune;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redb::{ReadableTable, ReadableTableMetadata};
use serde::Serialize;

use crate::error::{Failure, ReadError};
use crate::id::{ObjectId, ObjectName, Position, Revision};
use crate::limit;
use crate::object::Object;
use crate::scan::Scan as _;
use crate::store::Store;
use crate::tables::{
    self, META, META_OBJECT_ROWS, META_OBJECTS, META_REWRITE_DUE, MOMENTS, NAMES, OBJECTS, ObjectKey,
    read_meta,
};

pub use forget::{Children, Forgotten};
pub(crate) use forget::{Forget, Gone};
pub(crate) use moment::note_group;
pub use prune::Pruned;
pub(crate) use prune::{Sweep, raise_floor};
pub use trace::Trace;

/// States of one object that raises may have put in force before they are settled, at the most that is likely: each
/// would be a generation of its own.
const UNSETTLED_STATES: usize = 16;

/// How much of the past is kept. What is past either bound may be pruned; what is newer stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Superseded states are kept this long. Default 30 days: long enough to see what last month's change did, and what
    /// a person asks back is usually missed within weeks.
    pub age: Duration,
    /// Superseded states kept at most, the newest. Default 1,000,000: at the usual kilobyte a state that is
    /// a gigabyte of disk, which no amount of traffic within `age` may pass.
    pub rows_max: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { age: Duration::from_secs(30 * 24 * 60 * 60), rows_max: 1_000_000 }
    }
}

impl Retention {
    fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is kept of the past, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryView {
    /// The newest decided position.
    pub position: Position,
    /// The oldest position that can be read.
    pub floor: Position,
    /// When the floor was the newest position, Unix milliseconds, give or take a minute; none while all is kept.
    pub floor_ms: Option<u64>,
    /// How long superseded states are kept, milliseconds.
    pub age_ms: u64,
    /// How many of them are kept at most.
    pub rows_max: u64,
    /// Superseded states in the file, those waiting to be pruned included.
    pub superseded_rows: u64,
    /// States that are gone: pruned or forgotten.
    pub gone_rows: u64,
    /// Positions with a known time.
    pub moments: u64,
    /// The newest commit that forgot objects since the file was last rewritten: until then its free pages may hold
    /// bytes of them.
    pub rewrite_due: Option<Position>,
}

/// The memory that follows the history floor.
#[derive(Debug, Default)]
pub(crate) struct Past {
    floor: AtomicU64,
    /// Held by whoever prunes: steps follow one another.
    turn: Mutex<()>,
}

impl Past {
    pub(crate) fn floor(&self) -> Position {
        Position::new(self.floor.load(Ordering::Acquire))
    }

    /// The floor never falls.
    pub(crate) fn raise(&self, floor: Position) {
        self.floor.fetch_max(floor.get(), Ordering::AcqRel);
    }

    /// Refuses what is below the floor.
    pub(crate) fn check(&self, at: Position) -> Result<(), ReadError> {
        let oldest = self.floor();
        if at < oldest {
            return Err(ReadError::SnapshotTooOld { snapshot: at, oldest });
        }
        Ok(())
    }

    /// States, newest first, without those that ended at or below the floor: whether they are still there depends on
    /// how far pruning has come.
    pub(crate) fn within_floor(&self, mut states: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
        let floor = self.floor();
        if let Some(oldest) = states.iter().position(|state| state.position <= floor) {
            states.truncate(oldest + 1);
        }
        states
    }
}

impl Store {
    /// What a name stood for as of a position; none when it was free, or its object was forgotten since.
    ///
    /// # Errors
    /// [`ReadError::SnapshotTooOld`] below the history floor, [`ReadError::Failed`].
    pub fn name_at(&self, name: &ObjectName, at: Position) -> Result<Option<ObjectId>, ReadError> {
        let at = at.min(self.position());
        self.shared().read_at(NAMES, at, |names| Ok(tables::read_name(names, name, at)?.0))
    }

    /// The object that a text addressed as of a position, as [`crate::Unit::locate`] would have found it then.
    ///
    /// # Errors
    /// As [`Store::name_at`].
    pub fn locate_at(&self, target: &str, at: Position) -> Result<Option<ObjectId>, ReadError> {
        if let Ok(id) = target.parse()
            && self.object_at(id, at)?.is_some()
        {
            return Ok(Some(id));
        }
        ObjectName::new(target).map_or(Ok(None), |name| self.name_at(&name, at))
    }

    /// The newest position known at or before a time, Unix milliseconds: what "as of that time" means. None before the
    /// history floor and before the first commit.
    ///
    /// Exact where a minute or more passed without a commit; otherwise up to a minute too early, never too late.
    /// Where the clock was set back, times in between belong to the later side. Cost: one pass over the moments,
    /// at most two a minute of what is kept.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn position_at(&self, ms: u64) -> Result<Option<Position>, Failure> {
        let now_ms = self.shared().now_ms();
        let newest =
            self.shared().read(MOMENTS, |moments| moment::newest_at(moment::rows(moments)?, ms, now_ms))?;
        let floor = self.shared().past.floor();
        let is_known = newest != Position::NONE && newest >= floor;
        Ok(is_known.then(|| newest.min(self.position())))
    }

    /// The states of an object that are kept, newest first, at most `limit` (capped at 100). `before`: only those with a
    /// smaller revision; with the last one answered, the next page, so that every kept state is reached.
    ///
    /// An unknown object has no states. Cost: a page is found by halving positions, some thirty lookups.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn object_history(
        &self,
        id: ObjectId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Arc<Object>>, Failure> {
        let (newest, floor) = (self.position(), self.shared().past.floor());
        let limit = limit.min(limit::HISTORY_ROWS_MAX);
        let (at, oldest) = self.shared().read(OBJECTS, |objects| {
            let at = match before {
                None => newest,
                Some(revision) => newest_before(objects, id, revision, newest)?,
            };
            Ok((at, tables::read_object_position(objects, id, floor)?))
        })?;
        // States that a raise put in force and nobody settled yet come on top of the rows before this position.
        let mut states = self.shared().read_history(id, at, limit + UNSETTLED_STATES)?;
        states.retain(|state| {
            state.position >= oldest && before.is_none_or(|revision| state.revision < revision)
        });
        states.truncate(limit);
        Ok(states)
    }

    /// How much of the past is kept, and by which rule.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn retention(&self) -> Result<HistoryView, Failure> {
        let (shared, position) = (self.shared(), self.position());
        let Retention { rows_max, .. } = shared.options.retention;
        let rows = shared.read(OBJECTS, |objects| Ok(objects.len()?))?;
        let [objects, written, rewrite_due] = shared.read(META, |meta| {
            let read = |name| read_meta(meta, name);
            Ok([read(META_OBJECTS)?, read(META_OBJECT_ROWS)?, read(META_REWRITE_DUE)?])
        })?;
        let floor = shared.past.floor();
        let (moments, floor_ms) = shared.read(MOMENTS, |moments| {
            let below = moments.rows_in(..=floor.get())?.next_back().transpose()?;
            Ok((moments.len()?, below.map(|(_, row)| row.value())))
        })?;
        Ok(HistoryView {
            position,
            floor,
            floor_ms,
            age_ms: shared.options.retention.age_ms(),
            rows_max,
            superseded_rows: rows.saturating_sub(objects),
            gone_rows: written.saturating_sub(rows),
            moments,
            rewrite_due: (rewrite_due > 0).then(|| Position::new(rewrite_due)),
        })
    }
}

/// The newest position at which an object had a smaller revision; revisions rise with positions, so by halving.
fn newest_before(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
    revision: Revision,
    newest: Position,
) -> Result<Position, Failure> {
    let (mut low, mut high) = (0, newest.get());
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let row = objects.rows_in((id.to_bits(), 0)..=(id.to_bits(), middle))?.next_back().transpose()?;
        match row {
            Some((key, row)) if tables::decode_head(row.value())?.revision >= revision.get() => {
                high = key.value().1.saturating_sub(1);
            }
            _ => low = middle,
        }
    }
    Ok(Position::new(low))
}

#[cfg(test)]
mod tests;
