//! Walks: from the entry on, always to the nearest node that was not visited yet, until the nearest of all are.
//!
//! ```text
//! nearest   the nearest so far, closest first; visited ones keep their place      as many as the effort
//! seen      one bit a node: whose distance was asked for, near or not
//! visit     links not seen yet: ask for all of their rows, then compare four at once
//! ```
//! What a walk costs is rows that come from memory; nothing else of it may be felt.
//! Never here: how links came to be, what a distance is, rows that were erased.

use crate::lanes::FourAtOnce;
use crate::web::{DEGREE_MAX, Web};

/// Where a walk goes.
pub(crate) struct Aim<'a, D> {
    pub(crate) direction: &'a [f32],
    /// The squared distance of a row.
    pub(crate) distance: D,
    /// None compares row by row, to the same end.
    pub(crate) four_at_once: Option<FourAtOnce>,
}

/// The nodes nearest to a direction, closest first: mostly the nearest `effort` of all. The entry has rows, and so has
/// whatever links lead to. Cost: a bit for each node, and mostly `effort` visits.
pub(crate) fn near(web: &Web, effort: usize, aim: &Aim<'_, impl Fn(&[f32]) -> f32>) -> Vec<u32> {
    walk(web, effort, aim, |_| false).into_nodes()
}

/// What a walk for a node comes to instead of it, closest first; none when it comes to the node. Cost: mostly a few
/// visits, since the walk ends with the node.
pub(crate) fn near_instead(
    web: &Web,
    effort: usize,
    node: u32,
    aim: &Aim<'_, impl Fn(&[f32]) -> f32>,
) -> Option<Vec<u32>> {
    let nearest = walk(web, effort, aim, |nearest| nearest.has_met(node));
    (!nearest.has(node)).then(|| nearest.into_nodes())
}

fn walk(
    web: &Web,
    effort: usize,
    aim: &Aim<'_, impl Fn(&[f32]) -> f32>,
    is_enough: impl Fn(&Nearest) -> bool,
) -> Nearest {
    let nodes = web.nodes();
    let (mut seen, mut nearest) = (Seen::none_of(nodes.len()), Nearest::with_room(effort));
    let mut new = Vec::with_capacity(DEGREE_MAX);
    new.extend(seen.is_new(web.entry()).then(|| web.entry()));
    loop {
        // Most of a walk is waiting for rows: all of them are asked for before the first is looked at.
        new.iter().for_each(|node| nodes.fetch(*node));
        let mut rest = &new[..];
        while let (Some(four_at_once), Some((four, others))) = (aim.four_at_once, rest.split_first_chunk()) {
            let rows = four.map(|node| nodes.direction(node));
            let distances = four_at_once.squared_distances(aim.direction, rows);
            distances.into_iter().zip(four).for_each(|(distance, node)| nearest.add(distance, *node));
            rest = others;
        }
        rest.iter().for_each(|node| nearest.add((aim.distance)(nodes.direction(*node)), *node));
        if is_enough(&nearest) {
            return nearest;
        }
        let Some(node) = nearest.visit() else { return nearest };
        new.clear();
        new.extend(web.read(node).filter(|link| seen.is_new(*link)));
    }
}

/// Nodes whose distance was asked for.
struct Seen(Vec<u64>);

impl Seen {
    fn none_of(nodes: u32) -> Seen {
        Seen(vec![0; nodes.div_ceil(u64::BITS) as usize])
    }

    /// Whether a node was not seen; it is from now on.
    fn is_new(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.0[(node / u64::BITS) as usize], 1 << (node % u64::BITS));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// The nearest nodes so far.
struct Nearest {
    /// Closest first; of those at one distance, whichever came first.
    nodes: Vec<Near>,
    room: usize,
    /// All before it are visited.
    next: usize,
}

struct Near {
    distance: f32,
    node: u32,
    is_visited: bool,
}

impl Nearest {
    /// `room`: how many are kept, at least one.
    fn with_room(room: usize) -> Nearest {
        Nearest { nodes: Vec::with_capacity(room), room, next: 0 }
    }

    /// Keeps a node as long as there are not `room` at most as far.
    fn add(&mut self, distance: f32, node: u32) {
        if self.nodes.len() == self.room {
            if self.nodes.last().is_some_and(|last| last.distance <= distance) {
                return;
            }
            self.nodes.pop();
        }
        let place = self.nodes.partition_point(|near| near.distance <= distance);
        self.nodes.insert(place, Near { distance, node, is_visited: false });
        self.next = self.next.min(place);
    }

    /// The closest that was not visited; it is from now on.
    fn visit(&mut self) -> Option<u32> {
        let unvisited = self.nodes[self.next..].iter_mut().find(|near| {
            self.next += usize::from(near.is_visited);
            !near.is_visited
        })?;
        unvisited.is_visited = true;
        Some(unvisited.node)
    }

    /// Whether a node is among those that lie exactly where the walk goes: nothing takes it from there any more.
    fn has_met(&self, node: u32) -> bool {
        self.nodes.iter().take_while(|near| near.distance <= 0.0).any(|near| near.node == node)
    }

    fn has(&self, node: u32) -> bool {
        self.nodes.iter().any(|near| near.node == node)
    }

    fn into_nodes(self) -> Vec<u32> {
        self.nodes.into_iter().map(|near| near.node).collect()
    }
}
