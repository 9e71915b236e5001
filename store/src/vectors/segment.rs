//! Segments: rows with a graph over them, and the dates at which they were removed. A row never moves; one of an object
//! that is forgotten is erased where it is: its direction is zeros, it is nobody's, and no walk comes across it.
//!
//! ```text
//! no filter, few removed     the graph, with effort enough for it and for what is hidden
//! a filter that many pass    the graph, with more effort: it finds the near ones, the filter chooses
//! a filter that few pass     every row: a graph would find mostly what does not pass
//! a graph that failed, or    every row
//! finds too little
//! ```
//! Never here: rows that were added later, other segments.

use std::collections::{BinaryHeap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use telos_graph::{Alike, Graph};

use crate::id::{ObjectId, Position};
use crate::limit;

use super::candidate::Candidate;
use super::rows::{Row, Rows};
use super::tuning::{Tuning, effort_max};
use super::{Metric, Neighbor, Query, fields, keep_nearest, passes};

/// Not removed.
const LIVE: Position = Position::new(u64::MAX);
/// Rows looked at to guess how many pass a filter.
const SAMPLE_ROWS: usize = 256;

/// See the module.
pub(crate) struct Segment {
    /// Which one: numbers are never used twice.
    pub(crate) number: u64,
    metric: Metric,
    rows: Rows,
    graph: Graph,
    tuning: Tuning,
    removed: Vec<Position>,
    dead: usize,
    /// The graph failed once and is not asked again.
    is_degraded: AtomicBool,
    /// How often rows were erased.
    erasures: u64,
    seal: Seal,
}

/// Whether a segment is written down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    Open,
    /// It failed, or cannot be: the next start builds it anew.
    Never,
    /// The number of its file.
    File(u64),
}

impl Segment {
    /// `rows`: in the order of the graph's; `removed`: one for each, none for those that are live.
    pub(crate) fn new(
        number: u64,
        metric: Metric,
        rows: Rows,
        graph: Graph,
        tuning: Tuning,
        removed: impl Iterator<Item = Option<Position>>,
    ) -> Segment {
        let removed: Vec<Position> = removed.map(|at| at.unwrap_or(LIVE)).collect();
        let dead = removed.iter().filter(|at| **at != LIVE).count();
        let seal = if graph.has_sketch() { Seal::Open } else { Seal::Never };
        let is_degraded = AtomicBool::new(false);
        Segment { number, metric, rows, graph, tuning, removed, dead, is_degraded, erasures: 0, seal }
    }

    pub(crate) fn row(&self, number: u32) -> &Row {
        self.rows.row(number)
    }

    /// The row's direction.
    pub(crate) fn direction(&self, number: u32) -> &[f32] {
        self.graph.rows().row(number)
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

    /// How many of the ten nearest a search finds: an estimate.
    pub(crate) fn recall(&self) -> Option<f32> {
        self.tuning.recall
    }

    /// With which effort it is searched by those who ask for none; none where every row is read.
    pub(crate) fn effort(&self) -> Option<usize> {
        self.tuning.effort
    }

    /// How often rows of it were erased.
    pub(crate) fn erasures(&self) -> u64 {
        self.erasures
    }

    /// Whether it is to be written down.
    pub(crate) fn is_to_be_sealed(&self) -> bool {
        self.seal == Seal::Open && !self.is_degraded()
    }

    /// The number of its file; none while it is not written down.
    pub(crate) fn file(&self) -> Option<u64> {
        match self.seal {
            Seal::File(number) => Some(number),
            Seal::Open | Seal::Never => None,
        }
    }

    /// It is written down in a file of that number.
    pub(crate) fn seal_as(&mut self, file: u64) {
        self.seal = Seal::File(file);
    }

    /// It could not be written down, and is not tried again.
    pub(crate) fn give_up_sealing(&mut self) {
        self.seal = Seal::Never;
    }

    /// What it was written down in is gone: it is to be written down again.
    pub(crate) fn unseal(&mut self) {
        self.seal = Seal::Open;
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
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

    /// Every row, where it lies, and when it was removed.
    pub(crate) fn each(&self, mut with: impl FnMut(&Row, &[f32], Option<Position>)) {
        for number in self.rows.numbers() {
            with(self.row(number), self.direction(number), self.removed(number));
        }
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

    /// The commit that added the vector an object has as of a position.
    pub(crate) fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let found = self.rows.of_object(object).find(|number| self.is_visible(*number, at));
        found.map(|number| self.rows.row(number).added)
    }

    /// Erases every row of some objects; answers which of them had some. Cost: what [`Graph::erase`] costs, when one had.
    pub(crate) fn erase(&mut self, objects: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let had: Vec<ObjectId> = objects.iter().copied().filter(|object| self.holds(*object)).collect();
        let erased: HashSet<u32> = had.iter().flat_map(|object| self.rows.erase(*object)).collect();
        for number in &erased {
            // As if it had been removed before everything.
            let removed = std::mem::replace(&mut self.removed[*number as usize], Position::NONE);
            self.dead += usize::from(removed == LIVE);
        }
        if !erased.is_empty() {
            self.graph.erase(&erased);
            self.erasures += 1;
            self.seal = if self.graph.has_sketch() { Seal::Open } else { Seal::Never };
        }
        had
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
        let Some(mut effort) = effort_for(wanted, share, query.effort, self.tuning.effort) else {
            return self.scan(query);
        };
        while effort <= effort_max(&self.graph) && !self.is_degraded() {
            let mut nearest = self.walk(query, effort);
            if nearest.len() >= wanted {
                // They lie anywhere: many of them say nothing of what the walk has missed.
                self.graph.lost().for_each(|alike| self.offer(&mut nearest, &alike, query));
                return self.neighbors(nearest, query);
            }
            effort *= 4;
        }
        self.scan(query)
    }

    /// The nearest `k` of what a walk finds that are shown.
    fn walk(&self, query: &Query<'_>, effort: usize) -> BinaryHeap<Candidate> {
        let mut nearest = BinaryHeap::with_capacity(query.k + 1);
        // An engine is foreign code: a panic in it costs this segment its graph, and nothing else.
        let near = catch_unwind(AssertUnwindSafe(|| self.graph.near(query.place, effort)));
        let Ok(near) = near else {
            tracing::error!(
                rows = self.len(),
                "a graph of vectors failed; its rows are read one by one from now on"
            );
            self.is_degraded.store(true, Ordering::Relaxed);
            return nearest;
        };
        near.for_each(|alike| self.offer(&mut nearest, &alike, query));
        nearest
    }

    /// The exact answer. Cost: reads every row.
    fn scan(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = BinaryHeap::with_capacity(query.k + 1);
        for number in self.rows.numbers() {
            self.offer(&mut nearest, &Alike::from(number), query);
        }
        self.neighbors(nearest, query)
    }

    /// Keeps rows of one direction that are seen, pass, and are among the nearest.
    fn offer(&self, nearest: &mut BinaryHeap<Candidate>, alike: &Alike<'_>, query: &Query<'_>) {
        let mut seen = alike.numbers().filter(|number| self.is_seen(*number, query)).peekable();
        if seen.peek().is_none() {
            return;
        }
        let distance = self.metric.distance(query.place, self.direction(alike.first));
        for number in seen {
            let found = Candidate { distance, object: self.row(number).object, number: number as usize };
            Candidate::offer(nearest, found, query.k, |_| self.passes(number, query));
        }
    }

    fn neighbors(&self, nearest: BinaryHeap<Candidate>, query: &Query<'_>) -> Vec<Neighbor> {
        let neighbor = |Candidate { distance, object, number }| {
            let number = u32::try_from(number).ok()?;
            Some(Neighbor { object, distance, metadata: self.row(number).metadata.clone() })
        };
        keep_nearest(nearest.into_iter().filter_map(neighbor).collect(), query.k)
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
/// for, when that is more, or as the graph is tuned for. None reads every row.
fn effort_for(wanted: usize, share: f32, asked: Option<usize>, tuned: Option<usize>) -> Option<usize> {
    let least = match asked {
        Some(asked) => asked.min(limit::SEARCH_EFFORT_MAX),
        None => tuned?,
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands at most, and above 0"
    )]
    let enough = {
        let margin = match asked {
            Some(_) if share >= 1.0 => 1.0,
            // The share is a guess.
            Some(_) => 1.5,
            // Who says nothing wants most of the nearest: a graph that finds ten with more than the least effort finds
            // the others so, too.
            None => 1.5 * least as f32 / limit::SEARCH_EFFORT_MIN as f32,
        };
        (margin * wanted as f32 / share.max(limit::FLAT_SHARE)).ceil() as usize
    };
    Some(enough.max(least))
}

#[cfg(test)]
mod tests;
