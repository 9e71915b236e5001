//! Blobs: components, sources and other big bytes, as files named by their digest.
//!
//! ```text
//! note the digest as just put     no collection takes it for ten minutes
//! write temporary file, fsync     crash after: an orphan file, collected later
//! rename to blobs/ab/cdef...      crash after: as before, or the whole blob
//! fsync the directories           crash after: the whole blob, which nothing names yet
//! commit that names it            its vote looks for the file: a named blob is there, however long the unit took
//! ```
//! A blob is durable before [`Blobs::put`] returns, hence before any commit that names it. Blobs never change. Those
//! that no row names are deleted by `collect`, or by whoever put them and has no use for them after all.

mod collect;
mod file;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};

use crate::error::{BlobError, Overflow};
use crate::id::Digest;
use crate::limit;

pub use collect::Collected;

/// The blobs of one store.
#[derive(Debug)]
pub(crate) struct Blobs {
    place: Place,
    bytes_max: u64,
    /// Marks this opening's temporary files: those of others are left by processes that died.
    opening: u64,
    books: Mutex<Books>,
}

/// Where blobs live: files in service, memory for scratch stores.
#[derive(Debug)]
enum Place {
    Files { dir: PathBuf },
    Memory { blobs: RwLock<HashMap<Digest, Vec<u8>>> },
}

/// What is known about the files without looking. Held while a file gets its name or is deleted.
#[derive(Debug, Default)]
struct Books {
    bytes: u64,
    recent: HashMap<Digest, Recent>,
    collected: u64,
}

/// A blob that was put within the last ten minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// The last time, Unix milliseconds.
    put_ms: u64,
    /// How often: somebody else may be about to name it.
    times: u64,
}

impl Blobs {
    /// Blobs in a directory, which is read once to know what they take.
    ///
    /// # Errors
    /// What the directory answers.
    pub(crate) fn files(dir: PathBuf, bytes_max: u64) -> io::Result<Blobs> {
        let bytes = file::bytes_in(&dir)?;
        Ok(Blobs::new(Place::Files { dir }, bytes, bytes_max))
    }

    /// Whether there is any blob in a directory; it may be absent.
    ///
    /// # Errors
    /// What the directory answers.
    pub(crate) fn are_in(dir: &Path) -> io::Result<bool> {
        file::is_any(dir)
    }

    pub(crate) fn in_memory(bytes_max: u64) -> Blobs {
        Blobs::new(Place::Memory { blobs: RwLock::default() }, 0, bytes_max)
    }

    /// Stores bytes durably; see the module.
    pub(crate) fn put(&self, bytes: &[u8], now_ms: u64) -> Result<Digest, BlobError> {
        Overflow::check("bytes of one blob", bytes.len(), limit::BLOB_BYTES_MAX)?;
        let digest = Digest::of(bytes);
        self.books.lock().note(digest, now_ms)?;
        match &self.place {
            Place::Files { dir } => self.put_file(dir, &digest, bytes)?,
            Place::Memory { blobs } if !self.has(&digest) => {
                self.reserve(bytes.len() as u64)?;
                // Another thread may have been faster.
                let replaced = blobs.write().insert(digest, bytes.to_vec());
                self.give_back(replaced.map_or(0, |bytes| bytes.len() as u64));
            }
            Place::Memory { .. } => {}
        }
        Ok(digest)
    }

    /// The bytes, checked against their digest.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        match &self.place {
            Place::Files { dir } => file::read(dir, digest),
            Place::Memory { blobs } => Ok(blobs.read().get(digest).cloned()),
        }
    }

    /// Whether there is a blob of this digest; its bytes are not looked at.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        match &self.place {
            Place::Files { dir } => file::path_of(dir, digest).is_file(),
            Place::Memory { blobs } => blobs.read().contains_key(digest),
        }
    }

    /// Bytes on disk, those of blobs that nothing names included.
    pub(crate) fn bytes(&self) -> u64 {
        self.books.lock().bytes
    }

    /// Blobs collected since the store was opened.
    pub(crate) fn collected(&self) -> u64 {
        self.books.lock().collected
    }

    fn new(place: Place, bytes: u64, bytes_max: u64) -> Blobs {
        let books = Mutex::new(Books { bytes, ..Books::default() });
        Blobs { place, bytes_max, opening: rand::random(), books }
    }

    fn put_file(&self, dir: &Path, digest: &Digest, bytes: &[u8]) -> Result<(), BlobError> {
        if !file::is_whole(dir, digest, bytes.len()) {
            let len = bytes.len() as u64;
            self.reserve(len)?;
            let written = file::write(dir, digest, bytes, self.opening, |rename| {
                let mut books = self.books.lock();
                let replaced = rename()?;
                books.bytes = books.bytes.saturating_sub(replaced);
                Ok(())
            });
            if written.is_err() {
                self.give_back(len);
            }
            written?;
        }
        // Also for a blob that was there: the process that wrote it may have died before its directory was safe.
        file::sync(dir, digest)
    }

    fn reserve(&self, bytes: u64) -> Result<(), BlobError> {
        let mut books = self.books.lock();
        let found = books.bytes.saturating_add(bytes);
        if found > self.bytes_max {
            return Err(BlobError::Quota { found, allowed: self.bytes_max });
        }
        books.bytes = found;
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let mut books = self.books.lock();
        books.bytes = books.bytes.saturating_sub(bytes);
    }
}

impl Recent {
    fn is_within_grace(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.put_ms) < limit::BLOB_GRACE_MS
    }
}

impl Books {
    /// Remembers a blob as just put.
    fn note(&mut self, digest: Digest, now_ms: u64) -> Result<(), Overflow> {
        if self.recent.len() >= limit::BLOBS_RECENT_MAX && !self.recent.contains_key(&digest) {
            self.forget_old(now_ms);
        }
        let noted = self.recent.len() + usize::from(!self.recent.contains_key(&digest));
        Overflow::check("blobs put within ten minutes", noted, limit::BLOBS_RECENT_MAX)?;
        let recent = self.recent.entry(digest).or_default();
        let times = if recent.is_within_grace(now_ms) { recent.times } else { 0 };
        *recent = Recent { put_ms: now_ms, times: times + 1 };
        Ok(())
    }

    fn is_recent(&self, digest: &Digest, now_ms: u64) -> bool {
        self.recent.get(digest).is_some_and(|recent| recent.is_within_grace(now_ms))
    }

    /// Whether only one caller has put it within the grace.
    fn is_of_one(&self, digest: &Digest) -> bool {
        self.recent.get(digest).is_some_and(|recent| recent.times == 1)
    }

    fn forget_old(&mut self, now_ms: u64) {
        self.recent.retain(|_, recent| recent.is_within_grace(now_ms));
    }
}

#[cfg(test)]
mod tests;
