//! The index of a collection: an exact tail that takes what is new, and segments with graphs for what is older.
//!
//! ```text
//! upsert, remove    into the tail; a row that is superseded is dated wherever it is      with the commit
//! work              what to make a segment of: a full tail, segments of like size,       a look
//!                   one with many dead rows
//! gather            a part of these rows                                                 a short copy
//! build             a graph over them, while everything goes on                          nobody waits
//! install           the segment takes the place of what it was made of, with the         one pass over its dates
//!                   dates that were given meanwhile
//! forget            rows are erased where they are, and a build that has some of         the links of graphs with
//!                   them is cancelled                                                    such rows are read
//! ```
//! Rows that were dated before the oldest snapshot are left out of what is built. What a cancelled build still has is
//! found by no search, and known until it is dropped.
//! Never here: threads, locks, files.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use telos_graph::Engine;

use crate::id::{ObjectId, Position};
use crate::json::Json;
use crate::limit;

use super::archived::Archived;
use super::flat::Flat;
use super::rows::Row;
use super::segment::Segment;
use super::work::{Built, Origin, Out, Part, Place, Work};
use super::{CollectionForm, Neighbor, Query, VectorIndex, bytes, bytes_beside, keep_nearest};

/// See the module.
pub(crate) struct Layered {
    tail: Flat,
    /// Rows that the tail gathers before they get a graph.
    tail_rows_max: usize,
    segments: Vec<Segment>,
    /// What lies on disk; searched by itself, since that may take a while.
    archived: Option<Archived>,
    /// What is being built, or was last.
    out: Option<Out>,
    /// No graph can be built; every row is read.
    is_hopeless: bool,
    /// What snapshots from before would see is gone.
    floor: Position,
}

/// What is to be freed, which may take a while.
#[derive(Default)]
#[must_use = "it is to be dropped where nobody waits"]
pub(crate) struct Freed {
    _segments: Vec<Segment>,
    _tail: Option<Flat>,
    _archived: Option<Archived>,
    /// Last, as whoever asks whether rows are still there looks at its flag.
    _built: Option<Built>,
}

/// How an index stands.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct IndexShape {
    /// Vectors that there are now.
    pub vectors: usize,
    /// Rows in the exact tail, dated and erased ones included.
    pub tail: usize,
    /// Rows of each segment, dated and erased ones included.
    pub segments: Vec<usize>,
    /// Segments that are written down, so that a start need not build them.
    pub sealed: usize,
    /// Near rows that a search which asks for no effort keeps in view, in each segment; 0 where it reads every row, since
    /// no effort that is worth its cost finds enough.
    pub efforts: Vec<usize>,
    /// How many of the ten nearest such a search finds, in the segment where it finds the fewest: an estimate, made when
    /// its graph was built. None without a segment.
    pub recall: Option<f32>,
    /// Dated and erased rows that are still kept.
    pub dead: usize,
    /// Segments whose graph failed, and one more when none can be built: their rows are read one by one.
    pub degraded: usize,
    /// Rows of the archive's edition, those included that do not count any more.
    pub archived: usize,
    /// Its number; none without one.
    pub edition: Option<u64>,
    /// How many of the ten nearest a search of it finds, as measured when it was built; none without one.
    pub edition_recall: Option<f64>,
    /// Bytes in memory.
    pub bytes: usize,
}

impl Freed {
    /// What was built, and is not wanted any more.
    pub(super) fn of(built: Built) -> Freed {
        Freed { _built: Some(built), ..Freed::default() }
    }
}

impl Layered {
    /// An empty index for vectors of a form, with a tail of at least one row.
    pub(crate) fn new(form: CollectionForm, tail_rows_max: usize) -> Layered {
        Layered {
            tail: Flat::new(form),
            tail_rows_max: tail_rows_max.max(1),
            segments: Vec::new(),
            archived: None,
            out: None,
            is_hopeless: false,
            floor: Position::NONE,
        }
    }

    /// Snapshots from here on see what there was.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    /// What snapshots from before would see is gone.
    pub(crate) fn raise_floor(&mut self, at: Position) {
        self.floor = self.floor.max(at);
    }

    /// The number of a new segment: numbers are never used twice, whatever index it is of.
    pub(crate) fn next_number() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes a live row that the database has, before the index serves.
    pub(crate) fn take_up(&mut self, row: Row, place: &[f32]) {
        self.tail.push(row, place, None);
    }

    /// Has an edition that serves, before the index does; every row of it that counts was counted.
    pub(crate) fn rest_on(&mut self, archived: Archived) {
        archived.settle();
        self.archived = Some(archived);
    }

    pub(crate) fn archived(&self) -> Option<&Archived> {
        self.archived.as_ref()
    }

    /// Puts an edition in the place of all that lies in it; answers what is to be freed. Every snapshot that may be
    /// searched is at or after `floor`. Cost: a look at each row, and a copy of those that are not in it.
    pub(crate) fn publish(&mut self, mut archived: Archived, floor: Position) -> Freed {
        let mut left = Layered::new(self.tail.form(), self.tail_rows_max);
        self.tail.each(|row, place, removed| left.take_over(row, place, removed, floor, &mut archived));
        for segment in &self.segments {
            segment.each(|row, place, removed| left.take_over(row, place, removed, floor, &mut archived));
        }
        if let Some(before) = &self.archived {
            archived.take_over(before, floor);
        }
        archived.settle();
        left.archived = Some(archived);
        left.floor = self.floor.max(floor);
        left.inherit(self);
        let before = std::mem::replace(self, left);
        Freed {
            _segments: before.segments,
            _tail: Some(before.tail),
            _archived: before.archived,
            _built: None,
        }
    }

    fn take_over(
        &mut self,
        row: &Row,
        place: &[f32],
        removed: Option<Position>,
        floor: Position,
        archived: &mut Archived,
    ) {
        match removed {
            None if archived.count(row.object, row.added, row.metadata.as_str()) => {}
            Some(removed) if removed <= floor => {}
            removed => self.tail.push(row.clone(), place, removed),
        }
    }

    /// Takes a segment that was loaded, before the index serves.
    pub(crate) fn add(&mut self, segment: Segment) {
        self.segments.push(segment);
    }

    /// The first segment that is to be written down.
    pub(crate) fn unsealed(&self) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.is_to_be_sealed())
    }

    /// Every segment.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn segments_mut(&mut self) -> &mut [Segment] {
        &mut self.segments
    }

    pub(crate) fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.number == number)
    }

    /// Whether there may be something to build, whatever snapshots see. Cost: a look at each segment.
    pub(crate) fn may_have_work(&self) -> bool {
        let is_idle = !self.is_hopeless && !self.out.as_ref().is_some_and(Out::is_under_way);
        is_idle
            && (self.tail.len() >= self.tail_rows_max
                || !self.alike().is_empty()
                || self.segments.iter().any(|segment| is_many(segment.dead(), segment)))
    }

    /// Whether there is something to build, when snapshots from `oldest` on may be searched. Cost: a look at each
    /// segment, and at the dates of those with many.
    pub(crate) fn has_work(&self, oldest: Position) -> bool {
        self.may_have_work() && (self.tail.len() >= self.tail_rows_max || !self.to_merge(oldest).is_empty())
    }

    /// What to build next; whoever takes it gives it back by [`Layered::install`] or [`Layered::abandon`].
    pub(crate) fn work(&mut self, engine: Engine, oldest: Position) -> Option<Work> {
        if !self.has_work(oldest) {
            return None;
        }
        let is_full = self.tail.len() >= self.tail_rows_max;
        let replaced = if is_full { Vec::new() } else { self.to_merge(oldest) };
        let of_tail = if is_full { self.tail.len().min(limit::SEALED_ROWS_MAX) } else { 0 };
        let is_replaced = |segment: &&Segment| replaced.contains(&segment.number);
        let place_of = |segment: &Segment| (Place::Segment(segment.number), segment.len());
        let mut places: Vec<_> = self.segments.iter().filter(is_replaced).map(place_of).collect();
        places.push((Place::Tail, of_tail));
        let work = Work::of(engine, oldest, self.tail.form().dim, &places);
        self.out = Some(Out::of(&work, replaced, of_tail));
        Some(work)
    }

    /// Copies the next part of what is to be built; false when that was all.
    pub(crate) fn gather(&self, work: &mut Work) -> bool {
        let Some(Part { place, rows }) = work.next_part() else { return false };
        match place {
            Place::Tail => rows.for_each(|number| {
                let (row, direction) = (self.tail.row(number), self.tail.direction(number));
                work.take(row, direction, self.tail.removed(number), Origin { place, number });
            }),
            Place::Segment(segment) => {
                let Some(segment) = self.segment(segment) else { return false };
                for (number, of_segment) in
                    rows.filter_map(|number| Some((number, u32::try_from(number).ok()?)))
                {
                    let (row, direction) = (segment.row(of_segment), segment.direction(of_segment));
                    work.take(row, direction, segment.removed(of_segment), Origin { place, number });
                }
            }
        }
        true
    }

    /// Puts a segment in the place of what it was built of; answers the newest removal that is gone with that, and what
    /// is to be freed. What was cancelled is only freed.
    pub(crate) fn install(&mut self, mut built: Built) -> (Option<Position>, Freed) {
        let Some(out) = self.out.as_mut().filter(|out| out.is_of(&built)) else {
            self.abandon(false);
            return (None, Freed::of(built));
        };
        let (of_tail, replaced) = (out.of_tail(), out.replaced().to_vec());
        let removed: Vec<Option<Position>> =
            built.origins.iter().map(|origin| self.removed_at(*origin)).collect();
        let segments = self.segments.extract_if(.., |segment| replaced.contains(&segment.number)).collect();
        let segment = built.segment.take().map(|(rows, graph, tuning)| {
            let number = Layered::next_number();
            self.segments.push(Segment::new(
                number,
                self.tail.form().metric,
                rows,
                graph,
                tuning,
                removed.into_iter(),
            ));
            number
        });
        let tail = self.tail.drop_first(of_tail);
        if let Some(out) = &mut self.out {
            out.put_down(segment);
        }
        (built.dropped, Freed { _segments: segments, _tail: tail, _archived: None, _built: Some(built) })
    }

    /// What was being built will not be; nothing ever will when it failed.
    pub(crate) fn abandon(&mut self, has_failed: bool) {
        if let Some(out) = &mut self.out {
            out.put_down(None);
        }
        self.is_hopeless |= has_failed;
    }

    /// Takes the place of an index of the same collection: what is being built of that one is cancelled, and known here
    /// until it is dropped.
    pub(crate) fn inherit(&mut self, before: &mut Layered) {
        self.out = before.out.take().map(Out::into_stray);
    }

    /// Whether it holds anything of some objects. Cost: one pass over the tail, and a look for each object elsewhere.
    pub(crate) fn holds_any(&self, objects: &HashSet<ObjectId>) -> bool {
        let holds_beside = |object: &ObjectId| {
            self.segments.iter().any(|segment| segment.holds(*object))
                || self.archived.as_ref().is_some_and(|archived| archived.holds(*object))
                || self.out.as_ref().is_some_and(|out| out.holds(*object))
        };
        self.tail.holds_any(objects) || objects.iter().any(holds_beside)
    }

    pub(crate) fn shape(&self) -> IndexShape {
        let archived = self.archived.as_ref();
        let rows = self.tail.len()
            + self.segments.iter().map(Segment::len).sum::<usize>()
            + archived.map_or(0, Archived::len);
        let dead = self.tail.dead()
            + self.segments.iter().map(Segment::dead).sum::<usize>()
            + archived.map_or(0, Archived::dead);
        IndexShape {
            vectors: rows - dead,
            tail: self.tail.len(),
            segments: self.segments.iter().map(Segment::len).collect(),
            sealed: self.segments.iter().filter_map(Segment::file).count(),
            efforts: self.segments.iter().map(|segment| segment.effort().unwrap_or(0)).collect(),
            recall: self.segments.iter().filter_map(Segment::recall).min_by(f32::total_cmp),
            dead,
            degraded: self.segments.iter().filter(|segment| segment.is_degraded()).count()
                + usize::from(self.is_hopeless),
            archived: archived.map_or(0, Archived::len),
            edition: archived.map(Archived::number),
            edition_recall: archived.map(Archived::recall),
            bytes: self.tail.memory()
                + self.segments.iter().map(Segment::bytes).sum::<usize>()
                + archived.map_or(0, Archived::memory),
        }
    }

    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.number == number)
    }

    fn removed_at(&self, origin: Origin) -> Option<Position> {
        match origin.place {
            Place::Tail => self.tail.removed(origin.number),
            Place::Segment(segment) => self.segment(segment)?.removed(u32::try_from(origin.number).ok()?),
        }
    }

    /// Segments to be one: of like size, so that a row is built anew a few times only; or one that is mostly dead rows.
    fn to_merge(&self, oldest: Position) -> Vec<u64> {
        let alike = self.alike();
        if !alike.is_empty() {
            return alike;
        }
        // What a snapshot still sees would only be copied.
        let is_mostly_dead = |segment: &&Segment| {
            is_many(segment.dead(), segment) && is_many(segment.dead_before(oldest), segment)
        };
        self.segments.iter().find(is_mostly_dead).map(|segment| segment.number).into_iter().collect()
    }

    /// Enough segments of like size, the smallest such; none when there are not.
    fn alike(&self) -> Vec<u64> {
        let tier =
            |segment: &Segment| (segment.len() / self.tail_rows_max).max(1).ilog(limit::SEGMENTS_PER_TIER);
        let of_tier = |of| {
            let alike = self.segments.iter().filter(|segment| tier(segment) == of);
            alike.map(|segment| segment.number).collect::<Vec<u64>>()
        };
        let tiers: BTreeSet<u32> = self.segments.iter().map(tier).collect();
        let enough = tiers.into_iter().map(of_tier).find(|alike| alike.len() >= limit::SEGMENTS_PER_TIER);
        enough.unwrap_or_default()
    }
}

/// Whether so many dead rows are reason to build a segment anew.
fn is_many(dead: usize, segment: &Segment) -> bool {
    dead > segment.len() / limit::DEAD_SHARE_MAX
}

impl VectorIndex for Layered {
    fn upsert(&mut self, at: Position, object: ObjectId, components: &[f32], metadata: &Json) {
        self.remove(at, object);
        self.tail.upsert(at, object, components, metadata);
    }

    fn remove(&mut self, at: Position, object: ObjectId) {
        self.tail.remove(at, object);
        // At most one of all has a live row of it.
        let of_segments = self.segments.iter_mut().any(|segment| segment.remove(at, object));
        if let (Some(archived), false) = (&mut self.archived, of_segments) {
            archived.remove(at, object);
        }
    }

    fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let mut nearest = self.tail.search(query);
        nearest.extend(self.segments.iter().flat_map(|segment| segment.search(query)));
        keep_nearest(nearest, query.k)
    }

    fn added(&self, object: ObjectId, at: Position) -> Option<Position> {
        let of_segments = || self.segments.iter().find_map(|segment| segment.added(object, at));
        let of_archive = || self.archived.as_ref()?.added(object, at);
        self.tail.added(object, at).or_else(of_segments).or_else(of_archive)
    }

    /// The tail's; segments are when they are built anew.
    fn compact(&mut self, oldest: Position) -> Option<Position> {
        self.tail.compact_after(self.out.as_ref().map_or(0, Out::of_tail), oldest)
    }

    fn live(&self) -> Vec<(ObjectId, u64)> {
        let dim = self.tail.form().dim;
        let of_row = |row: &Row| (row.object, bytes(dim, row.metadata.as_str()));
        let mut live = self.tail.live();
        live.extend(self.segments.iter().flat_map(Segment::live_rows).map(of_row));
        if let Some(archived) = &self.archived {
            archived.each_live(|object, _, metadata| live.push((object, bytes_beside(dim, metadata))));
        }
        live
    }

    fn bytes(&self, object: ObjectId) -> u64 {
        let of_segments = || self.segments.iter().find_map(|segment| segment.live(object));
        let row = self.tail.live_row(object).or_else(of_segments);
        let dim = self.tail.form().dim;
        match row {
            Some(row) => bytes(dim, row.metadata.as_str()),
            None => {
                let of_archive = self.archived.as_ref().and_then(|archived| archived.metadata_of(object));
                of_archive.map_or(0, |metadata| bytes_beside(dim, metadata))
            }
        }
    }

    fn forget(&mut self, objects: &HashSet<ObjectId>) {
        if let Some(archived) = &mut self.archived {
            archived.forget(objects);
        }
        let mut being_built = HashSet::new();
        let has = |place, number| self.out.as_ref().is_some_and(|out| out.has(place, number));
        for (number, object) in self.tail.erase(objects) {
            being_built.extend(has(Place::Tail, number).then_some(object));
        }
        for segment in &mut self.segments {
            let erased = segment.erase(objects);
            being_built.extend(erased.into_iter().filter(|_| has(Place::Segment(segment.number), 0)));
        }
        if let (Some(out), false) = (&mut self.out, being_built.is_empty()) {
            out.cancel(being_built);
        }
    }

    fn holds(&self, object: ObjectId) -> bool {
        self.holds_any(&HashSet::from([object]))
    }
}
