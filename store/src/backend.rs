//! The byte seam: where the database's bytes live. A file in service, memory for scratch stores; tests add one
//! that fails.
//!
//! A backend is opened again after a failure, so it is a place that opens, not an open file.

mod overlay;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{BackendError, StorageBackend};

use crate::directory;

pub(crate) use overlay::Overlay;

/// A place that the database can be opened from, as often as needed.
pub trait Backend: Send + Sync + 'static {
    /// Opens the bytes; makes them, empty, when there are none.
    ///
    /// # Errors
    /// Whatever the place answers. The store then tries again with growing delays, read-only meanwhile.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens new, empty bytes beside, for a database that is to take this one's place.
    ///
    /// # Errors
    /// Whatever the place answers; unsupported when this place cannot be replaced.
    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Lets the bytes beside take the place of the old ones, durably and at once: a crash leaves one or the other.
    /// Both are closed by then.
    ///
    /// # Errors
    /// Whatever the place answers; the old bytes or the new ones are then in place.
    fn replace(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tries whether so many more bytes than there are have a place, by writing them elsewhere; leaves nothing.
    ///
    /// # Errors
    /// What the place answers when they have none.
    fn try_room(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Removes the bytes beside, as far as possible: they will not be used.
    fn discard_replacement(&self) {}
}

/// One file.
#[derive(Clone, Debug)]
pub struct FileBackend {
    path: PathBuf,
}

impl FileBackend {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> FileBackend {
        FileBackend { path: path.into() }
    }

    fn replacement(&self) -> PathBuf {
        self.path.with_extension("rewriting")
    }

    fn probe(&self) -> PathBuf {
        self.path.with_extension("probe")
    }
}

impl Backend for FileBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        // Of a process that died while it was rewriting, or looking for room.
        self.discard_replacement();
        let _ = fs::remove_file(self.probe());
        let mut options = directory::private();
        opened(options.read(true).write(true).create(true).truncate(false).open(&self.path)?)
    }

    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = directory::private();
        opened(options.read(true).write(true).create(true).truncate(true).open(self.replacement())?)
    }

    fn replace(&self) -> io::Result<()> {
        directory::sync_closed_file(&self.replacement())?;
        fail::fail_point!("store::rewrite-before-rename");
        fs::rename(self.replacement(), &self.path)?;
        fail::fail_point!("store::rewrite-after-rename");
        directory::sync_parent(&self.path)
    }

    fn try_room(&self, bytes: u64) -> io::Result<()> {
        let tried = fs::metadata(&self.path).and_then(|found| write_past(&self.probe(), found.len(), bytes));
        // One that stays is removed at the next opening.
        let _ = fs::remove_file(self.probe());
        tried
    }

    fn discard_replacement(&self) {
        let _ = fs::remove_file(self.replacement());
    }
}

/// Writes a file that ends as far beyond `len` as another of that length would, and takes no more room than that.
fn write_past(path: &Path, len: u64, bytes: u64) -> io::Result<()> {
    let mut file = directory::create(path)?;
    file.set_len(len)?;
    file.seek(SeekFrom::Start(len))?;
    io::copy(&mut io::repeat(1).take(bytes), &mut file)?;
    file.sync_all()
}

fn opened(file: File) -> io::Result<Box<dyn StorageBackend>> {
    if !file.metadata()?.is_file() {
        // A pipe would be waited for without end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    Ok(Box::new(redb::backends::FileBackend::new(file).map_err(io::Error::other)?))
}

/// Bytes in memory. Clones are the same bytes, so that a store can be reopened from them.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    bytes: Arc<RwLock<Vec<u8>>>,
    replacement: Arc<RwLock<Vec<u8>>>,
}

impl MemoryBackend {
    /// New, empty bytes.
    pub fn new() -> MemoryBackend {
        MemoryBackend::default()
    }

    fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let start = usize::try_from(offset).map_err(|_| out_of_range())?;
        Ok(start..start.checked_add(len).ok_or_else(out_of_range)?)
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("len", &self.bytes.read().len()).finish()
    }
}

impl Backend for MemoryBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.discard_replacement();
        Ok(Box::new(MemoryBackend { bytes: Arc::clone(&self.replacement), replacement: Arc::default() }))
    }

    fn replace(&self) -> io::Result<()> {
        *self.bytes.write() = std::mem::take(&mut *self.replacement.write());
        Ok(())
    }

    fn discard_replacement(&self) {
        *self.replacement.write() = Vec::new();
    }
}

impl StorageBackend for MemoryBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = MemoryBackend::range(offset, out.len())?;
        out.copy_from_slice(self.bytes.read().get(range).ok_or_else(out_of_range)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| out_of_range())?;
        self.bytes.write().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = MemoryBackend::range(offset, data.len())?;
        self.bytes.write().get_mut(range).ok_or_else(out_of_range)?.copy_from_slice(data);
        Ok(())
    }
}

fn out_of_range() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "offset outside the bytes")
}

/// redb takes a backend by value; this is one that was boxed, with its length where others can read it.
#[derive(Debug)]
pub(crate) struct Boxed {
    pub(crate) place: Box<dyn StorageBackend>,
    pub(crate) bytes: Arc<AtomicU64>,
}

impl StorageBackend for Boxed {
    fn len(&self) -> io::Result<u64> {
        let len = self.place.len()?;
        self.bytes.store(len, Ordering::Release);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.place.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.place.set_len(len)?;
        self.bytes.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.place.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.place.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.place.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests;
