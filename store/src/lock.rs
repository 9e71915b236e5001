//! One process per store directory: an operating-system lock that dies with its process, however it dies.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::directory;
use crate::error::OpenError;

const LOCK_FILE: &str = "lock";
/// The process id has a file of its own, since some systems let nobody read a locked file.
const PID_FILE: &str = "pid";
/// What a lock leaves in its directory.
pub(crate) const FILES: [&str; 2] = [LOCK_FILE, PID_FILE];

/// Held for as long as the store is open.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Unlocks rather than closes: a process that is just being started elsewhere in this one holds copies of all
    /// open files until it runs its own program, and would keep the lock for that long.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl DirectoryLock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    /// [`OpenError::InUse`] with the holder's process id, [`OpenError::File`] when the lock file cannot be made.
    pub(crate) fn take(dir: &Path) -> Result<DirectoryLock, OpenError> {
        let path = dir.join(LOCK_FILE);
        let opened = directory::private().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|cause| OpenError::File { path: path.clone(), cause })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
            Err(TryLockError::Error(cause)) => return Err(OpenError::File { path, cause }),
        }
        write_pid(dir)?;
        Ok(DirectoryLock { file })
    }
}

/// The error for a directory that another process holds.
pub(crate) fn in_use(dir: &Path) -> OpenError {
    let pid = fs::read_to_string(pid_path(dir)).ok().and_then(|text| text.trim().parse().ok());
    OpenError::InUse { dir: dir.into(), pid }
}

/// Whether somebody has locked a directory, now or before.
pub(crate) fn is_in(dir: &Path) -> bool {
    dir.join(LOCK_FILE).exists()
}

/// Removes what a lock left that nobody holds any more.
pub(crate) fn remove_files(dir: &Path) -> io::Result<()> {
    FILES.iter().try_for_each(|file| fs::remove_file(dir.join(file)))
}

fn write_pid(dir: &Path) -> Result<(), OpenError> {
    let path = pid_path(dir);
    let written = directory::create(&path).and_then(|mut file| write!(file, "{}", std::process::id()));
    written.map_err(|cause| OpenError::File { path, cause })
}

fn pid_path(dir: &Path) -> PathBuf {
    dir.join(PID_FILE)
}

#[cfg(test)]
mod tests;
