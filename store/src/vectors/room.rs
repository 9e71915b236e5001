//! Room: the bytes that vectors take, by owner, those voted for and not yet durable included.
//!
//! A vector counts with its components, its metadata and what memory keeps beside them, once. What a unit replaces or
//! removes gives its room back.

use std::collections::{BTreeMap, HashMap};

use crate::error::CommitError;
use crate::id::ComponentId;

use super::Vector;

/// What memory keeps for a vector beside its components and metadata: its row and date, its place in a map, its links,
/// and that vectors and maps have room to spare. Measured with 6,000 rows, by what an index says it takes: 170 in a tail, 300 in
/// a segment, 172 of these for links.
pub(crate) const BYTES_BESIDE: usize = 300;

/// What a unit adds to each owner's bytes, or gives back.
pub(crate) type Growth = BTreeMap<ComponentId, i64>;

/// The bytes in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    owners: HashMap<ComponentId, u64>,
}

impl Room {
    /// Counts one vector more.
    pub(crate) fn add(&mut self, owner: &ComponentId, bytes: u64) {
        *self.owners.entry(owner.clone()).or_default() += bytes;
    }

    /// Counts what a unit changes.
    pub(crate) fn grow(&mut self, growth: &Growth) {
        for (owner, bytes) in growth {
            let used = self.owners.entry(owner.clone()).or_default();
            *used = used.saturating_add_signed(*bytes);
        }
        self.owners.retain(|_, used| *used > 0);
    }

    /// Bytes of one owner's vectors.
    pub(crate) fn of(&self, owner: &ComponentId) -> u64 {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    /// Bytes of all vectors.
    pub(crate) fn total(&self) -> u64 {
        self.owners.values().sum()
    }

    /// Whether a unit fits. One that gives room back always does, however full it is.
    ///
    /// # Errors
    /// [`CommitError::VectorsFull`].
    pub(crate) fn check(&self, growth: &Growth, owner_max: u64, max: u64) -> Result<(), CommitError> {
        let full = |owner, found, allowed| Err(CommitError::VectorsFull { owner, found, allowed });
        for (owner, bytes) in growth.iter().filter(|(_, bytes)| **bytes > 0) {
            let found = self.of(owner).saturating_add_signed(*bytes);
            if found > owner_max {
                return full(Some(owner.clone()), found, owner_max);
            }
        }
        let bytes: i64 = growth.values().sum();
        let found = self.total().saturating_add_signed(bytes);
        if bytes > 0 && found > max { full(None, found, max) } else { Ok(()) }
    }
}

/// What a vector counts for.
pub(crate) fn bytes_of(vector: &Vector) -> u64 {
    bytes(vector.components.len(), vector.metadata.as_str())
}

/// What a vector of that many components counts for, whatever their precision: it is memory that is counted.
pub(crate) fn bytes(dim: usize, metadata: &str) -> u64 {
    bytes_beside(dim, metadata.len())
}

/// The same, with so many bytes of metadata. One that is archived counts as before.
pub(crate) fn bytes_beside(dim: usize, metadata: usize) -> u64 {
    (BYTES_BESIDE + dim * size_of::<f32>() + metadata) as u64
}

#[cfg(test)]
mod tests;
