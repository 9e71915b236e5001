//! A walk over the graph towards a direction: codes in memory say where to go, sectors on disk say what is there.
//!
//! Source: Subramanya and others: DiskANN, fast accurate billion-point nearest neighbor search on a single node, 2019,
//! section 3.4.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::codes::Codes;
use crate::directions::{Directions, distance};
use crate::error::ReadError;
use crate::nearest::{Found, Nearest};

/// Mostly the nearest `effort`, closest first, with exact distances. Cost: about `effort` reads of a sector, one after
/// the other.
pub(crate) fn walk(
    graph: &Directions,
    codes: &Codes,
    entry: u32,
    direction: &[f32],
    effort: usize,
) -> Result<Vec<Found>, ReadError> {
    let table = codes.table(direction);
    let about = |from: u32, number: u32| codes.distance(&table, number).ok_or_else(|| graph.damaged(from));
    let mut known: HashSet<u32, BuildHasherDefault<Mix>> = HashSet::default();
    let mut ahead = Ahead { effort, found: Vec::new(), next: 0 };
    let mut seen = Nearest::new(effort);
    let mut buffer = Vec::new();
    known.insert(entry);
    ahead.add(about(entry, entry)?, entry);
    while let Some(number) = ahead.next() {
        let (components, links) = graph.node(number, &mut buffer)?;
        seen.offer(distance(direction, components), number);
        for link in links {
            if known.insert(link) {
                ahead.add(about(number, link)?, link);
            }
        }
    }
    Ok(seen.into_sorted())
}

/// The nearest so far by their codes, and which of them were not looked at.
struct Ahead {
    effort: usize,
    found: Vec<(Found, bool)>,
    /// All before it were looked at.
    next: usize,
}

impl Ahead {
    fn add(&mut self, distance: f32, number: u32) {
        let found = Found { distance, number };
        if self.found.len() == self.effort && self.found.last().is_some_and(|(last, _)| *last <= found) {
            return;
        }
        let place = self.found.partition_point(|(before, _)| *before < found);
        if self.found.len() == self.effort {
            self.found.pop();
        }
        self.found.insert(place, (found, false));
        self.next = self.next.min(place);
    }

    fn next(&mut self) -> Option<u32> {
        while let Some((found, is_seen)) = self.found.get_mut(self.next) {
            self.next += 1;
            if !std::mem::replace(is_seen, true) {
                return Some(found.number);
            }
        }
        None
    }
}

/// Node numbers are chosen by nobody outside, so they need no more than being spread.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
