//! Graphs: who lies near whom among rows that never change, so that a search need not look at all of them.
//!
//! An engine builds a graph once and searches it ever after; it adds and removes nothing. What a graph says is only
//! which rows lie near: whether they are visible, and to whom, is the caller's. Rows in exactly one direction stand
//! for one another, since a graph over them would hide most of them.
//! Never here: whose rows they are, metadata, locks, threads.

mod hnsw;
mod matrix;
mod twins;
mod vamana;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use matrix::{Matrix, dot};

/// Links of each row, row by row.
pub type Links = Vec<Vec<u32>>;

/// A way to build graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// DiskANN's Vamana graph, over rows in memory: the faster, the smaller, and the one that can be written down and
    /// loaded again.
    #[default]
    DiskAnn,
    /// Hierarchical navigable small worlds. They take links by being built only, so this is the challenger: whatever
    /// loads graphs builds them anew with it.
    Hnsw,
}

/// There is no engine of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine is called `{0}`; there are diskann and hnsw")]
pub struct UnknownEngine(String);

/// Why links are not taken for a graph.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The engine only builds.
    #[error("{0} cannot load a graph; build it")]
    BuildsOnly(Engine),
    /// There must be a list of links for each row.
    #[error("links of {found} rows, where there are {expected}")]
    Count {
        /// Lists given.
        found: usize,
        /// Rows.
        expected: usize,
    },
    /// More links than the engine gives a row.
    #[error("row {row} has {found} links, of {allowed} at most")]
    Degree {
        /// Whose.
        row: u32,
        /// Links given.
        found: usize,
        /// The most.
        allowed: usize,
    },
    /// A row has one link to another.
    #[error("row {row} has two links to {link}")]
    Twice {
        /// From.
        row: u32,
        /// To.
        link: u32,
    },
    /// A link from or to what is no row, or a row that another stands for.
    #[error("row {row} has a link to {link}, and one of them is not in the graph")]
    Link {
        /// From.
        row: u32,
        /// To.
        link: u32,
    },
    /// Walks cannot begin there.
    #[error("walks begin at row {0}, which is not in the graph")]
    Entry(u32),
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::DiskAnn => "diskann",
            Engine::Hnsw => "hnsw",
        })
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Engine, UnknownEngine> {
        let mut engines = Engine::ALL.into_iter();
        engines.find(|engine| engine.to_string() == name).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

impl Engine {
    /// Each there is.
    pub const ALL: [Engine; 2] = [Engine::DiskAnn, Engine::Hnsw];

    /// Builds a graph; none when it was told to stop, or has no rows. Cost: about 0.3 ms a row of 128 components. May
    /// panic, as may what it builds: an engine is foreign code.
    pub fn build(self, rows: &Arc<Matrix>, is_stopping: &AtomicBool) -> Option<Graph> {
        let twins = twins::of(rows);
        let is_first = |number: &u32| !twins.is_later(*number);
        let inner = match self {
            Engine::DiskAnn => vamana::build(rows, is_first, is_stopping)?,
            Engine::Hnsw => hnsw::build(rows, is_first, is_stopping)?,
        };
        Some(Graph { inner, twins: twins.by_first() })
    }

    /// Whether [`Engine::load`] can.
    pub fn can_load(self) -> bool {
        self == Engine::DiskAnn
    }

    /// A graph as it was: over the same rows, with the entry and the links that it had. Cost: reads rows and links once.
    ///
    /// # Errors
    /// [`LoadError`], whatever the links are: they may come from a file. Those that no graph can have are refused; of
    /// others nobody can tell whether they are a graph's, and searches with them may miss rows.
    pub fn load(self, rows: &Arc<Matrix>, entry: u32, links: &[Vec<u32>]) -> Result<Graph, LoadError> {
        if !self.can_load() {
            return Err(LoadError::BuildsOnly(self));
        }
        let twins = twins::of(rows);
        let is_in = |number: u32| (number as usize) < rows.len() && !twins.is_later(number);
        check(rows, entry, links, is_in)?;
        let inner = vamana::load(rows, entry, links).ok_or(LoadError::Entry(entry))?;
        Ok(Graph { inner, twins: twins.by_first() })
    }
}

/// Whether an entry and links may be a graph's over some rows.
fn check(
    rows: &Matrix,
    entry: u32,
    links: &[Vec<u32>],
    is_in: impl Fn(u32) -> bool,
) -> Result<(), LoadError> {
    if links.len() != rows.len() {
        return Err(LoadError::Count { found: links.len(), expected: rows.len() });
    }
    if !is_in(entry) {
        return Err(LoadError::Entry(entry));
    }
    for (row, links) in rows.numbers().zip(links) {
        let (found, allowed) = (links.len(), vamana::DEGREE_MAX);
        if found > allowed {
            return Err(LoadError::Degree { row, found, allowed });
        }
        if let Some(link) = links.iter().find(|link| !is_in(row) || !is_in(**link)) {
            return Err(LoadError::Link { row, link: *link });
        }
        let is_twice = |(place, link): &(usize, &u32)| links[..*place].contains(link);
        if let Some((_, link)) = links.iter().enumerate().find(is_twice) {
            return Err(LoadError::Twice { row, link: *link });
        }
    }
    Ok(())
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

    fn entry(&self) -> Option<u32>;

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

    /// The row at which every walk begins; none where the engine cannot load a graph.
    pub fn entry(&self) -> Option<u32> {
        self.inner.entry()
    }

    /// Bytes in memory besides the rows.
    pub fn bytes(&self) -> usize {
        let of_twins: usize = self.twins.values().map(|twins| (twins.len() + 8) * size_of::<u32>()).sum();
        self.inner.bytes() + of_twins
    }
}

#[cfg(test)]
mod tests;
