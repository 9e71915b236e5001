//! Archiving: all vectors of a collection move into an edition on disk, and searches go on throughout.
//!
//! ```text
//! read      every vector, some at a time                       nobody waits
//! build     an edition beside; validated                       nobody waits; crash: an orphan, deleted at the next start
//! publish   CURRENT on the shelf                               crash: the edition before serves
//! wait      until no snapshot from before that is open         a minute at most
//! decide    the row that says which edition serves             one small commit
//! switch    the index rests on it and keeps what changed since under the index's lock
//! collect   editions before it                                 when their last reader is gone
//! ```
//! The database keeps every vector: an edition that is lost, damaged, or of another past costs memory and nothing else.
//! Forgetting an object that an edition has rows of gives the edition up.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use telos_archive::{About, Budget, BuildError, ReadError, Row, ShelfError, Verify};

use crate::damage;
use crate::error::{CommitError, Failure, Fault, WriteError};
use crate::id::{ComponentId, Position};
use crate::reading::read_collection_index;
use crate::scan::Scan as _;
use crate::shared::{Collection, Shared, read_collections};
use crate::store::Store;
use crate::tables::VECTORS;
use crate::vectors::{Archived, CollectionForm, CollectionKey, Freed, Metric};

/// Between two looks at open snapshots.
const LOOK: Duration = Duration::from_millis(20);
/// Vectors that are read at once.
const ROWS_AT_ONCE: usize = 1_024;

/// What archiving did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArchiveReport {
    /// The edition that serves now.
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
    /// How long the switch held up searches and commits, in microseconds.
    pub switch_us: u64,
}

/// Why a collection was not archived. What served serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no such collection.
    #[error("{0} has no vector collection {1}")]
    NoSuchCollection(ComponentId, String),
    /// Distances in the archive are of angles.
    #[error("collection {0} is compared by Euclidean distance; only cosine collections can be archived")]
    NotCosine(String),
    /// It has no vectors.
    #[error("collection {0} has no vectors to archive")]
    Empty(String),
    /// Another edition is being built.
    #[error("another collection is being archived; try again when that is done")]
    Busy,
    /// The store is in memory.
    #[error("a store in memory has no archive")]
    InMemory,
    /// It was told to stop.
    #[error("archiving was stopped; what served serves")]
    Stopped,
    /// The edition was not built, or is not good enough.
    #[error("no edition was built: {0}")]
    Build(#[source] BuildError),
    /// The shelf failed.
    #[error("the archive failed: {0}")]
    Shelf(#[from] ShelfError),
    /// The edition cannot be read.
    #[error("the new edition cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The unit was too large.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Vectors could not be read.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The switch was not decided.
    #[error("the new edition was not put in force: {0}")]
    Commit(#[from] CommitError),
}

/// One edition, as verification found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EditionCheck {
    /// The component whose collection it is of.
    pub owner: ComponentId,
    /// The collection.
    pub collection: String,
    /// Its number.
    pub edition: u64,
    /// What is wrong; none when every byte is as it was written.
    pub problem: Option<String>,
}

/// An edition that waits for the commit that puts it in force.
pub(crate) struct Publication {
    pub(crate) key: CollectionKey,
    pub(crate) collection: u32,
    pub(crate) number: u64,
    pub(crate) base: Position,
    /// No snapshot from before it is open.
    floor: Position,
    archived: Mutex<Option<Archived>>,
    /// What it took the place of, and how long that took.
    replaced: Mutex<Option<(Option<Freed>, Duration)>>,
}

impl ArchiveError {
    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        match self {
            ArchiveError::NoSuchCollection(..)
            | ArchiveError::NotCosine(_)
            | ArchiveError::Empty(_)
            | ArchiveError::Busy
            | ArchiveError::InMemory
            | ArchiveError::Stopped => Fault::Operator,
            _ => Fault::Host,
        }
    }
}

impl Store {
    /// Moves all vectors of a collection into a new edition of the archive: searches then read most of them from disk.
    /// Answers once it serves. Cost: about 0.4 ms of one processor for each vector of 128 components; three times their
    /// bytes on disk meanwhile, and memory as `budget` allows.
    ///
    /// # Errors
    /// [`ArchiveError`]; what served goes on.
    pub fn archive(
        &self,
        owner: &ComponentId,
        collection: &str,
        budget: &Budget,
        is_stopping: &AtomicBool,
        progress: &dyn Fn(telos_archive::Progress),
    ) -> Result<ArchiveReport, ArchiveError> {
        let shared = self.shared();
        let _alone = shared.shelves.building.try_lock().ok_or(ArchiveError::Busy)?;
        let collection = find(shared, owner, collection)?;
        let shelf = shared.shelves.shelf(collection.number)?.ok_or(ArchiveError::InMemory)?;
        let began = Instant::now();
        let place = shelf.next()?;
        let base = shared.position();
        let mut rows = Rows::of(shared, &collection).peekable();
        if rows.peek().is_none() {
            return Err(ArchiveError::Empty(collection.key.name.as_str().into()));
        }
        let about = About::new(collection.form.dim, base.get());
        let manifest = telos_archive::build(place.path(), &about, rows, budget, is_stopping, progress)
            .map_err(|cause| match cause {
                BuildError::Stopped => ArchiveError::Stopped,
                cause => ArchiveError::Build(cause),
            })?;
        let build_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let edition = shelf.edition(place.number(), Verify::Quick)?;
        let archived = Archived::over(place.number(), edition)?;
        let bytes = archived.memory();
        shelf.publish(place.number())?;
        fail::fail_point!("store::edition-published");
        // Every vector in it was added by then.
        let floor = shared.position();
        await_snapshots(shared, floor, is_stopping)?;
        let publication = Arc::new(Publication {
            key: collection.key.clone(),
            collection: collection.number,
            number: place.number(),
            base,
            floor,
            archived: Mutex::new(Some(archived)),
            replaced: Mutex::default(),
        });
        self.put_in_force(&publication)?;
        let (freed, switch) = publication.replaced.lock().take().unwrap_or_default();
        drop(freed);
        fail::fail_point!("store::edition-in-force");
        shared.shelves.collect(collection.number, Some(place.number()));
        Ok(ArchiveReport {
            edition: place.number(),
            base,
            rows: manifest.rows,
            recall: manifest.recall.at_10,
            bytes,
            build_ms,
            switch_us: u64::try_from(switch.as_micros()).unwrap_or(u64::MAX),
        })
    }

    /// Reads every byte of every edition that serves.
    pub fn verify_archive(&self) -> Vec<EditionCheck> {
        let shared = self.shared();
        let read = || -> Result<_, Failure> { read_collections(&shared.database.read()?) };
        let collections = damage::guard(read).unwrap_or_default();
        let check = |collection: &Collection| {
            let number = shared.index.read().edition(&collection.key)?;
            let found = shared.shelves.edition(collection.number, number, Verify::Full);
            let problem = match found {
                Ok(Some(_)) => None,
                Ok(None) => Some("its files are gone; archive the collection again".to_owned()),
                Err(cause) => Some(cause.to_string()),
            };
            let (owner, collection) = (collection.key.owner.clone(), collection.key.name.as_str().to_owned());
            Some(EditionCheck { owner, collection, edition: number, problem })
        };
        collections.iter().filter_map(check).collect()
    }

    fn put_in_force(&self, publication: &Arc<Publication>) -> Result<(), ArchiveError> {
        let mut unit = self.begin();
        unit.publish(Arc::clone(publication))?;
        let key = &publication.key;
        let subject = format!("{}/{}", key.owner, key.name);
        let detail = json!({ "edition": publication.number, "base": publication.base });
        unit.audit("memory.archived", &subject, detail)?;
        let decided = self.decide(unit, crate::Vote::default()).wait()?;
        debug_assert!(decided.position > publication.base);
        Ok(())
    }
}

impl Publication {
    /// The commit is durable. Cannot fail.
    pub(crate) fn switch(&self, shared: &Shared) {
        let Some(archived) = self.archived.lock().take() else { return };
        let began = Instant::now();
        let freed = shared.index.write().publish(&self.key, archived, self.floor);
        *self.replaced.lock() = Some((freed, began.elapsed()));
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("key", &self.key)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Gives up editions that have rows of objects that were forgotten: their collections are read anew, and the files go.
/// Commits wait meanwhile; snapshots from before are too old to search.
pub(crate) fn leave_tainted(shared: &Shared) {
    loop {
        let Some((key, number)) = shared.index.read().tainted().into_iter().next() else { return };
        let turn = shared.turn.lock();
        let read = damage::guard(|| read_collection_index(shared, &key));
        let (collection, index) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(failure) => {
                tracing::error!(%failure, number, "an edition still has rows of what was forgotten; the next start gives it up");
                return shared.report(&failure);
            }
        };
        let at = shared.position();
        let before = shared.index.write().replace(&key, collection.form, index, at);
        drop(turn);
        drop(before);
        if let Err(cause) = shared.shelves.delete(collection.number) {
            tracing::error!(%cause, number, "an edition with rows of what was forgotten was not deleted");
        }
    }
}

fn find(shared: &Shared, owner: &ComponentId, name: &str) -> Result<Collection, ArchiveError> {
    let read = || -> Result<_, Failure> { read_collections(&shared.database.read()?) };
    let collections = damage::guard(read)?;
    let is_it =
        |collection: &Collection| collection.key.owner == *owner && collection.key.name.as_str() == name;
    let found = collections.into_iter().find(is_it);
    let found = found.ok_or_else(|| ArchiveError::NoSuchCollection(owner.clone(), name.into()))?;
    match found.form.metric {
        Metric::Cosine => Ok(found),
        Metric::Euclidean => Err(ArchiveError::NotCosine(name.into())),
    }
}

/// The vectors of a collection, in the order of objects, read some at a time: one that changes meanwhile is as it was
/// before or after.
struct Rows<'a> {
    shared: &'a Shared,
    collection: u32,
    form: CollectionForm,
    read: VecDeque<Row>,
    /// Where to read on; none at the end.
    from: Option<u128>,
}

impl<'a> Rows<'a> {
    fn of(shared: &'a Shared, collection: &Collection) -> Rows<'a> {
        let (collection, form) = (collection.number, collection.form);
        Rows { shared, collection, form, read: VecDeque::new(), from: Some(0) }
    }

    fn read_on(&mut self, from: u128) -> Result<(), Failure> {
        let range = (self.collection, from)..=(self.collection, u128::MAX);
        let rows = self.shared.read(VECTORS, |vectors| {
            let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
            for row in vectors.rows_in(range.clone())?.take(ROWS_AT_ONCE) {
                let (key, value) = row?;
                let (added, metadata, bytes) = value.value();
                let direction = self.form.place_or_zeros(&self.form.precision.decode(bytes));
                rows.push(Row { object: key.value().1, added, metadata: metadata.to_owned(), direction });
            }
            Ok(rows)
        })?;
        let last = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE);
        self.from = last.and_then(|last| last.object.checked_add(1));
        self.read = rows.into();
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Box<dyn std::error::Error + Send + Sync>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let (true, Some(from)) = (self.read.is_empty(), self.from)
            && let Err(failure) = self.read_on(from)
        {
            self.from = None;
            return Some(Err(failure.into()));
        }
        self.read.pop_front().map(Ok)
    }
}

/// Waits until every snapshot that may be searched is at or after a position.
fn await_snapshots(shared: &Shared, base: Position, is_stopping: &AtomicBool) -> Result<(), ArchiveError> {
    while shared.pins.oldest(&shared.decided, Instant::now()) < base {
        if is_stopping.load(Ordering::Acquire) {
            return Err(ArchiveError::Stopped);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
