//! Graphs by the `hnsw_rs` crate: layers of links, the upper ones for far steps. The crate is named in this file alone.
//!
//! Rows are not kept twice: what the crate stores as a point is the number of a row. Each link is a piece of memory of
//! its own, though, and links go in by adding rows only, so a graph of it is built anew where another is loaded. It
//! drops a graph with the threads of `rayon`, and tells what it does by the `log` crate.
//!
//! A row that has many others nearer than its neighbours are may lose every link to it: the farthest goes first. So each
//! row is searched for when the graph is built, and those that are not found are kept aside, and looked at by every
//! search.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hnsw_rs::prelude::{DistL2, Distance, Hnsw};

use crate::matrix::Matrix;
use crate::{Links, Search};

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

/// Builds a graph over some of the rows, one at a time.
pub(super) fn build(
    rows: &Arc<Matrix>,
    is_in: impl Fn(&u32) -> bool,
    is_stopping: &AtomicBool,
) -> Option<Box<dyn Search>> {
    let between = Between { rows: Arc::clone(rows), distance: DistL2 };
    let index = Hnsw::new(DEGREE, rows.len(), LAYERS_MAX, BUILD_EFFORT, between);
    for number in rows.numbers().filter(|number| is_in(number)) {
        if is_stopping.load(Ordering::Relaxed) {
            return None;
        }
        index.insert((&[Place::Stored(number)], number as usize));
    }
    let mut layers = Layers { index, strays: Vec::new(), bytes: 0 };
    for number in rows.numbers().filter(|number| is_in(number)) {
        if is_stopping.load(Ordering::Relaxed) {
            return None;
        }
        if !layers.near(rows.row(number), CHECK_EFFORT).contains(&number) {
            layers.strays.push(number);
        }
    }
    layers.bytes = layers.measure();
    (layers.index.get_nb_point() > 0).then(|| Box::new(layers) as Box<dyn Search>)
}

/// A direction, as the crate sees it.
#[derive(Clone)]
enum Place {
    Stored(u32),
    Asked(Arc<[f32]>),
}

/// Of directions of unit length: the order is that of cosine.
struct Between {
    rows: Arc<Matrix>,
    distance: DistL2,
}

impl Between {
    fn direction<'a>(&'a self, place: &'a [Place]) -> &'a [f32] {
        match place {
            [Place::Stored(number)] => self.rows.row(*number),
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

struct Layers {
    index: Hnsw<'static, Place, Between>,
    /// Rows that no walk comes to.
    strays: Vec<u32>,
    bytes: usize,
}

impl Layers {
    fn measure(&self) -> usize {
        let points = self.index.get_point_indexation();
        let of_point = |links: usize| ROW_BYTES + links * LINK_BYTES;
        points.into_iter().map(|point| of_point(point.get_neighborhood_id().iter().map(Vec::len).sum())).sum()
    }
}

impl Search for Layers {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        let effort = effort.max(1);
        let asked = [Place::Asked(direction.into())];
        let walked = self.index.search(&asked, effort, effort).into_iter();
        let mut found: Vec<(f32, u32)> = walked
            .filter_map(|near| Some((near.get_distance(), u32::try_from(near.get_origin_id()).ok()?)))
            .collect();
        if !self.strays.is_empty() {
            let distance = |number| self.index.get_distance().eval(&asked, &[Place::Stored(number)]);
            found.extend(self.strays.iter().map(|number| (distance(*number), *number)));
            found.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
            // A walk that begins elsewhere may come to one of them.
            found.dedup_by_key(|(_, number)| *number);
            found.truncate(effort);
        }
        found.into_iter().map(|(_, number)| number).collect()
    }

    /// Those of the lowest layer.
    fn links(&self) -> Links {
        let points = self.index.get_point_indexation();
        let mut links = vec![Vec::new(); self.index.get_distance().rows.len()];
        for point in points {
            let lowest = point.get_neighborhood_id().into_iter().next().unwrap_or_default();
            let numbers = lowest.iter().filter_map(|near| u32::try_from(near.get_origin_id()).ok());
            links[point.get_origin_id()] = numbers.collect();
        }
        links
    }

    fn entry(&self) -> Option<u32> {
        None
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
