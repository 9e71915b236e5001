//! Directories cannot be opened to be synced; NTFS logs renames itself.

use std::io;
use std::path::Path;

pub(crate) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Who may read what a user makes is inherited from the directory above.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    std::fs::create_dir(dir)
}
