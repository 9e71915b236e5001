//! Every table, key and value layout of the database, in one place. This is layout generation 4; `layout` raises older ones.
//!
//! ```text
//! table         key                                value
//! meta          name                               u64: layout, position, objects, audit, redo_floor, stored/COMPONENT, ...
//! objects       (object, position)                 postcard ObjectRow: the state that this commit made
//! names         (name, position)                   the object from here on; none: unbound from here on
//! names_of      (object, name, position)           whether the name is the object's from here on
//! collections   (owner, collection)                (collection number, dimension)
//! forms         collection number                  (metric, precision): of those that were declared; else cosine, full
//! editions      collection number                  (number, base position) of the archive's edition that serves it
//! vectors       (collection number, object)        (position, metadata JSON, f32 or f16 little endian): the newest only
//! redo          (position, index)                  (collection number, object, whether it was added)
//! outbox        (position, index)                  postcard OutboxRow
//! dead_letters  (position, index)                  postcard DeadLetter
//! sessions      (client, incarnation)              (acknowledged through, last use in Unix ms, dedupe rows)
//! dedupe        (client, incarnation, number)      (position, outcome)
//! audit         number                             JSON AuditRow
//! releases      (component, digest)                JSON ReleaseRecord
//! seats         component                          JSON SeatRecord
//! grants        (component, interface)             JSON GrantRecord
//! consumed      (path, digest)                     Unix ms: the last one of each path
//! owned         (owner, object)                    the objects whose newest state has this owner
//! moments       position                           Unix ms: one or two a minute, and the newest group
//! changes       (position, object)                 the position of the state that it replaced; 0: a new object
//! renames       (position, name)                   the position of the row that it replaced
//! blobs         digest                             rows that name the blob, at least 1
//! generations   (component, position)              JSON GenerationRecord: in force from here on
//! shadows       (object, generation)               (position of the state it was made from, postcard ObjectRow)
//! ```
//!
//! Rows keyed by position are never changed: the newest row at or below P is the state as of P, one range query.
//! `changes` and `renames` list in order what ended where, so pruning costs what it prunes: an entry goes when its
//! position is at or below the history floor, with the row that ended there. Only forgetting an object breaks the rule.
//! postcard rows name no fields, so a change of their shape is a new layout generation.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::{Key, ReadableDatabase, ReadableTable, Table, TableDefinition, Value, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::damage;
use crate::error::Failure;
use crate::id::{ComponentId, ObjectId, ObjectName, Position, PostId, Revision};
use crate::json::Json;
use crate::limit;
use crate::object::{MethodSlot, Object, Slot};
use crate::outbox::OutboxRow;
use crate::scan::Scan as _;
use crate::session::{DedupeKey, SessionId, SessionRow};
use crate::stored::Grown;
use crate::vectors::{CollectionForm, CollectionKey, Metric, Precision};

/// The layout that this code writes, and the newest that it reads.
pub(crate) const LAYOUT: u64 = 4;

pub(crate) const META_LAYOUT: &str = "layout";
pub(crate) const META_POSITION: &str = "position";
pub(crate) const META_OBJECTS: &str = "objects";
pub(crate) const META_AUDIT: &str = "audit";
pub(crate) const META_REDO_FLOOR: &str = "redo_floor";
/// States that ended at or before this position may be gone.
pub(crate) const META_HISTORY_FLOOR: &str = "history_floor";
/// Object rows ever written; with the rows kept, how many were pruned or forgotten.
pub(crate) const META_OBJECT_ROWS: &str = "object_rows";
/// The newest commit that forgot objects since the file was last rewritten: free pages may still hold their bytes. 0: none.
pub(crate) const META_REWRITE_DUE: &str = "rewrite_due";
/// The two halves of the store's identity.
pub(crate) const META_STORE_HIGH: &str = "store_high";
pub(crate) const META_STORE_LOW: &str = "store_low";

pub(crate) type ObjectKey = (u128, u64);
pub(crate) type NameKey = (&'static str, u64);
pub(crate) type PostKey = (u64, u32);
/// In the place of an edition's base: it was given up, and numbers go on from its own.
pub(crate) const GIVEN_UP: u64 = 0;

pub(crate) type VectorKey = (u32, u128);
pub(crate) type VectorRow = (u64, &'static str, &'static [u8]);
pub(crate) type DedupeRowKey = (u128, u64, u64);
/// Object and generation.
pub(crate) type ShadowKey = (u128, u32);
/// The position of the state that it was made from, and the evolved state.
pub(crate) type ShadowRow = (u64, &'static [u8]);
pub(crate) type DigestKey = (&'static str, &'static [u8; 32]);

pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const OBJECTS: TableDefinition<ObjectKey, &[u8]> = TableDefinition::new("objects");
pub(crate) const NAMES: TableDefinition<NameKey, Option<u128>> = TableDefinition::new("names");
pub(crate) const NAMES_OF: TableDefinition<(u128, &str, u64), bool> = TableDefinition::new("names_of");
pub(crate) const COLLECTIONS: TableDefinition<(&str, &str), (u32, u32)> = TableDefinition::new("collections");
pub(crate) const FORMS: TableDefinition<u32, (u8, u8)> = TableDefinition::new("forms");
pub(crate) const EDITIONS: TableDefinition<u32, (u64, u64)> = TableDefinition::new("editions");
pub(crate) const VECTORS: TableDefinition<VectorKey, VectorRow> = TableDefinition::new("vectors");
pub(crate) const REDO: TableDefinition<PostKey, (u32, u128, bool)> = TableDefinition::new("redo");
pub(crate) const OUTBOX: TableDefinition<PostKey, &[u8]> = TableDefinition::new("outbox");
pub(crate) const DEAD_LETTERS: TableDefinition<PostKey, &[u8]> = TableDefinition::new("dead_letters");
pub(crate) const SESSIONS: TableDefinition<(u128, u64), (u64, u64, u32)> = TableDefinition::new("sessions");
pub(crate) const DEDUPE: TableDefinition<DedupeRowKey, (u64, &[u8])> = TableDefinition::new("dedupe");
pub(crate) const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
pub(crate) const RELEASES: TableDefinition<DigestKey, &[u8]> = TableDefinition::new("releases");
pub(crate) const SEATS: TableDefinition<&str, &[u8]> = TableDefinition::new("seats");
pub(crate) const GRANTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("grants");
pub(crate) const CONSUMED: TableDefinition<DigestKey, u64> = TableDefinition::new("consumed");
pub(crate) const OWNED: TableDefinition<(&str, u128), ()> = TableDefinition::new("owned");
pub(crate) const MOMENTS: TableDefinition<u64, u64> = TableDefinition::new("moments");
pub(crate) const CHANGES: TableDefinition<(u64, u128), u64> = TableDefinition::new("changes");
pub(crate) const RENAMES: TableDefinition<(u64, &str), u64> = TableDefinition::new("renames");
pub(crate) const BLOBS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("blobs");
pub(crate) const GENERATIONS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("generations");
pub(crate) const SHADOWS: TableDefinition<ShadowKey, ShadowRow> = TableDefinition::new("shadows");

/// All tables of one write transaction. Opening one, and closing it with the commit, costs as much as writing a row or
/// two, and most groups touch a few of them: each is opened when it is first needed.
pub(crate) struct Tables<'txn> {
    pub(crate) meta: OnDemand<'txn, &'static str, u64>,
    pub(crate) objects: OnDemand<'txn, ObjectKey, &'static [u8]>,
    pub(crate) names: OnDemand<'txn, NameKey, Option<u128>>,
    pub(crate) names_of: OnDemand<'txn, (u128, &'static str, u64), bool>,
    pub(crate) collections: OnDemand<'txn, (&'static str, &'static str), (u32, u32)>,
    pub(crate) forms: OnDemand<'txn, u32, (u8, u8)>,
    pub(crate) editions: OnDemand<'txn, u32, (u64, u64)>,
    pub(crate) vectors: OnDemand<'txn, VectorKey, VectorRow>,
    pub(crate) redo: OnDemand<'txn, PostKey, (u32, u128, bool)>,
    pub(crate) outbox: OnDemand<'txn, PostKey, &'static [u8]>,
    pub(crate) dead_letters: OnDemand<'txn, PostKey, &'static [u8]>,
    pub(crate) sessions: OnDemand<'txn, (u128, u64), (u64, u64, u32)>,
    pub(crate) dedupe: OnDemand<'txn, DedupeRowKey, (u64, &'static [u8])>,
    pub(crate) audit: OnDemand<'txn, u64, &'static [u8]>,
    pub(crate) releases: OnDemand<'txn, DigestKey, &'static [u8]>,
    pub(crate) seats: OnDemand<'txn, &'static str, &'static [u8]>,
    pub(crate) grants: OnDemand<'txn, (&'static str, &'static str), &'static [u8]>,
    pub(crate) consumed: OnDemand<'txn, DigestKey, u64>,
    pub(crate) owned: OnDemand<'txn, (&'static str, u128), ()>,
    pub(crate) moments: OnDemand<'txn, u64, u64>,
    pub(crate) changes: OnDemand<'txn, (u64, u128), u64>,
    pub(crate) renames: OnDemand<'txn, (u64, &'static str), u64>,
    pub(crate) blobs: OnDemand<'txn, &'static [u8; 32], u64>,
    pub(crate) generations: OnDemand<'txn, (&'static str, u64), &'static [u8]>,
    pub(crate) shadows: OnDemand<'txn, ShadowKey, ShadowRow>,
    /// What components store more or less, not yet counted in the meta table; see `stored`.
    pub(crate) grown: Grown,
}

/// One table of a write transaction, open once it was needed.
pub(crate) struct OnDemand<'txn, K: Key + 'static, V: Value + 'static> {
    txn: &'txn WriteTransaction,
    definition: TableDefinition<'static, K, V>,
    table: Option<Table<'txn, K, V>>,
}

impl<'txn> Tables<'txn> {
    /// The tables of a transaction; none is opened.
    pub(crate) fn of(txn: &'txn WriteTransaction) -> Tables<'txn> {
        Tables {
            meta: OnDemand::of(txn, META),
            objects: OnDemand::of(txn, OBJECTS),
            names: OnDemand::of(txn, NAMES),
            names_of: OnDemand::of(txn, NAMES_OF),
            collections: OnDemand::of(txn, COLLECTIONS),
            forms: OnDemand::of(txn, FORMS),
            editions: OnDemand::of(txn, EDITIONS),
            vectors: OnDemand::of(txn, VECTORS),
            redo: OnDemand::of(txn, REDO),
            outbox: OnDemand::of(txn, OUTBOX),
            dead_letters: OnDemand::of(txn, DEAD_LETTERS),
            sessions: OnDemand::of(txn, SESSIONS),
            dedupe: OnDemand::of(txn, DEDUPE),
            audit: OnDemand::of(txn, AUDIT),
            releases: OnDemand::of(txn, RELEASES),
            seats: OnDemand::of(txn, SEATS),
            grants: OnDemand::of(txn, GRANTS),
            consumed: OnDemand::of(txn, CONSUMED),
            owned: OnDemand::of(txn, OWNED),
            moments: OnDemand::of(txn, MOMENTS),
            changes: OnDemand::of(txn, CHANGES),
            renames: OnDemand::of(txn, RENAMES),
            blobs: OnDemand::of(txn, BLOBS),
            generations: OnDemand::of(txn, GENERATIONS),
            shadows: OnDemand::of(txn, SHADOWS),
            grown: Grown::new(),
        }
    }

    /// Makes those tables that are absent.
    pub(crate) fn make(txn: &'txn WriteTransaction) -> Result<Tables<'txn>, Failure> {
        let mut tables = Tables::of(txn);
        tables.meta.open()?;
        tables.objects.open()?;
        tables.names.open()?;
        tables.names_of.open()?;
        tables.collections.open()?;
        tables.forms.open()?;
        tables.editions.open()?;
        tables.vectors.open()?;
        tables.redo.open()?;
        tables.outbox.open()?;
        tables.dead_letters.open()?;
        tables.sessions.open()?;
        tables.dedupe.open()?;
        tables.audit.open()?;
        tables.releases.open()?;
        tables.seats.open()?;
        tables.grants.open()?;
        tables.consumed.open()?;
        tables.owned.open()?;
        tables.moments.open()?;
        tables.changes.open()?;
        tables.renames.open()?;
        tables.blobs.open()?;
        tables.generations.open()?;
        tables.shadows.open()?;
        Ok(tables)
    }
}

impl<'txn, K: Key + 'static, V: Value + 'static> OnDemand<'txn, K, V> {
    fn of(txn: &'txn WriteTransaction, definition: TableDefinition<'static, K, V>) -> OnDemand<'txn, K, V> {
        OnDemand { txn, definition, table: None }
    }

    /// The table, opened unless it is open.
    pub(crate) fn open(&mut self) -> Result<&mut Table<'txn, K, V>, Failure> {
        match &mut self.table {
            Some(table) => Ok(table),
            closed => Ok(closed.insert(self.txn.open_table(self.definition)?)),
        }
    }
}

impl<K: Key + 'static, V: Value + 'static> Drop for OnDemand<'_, K, V> {
    fn drop(&mut self) {
        damage::let_go(&mut self.table);
    }
}

/// Adds to one number of the meta table; answers the sum.
pub(crate) fn add_to_meta(tables: &mut Tables<'_>, name: &str, more: u64) -> Result<u64, Failure> {
    let meta = tables.meta.open()?;
    let sum = read_meta(meta, name)? + more;
    if more > 0 {
        meta.insert(name, sum)?;
    }
    Ok(sum)
}

/// The layout generation in a database; none in a new one.
pub(crate) fn read_layout(database: &redb::Database) -> Result<Option<u64>, Failure> {
    let txn = database.begin_read()?;
    if txn.list_tables()?.next().is_none() {
        return Ok(None);
    }
    match read_meta(&txn.open_table(META)?, META_LAYOUT)? {
        0 => Err(Failure::Damaged { why: "no layout is written down".into() }),
        layout => Ok(Some(layout)),
    }
}

/// One number of the meta table; 0 when it was never written.
pub(crate) fn read_meta(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Failure> {
    Ok(meta.get(name)?.map_or(0, |value| value.value()))
}

/// The state of an object as of a position.
pub(crate) fn read_object(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
    at: Position,
) -> Result<Option<Object>, Failure> {
    let newest = objects.rows_in((id.to_bits(), 0)..=(id.to_bits(), at.get()))?.next_back().transpose()?;
    newest.map(|(key, row)| decode_object(id, Position::new(key.value().1), row.value())).transpose()
}

/// The commit that made the state of an object as of a position; [`Position::NONE`] when there is no such object.
pub(crate) fn read_object_position(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
    at: Position,
) -> Result<Position, Failure> {
    let newest = objects.rows_in((id.to_bits(), 0)..=(id.to_bits(), at.get()))?.next_back().transpose()?;
    Ok(newest.map_or(Position::NONE, |(key, _)| Position::new(key.value().1)))
}

/// The position, owner and generation of an object's row as of a position.
pub(crate) fn read_object_head(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
    at: Position,
) -> Result<Option<(Position, ComponentId, u32)>, Failure> {
    let newest = objects.rows_in((id.to_bits(), 0)..=(id.to_bits(), at.get()))?.next_back().transpose()?;
    let Some((key, row)) = newest else { return Ok(None) };
    let (owner, generation) = decode_object_head(row.value())?;
    Ok(Some((Position::new(key.value().1), owner, generation)))
}

/// Who owns an object now; none when there is no such object.
pub(crate) fn read_owner(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
) -> Result<Option<ComponentId>, Failure> {
    let newest = read_object_head(objects, id, Position::new(u64::MAX))?;
    Ok(newest.map(|(_, owner, _)| owner))
}

/// The rows of an object as of a position, newest first.
pub(crate) fn read_history(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    id: ObjectId,
    at: Position,
    limit: usize,
) -> Result<Vec<Arc<Object>>, Failure> {
    let rows = objects.rows_in((id.to_bits(), 0)..=(id.to_bits(), at.get()))?.rev().take(limit);
    rows.map(|row| {
        let (key, row) = row?;
        Ok(Arc::new(decode_object(id, Position::new(key.value().1), row.value())?))
    })
    .collect()
}

/// What a name stood for as of a position, and the commit that decided it.
pub(crate) fn read_name(
    names: &impl ReadableTable<NameKey, Option<u128>>,
    name: &ObjectName,
    at: Position,
) -> Result<(Option<ObjectId>, Position), Failure> {
    let newest = names.rows_in((name.as_str(), 0)..=(name.as_str(), at.get()))?.next_back().transpose()?;
    let Some((key, row)) = newest else {
        return Ok((None, Position::NONE));
    };
    Ok((row.value().map(ObjectId::from_bits), Position::new(key.value().1)))
}

/// One session's row.
pub(crate) fn read_session(
    sessions: &impl ReadableTable<(u128, u64), (u64, u64, u32)>,
    session: SessionId,
) -> Result<Option<SessionRow>, Failure> {
    let row = sessions.get((session.client, session.incarnation))?;
    Ok(row.map(|row| {
        let (acked_through, last_ms, rows) = row.value();
        SessionRow { acked_through, last_ms, rows }
    }))
}

/// Sessions that were idle for too long, as many as one sweep closes.
pub(crate) fn read_idle_sessions(
    sessions: &impl ReadableTable<(u128, u64), (u64, u64, u32)>,
    now_ms: u64,
) -> Result<Vec<(u128, u64)>, Failure> {
    let mut idle = Vec::new();
    for row in sessions.rows()? {
        let (key, row) = row?;
        let (acked_through, last_ms, rows) = row.value();
        if (SessionRow { acked_through, last_ms, rows }).is_idle(now_ms) {
            idle.push(key.value());
        }
        if idle.len() == limit::SESSIONS_PER_SWEEP_MAX {
            break;
        }
    }
    Ok(idle)
}

/// The stored decision of one request.
pub(crate) fn read_decided(
    dedupe: &impl ReadableTable<DedupeRowKey, (u64, &'static [u8])>,
    key: &DedupeKey,
) -> Result<Option<(Position, Vec<u8>)>, Failure> {
    let row = dedupe.get((key.session.client, key.session.incarnation, key.number))?;
    Ok(row.map(|row| {
        let (position, outcome) = row.value();
        (Position::new(position), outcome.to_vec())
    }))
}

/// The requests of a session whose decisions are stored: at most 1,024.
pub(crate) fn read_decided_numbers(
    dedupe: &impl ReadableTable<DedupeRowKey, (u64, &'static [u8])>,
    SessionId { client, incarnation }: SessionId,
) -> Result<BTreeSet<u64>, Failure> {
    let rows = dedupe.rows_in((client, incarnation, 0)..=(client, incarnation, u64::MAX))?;
    rows.map(|row| Ok(row?.0.value().2)).collect()
}

/// A session's dedupe rows above the watermark that a request brings.
pub(crate) fn count_rows_above(
    dedupe: &impl ReadableTable<DedupeRowKey, (u64, &'static [u8])>,
    key: &DedupeKey,
    session: Option<SessionRow>,
) -> Result<u32, Failure> {
    let Some(row) = session else { return Ok(0) };
    if key.acked_through <= row.acked_through {
        return Ok(row.rows);
    }
    let (client, incarnation) = (key.session.client, key.session.incarnation);
    let acked = dedupe.rows_in((client, incarnation, 0)..=(client, incarnation, key.acked_through))?;
    // Stops at the first error: an iterator that failed answers errors for ever.
    let forgotten = acked.map(|row| row.map(|_| 1)).sum::<Result<u32, _>>()?;
    Ok(row.rows.saturating_sub(forgotten))
}

/// The number and dimension of a collection.
pub(crate) fn read_collection(
    collections: &impl ReadableTable<(&'static str, &'static str), (u32, u32)>,
    key: &CollectionKey,
) -> Result<Option<(u32, usize)>, Failure> {
    let row = collections.get((key.owner.as_str(), key.name.as_str()))?;
    Ok(row.map(|row| {
        let (number, dim) = row.value();
        (number, dim as usize)
    }))
}

/// The form of a collection of that number and dimension.
pub(crate) fn read_form(
    forms: &impl ReadableTable<u32, (u8, u8)>,
    number: u32,
    dim: usize,
) -> Result<CollectionForm, Failure> {
    let Some(row) = forms.get(number)? else { return Ok(CollectionForm::of_first(dim)) };
    let (metric, precision) = row.value();
    match (Metric::of_number(metric), Precision::of_number(precision)) {
        (Some(metric), Some(precision)) => Ok(CollectionForm { dim, metric, precision }),
        _ => Err(unreadable(
            "forms",
            &format_args!("collection {number} has metric {metric}, precision {precision}"),
        )),
    }
}

/// The commit that added a vector; [`Position::NONE`] when there is none.
pub(crate) fn read_vector_position(
    vectors: &impl ReadableTable<VectorKey, VectorRow>,
    key: (u32, u128),
) -> Result<Position, Failure> {
    Ok(vectors.get(key)?.map_or(Position::NONE, |row| Position::new(row.value().0)))
}

/// A pending post.
pub(crate) fn read_post(
    outbox: &impl ReadableTable<PostKey, &'static [u8]>,
    id: PostId,
) -> Result<Option<OutboxRow>, Failure> {
    outbox.get(post_key(id))?.map(|row| decode("outbox", row.value())).transpose()
}

#[derive(Serialize, Deserialize)]
struct ObjectRow<'a> {
    #[serde(borrow)]
    owner: &'a str,
    // `decode_object_head` reads the fields up to here.
    generation: u32,
    revision: u64,
    parents: Vec<u128>,
    #[serde(borrow)]
    slots: Vec<(&'a str, SlotRow<'a>)>,
}

/// The front of an [`ObjectRow`]: what may be asked of many rows without reading their slots.
#[derive(Deserialize)]
pub(crate) struct ObjectHead<'a> {
    #[serde(borrow)]
    #[expect(dead_code, reason = "it lies before what is asked")]
    owner: &'a str,
    #[expect(dead_code, reason = "it lies before what is asked")]
    generation: u32,
    pub(crate) revision: u64,
    pub(crate) parents: Vec<u128>,
}

/// The front of an object's row.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<ObjectHead<'_>, Failure> {
    Ok(postcard::take_from_bytes(bytes).map_err(|why| unreadable("objects", &why))?.0)
}

#[derive(Serialize, Deserialize)]
enum SlotRow<'a> {
    Value(&'a str),
    Method { component: &'a str, requirement: &'a str, selector: &'a str },
}

/// The bytes of an object's row.
pub(crate) fn encode_object(object: &Object) -> Result<Vec<u8>, Failure> {
    encode("objects", &object_row(object))
}

/// How many bytes an object's row has.
pub(crate) fn encoded_len(object: &Object) -> usize {
    let counted =
        postcard::serialize_with_flavor(&object_row(object), postcard::ser_flavors::Size::default());
    // Counting cannot fail; were it to, the object would fit nowhere.
    counted.unwrap_or(usize::MAX / 2)
}

fn object_row(object: &Object) -> ObjectRow<'_> {
    ObjectRow {
        owner: object.owner.as_str(),
        generation: object.generation,
        revision: object.revision.get(),
        parents: object.parents.iter().map(|parent| parent.to_bits()).collect(),
        slots: object.slots.iter().map(|(name, slot)| (name.as_str(), encode_slot(slot))).collect(),
    }
}

/// The owner of the object in a row.
pub(crate) fn decode_owner(bytes: &[u8]) -> Result<&str, Failure> {
    Ok(postcard::take_from_bytes(bytes).map_err(|why| unreadable("objects", &why))?.0)
}

/// The object in a row.
pub(crate) fn decode_object(id: ObjectId, position: Position, bytes: &[u8]) -> Result<Object, Failure> {
    let row: ObjectRow<'_> = postcard::from_bytes(bytes).map_err(|why| unreadable("objects", &why))?;
    Ok(Object {
        id,
        owner: ComponentId::trusted(row.owner),
        generation: row.generation,
        revision: Revision::new(row.revision),
        position,
        parents: row.parents.into_iter().map(ObjectId::from_bits).collect(),
        slots: row.slots.into_iter().map(|(name, slot)| (name.into(), decode_slot(&slot))).collect(),
    })
}

/// Owner and generation of the object in a row, without the rest.
pub(crate) fn decode_object_head(bytes: &[u8]) -> Result<(ComponentId, u32), Failure> {
    let ((owner, generation), _) =
        postcard::take_from_bytes::<(&str, u32)>(bytes).map_err(|why| unreadable("objects", &why))?;
    Ok((ComponentId::trusted(owner), generation))
}

fn encode_slot(slot: &Slot) -> SlotRow<'_> {
    match slot {
        Slot::Value(value) => SlotRow::Value(value.as_str()),
        Slot::Method(method) => SlotRow::Method {
            component: method.component.as_str(),
            requirement: &method.requirement,
            selector: &method.selector,
        },
    }
}

fn decode_slot(row: &SlotRow<'_>) -> Slot {
    match *row {
        SlotRow::Value(text) => Slot::Value(Json::trusted(text)),
        SlotRow::Method { component, requirement, selector } => Slot::Method(MethodSlot {
            component: ComponentId::trusted(component),
            requirement: requirement.into(),
            selector: selector.into(),
        }),
    }
}

/// The postcard bytes of a row.
pub(crate) fn encode<T: Serialize>(table: &'static str, row: &T) -> Result<Vec<u8>, Failure> {
    postcard::to_stdvec(row).map_err(|why| unreadable(table, &why))
}

/// The row in postcard bytes.
pub(crate) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, Failure> {
    postcard::from_bytes(bytes).map_err(|why| unreadable(table, &why))
}

/// The JSON bytes of a row.
pub(crate) fn encode_json<T: Serialize>(table: &'static str, row: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(row).map_err(|why| unreadable(table, &why))
}

/// The row in JSON bytes.
pub(crate) fn decode_json<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|why| unreadable(table, &why))
}

/// A post's key.
pub(crate) fn post_key(id: PostId) -> PostKey {
    (id.position.get(), id.index)
}

fn unreadable(table: &'static str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Row { table, why: why.to_string() }
}
