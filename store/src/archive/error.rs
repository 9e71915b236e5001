//! Why a collection was not archived.

use std::io;

use telos_archive::{BuildError, ReadError, ShelfError};

use crate::error::{CommitError, Failure, Fault, WriteError};
use crate::id::ComponentId;

/// Why a collection was not archived. What served serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no such collection.
    #[error("{0} has no vector collection {1}")]
    NoSuchCollection(ComponentId, String),
    /// Distances in the archive are of angles.
    #[error("collection {0} is compared by Euclidean distance; only cosine collections can be archived")]
    NotCosine(String),
    /// It has no vectors.
    #[error("collection {0} has no vectors to archive")]
    Empty(String),
    /// Another edition is being built, or waits to be put in force.
    #[error("collection {1} of {0} is being archived; try again when that is done")]
    Busy(ComponentId, String),
    /// An object was forgotten that it has a vector of.
    #[error("an object was forgotten that the new edition has a vector of, so it was deleted; archive again")]
    Forgotten,
    /// The store is in memory.
    #[error("a store in memory has no archive")]
    InMemory,
    /// It was told to stop.
    #[error("archiving was stopped; what served serves")]
    Stopped,
    /// The edition was not built, or is not good enough.
    #[error("no edition was built: {0}")]
    Build(#[source] BuildError),
    /// The shelf failed.
    #[error("the archive failed: {0}")]
    Shelf(#[from] ShelfError),
    /// The edition cannot be read.
    #[error("the new edition cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The unit was too large.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Vectors could not be read.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The switch was not decided.
    #[error("the new edition was not put in force: {0}")]
    Commit(#[from] CommitError),
}

impl ArchiveError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            ArchiveError::NoSuchCollection(..)
            | ArchiveError::NotCosine(_)
            | ArchiveError::Empty(_)
            | ArchiveError::Busy(..)
            | ArchiveError::Forgotten
            | ArchiveError::InMemory
            | ArchiveError::Stopped => Fault::Operator,
            _ => Fault::Host,
        }
    }
}

/// Whether an error of the system says nothing of the file: it may be read another time.
pub(crate) fn is_passing(cause: &io::Error) -> bool {
    !matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}
