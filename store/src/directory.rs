//! Directories: a file that was made or renamed is safe only after its directory was synced.

#[cfg(unix)]
#[path = "directory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "directory/windows.rs"]
mod system;

use std::io;
use std::path::Path;

pub(crate) use system::sync;

/// Syncs the directory that a path is in.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync(parent(path))
}

/// The directory that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
