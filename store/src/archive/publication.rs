//! The commit that puts an edition in force, and giving up one that has something of what was forgotten.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::damage;
use crate::id::Position;
use crate::reading::read_collection_index;
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

    /// What the edition took the place of, and how long the switch took.
    pub(super) fn replaced(&self) -> (Option<Freed>, Duration) {
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

/// Gives up editions that have rows of objects that were forgotten: their collections are read anew, and the files go.
/// Commits wait meanwhile; snapshots from before are too old to search.
pub(crate) fn leave_tainted(shared: &Shared) {
    loop {
        let Some((key, number)) = shared.index.read().tainted().into_iter().next() else { return };
        let turn = shared.turn.lock();
        let read = damage::guard(|| read_collection_index(shared, &key));
        let (collection, index) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(failure) => {
                tracing::error!(%failure, number, "an edition still has rows of what was forgotten; the next start gives it up");
                return shared.report(&failure);
            }
        };
        let at = shared.position();
        let before = shared.index.write().replace(&key, collection.form, index, at);
        drop(turn);
        drop(before);
        if let Err(cause) = shared.shelves.delete(collection.number) {
            tracing::error!(%cause, number, "an edition with rows of what was forgotten was not deleted");
        }
    }
}
