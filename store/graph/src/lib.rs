//! Graphs: who lies near whom among rows that never change, so that a search need not look at all of them.
//!
//! An engine builds a graph once, searches it ever after, and takes out what is erased; it adds nothing. What a graph
//! says is only which rows lie near: whether they are visible, and to whom, is the caller's. Rows in exactly one
//! direction stand for one another, since a graph over them would hide most of them. A direction is where a row lies,
//! of unit length or not.
//! Never here: whose rows they are, metadata, locks, threads.

mod hnsw;
mod lanes;
mod matrix;
mod nodes;
mod recall;
mod sketch;
mod vamana;
mod walk;
mod web;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

pub use matrix::{Matrix, dot, squared_distance};
pub use nodes::Alike;
pub use sketch::{LoadError, NO_NODE, Outline, Sketch};

use nodes::Nodes;
use web::Web;

/// Links of each node, node by node: a node for every direction, in the order of the first row in it.
pub type Links = Vec<Vec<u32>>;

/// A way to build graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// DiskANN's Vamana graph, over rows in memory: the faster, the smaller, and the one that can be written down and
    /// loaded again.
    #[default]
    DiskAnn,
    /// Hierarchical navigable small worlds. They take links by being built only, so this is the challenger: whatever
    /// loads graphs builds them anew with it, and after erasing all that is left is read row by row.
    Hnsw,
}

/// There is no engine of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine is called `{0}`; there are diskann and hnsw")]
pub struct UnknownEngine(String);

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
    pub fn build(self, rows: Matrix, is_stopping: &dyn Fn() -> bool) -> Option<Graph> {
        let nodes = Nodes::of(rows);
        let inner = match self {
            Engine::DiskAnn => vamana::build(nodes, is_stopping)?,
            Engine::Hnsw => hnsw::build(nodes, is_stopping)?,
        };
        let lost = inner.web().map(|web| web.strays().to_vec()).unwrap_or_default();
        Some(Graph { inner, lost })
    }

    /// What it is, and in which version: graphs are only loaded by what built them.
    pub fn version(self) -> &'static str {
        match self {
            Engine::DiskAnn => vamana::VERSION,
            Engine::Hnsw => hnsw::VERSION,
        }
    }

    /// Whether [`Engine::load`] can, and [`Graph::sketch`].
    pub fn can_load(self) -> bool {
        self == Engine::DiskAnn
    }

    /// A graph that was written down, over the same rows or what is left of them: those without a node are taken out, as
    /// [`Graph::erase`] does. Cost: two passes over rows and links, and what erasing costs.
    ///
    /// # Errors
    /// [`LoadError`] for what no graph can have, wherever it is from. Links that were changed otherwise cannot be told:
    /// rows that they do not lead to are [lost](Graph::lost), and walks among others may miss what is near.
    pub fn load(self, rows: Matrix, sketch: Sketch) -> Result<Graph, LoadError> {
        if !self.can_load() {
            return Err(LoadError::BuildsOnly(self));
        }
        let (web, lost) = sketch.into_web(rows)?;
        Ok(Graph { inner: vamana::over(web).ok_or(LoadError::Empty)?, lost })
    }
}

/// A graph over rows, which it keeps.
pub struct Graph {
    inner: Box<dyn Search>,
    /// Nodes that the engine no longer finds, in order.
    lost: Vec<u32>,
}

/// What an engine builds.
trait Search: Send + Sync {
    /// Nodes near a direction, closest first.
    fn near(&self, direction: &[f32], effort: usize) -> Vec<u32>;

    /// Makes rows zeros and takes out nodes that have none left; answers all that are not found any more, in order, when
    /// that changed. All of them is a true answer of an engine that cannot take any out.
    fn erase(&mut self, rows: &HashSet<u32>) -> Option<Vec<u32>>;

    fn nodes(&self) -> &Nodes;

    /// Nodes and links, where the engine can go on with them once they were written down.
    fn web(&self) -> Option<&Web>;

    /// Bytes in memory, those of the nodes included.
    fn bytes(&self) -> usize;
}

impl Graph {
    /// Rows that lie near a direction: mostly the nearest `effort` directions, closest first, with every row in them.
    /// Those of [`Graph::lost`] are never among them. Cost: grows with the effort, and with the logarithm of the rows.
    pub fn near(&self, direction: &[f32], effort: usize) -> impl Iterator<Item = Alike<'_>> {
        self.nodes_near(direction, effort).into_iter().filter_map(|node| self.alike(node))
    }

    fn nodes_near(&self, direction: &[f32], effort: usize) -> Vec<u32> {
        let mut found = self.inner.near(direction, effort);
        found.retain(|node| self.lost.binary_search(node).is_err());
        found
    }

    /// Rows that no walk finds, wherever they lie: whoever searches looks at them, too.
    pub fn lost(&self) -> impl Iterator<Item = Alike<'_>> {
        self.lost.iter().filter_map(|node| self.alike(*node))
    }

    /// How many directions those lie in.
    pub fn lost_directions(&self) -> usize {
        self.lost.len()
    }

    /// The rows of a node; none when they were erased.
    pub fn alike(&self, node: u32) -> Option<Alike<'_>> {
        self.inner.nodes().alike(node)
    }

    /// The rows; those that were erased are zeros.
    pub fn rows(&self) -> &Matrix {
        self.inner.nodes().rows()
    }

    /// Makes rows zeros and takes them out, so that they are never near anything. Cost: two passes over the links, and
    /// some distances for each link to one of them.
    pub fn erase(&mut self, rows: &HashSet<u32>) {
        if let Some(lost) = self.inner.erase(rows) {
            self.lost = lost;
        }
    }

    /// The graph without its rows, so that it can be written down; none when its engine cannot load one. Cost: copies
    /// every link, where [`Graph::outline`] and [`Graph::links`] do it in parts.
    pub fn sketch(&self) -> Option<Sketch> {
        self.inner.web().map(Sketch::of)
    }

    /// How large its sketch is; none when its engine cannot load one.
    pub fn outline(&self) -> Option<Outline> {
        self.inner.web().map(Outline::of)
    }

    /// Nodes of the sketch that walks do not find although links may lead to them; none where there is no sketch.
    pub fn strays(&self) -> &[u32] {
        self.inner.web().map(Web::strays).unwrap_or_default()
    }

    /// The nodes that a node leads to; none where there is no sketch.
    pub fn links(&self, node: u32) -> impl Iterator<Item = u32> {
        self.inner.web().map(|web| web.read(node)).into_iter().flatten()
    }

    /// How many of the ten nearest others of some rows a search with each of some efforts finds, 0.0 to 1.0, where it
    /// looks at the [lost](Graph::lost) too; none when there are no others, or it was told to stop. Cost: looks at every
    /// row for each of the two dozen that are tried.
    pub fn recalls(&self, efforts: &[usize], is_stopping: &dyn Fn() -> bool) -> Option<Vec<f32>> {
        recall::of(self, efforts, is_stopping)
    }

    /// The same of one effort.
    pub fn recall(&self, effort: usize, is_stopping: &dyn Fn() -> bool) -> Option<f32> {
        self.recalls(&[effort], is_stopping)?.first().copied()
    }

    /// Whether it can be written down.
    pub fn has_sketch(&self) -> bool {
        self.inner.web().is_some()
    }

    /// Bytes in memory, the rows' included.
    pub fn bytes(&self) -> usize {
        self.inner.bytes() + self.lost.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests;
