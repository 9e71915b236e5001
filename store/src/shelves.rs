//! Editions on disk: a shelf for each collection that was archived, `archive/7/` for the one of number 7.
//!
//! Which edition serves is a row of the database, and nothing here is read to know it; `CURRENT` on the shelf says the
//! same, a moment later, to whoever has only the files. An edition without such a row, or a row without its edition, is
//! of no use: every vector is in the database.
//!
//! ```text
//! collect   CURRENT names what serves, then all else goes that nobody reads or builds    crash: done at the next start
//! left      what somebody read meanwhile                       collected when he is done; forgetting does not wait
//! unopened  what serves and could not be read this time        stays until another serves, or something is forgotten
//! noted     why an edition does not serve                      until another does
//! ```
//! Never here: what is in an edition.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use telos_archive::{Edition, Shelf, ShelfError, Verify};

use crate::archive::{Note, Underway};
use crate::id::ObjectId;
use crate::segments;

const DIR: &str = "archive";

/// The shelves of a store.
pub(crate) struct Shelves {
    /// None for a store in memory.
    dir: Option<PathBuf>,
    open: Mutex<BTreeMap<u32, Arc<Shelf>>>,
    /// Held by whoever deletes.
    others: Mutex<Others>,
    /// The last edition of each collection that was found not to serve.
    notes: Mutex<BTreeMap<u32, Note>>,
    /// There may be files that are of no use.
    is_untidy: AtomicBool,
    /// Held by whoever gives an edition up, and by whoever forgets: what is read anew would have it.
    pub(crate) leaving: Mutex<()>,
    /// The edition that is on its way: one at a time.
    pub(crate) underway: Underway,
}

/// Editions that do not serve and are there.
#[derive(Default)]
struct Others {
    /// Somebody read them when they were to be deleted.
    left: BTreeSet<(u32, u64)>,
    /// They could not be opened, and nothing says that they are damaged.
    unopened: BTreeMap<u32, u64>,
}

impl Shelves {
    /// Those of the store in a directory. Nothing is made before something is archived.
    pub(crate) fn of(store: &Path) -> Shelves {
        Shelves { dir: Some(store.join(DIR)), ..Shelves::none() }
    }

    /// Those of a store in memory: none, ever.
    pub(crate) fn none() -> Shelves {
        Shelves {
            dir: None,
            open: Mutex::default(),
            others: Mutex::default(),
            notes: Mutex::default(),
            is_untidy: AtomicBool::new(false),
            leaving: Mutex::default(),
            underway: Underway::default(),
        }
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
        let Some(shelf) = self.shelf_there(collection)? else { return Ok(None) };
        if shelf.editions()?.contains(&number) { shelf.edition(number, verify).map(Some) } else { Ok(None) }
    }

    /// Remembers which edition could not be opened and is to be kept all the same.
    pub(crate) fn keep_unopened(&self, collection: u32, number: Option<u64>) {
        let unopened = &mut self.others.lock().unopened;
        match number {
            Some(number) => unopened.insert(collection, number),
            None => unopened.remove(&collection),
        };
    }

    /// Remembers why an edition of a collection does not serve; the first reason is what all others come of.
    pub(crate) fn note(&self, collection: u32, note: Note) {
        let mut notes = self.notes.lock();
        if notes.get(&collection).is_none_or(|known| known.edition != note.edition) {
            notes.insert(collection, note);
        }
    }

    /// An edition of a collection serves.
    pub(crate) fn forget_note(&self, collection: u32) {
        self.notes.lock().remove(&collection);
    }

    /// Why an edition of a collection does not serve; whoever asks sees whether it is the one that is meant.
    pub(crate) fn note_of(&self, collection: u32) -> Option<Note> {
        self.notes.lock().get(&collection).cloned()
    }

    /// Whether an edition could not be opened and is kept all the same.
    pub(crate) fn is_unopened(&self, collection: u32, number: u64) -> bool {
        self.others.lock().unopened.get(&collection) == Some(&number)
    }

    /// Has files that are of no use looked for.
    pub(crate) fn suspect(&self) {
        let is_there = self.dir.as_ref().is_some_and(|dir| dir.is_dir());
        self.is_untidy.fetch_or(is_there, Ordering::AcqRel);
    }

    /// Whether files may be there that are of no use.
    pub(crate) fn are_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Acquire)
    }

    /// They are looked for now.
    pub(crate) fn begin_tidying(&self) {
        self.is_untidy.store(false, Ordering::Release);
    }

    /// Whether an edition is there only because somebody read it, as far as this can be said at once.
    pub(crate) fn has_left(&self) -> bool {
        self.others.try_lock().is_none_or(|others| !others.left.is_empty())
    }

    /// Deletes editions of a collection but the one that serves, and what is on its way or read. What cannot be deleted
    /// is at the next start. `serving` is asked when nobody else deletes.
    pub(crate) fn collect(&self, collection: u32, serving: impl FnOnce() -> Option<u64>) {
        let others = &mut *self.others.lock();
        if let Err(cause) = self.collect_of(others, collection, serving()) {
            tracing::warn!(collection, %cause, "editions of the archive were not deleted yet");
        }
    }

    /// Deletes an edition, whoever reads it: he goes on where the system lets him.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) fn delete(&self, collection: u32, number: u64) -> Result<(), ShelfError> {
        let others = &mut *self.others.lock();
        if let Some(shelf) = self.shelf_there(collection)? {
            shelf.delete(number)?;
        }
        others.left.remove(&(collection, number));
        Ok(())
    }

    /// Deletes what is there only because somebody reads it, or because nobody could: it may have what was forgotten.
    pub(crate) fn delete_others(&self) {
        let others = std::mem::take(&mut *self.others.lock());
        for (collection, number) in others.left.into_iter().chain(others.unopened) {
            if let Err(cause) = self.delete(collection, number) {
                tracing::error!(collection, number, %cause, "an edition that may have what was forgotten was not deleted");
                self.others.lock().left.insert((collection, number));
            }
        }
    }

    /// Whether a file names an object, one that is being built included. Cost: reads all of them, a part at a time.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) fn names(&self, object: ObjectId) -> io::Result<bool> {
        let needle = object.to_bits().to_le_bytes();
        let mut dirs: Vec<PathBuf> = self.dir.iter().cloned().collect();
        while let Some(dir) = dirs.pop() {
            let (below, files): (Vec<_>, Vec<_>) = listed(&dir)?.into_iter().partition(|path| path.is_dir());
            for path in files {
                if File::open(&path).and_then(|file| segments::has(file, &needle)).or_else(if_gone)? {
                    return Ok(true);
                }
            }
            dirs.extend(below);
        }
        Ok(false)
    }

    /// Numbers of collections that have a shelf.
    pub(crate) fn collections(&self) -> Vec<u32> {
        let listed = self.dir.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Deletes the shelf of a collection that there is not.
    pub(crate) fn remove(&self, collection: u32) {
        let _alone = self.others.lock();
        self.open.lock().remove(&collection);
        let removed = self.dir_of(collection).map_or(Ok(()), fs::remove_dir_all);
        if let Err(cause) = removed.or_else(if_gone) {
            tracing::warn!(collection, %cause, "the archive of a collection that is gone was not deleted yet");
        }
    }

    fn collect_of(
        &self,
        others: &mut Others,
        collection: u32,
        serving: Option<u64>,
    ) -> Result<(), ShelfError> {
        let Some(shelf) = self.shelf_there(collection)? else { return Ok(()) };
        if serving.is_some() {
            others.unopened.remove(&collection);
        }
        let kept = serving.or_else(|| others.unopened.get(&collection).copied());
        // What could not be opened is named already, or cannot be.
        if kept == serving {
            name_current(&shelf, serving)?;
        }
        shelf.collect(kept.as_slice())?;
        // One that is on its way comes after the one that serves.
        let is_left = |number: &u64| kept.is_some_and(|kept| *number < kept);
        others.left.retain(|(of, _)| *of != collection);
        others.left.extend(shelf.editions()?.into_iter().filter(is_left).map(|number| (collection, number)));
        Ok(())
    }

    /// The shelf of a collection that has one.
    fn shelf_there(&self, collection: u32) -> Result<Option<Arc<Shelf>>, ShelfError> {
        let is_there = self.dir_of(collection).is_some_and(|dir| dir.is_dir());
        if is_there { self.shelf(collection) } else { Ok(None) }
    }

    fn dir_of(&self, collection: u32) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(collection.to_string()))
    }
}

/// Has CURRENT name an edition, or none: then nothing keeps the ones before it.
fn name_current(shelf: &Shelf, serving: Option<u64>) -> Result<(), ShelfError> {
    let Some(number) = serving else { return shelf.withdraw() };
    if shelf.current().is_ok_and(|current| current == Some(number)) {
        return Ok(());
    }
    shelf.publish(number).or_else(|cause| {
        tracing::warn!(number, %cause, "the edition that serves is not named on its shelf");
        shelf.withdraw()
    })
}

/// What is in a directory; nothing when it is gone.
fn listed(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()).or_else(if_gone)
}

/// The answer when something was deleted meanwhile.
fn if_gone<T: Default>(cause: io::Error) -> io::Result<T> {
    if cause.kind() == io::ErrorKind::NotFound { Ok(T::default()) } else { Err(cause) }
}
