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

/// The nodes nearest to a direction, closest first: mostly the nearest `effort` of all. `distance`: the squared one of a
/// row. The entry has rows, and so has whatever links lead to. Cost: a bit for each node, and mostly `effort` visits.
pub(crate) fn near(
    web: &Web,
    effort: usize,
    direction: &[f32],
    distance: impl Fn(&[f32]) -> f32,
) -> Vec<u32> {
    let (nodes, four_at_once) = (web.nodes(), FourAtOnce::of_this_processor());
    let (mut seen, mut nearest) = (Seen::none_of(nodes.len()), Nearest::with_room(effort));
    let mut new = Vec::with_capacity(DEGREE_MAX);
    new.extend(seen.is_new(web.entry()).then(|| web.entry()));
    loop {
        // Most of a walk is waiting for rows: all of them are asked for before the first is looked at.
        new.iter().for_each(|node| nodes.fetch(*node));
        let mut rest = &new[..];
        while let (Some(four_at_once), Some((four, others))) = (four_at_once, rest.split_first_chunk()) {
            let rows = four.map(|node| nodes.direction(node));
            let distances = four_at_once.squared_distances(direction, rows);
            distances.into_iter().zip(four).for_each(|(distance, node)| nearest.add(distance, *node));
            rest = others;
        }
        rest.iter().for_each(|node| nearest.add(distance(nodes.direction(*node)), *node));
        let Some(node) = nearest.visit() else { return nearest.into_nodes() };
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

    fn into_nodes(self) -> Vec<u32> {
        self.nodes.into_iter().map(|near| near.node).collect()
    }
}
