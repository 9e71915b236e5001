//! A file that is only read: what a database writes over it stays in memory and is forgotten. So a copy, or a store
//! that may be damaged, is looked at without changing one of its bytes.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use redb::StorageBackend;

use super::{Backend, MemoryBackend};
use crate::overlay;

/// One file, read only, and as good as empty when there is none. Memory: what is written, in blocks of 4 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    path: PathBuf,
}

impl Overlay {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Overlay {
        Overlay { path: path.into() }
    }
}

impl Backend for Overlay {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let place: Box<dyn StorageBackend> = match File::open(&self.path) {
            Ok(file) => Box::new(redb::backends::FileBackend::new(file).map_err(io::Error::other)?),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Box::new(MemoryBackend::new()),
            Err(cause) => return Err(cause),
        };
        Ok(Box::new(overlay::Overlay::over(place)?))
    }
}
