//! The handle: opens a store, begins units, decides them, and answers what is not about objects.
//!
//! Reads here see the newest decided state, each call its own.

mod generation;
mod listing;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

use crate::backend::{Backend, FileBackend, MemoryBackend, Overlay};
use crate::blob::Blobs;
use crate::commit::{self, Commit, Decided, Vote};
use crate::curator::{self, Curator};
use crate::damage;
use crate::database::{Database, Opening, Refused};
use crate::directory;
use crate::draft;
use crate::error::{BlobError, CommitError, Failure, OpenError, ReadError};
use crate::generation::drop_leftovers;
use crate::history::{Past, Retention};
use crate::id::{Digest, ObjectId, Position};
use crate::layout::{LayoutMode, OnOlder};
use crate::limit;
use crate::lock::{self, DirectoryLock};
use crate::mark::Mark;
use crate::object::Object;
use crate::pages::{self, StartLook};
use crate::presence;
use crate::progress::Progress;
use crate::segments::SegmentFiles;
use crate::shared::{Loaded, Shared};
use crate::shelves::Shelves;
use crate::standing::{Stand, Standing};
use crate::store_id::{self, StoreId};
use crate::switch;
use crate::tables::{LAYOUT, META};
use crate::unit::Unit;
use crate::vectors::{VectorEngine, VectorSet};
use crate::verify::{self, Report};

pub(crate) use listing::list_releases;
pub use listing::{Counts, OwnerBounds, Usage};

/// The database's file in a store's directory.
pub(crate) const DATABASE_FILE: &str = "objects.redb";
/// The blobs' directory in a store's directory.
pub(crate) const BLOBS_DIR: &str = "blobs";

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
    /// How often a store that found its device full looks whether there is room. Default 1 s.
    pub room_poll: Duration,
    /// How much of the past is kept. Default 30 days, and at most a million superseded states.
    pub retention: Retention,
    /// Bytes that the database file may take. Past it a unit that adds rows is refused as
    /// [`CommitError::DatabaseFull`]; reads, removals and forgetting go on. Default 16 GiB: far above what one person's
    /// objects take, below a small disk.
    ///
    /// The file passes it by what the last units need that voted while it was below: one, or all that wait for the
    /// committer then, 1,024 of 8 MiB at most. To take them it grows in steps: to twice its length or by twice what is
    /// needed, and from 4 GiB on to the next multiple of 4 GiB, or the one after; the disk gives a step as it is written
    /// to. Measured with a quota of 16 MiB: 17 MiB with units of 4 KiB one by one, 132 MiB with 32 clients whose units
    /// are of 7 MiB. Units are not held against what others will need, since that may fit into free pages.
    pub database_bytes_max: u64,
    /// Bytes that one component may store: the rows of its objects' states, past ones included, 128 for each beside
    /// them, and names below its id. Past it a unit that adds some is refused as [`CommitError::StorageFull`]; pruning
    /// and forgetting give room back. What a change of seats writes is counted and never refused. Default 4 GiB, a
    /// quarter of what the file may take: no component fills it alone.
    pub stored_bytes_per_owner_max: u64,
    /// Bytes that all blobs may take, those that nothing names included. Past it [`Store::put_blob`] answers
    /// [`BlobError::Quota`]. Default 4 GiB: some thousand releases of common size.
    pub blob_bytes_max: u64,
    /// Bytes that all vectors of one owner may take: components, metadata, and 300 for each vector, which is what memory
    /// keeps beside them. Past it a unit that adds some is refused as [`CommitError::VectorsFull`]. Default 256 MiB:
    /// they are kept in memory.
    pub vector_bytes_per_owner_max: u64,
    /// Bytes that the vectors of all owners may take, counted likewise. Default 1 GiB.
    pub vector_bytes_max: u64,
    /// Vectors of a collection that are searched one by one before they get a graph. Default 4,096.
    pub vector_tail_rows_max: usize,
    /// What builds those graphs; each start may choose anew, and graphs of another engine are then built anew. Default
    /// DiskANN: see its figures in ARCHITECTURE.md.
    pub vector_engine: VectorEngine,
    /// Whether [`Store::open`] has every page looked at, once and in the background, when the file was not closed in good
    /// order: by its end [`Standing::pages`] says what was found, and [`Standing::damage`] what is damaged. Costs one
    /// reading of the file. Default true.
    pub is_checked_after_crash: bool,
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
            room_poll: limit::ROOM_POLL,
            retention: Retention::default(),
            database_bytes_max: limit::DATABASE_BYTES_MAX,
            stored_bytes_per_owner_max: limit::STORED_BYTES_PER_OWNER_MAX,
            blob_bytes_max: limit::BLOBS_BYTES_MAX,
            vector_bytes_per_owner_max: limit::VECTOR_BYTES_PER_OWNER_MAX,
            vector_bytes_max: limit::VECTOR_BYTES_MAX,
            vector_tail_rows_max: limit::TAIL_ROWS_MAX,
            vector_engine: VectorEngine::default(),
            is_checked_after_crash: true,
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
            .field("room_poll", &self.room_poll)
            .field("retention", &self.retention)
            .field("database_bytes_max", &self.database_bytes_max)
            .field("stored_bytes_per_owner_max", &self.stored_bytes_per_owner_max)
            .field("blob_bytes_max", &self.blob_bytes_max)
            .field("vector_bytes_per_owner_max", &self.vector_bytes_per_owner_max)
            .field("vector_bytes_max", &self.vector_bytes_max)
            .field("vector_tail_rows_max", &self.vector_tail_rows_max)
            .field("vector_engine", &self.vector_engine)
            .field("is_checked_after_crash", &self.is_checked_after_crash)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory, making both when they are absent. From then on nobody but its owner may enter the
    /// directory, where that is this process's to decide.
    ///
    /// # Errors
    /// [`OpenError::InUse`] by another process, [`OpenError::NewerLayout`], [`OpenError::OlderLayout`] when the
    /// options say that it is not to be raised, [`OpenError::Gone`] when the directory has held a store whose database
    /// is not there any more, [`OpenError::File`], [`OpenError::Failed`]. A database that is refused keeps every byte.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        let lock = take(dir)?;
        let (must_be_there, mark) = (presence::check(dir)?, Mark::of(dir)?);
        // A look would find no more than that.
        let keeps_found = options.is_checked_after_crash && mark.check().is_ok();
        let opening = Opening { must_be_there, keeps_found, ..options.opening() };
        let backend = Box::new(FileBackend::new(dir.join(DATABASE_FILE)));
        let store = Store::open_locked(dir, backend, (lock, mark), opening, options)?;
        if let Some(found) = store.shared().database.take_found() {
            pages::begin(store.shared(), found);
        }
        let id = store.id().map_err(|cause| failed(dir, cause))?;
        if let Err(cause) = presence::note(dir, id) {
            // The next opening notes it; until then blobs tell.
            tracing::warn!(%cause, "that there is a store was not noted");
        }
        if let Err(cause) = directory::make_it_private(dir) {
            tracing::warn!(%cause, "others may enter the store's directory, and this process may not change that");
        }
        Ok(store)
    }

    /// Opens a store whose rows live in `backend` and whose lock and blobs live in `dir`. Where the rows are is the
    /// caller's: a backend that holds nothing gets a new store, and no page is looked at after a crash.
    ///
    /// # Errors
    /// As [`Store::open`], except [`OpenError::Gone`].
    pub fn open_with_backend(
        dir: &Path,
        backend: impl Backend,
        options: StoreOptions,
    ) -> Result<Store, OpenError> {
        let lock = take(dir)?;
        Store::open_locked(dir, Box::new(backend), (lock, Mark::default()), options.opening(), options)
    }

    fn open_locked(
        dir: &Path,
        backend: Box<dyn Backend>,
        (lock, mark): (DirectoryLock, Mark),
        opening: Opening,
        options: StoreOptions,
    ) -> Result<Store, OpenError> {
        let blobs = open_blobs(dir, options.blob_bytes_max)?;
        let database = open_database(dir, backend, opening)?;
        let store = Store::assemble(
            dir,
            database,
            blobs,
            (SegmentFiles::of(dir), Shelves::of(dir)),
            (Some(lock), mark),
            options,
        )?;
        // A database file that was just made is lost with the power unless its directory knows it.
        directory::sync(dir).map_err(|cause| OpenError::File { path: dir.into(), cause })?;
        Ok(store)
    }

    /// A store in memory that nobody else sees and that vanishes when it is dropped: for trials.
    ///
    /// # Errors
    /// [`OpenError::Failed`] when memory or threads are exhausted.
    pub fn scratch(options: StoreOptions) -> Result<Store, OpenError> {
        let dir = Path::new("scratch");
        let database = open_database(dir, Box::new(MemoryBackend::new()), options.opening())?;
        let blobs = Blobs::in_memory(options.blob_bytes_max);
        let (files, unmarked) = ((SegmentFiles::none(), Shelves::none()), (None, Mark::default()));
        Store::assemble(dir, database, blobs, files, unmarked, options)
    }

    /// Checks every invariant of the store in a directory that no process has open; see [`Report`]. An older layout
    /// is checked as it is, and not raised; no byte of the database is changed. Damaged pages are noted beside it, as those
    /// that a look of an open store found; see [`crate::PagesStanding::Damaged`].
    ///
    /// # Errors
    /// As [`Store::open`]. Problems found are in the report, not here.
    pub fn verify(dir: &Path) -> Result<Report, OpenError> {
        Store::verify_with(dir, &mut |_| ())
    }

    /// As [`Store::verify`], telling how far it is.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub fn verify_with(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Report, OpenError> {
        let _lock = DirectoryLock::take(dir)?;
        switch::finish(dir)?;
        let backend = Box::new(Overlay::new(dir.join(DATABASE_FILE)));
        let must_be_there = presence::check(dir)?;
        let opening = StoreOptions::default().opening();
        let opening = Opening { is_checked: true, on_older: OnOlder::Leave, must_be_there, ..opening };
        let mark = Mark::of(dir)?;
        let database = open_database(dir, backend, opening);
        let database = database.inspect_err(|refused| mark.note_refused(refused, system_clock()))?;
        let blobs = open_blobs(dir, u64::MAX)?;
        let verified = verify::verify_offline(&database, &blobs, mark.check(), progress);
        verified.map_err(|cause| failed(dir, cause))
    }

    /// Checks every page and every invariant of this open store as of now, and that the indexes in memory hold what the
    /// rows say. Damage that an earlier look at the pages found is a problem, whatever the pages are now. Cost:
    /// reads everything, pages twice. Commits go on; where so much is written meanwhile that the look at the pages cannot
    /// keep up, they wait for one reading of the file. Not to be called from a reply or from [`crate::OnDecided`].
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read. Problems found are in the report.
    pub fn verify_open(&self) -> Result<Report, Failure> {
        self.verify_open_with(&mut |_| ())
    }

    /// As [`Store::verify_open`], telling how far it is. Waits for a rewrite under way.
    ///
    /// # Errors
    /// As [`Store::verify_open`].
    pub fn verify_open_with(&self, progress: &mut dyn FnMut(Progress)) -> Result<Report, Failure> {
        verify::verify_open(self.shared(), progress)
    }

    /// Looks at every page of this open store's file, as [`Store::verify_open`] does first; what is found is in
    /// [`Store::standing`] too. Waits for a rewrite under way.
    ///
    /// # Errors
    /// [`Failure::Damaged`] when a page is not as it was written; another when it cannot be told.
    pub fn check_pages(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        let shared = self.shared();
        let _whole = shared.whole.read();
        pages::check(shared, progress)
    }

    /// Which store this is: the same for all its copies.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn id(&self) -> Result<StoreId, Failure> {
        self.shared().read(META, store_id::read)
    }

    /// The newest decided position.
    pub fn position(&self) -> Position {
        self.shared().position()
    }

    /// Why the database is closed for writing just now; none while it is open.
    pub fn read_only_cause(&self) -> Option<Arc<str>> {
        self.shared().stand.read_only()
    }

    /// How the store stands with its disk.
    pub fn standing(&self) -> Standing {
        self.shared().stand.now()
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
    /// the committer's, which waits for it. It must not wait for another decision, rewrite or collect. A panic in it
    /// is logged, and nothing else.
    pub fn decide_then(
        &self,
        unit: Unit,
        vote: Vote,
        on_done: impl FnOnce(Result<Commit, CommitError>) + Send + 'static,
    ) {
        commit::decide(self.shared(), unit, vote, Box::new(on_done));
    }

    /// The state of an object as of a position; none when it did not exist then, or was forgotten since.
    ///
    /// # Errors
    /// [`ReadError::SnapshotTooOld`] below the history floor, [`ReadError::Failed`].
    pub fn object_at(&self, id: ObjectId, at: Position) -> Result<Option<Object>, ReadError> {
        let at = at.min(self.position());
        let found = self.shared().read_object(id, at)?;
        self.shared().past.check(at)?;
        Ok(found)
    }

    /// Stores bytes durably under their digest; the same bytes again cost a read. At most 64 MiB. What no commit
    /// names within ten minutes may be collected; a commit that names it later is then refused.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Quota`], [`BlobError::File`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.shared().blobs.put(bytes, self.shared().now_ms())
    }

    /// The bytes with this digest, checked against it; none when they were never stored.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], [`BlobError::File`].
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        self.shared().blobs.get(digest)
    }

    /// Whether there are bytes with this digest; they are not looked at.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.shared().blobs.has(digest)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn assemble(
        dir: &Path,
        database: Database,
        blobs: Blobs,
        (segments, shelves): (SegmentFiles, Shelves),
        (lock, mark): (Option<DirectoryLock>, Mark),
        options: StoreOptions,
    ) -> Result<Store, OpenError> {
        fail::fail_point!("store::open-before-load");
        let loaded = load(&database, &options, &segments, &shelves).map_err(|cause| failed(dir, cause))?;
        fail::fail_point!("store::open-after-load");
        let (place, tail_rows_max) = (dir.into(), options.vector_tail_rows_max);
        let spawned = commit::spawn(move |queue| {
            let shared = Shared {
                database,
                blobs,
                options,
                index: RwLock::new(VectorSet::starting_at(Position::NONE, tail_rows_max)),
                segments,
                shelves,
                curator: Curator::default(),
                start_look: StartLook::default(),
                outbox: Mutex::default(),
                generations: RwLock::default(),
                pins: Arc::default(),
                decided: AtomicU64::new(0),
                votes: RwLock::default(),
                order: RwLock::default(),
                voted: AtomicU64::new(0),
                past: Past::default(),
                redo_rows: AtomicU64::new(0),
                turn: Mutex::new(()),
                whole: RwLock::new(()),
                dir: place,
                stand: Stand::default(),
                mark,
                queue: Mutex::new(Some(queue)),
                is_reopen_asked: AtomicBool::new(false),
                _lock: lock,
            };
            shared.install(loaded);
            shared.heed_mark();
            Arc::new(shared)
        });
        let (shared, committer) = spawned.map_err(|cause| failed(dir, cause.into()))?;
        curator::begin(&shared);
        Ok(Store { handle: Arc::new(Handle { shared, committer: Some(committer) }) })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("position", &self.position()).finish_non_exhaustive()
    }
}

/// Reads what is kept in memory, and only then lets the database be written to.
fn load(
    database: &Database,
    options: &StoreOptions,
    segments: &SegmentFiles,
    shelves: &Shelves,
) -> Result<Loaded, Failure> {
    let loaded = damage::guard(|| Loaded::read(database, options, segments, shelves))?;
    database.accept()?;
    damage::guard(|| drop_leftovers(database, &loaded.generations))?;
    Ok(loaded)
}

/// Ends the committer when the last clone of a store is dropped.
struct Handle {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.start_look.stop();
        self.shared.curator.stop();
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

pub(crate) fn system_clock() -> u64 {
    unix_ms(SystemTime::now())
}

/// Unix milliseconds; 0 before 1970.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl StoreOptions {
    /// Opens as these options say: makes what is not there, trusts the pages of what is.
    pub(crate) fn opening(&self) -> Opening {
        Opening {
            cache_bytes: self.cache_bytes,
            at_ms: (self.clock)(),
            is_checked: false,
            on_older: self.layout.into(),
            must_be_there: false,
            keeps_found: false,
        }
    }
}

/// Opens a database for a directory's store.
pub(crate) fn open_database(
    dir: &Path,
    backend: Box<dyn Backend>,
    opening: Opening,
) -> Result<Database, OpenError> {
    Database::open(backend, opening).map_err(|refused| match refused {
        Refused::InUse => lock::in_use(dir),
        Refused::NewerLayout { found } => OpenError::NewerLayout { dir: dir.into(), found, known: LAYOUT },
        Refused::OlderLayout { found } => OpenError::OlderLayout { dir: dir.into(), found, known: LAYOUT },
        Refused::Gone => presence::gone(dir),
        Refused::Failed(cause) => failed(dir, cause),
    })
}

pub(crate) fn open_blobs(dir: &Path, bytes_max: u64) -> Result<Blobs, OpenError> {
    let dir = dir.join(BLOBS_DIR);
    make_dir(&dir)?;
    Blobs::files(dir.clone(), bytes_max).map_err(|cause| OpenError::File { path: dir, cause })
}

/// Makes a directory and locks it, finishes a restore that was decided there, and throws a left draft away.
fn take(dir: &Path) -> Result<DirectoryLock, OpenError> {
    make_dir(dir)?;
    let lock = DirectoryLock::take(dir)?;
    switch::finish(dir)?;
    draft::discard(dir);
    Ok(lock)
}

fn make_dir(dir: &Path) -> Result<(), OpenError> {
    directory::make_all(dir).map_err(|cause| OpenError::File { path: dir.into(), cause })
}

pub(crate) fn failed(dir: &Path, cause: Failure) -> OpenError {
    OpenError::Failed { dir: dir.into(), cause }
}
