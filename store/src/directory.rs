//! Directories and files beside the database: one that was made or renamed is safe only after its directory was synced,
//! and its bytes only after it was synced itself. What is made here nobody but its owner may read.
//!
//! Whoever relies on either calls [`sync`], [`sync_file`] or [`make_all`] before; tests watch these calls and take from
//! the disk whatever was not synced.

#[cfg(unix)]
#[path = "directory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "directory/windows.rs"]
mod system;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Makes what a directory lists safe.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    #[cfg(all(test, unix))]
    tests::watch(dir);
    system::sync(dir)
}

/// Syncs the directory that a path is in.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync(parent(path))
}

/// Makes the bytes of a file safe; `path` is where it is.
pub(crate) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(all(test, unix))]
    tests::watch(path);
    let _ = path;
    file.sync_all()
}

/// Makes the bytes of a file safe that others have written and closed.
pub(crate) fn sync_closed_file(path: &Path) -> io::Result<()> {
    sync_file(&File::options().write(true).open(path)?, path)
}

/// Makes a directory and those that it is in, where they are absent, private and each safe in the one above. Those
/// that were there may be as new, so they are synced too, as far as they may be read. A crash in between leaves some.
pub(crate) fn make_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    if above.is_dir() {
        above.ancestors().skip(1).for_each(|there| drop(sync(there)));
    } else {
        make_all(above)?;
    }
    match make_private(dir) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(cause),
        _ => {}
    }
    sync(above)
}

/// Makes a directory that nobody but its owner may read.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    system::make_private(dir)
}

/// Takes a directory that its owner made readable for others, as an earlier host did, from them.
///
/// # Errors
/// What the system answers, also when it is somebody else's.
pub(crate) fn make_it_private(dir: &Path) -> io::Result<()> {
    system::make_it_private(dir)
}

/// As [`make_private`], with those that it is in; nothing is synced, and one that is there already is left as it is.
pub(crate) fn make_all_private(dir: &Path) -> io::Result<()> {
    system::make_all_private(dir)
}

/// Opens a file that nobody but its owner may read, where opening makes it.
pub(crate) fn private() -> OpenOptions {
    system::private()
}

/// Makes a file that nobody but its owner may read, or empties the one that is there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    private().write(true).create(true).truncate(true).open(path)
}

/// The directory that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
