//! The open redb database, and opening it again after it failed.
//!
//! redb refuses further work on a handle after an I/O error, so a failed handle is closed and a new one opened
//! from the same place. Opening writes; where the disk refuses that, a handle over the same bytes that keeps its
//! writes in memory lets reads go on. What opening writes is held back until the rows are known to be of use. Reads are
//! short: a transaction lives for one lookup, so no reader pins old pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::{Durability, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use crate::backend::{Backend, Boxed};
use crate::copy;
use crate::damage;
use crate::error::Failure;
use crate::held::Held;
use crate::image::{Image, Imaged, Lens};
use crate::layout::{self, OnOlder};
use crate::overlay::Overlay;
use crate::rewrite::RewriteError;
use crate::store_id;
use crate::tables::{self, LAYOUT, META_LAYOUT, Tables};

/// How long the switch to a rewritten file waits for short reads to end.
const STEADY_WAIT: Duration = Duration::from_secs(5);
/// A database that was only begun is smaller; redb's are 72 KiB.
const BEGUN_BYTES_MAX: u64 = 1024 * 1024;
/// redb's magic number, at the beginning.
const MAGIC_BYTES: usize = 9;
/// More than redb's header, less than its first page.
const HEADER_BYTES: usize = 512;
/// Where redb's header has the flag of a file that was not closed in good order, and which bit that is.
const FLAGS_AT: u64 = 9;
const IS_UNCLEAN: u8 = 2;

pub(crate) struct Database {
    backend: Box<dyn Backend>,
    opening: Opening,
    handle: RwLock<Handle>,
    /// What opening the handle wrote, until it is accepted.
    held: Mutex<Option<Held>>,
    /// Held shared by every short read, so that the handle is not replaced below one.
    steady: RwLock<()>,
    /// Bytes of the place that is open.
    bytes: Arc<AtomicU64>,
    /// Takes images of the place that is open.
    lens: Mutex<Lens>,
    /// What was found, see [`Opening::keeps_found`].
    found: Mutex<Option<Image>>,
}

/// A handle, what opening it wrote and its place.
struct Opened {
    handle: redb::Database,
    held: Held,
    lens: Lens,
    found: Option<Image>,
}

enum Handle {
    Closed,
    /// Over bytes that keep their writes in memory, until the disk takes writes again.
    ReadOnly(redb::Database),
    Writable(redb::Database),
}

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// redb's page cache in bytes.
    pub(crate) cache_bytes: usize,
    /// Unix milliseconds, for the audit row of a raised layout.
    pub(crate) at_ms: u64,
    /// Whether every page is checked first: without it redb trusts what a file holds, however it was closed, and may
    /// panic over one that was damaged since. Reads the whole file.
    pub(crate) is_checked: bool,
    pub(crate) on_older: OnOlder,
    /// Whether one that holds nothing is refused, instead of being made.
    pub(crate) must_be_there: bool,
    /// Whether an image is kept of what opening found, before anything is written, when it had not been closed in good
    /// order. It takes memory until somebody takes it.
    pub(crate) keeps_found: bool,
}

/// Why a database did not open.
pub(crate) enum Refused {
    InUse,
    NewerLayout { found: u64 },
    OlderLayout { found: u64 },
    Gone,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Refused {
    fn from(cause: E) -> Refused {
        Refused::Failed(cause.into())
    }
}

impl Database {
    /// Opens the database, making it when there is none. What that writes is held back until it is [accepted], except
    /// for new tables and for a raised layout: a database that is refused keeps every byte.
    ///
    /// [accepted]: Database::accept
    pub(crate) fn open(backend: Box<dyn Backend>, opening: Opening) -> Result<Database, Refused> {
        let bytes = Arc::default();
        let Opened { handle, held, lens, found } = open_handle(backend.as_ref(), opening, &bytes)?;
        let (handle, held) = (RwLock::new(Handle::Writable(handle)), Mutex::new(Some(held)));
        let (steady, lens, found) = (RwLock::default(), Mutex::new(lens), Mutex::new(found));
        Ok(Database { backend, opening, handle, held, steady, bytes, lens, found })
    }

    /// What opening found, once; none when it had been closed in good order, or was not to be kept.
    pub(crate) fn take_found(&self) -> Option<Image> {
        self.found.lock().take()
    }

    /// Lets what opening wrote reach the disk: the rows are of use. After an error reads go on, and this may be tried
    /// again.
    pub(crate) fn accept(&self) -> Result<(), Failure> {
        let mut held = self.held.lock();
        if let Some(writes) = held.as_ref() {
            writes.let_go()?;
        }
        *held = None;
        Ok(())
    }

    /// What was opened is of no use: it is closed, so that nobody writes what would never arrive, and opened anew the
    /// next time. Reads go on if they can.
    pub(crate) fn refuse(&self) {
        let mut handle = self.handle.write();
        handle.give_up();
        *self.held.lock() = None;
        *handle = self.opened_for_reading();
    }

    /// Bytes of the file, free pages included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// While this is held the handle is not replaced by a rewritten one. For short reads: the switch waits for it.
    pub(crate) fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.steady.read()
    }

    /// A transaction for one short read.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Failure> {
        match &*self.handle.read() {
            Handle::Closed => Err(Failure::Reopening),
            Handle::ReadOnly(handle) | Handle::Writable(handle) => Ok(handle.begin_read()?),
        }
    }

    /// A transaction that is durable when its commit returns: two phases, since guests choose what is written,
    /// and quick repair, so that opening after a crash does not walk the file.
    pub(crate) fn write(&self) -> Result<WriteTransaction, Failure> {
        self.accept()?;
        match &*self.handle.read() {
            Handle::Writable(handle) => begin_durable(handle),
            Handle::Closed | Handle::ReadOnly(_) => Err(Failure::Reopening),
        }
    }

    /// Closes the handle and opens a new one, which is then to be accepted; one that waits for that stays. Where opening
    /// fails, reads go on from what the place holds, if it can be read at all. `is_checked`: every page first.
    pub(crate) fn reopen(&self, is_checked: bool) -> Result<(), Failure> {
        if self.held.lock().is_some() {
            return Ok(());
        }
        let mut handle = self.handle.write();
        if let Handle::Writable(_) = *handle {
            // Closed first: it holds the file's lock.
            handle.give_up();
        }
        match self.open_again(is_checked) {
            Ok(opened) => {
                handle.give_up();
                *handle = Handle::Writable(opened);
            }
            Err(cause) => {
                if let Handle::Closed = *handle {
                    *handle = self.opened_for_reading();
                }
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Fills a new file with `copy` and lets it take the old one's place. Nobody writes meanwhile: that is the
    /// caller's promise. On an error the old file is open again, or the handle is closed and says so.
    pub(crate) fn rewrite<T>(
        &self,
        copy: impl FnOnce(&ReadTransaction, &redb::Database) -> Result<T, Failure>,
    ) -> Result<T, RewriteError> {
        let answer = self.fill_replacement(copy).and_then(|answer| {
            fail::fail_point!("store::rewrite-copied");
            self.switch()?;
            Ok(answer)
        });
        if answer.is_err() {
            self.backend.discard_replacement();
        }
        answer
    }

    fn fill_replacement<T>(
        &self,
        copy: impl FnOnce(&ReadTransaction, &redb::Database) -> Result<T, Failure>,
    ) -> Result<T, RewriteError> {
        let fill = || {
            let place = self.backend.open_replacement()?;
            let target = create_on(place, self.opening.cache_bytes)?;
            let answer = copy(&self.read()?, &target)?;
            target.close()?;
            Ok(answer)
        };
        damage::guard(fill).map_err(RewriteError::Failed)
    }

    fn switch(&self) -> Result<(), RewriteError> {
        let waited_ms = STEADY_WAIT.as_secs() * 1_000;
        let _steady = self.steady.try_write_for(STEADY_WAIT).ok_or(RewriteError::Busy { waited_ms })?;
        let mut handle = self.handle.write();
        // Closed before the rename: some systems do not rename over an open file.
        handle.give_up();
        let replaced = self.backend.replace();
        *handle = Handle::Writable(self.open_again(false).map_err(RewriteError::Failed)?);
        self.accept().map_err(RewriteError::Failed)?;
        replaced.map_err(|cause| RewriteError::Failed(cause.into()))
    }

    fn open_again(&self, is_checked: bool) -> Result<redb::Database, Failure> {
        let is_checked = is_checked || self.opening.is_checked;
        let opening = Opening { is_checked, must_be_there: true, keeps_found: false, ..self.opening };
        match open_handle(self.backend.as_ref(), opening, &self.bytes) {
            Ok(Opened { handle, held, lens, .. }) => {
                *self.held.lock() = Some(held);
                *self.lens.lock() = lens;
                Ok(handle)
            }
            Err(Refused::Failed(cause)) => Err(cause),
            Err(Refused::Gone) => Err(Failure::Damaged { why: "it holds nothing any more".into() }),
            Err(Refused::InUse | Refused::NewerLayout { .. } | Refused::OlderLayout { .. }) => {
                Err(Failure::Reopening)
            }
        }
    }

    /// Whether so many more bytes fit where the database is; the error says what the place answered.
    pub(crate) fn try_room(&self, bytes: u64) -> std::io::Result<()> {
        self.backend.try_room(bytes)
    }

    fn opened_for_reading(&self) -> Handle {
        damage::guard(|| self.open_read_only()).map_or(Handle::Closed, Handle::ReadOnly)
    }

    fn open_read_only(&self) -> Result<redb::Database, Failure> {
        let below = Imaged::over(self.backend.open()?);
        let lens = below.lens();
        let place = Overlay::over(Arc::new(below) as Arc<dyn StorageBackend>)?;
        let opened =
            redb::Builder::new().set_cache_size(self.opening.cache_bytes).create_with_backend(place)?;
        *self.lens.lock() = lens;
        Ok(opened)
    }

    /// Closes the file as a crash would leave it: for one that is known to be damaged, since closing it in good order
    /// works on pages.
    pub(crate) fn give_up(&mut self) {
        self.handle.get_mut().give_up();
    }

    /// The bytes of the file as they are now, whatever is written afterwards. Memory: what is overwritten while it lives,
    /// 64 MiB at most. A page that somebody reads from redb's cache may be another than the one in the file.
    ///
    /// # Errors
    /// [`Failure::Reopening`] while the file is closed, and what the disk answers.
    pub(crate) fn image(&self, is_stopping: &Arc<AtomicBool>) -> Result<Image, Failure> {
        self.lens.lock().image(is_stopping).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotConnected => Failure::Reopening,
            _ => cause.into(),
        })
    }

    /// redb's own check of every page, on a handle that nobody else uses.
    pub(crate) fn check_integrity(&self) -> Result<bool, Failure> {
        match &mut *self.handle.write() {
            Handle::Writable(handle) => damage::guard(|| Ok(handle.check_integrity()?)),
            Handle::Closed | Handle::ReadOnly(_) => Err(Failure::Reopening),
        }
    }
}

impl Drop for Database {
    /// In good order where that writes to the file.
    fn drop(&mut self) {
        let is_accepted = self.held.get_mut().is_none();
        let closed = match std::mem::replace(self.handle.get_mut(), Handle::Closed) {
            Handle::Writable(handle) if is_accepted => damage::guard(|| Ok(handle.close()?)),
            left => {
                damage::give_up(left);
                Ok::<(), Failure>(())
            }
        };
        if let Err(failure) = closed {
            tracing::warn!(%failure, "the database was not closed in good order, so it is opened as after a crash");
        }
    }
}

impl Handle {
    /// Closes it without writing. Whatever is opened afterwards begins as after a crash.
    fn give_up(&mut self) {
        damage::give_up(std::mem::replace(self, Handle::Closed));
    }
}

/// A transaction of any database that is durable when its commit returns; see [`Database::write`].
pub(crate) fn begin_durable(database: &redb::Database) -> Result<WriteTransaction, Failure> {
    let mut txn = database.begin_write()?;
    make_durable(&mut txn)?;
    Ok(txn)
}

/// A new database in an empty place, for a copy.
pub(crate) fn create_on(
    place: Box<dyn redb::StorageBackend>,
    cache_bytes: usize,
) -> Result<redb::Database, Failure> {
    let place = Boxed { place, bytes: Arc::default() };
    Ok(redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(place)?)
}

fn open_handle(backend: &dyn Backend, opening: Opening, bytes: &Arc<AtomicU64>) -> Result<Opened, Refused> {
    let place = Imaged::over(backend.open().map_err(redb::StorageError::Io)?);
    let lens = place.lens();
    let place = Held::over(Box::new(place))?;
    damage::guard(|| {
        let is_kept = opening.keeps_found && is_unclean(&place)?;
        let found = is_kept.then(|| lens.image(&Arc::default())).transpose()?;
        let (handle, held) = open_on(place, opening, bytes)?;
        Ok(Opened { handle, held, lens, found })
    })
}

/// Whether redb's header says that the file was not closed in good order; false for one that is only begun.
fn is_unclean(place: &dyn StorageBackend) -> std::io::Result<bool> {
    let mut flags = [0];
    if place.len()? > FLAGS_AT {
        place.read(FLAGS_AT, &mut flags)?;
    }
    Ok(flags[0] & IS_UNCLEAN != 0)
}

fn open_on(
    held: Held,
    Opening { cache_bytes, at_ms, is_checked, on_older, must_be_there, .. }: Opening,
    bytes: &Arc<AtomicU64>,
) -> Result<(redb::Database, Held), Refused> {
    empty_unfinished(&held)?;
    let place = Boxed { place: Box::new(held.clone()), bytes: Arc::clone(bytes) };
    let mut builder = redb::Builder::new();
    let builder = builder.set_cache_size(cache_bytes).set_check_integrity_on_open(is_checked);
    let opened = builder.create_with_backend(place);
    let handle = match opened {
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(Refused::InUse),
        opened => opened?,
    };
    match tables::read_layout(&handle)? {
        None if must_be_there => return Err(Refused::Gone),
        None => {
            held.let_go()?;
            make_tables(&handle)?;
        }
        Some(found) if found > LAYOUT => return Err(newer_layout(handle, found)),
        Some(found) if found < LAYOUT => match on_older {
            OnOlder::Raise => {
                held.let_go()?;
                raise_layout(&handle, found, at_ms)?;
            }
            OnOlder::Refuse => return Err(Refused::OlderLayout { found }),
            OnOlder::Leave => {}
        },
        Some(_) => copy::check_all_there(&handle.begin_read()?)?,
    }
    Ok((handle, held))
}

/// A number that is too high, or damage that looks like one: every page is looked at first.
fn newer_layout(mut handle: redb::Database, found: u64) -> Refused {
    match handle.check_integrity() {
        Ok(true) => Refused::NewerLayout { found },
        Ok(false) => Failure::Damaged { why: format!("its layout reads {found}") }.into(),
        Err(cause) => cause.into(),
    }
}

fn raise_layout(handle: &redb::Database, found: u64, at_ms: u64) -> Result<(), Failure> {
    let txn = begin_durable(handle)?;
    layout::raise(&txn, found, at_ms)?;
    fail::fail_point!("store::raise-before-commit");
    txn.commit()?;
    fail::fail_point!("store::raise-after-commit");
    Ok(())
}

fn make_tables(handle: &redb::Database) -> Result<(), Failure> {
    let txn = begin_durable(handle)?;
    let mut tables = Tables::make(&txn)?;
    tables.meta.open()?.insert(META_LAYOUT, LAYOUT)?;
    store_id::make(&mut tables)?;
    drop(tables);
    fail::fail_point!("store::make-before-commit");
    txn.commit()?;
    fail::fail_point!("store::make-after-commit");
    Ok(())
}

/// Empties bytes whose maker died before redb's magic number was written, which it is last: redb takes them for
/// somebody else's and would refuse them for ever. They hold nothing but the rest of a header.
fn empty_unfinished(place: &dyn StorageBackend) -> std::io::Result<()> {
    let len = place.len()?;
    if len == 0 || len > BEGUN_BYTES_MAX {
        return Ok(());
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    place.read(0, &mut bytes)?;
    let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let magic = bytes.get(..MAGIC_BYTES).unwrap_or(&bytes);
    let pages = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if is_blank(magic) && is_blank(pages) { place.set_len(0) } else { Ok(()) }
}

fn make_durable(txn: &mut WriteTransaction) -> Result<(), Failure> {
    txn.set_durability(Durability::Immediate)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    Ok(())
}

impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Failure {
        Failure::Storage(Arc::new(redb::Error::Io(cause)))
    }
}
