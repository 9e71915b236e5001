//! One edition on its way: whether it is to stop, and what is forgotten meanwhile.
//!
//! An edition has bytes of every object that its collection had vectors of. One that is forgotten while the edition is
//! built, or waits, is in the database no more when the edition would serve: so the edition goes.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::id::ObjectId;
use crate::vectors::{Archived, CollectionKey};

/// See the module.
pub(crate) struct Work {
    pub(super) key: CollectionKey,
    /// Set by whoever wants the build to end.
    pub(super) stop: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since the work began.
    forgotten: HashSet<ObjectId>,
    /// Once it is built.
    built: Option<Built>,
    /// Something that it has bytes of was forgotten.
    is_spoilt: bool,
    /// From here on whoever puts it in force gives it up.
    is_publishing: bool,
}

struct Built {
    dir: PathBuf,
    /// Whose vectors it has, sorted.
    objects: Arc<[ObjectId]>,
}

/// The work of one store: one edition at a time.
#[derive(Default)]
pub(crate) struct Underway(Mutex<Option<Arc<Work>>>);

impl Underway {
    /// Begins work on a collection; where there is other work, that is the error.
    pub(super) fn begin(&self, key: CollectionKey) -> Result<Arc<Work>, Arc<Work>> {
        let mut underway = self.0.lock();
        match &*underway {
            Some(other) => Err(Arc::clone(other)),
            None => {
                let work = Work { key, stop: Arc::default(), state: Mutex::default() };
                Ok(Arc::clone(underway.insert(Arc::new(work))))
            }
        }
    }

    /// The work is over.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }

    /// Objects are forgotten. `is_in`: whether a collection has a vector of one of them now. Cannot fail.
    pub(crate) fn forget(&self, objects: &HashSet<ObjectId>, is_in: impl FnOnce(&CollectionKey) -> bool) {
        let Some(work) = self.0.lock().clone() else { return };
        let mut state = work.state.lock();
        state.forgotten.extend(objects);
        let is_spoilt = match &state.built {
            Some(built) => built.has_any(objects),
            None => is_in(&work.key),
        };
        if is_spoilt {
            state.is_spoilt = true;
            work.stop.store(true, Ordering::Release);
        }
    }

    /// Deletes the files of an edition that waits and has bytes of what was forgotten; one that is being built goes
    /// when its build ends, which is soon.
    pub(crate) fn delete_spoilt(&self) {
        let Some(work) = self.0.lock().clone() else { return };
        let Some(dir) = work.spoilt() else { return };
        if let Err(cause) = fs::remove_dir_all(&dir) {
            let edition = dir.display();
            tracing::warn!(%edition, %cause, "an edition with rows of what was forgotten was not deleted yet");
        }
    }
}

impl Work {
    /// Something that it has, or may have, was forgotten.
    pub(super) fn is_spoilt(&self) -> bool {
        self.state.lock().is_spoilt
    }

    /// Where it is, once it is built and spoilt, and nobody puts it in force: nobody will.
    fn spoilt(&self) -> Option<PathBuf> {
        let state = self.state.lock();
        let built = state.built.as_ref().filter(|_| state.is_spoilt && !state.is_publishing)?;
        Some(built.dir.clone())
    }

    /// It is built; false when something that it has was forgotten meanwhile.
    pub(super) fn built(&self, dir: PathBuf, objects: Arc<[ObjectId]>) -> bool {
        let mut state = self.state.lock();
        let built = Built { dir, objects };
        state.is_spoilt |= built.has_any(&state.forgotten);
        state.built = Some(built);
        !state.is_spoilt
    }

    /// It is to serve; false when something that it has was forgotten.
    pub(super) fn begin_publishing(&self) -> bool {
        let mut state = self.state.lock();
        state.is_publishing = !state.is_spoilt;
        state.is_publishing
    }

    /// Tells an edition what was forgotten up to now.
    pub(super) fn taint(&self, archived: &mut Archived) {
        archived.forget(&self.state.lock().forgotten);
    }
}

impl Built {
    fn has_any(&self, objects: &HashSet<ObjectId>) -> bool {
        objects.iter().any(|object| self.objects.binary_search(object).is_ok())
    }
}
