//! Graphs by the `hnsw_rs` crate: layers of links, the upper ones for far steps. The crate is named in this file alone.
//!
//! Rows are not kept twice: what the crate stores as a point is the number of a row. Each link is a piece of memory of
//! its own, though, and links go in by adding rows only, so a graph of it is built anew where another is loaded. It
//! drops a graph with the threads of `rayon`, and tells what it does by the `log` crate.
//!
//! A row that has many others nearer than its neighbours are may lose every link to it: the farthest goes first. So each
//! row is searched for when the graph is built, and those that are not found are kept aside, and looked at by every
//! search.

use std::collections::HashSet;
use std::sync::Arc;

use hnsw_rs::prelude::{DistL2, Distance, Hnsw};

use crate::Search;
use crate::nodes::Nodes;
use crate::web::Web;

/// Links that a row has in an upper layer; twice as many in the lowest.
const DEGREE: usize = 16;
/// Rows looked at for each that is added.
const BUILD_EFFORT: usize = 100;
/// With which each row is searched for once the graph is built.
const CHECK_EFFORT: usize = 64;
/// The most that the crate knows. A row reaches the second with a chance of one in [`DEGREE`], and so on.
const LAYERS_MAX: usize = 16;
/// Bytes of one link: a pointer, and what it points at: two counts, a pointer, a distance, and the allocator's part.
const LINK_BYTES: usize = 8 + 48;
/// Bytes of one row besides its links: itself, a list for each layer, and the allocator's part of them.
const ROW_BYTES: usize = 176 + LAYERS_MAX * 24;

/// Changes with whatever changes what a graph is.
pub(super) const VERSION: &str = "hnsw_rs 0.3.5, degree 16, L2";

/// Builds a graph, one node at a time.
pub(super) fn build(nodes: Nodes, is_stopping: &dyn Fn() -> bool) -> Option<Box<dyn Search>> {
    let nodes = Arc::new(nodes);
    let between = Between { nodes: Arc::clone(&nodes), distance: DistL2 };
    let index = Hnsw::new(DEGREE, nodes.len() as usize, LAYERS_MAX, BUILD_EFFORT, between);
    for node in 0..nodes.len() {
        if is_stopping() {
            return None;
        }
        index.insert((&[Place::Stored(node)], node as usize));
    }
    let mut walked = Walked { index, strays: Vec::new() };
    for node in 0..nodes.len() {
        if is_stopping() {
            return None;
        }
        if !walked.near(nodes.direction(node), CHECK_EFFORT).contains(&node) {
            walked.strays.push(node);
        }
    }
    let bytes = walked.bytes();
    (nodes.len() > 0).then(|| Box::new(Layers { walked: Some(walked), nodes, bytes }) as Box<dyn Search>)
}

/// A direction, as the crate sees it.
#[derive(Clone)]
enum Place {
    Stored(u32),
    Asked(Arc<[f32]>),
}

/// As DiskANN's graphs compare.
struct Between {
    nodes: Arc<Nodes>,
    distance: DistL2,
}

impl Between {
    fn direction<'a>(&'a self, place: &'a [Place]) -> &'a [f32] {
        match place {
            [Place::Stored(node)] => self.nodes.direction(*node),
            [Place::Asked(direction)] => direction,
            _ => &[],
        }
    }
}

impl Distance<Place> for Between {
    fn eval(&self, left: &[Place], right: &[Place]) -> f32 {
        self.distance.eval(self.direction(left), self.direction(right))
    }
}

/// The crate's graph.
struct Walked {
    index: Hnsw<'static, Place, Between>,
    /// Nodes that no walk comes to.
    strays: Vec<u32>,
}

impl Walked {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        let effort = effort.max(1);
        let asked = [Place::Asked(direction.into())];
        let walked = self.index.search(&asked, effort, effort).into_iter();
        let mut found: Vec<(f32, u32)> = walked
            .filter_map(|near| Some((near.get_distance(), u32::try_from(near.get_origin_id()).ok()?)))
            .collect();
        if !self.strays.is_empty() {
            let distance = |node| self.index.get_distance().eval(&asked, &[Place::Stored(node)]);
            found.extend(self.strays.iter().map(|node| (distance(*node), *node)));
            found.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
            // A walk that begins elsewhere may come to one of them.
            found.dedup_by_key(|(_, node)| *node);
            found.truncate(effort);
        }
        found.into_iter().map(|(_, node)| node).collect()
    }

    fn bytes(&self) -> usize {
        let points = self.index.get_point_indexation();
        let of_point = |links: usize| ROW_BYTES + links * LINK_BYTES;
        points.into_iter().map(|point| of_point(point.get_neighborhood_id().iter().map(Vec::len).sum())).sum()
    }
}

/// Nodes, and the graph over them until some are taken out.
struct Layers {
    /// Before the nodes, which it shares.
    walked: Option<Walked>,
    nodes: Arc<Nodes>,
    bytes: usize,
}

impl Search for Layers {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        self.walked.as_ref().map(|walked| walked.near(direction, effort)).unwrap_or_default()
    }

    /// The crate takes nothing out, so the graph goes with the first.
    fn erase(&mut self, rows: &HashSet<u32>) -> Option<Vec<u32>> {
        (self.walked, self.bytes) = (None, 0);
        // Nobody else has them now, so this copies nothing.
        Arc::make_mut(&mut self.nodes).erase(rows);
        Some((0..self.nodes.len()).filter(|node| self.nodes.is_live(*node)).collect())
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn web(&self) -> Option<&Web> {
        None
    }

    fn bytes(&self) -> usize {
        self.nodes.bytes() + self.bytes
    }
}
