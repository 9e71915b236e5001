//! Giving up an edition that has something of what was forgotten: its collection is read anew, and its files go.

use std::sync::Arc;

use crate::curator;
use crate::damage;
use crate::error::Failure;
use crate::reading::read_collection_index;
use crate::shared::Shared;
use crate::vectors::CollectionKey;

/// Gives up editions that have rows of objects that were forgotten. Commits wait meanwhile; snapshots from before are too
/// old to search.
pub(crate) fn leave(shared: &Arc<Shared>) {
    // The lock is not held meanwhile.
    let next = || shared.index.read().tainted().into_iter().next();
    let mut has_left = false;
    while let Some((key, number)) = next() {
        if let Err(failure) = leave_one(shared, &key, number) {
            tracing::error!(%failure, number, "an edition still has rows of what was forgotten; the next start gives it up");
            shared.report(&failure);
            break;
        }
        has_left = true;
    }
    if has_left {
        // Files of its segments are of no use any more, and its vectors want graphs.
        shared.segments.suspect();
        curator::wake(shared);
    }
}

fn leave_one(shared: &Shared, key: &CollectionKey, number: u64) -> Result<(), Failure> {
    let turn = shared.turn.lock();
    let read = damage::guard(|| read_collection_index(shared, key))?;
    let Some((collection, index)) = read else {
        let why = format!("no row of {}/{}", key.owner, key.name);
        return Err(Failure::Row { table: "collections", why });
    };
    let at = shared.position();
    let before = shared.index.write().replace(key, collection.form, index, at);
    drop(turn);
    drop(before);
    if let Err(cause) = shared.shelves.delete(collection.number, number) {
        tracing::error!(%cause, number, "an edition with rows of what was forgotten was not deleted");
    }
    Ok(())
}
