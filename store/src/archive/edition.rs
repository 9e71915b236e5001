//! An edition from its beginning to its end: built, validated, put in force, or deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use telos_archive::{About, Budget, BuildError, Place, Shelf, Verify};

use crate::curator;
use crate::error::Effect;
use crate::id::Position;
use crate::shared::Collection;
use crate::store::Store;
use crate::tables::{EDITIONS, META, META_POSITION, read_meta};
use crate::vectors::Archived;

use super::ArchiveReport;
use super::error::ArchiveError;
use super::leaving::leave;
use super::publication::Publication;
use super::rows::Rows;
use super::work::Work;

/// Between two looks at open snapshots.
const LOOK: Duration = Duration::from_millis(20);

/// A collection whose vectors are to be moved into an edition. Nobody else begins one while this lives.
pub struct ArchiveWork {
    claim: Claim,
    shelf: Arc<Shelf>,
    place: Place,
    base: Position,
}

/// An edition that was built and does not serve. Dropping it deletes it.
pub struct BuiltEdition {
    archived: Archived,
    about: BuiltAbout,
    /// Nothing in it is of a later commit.
    floor: Position,
    // Dropped after what reads the files, and before the claim on them.
    place: Place,
    shelf: Arc<Shelf>,
    claim: Claim,
}

/// What an edition that was built is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BuiltAbout {
    /// Its number; numbers of a collection ascend.
    pub edition: u64,
    /// The newest commit when it was begun: it holds the vectors of then, or of some later commit.
    pub base: Position,
    /// Vectors in it.
    pub rows: u32,
    /// How many of the ten nearest it finds, as measured on a sample.
    pub recall: f64,
    /// Bytes in memory for it.
    pub bytes: usize,
    /// How long it was built, in milliseconds.
    pub build_ms: u64,
}

/// The store's one edition on its way. Dropped last: then another may be begun.
struct Claim {
    store: Store,
    collection: Collection,
    work: Arc<Work>,
    /// Its files are kept.
    is_kept: bool,
}

impl ArchiveWork {
    pub(super) fn begin(store: &Store, collection: Collection) -> Result<ArchiveWork, ArchiveError> {
        let shared = store.shared();
        let work = shared.shelves.underway.begin(collection.key.clone()).map_err(|other| {
            ArchiveError::Busy(other.key.owner.clone(), other.key.name.as_str().to_owned())
        })?;
        let claim = Claim { store: store.clone(), collection, work, is_kept: false };
        if Rows::of(shared, &claim.collection).next().is_none() {
            return Err(ArchiveError::Empty(claim.collection.key.name.as_str().into()));
        }
        let shelf = shared.shelves.shelf(claim.collection.number)?.ok_or(ArchiveError::InMemory)?;
        let named = shared.read(EDITIONS, |editions| {
            Ok(editions.get(claim.collection.number)?.map_or(0, |row| row.value().0))
        })?;
        let place = shelf.next_after(named)?;
        Ok(ArchiveWork { claim, shelf, place, base: shared.position() })
    }

    /// What ends the build soon once it is set.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.claim.work.stop)
    }

    /// Builds the edition from the vectors that there are. Cost: about 1.4 ms of one processor for each vector of 128
    /// components; up to three times their bytes on disk meanwhile, and memory as `budget` allows.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was built is deleted.
    pub fn build(
        self,
        budget: &Budget,
        progress: &dyn Fn(telos_archive::Progress),
    ) -> Result<BuiltEdition, ArchiveError> {
        let ArchiveWork { claim, shelf, place, base } = self;
        let began = Instant::now();
        let shared = claim.store.shared();
        let mut rows = Rows::of(shared, &claim.collection).peekable();
        if rows.peek().is_none() {
            return Err(ArchiveError::Empty(claim.collection.key.name.as_str().into()));
        }
        let about = About::new(claim.collection.form.dim, base.get());
        let built = telos_archive::build(place.path(), &about, rows, budget, &claim.work.stop, progress);
        let manifest = built.map_err(|cause| claim.why_not(cause))?;
        let build_ms = millis(began.elapsed());
        let floor = shared.read(META, |meta| Ok(Position::new(read_meta(meta, META_POSITION)?)))?;
        let archived = Archived::over(place.number(), shelf.edition(place.number(), Verify::Quick)?)?;
        if !claim.work.built(place.path().to_owned(), archived.objects()) {
            return Err(ArchiveError::Forgotten);
        }
        let about = BuiltAbout {
            edition: place.number(),
            base,
            rows: manifest.rows,
            recall: manifest.recall.at_10,
            // No row counts yet, and all that are as they were will.
            bytes: archived.memory_of_counted(),
            build_ms,
        };
        Ok(BuiltEdition { archived, about, floor, place, shelf, claim })
    }
}

impl BuiltEdition {
    /// What it is.
    pub fn about(&self) -> BuiltAbout {
        self.about
    }

    /// Whether it can serve no more, since an object was forgotten that it has a vector of. Then it is to be dropped.
    pub fn is_spoilt(&self) -> bool {
        self.claim.work.is_spoilt()
    }

    /// Reads every byte of it.
    ///
    /// # Errors
    /// [`ArchiveError::Shelf`] when one is not as it was written, [`ArchiveError::Forgotten`].
    pub fn validate(&self) -> Result<BuiltAbout, ArchiveError> {
        let read = self.shelf.edition(self.about.edition, Verify::Full);
        if self.is_spoilt() {
            return Err(ArchiveError::Forgotten);
        }
        read?;
        Ok(self.about)
    }

    /// Lets it serve: searches read it from here on, and the edition before goes. Blocks until no snapshot from before
    /// its newest vector is open, a minute at most, or its stop is set.
    ///
    /// # Errors
    /// [`ArchiveError`]; what served serves, and this is deleted.
    pub fn publish(self) -> Result<ArchiveReport, ArchiveError> {
        // The last one is dropped first: the claim on the files goes when nobody reads them.
        let BuiltEdition { mut claim, shelf: _shelf, place, about, floor, archived } = self;
        if !claim.work.begin_publishing() {
            return Err(ArchiveError::Forgotten);
        }
        fail::fail_point!("store::edition-waits");
        claim.await_snapshots(floor)?;
        let of = (about.edition, about.base);
        let switch = claim.put_in_force(Publication::new(
            (claim.collection.number, claim.collection.key.clone()),
            of,
            floor,
            archived,
            Arc::clone(&claim.work),
        ))?;
        fail::fail_point!("store::edition-in-force");
        drop(place);
        if !claim.tidy(about.edition) {
            return Err(ArchiveError::Forgotten);
        }
        let switch_us = u64::try_from(switch.as_micros()).unwrap_or(u64::MAX);
        Ok(ArchiveReport { about, switch_us })
    }
}

impl Claim {
    fn why_not(&self, cause: BuildError) -> ArchiveError {
        match cause {
            BuildError::Stopped if self.work.is_spoilt() => ArchiveError::Forgotten,
            BuildError::Stopped => ArchiveError::Stopped,
            cause => ArchiveError::Build(cause),
        }
    }

    /// Waits until every snapshot that may be searched is at or after a position.
    fn await_snapshots(&self, floor: Position) -> Result<(), ArchiveError> {
        let shared = self.store.shared();
        while shared.pins.oldest(&shared.decided, Instant::now()) < floor {
            if self.work.stop.load(Ordering::Acquire) {
                return Err(self.why_not(BuildError::Stopped));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Decides that it serves; answers how long the switch took.
    fn put_in_force(&mut self, publication: Publication) -> Result<Duration, ArchiveError> {
        let publication = Arc::new(publication);
        let decided = decide(&self.store, &publication);
        // Where nobody knows, its files are seen to when the store is open again.
        self.is_kept = match &decided {
            Err(ArchiveError::Commit(cause)) => cause.effect() != Effect::None,
            decided => decided.is_ok(),
        };
        let (freed, switch) = publication.end();
        drop(freed);
        decided.map(|()| switch)
    }

    /// Sees to what the switch left; false when it was given up since.
    fn tidy(&self, edition: u64) -> bool {
        let shared = self.store.shared();
        leave(shared);
        self.collect();
        shared.segments.suspect();
        curator::wake(shared);
        shared.index.read().edition(&self.collection.key) == Some(edition)
    }

    fn collect(&self) {
        let Collection { key, number, .. } = &self.collection;
        let shared = self.store.shared();
        shared.shelves.collect(*number, || shared.index.read().edition(key));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_kept {
            self.collect();
        }
        self.store.shared().shelves.underway.end();
    }
}

impl std::fmt::Debug for ArchiveWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWork").field("base", &self.base).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BuiltEdition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltEdition").field("about", &self.about).finish_non_exhaustive()
    }
}

fn decide(store: &Store, publication: &Arc<Publication>) -> Result<(), ArchiveError> {
    let mut unit = store.begin();
    unit.publish(Arc::clone(publication))?;
    let key = &publication.key;
    let subject = format!("{}/{}", key.owner, key.name);
    let detail = json!({ "edition": publication.number, "base": publication.base });
    unit.audit("memory.archived", &subject, detail)?;
    let decided = store.decide(unit, crate::Vote::default()).wait()?;
    debug_assert!(decided.position > publication.base);
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
