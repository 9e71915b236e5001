//! Directories cannot be opened to be synced; NTFS logs renames itself.

use std::fs::File;
use std::io;
use std::os::windows::fs::FileExt;
use std::path::Path;

pub(crate) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Moves the file's own position too, which nobody uses.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(buffer, at)
}
