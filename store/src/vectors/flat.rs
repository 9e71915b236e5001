//! The exact index: every vector in one row-major matrix, scanned whole.
//!
//! A row is never moved while a snapshot can see it: removal only dates it, compaction drops dated rows that
//! nobody can see any more. 4,000 vectors of 384 components scan in well under a millisecond; this is also the
//! oracle for any approximate index.

use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::id::{ObjectId, Position};
use crate::json::Json;

use super::{Neighbor, Query, VectorIndex, bytes, distance, fields, keep_nearest, normalised, passes};

/// Dated rows kept without a thought; above it, a fifth of all rows.
const DEAD_ROWS_KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Flat {
    dim: usize,
    matrix: Vec<f32>,
    rows: Vec<Row>,
    live: HashMap<ObjectId, usize>,
    dead: usize,
}

#[derive(Clone, Debug)]
struct Row {
    object: ObjectId,
    added: Position,
    removed: Option<Position>,
    metadata: Json,
}

impl Flat {
    /// An empty index for vectors of `dim` components.
    pub(crate) fn new(dim: usize) -> Flat {
        Flat { dim, matrix: Vec::new(), rows: Vec::new(), live: HashMap::new(), dead: 0 }
    }

    /// Rebuilds it of the rows that are kept.
    fn keep(&mut self, is_kept: impl Fn(&Row) -> bool) {
        let mut kept = Flat::new(self.dim);
        for (number, row) in self.rows.iter().enumerate().filter(|(_, row)| is_kept(row)) {
            kept.matrix.extend_from_slice(self.vector(number));
            match row.removed {
                None => drop(kept.live.insert(row.object, kept.rows.len())),
                Some(_) => kept.dead += 1,
            }
            kept.rows.push(row.clone());
        }
        *self = kept;
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.matrix[row * self.dim..(row + 1) * self.dim]
    }
}

impl Row {
    fn is_visible(&self, at: Position) -> bool {
        self.added <= at && self.removed.is_none_or(|removed| removed > at)
    }

    fn passes(&self, query: &Query<'_>) -> bool {
        query.filter.is_empty() || passes(&fields(&self.metadata).unwrap_or_default(), query.filter)
    }
}

impl VectorIndex for Flat {
    fn upsert(&mut self, at: Position, object: ObjectId, components: &[f32], metadata: &Json) {
        self.remove(at, object);
        // What was voted on has a direction; a damaged row is kept searchable as the zero vector, unrelated to all.
        let direction = normalised(components).unwrap_or_else(|_| vec![0.0; self.dim]);
        self.matrix.extend(direction.iter().copied().chain(std::iter::repeat(0.0)).take(self.dim));
        self.live.insert(object, self.rows.len());
        self.rows.push(Row { object, added: at, removed: None, metadata: metadata.clone() });
    }

    fn remove(&mut self, at: Position, object: ObjectId) {
        if let Some(row) = self.live.remove(&object) {
            self.rows[row].removed = Some(at);
            self.dead += 1;
        }
    }

    fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = BinaryHeap::with_capacity(query.k + 1);
        for (number, row) in self.rows.iter().enumerate() {
            if !row.is_visible(query.at) || (query.hidden)(row.object) {
                continue;
            }
            let distance = distance(query.direction, self.vector(number));
            let found = Candidate { distance, object: row.object, number };
            // Metadata is kept as text; it is parsed for those only that are near enough.
            let is_near = nearest.len() < query.k || nearest.peek().is_some_and(|farthest| found < *farthest);
            if is_near && row.passes(query) {
                nearest.push(found);
                if nearest.len() > query.k {
                    nearest.pop();
                }
            }
        }
        let hits = nearest.into_iter().map(|hit| Neighbor {
            object: hit.object,
            distance: hit.distance,
            metadata: self.rows[hit.number].metadata.clone(),
        });
        keep_nearest(hits.collect(), query.k)
    }

    fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        if let Some(row) = self.live.get(&object).map(|row| &self.rows[*row])
            && row.is_visible(at)
        {
            return Some(row.added);
        }
        let visible = self.rows.iter().find(|row| row.object == object && row.is_visible(at));
        visible.map(|row| row.added)
    }

    fn compact(&mut self, oldest: Position) -> Option<Position> {
        let worthwhile = DEAD_ROWS_KEPT.max(self.rows.len() / 5);
        if self.dead <= worthwhile {
            return None;
        }
        let is_dropped = |row: &Row| row.removed.is_some_and(|removed| removed <= oldest);
        if self.rows.iter().filter(|row| is_dropped(row)).count() <= worthwhile {
            return None;
        }
        let dropped = self.rows.iter().filter(|row| is_dropped(row)).filter_map(|row| row.removed).max();
        self.keep(|row| !is_dropped(row));
        dropped
    }

    fn live(&self) -> Vec<(ObjectId, u64)> {
        self.live.keys().map(|object| (*object, self.bytes(*object))).collect()
    }

    fn bytes(&self, object: ObjectId) -> u64 {
        self.live.get(&object).map_or(0, |row| bytes(self.dim, self.rows[*row].metadata.as_str()))
    }

    fn forget(&mut self, objects: &HashSet<ObjectId>) {
        if self.rows.iter().any(|row| objects.contains(&row.object)) {
            self.keep(|row| !objects.contains(&row.object));
        }
    }

    fn holds(&self, object: ObjectId) -> bool {
        self.rows.iter().any(|row| row.object == object)
    }
}

/// Ordered so that the heap's top is the one to drop first: the farthest, ties by the larger object.
struct Candidate {
    distance: f32,
    object: ObjectId,
    number: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.object.cmp(&other.object))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}
