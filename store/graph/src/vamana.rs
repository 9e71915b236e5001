//! Graphs by the `diskann` crate: its algorithms over our rows and links. The crate moves fast, so its version is fixed
//! and it is named in this file alone.
//!
//! Its traits are made for stores that wait for a disk; ours never does, so every future is ready when it is first
//! polled.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use diskann::error::Infallible;
use diskann::graph::config::{Builder, MaxDegree};
use diskann::graph::search::Knn;
use diskann::graph::{AdjacencyList, DiskANNIndex, glue, workingset};
use diskann::neighbor::Neighbor;
use diskann::provider::{self, HasId};
use diskann::utils::VectorRepr;
use diskann::{ANNResult, default_post_processor};
use diskann_vector::PreprocessedDistanceFunction;
use diskann_vector::distance::Metric;

use crate::matrix::Matrix;
use crate::{Links, Search};

/// Of directions of unit length: the order is that of cosine, and rows that are almost the same keep apart, where one
/// less a product of nearly one would be nought.
const METRIC: Metric = Metric::L2;
/// Links that a row has after it was pruned.
const DEGREE: usize = 32;
/// Links that it may gather until then.
pub(super) const DEGREE_MAX: usize = 42;
/// Rows looked at for each that is added.
const BUILD_EFFORT: usize = 100;
/// With which each row is searched for once the graph is built.
const CHECK_EFFORT: usize = 64;

/// Builds a graph over some of the rows, one at a time.
pub(super) fn build(
    rows: &Arc<Matrix>,
    is_in: impl Fn(&u32) -> bool,
    is_stopping: &AtomicBool,
) -> Option<Box<dyn Search>> {
    let entry = rows.middle(&is_in)?;
    let index = index(Web::new(Arc::clone(rows), entry))?;
    for number in rows.numbers().filter(|number| *number != entry && is_in(number)) {
        if is_stopping.load(Ordering::Relaxed) {
            return None;
        }
        // Nothing of it can fail: neither rows nor links do.
        now(index.insert(&Strategy, &NoContext, &number, rows.row(number))).ok()?;
    }
    // Few rows in ten thousands are where no walk for themselves comes by: it begins with them, as far as there is room.
    for number in rows.numbers().filter(is_in) {
        if is_stopping.load(Ordering::Relaxed) {
            return None;
        }
        if !index.near(rows.row(number), CHECK_EFFORT).contains(&number) {
            index.provider().append(entry, number);
        }
    }
    Some(Box::new(index))
}

/// A graph with an entry and links that were checked.
pub(super) fn load(rows: &Arc<Matrix>, entry: u32, links: &[Vec<u32>]) -> Option<Box<dyn Search>> {
    let web = Web::new(Arc::clone(rows), entry);
    rows.numbers().zip(links).for_each(|(row, links)| web.write(row, links));
    Some(Box::new(index(web)?))
}

/// None never: what is asked for is fixed.
fn index(web: Web) -> Option<DiskANNIndex<Web>> {
    let asked = Builder::new(DEGREE, MaxDegree::new(DEGREE_MAX), BUILD_EFFORT, METRIC.into());
    Some(DiskANNIndex::new(asked.build().ok()?, web, None))
}

impl Search for DiskANNIndex<Web> {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        let effort = effort.max(1);
        let mut found: Vec<Neighbor<u32>> = Vec::with_capacity(effort);
        let Ok(parameters) = Knn::new(effort, None) else { return Vec::new() };
        let searched = now(self.search(parameters, &Strategy, &NoContext, direction, &mut found));
        debug_assert!(searched.is_ok(), "neither rows nor links fail");
        found.iter().map(|near| *near.id()).collect()
    }

    fn links(&self) -> Links {
        let web = self.provider();
        let of_row = |number| {
            let mut links = AdjacencyList::with_capacity(DEGREE_MAX);
            web.read(number, &mut links);
            links.to_vec()
        };
        web.rows.numbers().map(of_row).collect()
    }

    fn entry(&self) -> Option<u32> {
        Some(self.provider().entry)
    }

    fn bytes(&self) -> usize {
        self.provider().links.len() * size_of::<AtomicU32>()
    }
}

/// What a future says that never waits.
fn now<T>(future: impl Future<Output = ANNResult<T>>) -> ANNResult<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(said) => said,
        Poll::Pending => Err(diskann::ANNError::message("a future waits that has nothing to wait for")),
    }
}

/// Matrix and the links between them. Only one thread adds links, before others search.
struct Web {
    rows: Arc<Matrix>,
    entry: u32,
    /// For each row its number of links, then the links: [`DEGREE_MAX`] of them.
    links: Vec<AtomicU32>,
}

impl Web {
    fn new(rows: Arc<Matrix>, entry: u32) -> Web {
        let links = (0..rows.len() * (DEGREE_MAX + 1)).map(|_| AtomicU32::new(0)).collect();
        Web { rows, entry, links }
    }

    fn cells(&self, number: u32) -> &[AtomicU32] {
        let first = number as usize * (DEGREE_MAX + 1);
        &self.links[first..=first + DEGREE_MAX]
    }

    fn read(&self, number: u32, into: &mut AdjacencyList<u32>) {
        let cells = self.cells(number);
        let count = (cells[0].load(Ordering::Relaxed) as usize).min(DEGREE_MAX);
        let mut list = into.resize(DEGREE_MAX);
        list.iter_mut().zip(&cells[1..=count]).for_each(|(link, cell)| *link = cell.load(Ordering::Relaxed));
        list.finish(count);
    }

    /// Adds a link that is not there; none when there is no room.
    fn append(&self, number: u32, link: u32) {
        let mut links = AdjacencyList::with_capacity(DEGREE_MAX);
        self.read(number, &mut links);
        links.extend_from_slice(&[link]);
        self.write(number, &links);
    }

    fn write(&self, number: u32, links: &[u32]) {
        let cells = self.cells(number);
        let links = &links[..links.len().min(DEGREE_MAX)];
        cells[1..].iter().zip(links).for_each(|(cell, link)| cell.store(*link, Ordering::Relaxed));
        cells[0].store(u32::try_from(links.len()).unwrap_or(0), Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct NoContext;

impl provider::ExecutionContext for NoContext {}

impl provider::DataProvider for Web {
    type Context = NoContext;
    type InternalId = u32;
    type ExternalId = u32;
    type Error = Infallible;
    type Guard = provider::NoopGuard<u32>;

    fn to_internal_id(&self, _: &NoContext, number: &u32) -> Result<u32, Infallible> {
        Ok(*number)
    }

    fn to_external_id(&self, _: &NoContext, number: u32) -> Result<u32, Infallible> {
        Ok(number)
    }
}

impl provider::SetElement<&[f32]> for Web {
    type SetError = Infallible;

    /// It is among the rows already.
    fn set_element(
        &self,
        _: &NoContext,
        number: &u32,
        _: &[f32],
    ) -> impl Future<Output = Result<Self::Guard, Infallible>> + Send {
        ready(Ok(provider::NoopGuard::new(*number)))
    }
}

/// Reads and writes links.
#[derive(Clone, Copy)]
struct Linker<'a>(&'a Web);

impl HasId for Linker<'_> {
    type Id = u32;
}

impl provider::NeighborAccessor for Linker<'_> {
    fn get_neighbors(
        &mut self,
        number: u32,
        into: &mut AdjacencyList<u32>,
    ) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.read(number, into);
        ready(Ok(()))
    }
}

impl provider::NeighborAccessorMut for Linker<'_> {
    fn set_neighbors(&mut self, number: u32, links: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.write(number, links);
        ready(Ok(()))
    }

    fn append_vector(&mut self, number: u32, more: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        let mut links = AdjacencyList::with_capacity(DEGREE_MAX);
        self.0.read(number, &mut links);
        links.extend_from_slice(more);
        self.0.write(number, &links);
        ready(Ok(()))
    }
}

/// A walk towards one direction.
struct Walk<'a> {
    web: &'a Web,
    distance: <f32 as VectorRepr>::QueryDistance,
    links: AdjacencyList<u32>,
    /// Those of them that lead to rows not yet looked at.
    new: Vec<u32>,
}

impl Walk<'_> {
    fn distance_to(&self, number: u32) -> f32 {
        self.distance.evaluate_similarity(self.web.rows.row(number))
    }
}

impl HasId for Walk<'_> {
    type Id = u32;
}

impl glue::SearchAccessor for Walk<'_> {
    fn starting_points(&self) -> impl Future<Output = ANNResult<Vec<u32>>> + Send {
        ready(Ok(vec![self.web.entry]))
    }

    fn start_point_distances<F: FnMut(u32, f32) + Send>(
        &mut self,
        mut found: F,
    ) -> impl Future<Output = ANNResult<()>> + Send {
        found(self.web.entry, self.distance_to(self.web.entry));
        ready(Ok(()))
    }

    fn expand_beam<I, P, F>(
        &mut self,
        numbers: I,
        mut is_new: P,
        mut found: F,
    ) -> impl Future<Output = ANNResult<()>> + Send
    where
        I: Iterator<Item = u32> + Send,
        P: glue::HybridPredicate<u32> + Send + Sync,
        F: FnMut(u32, f32) + Send,
    {
        for number in numbers {
            self.web.read(number, &mut self.links);
            self.new.clear();
            self.new.extend(self.links.iter().filter(|link| is_new.eval_mut(link)));
            // Most of a walk is waiting for rows: all of them are asked for before the first is looked at.
            self.new.iter().for_each(|link| self.web.rows.touch(*link));
            for link in &self.new {
                found(*link, self.distance_to(*link));
            }
        }
        ready(Ok(()))
    }
}

/// Chooses links among candidates.
struct Pruner<'a> {
    web: &'a Web,
    distance: <f32 as VectorRepr>::Distance,
}

impl HasId for Pruner<'_> {
    type Id = u32;
}

/// The rows as candidates.
struct Candidates<'a>(&'a Matrix);

impl workingset::View<u32> for Candidates<'_> {
    type ElementRef<'a> = &'a [f32];
    type Element<'a>
        = &'a [f32]
    where
        Self: 'a;

    fn get(&self, number: u32) -> Option<&[f32]> {
        Some(self.0.row(number))
    }
}

impl glue::PruneAccessor for Pruner<'_> {
    type Neighbors<'a>
        = Linker<'a>
    where
        Self: 'a;
    type ElementRef<'a> = &'a [f32];
    type View<'a>
        = Candidates<'a>
    where
        Self: 'a;
    type Distance<'a>
        = &'a <f32 as VectorRepr>::Distance
    where
        Self: 'a;

    fn neighbors(&mut self) -> Linker<'_> {
        Linker(self.web)
    }

    async fn fill<I>(&mut self, _: I) -> ANNResult<(Candidates<'_>, Self::Distance<'_>)>
    where
        I: ExactSizeIterator<Item = u32> + Clone + Send + Sync,
    {
        Ok((Candidates(&self.web.rows), &self.distance))
    }
}

#[derive(Clone)]
struct Strategy;

impl<'a> glue::SearchStrategy<'a, Web, &'a [f32]> for Strategy {
    type SearchAccessorError = Infallible;
    type SearchAccessor = Walk<'a>;

    fn search_accessor(
        &'a self,
        web: &'a Web,
        _: &'a NoContext,
        direction: &'a [f32],
    ) -> Result<Walk<'a>, Infallible> {
        let distance = f32::query_distance(direction, METRIC);
        let links = AdjacencyList::with_capacity(DEGREE_MAX);
        Ok(Walk { web, distance, links, new: Vec::with_capacity(DEGREE_MAX) })
    }
}

impl<'a> glue::DefaultPostProcessor<'a, Web, &'a [f32]> for Strategy {
    default_post_processor!(glue::CopyIds);
}

impl glue::PruneStrategy<Web> for Strategy {
    type PruneAccessor<'a> = Pruner<'a>;
    type PruneAccessorError = Infallible;

    fn prune_accessor<'a>(
        &'a self,
        web: &'a Web,
        _: &'a NoContext,
        _: usize,
    ) -> Result<Pruner<'a>, Infallible> {
        Ok(Pruner { web, distance: f32::distance(METRIC, Some(web.rows.dim())) })
    }
}

impl<'a> glue::InsertStrategy<'a, Web, &'a [f32]> for Strategy {
    type SearchAccessor = Walk<'a>;
    type SearchAccessorError = Infallible;
    type PruneStrategy = Strategy;

    fn insert_search_accessor(
        &'a self,
        web: &'a Web,
        context: &'a NoContext,
        direction: &'a [f32],
    ) -> Result<Walk<'a>, Infallible> {
        glue::SearchStrategy::search_accessor(self, web, context, direction)
    }

    fn prune_strategy(&self) -> Strategy {
        Strategy
    }
}
