//! The object store: objects, units of work, names, vectors, posts, sessions, audit and system records in one
//! redb file, plus content-addressed blobs beside it. It has never heard of wasm, sockets or models.
//!
//! # Data model
//!
//! An *object* is an identity, an owner, parents and slots; every committed state of it is a row of its own, keyed
//! by (object, *position*), so "as of P" is one range query; superseded states are kept up to an age and a count.
//! A *name* stands for one object. A *vector* belongs to one object in one collection of one component. A *post* is a message to be
//! sent after its commit. A *session* remembers what it decided, so a resent request is answered, not repeated.
//! Audit rows and system records (releases, seats, grants) commit with the decision that made them.
//!
//! # How a change happens
//!
//! ```text
//! Store::begin -> Unit      reads and writes over one snapshot, in memory
//! Store::decide(unit, vote) the unit is voted on; a group of them is decided by one redb commit
//! Decided::wait -> Commit   durable, visible, and its vectors searchable
//! ```
//!
//! # Invariants
//!
//! - Acknowledged means durable and whole; unacknowledged means whole or absent, never part.
//! - Positions, revisions and audit numbers have no gaps.
//! - redb is the only decision point: indexes and mirrors in memory are rebuilt from it.
//! - Every object, name and vector a unit read, absent ones included, is still so when it is decided.
//! - Every position at or above the history floor reads as it was; below it, reads are refused.
//! - Every size has a bound, all of them in [`limit`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use telos_store::{ComponentId, Json, Slot, Store, StoreOptions, Vote};
//!
//! let store = Store::scratch(StoreOptions::default())?;
//! let mut unit = store.begin();
//! let counter = unit.create(ComponentId::operator(), 1, vec![])?;
//! unit.set_slot(counter, "count", Slot::Value(Json::parse("1")?))?;
//! store.decide(unit, Vote::default()).wait()?;
//!
//! let found = store.begin().lookup(counter, "count")?.ok_or("absent")?;
//! assert_eq!(found.slot, Slot::Value(Json::parse("1")?));
//! # Ok(())
//! # }
//! ```

mod archive;
mod audit;
mod backend;
mod backup;
mod blob;
mod bug;
mod commit;
mod copy;
mod curator;
mod damage;
mod database;
mod directory;
mod draft;
mod error;
mod generation;
mod held;
mod history;
mod id;
mod image;
mod json;
mod kept;
mod layout;
pub mod limit;
mod lock;
mod mark;
mod object;
mod order;
mod outbox;
mod overlay;
mod pages;
mod pin;
mod presence;
mod progress;
mod reading;
mod record;
mod references;
mod requirements;
mod restore;
mod rewrite;
mod scan;
mod segments;
mod session;
mod shared;
mod shelves;
mod standing;
mod store;
mod store_id;
mod stored;
mod switch;
mod tables;
mod unit;
mod vectors;
mod verify;

pub use archive::{
    ArchiveError, ArchiveReport, ArchiveWork, BuiltAbout, BuiltEdition, EditionCheck, GivenUpEdition,
};
pub use audit::AuditRow;
pub use backend::{Backend, FileBackend, MemoryBackend};
pub use backup::{BackupError, BackupOptions, BackupReport};
pub use blob::Collected;
pub use commit::{Commit, Decided, OnDecided, Vote};
pub use draft::{Changed, Draft, DraftError, DraftFact, DraftOptions, DraftRaise, DraftReport};
pub use error::{
    BlobError, CommitError, Contested, Effect, Failure, Fault, ForgetError, NameError, OpenError, Overflow,
    ReadError, VectorError, WriteError, told,
};
pub use generation::{GenerationRecord, Toward};
pub use history::{Children, Forgotten, HistoryView, Pruned, Retention, Trace};
pub use id::{ComponentId, Digest, ObjectId, ObjectName, Position, PostId, Revision};
pub use json::{Json, JsonError};
pub use kept::{KeptCopy, KeptFor};
pub use layout::LayoutMode;
pub use object::{Found, MethodSlot, Object, Slot};
pub use outbox::{DeadLetter, OutboxRow, Post};
pub use progress::{Phase, Progress};
pub use record::{GrantRecord, ReleaseRecord, ReleaseState, SeatRecord, Verdict};
pub use redb::StorageBackend;
pub use requirements::MethodOf;
pub use restore::{RestoreError, RestoreOptions, RestoreReport};
pub use rewrite::{RewriteError, RewriteReport};
pub use session::{Dedupe, DedupeKey, SessionId};
pub use standing::{PagesStanding, Standing};
pub use store::{Counts, OwnerBounds, Store, StoreOptions, Usage};
pub use store_id::StoreId;
pub use telos_archive::{Budget as ArchiveBudget, Progress as ArchiveProgress, Stage as ArchiveStage};
pub use unit::{Savepoint, Unit, WriteCounts};
pub use vectors::{CollectionForm, CollectionShape, IndexShape, Metric, Neighbor, Precision, VectorEngine};
pub use verify::Report;
