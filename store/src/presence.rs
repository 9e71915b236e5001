//! Whether a directory has held a store: a database that is gone is missed, and never taken for one that is to be made.
//!
//! ```text
//! make     the database's first commit, synced; then its directory   crash after: opened as it is
//! note     `store-id`, once the database is open and durable         crash before: noted at the next opening
//! ```
//! Blobs tell too, since only a store that is open takes any; so a directory of an earlier host needs no note. Nothing
//! here is read for what the store holds. Never here: which database is to be used.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::blob::Blobs;
use crate::directory;
use crate::error::OpenError;
use crate::store::{BLOBS_DIR, DATABASE_FILE};
use crate::store_id::StoreId;

/// Whether the database in a directory has to be there already.
///
/// # Errors
/// [`OpenError::Gone`] when it has to and is not; one that is there and holds nothing is found out when it is opened.
/// [`OpenError::File`] when the directory cannot be read. Nothing was touched.
pub(crate) fn check(dir: &Path) -> Result<bool, OpenError> {
    let has_been = has_held(dir)?;
    let path = dir.join(DATABASE_FILE);
    match fs::symlink_metadata(&path) {
        Ok(found) if !has_been || found.len() > 0 || !found.is_file() => Ok(has_been),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !has_been => Ok(false),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(OpenError::File { path, cause }),
        _ => Err(gone(dir)),
    }
}

/// The error for a directory whose database is missing, or holds nothing.
pub(crate) fn gone(dir: &Path) -> OpenError {
    OpenError::Gone { dir: dir.into(), id: noted(dir) }
}

/// Notes that a directory holds this store. Its database is durable: that is the caller's promise.
pub(crate) fn note(dir: &Path, id: StoreId) -> io::Result<()> {
    if noted(dir) == Some(id) {
        return Ok(());
    }
    let path = note_of(dir);
    let mut file = directory::create(&path)?;
    writeln!(file, "{id}")?;
    directory::sync_file(&file, &path)?;
    directory::sync(dir)
}

fn has_held(dir: &Path) -> Result<bool, OpenError> {
    let at = |path: PathBuf, cause| OpenError::File { path, cause };
    let note = note_of(dir);
    if note.try_exists().map_err(|cause| at(note.clone(), cause))? {
        return Ok(true);
    }
    let blobs = dir.join(BLOBS_DIR);
    Blobs::are_in(&blobs).map_err(|cause| at(blobs.clone(), cause))
}

/// The store that was noted; none when nothing was, or a crash came between.
fn noted(dir: &Path) -> Option<StoreId> {
    let path = note_of(dir);
    // A pipe in its place would be waited for without end.
    let is_file = fs::metadata(&path).is_ok_and(|found| found.is_file());
    let text = is_file.then(|| fs::read_to_string(path).ok()).flatten()?;
    text.trim().parse().ok()
}

fn note_of(dir: &Path) -> PathBuf {
    dir.join("store-id")
}
