//! Nodes: the directions that a graph is over, each with the rows that lie in it. Rows in exactly one direction are one
//! node, since a graph over them would hide most of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::matrix::{Matrix, squared_distance};
use crate::sketch::{LoadError, NO_NODE};

/// In the place of the row of a node that has none left.
const NOBODY: u32 = u32::MAX;

/// The rows, and which node each belongs to.
#[derive(Clone)]
pub(crate) struct Nodes {
    rows: Matrix,
    /// For each node the row that stands for it.
    first: Vec<u32>,
    /// For some nodes the other rows in their direction.
    later: HashMap<u32, Vec<u32>>,
}

/// Rows in exactly one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alike<'a> {
    /// One of them.
    pub first: u32,
    later: &'a [u32],
}

impl Alike<'_> {
    /// All of them.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.first).chain(self.later.iter().copied())
    }
}

/// One row alone.
impl From<u32> for Alike<'static> {
    fn from(first: u32) -> Alike<'static> {
        Alike { first, later: &[] }
    }
}

impl Nodes {
    /// Compares every row with those that hash alike. Cost: reads all of them once.
    pub(crate) fn of(rows: Matrix) -> Nodes {
        let mut nodes = Nodes { rows, first: Vec::new(), later: HashMap::new() };
        let mut known: HashMap<u64, Vec<u32>> = HashMap::with_capacity(nodes.rows.len());
        for number in nodes.rows.numbers() {
            let direction = nodes.rows.row(number);
            let alike = match known.entry(hash(direction)) {
                Entry::Vacant(free) => free.insert(Vec::with_capacity(1)),
                Entry::Occupied(alike) => alike.into_mut(),
            };
            match alike.iter().find(|node| nodes.direction(**node) == direction) {
                Some(node) => nodes.later.entry(*node).or_default().push(number),
                None => {
                    alike.push(nodes.len());
                    nodes.first.push(number);
                }
            }
        }
        nodes
    }

    /// As they were written down: which node each row belongs to.
    pub(crate) fn from_sketch(rows: Matrix, of_rows: &[u32], count: u32) -> Result<Nodes, LoadError> {
        if of_rows.len() != rows.len() {
            return Err(LoadError::Rows { found: of_rows.len(), expected: rows.len() });
        }
        let mut nodes = Nodes { rows, first: vec![NOBODY; count as usize], later: HashMap::new() };
        for (row, node) in (0_u32..).zip(of_rows).filter(|(_, node)| **node != NO_NODE) {
            match nodes.first.get_mut(*node as usize) {
                None => return Err(LoadError::Node { row, node: *node }),
                Some(first) if *first == NOBODY => *first = row,
                Some(first) if nodes.rows.row(*first) == nodes.rows.row(row) => {
                    nodes.later.entry(*node).or_default().push(row);
                }
                Some(_) => return Err(LoadError::Unlike { row, node: *node }),
            }
        }
        Ok(nodes)
    }

    /// The node of each row; [`NO_NODE`] of one that was erased.
    pub(crate) fn of_rows(&self) -> Vec<u32> {
        let mut of_rows = vec![NO_NODE; self.rows.len()];
        let alike = (0..self.len()).filter_map(|node| Some((node, self.alike(node)?)));
        for (node, alike) in alike {
            alike.numbers().for_each(|row| of_rows[row as usize] = node);
        }
        of_rows
    }

    /// Nodes without rows.
    pub(crate) fn gone(&self) -> Vec<u32> {
        (0..self.len()).filter(|node| !self.is_live(*node)).collect()
    }

    pub(crate) fn rows(&self) -> &Matrix {
        &self.rows
    }

    /// How many there are, those without rows included.
    pub(crate) fn len(&self) -> u32 {
        // One at most for each row, and their numbers are 32 bits wide.
        u32::try_from(self.first.len()).unwrap_or(NOBODY)
    }

    /// Whether a node has rows.
    pub(crate) fn is_live(&self, node: u32) -> bool {
        self.first[node as usize] != NOBODY
    }

    /// The direction of a node that has rows.
    pub(crate) fn direction(&self, node: u32) -> &[f32] {
        self.rows.row(self.first[node as usize])
    }

    /// Asks for the direction of a node, to be looked at soon.
    pub(crate) fn fetch(&self, node: u32) {
        if let Some(first) = self.first.get(node as usize).filter(|first| **first != NOBODY) {
            self.rows.fetch(*first);
        }
    }

    /// The rows of a node; none when it has none left.
    pub(crate) fn alike(&self, node: u32) -> Option<Alike<'_>> {
        let later = self.later.get(&node).map_or(&[][..], Vec::as_slice);
        self.is_live(node).then(|| Alike { first: self.first[node as usize], later })
    }

    /// The node nearest to the middle of all; none when there are none.
    pub(crate) fn middle(&self) -> Option<u32> {
        let mut sum = vec![0.0_f32; self.rows.dim()];
        for node in 0..self.len() {
            sum.iter_mut().zip(self.direction(node)).for_each(|(sum, component)| *sum += component);
        }
        #[expect(clippy::cast_precision_loss, reason = "the middle need not be exact")]
        sum.iter_mut().for_each(|sum| *sum /= self.len().max(1) as f32);
        let distance = |node: &u32| squared_distance(self.direction(*node), &sum);
        (0..self.len()).min_by(|left, right| distance(left).total_cmp(&distance(right)))
    }

    /// Takes rows out and makes them zeros; answers the nodes that have none left. Where a node has, another row stands
    /// for it. Cost: one look at each row's number.
    pub(crate) fn erase(&mut self, rows: &HashSet<u32>) -> Vec<u32> {
        let mut is_erased = vec![false; self.rows.len()];
        for number in rows {
            self.rows.erase(*number);
            is_erased[*number as usize] = true;
        }
        self.later.values_mut().for_each(|later| later.retain(|number| !is_erased[*number as usize]));
        let mut gone = Vec::new();
        let is_concerned = |first: u32| first != NOBODY && is_erased[first as usize];
        for (node, first) in (0_u32..).zip(&mut self.first).filter(|(_, first)| is_concerned(**first)) {
            *first = self.later.get_mut(&node).and_then(Vec::pop).unwrap_or(NOBODY);
            if *first == NOBODY {
                gone.push(node);
            }
        }
        self.later.retain(|_, later| !later.is_empty());
        gone
    }

    /// Bytes in memory, the rows' included.
    pub(crate) fn bytes(&self) -> usize {
        // A list of its own for each entry, and the map's own word.
        let of_entry = size_of::<(u32, Vec<u32>)>() + 1;
        let later: usize = self.later.values().map(|later| later.capacity() * size_of::<u32>()).sum();
        self.rows.bytes()
            + self.first.capacity() * size_of::<u32>()
            + self.later.capacity() * of_entry
            + later
    }
}

/// Zeros of either sign are one direction.
fn hash(row: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.iter().for_each(|component| (component + 0.0).to_bits().hash(&mut hasher));
    hasher.finish()
}
