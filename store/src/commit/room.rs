//! The vote on room: the database is within its quota, and every blob that a unit names is stored.
//!
//! Asked last, so that a request decided before is answered as decided however full the disk is.

use crate::error::{CommitError, Failure};
use crate::id::Digest;
use crate::record::RecordWrite;
use crate::shared::Shared;
use crate::unit::Layer;

use super::Ballot;

/// Judges what a ballot needs of the disk. `is_named`: whether a durable row names a blob. The outer error is the disk's.
pub(super) fn vote(
    shared: &Shared,
    ballot: &Ballot,
    is_named: impl Fn(&Digest) -> Result<bool, Failure>,
) -> Result<Result<(), CommitError>, Failure> {
    let (bytes, allowed) = (shared.database.bytes(), shared.options.database_bytes_max);
    if bytes > allowed && grows(&ballot.writes) {
        return Ok(Err(CommitError::DatabaseFull { bytes, allowed }));
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

/// Whether a unit adds rows that stay. Removals go on past the quota, with their audit rows and outcomes: they are
/// the way back below it. So do seats and grants, which replace rows of the same size.
fn grows(writes: &Layer) -> bool {
    !writes.objects.is_empty()
        || !writes.posts.is_empty()
        || writes.names.values().any(Option::is_some)
        || writes.vectors.values().any(Option::is_some)
        || writes.records.iter().any(|record| matches!(record, RecordWrite::Release(_)))
}
