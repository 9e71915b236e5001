//! Giving up an edition that has something of what was forgotten, or that a search could not read: its collection is read
//! anew from the database.
//!
//! ```text
//! read      the collection, as of one commit      nobody waits but who forgets
//! catch up  what was committed since              commits wait
//! replace   the index                             snapshots from before are too old to search in this collection
//! delete    the edition, whoever reads it         but one that may be whole: another start may read it
//! withdraw  the row that names it, and an audit   a small commit; crash before: the next start does without it
//!           row that says why
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use crate::commit::{self, Vote};
use crate::curator;
use crate::damage;
use crate::error::Failure;
use crate::reading::{self, ReadIndex};
use crate::scan::Scan as _;
use crate::shared::{Collection, Shared};
use crate::tables::{EDITIONS, GIVEN_UP};
use crate::unit::Unit;
use crate::vectors::{CollectionKey, Leave};

use super::error::ArchiveError;
use super::given_up::{self, Note};

/// Gives up the editions that are to be. Whoever calls this while it is under way waits until it is done.
pub(crate) fn leave(shared: &Arc<Shared>) {
    let alone = shared.shelves.leaving.lock();
    // The lock is not held meanwhile.
    let next = || shared.index.read().to_leave();
    let mut has_left = false;
    while let Some((key, number, why)) = next() {
        if let Err(failure) = leave_one(shared, &key, (number, &why)) {
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
        shared.shelves.suspect();
        curator::wake(shared);
    }
}

/// Has no row name an edition that does not serve and never will.
///
/// # Errors
/// What the database said; the next start does without such an edition, too.
pub(crate) fn withdraw_unused(shared: &Arc<Shared>, collections: &[Collection]) -> Result<(), ArchiveError> {
    let unused = read_unused(shared, collections)?;
    if unused.is_empty() {
        return Ok(());
    }
    let pin = shared.pins.pin(&shared.decided);
    let mut unit = Unit::new(Arc::clone(shared), pin, None);
    for (collection, number) in unused {
        unit.withdraw(collection.number, number)?;
        given_up::audit(&mut unit, shared, collection, number)?;
    }
    let (decided, reply) = commit::pair();
    commit::decide(shared, unit, Vote::default(), reply);
    decided.wait()?;
    Ok(())
}

fn read_unused<'a>(
    shared: &Shared,
    collections: &'a [Collection],
) -> Result<Vec<(&'a Collection, u64)>, Failure> {
    // No commit is between the database and the index.
    let _turn = shared.turn.lock();
    let named: HashMap<u32, (u64, u64)> = shared.read(EDITIONS, |editions| {
        let rows = editions.rows()?.map(|row| {
            let (collection, row) = row?;
            Ok((collection.value(), row.value()))
        });
        rows.collect()
    })?;
    let unused = collections.iter().filter_map(|of| {
        let Collection { key, number: collection, .. } = of;
        let (number, base) = *named.get(collection)?;
        let serving = shared.index.read().edition(key);
        let is_used = serving == Some(number) || shared.shelves.is_unopened(*collection, number);
        (base != GIVEN_UP && !is_used).then_some((of, number))
    });
    Ok(unused.collect())
}

fn leave_one(shared: &Shared, key: &CollectionKey, (number, why): (u64, &Leave)) -> Result<(), Failure> {
    // Nobody replaces the file meanwhile.
    let _whole = shared.whole.read();
    let read = damage::guard(|| reading::read_collection_index(shared, key))?;
    fail::fail_point!("store::collection-read-anew");
    let turn = shared.turn.lock();
    let is_still = |(of, number_now, _): (CollectionKey, u64, Leave)| (&of, number_now) == (key, number);
    if !shared.index.read().to_leave().is_some_and(is_still) {
        return Ok(());
    }
    let ReadIndex { collection, index, .. } = damage::guard(|| reading::catch_up(shared, read))?;
    let at = shared.position();
    let before = shared.index.write().replace(key, collection.form, index, at);
    drop(turn);
    drop(before);
    shared.shelves.note(
        collection.number,
        match why {
            Leave::Forgotten => Note::forgotten(number),
            Leave::Damaged(why) | Leave::Unread(why) => Note::damaged(number, why.clone()),
        },
    );
    if matches!(why, Leave::Unread(_)) {
        shared.shelves.keep_unopened(collection.number, Some(number));
    } else if let Err(cause) = shared.shelves.delete(collection.number, number) {
        tracing::error!(%cause, number, ?why, "an edition that was given up was not deleted");
    }
    Ok(())
}
