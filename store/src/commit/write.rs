//! Writing one unit's rows, and remembering what memory must do once they are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redb::{ReadableTable as _, ReadableTableMetadata};
use serde_json::json;

use crate::archive::Publication;
use crate::audit::{self, Fact};
use crate::error::Failure;
use crate::generation::{self, Generations};
use crate::history::{self, Gone};
use crate::id::{ObjectId, ObjectName, Position, PostId};
use crate::limit;
use crate::object::Object;
use crate::order::Order;
use crate::outbox::{DeadLetter, OutboxChange, OutboxRow, Post};
use crate::record::{GrantRecord, RecordWrite};
use crate::references;
use crate::session::{self, DedupeKey, SessionRow};
use crate::shared::Shared;
use crate::stored::Grown;
use crate::tables::{
    self, GIVEN_UP, META_OBJECT_ROWS, META_OBJECTS, META_REDO_FLOOR, Tables, encode, encode_json,
};
use crate::unit::Layer;
use crate::vectors::{CollectionForm, CollectionKey, IndexChange, Vector};

use super::Ballot;

/// What memory must do once a group is durable.
#[derive(Default)]
pub(super) struct Finish {
    collections: Vec<(CollectionKey, CollectionForm)>,
    index: Vec<IndexChange>,
    published: Vec<std::sync::Arc<Publication>>,
    outbox: Vec<OutboxChange>,
    redo_added: u64,
    redo_trimmed: u64,
    floor: Position,
    gone: Gone,
    /// Sessions were removed: the order is to forget what it knows of them.
    pub(super) has_swept_sessions: bool,
    /// Objects made and object rows written, not yet counted in the tables.
    made: u64,
    rows: u64,
    /// What components store more or less once the group is durable.
    pub(super) stored: Grown,
    /// The generations in force once the group is durable; none when it raises none.
    generations: Option<Arc<Generations>>,
}

impl Finish {
    /// Puts in force what the group raises. Cannot fail.
    pub(super) fn apply_generations(&mut self, shared: &Shared) {
        if let Some(generations) = self.generations.take() {
            *shared.generations.write() = generations;
            fail::fail_point!("store::generation-in-force");
        }
    }

    /// Adds to the tables what was made and written since this was last done: one write for many units.
    pub(super) fn count(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        for (name, more) in [(META_OBJECTS, &mut self.made), (META_OBJECT_ROWS, &mut self.rows)] {
            if *more > 0 {
                tables::add_to_meta(tables, name, std::mem::take(more))?;
            }
        }
        Ok(())
    }

    /// Applies the group to the indexes; answers whether graphs may be to be built. Cannot fail. Snapshots see it by
    /// position, so it may come early.
    pub(super) fn apply_index(&self, shared: &Shared) -> bool {
        let mut may_have_work = false;
        if !self.collections.is_empty() {
            let mut index = shared.index.write();
            for (key, form) in &self.collections {
                index.declare(key, *form);
            }
        }
        if !self.index.is_empty() {
            let oldest = shared.pins.oldest(&shared.decided, Instant::now());
            may_have_work |= shared.index.write().apply(&self.index, oldest);
        }
        self.published.iter().for_each(|publication| publication.switch(shared));
        if !self.gone.objects.is_empty() {
            // After the changes above: some of them may have been made before the object was forgotten.
            let mut index = shared.index.write();
            shared.shelves.underway.forget(&self.gone.objects, |key| index.has_any(key, &self.gone.objects));
            index.forget(&self.gone.objects);
            // Files that name them go now, and one that is being written when its segment hears of it; what else they
            // held is written down again.
            let kept = shared.segments.kept(index.files());
            drop(index);
            shared.segments.keep(&kept);
            // At least that.
            may_have_work = true;
        }
        shared.past.raise(self.floor);
        may_have_work
    }

    /// Gives back the room of what was forgotten, which is decided alone: nothing is pending. Cannot fail.
    pub(super) fn apply_room(&self, shared: &Shared, order: &mut Order) {
        if !self.gone.objects.is_empty() {
            order.set_room(shared.index.read().room());
        }
    }

    /// Applies the group to the rest of the memory that follows the database. Cannot fail.
    pub(super) fn apply_outbox(&self, shared: &Shared) {
        let mut outbox = shared.outbox.lock();
        self.outbox.iter().for_each(|change| outbox.apply(change));
        drop(outbox);
        shared.redo_rows.fetch_add(self.redo_added, Ordering::AcqRel);
        shared.redo_rows.fetch_sub(self.redo_trimmed, Ordering::AcqRel);
    }
}

/// Writes everything of one ballot as of a position. `generations`: in force once the group so far is durable.
pub(super) fn write(
    tables: &mut Tables<'_>,
    generations: &mut Arc<Generations>,
    ballot: &Ballot,
    (position, at_ms): (Position, u64),
    finish: &mut Finish,
) -> Result<(), Failure> {
    let Layer { objects, names, collections, vectors, posts, taken, facts, records, .. } = &ballot.writes;
    finish.made += objects.values().filter(|object| object.revision.get() == 1).count() as u64;
    finish.rows += objects.len() as u64;
    for object in objects.values() {
        generation::drop_outdated(tables, generations, object.id)?;
        write_object(tables, object, ballot, position)?;
    }
    for (name, id) in names {
        write_name(tables, name, *id, position)?;
    }
    for (collection, form) in collections {
        write_collection(tables, collection, *form, finish)?;
    }
    for (index, ((collection, object), vector)) in vectors.iter().enumerate() {
        let key = PostId { position, index: count(index) };
        write_vector(tables, key, collection, *object, vector.as_ref(), finish)?;
    }
    for (index, post) in posts.iter().enumerate() {
        add_post(tables, PostId { position, index: count(index) }, post, ballot, finish)?;
    }
    for post in taken {
        remove_post(tables, *post, finish)?;
    }
    for fact in facts {
        audit::write(tables, fact, position, at_ms)?;
    }
    for record in records {
        write_record(tables, record, generations, (position, at_ms), finish)?;
    }
    if !ballot.raises.is_empty() {
        generation::write_raised(tables, &ballot.raises, (position, at_ms), generations)?;
        finish.generations = Some(Arc::clone(generations));
    }
    match &ballot.vote.dedupe {
        Some(key) => write_dedupe(tables, key, position, &ballot.vote.outcome, at_ms),
        None => Ok(()),
    }
}

/// Drops the oldest redo rows past the bound, a few per group.
pub(super) fn trim_redo(
    tables: &mut Tables<'_>,
    shared: &Shared,
    finish: &mut Finish,
) -> Result<(), Failure> {
    let kept = shared.redo_rows.load(Ordering::Acquire) + finish.redo_added;
    let surplus = usize::try_from(kept.saturating_sub(limit::REDO_ROWS_MAX)).unwrap_or(usize::MAX);
    for _ in 0..surplus.min(limit::REDO_TRIM_ROWS) {
        let Some(oldest) = tables.redo.open()?.pop_first()?.map(|(key, _)| key.value().0) else {
            break;
        };
        tables.meta.open()?.insert(META_REDO_FLOOR, oldest)?;
        finish.redo_trimmed += 1;
    }
    Ok(())
}

fn write_object(
    tables: &mut Tables<'_>,
    object: &Object,
    ballot: &Ballot,
    position: Position,
) -> Result<(), Failure> {
    let id = object.id.to_bits();
    let row = tables::encode_object(object)?;
    tables.put_state((id, position.get()), &row)?;
    // Whoever changes an object has read it, so its former state is among what was seen.
    let former = ballot.seen.objects.get(&object.id).and_then(Option::as_ref);
    let replaced = former.map_or(Position::NONE, |former| former.position);
    tables.changes.open()?.insert((position.get(), id), replaced.get())?;
    let former = former.map(|former| &former.owner);
    if former == Some(&object.owner) {
        return Ok(());
    }
    if let Some(former) = former {
        tables.owned.open()?.remove((former.as_str(), id))?;
    }
    tables.owned.open()?.insert((object.owner.as_str(), id), ())?;
    Ok(())
}

/// Binds or unbinds a name as of a position; nothing happens when it stands for that already.
pub(crate) fn write_name(
    tables: &mut Tables<'_>,
    name: &ObjectName,
    id: Option<ObjectId>,
    position: Position,
) -> Result<(), Failure> {
    let (before, replaced) = tables::read_name(tables.names.open()?, name, position)?;
    if before == id {
        return Ok(());
    }
    if replaced != Position::NONE {
        tables.renames.open()?.insert((position.get(), name.as_str()), replaced.get())?;
    }
    tables.put_name(name.as_str(), position.get(), id.map(ObjectId::to_bits))?;
    if let Some(before) = before {
        tables.names_of.open()?.insert((before.to_bits(), name.as_str(), position.get()), false)?;
    }
    if let Some(id) = id {
        tables.names_of.open()?.insert((id.to_bits(), name.as_str(), position.get()), true)?;
    }
    Ok(())
}

fn write_vector(
    tables: &mut Tables<'_>,
    key: PostId,
    collection: &CollectionKey,
    object: ObjectId,
    vector: Option<&Vector>,
    finish: &mut Finish,
) -> Result<(), Failure> {
    let Some((number, dim)) = tables::read_collection(tables.collections.open()?, collection)? else {
        return Ok(());
    };
    let form = tables::read_form(tables.forms.open()?, number, dim)?;
    let row = (number, object.to_bits());
    let is_changed = match vector {
        Some(vector) => {
            let bytes = form.precision.encode(&vector.components);
            let metadata = vector.metadata.as_str();
            tables.vectors.open()?.insert(row, (key.position.get(), metadata, bytes.as_slice()))?;
            true
        }
        None => tables.vectors.open()?.remove(row)?.is_some(),
    };
    if is_changed {
        tables.redo.open()?.insert(tables::post_key(key), (number, object.to_bits(), vector.is_some()))?;
        finish.redo_added += 1;
        let collection = collection.clone();
        let vector = vector.cloned();
        finish.index.push(IndexChange { position: key.position, collection, form, object, vector });
    }
    Ok(())
}

/// Makes a collection, unless it is there.
fn write_collection(
    tables: &mut Tables<'_>,
    collection: &CollectionKey,
    form: CollectionForm,
    finish: &mut Finish,
) -> Result<(), Failure> {
    if tables::read_collection(tables.collections.open()?, collection)?.is_some() {
        return Ok(());
    }
    // Collections are never deleted, so their count is the next number.
    let number = u32::try_from(tables.collections.open()?.len()?).unwrap_or(u32::MAX);
    let key = (collection.owner.as_str(), collection.name.as_str());
    tables.collections.open()?.insert(key, (number, count(form.dim)))?;
    if form != CollectionForm::of_first(form.dim) {
        tables.forms.open()?.insert(number, (form.metric.number(), form.precision.number()))?;
    }
    finish.collections.push((collection.clone(), form));
    Ok(())
}

fn add_post(
    tables: &mut Tables<'_>,
    id: PostId,
    post: &Post,
    ballot: &Ballot,
    finish: &mut Finish,
) -> Result<(), Failure> {
    let owner = match ballot.owner_known(post.source) {
        Some(owner) => Some(owner.clone()),
        None => tables::read_owner(tables.objects.open()?, post.source)?,
    };
    let row = OutboxRow { id, post: post.clone(), attempts: 0, not_before_ms: 0 };
    tables.outbox.open()?.insert(tables::post_key(id), encode("outbox", &row)?.as_slice())?;
    finish.outbox.push(OutboxChange::Add { id, lane: (post.source, post.target), not_before_ms: 0, owner });
    Ok(())
}

/// Takes a post out of the outbox; none when it was not there.
fn remove_post(
    tables: &mut Tables<'_>,
    id: PostId,
    finish: &mut Finish,
) -> Result<Option<OutboxRow>, Failure> {
    let Some(row) = tables.outbox.open()?.remove(tables::post_key(id))? else {
        return Ok(None);
    };
    let row: OutboxRow = tables::decode("outbox", row.value())?;
    finish.outbox.push(OutboxChange::Remove { id, lane: (row.post.source, row.post.target) });
    Ok(Some(row))
}

fn fail_post(
    tables: &mut Tables<'_>,
    id: PostId,
    cause: &str,
    not_before_ms: u64,
    (position, at_ms): (Position, u64),
    finish: &mut Finish,
) -> Result<(), Failure> {
    let Some(mut row) = tables::read_post(tables.outbox.open()?, id)? else {
        return Ok(());
    };
    row.attempts += 1;
    row.not_before_ms = not_before_ms;
    if row.attempts < limit::POST_ATTEMPTS_MAX {
        tables.outbox.open()?.insert(tables::post_key(id), encode("outbox", &row)?.as_slice())?;
        let lane = (row.post.source, row.post.target);
        finish.outbox.push(OutboxChange::Delay { id, lane, not_before_ms });
        return Ok(());
    }
    remove_post(tables, id, finish)?;
    let letter = DeadLetter { id, post: row.post, attempts: row.attempts, cause: cause.into(), at_ms };
    tables.dead_letters.open()?.insert(tables::post_key(id), encode("dead_letters", &letter)?.as_slice())?;
    if tables.dead_letters.open()?.len()? > limit::DEAD_LETTERS_MAX {
        tables.dead_letters.open()?.pop_first()?;
    }
    let detail = json!({
        "source": letter.post.source, "target": letter.post.target, "selector": letter.post.selector,
        "attempts": letter.attempts, "cause": letter.cause, "trace": letter.post.trace,
    });
    audit::write(
        tables,
        &Fact { kind: "dead-letter".into(), subject: id.to_string(), detail },
        position,
        at_ms,
    )
}

fn write_record(
    tables: &mut Tables<'_>,
    record: &RecordWrite,
    generations: &Generations,
    (position, at_ms): (Position, u64),
    finish: &mut Finish,
) -> Result<(), Failure> {
    match record {
        RecordWrite::Release(release) => {
            let key = (release.component.as_str(), release.digest.as_bytes());
            let is_new =
                tables.releases.open()?.insert(key, encode_json("releases", release)?.as_slice())?.is_none();
            if is_new {
                references::add(tables, &release.digest)?;
            }
        }
        RecordWrite::RemoveRelease { component, digest } => {
            if tables.releases.open()?.remove((component.as_str(), digest.as_bytes()))?.is_some() {
                references::remove(tables, digest)?;
            }
        }
        RecordWrite::Seat(seat) => {
            tables.seats.open()?.insert(seat.component.as_str(), encode_json("seats", seat)?.as_slice())?;
        }
        RecordWrite::RemoveSeat(component) => drop(tables.seats.open()?.remove(component.as_str())?),
        RecordWrite::Grant { component, interface, by } => {
            let (component, interface, by) = (component.clone(), interface.clone(), by.clone());
            let grant = GrantRecord { component, interface, by, since_ms: at_ms };
            let key = (grant.component.as_str(), grant.interface.as_str());
            tables.grants.open()?.insert(key, encode_json("grants", &grant)?.as_slice())?;
        }
        RecordWrite::RemoveGrant { component, interface } => {
            tables.grants.open()?.remove((component.as_str(), interface.as_str()))?;
        }
        RecordWrite::Consumed { path, digest } => {
            let of_path = (path.as_str(), &[0; 32])..=(path.as_str(), &[u8::MAX; 32]);
            let consumed = tables.consumed.open()?;
            consumed.retain_in(of_path, |_, _| false)?;
            consumed.insert((path.as_str(), digest.as_bytes()), at_ms)?;
        }
        RecordWrite::FailPost { id, cause, not_before_ms } => {
            fail_post(tables, *id, cause, *not_before_ms, (position, at_ms), finish)?;
        }
        RecordWrite::SweepSessions { now_ms } => {
            sweep_sessions(tables, *now_ms)?;
            finish.has_swept_sessions = true;
        }
        RecordWrite::RaiseHistoryFloor(floor) => {
            history::raise_floor(tables, *floor)?;
            finish.floor = finish.floor.max(*floor);
        }
        RecordWrite::SweepHistory(sweep) => sweep.write(tables)?,
        RecordWrite::Forget(forget) => {
            // What it takes from the count is counted by then.
            finish.count(tables)?;
            let gone = forget.write(tables, position, at_ms)?;
            forget_in_memory(gone, finish);
        }
        RecordWrite::Shadow { base, state } => generation::write_shadow(tables, generations, *base, state)?,
        // Judged, and written after everything else of its unit.
        RecordWrite::Publish(publication) => {
            let edition = (publication.number, publication.base.get());
            tables.editions.open()?.insert(publication.collection, edition)?;
            finish.published.push(std::sync::Arc::clone(publication));
        }
        RecordWrite::Withdraw { collection, number } => {
            let named = tables.editions.open()?.get(collection)?.map(|row| row.value().0);
            if named == Some(*number) {
                tables.editions.open()?.insert(collection, (*number, GIVEN_UP))?;
            }
        }
        RecordWrite::RaiseGeneration { .. } => {}
        RecordWrite::SettleShadows { keys } => {
            keys.iter().try_for_each(|key| generation::settle(tables, generations, *key))?;
        }
        RecordWrite::DropShadows { keys } => {
            generation::drop_shadows(tables, generations, keys)?;
            fail::fail_point!("store::shadows-dropped");
        }
    }
    Ok(())
}

fn forget_in_memory(gone: Gone, finish: &mut Finish) {
    let removed = gone.posts.iter().map(|(id, lane)| OutboxChange::Remove { id: *id, lane: *lane });
    finish.outbox.extend(removed);
    finish.redo_trimmed += gone.redo_rows;
    // What the order remembers of them holds their answers too.
    finish.has_swept_sessions |= gone.answers > 0;
    finish.gone.objects.extend(gone.objects);
}

/// Stores a request's outcome and forgets what the client has acknowledged.
fn write_dedupe(
    tables: &mut Tables<'_>,
    key: &DedupeKey,
    position: Position,
    outcome: &[u8],
    at_ms: u64,
) -> Result<(), Failure> {
    let row = tables::read_session(tables.sessions.open()?, key.session)?;
    let acked_through = session::watermark(key, row);
    let forgotten = remove_dedupe(tables, key, acked_through)?;
    tables
        .dedupe
        .open()?
        .insert((key.session.client, key.session.incarnation, key.number), (position.get(), outcome))?;
    let rows = row.unwrap_or_default().rows - forgotten + 1;
    write_session(tables, key, SessionRow { acked_through, last_ms: at_ms, rows })
}

fn write_session(tables: &mut Tables<'_>, key: &DedupeKey, row: SessionRow) -> Result<(), Failure> {
    let session = (key.session.client, key.session.incarnation);
    tables.sessions.open()?.insert(session, (row.acked_through, row.last_ms, row.rows))?;
    Ok(())
}

fn remove_dedupe(tables: &mut Tables<'_>, key: &DedupeKey, through: u64) -> Result<u32, Failure> {
    let (client, incarnation) = (key.session.client, key.session.incarnation);
    let range = (client, incarnation, 0)..=(client, incarnation, through);
    let mut removed = 0;
    // Not `extract_from_if`: it hands rows out, and so makes its page anew each time.
    tables.dedupe.open()?.retain_in(range, |_, _| {
        removed += 1;
        false
    })?;
    Ok(removed)
}

fn sweep_sessions(tables: &mut Tables<'_>, now_ms: u64) -> Result<(), Failure> {
    for (client, incarnation) in tables::read_idle_sessions(tables.sessions.open()?, now_ms)? {
        tables.sessions.open()?.remove((client, incarnation))?;
        tables
            .dedupe
            .open()?
            .retain_in((client, incarnation, 0)..=(client, incarnation, u64::MAX), |_, _| false)?;
    }
    Ok(())
}

/// Counts within one unit are far below 2^32: its bytes are bounded.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
