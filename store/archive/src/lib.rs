//! Editions: vectors on disk, searched without having them in memory.
//!
//! An edition is built once from rows, validated, and never changed; another takes its place. What it answers is only
//! which rows lie near: whether they are visible, and to whom, is the caller's.
//!
//! ```text
//! a shelf
//!   CURRENT             names the edition that serves
//!   edition-7/
//!     rows, metadata    whose each row is, in the order of objects
//!     graph             distinct directions with their links, a few in each sector; `vectors` where they are few
//!     codebook, codes   what a walk compares; in memory while it is open
//!     twins             which rows share a direction; absent when none do
//!     MANIFEST          what all of this is, and what it is checked against; written last
//!
//! build      files, each synced; validated; then the manifest    crash after: an orphan, until the manifest is renamed
//! publish    CURRENT renamed                                     crash after: the old edition, or the new one
//! collect    the manifest first, then the rest                   crash after: an orphan
//! ```
//! Never here: what rows mean, which are visible, positions, locks of a store.

mod build;
mod codes;
mod directions;
mod directory;
mod disk_graph;
mod edition;
mod error;
mod manifest;
mod nearest;
mod rows;
mod sealed;
mod shelf;
mod twins;
mod validate;
mod walk;

pub use build::{About, Budget, Progress, Row, Stage, build};
pub use edition::{Edition, open};
pub use error::{BuildError, OpenError, ReadError, RowProblem, ShelfError};
pub use manifest::{Engine, FORMAT, Manifest, Recall};
pub use rows::Entry;
pub use sealed::Seal;
pub use shelf::{Place, Shelf};

/// Most components of a direction.
pub const DIM_MAX: usize = 1 << 16;
/// Most rows of an edition.
pub const ROWS_MAX: u32 = u32::MAX - 1;
/// Most bytes of metadata of one row.
pub const METADATA_BYTES_MAX: usize = 16 << 20;
/// The highest effort of a search: beyond it, an exact scan costs less.
pub const EFFORT_MAX: usize = 4096;

/// How much of an edition is verified when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The manifest, the length of each file, and what is held in memory.
    Quick,
    /// Every byte.
    Full,
}
