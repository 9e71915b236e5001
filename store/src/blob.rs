//! Blobs: components, sources and other big bytes, as files named by their digest.
//!
//! ```text
//! write temporary file, fsync     crash after: an orphan file, overwritten or ignored
//! rename to blobs/ab/cdef...      crash after: as before, or the whole blob
//! fsync the directories           crash after: the whole blob, which nothing names yet
//! ```
//! A blob is durable before [`Blobs::put`] returns, hence before any commit that names it. Blobs never change.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;

use crate::directory;
use crate::error::{BlobError, Overflow};
use crate::id::Digest;
use crate::limit;

/// Where blobs live: files in service, memory for scratch stores.
#[derive(Debug)]
pub(crate) enum Blobs {
    Files { dir: PathBuf },
    Memory { blobs: RwLock<HashMap<Digest, Vec<u8>>> },
}

impl Blobs {
    pub(crate) fn in_memory() -> Blobs {
        Blobs::Memory { blobs: RwLock::default() }
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        Overflow::check("bytes of one blob", bytes.len(), limit::BLOB_BYTES_MAX)?;
        let digest = Digest::of(bytes);
        match self {
            Blobs::Files { dir } => put_file(dir, &digest, bytes)?,
            Blobs::Memory { blobs } => drop(blobs.write().insert(digest, bytes.to_vec())),
        }
        Ok(digest)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        match self {
            Blobs::Files { dir } => get_file(dir, digest),
            Blobs::Memory { blobs } => Ok(blobs.read().get(digest).cloned()),
        }
    }
}

fn put_file(dir: &Path, digest: &Digest, bytes: &[u8]) -> Result<(), BlobError> {
    let path = path_of(dir, digest);
    let folder = path.parent().unwrap_or(dir);
    at(folder, fs::create_dir_all(folder))?;
    if !is_whole(&path, digest, bytes.len()) {
        write_whole(&path, bytes)?;
    }
    // Also for a blob that was there: the process that wrote it may have died before its directory was safe.
    at(folder, directory::sync(folder))?;
    at(dir, directory::sync(dir))
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BlobError> {
    let temporary = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    at(&temporary, write_synced(&temporary, bytes))?;
    fail::fail_point!("store::blob-before-rename");
    at(path, fs::rename(&temporary, path))?;
    fail::fail_point!("store::blob-after-rename");
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether the file is the blob. Reads it: a torn file of the right length must not pass for it.
fn is_whole(path: &Path, digest: &Digest, len: usize) -> bool {
    let has_length = fs::metadata(path).is_ok_and(|found| found.len() == len as u64);
    has_length && fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
}

fn get_file(dir: &Path, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
    let path = path_of(dir, digest);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(BlobError::File { path, cause }),
    };
    if Digest::of(&bytes) == *digest { Ok(Some(bytes)) } else { Err(BlobError::Damaged { path }) }
}

fn path_of(dir: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (folder, file) = text.split_at(2);
    dir.join(folder).join(file)
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, BlobError> {
    result.map_err(|cause| BlobError::File { path: path.into(), cause })
}

#[cfg(test)]
mod tests;
