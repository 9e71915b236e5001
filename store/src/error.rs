//! Why the store refused or failed: one enum per operation family, each saying whose fault it was and whether an
//! effect may exist.

mod commit;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::id::{ComponentId, ObjectId, ObjectName, Position};
use crate::store_id::StoreId;
use crate::vectors::CollectionForm;

pub use commit::{CommitError, Contested};

/// Whose mistake or failure an error was. Decides log level, retry and blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A component's: what it asked for cannot be.
    Guest,
    /// This host's: disk, memory or a bug.
    Host,
    /// An operator's: configuration or a command.
    Operator,
    /// A client's: a request out of order, or too late.
    Peer,
}

/// Whether the effect of a failed unit may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing happened, and nothing will.
    None,
    /// It happened, exactly once.
    Committed,
    /// It may have happened; a resend under the same request id answers which.
    Unknown,
}

/// A text that is not of its form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not {allowed}")]
pub struct NameError {
    /// What the text should have been.
    pub what: &'static str,
    /// The text, shortened.
    pub found: String,
    /// The form that is taken.
    pub allowed: &'static str,
}

impl NameError {
    /// Keeps the first 80 characters of the text: enough to find it.
    pub(crate) fn new(what: &'static str, found: &str, allowed: &'static str) -> NameError {
        NameError { what, found: found.chars().take(80).collect(), allowed }
    }
}

/// A bound that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} {what}, {allowed} allowed")]
pub struct Overflow {
    /// What is bounded, with its unit.
    pub what: &'static str,
    /// What was asked for.
    pub found: usize,
    /// What is allowed.
    pub allowed: usize,
}

impl Overflow {
    /// Answers an overflow when `found` is more than `allowed`.
    pub(crate) fn check(what: &'static str, found: usize, allowed: usize) -> Result<(), Overflow> {
        if found <= allowed {
            return Ok(());
        }
        Err(Overflow { what, found, allowed })
    }
}

/// The store itself failed: always the host's fault.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// redb or the disk below it.
    #[error("object store: {0}")]
    Storage(#[source] Arc<redb::Error>),
    /// A row that today's code cannot read.
    #[error("table {table}: a row is not readable: {why}; run `telos store verify`")]
    Row {
        /// The table.
        table: &'static str,
        /// What was found.
        why: String,
    },
    /// The database has a table that today's code does not know.
    #[error("table {0} is not known to this host; use a newer one")]
    UnknownTable(String),
    /// The database's file is not as it was written.
    #[error(
        "the database is damaged: {why}; `telos store verify` says more, `telos store restore` brings a backup back"
    )]
    Damaged {
        /// What was found.
        why: String,
    },
    /// The store's own code, or what a host had it call, went wrong; nothing says that the file did.
    #[error("a bug in this host: {what}; `telos store verify` says whether the file is whole")]
    Panicked {
        /// What was being done, and what the panic said.
        what: String,
    },
    /// An edition of the archive cannot be read.
    #[error("the archive: {0}; its vectors are taken from the database")]
    Archive(#[source] Arc<telos_archive::ReadError>),
    /// The database is closed while it is being reopened after a failure.
    #[error("the object store is being reopened")]
    Reopening,
}

impl From<telos_archive::ReadError> for Failure {
    fn from(cause: telos_archive::ReadError) -> Failure {
        Failure::Archive(Arc::new(cause))
    }
}

impl Failure {
    /// Whether the handle was closed under a read, which another may have replaced by now.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Failure::Storage(cause) if matches!(cause.as_ref(), redb::Error::DatabaseClosed))
    }

    /// Whether it is in the bytes, so that another handle finds the same.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Failure::Damaged { .. } | Failure::Row { .. } | Failure::UnknownTable(_))
    }

    /// Whether it says that the file is not as it was written.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Failure::Damaged { .. } | Failure::Row { .. })
    }

    /// What the operating system refused, when it did: [`io::ErrorKind::StorageFull`] for a full disk.
    ///
    /// None also for a call that was only refused because an earlier one had failed.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Failure::Storage(cause) => match cause.as_ref() {
                redb::Error::Io(cause) => Some(cause.kind()),
                _ => None,
            },
            Failure::Row { .. }
            | Failure::Archive(_)
            | Failure::UnknownTable(_)
            | Failure::Damaged { .. }
            | Failure::Panicked { .. }
            | Failure::Reopening => None,
        }
    }

    /// Whether the disk has no room for it: the device is full, or the file or its owner takes all they may.
    pub fn is_no_room(&self) -> bool {
        self.io_kind().is_some_and(is_no_room)
    }
}

fn is_no_room(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// An error and its causes in one sentence; causes that the error has said itself are not said again.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// What redb finds in a file that is not as it was written: no other file has such tables, or ends too early.
fn is_damage(cause: &redb::Error) -> bool {
    match cause {
        redb::Error::Io(cause) => {
            matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::UpgradeRequired(_) => true,
        _ => false,
    }
}

macro_rules! from_redb {
    ($($cause:ty),*) => {$(
        impl From<$cause> for Failure {
            fn from(cause: $cause) -> Failure {
                let cause: redb::Error = cause.into();
                match cause {
                    redb::Error::Corrupted(why) => Failure::Damaged { why },
                    cause if is_damage(&cause) => Failure::Damaged { why: cause.to_string() },
                    cause => Failure::Storage(Arc::new(cause)),
                }
            }
        }
    )*};
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// Why a store did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by {}; stop that host or choose another directory", dir.display(), process(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds the lock, where it could be read.
        pid: Option<u32>,
    },
    /// It was written by a newer host.
    #[error("{} has layout generation {found}, this host knows up to {known}; use a newer host", dir.display())]
    NewerLayout {
        /// The directory.
        dir: PathBuf,
        /// The generation found.
        found: u64,
        /// The newest generation this code reads.
        known: u64,
    },
    /// It was written by an older host, and was to be left as it is.
    #[error(
        "{} has layout generation {found}, this host works with {known}; back it up, then run `telos up`, \
         which raises it",
        dir.display()
    )]
    OlderLayout {
        /// The directory.
        dir: PathBuf,
        /// The generation found.
        found: u64,
        /// The generation that it must be raised to.
        known: u64,
    },
    /// The database is missing or holds nothing, and the directory has held a store.
    #[error(
        "{} is missing or holds nothing, though {} has held {}",
        dir.join(crate::store::DATABASE_FILE).display(),
        dir.display(),
        id.map_or_else(|| "a store".into(), |id| format!("store {id}"))
    )]
    Gone {
        /// The directory.
        dir: PathBuf,
        /// The store, where that is known.
        id: Option<StoreId>,
    },
    /// A directory or file could not be made or opened.
    #[error("{}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// The database did not open.
    #[error("the database in {} does not open", dir.display())]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        cause: Failure,
    },
}

impl OpenError {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            OpenError::InUse { .. }
            | OpenError::NewerLayout { .. }
            | OpenError::OlderLayout { .. }
            | OpenError::Gone { .. }
            | OpenError::File { .. } => Fault::Operator,
            OpenError::Failed { .. } => Fault::Host,
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// Why a read answered nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No object has this identity at this snapshot.
    #[error("no object {0}")]
    NoSuchObject(ObjectId),
    /// What was so at this snapshot is no longer kept; begin a new unit, or ask for a newer position.
    #[error("position {snapshot} is too old to read, {oldest} is the oldest kept")]
    SnapshotTooOld {
        /// The position asked for.
        snapshot: Position,
        /// The history floor: the oldest position that can be read.
        oldest: Position,
    },
    /// The unit read more than it may, or an object has too many ancestors.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl ReadError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            ReadError::NoSuchObject(_) | ReadError::TooLarge(_) => Fault::Guest,
            ReadError::SnapshotTooOld { .. } | ReadError::Failed(_) => Fault::Host,
        }
    }
}

/// Why a write changed nothing in its unit.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The read that a write begins with failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A slot name or selector is not well formed.
    #[error(transparent)]
    Invalid(#[from] NameError),
    /// Past a bound of an object or of the unit.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The name is another object's.
    #[error("name {name} is taken by object {by}")]
    NameTaken {
        /// The name.
        name: ObjectName,
        /// The object that has it.
        by: ObjectId,
    },
    /// A generation that is not ahead of the component's state.
    #[error("generation {found} of {component} is behind its state, which is in generation {in_force}")]
    Generation {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        found: u32,
        /// What its state is in.
        in_force: u32,
    },
    /// A generation that none of the component's releases knows: what serves would meet state that is newer than it.
    #[error(
        "no release of {component} that is stored knows generation {found}; the highest one known is {}",
        known.map_or("none".to_owned(), |known| known.to_string())
    )]
    GenerationUnknown {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        found: u32,
        /// The highest that one knows, or that is in force; none where there is neither.
        known: Option<u32>,
    },
}

impl WriteError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            WriteError::Read(cause) => cause.fault(),
            WriteError::Invalid(_) | WriteError::TooLarge(_) | WriteError::NameTaken { .. } => Fault::Guest,
            WriteError::Generation { .. } => Fault::Host,
            WriteError::GenerationUnknown { .. } => Fault::Operator,
        }
    }
}

/// Why a vector call changed and returned nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// Nothing was ever added to a collection of that name.
    #[error("no vector collection {0}")]
    NoSuchCollection(ObjectName),
    /// No object has this identity at this snapshot.
    #[error("no object {0}")]
    NoSuchObject(ObjectId),
    /// The vector's length is not the collection's dimension.
    #[error("vector of dimension {found}, the collection has {expected}")]
    Dimension {
        /// The length given.
        found: usize,
        /// The collection's dimension.
        expected: usize,
    },
    /// A component is NaN, infinite or past what the collection's precision holds, or the vector's length is past what
    /// its metric compares: for cosine, also zero, once it is rounded to that precision.
    #[error("the vector has a component that is not finite, or no direction")]
    NotFinite,
    /// A collection was to have no components, by its declaration or by its first vector.
    #[error("a collection of dimension 0; vectors have 1 to 4,096 components")]
    NoDimension,
    /// The collection is there, and otherwise than was asked.
    #[error("collection {name} has {found}, which never changes; {asked} was declared")]
    DeclaredOtherwise {
        /// Its name.
        name: ObjectName,
        /// What it has.
        found: CollectionForm,
        /// What was asked.
        asked: CollectionForm,
    },
    /// The collection's name is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The metadata is not a JSON object.
    #[error("the metadata is not a JSON object")]
    Metadata,
    /// Past a bound of vectors or of the unit.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The index no longer holds the state of this snapshot; begin a new unit.
    #[error("snapshot {snapshot} is too old to search, {oldest} is the oldest kept")]
    SnapshotTooOld {
        /// The unit's snapshot.
        snapshot: Position,
        /// The oldest snapshot that can be searched.
        oldest: Position,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl VectorError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            VectorError::SnapshotTooOld { .. } | VectorError::Failed(_) => Fault::Host,
            _ => Fault::Guest,
        }
    }
}

impl From<ReadError> for VectorError {
    fn from(cause: ReadError) -> VectorError {
        match cause {
            ReadError::NoSuchObject(id) => VectorError::NoSuchObject(id),
            ReadError::SnapshotTooOld { snapshot, oldest } => {
                VectorError::SnapshotTooOld { snapshot, oldest }
            }
            ReadError::TooLarge(overflow) => VectorError::TooLarge(overflow),
            ReadError::Failed(failure) => VectorError::Failed(failure),
        }
    }
}

/// One object, and how many more there are besides.
fn and_more(child: ObjectId, more: usize) -> String {
    match more {
        0 => format!("object {child}"),
        more => format!("object {child}, and {more} more have such a parent"),
    }
}

/// Why nothing was forgotten.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// Objects that are not to be forgotten delegate to one that is.
    #[error("object {parent} is a parent of {}; give them other parents or detach them", and_more(*child, *more))]
    StillParent {
        /// One object to be forgotten.
        parent: ObjectId,
        /// One that delegates to it.
        child: ObjectId,
        /// How many others delegate to an object of this call.
        more: usize,
    },
    /// Too many objects in one call, too many states of others to detach, or too long a name of who asked.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The store could not be read.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The commit was refused or failed; its `effect()` says which.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl ForgetError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            ForgetError::StillParent { .. } | ForgetError::TooLarge(_) => Fault::Operator,
            ForgetError::Failed(_) => Fault::Host,
            ForgetError::Commit(cause) => cause.fault(),
        }
    }
}

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Past the bound of one blob.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The file system refused.
    #[error("{}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// The blobs on disk would take more than their quota.
    #[error(
        "blobs would take {found} bytes, {allowed} allowed; start the host again, which collects what nobody names, or with a larger --blob-mib"
    )]
    Quota {
        /// Bytes on disk, with this blob.
        found: u64,
        /// The quota.
        allowed: u64,
    },
    /// The rows that name blobs could not be read.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The file's bytes are not the ones that were stored.
    #[error("{}: the bytes do not match their digest; restore the file from a backup", path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
    },
}

impl BlobError {
    /// Whether the disk has no room for it.
    pub fn is_no_room(&self) -> bool {
        match self {
            BlobError::File { cause, .. } => is_no_room(cause.kind()),
            BlobError::Failed(failure) => failure.is_no_room(),
            _ => false,
        }
    }

    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            BlobError::TooLarge(_) => Fault::Guest,
            BlobError::Quota { .. } => Fault::Operator,
            BlobError::File { .. } | BlobError::Failed(_) | BlobError::Damaged { .. } => Fault::Host,
        }
    }
}
