//! Work: what a segment is built of, from the choice to the segment.
//!
//! ```text
//! plan       which rows, in parts of a bounded size     with the choice
//! gather     one part after the other                   each a short copy, while the index may be read
//! build      who has which row, and the graph           nobody waits; ends early when it is cancelled
//! ```
//! While it is out, the index knows what it was planned of and may cancel it. Rows of objects that were forgotten
//! meanwhile are in it until it is dropped.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use telos_graph::{Engine, Graph, Matrix};

use crate::id::{ObjectId, Position};
use crate::limit;

use super::rows::{Row, Rows};
use super::tuning::Tuning;

/// Rows to build a segment of.
pub(crate) struct Work {
    engine: Engine,
    oldest: Position,
    dim: usize,
    /// What is still to be gathered.
    parts: VecDeque<Part>,
    matrix: Vec<f32>,
    rows: Vec<Row>,
    /// Where each row is from.
    origins: Vec<Origin>,
    /// The newest removal of a row that was left out.
    dropped: Option<Position>,
    /// Last, so that whoever asks whether it is still there is told so until all of it is gone.
    is_cancelled: Arc<AtomicBool>,
}

/// Rows that are copied at once.
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) rows: Range<usize>,
}

/// Where rows are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Tail,
    Segment(u64),
}

/// Where a row is from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) place: Place,
    pub(super) number: usize,
}

/// A segment that was built and is not yet part of the index.
pub(crate) struct Built {
    /// None when no row was left.
    pub(super) segment: Option<(Rows, Graph, Tuning)>,
    pub(super) origins: Vec<Origin>,
    pub(super) dropped: Option<Position>,
    pub(super) is_cancelled: Arc<AtomicBool>,
}

/// What became of a build.
pub(crate) enum Outcome {
    Built(Box<Built>),
    /// It was told to stop, or cancelled.
    Ended,
    /// The engine built nothing.
    Failed,
}

/// What an index knows of the work on it that is out.
pub(super) struct Out {
    /// The segments that it replaces.
    replaced: Vec<u64>,
    /// How many of the tail's rows it replaces, from the oldest.
    of_tail: usize,
    /// It was not yet given back.
    is_under_way: bool,
    /// It is of an index that another took the place of: where its rows are in this one is not known.
    is_stray: bool,
    /// Gone with the last of its rows.
    is_cancelled: Weak<AtomicBool>,
    /// Objects whose rows it had when they were forgotten.
    forgotten: HashSet<ObjectId>,
}

impl Work {
    /// Plans to gather places with so many rows each, leaving out what was removed by `oldest`.
    pub(super) fn of(engine: Engine, oldest: Position, dim: usize, places: &[(Place, usize)]) -> Work {
        // In tests of the index a row or two, so that things happen between them.
        let bytes_max = if cfg!(test) { 24 } else { limit::GATHER_BYTES_MAX };
        let at_once = (bytes_max / (dim * size_of::<f32>())).max(1);
        let parts_of = |(place, count): &(Place, usize)| {
            let (place, count) = (*place, *count);
            let part = move |first| Part { place, rows: first..count.min(first + at_once) };
            (0..count).step_by(at_once).map(part)
        };
        let count = places.iter().map(|(_, count)| count).sum::<usize>();
        Work {
            engine,
            oldest,
            dim,
            parts: places.iter().flat_map(parts_of).collect(),
            matrix: Vec::with_capacity(count * dim),
            rows: Vec::with_capacity(count),
            origins: Vec::with_capacity(count),
            dropped: None,
            is_cancelled: Arc::default(),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// What is to be gathered next; none when it has all, or was cancelled.
    pub(super) fn next_part(&mut self) -> Option<Part> {
        if self.is_cancelled() { None } else { self.parts.pop_front() }
    }

    pub(super) fn take(&mut self, row: &Row, direction: &[f32], removed: Option<Position>, origin: Origin) {
        if let Some(removed) = removed.filter(|removed| *removed <= self.oldest) {
            self.dropped = self.dropped.max(Some(removed));
            return;
        }
        self.matrix.extend_from_slice(direction);
        self.rows.push(row.clone());
        self.origins.push(origin);
    }

    /// Builds the graph, unless it is told to stop or is cancelled.
    pub(crate) fn build(self, is_stopping: &AtomicBool) -> Outcome {
        // The flag first, since what is bound first is dropped last.
        let Work { is_cancelled, engine, dim, matrix, rows, origins, dropped, .. } = self;
        let must_end = || is_stopping.load(Ordering::Acquire) || is_cancelled.load(Ordering::Acquire);
        if must_end() {
            return Outcome::Ended;
        }
        let segment = (!rows.is_empty()).then(|| {
            let graph = engine.build(Matrix::of(dim, matrix), &must_end)?;
            let tuning = Tuning::of(&graph, &must_end);
            Some((Rows::of(rows), graph, tuning))
        });
        match segment {
            Some(None) if must_end() => Outcome::Ended,
            Some(None) => Outcome::Failed,
            _ => {
                Outcome::Built(Box::new(Built { segment: segment.flatten(), origins, dropped, is_cancelled }))
            }
        }
    }
}

impl Out {
    pub(super) fn of(work: &Work, replaced: Vec<u64>, of_tail: usize) -> Out {
        let is_cancelled = Arc::downgrade(&work.is_cancelled);
        Out {
            replaced,
            of_tail,
            is_under_way: true,
            is_stray: false,
            is_cancelled,
            forgotten: HashSet::new(),
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// The segments that it replaces.
    pub(super) fn replaced(&self) -> &[u64] {
        &self.replaced
    }

    /// How many of the tail's rows, from the oldest, keep their places meanwhile.
    pub(super) fn of_tail(&self) -> usize {
        if self.is_under_way { self.of_tail } else { 0 }
    }

    /// Whether this came of it, and is still wanted.
    pub(super) fn is_of(&self, built: &Built) -> bool {
        self.is_under_way
            && std::ptr::eq(self.is_cancelled.as_ptr(), Arc::as_ptr(&built.is_cancelled))
            && !built.is_cancelled.load(Ordering::Acquire)
    }

    /// It was given back, and `segment` made of it.
    pub(super) fn put_down(&mut self, segment: Option<u64>) {
        self.is_under_way = false;
        // What it replaced takes a while to free: rows of the new segment and of the tail are there until then.
        self.of_tail = usize::MAX;
        self.replaced.extend(segment);
    }

    /// Whether it may have the rows of a place.
    pub(super) fn has(&self, place: Place, number: usize) -> bool {
        self.is_stray
            || match place {
                Place::Tail => number < self.of_tail,
                Place::Segment(segment) => self.replaced.contains(&segment),
            }
    }

    /// Some of what it has is forgotten: its build ends.
    pub(super) fn cancel(&mut self, forgotten: HashSet<ObjectId>) {
        if let Some(is_cancelled) = self.is_cancelled.upgrade() {
            is_cancelled.store(true, Ordering::Release);
            self.forgotten.extend(forgotten);
        }
    }

    /// It is of an index that another took the place of.
    pub(super) fn into_stray(mut self) -> Out {
        self.is_stray = true;
        self.cancel(HashSet::new());
        self
    }

    /// Whether it still has rows of an object that was forgotten.
    pub(super) fn holds(&self, object: ObjectId) -> bool {
        self.forgotten.contains(&object) && self.is_cancelled.strong_count() > 0
    }
}
