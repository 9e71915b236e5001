//! The handle: opens a store, begins units, decides them, and answers what is not about objects.
//!
//! Reads here see the newest decided state, each call its own.

mod generation;
mod listing;

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

use crate::backend::{Backend, FileBackend, MemoryBackend};
use crate::blob::Blobs;
use crate::commit::{self, Commit, Decided, Vote};
use crate::database::{Database, Refused};
use crate::directory;
use crate::error::{BlobError, CommitError, Failure, OpenError};
use crate::generation::drop_leftovers;
use crate::id::{Digest, ObjectId, Position};
use crate::layout::{LayoutMode, OnOlder};
use crate::lock::{self, DirectoryLock};
use crate::object::Object;
use crate::shared::{Loaded, Shared};
use crate::tables::LAYOUT;
use crate::unit::Unit;
use crate::verify::{self, Report};

pub use listing::Counts;

/// A store that is open. Clones are the same store; when the last one and the last unit are dropped it is closed,
/// after everything in its queue was decided.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// redb's page cache in bytes. Default 32 MiB: hot objects fit, and the host shares its machine with models.
    pub cache_bytes: usize,
    /// What becomes of a database with an older layout. Default: it is raised.
    pub layout: LayoutMode,
    /// Wait after the first failed attempt to reopen after an I/O error; doubles each time. Default 10 ms.
    pub reopen_first: Duration,
    /// The longest such wait. Default 5 s.
    pub reopen_longest: Duration,
    /// The wall clock, Unix milliseconds: dates commits and ages sessions. Default the system's.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 32 * 1024 * 1024,
            layout: LayoutMode::default(),
            reopen_first: Duration::from_millis(10),
            reopen_longest: Duration::from_secs(5),
            clock: Arc::new(system_clock),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("cache_bytes", &self.cache_bytes)
            .field("layout", &self.layout)
            .field("reopen_first", &self.reopen_first)
            .field("reopen_longest", &self.reopen_longest)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory, making both when they are absent.
    ///
    /// # Errors
    /// [`OpenError::InUse`] by another process, [`OpenError::NewerLayout`], [`OpenError::OlderLayout`] when the
    /// options say that it is not to be raised, [`OpenError::File`], [`OpenError::Failed`].
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        make_dir(dir)?;
        Store::open_with_backend(dir, FileBackend::new(dir.join("objects.redb")), options)
    }

    /// Opens a store whose rows live in `backend` and whose lock and blobs live in `dir`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_backend(
        dir: &Path,
        backend: impl Backend,
        options: StoreOptions,
    ) -> Result<Store, OpenError> {
        let blobs_dir = dir.join("blobs");
        make_dir(&blobs_dir)?;
        let lock = DirectoryLock::take(dir)?;
        let blobs = Blobs::Files { dir: blobs_dir };
        let store = Store::assemble(dir, Box::new(backend), blobs, Some(lock), options)?;
        // A database file that was just made is lost with the power unless its directory knows it.
        directory::sync(dir).map_err(|cause| OpenError::File { path: dir.into(), cause })?;
        Ok(store)
    }

    /// A store in memory that nobody else sees and that vanishes when it is dropped: for trials.
    ///
    /// # Errors
    /// [`OpenError::Failed`] when memory or threads are exhausted.
    pub fn scratch(options: StoreOptions) -> Result<Store, OpenError> {
        let backend = Box::new(MemoryBackend::new());
        Store::assemble(Path::new("scratch"), backend, Blobs::in_memory(), None, options)
    }

    /// Checks every invariant of the store in a directory that no process has open; see [`Report`]. An older layout
    /// is checked as it is, and not raised.
    ///
    /// # Errors
    /// As [`Store::open`]. Problems found are in the report, not here.
    pub fn verify(dir: &Path) -> Result<Report, OpenError> {
        let _lock = DirectoryLock::take(dir)?;
        let backend = Box::new(FileBackend::new(dir.join("objects.redb")));
        let database = open_database(dir, backend, &StoreOptions::default(), OnOlder::Leave)?;
        let blobs = Blobs::Files { dir: dir.join("blobs") };
        verify::verify_offline(&database, &blobs).map_err(|cause| failed(dir, cause))
    }

    /// Checks every invariant of this open store as of now, except redb's own pages, and that the
    /// indexes in memory hold what the rows say. Cost: reads everything.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read. Problems found are in the report.
    pub fn verify_open(&self) -> Result<Report, Failure> {
        verify::verify_open(self.shared())
    }

    /// The newest decided position.
    pub fn position(&self) -> Position {
        self.shared().position()
    }

    /// Why the store refuses to write just now; none while it does not.
    pub fn read_only_cause(&self) -> Option<Arc<str>> {
        self.shared().read_only.read().clone()
    }

    /// Begins a unit of work over the newest decided state. Costs nothing; many may be open.
    pub fn begin(&self) -> Unit {
        let shared = Arc::clone(self.shared());
        let pin = shared.pins.pin(&shared.decided);
        Unit::new(shared, pin, None)
    }

    /// Begins a unit over everything that was voted for, whether it is durable yet or not: for units that write, so
    /// that those which follow each other on one object share a commit. Its decision, also of a unit that only read,
    /// waits until what it read is durable, and is [`CommitError::Aborted`] when that fails.
    pub fn begin_on_voted(&self) -> Unit {
        let shared = Arc::clone(self.shared());
        let order = shared.order.read();
        let (pin, era) = (shared.pins.pin(&shared.voted), order.era());
        drop(order);
        Unit::new(shared, pin, Some(era))
    }

    /// Sends a unit to its decision. A unit that wrote nothing and answers no request is decided at once.
    pub fn decide(&self, unit: Unit, vote: Vote) -> Decided {
        let (decided, reply) = commit::pair();
        commit::decide(self.shared(), unit, vote, reply);
        decided
    }

    /// As [`Store::decide`], for hosts that do not block: `on_done` is called exactly once, on this thread or on
    /// the committer's, which waits for it. It must not wait for another decision.
    pub fn decide_then(
        &self,
        unit: Unit,
        vote: Vote,
        on_done: impl FnOnce(Result<Commit, CommitError>) + Send + 'static,
    ) {
        commit::decide(self.shared(), unit, vote, Box::new(on_done));
    }

    /// The state of an object as of a position; none when it did not exist then.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn object_at(&self, id: ObjectId, at: Position) -> Result<Option<Object>, Failure> {
        let at = at.min(self.position());
        self.shared().read_object(id, at)
    }

    /// Stores bytes durably under their digest; the same bytes again cost a read. At most 64 MiB.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::File`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.shared().blobs.put(bytes)
    }

    /// The bytes with this digest, checked against it; none when they were never stored.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], [`BlobError::File`].
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        self.shared().blobs.get(digest)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn assemble(
        dir: &Path,
        backend: Box<dyn Backend>,
        blobs: Blobs,
        lock: Option<DirectoryLock>,
        options: StoreOptions,
    ) -> Result<Store, OpenError> {
        let database = open_database(dir, backend, &options, options.layout.into())?;
        let loaded = Loaded::read(&database).map_err(|cause| failed(dir, cause))?;
        drop_leftovers(&database, &loaded.generations).map_err(|cause| failed(dir, cause))?;
        let spawned = commit::spawn(move |queue| {
            let shared = Shared {
                database,
                blobs,
                options,
                index: RwLock::default(),
                outbox: Mutex::default(),
                generations: RwLock::default(),
                pins: Arc::default(),
                decided: AtomicU64::new(0),
                order: RwLock::default(),
                voted: AtomicU64::new(0),
                redo_rows: AtomicU64::new(0),
                read_only: RwLock::new(None),
                queue: Mutex::new(Some(queue)),
                is_reopen_asked: AtomicBool::new(false),
                _lock: lock,
            };
            shared.install(loaded);
            Arc::new(shared)
        });
        let (shared, committer) = spawned.map_err(|cause| failed(dir, cause.into()))?;
        Ok(Store { handle: Arc::new(Handle { shared, committer: Some(committer) }) })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("position", &self.position()).finish_non_exhaustive()
    }
}

/// Ends the committer when the last clone of a store is dropped.
struct Handle {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without its sender the committer decides what is queued, and ends.
        *self.shared.queue.lock() = None;
        let Some(committer) = self.committer.take() else {
            return;
        };
        // A reply may own the last clone; the committer cannot wait for itself.
        if committer.thread().id() != std::thread::current().id() {
            let _ = committer.join();
        }
    }
}

impl Shared {
    /// Unix milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        (self.options.clock)()
    }
}

fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn open_database(
    dir: &Path,
    backend: Box<dyn Backend>,
    options: &StoreOptions,
    on_older: OnOlder,
) -> Result<Database, OpenError> {
    let opened = Database::open(backend, options.cache_bytes, (options.clock)(), on_older);
    opened.map_err(|refused| match refused {
        Refused::InUse => lock::in_use(dir),
        Refused::NewerLayout { found } => OpenError::NewerLayout { dir: dir.into(), found, known: LAYOUT },
        Refused::OlderLayout { found } => OpenError::OlderLayout { dir: dir.into(), found, known: LAYOUT },
        Refused::Failed(cause) => failed(dir, cause),
    })
}

fn make_dir(dir: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|cause| OpenError::File { path: dir.into(), cause })
}

fn failed(dir: &Path, cause: Failure) -> OpenError {
    OpenError::Failed { dir: dir.into(), cause }
}
