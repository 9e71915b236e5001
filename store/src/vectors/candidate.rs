//! What a scan keeps of what it has looked at.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::id::ObjectId;

/// Ordered so that a heap's top is the one to drop first: the farthest, ties by the larger object.
pub(super) struct Candidate {
    pub(super) distance: f32,
    pub(super) object: ObjectId,
    /// Its row.
    pub(super) number: usize,
}

impl Candidate {
    /// Keeps it when it is among the `k` nearest so far and passes; whether it does is only asked then.
    pub(super) fn offer(
        nearest: &mut BinaryHeap<Candidate>,
        found: Candidate,
        k: usize,
        passes: impl FnOnce(&Candidate) -> bool,
    ) {
        let is_near = nearest.len() < k || nearest.peek().is_some_and(|farthest| found < *farthest);
        if is_near && passes(&found) {
            nearest.push(found);
            if nearest.len() > k {
                nearest.pop();
            }
        }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.object.cmp(&other.object))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}
