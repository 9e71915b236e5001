//! The exact index: every vector in one row-major matrix, scanned whole.
//!
//! A row is never moved while a snapshot can see it: removal only dates it, forgetting makes it zeros and nobody's,
//! compaction drops dated rows that nobody can see any more. 4,000 vectors of 384 components scan in well under a millisecond; this is also the
//! oracle for any approximate index.

use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::id::{ObjectId, Position};
use crate::json::Json;

use super::candidate::Candidate;
use super::rows::Row;
use super::{CollectionForm, Neighbor, Query, VectorIndex, bytes, fields, keep_nearest, passes};

/// Dated rows kept without a thought; above it, a fifth of all rows.
const DEAD_ROWS_KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Flat {
    form: CollectionForm,
    matrix: Vec<f32>,
    rows: Vec<Row>,
    /// For each row when it was removed.
    removed: Vec<Option<Position>>,
    live: HashMap<ObjectId, usize>,
    dead: usize,
}

impl Flat {
    /// An empty index for vectors of a form.
    pub(crate) fn new(form: CollectionForm) -> Flat {
        let (matrix, rows, removed) = (Vec::new(), Vec::new(), Vec::new());
        Flat { form, matrix, rows, removed, live: HashMap::new(), dead: 0 }
    }

    pub(crate) fn form(&self) -> CollectionForm {
        self.form
    }

    /// Rows, dated ones included.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn dead(&self) -> usize {
        self.dead
    }

    pub(crate) fn row(&self, number: usize) -> &Row {
        &self.rows[number]
    }

    pub(crate) fn removed(&self, number: usize) -> Option<Position> {
        self.removed[number]
    }

    /// The row's direction; zeros when it was erased.
    pub(crate) fn direction(&self, number: usize) -> &[f32] {
        &self.matrix[number * self.form.dim..(number + 1) * self.form.dim]
    }

    /// Takes a row as it is. An object's last row may be live.
    pub(crate) fn push(&mut self, row: Row, direction: &[f32], removed: Option<Position>) {
        self.matrix.extend_from_slice(direction);
        match removed {
            None => drop(self.live.insert(row.object, self.rows.len())),
            Some(_) => self.dead += 1,
        }
        self.rows.push(row);
        self.removed.push(removed);
    }

    /// Drops the oldest rows, and answers all there were. Cost: copies the others.
    #[must_use = "what is freed may take a while to free"]
    pub(crate) fn drop_first(&mut self, count: usize) -> Option<Flat> {
        let mut number = 0;
        (count > 0).then(|| {
            self.keep(|_, _| {
                number += 1;
                number > count
            })
        })
    }

    /// Erases every row of some objects where it is; answers which rows they were, and whose.
    pub(crate) fn erase(&mut self, objects: &HashSet<ObjectId>) -> Vec<(usize, ObjectId)> {
        let rows = self.rows.iter().map(|row| row.object).enumerate();
        let erased: Vec<(usize, ObjectId)> = rows.filter(|(_, object)| objects.contains(object)).collect();
        for (number, object) in &erased {
            self.matrix[number * self.form.dim..(number + 1) * self.form.dim].fill(0.0);
            self.rows[*number] = Row::erased();
            // As if it had been removed before everything.
            let removed = self.removed[*number].replace(Position::NONE);
            self.dead += usize::from(removed.is_none());
            self.live.remove(object);
        }
        erased
    }

    /// As [`VectorIndex::compact`], but the first `fixed` rows keep their places.
    pub(crate) fn compact_after(&mut self, fixed: usize, oldest: Position) -> Option<Position> {
        let worthwhile = DEAD_ROWS_KEPT.max(self.rows.len() / 5);
        if self.dead <= worthwhile {
            return None;
        }
        let removed = self.removed.iter().skip(fixed).copied().flatten();
        let (mut count, mut dropped) = (0, None);
        for at in removed.filter(|at| *at <= oldest) {
            (count, dropped) = (count + 1, dropped.max(Some(at)));
        }
        if count <= worthwhile {
            return None;
        }
        let mut number = 0;
        let _ = self.keep(|_, removed| {
            number += 1;
            number <= fixed || removed.is_none_or(|removed| removed > oldest)
        });
        dropped
    }

    /// The row that an object has now.
    pub(crate) fn live_row(&self, object: ObjectId) -> Option<&Row> {
        self.live.get(&object).map(|number| &self.rows[*number])
    }

    /// Whether it holds anything of some objects. Cost: one pass over the rows.
    pub(crate) fn holds_any(&self, objects: &HashSet<ObjectId>) -> bool {
        self.rows.iter().any(|row| objects.contains(&row.object))
    }

    /// Every row, where it lies, and when it was removed.
    pub(crate) fn each(&self, mut with: impl FnMut(&Row, &[f32], Option<Position>)) {
        for (number, row) in self.rows.iter().enumerate() {
            with(row, self.direction(number), self.removed[number]);
        }
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let metadata: usize = self.rows.iter().map(|row| row.metadata.memory()).sum();
        let of_row = size_of::<Row>() + size_of::<Option<Position>>();
        // A hash map has a byte more for each entry.
        let of_live = size_of::<(ObjectId, usize)>() + 1;
        self.matrix.capacity() * size_of::<f32>()
            + self.rows.capacity() * of_row
            + self.live.capacity() * of_live
            + metadata
    }

    /// Rebuilds it of the rows that are kept; answers what it was.
    fn keep(&mut self, mut is_kept: impl FnMut(&Row, Option<Position>) -> bool) -> Flat {
        let mut kept = Flat::new(self.form);
        for (number, row) in self.rows.iter().enumerate() {
            if is_kept(row, self.removed[number]) {
                kept.push(row.clone(), self.direction(number), self.removed[number]);
            }
        }
        std::mem::replace(self, kept)
    }

    fn is_visible(&self, number: usize, at: Position) -> bool {
        self.rows[number].added <= at && self.removed[number].is_none_or(|removed| removed > at)
    }

    fn passes(&self, number: usize, query: &Query<'_>) -> bool {
        let metadata = || fields(&self.rows[number].metadata).unwrap_or_default();
        query.filter.is_empty() || passes(&metadata(), query.filter)
    }
}

impl VectorIndex for Flat {
    fn upsert(&mut self, at: Position, object: ObjectId, components: &[f32], metadata: &Json) {
        self.remove(at, object);
        let place = self.form.place_or_zeros(components);
        self.push(Row { object, added: at, metadata: metadata.clone() }, &place, None);
    }

    fn remove(&mut self, at: Position, object: ObjectId) {
        if let Some(row) = self.live.remove(&object) {
            self.removed[row] = Some(at);
            self.dead += 1;
        }
    }

    fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = BinaryHeap::with_capacity(query.k + 1);
        for (number, row) in self.rows.iter().enumerate() {
            if !self.is_visible(number, query.at) || (query.hidden)(row.object) {
                continue;
            }
            let distance = self.form.metric.distance(query.place, self.direction(number));
            // Metadata is kept as text; it is parsed for those only that are near enough.
            let found = Candidate { distance, object: row.object, number };
            Candidate::offer(&mut nearest, found, query.k, |_| self.passes(number, query));
        }
        let hits = nearest.into_iter().map(|hit| Neighbor {
            object: hit.object,
            distance: hit.distance,
            metadata: self.rows[hit.number].metadata.clone(),
        });
        keep_nearest(hits.collect(), query.k)
    }

    fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let is_it = |number: &usize| self.rows[*number].object == object && self.is_visible(*number, at);
        let live = self.live.get(&object).copied().filter(is_it);
        let found = live.or_else(|| (0..self.rows.len()).find(is_it));
        found.map(|number| self.rows[number].added)
    }

    fn compact(&mut self, oldest: Position) -> Option<Position> {
        self.compact_after(0, oldest)
    }

    fn live(&self) -> Vec<(ObjectId, u64)> {
        self.live.keys().map(|object| (*object, self.bytes(*object))).collect()
    }

    fn bytes(&self, object: ObjectId) -> u64 {
        self.live_row(object).map_or(0, |row| bytes(self.form.dim, row.metadata.as_str()))
    }

    fn forget(&mut self, objects: &HashSet<ObjectId>) {
        self.erase(objects);
    }

    fn holds(&self, object: ObjectId) -> bool {
        self.rows.iter().any(|row| row.object == object)
    }
}
