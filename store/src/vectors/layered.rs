//! The index of a collection: an exact tail that takes what is new, and segments with graphs for what is older.
//!
//! ```text
//! upsert, remove    into the tail; a row that is superseded is dated wherever it is      with the commit
//! work              rows to make a segment of: a full tail, segments of like size,       a look, and a copy of rows
//!                   one with many dead rows
//! build             a graph over them, while everything goes on                          nobody waits
//! install           the segment takes the place of what it was made of, with the          one pass over its dates
//!                   dates that were given meanwhile
//! ```
//! Rows that were dated before the oldest snapshot are left out of what is built. When an object is forgotten,
//! segments that hold rows of it go back into the tail without them, and what is being built is thrown away when its
//! build ends: until then its rows are in memory, where no search finds them.
//! Never here: threads, locks, files.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use telos_graph::{Engine, Graph, Matrix};

use crate::id::{ObjectId, Position};
use crate::json::Json;
use crate::limit;

use super::flat::Flat;
use super::rows::{Row, Rows};
use super::segment::Segment;
use super::{CollectionForm, Neighbor, Query, VectorIndex, bytes, keep_nearest};

/// See the module.
pub(crate) struct Layered {
    tail: Flat,
    /// Rows that the tail gathers before they get a graph.
    tail_rows_max: usize,
    segments: Vec<Segment>,
    last_number: u64,
    /// A segment is being built.
    is_under_work: AtomicBool,
    /// So many of the tail's rows, from the oldest, keep their places meanwhile.
    fixed: AtomicUsize,
    /// No graph can be built; every row is read.
    is_hopeless: bool,
    /// Another number in every index, and after objects were forgotten.
    version: u64,
}

/// Rows to build a segment of.
pub(crate) struct Work {
    engine: Engine,
    rows: Arc<Rows>,
    /// Where each row is from.
    origins: Vec<Origin>,
    /// The segments that it replaces.
    replaced: Vec<u64>,
    /// How many of the tail's rows it replaces, from the oldest.
    of_tail: usize,
    /// The newest removal of a row that was left out.
    dropped: Option<Position>,
    version: u64,
}

#[derive(Clone, Copy)]
enum Origin {
    Tail(usize),
    Segment(u64, u32),
}

/// A segment that was built and is not yet part of the index.
pub(crate) struct Built {
    work: Work,
    /// None when no row was left.
    graph: Option<Graph>,
}

/// How an index stands.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct IndexShape {
    /// Vectors that there are now.
    pub vectors: usize,
    /// Rows in the exact tail, dated ones included.
    pub tail: usize,
    /// Rows of each segment, dated ones included.
    pub segments: Vec<usize>,
    /// Dated rows that are still kept.
    pub dead: usize,
    /// Segments whose graph failed, and one more when none can be built: their rows are read one by one.
    pub degraded: usize,
    /// Bytes in memory.
    pub bytes: usize,
}

impl Work {
    /// Builds the graph; none when it was told to stop.
    pub(crate) fn build(self, is_stopping: &AtomicBool) -> Option<Built> {
        let graph = match self.rows.len() {
            0 => None,
            _ => Some(self.engine.build(self.rows.matrix(), is_stopping)?),
        };
        Some(Built { work: self, graph })
    }
}

impl Layered {
    /// An empty index for vectors of a form, with a tail of at least one row.
    pub(crate) fn new(form: CollectionForm, tail_rows_max: usize) -> Layered {
        Layered {
            tail: Flat::new(form),
            tail_rows_max: tail_rows_max.max(1),
            segments: Vec::new(),
            last_number: 0,
            is_under_work: AtomicBool::new(false),
            fixed: AtomicUsize::new(0),
            is_hopeless: false,
            version: next_version(),
        }
    }

    /// Whether there is something to build, when snapshots from `oldest` on may be searched. Cost: a look at each segment,
    /// and at the dates of those with many.
    pub(crate) fn has_work(&self, oldest: Position) -> bool {
        let is_idle = !self.is_hopeless && !self.is_under_work.load(Ordering::Acquire);
        is_idle && (self.tail.len() >= self.tail_rows_max || !self.to_merge(oldest).is_empty())
    }

    /// What to build next; whoever takes it gives it back by [`Layered::install`] or [`Layered::abandon`].
    pub(crate) fn work(&self, engine: Engine, oldest: Position) -> Option<Work> {
        if !self.has_work(oldest) {
            return None;
        }
        let is_full = self.tail.len() >= self.tail_rows_max;
        let replaced = if is_full { Vec::new() } else { self.to_merge(oldest) };
        let of_tail = if is_full { self.tail.len().min(limit::SEALED_ROWS_MAX) } else { 0 };
        let is_replaced = |segment: &&Segment| replaced.contains(&segment.number);
        let rows = of_tail + self.segments.iter().filter(is_replaced).map(Segment::len).sum::<usize>();
        let mut gathered = Gathered::new(self.tail.form().dim, rows, oldest);
        for segment in self.segments.iter().filter(is_replaced) {
            for number in segment.rows().numbers() {
                let (rows, origin) = (segment.rows(), Origin::Segment(segment.number, number));
                gathered.take(rows.row(number), rows.direction(number), segment.removed(number), origin);
            }
        }
        for number in 0..of_tail {
            let (row, direction) = (self.tail.row(number), self.tail.direction(number));
            gathered.take(row, direction, self.tail.removed(number), Origin::Tail(number));
        }
        self.fixed.store(of_tail, Ordering::Release);
        self.is_under_work.store(true, Ordering::Release);
        let Gathered { dim, matrix, rows, origins, dropped, .. } = gathered;
        let rows = Arc::new(Rows::of(Matrix::of(dim, matrix), rows));
        Some(Work { engine, rows, origins, replaced, of_tail, dropped, version: self.version })
    }

    /// Puts a segment in the place of what it was built of; answers the newest removal that is gone with that. What
    /// was built of rows that were forgotten since is dropped.
    pub(crate) fn install(&mut self, built: Built) -> Option<Position> {
        self.put_down();
        let Built { work, graph } = built;
        if work.version != self.version {
            return None;
        }
        let removed: Vec<Option<Position>> =
            work.origins.iter().map(|origin| self.removed_at(*origin)).collect();
        self.segments.retain(|segment| !work.replaced.contains(&segment.number));
        if let Some(graph) = graph {
            self.last_number += 1;
            self.segments.push(Segment::new(
                self.last_number,
                self.tail.form().metric,
                work.rows,
                graph,
                removed.into_iter(),
            ));
        }
        self.tail.drop_first(work.of_tail);
        work.dropped
    }

    /// What was being built will not be; nothing ever will when it failed.
    pub(crate) fn abandon(&mut self, has_failed: bool) {
        self.put_down();
        self.is_hopeless |= has_failed;
    }

    fn put_down(&self) {
        self.fixed.store(0, Ordering::Release);
        self.is_under_work.store(false, Ordering::Release);
    }

    pub(crate) fn shape(&self) -> IndexShape {
        let rows = self.tail.len() + self.segments.iter().map(Segment::len).sum::<usize>();
        let dead = self.tail.dead() + self.segments.iter().map(Segment::dead).sum::<usize>();
        IndexShape {
            vectors: rows - dead,
            tail: self.tail.len(),
            segments: self.segments.iter().map(Segment::len).collect(),
            dead,
            degraded: self.segments.iter().filter(|segment| segment.is_degraded()).count()
                + usize::from(self.is_hopeless),
            bytes: self.tail.memory() + self.segments.iter().map(Segment::bytes).sum::<usize>(),
        }
    }

    fn removed_at(&self, origin: Origin) -> Option<Position> {
        match origin {
            Origin::Tail(number) => self.tail.removed(number),
            Origin::Segment(segment, number) => {
                let segment = self.segments.iter().find(|known| known.number == segment);
                segment.and_then(|segment| segment.removed(number))
            }
        }
    }

    /// Segments to be one: of like size, so that a row is built anew a few times only; or one that is mostly dead rows.
    fn to_merge(&self, oldest: Position) -> Vec<u64> {
        let tier =
            |segment: &Segment| (segment.len() / self.tail_rows_max).max(1).ilog(limit::SEGMENTS_PER_TIER);
        let alike =
            self.segments.iter().map(tier).collect::<std::collections::BTreeSet<_>>().into_iter().find_map(
                |of| {
                    let alike: Vec<u64> = self
                        .segments
                        .iter()
                        .filter(|segment| tier(segment) == of)
                        .map(|segment| segment.number)
                        .collect();
                    (alike.len() >= limit::SEGMENTS_PER_TIER).then_some(alike)
                },
            );
        let is_dead = |dead: usize, segment: &Segment| dead > segment.len() / limit::DEAD_SHARE_MAX;
        // What a snapshot still sees would only be copied.
        let is_mostly_dead = |segment: &&Segment| {
            is_dead(segment.dead(), segment) && is_dead(segment.dead_before(oldest), segment)
        };
        alike
            .or_else(|| self.segments.iter().find(is_mostly_dead).map(|segment| vec![segment.number]))
            .unwrap_or_default()
    }

    /// Puts a segment's rows back into the tail, but for some objects'.
    fn dissolve(&mut self, segment: &Segment, without: &HashSet<ObjectId>) {
        let rows = segment.rows();
        for number in rows.numbers().filter(|number| !without.contains(&rows.row(*number).object)) {
            self.tail.push(rows.row(number).clone(), rows.direction(number), segment.removed(number));
        }
    }
}

fn next_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// Rows on their way into a segment.
struct Gathered {
    dim: usize,
    oldest: Position,
    matrix: Vec<f32>,
    rows: Vec<Row>,
    origins: Vec<Origin>,
    dropped: Option<Position>,
}

impl Gathered {
    fn new(dim: usize, count: usize, oldest: Position) -> Gathered {
        let matrix = Vec::with_capacity(count * dim);
        let (rows, origins) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Gathered { dim, oldest, matrix, rows, origins, dropped: None }
    }

    fn take(&mut self, row: &Row, direction: &[f32], removed: Option<Position>, origin: Origin) {
        if let Some(removed) = removed.filter(|removed| *removed <= self.oldest) {
            self.dropped = self.dropped.max(Some(removed));
            return;
        }
        self.matrix.extend_from_slice(direction);
        self.rows.push(row.clone());
        self.origins.push(origin);
    }
}

impl VectorIndex for Layered {
    fn upsert(&mut self, at: Position, object: ObjectId, components: &[f32], metadata: &Json) {
        self.remove(at, object);
        self.tail.upsert(at, object, components, metadata);
    }

    fn remove(&mut self, at: Position, object: ObjectId) {
        self.tail.remove(at, object);
        // At most one of all has a live row of it.
        let _ = self.segments.iter_mut().any(|segment| segment.remove(at, object));
    }

    fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = self.tail.search(query);
        nearest.extend(self.segments.iter().flat_map(|segment| segment.search(query)));
        keep_nearest(nearest, query.k)
    }

    fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let of_segments = || self.segments.iter().find_map(|segment| segment.added(object, at));
        self.tail.added(object, at).or_else(of_segments)
    }

    /// The tail's; segments are when they are built anew.
    fn compact(&mut self, oldest: Position) -> Option<Position> {
        self.tail.compact_after(self.fixed.load(Ordering::Acquire), oldest)
    }

    fn live(&self) -> Vec<(ObjectId, u64)> {
        let form = self.tail.form();
        let of_row = |row: &Row| (row.object, bytes(form, row.metadata.as_str()));
        let mut live = self.tail.live();
        live.extend(self.segments.iter().flat_map(Segment::live_rows).map(of_row));
        live
    }

    fn bytes(&self, object: ObjectId) -> u64 {
        let of_segments = || self.segments.iter().find_map(|segment| segment.live(object));
        let row = self.tail.live_row(object).or_else(of_segments);
        row.map_or(0, |row| bytes(self.tail.form(), row.metadata.as_str()))
    }

    fn forget(&mut self, objects: &HashSet<ObjectId>) {
        if !objects.iter().any(|object| self.holds(*object)) {
            return;
        }
        self.version = next_version();
        self.fixed.store(0, Ordering::Release);
        let concerned = |segment: &mut Segment| objects.iter().any(|object| segment.holds(*object));
        let concerned: Vec<Segment> = self.segments.extract_if(.., concerned).collect();
        concerned.iter().for_each(|segment| self.dissolve(segment, objects));
        self.tail.forget(objects);
    }

    fn holds(&self, object: ObjectId) -> bool {
        self.tail.holds(object) || self.segments.iter().any(|segment| segment.holds(object))
    }
}
