//! Sketches: graphs without their rows, as they are written down and loaded again.

use crate::matrix::Matrix;
use crate::nodes::Nodes;
use crate::web::{DEGREE_MAX, Web};
use crate::{Engine, Links};

/// In the place of the node of a row that was erased.
pub const NO_NODE: u32 = u32::MAX;

/// Nodes, where walks begin, and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// The node of each row; [`NO_NODE`] of one that was erased.
    pub nodes: Vec<u32>,
    /// Where walks begin.
    pub entry: u32,
    /// For each node those that it leads to, at most 42.
    pub links: Links,
    /// Nodes that walks do not find although links may lead to them, ascending.
    pub strays: Vec<u32>,
}

/// How large a sketch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Nodes, those without rows included.
    pub nodes: u32,
    /// Where walks begin.
    pub entry: u32,
    /// Nodes that walks do not find although links may lead to them.
    pub strays: u32,
}

/// Why a sketch is no graph over some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The engine only builds.
    #[error("{0} cannot load a graph; build it")]
    BuildsOnly(Engine),
    /// It is of another number of rows.
    #[error("nodes of {found} rows, where there are {expected}")]
    Rows {
        /// Rows of the sketch.
        found: usize,
        /// Rows that there are.
        expected: usize,
    },
    /// There are more nodes than their numbers can say.
    #[error("{0} nodes")]
    Nodes(usize),
    /// A row belongs to a node that is not there.
    #[error("row {row} belongs to node {node}, which is not there")]
    Node {
        /// Which row.
        row: u32,
        /// Which node.
        node: u32,
    },
    /// Rows of one node lie in different directions.
    #[error("row {row} belongs to node {node}, and lies elsewhere")]
    Unlike {
        /// Which row.
        row: u32,
        /// Which node.
        node: u32,
    },
    /// A node leads to one that is not there, or to too many.
    #[error(
        "node {node} leads to {links} others, at most {DEGREE_MAX} are allowed, or to one that is not there"
    )]
    Links {
        /// Which node.
        node: u32,
        /// How many.
        links: usize,
    },
    /// A node that walks do not find is not there, or out of order.
    #[error("walks do not find node {0}, which is not there or was named before")]
    Stray(u32),
    /// Walks begin nowhere.
    #[error("walks begin at node {0}, which is not there")]
    Entry(u32),
    /// No node has a row.
    #[error("no row is left")]
    Empty,
}

impl Outline {
    pub(crate) fn of(web: &Web) -> Outline {
        let strays = u32::try_from(web.strays().len()).unwrap_or(u32::MAX);
        Outline { nodes: web.nodes().len(), entry: web.entry(), strays }
    }
}

impl Sketch {
    pub(crate) fn of(web: &Web) -> Sketch {
        let links = (0..web.nodes().len()).map(|node| web.read(node).collect()).collect();
        Sketch { nodes: web.nodes().of_rows(), entry: web.entry(), links, strays: web.strays().to_vec() }
    }

    /// Nodes and links over rows, without the nodes that have none; and the nodes that no walk finds.
    pub(crate) fn into_web(self, rows: Matrix) -> Result<(Web, Vec<u32>), LoadError> {
        let count = u32::try_from(self.links.len()).ok().filter(|count| *count < NO_NODE);
        let count = count.ok_or(LoadError::Nodes(self.links.len()))?;
        if self.entry >= count {
            return Err(LoadError::Entry(self.entry));
        }
        let nodes = Nodes::from_sketch(rows, &self.nodes, count)?;
        let gone = nodes.gone();
        if gone.len() == self.links.len() {
            return Err(LoadError::Empty);
        }
        let mut least = 0;
        for stray in &self.strays {
            if !(least..count).contains(stray) {
                return Err(LoadError::Stray(*stray));
            }
            least = stray + 1;
        }
        let mut web = Web::entered_at(self.entry, nodes);
        web.set_strays(self.strays);
        for (node, links) in (0_u32..).zip(&self.links) {
            if links.len() > DEGREE_MAX || links.iter().any(|link| *link >= count) {
                return Err(LoadError::Links { node, links: links.len() });
            }
            web.write(node, links);
        }
        let lost = web.splice(&gone);
        Ok((web, lost))
    }
}
