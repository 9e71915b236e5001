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

pub(crate) fn make_it_private(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn make_all_private(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)
}

pub(crate) fn private() -> std::fs::OpenOptions {
    std::fs::OpenOptions::new()
}
