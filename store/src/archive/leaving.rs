//! Giving up an edition that has something of what was forgotten, or that a search could not read: its collection is read
//! anew from the database.
//!
//! ```text
//! read      the collection, as of one commit      nobody waits but who forgets
//! catch up  what was committed since              commits wait
//! replace   the index                             snapshots from before are too old to search in this collection
//! delete    the edition, whoever reads it         but one that may be whole: another start may read it
//! ```

use std::sync::Arc;

use crate::curator;
use crate::damage;
use crate::error::Failure;
use crate::reading::{self, ReadIndex};
use crate::shared::Shared;
use crate::vectors::{CollectionKey, Leave};

/// Gives up the editions that are to be. Whoever calls this while it is under way waits until it is done.
pub(crate) fn leave(shared: &Arc<Shared>) {
    let alone = shared.shelves.leaving.lock();
    // The lock is not held meanwhile.
    let next = || shared.index.read().to_leave();
    let mut has_left = false;
    while let Some((key, number, why)) = next() {
        if let Err(failure) = leave_one(shared, &key, (number, why)) {
            tracing::error!(%failure, number, ?why, "an edition was not given up; the next start does without it");
            shared.report(&failure);
            break;
        }
        has_left = true;
    }
    drop(alone);
    if has_left {
        // Files of its segments are of no use any more, and its vectors want graphs.
        shared.segments.suspect();
        curator::wake(shared);
    }
}

fn leave_one(shared: &Shared, key: &CollectionKey, (number, why): (u64, Leave)) -> Result<(), Failure> {
    // Nobody replaces the file meanwhile.
    let _whole = shared.whole.read();
    let read = damage::guard(|| reading::read_collection_index(shared, key))?;
    fail::fail_point!("store::collection-read-anew");
    let turn = shared.turn.lock();
    let is_still = |(of, number_now, _)| (&of, number_now) == (key, number);
    if !shared.index.read().to_leave().is_some_and(is_still) {
        return Ok(());
    }
    let ReadIndex { collection, index, .. } = damage::guard(|| reading::catch_up(shared, read))?;
    let at = shared.position();
    let before = shared.index.write().replace(key, collection.form, index, at);
    drop(turn);
    drop(before);
    if why == Leave::Unread {
        shared.shelves.keep_unopened(collection.number, Some(number));
    } else if let Err(cause) = shared.shelves.delete(collection.number, number) {
        tracing::error!(%cause, number, ?why, "an edition that was given up was not deleted");
    }
    Ok(())
}
