//! Rewriting the database file: what was forgotten leaves the disk, and free pages go back to the file system.
//!
//! ```text
//! look      every page, so that no damage gets a new checksum         crash after: the old file
//! copy      every row into a new file beside, committed and closed    crash after: the old file
//! switch    the new file takes the old one's name, directory synced   crash before: the old one; after: the new one
//! reopen    the handle is opened on the new file
//! ```
//! The committer waits meanwhile: units gather in its queue, which is bounded, and are decided afterwards. Readers go
//! on throughout, except for the moment of the switch, when they wait.
//! The file system may keep bytes of the old file where no program can read them: that is its business.

use serde::Serialize;

use crate::copy;
use crate::error::{Failure, Fault};
use crate::pages;
use crate::progress::{Meter, Phase, Progress};
use crate::store::Store;

/// What rewriting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RewriteReport {
    /// Rows copied.
    pub rows: u64,
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file after.
    pub bytes_after: u64,
}

/// Why the file was not rewritten. The old one goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The copy or the switch failed.
    #[error("the database was not rewritten and goes on as it was; free some disk space and try again")]
    Failed(#[source] Failure),
    /// The database is damaged: a new file would have checksums that say otherwise.
    #[error(
        "the database was not rewritten and goes on as it was, since a new file would hide what is damaged in it"
    )]
    Damaged(#[source] Failure),
    /// Readers did not pause for the switch.
    #[error("the database was not rewritten: readers did not pause within {waited_ms} ms; try again")]
    Busy {
        /// How long the switch waited.
        waited_ms: u64,
    },
}

impl RewriteError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        Fault::Host
    }
}

impl Store {
    /// Rewrites the database file without free pages, so that the bytes of what was forgotten are nowhere in it.
    ///
    /// Waits for a backup or a verification under way. Cost: reads every page, then reads and writes every row once;
    /// needs the room of a second file meanwhile. Decisions wait while rows are copied; past 1,024 waiting units the next
    /// are `busy`. Not to be called from a reply or from [`crate::OnDecided`].
    ///
    /// # Errors
    /// [`RewriteError`]; the old file is in place and its handle works, or is being reopened.
    pub fn rewrite(&self, progress: &mut dyn FnMut(Progress)) -> Result<RewriteReport, RewriteError> {
        let shared = self.shared();
        let _whole = shared.whole.write();
        pages::check(shared, progress).map_err(|failure| match failure.is_damage() {
            true => RewriteError::Damaged(failure),
            false => RewriteError::Failed(failure),
        })?;
        let _turn = shared.turn.lock();
        let mut meter = Meter::new(progress);
        let bytes_before = shared.database.bytes();
        let rewritten = shared.database.rewrite(|from, into| copy::copy(from, into, &mut meter));
        let rows = rewritten.inspect_err(|error| {
            if let RewriteError::Failed(failure) = error {
                // What failed may be where it was written to.
                shared.suspect(failure);
            }
        })?;
        meter.begin(Phase::Switch, 1);
        meter.step(1);
        meter.end();
        Ok(RewriteReport { rows, bytes_before, bytes_after: shared.database.bytes() })
    }
}
