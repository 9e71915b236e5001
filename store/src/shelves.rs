//! Editions on disk: a shelf for each collection that was archived, `archive/7/` for the one of number 7.
//!
//! Which edition serves is a row of the database; `CURRENT` on the shelf says the same to whoever has only the files.
//! An edition without such a row, or a row without its edition, is of no use: every vector is in the database.
//! Never here: what is in an edition.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use telos_archive::{Edition, Shelf, ShelfError, Verify};

use crate::archive::Underway;

const DIR: &str = "archive";

/// The shelves of a store.
pub(crate) struct Shelves {
    /// None for a store in memory.
    dir: Option<PathBuf>,
    open: Mutex<HashMap<u32, Arc<Shelf>>>,
    /// The edition that is on its way: one at a time.
    pub(crate) underway: Underway,
}

impl Shelves {
    /// Those of the store in a directory. Nothing is made before something is archived.
    pub(crate) fn of(store: &Path) -> Shelves {
        Shelves { dir: Some(store.join(DIR)), ..Shelves::none() }
    }

    /// Those of a store in memory: none, ever.
    pub(crate) fn none() -> Shelves {
        Shelves { dir: None, open: Mutex::default(), underway: Underway::default() }
    }

    /// The shelf of a collection, made where there is none; none for a store in memory.
    ///
    /// # Errors
    /// [`ShelfError::File`].
    pub(crate) fn shelf(&self, collection: u32) -> Result<Option<Arc<Shelf>>, ShelfError> {
        let Some(dir) = self.dir_of(collection) else { return Ok(None) };
        let mut open = self.open.lock();
        if let Some(shelf) = open.get(&collection) {
            return Ok(Some(Arc::clone(shelf)));
        }
        let shelf = Arc::new(Shelf::open(&dir)?);
        open.insert(collection, Arc::clone(&shelf));
        Ok(Some(shelf))
    }

    /// An edition of a collection; none when it is not there.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) fn edition(
        &self,
        collection: u32,
        number: u64,
        verify: Verify,
    ) -> Result<Option<Arc<Edition>>, ShelfError> {
        if !self.dir_of(collection).is_some_and(|dir| dir.is_dir()) {
            return Ok(None);
        }
        let shelf = self.shelf(collection)?;
        shelf.map(|shelf| shelf.edition(number, verify)).transpose()
    }

    /// Deletes editions of a collection but the one that serves. What cannot be deleted is at the next start.
    pub(crate) fn collect(&self, collection: u32, serving: Option<u64>) {
        let Some(dir) = self.dir_of(collection).filter(|dir| dir.is_dir()) else { return };
        let collected = match serving {
            None => self.delete(collection),
            Some(serving) => match self.shelf(collection) {
                Ok(Some(shelf)) => shelf.collect(&[serving]).map(drop).map_err(io::Error::other),
                Ok(None) => Ok(()),
                Err(cause) => Err(io::Error::other(cause)),
            },
        };
        if let Err(cause) = collected {
            tracing::warn!(shelf = %dir.display(), %cause, "editions of the archive were not deleted");
        }
    }

    /// Deletes everything of a collection. Whoever reads an edition of it goes on where the system lets him.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) fn delete(&self, collection: u32) -> io::Result<()> {
        let Some(dir) = self.dir_of(collection) else { return Ok(()) };
        self.open.lock().remove(&collection);
        match fs::remove_dir_all(dir) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        }
    }

    fn dir_of(&self, collection: u32) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(collection.to_string()))
    }
}
