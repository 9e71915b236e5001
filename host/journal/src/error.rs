//! What can go wrong, and whose fault it is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This program or its machine.
    Host,
    /// The person who runs it.
    Operator,
}

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process writes to this directory.
    #[error("journal {dir}: another process is writing there; stop it, or choose another directory")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The configuration is impossible.
    #[error("journal: {field} is {found}, allowed is {allowed}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// What it was.
        found: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// A file or directory refused.
    #[error("journal: cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The journal was closed.
    #[error("journal: closed; nothing more is written in this run")]
    Closed,
    /// The writer did not get so far in time. Facts stay queued; asking again is harmless.
    #[error(
        "journal: not on the disk after {waited:?}; the disk is slow, full or failing, see the host's checks"
    )]
    Late {
        /// How long it waited.
        waited: Duration,
    },
    /// A sync failed meanwhile: lines since the last good one may be lost to a power cut.
    #[error("journal: the disk failed to sync; the journal goes on in a new file, earlier lines may be lost")]
    Sync,
}

impl JournalError {
    /// Who must act.
    pub fn fault(&self) -> Fault {
        match self {
            JournalError::Locked { .. } | JournalError::Config { .. } => Fault::Operator,
            JournalError::File { .. }
            | JournalError::Closed
            | JournalError::Late { .. }
            | JournalError::Sync => Fault::Host,
        }
    }
}

/// Names action and path on an I/O error.
pub(crate) fn at(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::File { action, path, source }
}
