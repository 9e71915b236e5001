//! Directories: a file that was made or renamed is safe only after its directory was synced.

#[cfg(unix)]
#[path = "directory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "directory/windows.rs"]
mod system;

pub(crate) use system::sync;
