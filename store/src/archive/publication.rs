//! The commit that puts an edition in force.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::id::Position;
use crate::shared::Shared;
use crate::vectors::{Archived, CollectionKey, Freed};

use super::work::Work;

/// An edition that waits for the commit that puts it in force.
pub(crate) struct Publication {
    pub(crate) key: CollectionKey,
    pub(crate) collection: u32,
    pub(crate) number: u64,
    pub(crate) base: Position,
    /// No snapshot from before it is open.
    floor: Position,
    archived: Mutex<Option<Archived>>,
    work: Arc<Work>,
    /// What it took the place of, and how long that took.
    replaced: Mutex<Option<(Option<Freed>, Duration)>>,
}

impl Publication {
    /// Of an edition. No snapshot from before `floor` is open: that is the caller's promise.
    pub(super) fn new(
        (collection, key): (u32, CollectionKey),
        (number, base): (u64, Position),
        floor: Position,
        archived: Archived,
        work: Arc<Work>,
    ) -> Publication {
        let archived = Mutex::new(Some(archived));
        Publication { key, collection, number, base, floor, archived, work, replaced: Mutex::default() }
    }

    /// It serves, or never will. What the edition took the place of, and how long the switch took.
    pub(super) fn end(&self) -> (Option<Freed>, Duration) {
        // Whoever still knows of the commit must not keep the files.
        drop(self.archived.lock().take());
        self.replaced.lock().take().unwrap_or_default()
    }

    /// The commit is durable. Cannot fail.
    pub(crate) fn switch(&self, shared: &Shared) {
        let Some(mut archived) = self.archived.lock().take() else { return };
        let began = Instant::now();
        let mut index = shared.index.write();
        // What was forgotten up to here; the index hears of the rest.
        self.work.taint(&mut archived);
        let freed = index.publish(&self.key, archived, self.floor);
        drop(index);
        *self.replaced.lock() = Some((freed, began.elapsed()));
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("key", &self.key)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
