//! The vote on room: the disk has some, the database, what a component
//! stores and the vectors are within their quotas, and every blob that a unit names is stored.
//!
//! Asked last, so that a request decided before is answered as decided however full the disk is.

use std::sync::Arc;

use crate::error::{CommitError, Failure};
use crate::id::Digest;
use crate::order::Order;
use crate::record::RecordWrite;
use crate::shared::Shared;
use crate::store::StoreOptions;
use crate::unit::Layer;
use crate::vectors::{Growth, bytes_of};

use super::Ballot;

/// Judges what a ballot needs of the disk. `is_named`: whether a durable row names a blob. The outer error is the disk's.
pub(super) fn vote(
    shared: &Shared,
    order: &Order,
    ballot: &Ballot,
    is_named: impl Fn(&Digest) -> Result<bool, Failure>,
) -> Result<Result<(), CommitError>, Failure> {
    if let Some(cause) = shared.stand.full() {
        return Ok(Err(CommitError::NoRoom { dir: Arc::clone(&shared.dir), cause }));
    }
    let (bytes, allowed) = (shared.database.bytes(), shared.options.database_bytes_max);
    if bytes > allowed && grows(&ballot.writes) {
        return Ok(Err(CommitError::DatabaseFull { bytes, allowed }));
    }
    let growth = growth(shared, order, &ballot.writes);
    let StoreOptions { vector_bytes_per_owner_max, vector_bytes_max, .. } = shared.options;
    if let Err(full) = order.room().check(&growth, vector_bytes_per_owner_max, vector_bytes_max) {
        return Ok(Err(full));
    }
    if let Err(full) = order.stored.check(&ballot.stored, shared.options.stored_bytes_per_owner_max) {
        return Ok(Err(full));
    }
    for record in &ballot.writes.records {
        // A blob that rows name already is safe from collection, and is not looked for again.
        if let RecordWrite::Release(release) = record
            && !is_named(&release.digest)?
            && !shared.blobs.has(&release.digest)
        {
            return Ok(Err(CommitError::BlobMissing(release.digest)));
        }
    }
    Ok(Ok(()))
}

/// What a unit adds to its owners' vectors, beside what was voted for before it.
pub(super) fn growth(shared: &Shared, order: &Order, writes: &Layer) -> Growth {
    let mut growth = Growth::new();
    if writes.vectors.is_empty() {
        return growth;
    }
    let index = shared.index.read();
    for ((collection, object), vector) in &writes.vectors {
        let pending = order.vector_bytes(collection, *object);
        let before = pending.unwrap_or_else(|| index.bytes(collection, *object));
        let after = vector.as_ref().map_or(0, bytes_of);
        *growth.entry(collection.owner.clone()).or_default() += after.cast_signed() - before.cast_signed();
    }
    growth
}

/// Whether a unit adds rows that stay. Removals go on past the quota, with their audit rows and outcomes: they are
/// the way back below it. So do seats and grants, which replace rows of the same size.
fn grows(writes: &Layer) -> bool {
    !writes.objects.is_empty()
        || !writes.posts.is_empty()
        || !writes.collections.is_empty()
        || writes.names.values().any(Option::is_some)
        || writes.vectors.values().any(Option::is_some)
        || writes.records.iter().any(|record| matches!(record, RecordWrite::Release(_)))
}
