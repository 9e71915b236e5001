//! Directories cannot be opened to be synced; NTFS logs renames itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::FileExt;
use std::path::Path;

pub(crate) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Who may read what a user makes is inherited from the directory above.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    std::fs::create_dir(dir)
}

pub(crate) fn private() -> OpenOptions {
    OpenOptions::new()
}

/// Moves the file's own position too, which nobody uses.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(buffer, at)
}
