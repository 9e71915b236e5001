//! Graphs: who lies near whom among rows that never change, so that a search need not look at all of them.
//!
//! An engine builds a graph once and searches it ever after; it adds and removes nothing. What a graph says is only
//! which rows lie near: whether they are visible, and to whom, is the caller's. Rows in exactly one direction stand
//! for one another, since a graph over them would hide most of them.
//! Never here: whose rows they are, metadata, locks, threads.

mod matrix;
mod twins;
mod vamana;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use matrix::{Matrix, dot, squared_distance};

/// Links of each row, row by row.
pub type Links = Vec<Vec<u32>>;

/// A way to build graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// DiskANN's Vamana graph, over rows in memory.
    #[default]
    DiskAnn,
}

impl Engine {
    /// Builds a graph; none when it was told to stop, or has no rows. Cost: about 0.3 ms a row of 128 components. May
    /// panic, as may what it builds: an engine is foreign code.
    pub fn build(self, rows: &Arc<Matrix>, is_stopping: &AtomicBool) -> Option<Graph> {
        let twins = twins::of(rows);
        let is_first = |number: &u32| !twins.is_later(*number);
        let inner = match self {
            Engine::DiskAnn => vamana::build(rows, is_first, is_stopping)?,
        };
        Some(Graph { inner, twins: twins.by_first() })
    }
}

/// A graph over rows.
pub struct Graph {
    inner: Box<dyn Search>,
    /// Rows in the same direction as one that is in the graph.
    twins: HashMap<u32, Vec<u32>>,
}

/// What an engine builds.
trait Search: Send + Sync {
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32>;

    fn links(&self) -> Links;

    fn bytes(&self) -> usize;
}

impl Graph {
    /// Rows that lie near a direction, closest first: mostly the nearest `effort` directions, and every row in them.
    /// Cost: grows with the effort, and with the logarithm of the rows.
    pub fn near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        let found = self.inner.near(direction, effort);
        if self.twins.is_empty() {
            return found;
        }
        let with_twins = |number: u32| {
            std::iter::once(number).chain(self.twins.get(&number).into_iter().flatten().copied())
        };
        found.into_iter().flat_map(with_twins).collect()
    }

    /// The links of every row, so that the graph can be written down.
    pub fn links(&self) -> Links {
        self.inner.links()
    }

    /// Bytes in memory besides the rows.
    pub fn bytes(&self) -> usize {
        let of_twins: usize = self.twins.values().map(|twins| (twins.len() + 8) * size_of::<u32>()).sum();
        self.inner.bytes() + of_twins
    }
}

#[cfg(test)]
mod tests;
