//! A directory's entries are safe only after the directory itself was synced.

use std::fs::File;
use std::io;
use std::path::Path;

pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
