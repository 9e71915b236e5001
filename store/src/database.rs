//! The open redb database, and opening it again after it failed.
//!
//! redb refuses further work on a handle after an I/O error, so a failed handle is closed and a new one opened
//! from the same place. Opening writes; where the disk refuses that, a handle over the same bytes that keeps its
//! writes in memory lets reads go on. Reads are short: a transaction lives for one lookup, so no reader pins old
//! pages.

use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Durability, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use crate::backend::{Backend, Boxed};
use crate::error::Failure;
use crate::layout;
use crate::overlay::Overlay;
use crate::tables::{self, LAYOUT, META_LAYOUT, Tables};

/// A database that was only begun is smaller; redb's are 72 KiB.
const BEGUN_BYTES_MAX: u64 = 1024 * 1024;
/// redb's magic number, at the beginning.
const MAGIC_BYTES: usize = 9;
/// More than redb's header, less than its first page.
const HEADER_BYTES: usize = 512;

pub(crate) struct Database {
    backend: Box<dyn Backend>,
    cache_bytes: usize,
    /// Unix milliseconds, for the audit row of a raised layout.
    opened_at_ms: u64,
    handle: RwLock<Handle>,
}

enum Handle {
    Closed,
    /// Over bytes that keep their writes in memory, until the disk takes writes again.
    ReadOnly(redb::Database),
    Writable(redb::Database),
}

/// Why a database did not open.
pub(crate) enum Refused {
    InUse,
    NewerLayout { found: u64 },
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Refused {
    fn from(cause: E) -> Refused {
        Refused::Failed(cause.into())
    }
}

impl Database {
    /// Opens the database, making it when there is none.
    pub(crate) fn open(
        backend: Box<dyn Backend>,
        cache_bytes: usize,
        opened_at_ms: u64,
    ) -> Result<Database, Refused> {
        let handle = open_handle(backend.as_ref(), cache_bytes, opened_at_ms)?;
        Ok(Database { backend, cache_bytes, opened_at_ms, handle: RwLock::new(Handle::Writable(handle)) })
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
        let handle = self.handle.read();
        let Handle::Writable(handle) = &*handle else { return Err(Failure::Reopening) };
        let mut txn = handle.begin_write()?;
        make_durable(&mut txn)?;
        Ok(txn)
    }

    /// Closes the handle and opens a new one. Where that fails, reads go on from what the place holds, if it can
    /// be read at all.
    pub(crate) fn reopen(&self) -> Result<(), Failure> {
        let mut handle = self.handle.write();
        if let Handle::Writable(_) = *handle {
            // Closed first: it holds the file's lock.
            *handle = Handle::Closed;
        }
        match open_handle(self.backend.as_ref(), self.cache_bytes, self.opened_at_ms) {
            Ok(opened) => *handle = Handle::Writable(opened),
            Err(refused) => {
                if let Handle::Closed = *handle {
                    *handle = self.open_read_only().map_or(Handle::Closed, Handle::ReadOnly);
                }
                return Err(match refused {
                    Refused::Failed(cause) => cause,
                    Refused::InUse | Refused::NewerLayout { .. } => Failure::Reopening,
                });
            }
        }
        Ok(())
    }

    fn open_read_only(&self) -> Result<redb::Database, Failure> {
        let place = Overlay::over(self.backend.open()?)?;
        Ok(redb::Builder::new().set_cache_size(self.cache_bytes).create_with_backend(place)?)
    }

    /// redb's own check of every page, on a handle that nobody else uses.
    pub(crate) fn check_integrity(&self) -> Result<bool, Failure> {
        match &mut *self.handle.write() {
            Handle::Writable(handle) => Ok(handle.check_integrity()?),
            Handle::Closed | Handle::ReadOnly(_) => Err(Failure::Reopening),
        }
    }
}

fn open_handle(backend: &dyn Backend, cache_bytes: usize, at_ms: u64) -> Result<redb::Database, Refused> {
    let place = backend.open().map_err(redb::StorageError::Io)?;
    empty_unfinished(place.as_ref())?;
    let opened = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(Boxed(place));
    let handle = match opened {
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(Refused::InUse),
        opened => opened?,
    };
    match tables::read_layout(&handle)? {
        None => make_tables(&handle)?,
        Some(found) if found > LAYOUT => return Err(Refused::NewerLayout { found }),
        Some(found) if found < LAYOUT => {
            let mut txn = handle.begin_write()?;
            make_durable(&mut txn)?;
            layout::raise(&txn, found, at_ms)?;
            fail::fail_point!("store::raise-before-commit");
            txn.commit()?;
            fail::fail_point!("store::raise-after-commit");
        }
        Some(_) => {}
    }
    Ok(handle)
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

fn make_tables(handle: &redb::Database) -> Result<(), Failure> {
    let mut txn = handle.begin_write()?;
    make_durable(&mut txn)?;
    Tables::open(&txn)?.meta.insert(META_LAYOUT, LAYOUT)?;
    fail::fail_point!("store::make-before-commit");
    txn.commit()?;
    fail::fail_point!("store::make-after-commit");
    Ok(())
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
