//! The nearest of many, as they come by.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something at a distance; of two at the same, the smaller number is nearer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) distance: f32,
    pub(crate) number: u32,
}

impl Ord for Found {
    fn cmp(&self, other: &Found) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Found) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Found) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Found {}

/// At most `k` of those that were offered.
pub(crate) struct Nearest {
    k: usize,
    kept: BinaryHeap<Found>,
}

impl Nearest {
    pub(crate) fn new(k: usize) -> Nearest {
        Nearest { k, kept: BinaryHeap::new() }
    }

    /// Whether something at a distance would be kept.
    pub(crate) fn wants(&self, distance: f32, number: u32) -> bool {
        self.kept.len() < self.k || self.kept.peek().is_some_and(|last| Found { distance, number } < *last)
    }

    pub(crate) fn offer(&mut self, distance: f32, number: u32) {
        if self.k == 0 {
            return;
        }
        let found = Found { distance, number };
        if self.kept.len() < self.k {
            self.kept.push(found);
        } else if let Some(mut last) = self.kept.peek_mut().filter(|last| found < **last) {
            *last = found;
        }
    }

    /// Closest first.
    pub(crate) fn into_sorted(self) -> Vec<Found> {
        self.kept.into_sorted_vec()
    }
}
