//! Opening: the index of a collection, made of the vectors that the database has and of segments that were sealed.
//!
//! ```text
//! offer     each vector of the database   to the newest sealed segment that knows it, else to the tail
//! finish    a segment to which half of its rows came loads its graph without the others; all else: the tail
//! ```
//! The database decides what there is: a sealed row counts when object, commit and digest agree, and a graph is
//! believed as far as its walks reach.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use telos_graph::{Engine, Matrix, NO_NODE};

use crate::id::{ObjectId, Position};
use crate::json::Json;

use super::CollectionForm;
use super::layered::Layered;
use super::rows::{Row, Rows};
use super::sealed::{self, Sealed};
use super::segment::Segment;

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

impl Opening {
    /// `index`: an empty one. `sealed`: segments with the numbers of their files, the newest first; those of another
    /// form or engine, or that would take more than `bytes_max`, are left out.
    pub(crate) fn new(
        form: CollectionForm,
        engine: Engine,
        index: Layered,
        sealed: Vec<(u64, Sealed)>,
        bytes_max: u64,
    ) -> Opening {
        let fits = |sealed: &Sealed| {
            let bytes = sealed.rows.len() as u64 * (form.dim * size_of::<f32>()) as u64;
            sealed.head.form == form && sealed.head.engine == engine.version() && bytes <= bytes_max
        };
        let fitting = sealed.into_iter().filter(|(_, sealed)| fits(sealed));
        let found: Vec<Found> = fitting.map(|(file, sealed)| Found::new(file, sealed, form.dim)).collect();
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
    /// Why a sealed segment is no graph; then all is to be read again without any.
    pub(crate) fn finish(mut self) -> Result<Layered, String> {
        for found in std::mem::take(&mut self.found) {
            if found.came < found.rows.len().div_ceil(2) {
                found.into_rows().for_each(|(row, place)| self.index.take_up(row, &place));
            } else {
                self.index.add(found.into_segment(self.engine, self.form)?);
            }
        }
        Ok(self.index)
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

    /// The rows that came, and where they lie.
    fn into_rows(self) -> impl Iterator<Item = (Row, Vec<f32>)> {
        let dim = self.sealed.head.form.dim;
        let Found { matrix, rows, .. } = self;
        let came = rows.into_iter().enumerate().filter(|(_, row)| !row.is_erased());
        came.map(move |(number, row)| (row, matrix[number * dim..(number + 1) * dim].to_vec()))
    }

    fn into_segment(self, engine: Engine, form: CollectionForm) -> Result<Segment, String> {
        let Found { file, sealed, matrix, rows, came } = self;
        let is_whole = came == sealed.rows.iter().filter(|row| row.node != NO_NODE).count();
        let recall = sealed.head.recall;
        let mut sketch = sealed.into_sketch();
        for (node, _) in sketch.nodes.iter_mut().zip(&rows).filter(|(_, row)| row.is_erased()) {
            *node = NO_NODE;
        }
        let matrix = Matrix::of(form.dim, matrix);
        // An engine is foreign code.
        let loaded = catch_unwind(AssertUnwindSafe(|| engine.load(matrix, sketch)));
        let graph = match loaded {
            Ok(loaded) => loaded.map_err(|why| format!("segment {file}: {why}"))?,
            Err(_) => return Err(format!("segment {file}: the engine panicked")),
        };
        // As if they had been removed before everything.
        let removed: Vec<Option<Position>> =
            rows.iter().map(|row| row.is_erased().then_some(Position::NONE)).collect();
        let number = Layered::next_number();
        let mut segment =
            Segment::new(number, form.metric, Rows::of(rows), graph, recall, removed.into_iter());
        if is_whole {
            segment.is_sealed_as(file);
        }
        Ok(segment)
    }
}
