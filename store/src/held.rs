//! Writes that are held back until they are let go: a database that is refused when it is opened keeps every byte.
//!
//! redb writes when it opens, before anybody can tell whether the rows are of use. Those few blocks are in memory until
//! the store is accepted, then written in their order, syncs included, so a power cut finds what it would have found.
//! Never here: anything after that; every call goes straight below.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{BackendError, StorageBackend};

use crate::overlay::Overlay;

/// The bytes below, and what is held back from them. Clones are the same.
#[derive(Clone)]
pub(crate) struct Held {
    below: Arc<dyn StorageBackend>,
    /// None once it was let go.
    writes: Arc<RwLock<Option<Writes>>>,
}

struct Writes {
    /// The bytes as they will be.
    view: Overlay,
    calls: Vec<Call>,
}

enum Call {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Held {
    /// Holds back whatever is written from now on.
    pub(crate) fn over(below: Box<dyn StorageBackend>) -> io::Result<Held> {
        let below: Arc<dyn StorageBackend> = below.into();
        let writes = Writes { view: Overlay::over(Arc::clone(&below))?, calls: Vec::new() };
        Ok(Held { below, writes: Arc::new(RwLock::new(Some(writes))) })
    }

    /// Writes what was held back; nothing is from here on. After an error everything still is, and this may be tried
    /// again: it begins from the first call, since a failed sync may have lost what went before.
    pub(crate) fn let_go(&self) -> io::Result<()> {
        let mut writes = self.writes.write();
        for call in writes.iter().flat_map(|writes| &writes.calls) {
            match call {
                Call::Write(offset, data) => self.below.write(*offset, data)?,
                Call::SetLen(len) => self.below.set_len(*len)?,
                Call::Sync => self.below.sync_data()?,
            }
        }
        *writes = None;
        Ok(())
    }

    /// Does a call below, or to the bytes as they will be.
    fn call<T>(&self, call: impl FnOnce(&dyn StorageBackend) -> io::Result<T>) -> io::Result<T> {
        match &*self.writes.read() {
            Some(writes) => call(&writes.view),
            None => call(self.below.as_ref()),
        }
    }

    /// As [`Held::call`], remembered while it is held back.
    fn change(
        &self,
        change: impl FnOnce(&dyn StorageBackend) -> io::Result<()>,
        remembered: impl FnOnce() -> Call,
    ) -> io::Result<()> {
        if self.writes.read().is_none() {
            return change(self.below.as_ref());
        }
        match &mut *self.writes.write() {
            Some(writes) => {
                change(&writes.view)?;
                writes.calls.push(remembered());
                Ok(())
            }
            None => change(self.below.as_ref()),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("below", &self.below).finish_non_exhaustive()
    }
}

impl StorageBackend for Held {
    fn len(&self) -> io::Result<u64> {
        self.call(StorageBackend::len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.call(|bytes| bytes.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|bytes| bytes.set_len(len), || Call::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(StorageBackend::sync_data, || Call::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|bytes| bytes.write(offset, data), || Call::Write(offset, data.to_vec()))
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests;
