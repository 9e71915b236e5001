//! Reading: the indexes of vectors, made of what the database has, with the graphs that were written down and the
//! editions that serve. The database decides what there is; what of a file does not fit is left out.
//! Never here: what is in such files.

use std::collections::HashSet;

use redb::{ReadTransaction, ReadableTable};
use telos_archive::{OpenError, ReadError, ShelfError, Verify};

use crate::archive::{self, Note};
use crate::error::Failure;
use crate::id::{ObjectId, Position};
use crate::json::Json;
use crate::scan::Scan as _;
use crate::segments::SegmentFiles;
use crate::shared::{Collection, Shared, read_collections};
use crate::shelves::Shelves;
use crate::store::StoreOptions;
use crate::tables::{
    self, EDITIONS, GIVEN_UP, META, META_POSITION, META_REDO_FLOOR, OBJECTS, REDO, VECTORS, read_meta,
};
use crate::vectors::{
    Archived, CollectionKey, Head, Layered, NoGraph, Opening, Sealed, VectorIndex as _, VectorSet,
};

/// The indexes of all collections. Cost: one pass over the vectors, and over the files.
pub(crate) fn read_index(
    txn: &ReadTransaction,
    position: Position,
    options: &StoreOptions,
    segments: &SegmentFiles,
    shelves: &Shelves,
) -> Result<VectorSet, Failure> {
    let vectors = txn.open_table(VECTORS)?;
    let mut set = VectorSet::starting_at(position, options.vector_tail_rows_max);
    let heads = segments.read_heads();
    // Rows that are dead for now take room, too.
    let mut room = options.vector_bytes_max.saturating_mul(2);
    for collection in read_collections(txn)? {
        let mut files = files_of(&heads, &collection, options, &mut room);
        let mut has_edition = true;
        let index = loop {
            let sealed = files.iter().filter_map(|file| Some((*file, segments.read_one(*file)?))).collect();
            let archived = if has_edition { read_edition(txn, &collection, shelves)? } else { None };
            let empty = set.empty_index(collection.form);
            match open_index(&vectors, &collection, options, empty, sealed, archived)? {
                Ok(index) if has_edition && has_forgotten(txn, &index)? => {
                    let name = &collection.key.name;
                    tracing::warn!(collection = %name, "an edition has rows of what was forgotten; it is given up");
                    let number = index.archived().map(Archived::number);
                    number.into_iter().for_each(|number| {
                        shelves.note(collection.number, Note::forgotten(number));
                    });
                    has_edition = false;
                }
                Ok(index) => break index,
                Err(NoGraph { file, why }) => {
                    tracing::warn!(file, %why, "a sealed segment is no graph; it is built anew");
                    files.retain(|other| *other != file);
                }
            }
        };
        set.put(collection.key, collection.form, index);
    }
    Ok(set)
}

/// A collection with its index, which has no files, as of a position.
pub(crate) struct ReadIndex {
    pub(crate) collection: Collection,
    pub(crate) index: Layered,
    at: Position,
}

/// A collection as it is now.
pub(crate) fn read_collection_index(shared: &Shared, key: &CollectionKey) -> Result<ReadIndex, Failure> {
    let txn = shared.database.read()?;
    let known = read_collections(&txn)?.into_iter().find(|collection| collection.key == *key);
    let missing =
        || Failure::Row { table: "collections", why: format!("none of {}/{}", key.owner, key.name) };
    let collection = known.ok_or_else(missing)?;
    let vectors = txn.open_table(VECTORS)?;
    let empty = shared.index.read().empty_index(collection.form);
    let index = open_index(&vectors, &collection, &shared.options, empty, Vec::new(), None)?;
    let index = index.map_err(|no| Failure::Row { table: "vectors", why: no.why })?;
    let at = Position::new(read_meta(&txn.open_table(META)?, META_POSITION)?);
    Ok(ReadIndex { collection, index, at })
}

/// The same with what was committed since. Whoever asks sees to it that nothing is meanwhile, and that nothing was
/// forgotten. Cost: a look at each change since, or all of it again after very many.
pub(crate) fn catch_up(shared: &Shared, read: ReadIndex) -> Result<ReadIndex, Failure> {
    let ReadIndex { collection, mut index, at } = read;
    let txn = shared.database.read()?;
    if at.get() < read_meta(&txn.open_table(META)?, META_REDO_FLOOR)? {
        return read_collection_index(shared, &collection.key);
    }
    let (vectors, mut seen) = (txn.open_table(VECTORS)?, HashSet::new());
    for row in txn.open_table(REDO)?.rows_in((at.get() + 1, 0)..=(u64::MAX, u32::MAX))? {
        let (key, value) = row?;
        let (position, (number, object, _)) = (Position::new(key.value().0), value.value());
        // It is now as the last of its changes left it.
        if number != collection.number || !seen.insert(object) {
            continue;
        }
        let object_id = ObjectId::from_bits(object);
        match vectors.get((number, object))? {
            Some(row) => {
                let (added, metadata, bytes) = row.value();
                let components = collection.form.precision.decode(bytes);
                index.upsert(Position::new(added), object_id, &components, &Json::trusted(metadata));
            }
            None => index.remove(position, object_id),
        }
    }
    Ok(ReadIndex { collection, index, at: shared.position() })
}

/// The files whose graphs a collection can have, the newest first. `room`: bytes that those of all collections may still
/// take.
fn files_of(
    heads: &[(u64, Head)],
    collection: &Collection,
    options: &StoreOptions,
    room: &mut u64,
) -> Vec<u64> {
    let Collection { key, form, .. } = collection;
    let of_collection =
        heads.iter().filter(|(_, head)| head.is_of(key, *form, options.vector_engine.version()));
    let fitting = of_collection.filter_map(|(file, head)| {
        *room = room.checked_sub(head.bytes())?;
        Some(*file)
    });
    fitting.collect()
}

/// The edition that serves a collection; none when there is none that can.
fn read_edition(
    txn: &ReadTransaction,
    collection: &Collection,
    shelves: &Shelves,
) -> Result<Option<Archived>, Failure> {
    let editions = txn.open_table(EDITIONS)?;
    let row = editions.get(collection.number)?.map(|row| row.value());
    let Some((number, base)) = row.filter(|(_, base)| *base != GIVEN_UP) else { return Ok(None) };
    let opened = open_edition(shelves, collection, number, base);
    let is_kept = opened.as_ref().is_err_and(Unused::may_be_whole);
    shelves.keep_unopened(collection.number, is_kept.then_some(number));
    if opened.is_ok() {
        shelves.forget_note(collection.number);
    }
    Ok(opened
        .inspect_err(|why| {
            let (owner, name) = (&collection.key.owner, &collection.key.name);
            tracing::warn!(%owner, collection = %name, number, is_kept, %why, "an edition of the archive is not used; its vectors are in memory");
            shelves.note(collection.number, Note::damaged(number, why.to_string()));
        })
        .ok())
}

/// Why an edition that is to serve does not.
#[derive(Debug, thiserror::Error)]
enum Unused {
    #[error("its files are gone")]
    Gone,
    #[error("it is another one than the database knows")]
    Other,
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Unused {
    /// Whether another start, or another version of this host, may be able to read it.
    fn may_be_whole(&self) -> bool {
        match self {
            Unused::Gone | Unused::Other => false,
            Unused::Shelf(ShelfError::Open(OpenError::Format { found, known, .. })) => found > known,
            Unused::Shelf(ShelfError::Open(OpenError::File { cause, .. }))
            | Unused::Shelf(ShelfError::File { cause, .. })
            | Unused::Read(ReadError::File { cause, .. }) => archive::is_passing(cause),
            Unused::Shelf(_) | Unused::Read(_) => false,
        }
    }
}

fn open_edition(
    shelves: &Shelves,
    collection: &Collection,
    number: u64,
    base: u64,
) -> Result<Archived, Unused> {
    let edition = shelves.edition(collection.number, number, Verify::Quick)?.ok_or(Unused::Gone)?;
    let manifest = edition.manifest();
    if (manifest.base, manifest.dim) != (base, collection.form.dim) {
        return Err(Unused::Other);
    }
    Ok(Archived::over(number, edition)?)
}

/// Whether the edition of an index has rows of objects that are not there any more.
fn has_forgotten(txn: &ReadTransaction, index: &Layered) -> Result<bool, Failure> {
    let objects = txn.open_table(OBJECTS)?;
    for object in index.archived().into_iter().flat_map(Archived::uncounted) {
        let object = object.to_bits();
        if objects.rows_in((object, 0)..=(object, u64::MAX))?.next().is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The index of a collection with what was sealed and archived of it; what of the sealed is no graph.
fn open_index(
    vectors: &impl ReadableTable<tables::VectorKey, tables::VectorRow>,
    collection: &Collection,
    options: &StoreOptions,
    empty: Layered,
    sealed: Vec<(u64, Sealed)>,
    mut archived: Option<Archived>,
) -> Result<Result<Layered, NoGraph>, Failure> {
    let mut opening = Opening::new(collection.form, options.vector_engine, empty, sealed);
    for row in vectors.rows_in((collection.number, 0)..=(collection.number, u128::MAX))? {
        let (key, value) = row?;
        let (added, metadata, bytes) = value.value();
        let (object, added) = (ObjectId::from_bits(key.value().1), Position::new(added));
        if archived.as_mut().is_some_and(|archived| archived.count(object, added, metadata)) {
            continue;
        }
        let components = collection.form.precision.decode(bytes);
        opening.offer(added, object, &components, &Json::trusted(metadata));
    }
    Ok(opening.finish().map(|mut index| {
        if let Some(archived) = archived {
            index.rest_on(archived);
        }
        index
    }))
}
