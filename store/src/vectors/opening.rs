//! Opening: the index of a collection, made of the vectors that the database has and of segments that were sealed.
//!
//! ```text
//! offer     each vector of the database   to the newest sealed segment that knows it, else to the tail
//! finish    a segment to which half of its rows came loads its graph without the others, and keeps it when it still
//!           finds what is near; all else: the tail
//! ```
//! The database decides what there is: a sealed row counts when object, commit and digest agree, and a graph is
//! believed as far as its walks reach.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use telos_graph::{Engine, Graph, LoadError, Matrix, NO_NODE};

use crate::id::{ObjectId, Position};
use crate::json::Json;
use crate::limit;

use super::CollectionForm;
use super::layered::Layered;
use super::rows::{Row, Rows};
use super::sealed::{self, Sealed};
use super::segment::Segment;
use super::tuning::Tuning;

/// The index of one collection while it is read.
pub(crate) struct Opening {
    form: CollectionForm,
    engine: Engine,
    index: Layered,
    found: Vec<Found>,
    /// Where the newest sealed segment has a vector: which segment, and which row of it.
    places: HashMap<(ObjectId, Position), (usize, usize)>,
}

/// A sealed segment that waits for its rows.
struct Found {
    file: u64,
    sealed: Sealed,
    matrix: Vec<f32>,
    /// Those that came; others are as if they had been erased.
    rows: Vec<Row>,
    came: usize,
}

/// What became of a sealed segment.
enum Loaded {
    Segment(Segment),
    /// Its graph misses too much without the rows that did not come.
    Poor(Vec<Row>, Graph),
}

/// A sealed segment is no graph; then all is to be read again without it.
#[derive(Debug)]
pub(crate) struct NoGraph {
    pub(crate) file: u64,
    pub(crate) why: String,
}

impl Opening {
    /// `index`: an empty one. `sealed`: segments of that form and engine with the numbers of their files, the newest
    /// first.
    pub(crate) fn new(
        form: CollectionForm,
        engine: Engine,
        index: Layered,
        sealed: Vec<(u64, Sealed)>,
    ) -> Opening {
        let sealed = sealed.into_iter();
        let found: Vec<Found> = sealed.map(|(file, sealed)| Found::new(file, sealed, form.dim)).collect();
        let mut places = HashMap::new();
        for (segment, found) in found.iter().enumerate() {
            for (number, row) in found.sealed.rows.iter().enumerate().filter(|(_, row)| row.node != NO_NODE) {
                places.entry((row.object, row.added)).or_insert((segment, number));
            }
        }
        Opening { form, engine, index, found, places }
    }

    /// One vector that the database has.
    pub(crate) fn offer(&mut self, added: Position, object: ObjectId, components: &[f32], metadata: &Json) {
        let row = Row { object, added, metadata: metadata.clone() };
        let place = self.form.place_or_zeros(components);
        match self.places.get(&(object, added)).copied() {
            Some((segment, number)) if self.found[segment].fits(number, &place) => {
                self.found[segment].take(number, row, &place);
            }
            _ => self.index.take_up(row, &place),
        }
    }

    /// The index.
    ///
    /// # Errors
    /// [`NoGraph`] for the first that is none.
    pub(crate) fn finish(mut self) -> Result<Layered, NoGraph> {
        for found in std::mem::take(&mut self.found) {
            if found.came < found.rows.len().div_ceil(2) {
                self.take_up(found.rows, &Matrix::of(self.form.dim, found.matrix));
                continue;
            }
            let file = found.file;
            match found.load(self.engine, self.form).map_err(|why| NoGraph { file, why })? {
                Loaded::Segment(segment) => self.index.add(segment),
                Loaded::Poor(rows, graph) => self.take_up(rows, graph.rows()),
            }
        }
        Ok(self.index)
    }

    /// Gives the tail the rows that came.
    fn take_up(&mut self, rows: Vec<Row>, places: &Matrix) {
        for (number, row) in (0_u32..).zip(rows).filter(|(_, row)| !row.is_erased()) {
            self.index.take_up(row, places.row(number));
        }
    }
}

impl Found {
    fn new(file: u64, sealed: Sealed, dim: usize) -> Found {
        let count = sealed.rows.len();
        Found { file, sealed, matrix: vec![0.0; count * dim], rows: vec![Row::erased(); count], came: 0 }
    }

    fn fits(&self, number: usize, place: &[f32]) -> bool {
        self.sealed.rows[number].digest == sealed::digest(place)
    }

    fn take(&mut self, number: usize, row: Row, place: &[f32]) {
        self.matrix[number * place.len()..(number + 1) * place.len()].copy_from_slice(place);
        self.rows[number] = row;
        self.came += 1;
    }

    fn load(self, engine: Engine, form: CollectionForm) -> Result<Loaded, String> {
        let Found { file, sealed, matrix, rows, came } = self;
        let is_whole = came == sealed.rows.iter().filter(|row| row.node != NO_NODE).count();
        let known = Tuning::known(sealed.head.effort, sealed.head.recall);
        let mut sketch = sealed.into_sketch();
        for (node, _) in sketch.nodes.iter_mut().zip(&rows).filter(|(_, row)| row.is_erased()) {
            *node = NO_NODE;
        }
        let matrix = Matrix::of(form.dim, matrix);
        let load = || {
            let graph = engine.load(matrix, sketch)?;
            // What was known is of all its rows. Where every row is read, a graph that finds less is no worse.
            let is_poor = |effort| {
                let recall = graph.recall(effort, &|| false);
                recall.is_some_and(|recall| recall < limit::LOADED_RECALL_MIN)
            };
            let is_poor = !is_whole && known.effort.is_some_and(is_poor);
            let tuning = if is_whole || is_poor { known } else { Tuning::of(&graph, &|| false) };
            Ok((graph, tuning, is_poor))
        };
        // An engine is foreign code.
        let loaded = catch_unwind(AssertUnwindSafe(load));
        let loaded: Result<_, LoadError> = loaded.map_err(|_| "the engine panicked".to_owned())?;
        let (graph, tuning, is_poor) = loaded.map_err(|why| why.to_string())?;
        if is_poor {
            return Ok(Loaded::Poor(rows, graph));
        }
        // As if they had been removed before everything.
        let removed: Vec<Option<Position>> =
            rows.iter().map(|row| row.is_erased().then_some(Position::NONE)).collect();
        let number = Layered::next_number();
        let mut segment =
            Segment::new(number, form.metric, Rows::of(rows), graph, tuning, removed.into_iter());
        if is_whole {
            segment.seal_as(file);
        }
        Ok(Loaded::Segment(segment))
    }
}

#[cfg(test)]
mod tests;
