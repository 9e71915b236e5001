//! The files: `ab/cdef...` for a blob, `ab/cdef....<opening><random>.tmp` for one that is being written.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::directory;
use crate::error::BlobError;
use crate::id::Digest;

/// What a file in the folders is.
pub(super) enum Entry {
    Blob(Digest),
    Temporary(PathBuf),
}

/// Writes a whole file and renames it. `within` is handed the rename, which answers the bytes that it replaced.
pub(super) fn write(
    dir: &Path,
    digest: &Digest,
    bytes: &[u8],
    opening: u64,
    within: impl FnOnce(&dyn Fn() -> io::Result<u64>) -> io::Result<()>,
) -> Result<(), BlobError> {
    let path = path_of(dir, digest);
    let folder = path.parent().unwrap_or(dir);
    at(folder, directory::make_all_private(folder))?;
    let temporary = path.with_extension(format!("{opening:016x}{:016x}.tmp", rand::random::<u64>()));
    fail::fail_point!("store::blob-before-write");
    let renamed = write_synced(&temporary, bytes).and_then(|()| {
        fail::fail_point!("store::blob-before-rename");
        within(&|| {
            let replaced = fs::metadata(&path).map_or(0, |found| found.len());
            fs::rename(&temporary, &path).map(|()| replaced)
        })
    });
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    fail::fail_point!("store::blob-after-rename");
    at(&path, renamed)
}

/// Makes a blob's name durable.
pub(super) fn sync(dir: &Path, digest: &Digest) -> Result<(), BlobError> {
    let path = path_of(dir, digest);
    let folder = path.parent().unwrap_or(dir);
    at(folder, directory::sync(folder))?;
    at(dir, directory::sync(dir))
}

/// Whether the file is the blob. Reads it: a torn file of the right length must not pass for it.
pub(super) fn is_whole(dir: &Path, digest: &Digest, len: usize) -> bool {
    let path = path_of(dir, digest);
    let has_length = fs::metadata(&path).is_ok_and(|found| found.len() == len as u64);
    has_length && fs::read(&path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
}

pub(super) fn read(dir: &Path, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
    let path = path_of(dir, digest);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(BlobError::File { path, cause }),
    };
    if Digest::of(&bytes) == *digest { Ok(Some(bytes)) } else { Err(BlobError::Damaged { path }) }
}

pub(super) fn path_of(dir: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (folder, file) = text.split_at(2);
    dir.join(folder).join(file)
}

/// Every blob and temporary file. What else somebody put there is left alone.
pub(super) fn list(dir: &Path) -> Result<Vec<Entry>, BlobError> {
    let mut entries = Vec::new();
    for folder in at(dir, folders(dir))? {
        for file in at(&folder, files(&folder))? {
            entries.extend(classify(&folder, file));
        }
    }
    Ok(entries)
}

/// Whether there is a blob, whole or not.
pub(super) fn is_any(dir: &Path) -> io::Result<bool> {
    for folder in folders(dir)? {
        let is_blob = |file| matches!(classify(&folder, file), Some(Entry::Blob(_)));
        if files(&folder)?.into_iter().any(is_blob) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes of all files in the folders, temporary ones included.
pub(super) fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for folder in folders(dir)? {
        for file in files(&folder)? {
            bytes += fs::metadata(file).map_or(0, |found| found.len());
        }
    }
    Ok(bytes)
}

fn classify(folder: &Path, file: PathBuf) -> Option<Entry> {
    if file.extension().is_some_and(|extension| extension == "tmp") {
        return Some(Entry::Temporary(file));
    }
    let name = format!("{}{}", folder.file_name()?.to_str()?, file.file_name()?.to_str()?);
    name.parse().ok().map(Entry::Blob)
}

/// The directories in one; none when it does not exist.
fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(dir)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_file()).collect())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = directory::create(path)?;
    file.write_all(bytes)?;
    directory::sync_file(&file, path)
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, BlobError> {
    result.map_err(|cause| BlobError::File { path: path.into(), cause })
}
