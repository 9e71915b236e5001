//! A directory that is not a backup yet: `<to>.partial-<16 hex digits>`, locked while its process lives.
//!
//! A process that dies leaves it, and with it what a store held: whoever makes the next backup in the same place removes
//! it. One that cannot be locked is still being written, and one without a lock's files has just been made, or is not
//! ours. So those files stay until it has its name, and are the last that is removed of one that died.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::directory;
use crate::lock::{self, DirectoryLock};
use crate::store::{BLOBS_DIR, DATABASE_FILE};

use super::{BackupError, at, manifest};

const INFIX: &str = ".partial-";
const DIGITS: usize = 16;

/// Removed unless it is renamed.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    lock: Option<DirectoryLock>,
}

impl Partial {
    pub(super) fn make(to: &Path) -> Result<Partial, BackupError> {
        let parent = directory::parent(to);
        at(parent, directory::make_all(parent))?;
        let invalid = || BackupError::Exists { path: to.into() };
        let name = to.file_name().ok_or_else(invalid)?.to_string_lossy();
        let path = parent.join(format!("{name}{INFIX}{:016x}", rand::random::<u64>()));
        at(&path, directory::make_private(&path))?;
        let mut partial = Partial { path, lock: None };
        partial.lock = Some(DirectoryLock::take(&partial.path)?);
        Ok(partial)
    }

    /// Gives the directory its name: the moment at which it is a backup.
    pub(super) fn rename(mut self, to: &Path) -> Result<(), BackupError> {
        if to.exists() {
            // Only an empty one goes.
            at(to, fs::remove_dir(to))?;
        }
        if cfg!(windows) {
            // A directory with an open file in it is not renamed there.
            self.lock = None;
        }
        fail::fail_point!("store::backup-renaming");
        at(to, fs::rename(&self.path, to))?;
        fail::fail_point!("store::backup-renamed");
        if let Err(cause) = lock::remove_files(to) {
            tracing::warn!(path = %to.display(), %cause, "the files of its lock stay in a backup; it needs none");
        }
        at(to, directory::sync_parent(to))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.lock = None;
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what died processes left of backups in a directory; `is_meant`: by the name that the backup was to have. As
/// far as possible: what stays is removed the next time.
pub(crate) fn discard_dead(parent: &Path, is_meant: impl Fn(&str) -> bool) {
    let listed = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|found| found.is_dir());
    for entry in listed.filter(is_dir) {
        let name = entry.file_name();
        let of = name.to_str().and_then(backup_of);
        if of.is_some_and(&is_meant)
            && let Err(cause) = discard_if_dead(&entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %cause, "what is left of a backup was not removed");
        }
    }
}

/// The backup that a directory of this name was to become; none of one that is not ours.
pub(crate) fn backup_of(name: &str) -> Option<&str> {
    let (of, digits) = name.rsplit_once(INFIX)?;
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    (digits.len() == DIGITS && digits.bytes().all(is_digit)).then_some(of)
}

fn discard_if_dead(dir: &Path) -> io::Result<()> {
    if !lock::is_in(dir) || !holds_only_ours(dir)? {
        return Ok(());
    }
    // Whoever writes it holds this.
    let Ok(lock) = DirectoryLock::take(dir) else { return Ok(()) };
    drop(lock);
    discard(dir)
}

/// Moved first, since its writer may have let the lock go to give it its name: only one of the two moves it.
fn discard(dir: &Path) -> io::Result<()> {
    let other = dir.with_extension(format!("partial-{:016x}", rand::random::<u64>()));
    fs::rename(dir, &other)?;
    fail::fail_point!("store::backup-discarding");
    for entry in fs::read_dir(&other)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if is_lock(&entry.file_name()) => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(other)
}

fn is_lock(name: &OsStr) -> bool {
    lock::FILES.iter().any(|file| name == *file)
}

fn holds_only_ours(dir: &Path) -> io::Result<bool> {
    let ours = [DATABASE_FILE, BLOBS_DIR, manifest::FILE].into_iter().chain(lock::FILES);
    let ours: Vec<&str> = ours.collect();
    for entry in fs::read_dir(dir)? {
        if !entry?.file_name().to_str().is_some_and(|name| ours.contains(&name)) {
            return Ok(false);
        }
    }
    Ok(true)
}
