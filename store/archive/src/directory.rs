//! Directories and files: one that was made or renamed is safe only after its directory was synced, and its bytes only
//! after it was synced itself. What is made here nobody but its owner may read.

#[cfg(unix)]
#[path = "directory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "directory/windows.rs"]
mod system;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes what a directory lists safe.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    system::sync(dir)
}

/// Syncs the directory that a path is in.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync(parent(path))
}

/// Makes a directory and those that it is in, where they are absent, private and each safe in the one above.
pub(crate) fn make_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    make_all(parent(dir))?;
    match make_private(dir) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => Err(cause),
        _ => sync_parent(dir),
    }
}

/// Makes a directory that nobody but its owner may read.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    system::make_private(dir)
}

/// Makes a file that nobody but its owner may read, or empties the one that is there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    system::private().write(true).create(true).truncate(true).open(path)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fills a buffer with the bytes at a place in a file, without moving anything that readers share.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match system::read_at(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => filled += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// Writes a whole file beside its name and synced, ready to be renamed.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file, which may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
