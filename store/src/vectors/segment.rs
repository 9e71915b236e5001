//! Segments: rows that never change with a graph over them, and the dates at which they were removed.
//!
//! ```text
//! no filter, few removed     the graph, with effort enough for what is hidden
//! a filter that many pass    the graph, with more effort: it finds the near ones, the filter chooses
//! a filter that few pass     every row: a graph would find mostly what does not pass
//! a graph that failed        every row
//! ```
//! Never here: rows that were added later, other segments.

use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use telos_graph::Graph;

use crate::id::{ObjectId, Position};
use crate::limit;

use super::candidate::Candidate;
use super::rows::{Row, Rows};
use super::{Neighbor, Query, distance, fields, keep_nearest, passes};

/// Not removed.
const LIVE: Position = Position::new(u64::MAX);
/// Rows looked at to guess how many pass a filter.
const SAMPLE_ROWS: usize = 256;

/// See the module.
pub(crate) struct Segment {
    /// Which one: numbers are never used twice.
    pub(crate) number: u64,
    rows: Arc<Rows>,
    graph: Graph,
    removed: Vec<Position>,
    dead: usize,
    /// The graph failed once and is not asked again.
    is_degraded: AtomicBool,
}

impl Segment {
    /// `removed`: one for each row; none for those that are live.
    pub(crate) fn new(
        number: u64,
        rows: Arc<Rows>,
        graph: Graph,
        removed: impl Iterator<Item = Option<Position>>,
    ) -> Segment {
        let removed: Vec<Position> = removed.map(|at| at.unwrap_or(LIVE)).collect();
        let dead = removed.iter().filter(|at| **at != LIVE).count();
        Segment { number, rows, graph, removed, dead, is_degraded: AtomicBool::new(false) }
    }

    pub(crate) fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn dead(&self) -> usize {
        self.dead
    }

    /// Rows that no snapshot from `oldest` on can see. Cost: reads every date.
    pub(crate) fn dead_before(&self, oldest: Position) -> usize {
        self.removed.iter().filter(|at| **at <= oldest).count()
    }

    /// Bytes in memory, the rows' included.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes() + self.graph.bytes() + self.removed.capacity() * size_of::<Position>()
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.is_degraded.load(Ordering::Relaxed)
    }

    /// When a row was removed; none while it is live.
    pub(crate) fn removed(&self, number: u32) -> Option<Position> {
        Some(self.removed[number as usize]).filter(|at| *at != LIVE)
    }

    /// The row that an object has now.
    pub(crate) fn live(&self, object: ObjectId) -> Option<&Row> {
        self.rows
            .newest(object)
            .filter(|number| self.removed(*number).is_none())
            .map(|number| self.rows.row(number))
    }

    /// Every row that is live.
    pub(crate) fn live_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows
            .numbers()
            .filter(|number| self.removed(*number).is_none())
            .map(|number| self.rows.row(number))
    }

    /// Dates the row that an object has now; false when it has none.
    pub(crate) fn remove(&mut self, at: Position, object: ObjectId) -> bool {
        let Some(number) = self.rows.newest(object).filter(|number| self.removed(*number).is_none()) else {
            return false;
        };
        self.removed[number as usize] = at;
        self.dead += 1;
        true
    }

    /// The commit that added the vector an object has as of a position. Cost: reads every row, unless it is the newest.
    pub(crate) fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let newest = self.rows.newest(object)?;
        let is_it = |number: &u32| self.is_visible(*number, at) && self.rows.row(*number).object == object;
        let found = Some(newest).filter(is_it).or_else(|| self.rows.numbers().find(is_it));
        found.map(|number| self.rows.row(number).added)
    }

    /// Whether it holds anything of an object, dated or not.
    pub(crate) fn holds(&self, object: ObjectId) -> bool {
        self.rows.newest(object).is_some()
    }

    /// The nearest, closest first, ties by object: mostly all of them, and as many as there are up to `k`.
    pub(crate) fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let wanted = query.k.min(self.len());
        if wanted == 0 {
            return Vec::new();
        }
        let share = self.share_shown(query);
        if share < limit::FLAT_SHARE {
            return self.scan(query);
        }
        let mut effort = effort_for(wanted, share, query.effort);
        // A row on a walk costs as much as some thirty that are read in order.
        while effort <= (self.len() / limit::WALK_COST).min(limit::SEARCH_EFFORT_MAX) && !self.is_degraded() {
            let shown: Vec<u32> =
                self.near(query, effort).into_iter().filter(|number| self.is_shown(*number, query)).collect();
            if shown.len() >= wanted {
                let neighbors = shown.into_iter().map(|number| self.neighbor(number, query)).collect();
                return keep_nearest(neighbors, query.k);
            }
            effort *= 4;
        }
        self.scan(query)
    }

    fn near(&self, query: &Query<'_>, effort: usize) -> Vec<u32> {
        // An engine is foreign code: a panic in it costs this segment its graph, and nothing else.
        let near = catch_unwind(AssertUnwindSafe(|| self.graph.near(query.direction, effort)));
        near.unwrap_or_else(|_| {
            tracing::error!(
                rows = self.len(),
                "a graph of vectors failed; its rows are read one by one from now on"
            );
            self.is_degraded.store(true, Ordering::Relaxed);
            Vec::new()
        })
    }

    /// The exact answer. Cost: reads every row.
    fn scan(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = BinaryHeap::with_capacity(query.k + 1);
        for number in self.rows.numbers().filter(|number| self.is_seen(*number, query)) {
            let found = Candidate {
                distance: distance(query.direction, self.rows.direction(number)),
                object: self.rows.row(number).object,
                number: number as usize,
            };
            Candidate::offer(&mut nearest, found, query.k, |_| self.passes(number, query));
        }
        let numbers = nearest.into_iter().filter_map(|found| u32::try_from(found.number).ok());
        keep_nearest(numbers.map(|number| self.neighbor(number, query)).collect(), query.k)
    }

    fn neighbor(&self, number: u32, query: &Query<'_>) -> Neighbor {
        let Row { object, metadata, .. } = self.rows.row(number).clone();
        Neighbor { object, distance: distance(query.direction, self.rows.direction(number)), metadata }
    }

    fn is_visible(&self, number: u32, at: Position) -> bool {
        self.rows.row(number).added <= at && self.removed[number as usize] > at
    }

    fn is_seen(&self, number: u32, query: &Query<'_>) -> bool {
        self.is_visible(number, query.at) && !(query.hidden)(self.rows.row(number).object)
    }

    fn passes(&self, number: u32, query: &Query<'_>) -> bool {
        let metadata = || fields(&self.rows.row(number).metadata).unwrap_or_default();
        query.filter.is_empty() || passes(&metadata(), query.filter)
    }

    fn is_shown(&self, number: u32, query: &Query<'_>) -> bool {
        self.is_seen(number, query) && self.passes(number, query)
    }

    /// A guess at which share of all rows a query may be shown.
    fn share_shown(&self, query: &Query<'_>) -> f32 {
        let step = self.len().div_ceil(SAMPLE_ROWS).max(1);
        let sample: Vec<u32> = self.rows.numbers().step_by(step).collect();
        let shown = sample.iter().filter(|number| self.is_shown(**number, query)).count();
        #[expect(clippy::cast_precision_loss, reason = "both are at most a few hundred")]
        let share = shown as f32 / sample.len().max(1) as f32;
        share
    }
}

/// How many near rows to ask for, so that `wanted` of them are shown when a `share` of all is; as many as were asked
/// for, when that is more.
fn effort_for(wanted: usize, share: f32, asked: Option<usize>) -> usize {
    // The share is a guess, and who says nothing wants most of the nearest.
    let margin = if asked.is_some() && share >= 1.0 { 1.0 } else { 1.5 };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands at most, and above 0"
    )]
    let enough = (margin * wanted as f32 / share.max(limit::FLAT_SHARE)).ceil() as usize;
    enough.max(asked.map_or(limit::SEARCH_EFFORT_MIN, |asked| asked.min(limit::SEARCH_EFFORT_MAX)))
}
