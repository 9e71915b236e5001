//! Collecting: blobs that no row names are deleted, and the temporary files of processes that died.
//!
//! ```text
//! list     every file, nothing held
//! step     256 of them, nobody voting: named by no durable row, not just put → deleted
//! ```
//! No unit is between its vote and its commit during a step, so what a step finds unnamed stays unnamed; a unit that
//! comes to name it afterwards looks for it when it votes, and is refused. Blobs put within the last ten minutes are
//! passed over, so that this happens to none that hurries. A crash in between leaves some for the next time.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::commit;
use crate::damage;
use crate::error::{BlobError, Failure};
use crate::id::Digest;
use crate::limit;
use crate::shared::Shared;
use crate::store::Store;
use crate::tables::BLOBS;

use super::file::{self, Entry};
use super::{Blobs, Books, Place};

/// What one collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Blobs deleted.
    pub blobs: u64,
    /// Bytes of all files deleted.
    pub bytes: u64,
    /// Temporary files deleted.
    pub temporary: u64,
    /// Blobs that nothing names, kept since they were put within the last ten minutes.
    pub too_young: u64,
    /// Whether it ended early because the whole store is being read, by a backup or a verification; try later.
    pub is_postponed: bool,
}

impl Store {
    /// Deletes blobs that no row names and that were not put within the last ten minutes, and temporary files that a
    /// process left when it died. `now_ms`: Unix milliseconds, of the clock that the store was opened with.
    ///
    /// Cost: lists the directory; decisions wait for each step of 256 files. Not to be called from a reply.
    ///
    /// # Errors
    /// [`BlobError::File`], [`BlobError::Failed`]. What was deleted by then stays deleted.
    pub fn collect_blobs(&self, now_ms: u64) -> Result<Collected, BlobError> {
        let shared = self.shared();
        let mut collected = Collected::default();
        for entries in shared.blobs.list()?.chunks(limit::BLOBS_PER_STEP) {
            let Some(_whole) = shared.whole.try_write() else {
                collected.is_postponed = true;
                break;
            };
            let _alone = commit::alone(shared);
            damage::guard(|| step(shared, entries, now_ms, &mut collected))?;
        }
        shared.blobs.books.lock().forget_old(now_ms);
        Ok(collected)
    }
}

impl Store {
    /// Takes back what the caller has just put and no commit came to name: true when it was deleted. It stays, for the
    /// next collection, when a row names it, when anybody else has put it too within ten minutes, or while the whole
    /// store is being read.
    ///
    /// Cost: decisions wait for it. Not to be called from a reply.
    ///
    /// # Errors
    /// As [`Store::collect_blobs`].
    pub fn withdraw_blob(&self, digest: &Digest) -> Result<bool, BlobError> {
        let shared = self.shared();
        let Some(_whole) = shared.whole.try_write() else { return Ok(false) };
        let _alone = commit::alone(shared);
        damage::guard(|| withdraw(shared, digest))
    }
}

fn withdraw(shared: &Shared, digest: &Digest) -> Result<bool, BlobError> {
    let txn = shared.database.read()?;
    let named = txn.open_table(BLOBS).map_err(Failure::from)?;
    if named.get(digest.as_bytes()).map_err(Failure::from)?.is_some() {
        return Ok(false);
    }
    shared.blobs.withdraw(digest)
}

fn step(shared: &Shared, entries: &[Entry], now_ms: u64, collected: &mut Collected) -> Result<(), BlobError> {
    let txn = shared.database.read()?;
    let named = txn.open_table(BLOBS).map_err(Failure::from)?;
    for entry in entries {
        match entry {
            Entry::Temporary(path) => {
                collected.bytes += shared.blobs.delete_temporary(path, &mut collected.temporary)?;
            }
            Entry::Blob(digest) if named.get(digest.as_bytes()).map_err(Failure::from)?.is_none() => {
                shared.blobs.delete(digest, now_ms, collected)?;
            }
            Entry::Blob(_) => {}
        }
    }
    Ok(())
}

impl Blobs {
    fn list(&self) -> Result<Vec<Entry>, BlobError> {
        match &self.place {
            Place::Files { dir } => file::list(dir),
            Place::Memory { blobs } => Ok(blobs.read().keys().copied().map(Entry::Blob).collect()),
        }
    }

    /// Deletes a blob that nothing names, unless it was just put.
    fn delete(&self, digest: &Digest, now_ms: u64, collected: &mut Collected) -> Result<(), BlobError> {
        let mut books = self.books.lock();
        if books.is_recent(digest, now_ms) {
            collected.too_young += 1;
            return Ok(());
        }
        collected.bytes += self.remove(&mut books, digest)?;
        collected.blobs += 1;
        Ok(())
    }

    /// Deletes a blob that nothing names and only one caller put.
    fn withdraw(&self, digest: &Digest) -> Result<bool, BlobError> {
        let mut books = self.books.lock();
        if !books.is_of_one(digest) {
            return Ok(false);
        }
        self.remove(&mut books, digest)?;
        books.recent.remove(digest);
        Ok(true)
    }

    /// Deletes the file, and says how many bytes it had.
    fn remove(&self, books: &mut Books, digest: &Digest) -> Result<u64, BlobError> {
        fail::fail_point!("store::collect-before-delete");
        let bytes = match &self.place {
            Place::Files { dir } => remove_file(&file::path_of(dir, digest))?,
            Place::Memory { blobs } => blobs.write().remove(digest).map_or(0, |bytes| bytes.len() as u64),
        };
        fail::fail_point!("store::collect-after-delete");
        books.bytes = books.bytes.saturating_sub(bytes);
        books.collected += 1;
        Ok(bytes)
    }

    /// Deletes a temporary file of another opening; one of this opening is being written.
    fn delete_temporary(&self, path: &Path, deleted: &mut u64) -> Result<u64, BlobError> {
        let opening = format!(".{:016x}", self.opening);
        if path.file_name().is_none_or(|name| name.to_string_lossy().contains(&opening)) {
            return Ok(0);
        }
        let bytes = remove_file(path)?;
        let mut books = self.books.lock();
        books.bytes = books.bytes.saturating_sub(bytes);
        *deleted += 1;
        Ok(bytes)
    }
}

/// Deletes a file and answers its bytes; none when it is gone already.
fn remove_file(path: &Path) -> Result<u64, BlobError> {
    let bytes = fs::metadata(path).map_or(0, |found| found.len());
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(BlobError::File { path: path.into(), cause })
        }
        _ => Ok(bytes),
    }
}
