//! What can go wrong: which file, what was found, and what to do next.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// Why an edition was not built. Whatever was written lies in a directory without a manifest, which
/// [`Shelf::collect`](crate::Shelf::collect) removes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file could not be written or read back.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Something is in the place of the edition.
    #[error("{}: already there; an edition is built in a directory of its own", path.display())]
    Taken {
        /// What is there.
        path: PathBuf,
    },
    /// The rows' source failed.
    #[error("rows could not be read: {cause}")]
    Rows {
        /// What it said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// A row cannot be archived.
    #[error("object {object:032x}: {problem}")]
    Row {
        /// Whose row it is.
        object: u128,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// Directions of no components, or of too many.
    #[error("{dim} components of each vector; 1 to {max} are possible")]
    Dimension {
        /// How many were asked for.
        dim: usize,
        /// [`DIM_MAX`](crate::DIM_MAX).
        max: usize,
    },
    /// More rows than row numbers.
    #[error("more than {max} rows; archive fewer in one edition")]
    TooManyRows {
        /// How many are possible.
        max: u32,
    },
    /// The graph takes more memory than the budget has.
    #[error("a graph over {nodes} directions takes {needed} bytes of memory, of {allowed} allowed")]
    Memory {
        /// Distinct directions.
        nodes: u32,
        /// What building it takes, estimated.
        needed: u64,
        /// [`Budget::memory_bytes`](crate::Budget::memory_bytes).
        allowed: u64,
    },
    /// The engine that builds graphs failed, or panicked.
    #[error("the graph could not be built: {said}")]
    Engine {
        /// What it said.
        said: String,
    },
    /// What was built does not find enough.
    #[error(
        "{measured:.4} of the nearest are found at effort {effort}, and {lost} of {queries} sampled vectors do not find \
         themselves; at least {floor} and none are asked for"
    )]
    Recall {
        /// Of the ten nearest, at the highest effort tried.
        measured: f64,
        /// What was asked for.
        floor: f64,
        /// The highest effort tried.
        effort: usize,
        /// Sampled vectors that do not find themselves.
        lost: usize,
        /// How many were sampled.
        queries: usize,
    },
    /// What was built cannot be opened.
    #[error("what was built cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// What was built cannot be read.
    #[error("what was built cannot be read: {0}")]
    Read(#[from] ReadError),
    /// It was told to stop.
    #[error("told to stop")]
    Stopped,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// Rows come in the order of their objects, each object once.
    #[error("not after {after:032x}; rows come in the order of objects, each once")]
    Order {
        /// The object before it.
        after: u128,
    },
    /// Another number of components.
    #[error("{found} components of {dim}")]
    Dimension {
        /// How many it has.
        found: usize,
        /// How many rows of this edition have.
        dim: usize,
    },
    /// Neither of unit length nor zero, or not finite.
    #[error("of length {length}; directions are of unit length, or zero")]
    Length {
        /// Its length.
        length: f32,
    },
    /// Too much metadata.
    #[error("{found} bytes of metadata; {max} are possible")]
    Metadata {
        /// How many it has.
        found: usize,
        /// [`METADATA_BYTES_MAX`](crate::METADATA_BYTES_MAX).
        max: usize,
    },
}

/// Why an edition cannot be opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file could not be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is no manifest: it was never finished, or is being removed.
    #[error("{}: no manifest, so this is no whole edition", path.display())]
    Unfinished {
        /// The edition's directory.
        path: PathBuf,
    },
    /// The manifest is not as it was written.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by another version of the program.
    #[error("{}: format {found}, and {known} is known; the program that built it reads it", path.display())]
    Format {
        /// Where the manifest is.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that is known.
        known: u32,
    },
    /// A file is longer or shorter than it was.
    #[error("{}: {found} bytes, where {expected} were written", path.display())]
    Length {
        /// Which one.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it was.
        expected: u64,
    },
    /// A file's bytes are not those that were written.
    #[error("{}: not as it was written, at byte {at}", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// Where the first such block begins.
        at: u64,
    },
}

/// Why an open edition does not answer. It goes on answering what can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file could not be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file's bytes are not those that were written.
    #[error("{}: not as it was written, at byte {at}", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A direction of another number of components.
    #[error("{found} components of {dim}")]
    Dimension {
        /// How many it has.
        found: usize,
        /// How many this edition's have.
        dim: usize,
    },
    /// A direction with a component that is no finite number.
    #[error("a component that is not finite")]
    NotFinite,
    /// There is no such row.
    #[error("row {number} of {count}")]
    NoRow {
        /// The one that was asked for.
        number: u32,
        /// How many there are.
        count: u32,
    },
}

/// Why a shelf does not do what it was asked. What was current still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// A file or directory could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file that names the current edition does not.
    #[error(
        "{}: names no edition; write `edition-N` into it, with one that is there, or remove it",
        path.display()
    )]
    Current {
        /// Where it is.
        path: PathBuf,
    },
    /// No number is left for another edition, after one that nobody gave.
    #[error("edition {number} is past every number that was given, and so is none after it")]
    Numbers {
        /// The one that it was to come after.
        number: u64,
    },
    /// The edition is not whole.
    #[error("{0}")]
    Open(#[from] OpenError),
}

/// Errors of the system about a file, as every family has them.
pub(crate) trait FileError: Sized {
    fn file(path: &Path, cause: io::Error) -> Self;

    /// Says which file it was.
    fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, Self> {
        result.map_err(|cause| Self::file(path, cause))
    }
}

macro_rules! file_error {
    ($($family:ident),*) => {$(
        impl FileError for $family {
            fn file(path: &Path, cause: io::Error) -> $family {
                $family::File { path: path.into(), cause }
            }
        }
    )*};
}
file_error!(BuildError, OpenError, ReadError, ShelfError);
