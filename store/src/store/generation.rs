//! Generations outside units: what is in force, what is still to be evolved, settling and dropping copies.

use crate::commit::Vote;
use crate::error::{CommitError, Failure};
use crate::generation::{self, GenerationRecord, Toward};
use crate::id::{ComponentId, ObjectId};
use crate::limit;
use crate::object::Object;
use crate::scan::Scan as _;
use crate::tables::{self, GENERATIONS, ShadowKey};

use super::Store;

impl Store {
    /// The generation of a component's state that is in force; none when it was never raised, so that its objects
    /// are in whatever generation they were made in.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn generation(&self, component: &ComponentId) -> Result<Option<GenerationRecord>, Failure> {
        let rows = (component.as_str(), 0)..=(component.as_str(), self.position().get());
        self.shared().read(GENERATIONS, |generations| {
            let newest = generations.rows_in(rows.clone())?.next_back().transpose()?;
            newest.map(|row| tables::decode_json("generations", row.1.value())).transpose()
        })
    }

    /// Every generation that was put in force for a component, oldest first: one may be there again.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn generations(&self, component: &ComponentId) -> Result<Vec<GenerationRecord>, Failure> {
        let rows = (component.as_str(), 0)..=(component.as_str(), self.position().get());
        self.shared().read(GENERATIONS, |generations| {
            let rows = generations.rows_in(rows.clone())?;
            rows.map(|row| tables::decode_json("generations", row?.1.value())).collect()
        })
    }

    /// Objects of a component whose newest state is left behind and has no copy in the generation yet, by identity from
    /// after `after` on; at most `limit` (capped at 1,000), and fewer once they are larger than 2 MiB together.
    ///
    /// An empty answer from the beginning means that [`Unit::raise_generation`](crate::Unit::raise_generation) may
    /// be decided, unless something is written meanwhile. Cost: reads the objects it passes.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn unevolved(
        &self,
        component: &ComponentId,
        toward: Toward,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<Object>, Failure> {
        let limit = limit.min(limit::UNEVOLVED_PER_LIST_MAX);
        generation::list_unevolved(self.shared(), component, toward, after, limit)
    }

    /// Moves copies that are in force among the ordinary rows, in one commit, at most `limit` (capped at 1,000);
    /// answers how many. No read sees a difference. Call it until it answers 0.
    ///
    /// # Errors
    /// [`CommitError`]; what was moved before stays moved.
    pub fn settle_generation(&self, limit: usize) -> Result<usize, CommitError> {
        let limit = limit.min(limit::SHADOWS_PER_STEP_MAX);
        let keys = generation::list_in_force(self.shared(), limit).map_err(CommitError::Unavailable)?;
        let (mut unit, count) = (self.begin(), keys.len());
        if count > 0 {
            let first = keys.first().copied();
            unit.settle_shadows(keys)?;
            self.decide(unit, Vote::default()).wait()?;
            let left = generation::list_in_force(self.shared(), 1).map_err(CommitError::Unavailable)?;
            check_gone(first, left.first().copied())?;
        }
        Ok(count)
    }

    /// Deletes a component's copies of generations that are not in force, in bounded commits; answers how many.
    /// Opening a store does the same for all.
    ///
    /// # Errors
    /// [`CommitError`]; what was deleted before stays deleted.
    pub fn drop_shadows(&self, component: &ComponentId) -> Result<usize, CommitError> {
        let (mut dropped, mut before) = (0, None);
        loop {
            let keys = generation::keys_of(self.shared(), component, limit::SHADOWS_PER_STEP_MAX)
                .map_err(CommitError::Unavailable)?;
            if keys.is_empty() {
                return Ok(dropped);
            }
            check_gone(before, keys.first().copied())?;
            before = keys.first().copied();
            dropped += keys.len();
            let mut unit = self.begin();
            unit.drop_shadows(keys)?;
            self.decide(unit, Vote::default()).wait()?;
        }
    }
}

/// A row that a walk lists and a lookup does not find would be dealt with for ever.
fn check_gone(dealt_with: Option<ShadowKey>, listed: Option<ShadowKey>) -> Result<(), CommitError> {
    if dealt_with.is_none() || dealt_with != listed {
        return Ok(());
    }
    let why = "table shadows: a row is listed and cannot be found".into();
    Err(CommitError::Unavailable(Failure::Damaged { why }))
}
