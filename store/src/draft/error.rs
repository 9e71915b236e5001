//! Why a draft did not become the store.

use std::io;
use std::path::PathBuf;

use crate::backup::{BackupError, first};
use crate::error::{Failure, Fault, OpenError, Overflow};
use crate::id::{ComponentId, ObjectId};

/// Why a draft did not become the store, which is then as it was; only [`DraftError::Unsynced`] cannot tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The store is in use, or could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be backed up, or a file not be written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The rows could not be read or written.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Past a bound of drafts.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// A component's objects would be in several generations, and what serves knows one.
    #[error(
        "{component}: {behind} of its {objects} objects are left behind, first {object} in generation {found}, and \
         generation {wanted} is for all of them or none; put every object of {component} in generation {wanted}"
    )]
    LeftBehind {
        /// The component.
        component: ComponentId,
        /// The first that is not in the generation.
        object: ObjectId,
        /// What it is in.
        found: u32,
        /// The highest that one of its objects was put in.
        wanted: u32,
        /// How many are not in it.
        behind: u64,
        /// How many there are.
        objects: u64,
    },
    /// The draft's rows break invariants.
    #[error("{}: {} problems in the draft, first {}", dir.display(), problems.len(), first(problems))]
    Unsound {
        /// The store's directory.
        dir: PathBuf,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// The draft is the store now, and may not be after the power goes.
    #[error(
        "{}: the store was changed, but its directory could not be synced, so a power cut may undo it; as it was \
         before, it is in {}",
        dir.display(),
        backup.display()
    )]
    Unsynced {
        /// The store's directory.
        dir: PathBuf,
        /// The store as it was, kept.
        backup: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
}

impl DraftError {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            DraftError::Open(cause) => cause.fault(),
            DraftError::Backup(cause) => cause.fault(),
            DraftError::TooLarge(_) | DraftError::LeftBehind { .. } => Fault::Operator,
            DraftError::Failed(_) | DraftError::Unsound { .. } | DraftError::Unsynced { .. } => Fault::Host,
        }
    }
}
