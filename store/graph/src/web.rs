//! The web: nodes and the links between them, all in one array.
//!
//! A node is taken out by giving those that link to it its own links instead, so that a walk which went through it goes
//! on. Whom no walk reaches after that is said, and so is a node that the engine could not link so that a walk finds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::matrix::squared_distance;
use crate::nodes::Nodes;

/// Links that a node may have.
pub(crate) const DEGREE_MAX: usize = 42;
/// Links that a node gets at most for one to a node that was taken out. Of 3,000 rows of four components, half of them
/// erased, eight were not reached with none and all with one; the others are for graphs that are erased from for long.
const SPLICED_MAX: usize = 3;
/// Nodes looked at behind those that were taken out, for each that linked to some of them.
const BEHIND_MAX: usize = 4 * DEGREE_MAX;

/// Nodes and links. Only one thread adds links, before others search.
pub(crate) struct Web {
    nodes: Nodes,
    entry: u32,
    /// For each node its number of links, then the links: [`DEGREE_MAX`] of them.
    links: Vec<AtomicU32>,
    /// Nodes that walks do not find although links may lead to them, in order.
    strays: Vec<u32>,
}

impl Web {
    /// Nodes without links; none when there are no nodes.
    pub(crate) fn of(nodes: Nodes) -> Option<Web> {
        let entry = nodes.middle()?;
        Some(Web::entered_at(entry, nodes))
    }

    /// Nodes without links, and one of them to begin at.
    pub(crate) fn entered_at(entry: u32, nodes: Nodes) -> Web {
        let links = (0..nodes.len() as usize * (DEGREE_MAX + 1)).map(|_| AtomicU32::new(0)).collect();
        Web { nodes, entry, links, strays: Vec::new() }
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }

    /// Where walks begin.
    pub(crate) fn entry(&self) -> u32 {
        self.entry
    }

    /// The links of a node.
    pub(crate) fn read(&self, node: u32) -> impl ExactSizeIterator<Item = u32> {
        let cells = self.cells(node);
        let count = (cells[0].load(Ordering::Relaxed) as usize).min(DEGREE_MAX);
        cells[1..=count].iter().map(|cell| cell.load(Ordering::Relaxed))
    }

    /// Adds a link that is not there; false when there is no room for it.
    pub(crate) fn append(&self, node: u32, link: u32) -> bool {
        let mut links: Vec<u32> = self.read(node).collect();
        let has_room = links.len() < DEGREE_MAX || links.contains(&link);
        if has_room && !links.contains(&link) {
            links.push(link);
            self.write(node, &links);
        }
        has_room
    }

    /// Puts links in the place of those that a node has.
    pub(crate) fn write(&self, node: u32, links: &[u32]) {
        let cells = self.cells(node);
        let links = &links[..links.len().min(DEGREE_MAX)];
        cells[1..].iter().zip(links).for_each(|(cell, link)| cell.store(*link, Ordering::Relaxed));
        cells[0].store(u32::try_from(links.len()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes in memory, those of the nodes included.
    pub(crate) fn bytes(&self) -> usize {
        let strays = self.strays.capacity() * size_of::<u32>();
        self.nodes.bytes() + self.links.len() * size_of::<AtomicU32>() + strays
    }

    /// Nodes that walks do not find although links may lead to them, in order.
    pub(crate) fn strays(&self) -> &[u32] {
        &self.strays
    }

    /// Walks do not find these, in order.
    pub(crate) fn set_strays(&mut self, strays: Vec<u32>) {
        self.strays = strays;
    }

    /// Takes out nodes that have no rows; answers all that no walk finds, strays included. Cost: two passes over the links, and some
    /// distances for each link to one of them.
    pub(crate) fn splice(&mut self, gone: &[u32]) -> Vec<u32> {
        let gone = Gone::of(gone, self);
        if gone.has(self.entry) {
            self.entry = self.entry_behind(&gone).unwrap_or(self.entry);
        }
        for node in 0..self.nodes.len() {
            if gone.has(node) {
                self.write(node, &[]);
            } else if self.read(node).any(|link| gone.has(link)) {
                self.write(node, &self.spliced(node, &gone));
            }
        }
        let nodes = &self.nodes;
        self.strays.retain(|node| nodes.is_live(*node));
        self.unfound()
    }

    /// The links of a node without those to nodes that are taken out: the nearest behind these are in their place.
    fn spliced(&self, node: u32, gone: &Gone) -> Vec<u32> {
        let (through, mut links): (Vec<u32>, Vec<u32>) = self.read(node).partition(|link| gone.has(*link));
        let room = (DEGREE_MAX - links.len()).min(through.len() * SPLICED_MAX);
        let distance =
            |other: &u32| squared_distance(self.nodes.direction(node), self.nodes.direction(*other));
        let mut behind: Vec<(f32, u32)> = gone
            .behind(through)
            .into_iter()
            .filter(|other| *other != node && !links.contains(other))
            .map(|other| (distance(&other), other))
            .collect();
        behind.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
        links.extend(behind.into_iter().take(room).map(|(_, other)| other));
        links
    }

    /// Where walks begin once the entry is taken out.
    fn entry_behind(&self, gone: &Gone) -> Option<u32> {
        let near = gone.behind(vec![self.entry]).first().copied();
        near.or_else(|| (0..self.nodes.len()).find(|node| self.nodes.is_live(*node)))
    }

    /// Nodes with rows that no walk reaches, and strays.
    fn unfound(&self) -> Vec<u32> {
        let mut is_reached = vec![false; self.nodes.len() as usize];
        is_reached[self.entry as usize] = true;
        let mut open = vec![self.entry];
        while let Some(node) = open.pop() {
            open.extend(
                self.read(node).filter(|link| !std::mem::replace(&mut is_reached[*link as usize], true)),
            );
        }
        (0..self.nodes.len())
            .filter(|node| !is_reached[*node as usize] || self.strays.binary_search(node).is_ok())
            .filter(|node| self.nodes.is_live(*node))
            .collect()
    }

    fn cells(&self, node: u32) -> &[AtomicU32] {
        let first = node as usize * (DEGREE_MAX + 1);
        &self.links[first..=first + DEGREE_MAX]
    }
}

/// Nodes that are taken out, with the links that they had.
struct Gone {
    is_gone: Vec<bool>,
    links: HashMap<u32, Vec<u32>>,
}

impl Gone {
    fn of(nodes: &[u32], web: &Web) -> Gone {
        let mut is_gone = vec![false; web.nodes.len() as usize];
        nodes.iter().for_each(|node| is_gone[*node as usize] = true);
        Gone { is_gone, links: nodes.iter().map(|node| (*node, web.read(*node).collect())).collect() }
    }

    fn has(&self, node: u32) -> bool {
        self.is_gone[node as usize]
    }

    /// The nodes that are linked from some of them, through others of them too: the closest first, and not all.
    fn behind(&self, mut through: Vec<u32>) -> Vec<u32> {
        let mut behind = Vec::new();
        let mut next = 0;
        while next < through.len() && behind.len() < BEHIND_MAX {
            for link in &self.links[&through[next]] {
                let known = if self.has(*link) { &mut through } else { &mut behind };
                if !known.contains(link) {
                    known.push(*link);
                }
            }
            next += 1;
        }
        behind
    }
}
