//! Long-term memory: a collection's vectors moved into an edition on disk, by a job that outlives the message.
//!
//! ```text
//! Job::begin ──▶ State::Building ──▶ State::Built ──publish──▶ State::Publishing ──▶ State::Published
//! ```
//! Keep the job's number in a slot and ask again with a later message: building takes a while.

use serde::{Deserialize, Serialize};

use crate::bindings::telos::host::archive as host;

/// Why a call about the archive changed and returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not granted.
    #[error("archive: not granted")]
    Denied,
    /// No such collection is committed.
    #[error("archive: no such collection; one that this message makes is there once it has committed")]
    NoSuchCollection,
    /// Another edition is on its way, of any component, or another message has this one validated.
    #[error("archive: another edition is on its way; try again later")]
    Busy,
    /// The component has no such job, or has had many since.
    #[error("archive: no such job; the host forgets them when it stops")]
    NoSuchJob,
    /// The job has not come so far yet, or is over.
    #[error("archive: the job is not at that step; its state says where it is")]
    Unready,
    /// A job begun, put in force or given up while serving a read-only selector.
    #[error("archive: a read-only selector cannot do that")]
    ReadOnly,
    /// The collection cannot be archived; says why.
    #[error("archive: {0}")]
    Invalid(String),
    /// This is an example, or the store is in memory.
    #[error("archive: there is none here")]
    Unavailable,
    /// The host failed; the journal has the cause under this number.
    #[error("archive: the host failed; its journal says why under incident {0}")]
    Failed(u64),
}

/// A job of this component: a number that is no other's, in no life of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Job(u64);

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its edition is being built: so many steps of so many of its present stage; of 0 when nobody knows.
    Building {
        /// Steps done.
        done: u64,
        /// Of so many.
        of: u64,
    },
    /// It is built, serves nobody, and waits, ten minutes at most.
    Built(Edition),
    /// It is being put in force.
    Publishing(Edition),
    /// It serves.
    Published(Edition),
    /// It is over and left nothing; says why.
    Ended(String),
}

/// An edition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Edition {
    /// Ascends within a collection.
    pub number: u64,
    /// Vectors in it.
    pub vectors: u32,
    /// How many of the ten nearest it finds, as measured on a sample when it was built: 0.0 to 1.0.
    pub recall: f64,
    /// Bytes of memory that it takes.
    pub bytes: u64,
}

impl Job {
    /// Begins to move all vectors of a collection of this component, as they are committed, into a new edition; where one
    /// of this collection is being built, or waits, this is that job.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchCollection`], [`ArchiveError::Busy`], [`ArchiveError::Invalid`], [`ArchiveError::ReadOnly`]
    /// and the host's others.
    pub fn begin(collection: &str) -> Result<Self, ArchiveError> {
        Ok(Self(host::begin(&host::Selection { collection: collection.to_owned() })?))
    }

    /// Where it is.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchJob`] and the host's others.
    pub fn state(self) -> Result<State, ArchiveError> {
        Ok(host::status(self.0)?.into())
    }

    /// Reads every byte of an edition that waits against its checksums; about a second for each GB.
    ///
    /// # Errors
    /// [`ArchiveError::Unready`] when none waits, [`ArchiveError::Failed`] when a byte is not as it was written, and the
    /// host's others.
    pub fn validate(self) -> Result<Edition, ArchiveError> {
        Ok(host::validate(self.0)?.into())
    }

    /// Has an edition that waits put in force, in the background. The same again changes nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Unready`] when none waits, [`ArchiveError::ReadOnly`] and the host's others.
    pub fn publish(self) -> Result<(), ArchiveError> {
        Ok(host::publish(self.0)?)
    }

    /// Gives up what is being built or waits. The same again changes nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Unready`] once it was to be put in force, [`ArchiveError::ReadOnly`] and the host's others.
    pub fn cancel(self) -> Result<(), ArchiveError> {
        Ok(host::cancel(self.0)?)
    }
}

impl From<host::State> for State {
    fn from(state: host::State) -> Self {
        match state {
            host::State::Building(host::Progress { done, of }) => Self::Building { done, of },
            host::State::Built(edition) => Self::Built(edition.into()),
            host::State::Publishing(edition) => Self::Publishing(edition.into()),
            host::State::Published(edition) => Self::Published(edition.into()),
            host::State::Ended(why) => Self::Ended(why),
        }
    }
}

impl From<host::Edition> for Edition {
    fn from(host::Edition { number, vectors, recall, bytes }: host::Edition) -> Self {
        Self { number, vectors, recall, bytes }
    }
}

impl From<host::Error> for ArchiveError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied => Self::Denied,
            host::Error::NoSuchCollection => Self::NoSuchCollection,
            host::Error::Busy => Self::Busy,
            host::Error::NoSuchJob => Self::NoSuchJob,
            host::Error::Unready => Self::Unready,
            host::Error::ReadOnly => Self::ReadOnly,
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::Unavailable => Self::Unavailable,
            host::Error::Failed(incident) => Self::Failed(incident),
        }
    }
}
