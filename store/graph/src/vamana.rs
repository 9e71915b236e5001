//! Graphs by the `diskann` crate: its algorithms over our nodes and links. The crate moves fast, so its version is fixed
//! and it is named in this file alone.
//!
//! Its traits are made for stores that wait for a disk; ours never does, so every future is ready when it is first
//! polled.

use std::collections::HashSet;
use std::future::{Future, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use diskann::ANNResult;
use diskann::error::Infallible;
use diskann::graph::config::{Builder, MaxDegree};
use diskann::graph::{AdjacencyList, DiskANNIndex, glue, workingset};
use diskann::provider::{self, HasId};
use diskann::utils::VectorRepr;
use diskann_vector::PreprocessedDistanceFunction;
use diskann_vector::distance::Metric;

use crate::Search;
use crate::lanes::FourAtOnce;
use crate::nodes::Nodes;
use crate::walk::{self, Aim};
use crate::web::{DEGREE_MAX, Web};

/// For directions of unit length too: the order is that of cosine, and nodes that are almost the same keep apart, where
/// one less a product of nearly one would be nought.
const METRIC: Metric = Metric::L2;
/// Links that a node has after it was pruned; it gathers [`DEGREE_MAX`] until then.
const DEGREE: usize = 32;
/// Changes with whatever changes what a graph is.
pub(super) const VERSION: &str = "diskann 0.61.0, degree 32, L2, strays by the way";
/// Nodes looked at for each that is added.
const BUILD_EFFORT: usize = 100;
/// With which each row is searched for once the graph is built.
const CHECK_EFFORT: usize = 64;
/// How often every row is searched for, at most. A stray that is linked may keep another from being found, so all are
/// looked for again: of rows of very different lengths 685 in 4,096 are strays at first, then some 50, then a few. Where
/// rows are all as far from each other there is no way to most of them, however often it is tried.
const PASSES_MAX: usize = 6;

/// Builds a graph, one node at a time.
pub(super) fn build(nodes: Nodes, is_stopping: &dyn Fn() -> bool) -> Option<Box<dyn Search>> {
    let web = Web::of(nodes)?;
    let entry = web.entry();
    let mut index = index(web)?;
    let nodes = index.data_provider.nodes();
    for node in (0..nodes.len()).filter(|node| *node != entry) {
        if is_stopping() {
            return None;
        }
        // Nothing of it can fail: neither nodes nor links do.
        now(index.insert(&Strategy, &NoContext, &node, nodes.direction(node))).ok()?;
    }
    let strays = link_strays(&index, is_stopping)?;
    index.data_provider.set_strays(strays);
    Some(Box::new(index))
}

/// Leads to each node that a walk for itself does not find: from the nearest on that walk that has room. Answers those
/// that are not found all the same, in order; none when it was told to stop.
fn link_strays(index: &DiskANNIndex<Web>, is_stopping: &dyn Fn() -> bool) -> Option<Vec<u32>> {
    let web = &index.data_provider;
    let mut strays = Vec::new();
    for pass in 1..=PASSES_MAX {
        strays.clear();
        let mut has_linked = false;
        for node in 0..web.nodes().len() {
            if is_stopping() {
                return None;
            }
            let direction = web.nodes().direction(node);
            let Some(near) = walk::near_instead(web, CHECK_EFFORT, node, &aim(direction)) else { continue };
            strays.push(node);
            // What is linked in the last pass nobody would look for.
            has_linked |= pass < PASSES_MAX && near.into_iter().any(|host| web.append(host, node));
        }
        if !has_linked {
            break;
        }
    }
    Some(strays)
}

/// A graph with links that are there.
pub(super) fn over(web: Web) -> Option<Box<dyn Search>> {
    Some(Box::new(index(web)?))
}

/// None never: what is asked for is fixed.
fn index(web: Web) -> Option<DiskANNIndex<Web>> {
    let asked = Builder::new(DEGREE, MaxDegree::new(DEGREE_MAX), BUILD_EFFORT, METRIC.into());
    Some(DiskANNIndex::new(asked.build().ok()?, web, None))
}

impl Search for DiskANNIndex<Web> {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        // Where every node was taken out there is nowhere to begin.
        if !self.data_provider.nodes().is_live(self.data_provider.entry()) {
            return Vec::new();
        }
        walk::near(&self.data_provider, effort.max(1), &aim(direction))
    }

    fn erase(&mut self, rows: &HashSet<u32>) -> Option<Vec<u32>> {
        let gone = self.data_provider.nodes_mut().erase(rows);
        (!gone.is_empty()).then(|| self.data_provider.splice(&gone))
    }

    fn nodes(&self) -> &Nodes {
        self.data_provider.nodes()
    }

    fn web(&self) -> Option<&Web> {
        Some(&self.data_provider)
    }

    fn bytes(&self) -> usize {
        self.data_provider.bytes()
    }
}

fn aim(direction: &[f32]) -> Aim<'_, impl Fn(&[f32]) -> f32> {
    let distance = f32::query_distance(direction, METRIC);
    let distance = move |row: &[f32]| distance.evaluate_similarity(row);
    Aim { direction, distance, four_at_once: FourAtOnce::of_this_processor() }
}

/// What a future says that never waits.
fn now<T>(future: impl Future<Output = ANNResult<T>>) -> ANNResult<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(said) => said,
        Poll::Pending => Err(diskann::ANNError::message("a future waits that has nothing to wait for")),
    }
}

fn read(web: &Web, node: u32, into: &mut AdjacencyList<u32>) {
    let links = web.read(node);
    let count = links.len();
    let mut list = into.resize(count);
    list.iter_mut().zip(links).for_each(|(into, link)| *into = link);
    list.finish(count);
}

#[derive(Clone)]
pub(crate) struct NoContext;

impl provider::ExecutionContext for NoContext {}

impl provider::DataProvider for Web {
    type Context = NoContext;
    type InternalId = u32;
    type ExternalId = u32;
    type Error = Infallible;
    type Guard = provider::NoopGuard<u32>;

    fn to_internal_id(&self, _: &NoContext, node: &u32) -> Result<u32, Infallible> {
        Ok(*node)
    }

    fn to_external_id(&self, _: &NoContext, node: u32) -> Result<u32, Infallible> {
        Ok(node)
    }
}

impl provider::SetElement<&[f32]> for Web {
    type SetError = Infallible;

    /// It is among the nodes already.
    fn set_element(
        &self,
        _: &NoContext,
        node: &u32,
        _: &[f32],
    ) -> impl Future<Output = Result<Self::Guard, Infallible>> + Send {
        ready(Ok(provider::NoopGuard::new(*node)))
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
        node: u32,
        into: &mut AdjacencyList<u32>,
    ) -> impl Future<Output = ANNResult<()>> + Send {
        read(self.0, node, into);
        ready(Ok(()))
    }
}

impl provider::NeighborAccessorMut for Linker<'_> {
    fn set_neighbors(&mut self, node: u32, links: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.write(node, links);
        ready(Ok(()))
    }

    fn append_vector(&mut self, node: u32, more: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        let mut links = AdjacencyList::with_capacity(DEGREE_MAX);
        read(self.0, node, &mut links);
        links.extend_from_slice(more);
        self.0.write(node, &links);
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
    fn distance_to(&self, node: u32) -> f32 {
        self.distance.evaluate_similarity(self.web.nodes().direction(node))
    }
}

impl HasId for Walk<'_> {
    type Id = u32;
}

impl glue::SearchAccessor for Walk<'_> {
    fn starting_points(&self) -> impl Future<Output = ANNResult<Vec<u32>>> + Send {
        ready(Ok(vec![self.web.entry()]))
    }

    fn start_point_distances<F: FnMut(u32, f32) + Send>(
        &mut self,
        mut found: F,
    ) -> impl Future<Output = ANNResult<()>> + Send {
        found(self.web.entry(), self.distance_to(self.web.entry()));
        ready(Ok(()))
    }

    fn expand_beam<I, P, F>(
        &mut self,
        nodes: I,
        mut is_new: P,
        mut found: F,
    ) -> impl Future<Output = ANNResult<()>> + Send
    where
        I: Iterator<Item = u32> + Send,
        P: glue::HybridPredicate<u32> + Send + Sync,
        F: FnMut(u32, f32) + Send,
    {
        for node in nodes {
            read(self.web, node, &mut self.links);
            self.new.clear();
            self.new.extend(self.links.iter().filter(|link| is_new.eval_mut(link)));
            // Most of a walk is waiting for rows: all of them are asked for before the first is looked at.
            self.new.iter().for_each(|link| self.web.nodes().fetch(*link));
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

/// The nodes as candidates.
struct Candidates<'a>(&'a Nodes);

impl workingset::View<u32> for Candidates<'_> {
    type ElementRef<'a> = &'a [f32];
    type Element<'a>
        = &'a [f32]
    where
        Self: 'a;

    fn get(&self, node: u32) -> Option<&[f32]> {
        Some(self.0.direction(node))
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
        Ok((Candidates(self.web.nodes()), &self.distance))
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

impl glue::PruneStrategy<Web> for Strategy {
    type PruneAccessor<'a> = Pruner<'a>;
    type PruneAccessorError = Infallible;

    fn prune_accessor<'a>(
        &'a self,
        web: &'a Web,
        _: &'a NoContext,
        _: usize,
    ) -> Result<Pruner<'a>, Infallible> {
        Ok(Pruner { web, distance: f32::distance(METRIC, Some(web.nodes().rows().dim())) })
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
