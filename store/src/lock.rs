//! One process per store directory: an operating-system lock that dies with its process, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

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
        let path = dir.join("lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
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

/// The process id has a file of its own, since some systems let nobody read a locked file.
fn write_pid(dir: &Path) -> Result<(), OpenError> {
    let path = pid_path(dir);
    fs::write(&path, std::process::id().to_string()).map_err(|cause| OpenError::File { path, cause })
}

fn pid_path(dir: &Path) -> PathBuf {
    dir.join("pid")
}

#[cfg(test)]
mod tests;
