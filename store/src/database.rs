//! The open redb database, and opening it again after it failed.
//!
//! redb refuses further work on a handle after an I/O error, so a failed handle is closed and a new one opened
//! from the same place. Reads are short: a transaction lives for one lookup, so no reader pins old pages.

use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::backend::{Backend, Boxed};
use crate::error::Failure;
use crate::layout::{self, OnOlder};
use crate::tables::{self, LAYOUT, META_LAYOUT, Tables};

pub(crate) struct Database {
    backend: Box<dyn Backend>,
    cache_bytes: usize,
    /// Unix milliseconds, for the audit row of a raised layout.
    opened_at_ms: u64,
    on_older: OnOlder,
    handle: RwLock<Option<redb::Database>>,
}

/// Why a database did not open.
pub(crate) enum Refused {
    InUse,
    NewerLayout { found: u64 },
    OlderLayout { found: u64 },
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
        on_older: OnOlder,
    ) -> Result<Database, Refused> {
        let handle = open_handle(backend.as_ref(), cache_bytes, opened_at_ms, on_older)?;
        Ok(Database { backend, cache_bytes, opened_at_ms, on_older, handle: RwLock::new(Some(handle)) })
    }

    /// A transaction for one short read.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Failure> {
        Ok(self.handle.read().as_ref().ok_or(Failure::Reopening)?.begin_read()?)
    }

    /// A transaction that is durable when its commit returns: two phases, since guests choose what is written,
    /// and quick repair, so that opening after a crash does not walk the file.
    pub(crate) fn write(&self) -> Result<WriteTransaction, Failure> {
        let mut txn = self.handle.read().as_ref().ok_or(Failure::Reopening)?.begin_write()?;
        make_durable(&mut txn)?;
        Ok(txn)
    }

    /// Closes the handle and opens a new one.
    pub(crate) fn reopen(&self) -> Result<(), Failure> {
        let mut handle = self.handle.write();
        *handle = None;
        match open_handle(self.backend.as_ref(), self.cache_bytes, self.opened_at_ms, self.on_older) {
            Ok(opened) => *handle = Some(opened),
            Err(Refused::Failed(cause)) => return Err(cause),
            Err(Refused::InUse | Refused::NewerLayout { .. } | Refused::OlderLayout { .. }) => {
                return Err(Failure::Reopening);
            }
        }
        Ok(())
    }

    /// redb's own check of every page, on a handle that nobody else uses.
    pub(crate) fn check_integrity(&self) -> Result<bool, Failure> {
        Ok(self.handle.write().as_mut().ok_or(Failure::Reopening)?.check_integrity()?)
    }
}

fn open_handle(
    backend: &dyn Backend,
    cache_bytes: usize,
    at_ms: u64,
    on_older: OnOlder,
) -> Result<redb::Database, Refused> {
    let place = backend.open().map_err(redb::StorageError::Io)?;
    let opened = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(Boxed(place));
    let handle = match opened {
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(Refused::InUse),
        opened => opened?,
    };
    match tables::read_layout(&handle)? {
        None => make_tables(&handle)?,
        Some(found) if found > LAYOUT => return Err(Refused::NewerLayout { found }),
        Some(found) if found < LAYOUT => match on_older {
            OnOlder::Raise => raise_layout(&handle, found, at_ms)?,
            OnOlder::Refuse => return Err(Refused::OlderLayout { found }),
            OnOlder::Leave => {}
        },
        Some(_) => {}
    }
    Ok(handle)
}

fn raise_layout(handle: &redb::Database, found: u64, at_ms: u64) -> Result<(), Failure> {
    let mut txn = handle.begin_write()?;
    make_durable(&mut txn)?;
    layout::raise(&txn, found, at_ms)?;
    fail::fail_point!("store::layout-raised");
    Ok(txn.commit()?)
}

fn make_tables(handle: &redb::Database) -> Result<(), Failure> {
    let mut txn = handle.begin_write()?;
    make_durable(&mut txn)?;
    Tables::open(&txn)?.meta.insert(META_LAYOUT, LAYOUT)?;
    Ok(txn.commit()?)
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
