//! Pruning: first the floor is raised in a commit of its own, then what ended at or below it is removed, a few rows
//! per commit.
//!
//! ```text
//! raise    durable, and in memory before anything is removed    reads below it are refused from here on
//! sweep    the oldest entries of `changes` and `renames`         each commit removes entries and rows together
//! ```
//! The entries are the queue and say what is left to do, so there is no cursor to keep: after a crash the next step
//! goes on where the last commit ended.

use std::time::Instant;

use redb::{ReadableTable, ReadableTableMetadata};
use serde::Serialize;

use crate::commit::Vote;
use crate::damage;
use crate::error::{CommitError, Failure};
use crate::id::Position;
use crate::limit;
use crate::scan::Scan as _;
use crate::shared::Shared;
use crate::store::Store;
use crate::tables::{
    CHANGES, META, META_HISTORY_FLOOR, META_OBJECTS, MOMENTS, OBJECTS, RENAMES, Tables, read_meta,
};

use super::{Retention, moment};

/// What one step of pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The oldest position that can be read from here on.
    pub floor: Position,
    /// Superseded states removed.
    pub rows: u64,
    /// Former bindings and unbindings of names removed.
    pub names: u64,
    /// Whether nothing is left to remove below the floor.
    pub is_done: bool,
}

/// What ended at or below the floor: entries of `changes` and `renames`, as read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweep {
    changes: Vec<(u64, u128, u64)>,
    renames: Vec<(u64, String, u64)>,
}

impl Store {
    /// One step of pruning by the store's [`super::Retention`]: removes at most 512 rows that ended at or below the history
    /// floor, after raising the floor where fewer wait and a bound asks for it. Call it until `is_done`; blocks for up
    /// to two commits, and others only as long as any unit of that size.
    ///
    /// The floor never passes the snapshot of a unit younger than a minute. Units older than that may then be answered
    /// [`crate::ReadError::SnapshotTooOld`]. Two callers take turns.
    ///
    /// # Errors
    /// [`CommitError`]. What was pruned before stays so, and the next call goes on from there.
    pub fn prune_history(&self, now_ms: u64) -> Result<Pruned, CommitError> {
        self.prune_history_at(now_ms, Instant::now())
    }

    /// As above; `now` ages the snapshots of open units.
    pub(crate) fn prune_history_at(&self, now_ms: u64, now: Instant) -> Result<Pruned, CommitError> {
        let shared = self.shared();
        let _turn = shared.past.turn.lock();
        let mut sweep = Sweep::read(shared, shared.past.floor()).map_err(unread)?;
        let mut is_high_enough = false;
        if sweep.len() < rows_per_step() {
            is_high_enough = self.raise_history_floor(now_ms, now)?;
            sweep = Sweep::read(shared, shared.past.floor()).map_err(unread)?;
        }
        let pruned = Pruned {
            floor: shared.past.floor(),
            rows: sweep.changes.iter().filter(|(_, _, replaced)| *replaced > 0).count() as u64,
            names: sweep.renames.len() as u64,
            // With nothing removed, an open unit holds the floor: there is nothing to do before it ends.
            is_done: sweep.len() == 0 || (is_high_enough && sweep.len() < rows_per_step()),
        };
        if sweep.len() > 0 {
            let mut unit = self.begin();
            // A bounded number of keys is far within the bounds of a unit.
            let _ = unit.sweep_history(sweep);
            self.decide(unit, Vote::default()).wait()?;
        }
        Ok(pruned)
    }

    /// Answers whether the floor need not rise further once what is below it is gone.
    fn raise_history_floor(&self, now_ms: u64, now: Instant) -> Result<bool, CommitError> {
        let shared = self.shared();
        // Whoever begins from here on sees what is decided now, or newer: a floor chosen before stays below.
        let oldest = shared.pins.oldest(&shared.decided, now);
        let (wanted, is_high_enough) = wanted_floor(shared, now_ms).map_err(unread)?;
        let floor = wanted.min(oldest);
        if floor > shared.past.floor() {
            let mut unit = self.begin();
            // One position is far within the bounds of a unit.
            let _ = unit.raise_history_floor(floor);
            self.decide(unit, Vote::default()).wait()?;
        }
        Ok(is_high_enough)
    }
}

/// Raises the floor, and drops moments below it except the newest, which dates it; a few at a time.
pub(crate) fn raise_floor(tables: &mut Tables<'_>, floor: Position) -> Result<(), Failure> {
    if floor.get() <= read_meta(tables.meta.open()?, META_HISTORY_FLOOR)? {
        return Ok(());
    }
    tables.meta.open()?.insert(META_HISTORY_FLOOR, floor.get())?;
    let dating =
        tables.moments.open()?.rows_in(..=floor.get())?.next_back().transpose()?.map(|(key, _)| key.value());
    let needless = tables.moments.open()?.extract_from_if(..dating.unwrap_or(0), |_, _| true)?;
    for row in damage::Guarded::of(needless).take(limit::MOMENT_TRIM_ROWS) {
        row?;
    }
    Ok(())
}

impl Sweep {
    fn read(shared: &Shared, floor: Position) -> Result<Sweep, Failure> {
        let changes = shared.read(CHANGES, |table| {
            let mut changes = Vec::new();
            for row in table.rows_in(..=(floor.get(), u128::MAX))?.take(rows_per_step()) {
                let (key, replaced) = row?;
                changes.push((key.value().0, key.value().1, replaced.value()));
            }
            Ok(changes)
        })?;
        let room = rows_per_step() - changes.len();
        let renames = shared.read(RENAMES, |table| {
            let mut renames = Vec::new();
            for row in table.rows_in(..(floor.get().saturating_add(1), ""))?.take(room) {
                let (key, replaced) = row?;
                renames.push((key.value().0, key.value().1.to_owned(), replaced.value()));
            }
            Ok(renames)
        })?;
        Ok(Sweep { changes, renames })
    }

    fn len(&self) -> usize {
        self.changes.len() + self.renames.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.changes.len() * 32 + self.renames.iter().map(|(_, name, _)| name.len() + 16).sum::<usize>()
    }

    /// Removes the rows. What is no longer there was forgotten meanwhile; rows are never added below the floor.
    pub(crate) fn write(&self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        for (ended, object, replaced) in &self.changes {
            tables.changes.open()?.remove((*ended, *object))?;
            tables.take_state((*object, *replaced))?;
        }
        for (ended, name, replaced) in &self.renames {
            tables.renames.open()?.remove((*ended, name.as_str()))?;
            end_name(tables, name, *ended, *replaced)?;
        }
        Ok(())
    }
}

/// Removes the row of a name that ended, and an unbinding that ended it: where nothing is left, none need say so.
fn end_name(tables: &mut Tables<'_>, name: &str, ended: u64, replaced: u64) -> Result<(), Failure> {
    let former = tables.take_name(name, replaced)?.flatten();
    if let Some(former) = former {
        tables.names_of.open()?.remove((former, name, replaced))?;
        tables.names_of.open()?.remove((former, name, ended))?;
    }
    let is_unbinding = tables.names.open()?.get((name, ended))?.is_some_and(|row| row.value().is_none());
    if is_unbinding {
        tables.take_name(name, ended)?;
    }
    Ok(())
}

/// The floor that the bounds ask for, and whether that is all they ask for.
fn wanted_floor(shared: &Shared, now_ms: u64) -> Result<(Position, bool), Failure> {
    let read = || -> Result<(Position, bool), Failure> {
        let txn = shared.database.read()?;
        let Retention { rows_max, .. } = shared.options.retention;
        let objects = read_meta(&txn.open_table(META)?, META_OBJECTS)?;
        let surplus = txn.open_table(OBJECTS)?.len()?.saturating_sub(objects).saturating_sub(rows_max);
        let (by_count, is_all) = floor_by_count(&txn.open_table(CHANGES)?, surplus)?;
        let moments = txn.open_table(MOMENTS)?;
        let by_age = match now_ms.checked_sub(shared.options.retention.age_ms()) {
            Some(cutoff_ms) => moment::newest_at(moment::rows(&moments)?, cutoff_ms, now_ms)?,
            None => Position::NONE,
        };
        Ok((by_count.max(by_age), is_all))
    };
    damage::guard(read).inspect_err(|failure| shared.report(failure))
}

/// Where the oldest `surplus` states have ended, as far as one look goes, and whether it went far enough.
fn floor_by_count(
    changes: &impl ReadableTable<(u64, u128), u64>,
    surplus: u64,
) -> Result<(Position, bool), Failure> {
    let (mut floor, mut left) = (Position::NONE, surplus);
    for row in changes.rows()?.take(limit::PRUNE_LOOKAHEAD_ROWS) {
        let (key, replaced) = row?;
        if left == 0 {
            break;
        }
        floor = Position::new(key.value().0);
        left -= u64::from(replaced.value() > 0);
    }
    Ok((floor, left == 0))
}

/// The bound of one step; tests lower it, so that much is left half pruned.
fn rows_per_step() -> usize {
    fail::fail_point!("store::prune-rows", |rows| {
        rows.and_then(|rows| rows.parse().ok()).unwrap_or(limit::PRUNE_ROWS_PER_STEP)
    });
    limit::PRUNE_ROWS_PER_STEP
}

/// A store that cannot be read is being reopened; nothing was decided.
fn unread(failure: Failure) -> CommitError {
    CommitError::ReadOnlyStore { cause: failure.to_string().into() }
}
