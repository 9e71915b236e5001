//! What the handle, the units and the committer share: the database and the memory that follows it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, RwLock};
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, Value};

use crate::blob::Blobs;
use crate::commit::Job;
use crate::curator::Curator;
use crate::damage;
use crate::database::Database;
use crate::error::{Failure, Overflow, ReadError};
use crate::generation::Generations;
use crate::history::Past;
use crate::id::{ComponentId, ObjectName, Position, PostId};
use crate::limit;
use crate::lock::DirectoryLock;
use crate::mark::Mark;
use crate::order::Order;
use crate::outbox::{Outbox, OutboxChange, OutboxRow};
use crate::pages::StartLook;
use crate::pin::Pins;
use crate::reading::read_index;
use crate::scan::Scan as _;
use crate::segments::SegmentFiles;
use crate::shelves::Shelves;
use crate::standing::{PagesStanding, Stand};
use crate::store::StoreOptions;
use crate::stored::StoredBytes;
use crate::tables::{
    self, COLLECTIONS, FORMS, GENERATIONS, META, META_HISTORY_FLOOR, META_POSITION, OBJECTS, OUTBOX,
    ObjectKey, REDO,
};
use crate::vectors::{CollectionForm, CollectionKey, VectorSet};

pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) blobs: Blobs,
    pub(crate) options: StoreOptions,
    pub(crate) index: RwLock<VectorSet>,
    pub(crate) segments: SegmentFiles,
    pub(crate) shelves: Shelves,
    pub(crate) curator: Curator,
    pub(crate) start_look: StartLook,
    pub(crate) outbox: Mutex<Outbox>,
    /// Only the committer changes it, before the raise's position becomes visible.
    pub(crate) generations: RwLock<Arc<Generations>>,
    pub(crate) pins: Arc<Pins>,
    /// The newest position that is durable and applied to the memory here. Only the committer moves it.
    pub(crate) decided: AtomicU64,
    /// Held to read by whoever votes, to write by a unit that must be alone. Taken before the order.
    pub(crate) votes: RwLock<()>,
    /// What was voted for and is not yet durable. Taken before the locks below.
    pub(crate) order: RwLock<Order>,
    /// The newest position that units may begin on; at or above `decided`. Moves under the order's lock.
    pub(crate) voted: AtomicU64,
    pub(crate) past: Past,
    /// Redo rows kept; only the committer uses it.
    pub(crate) redo_rows: AtomicU64,
    /// Where the store is.
    pub(crate) dir: Arc<Path>,
    pub(crate) stand: Stand,
    /// Whether a look found damaged pages, also before this opening.
    pub(crate) mark: Mark,
    /// Whoever holds this knows that no unit is between its vote and its durable commit. The committer holds it for
    /// every group; a rewrite and each step of a collection hold it instead of it.
    pub(crate) turn: Mutex<()>,
    /// Shared by whoever reads the whole store over one long snapshot, exclusive for whoever replaces its file or
    /// deletes blobs. Taken before `turn`.
    pub(crate) whole: RwLock<()>,
    /// The committer's queue; gone when the last handle is dropped.
    pub(crate) queue: Mutex<Option<Sender<Job>>>,
    /// A request to reopen is in the queue; one is enough.
    pub(crate) is_reopen_asked: AtomicBool,
    pub(crate) _lock: Option<DirectoryLock>,
}

/// The memory that follows the database, read from it.
pub(crate) struct Loaded {
    pub(crate) position: Position,
    pub(crate) index: VectorSet,
    pub(crate) outbox: Outbox,
    pub(crate) stored: StoredBytes,
    pub(crate) generations: Arc<Generations>,
    pub(crate) redo_rows: u64,
    pub(crate) floor: Position,
}

impl Shared {
    pub(crate) fn position(&self) -> Position {
        Position::new(self.decided.load(Ordering::Acquire))
    }

    /// One short read of one table; done again when the handle was replaced by a new one meanwhile.
    pub(crate) fn read<K: Key + 'static, V: Value + 'static, T>(
        &self,
        definition: TableDefinition<'_, K, V>,
        read: impl Fn(&ReadOnlyTable<K, V>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.read_rows(|txn| read(&txn.open_table(definition)?))
    }

    /// One short read of several tables, all as of one commit.
    pub(crate) fn read_rows<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _steady = self.database.steady();
        let attempt = || damage::guard(|| self.database.read().and_then(|txn| read(&txn)));
        let answer = match attempt() {
            Err(failure) if failure.is_closed() => attempt(),
            answer => answer,
        };
        answer.inspect_err(|failure| self.report(failure))
    }

    /// One short read of what one table said as of a position. The floor is looked at afterwards: it is raised before
    /// anything is pruned, so whoever read what was pruned meanwhile is refused.
    pub(crate) fn read_at<K: Key + 'static, V: Value + 'static, T>(
        &self,
        definition: TableDefinition<'_, K, V>,
        at: Position,
        read: impl Fn(&ReadOnlyTable<K, V>) -> Result<T, Failure>,
    ) -> Result<T, ReadError> {
        let answer = self.read(definition, read)?;
        self.past.check(at)?;
        Ok(answer)
    }

    /// Remembers damage that a reader met, and asks the committer to reopen a database whose handle failed meanwhile;
    /// writes notice by themselves.
    pub(crate) fn report(&self, failure: &Failure) {
        if failure.is_damage() {
            self.stand.note_damage(&failure.to_string());
        }
        self.suspect(failure);
    }

    /// The store stands as its mark says.
    pub(crate) fn heed_mark(&self) {
        if let Err(failure) = self.mark.check() {
            // Whoever sees that pages are damaged sees what.
            self.stand.note_damage(&failure.to_string());
            self.stand.note_pages(PagesStanding::Damaged);
        }
    }

    /// Asks the committer to look whether the handle works, after something failed that may not be the file's fault.
    pub(crate) fn suspect(&self, failure: &Failure) {
        if !matches!(failure, Failure::Storage(_) | Failure::Damaged { .. }) {
            return;
        }
        if self.is_reopen_asked.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(queue) = self.queue.lock().as_ref() {
            // A committer that is gone reopens nothing.
            let _ = queue.send(Job::Reopen(failure.clone()));
        }
    }

    /// Replaces the memory that follows the database.
    pub(crate) fn install(&self, mut loaded: Loaded) {
        let mut order = self.order.write();
        order.begin_at(loaded.position);
        order.set_generations(Arc::clone(&loaded.generations));
        order.set_room(loaded.index.room());
        order.stored = loaded.stored;
        let mut index = self.index.write();
        loaded.index.inherit(&mut index);
        // Some may have been deleted since they were read.
        self.segments.suspect();
        self.shelves.suspect();
        let before = std::mem::replace(&mut *index, loaded.index);
        drop(index);
        drop(before);
        *self.outbox.lock() = loaded.outbox;
        *self.generations.write() = loaded.generations;
        self.redo_rows.store(loaded.redo_rows, Ordering::Release);
        self.past.raise(loaded.floor);
        self.decided.store(loaded.position.get(), Ordering::Release);
        self.voted.store(loaded.position.get(), Ordering::Release);
    }
}

impl Drop for Shared {
    /// A file that is damaged, or was not looked at to the end, is left as by a crash: the next start looks at it.
    fn drop(&mut self) {
        let standing = self.stand.now();
        let is_open = matches!(standing.pages, PagesStanding::Unchecked | PagesStanding::Unfinished);
        if standing.damage.is_some() || is_open {
            self.database.give_up();
        }
    }
}

impl Loaded {
    /// Reads everything that is kept in memory. Cost: one pass over vectors and pending posts.
    pub(crate) fn read(
        database: &Database,
        options: &StoreOptions,
        segments: &SegmentFiles,
        shelves: &Shelves,
    ) -> Result<Loaded, Failure> {
        let txn = database.read()?;
        let meta = txn.open_table(META)?;
        let position = read_position(&meta)?;
        let floor = Position::new(tables::read_meta(&meta, META_HISTORY_FLOOR)?);
        let index = read_index(&txn, position, options, segments, shelves)?;
        let outbox = read_outbox(&txn.open_table(OUTBOX)?, &txn.open_table(OBJECTS)?)?;
        let generations = Arc::new(Generations::read(&txn.open_table(GENERATIONS)?)?);
        let redo = txn.open_table(REDO)?;
        let redo_rows = redb::ReadableTableMetadata::len(&redo)?;
        let stored = StoredBytes::read(&meta)?;
        Ok(Loaded { position, index, outbox, stored, generations, redo_rows, floor })
    }
}

/// The newest decided position. Positions are counted from 1, so one of 63 bits was never given.
fn read_position(meta: &impl ReadableTable<&'static str, u64>) -> Result<Position, Failure> {
    let position = tables::read_meta(meta, META_POSITION)?;
    if position > u64::MAX / 2 {
        return Err(Failure::Row { table: "meta", why: format!("position {position}") });
    }
    Ok(Position::new(position))
}

/// One collection as its row has it.
pub(crate) struct Collection {
    pub(crate) key: CollectionKey,
    pub(crate) number: u32,
    pub(crate) form: CollectionForm,
}

/// Every collection, of any layout. One that cannot have been written is refused: its index would be filled up to its
/// dimension.
pub(crate) fn read_collections(txn: &ReadTransaction) -> Result<Vec<Collection>, Failure> {
    let forms = match txn.open_table(FORMS) {
        Ok(forms) => Some(forms),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(failed) => return Err(failed.into()),
    };
    let collections = txn.open_table(COLLECTIONS)?;
    let rows = collections.rows()?;
    rows.map(|row| {
        let (key, value) = row?;
        let ((owner, name), (number, dim)) = (key.value(), value.value());
        Overflow::check("components", dim as usize, limit::VECTOR_DIM_MAX)
            .map_err(|why| Failure::Row { table: "collections", why: why.to_string() })?;
        if dim == 0 {
            return Err(Failure::Row { table: "collections", why: "a dimension of 0".into() });
        }
        let key = CollectionKey { owner: ComponentId::trusted(owner), name: ObjectName::trusted(name) };
        let form = match &forms {
            Some(forms) => tables::read_form(forms, number, dim as usize)?,
            None => CollectionForm::of_first(dim as usize),
        };
        Ok(Collection { key, number, form })
    })
    .collect()
}

fn read_outbox(
    outbox: &impl ReadableTable<tables::PostKey, &'static [u8]>,
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
) -> Result<Outbox, Failure> {
    let (mut mirror, mut owners) = (Outbox::default(), HashMap::new());
    for row in outbox.rows()? {
        let (key, value) = row?;
        let (position, index) = key.value();
        let row: OutboxRow = tables::decode("outbox", value.value())?;
        let id = PostId { position: Position::new(position), index };
        let lane = (row.post.source, row.post.target);
        let owner = match owners.entry(row.post.source) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(tables::read_owner(objects, row.post.source)?),
        };
        let owner = owner.clone();
        mirror.apply(&OutboxChange::Add { id, lane, not_before_ms: row.not_before_ms, owner });
    }
    Ok(mirror)
}
