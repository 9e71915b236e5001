//! Forgetting: every row of an object goes in one commit, past ones included, as if it had never been.
//!
//! ```text
//! scan     which states of others delegate to it    outside the committer, over all states
//! vote     nobody delegates to it since the scan    the entries of `changes` say who was written since; other
//!                                                   votes wait, since what is pending may name the object
//! decide   its rows, and its traces in others       one commit; an audit row keeps the id and counts
//! finish   index and outbox in memory               whoever searches finds it no more, at any snapshot; a graph
//!                                                   that is being built over its vector is given up
//! ```
//! A unit that read the object, or relied on its existence, conflicts. One that only reads may see it at first and
//! then no more: forgetting is the one change that old snapshots show.
//! What is left on purpose: audit rows. Of answers that are kept for resent requests those go that name one of the
//! objects, or were given with a commit that changed one; what another object's method said of it is that object's.
//! What is left by the file: free pages still hold old bytes until the file is rewritten;
//! `META_REWRITE_DUE` says since when, whoever rewrites the file clears it, and [`super::HistoryView`] shows it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};

use redb::{ReadTransaction, ReadableTable};
use serde::Serialize;
use serde_json::json;

use crate::archive;
use crate::audit::{self, Fact};
use crate::commit::{self, Commit, Vote};
use crate::damage::{self, Guarded};
use crate::error::{CommitError, Failure, ForgetError, Overflow};
use crate::id::{ObjectId, Position, PostId};
use crate::limit;
use crate::object::Object;
use crate::outbox::{DeadLetter, Lane, OutboxRow, Post};
use crate::scan::Scan as _;
use crate::shared::Shared;
use crate::store::Store;
use crate::tables::{
    self, CHANGES, META, META_HISTORY_FLOOR, META_OBJECT_ROWS, META_OBJECTS, META_POSITION, META_REWRITE_DUE,
    OBJECTS, ObjectKey, Tables, read_meta,
};

/// What becomes of objects that delegate to one that is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// Nothing is forgotten while there are any.
    Refuse,
    /// Each gets a new state without that parent, at most 10,000 states in one call.
    Detach,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// The commit that did it; [`Position::NONE`] when nothing was asked for.
    pub position: Position,
    /// Objects that existed.
    pub objects: u64,
    /// Their states.
    pub states: u64,
    /// Names that stood for one of them at some time.
    pub names: u64,
    /// Their vectors.
    pub vectors: u64,
    /// States prepared for a later generation.
    pub shadows: u64,
    /// Pending posts that they sent or would have received.
    pub posts: u64,
    /// Dead letters likewise.
    pub dead_letters: u64,
    /// Answers kept for resent requests: such a request is still not done again, and is told that it was done.
    pub answers: u64,
    /// Objects that delegated to one of them and got a new state without it.
    pub detached: u64,
}

/// What is kept of an answer that was forgotten.
const FORGOTTEN_ANSWER: &[u8] = &[];

/// A call on its way through the committer.
#[derive(Debug)]
pub(crate) struct Forget {
    objects: BTreeSet<u128>,
    by: String,
    children: Children,
    /// What was written after this the scan has not seen.
    scanned: Position,
    /// States of others, past ones included, that delegate to one of them.
    delegating: Vec<(u128, u64)>,
    done: OnceLock<Forgotten>,
}

/// What memory must do once objects are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) objects: HashSet<ObjectId>,
    pub(crate) posts: Vec<(PostId, Lane)>,
    pub(crate) redo_rows: u64,
    pub(crate) answers: u64,
}

impl Store {
    /// Removes every row of these objects for good: states, names, vectors, pending posts and dead letters from or to
    /// them. An audit row for each keeps its id, the counts and `by`. Afterwards they are absent as of every position,
    /// old ones included, and no state of another object, past ones included, delegates to them.
    ///
    /// At most 1,000 objects. Ids that do not exist are passed over, with what is left of them removed, so a call may be
    /// repeated. Their ids may still stand in values of other objects, as text: see [`Store::traces_of`].
    /// Blocks; cost: one pass over all states outside the committer, then one commit as long as what it removes.
    ///
    /// # Errors
    /// [`ForgetError::StillParent`] with [`Children::Refuse`]; [`ForgetError::TooLarge`]; [`ForgetError::Failed`];
    /// [`ForgetError::Commit`].
    pub fn forget(
        &self,
        objects: &[ObjectId],
        by: &str,
        children: Children,
    ) -> Result<Forgotten, ForgetError> {
        Overflow::check("objects to forget at once", objects.len(), limit::FORGET_OBJECTS_MAX)?;
        Overflow::check("bytes of who forgets", by.len(), limit::NAME_BYTES_MAX)?;
        if objects.is_empty() {
            return Ok(Forgotten::default());
        }
        let ids: BTreeSet<u128> = objects.iter().map(|id| id.to_bits()).collect();
        match self.forget_once(&ids, by, children) {
            // Somebody began to delegate since the scan, or a generation was raised: a second scan says who.
            Err(ForgetError::Commit(CommitError::Conflict(_) | CommitError::Aborted)) => {
                self.forget_once(&ids, by, children)
            }
            outcome => outcome,
        }
    }

    fn forget_once(
        &self,
        ids: &BTreeSet<u128>,
        by: &str,
        children: Children,
    ) -> Result<Forgotten, ForgetError> {
        let shared = self.shared();
        let generations = Arc::clone(&shared.generations.read());
        // The scan looks at rows; a state that a raise put in force may name a parent that no row names.
        while self.settle_generation(limit::SHADOWS_PER_STEP_MAX)? > 0 {}
        let forget = Arc::new(scan(shared, ids.clone(), by, children)?);
        let mut unit = self.begin();
        unit.forget(Arc::clone(&forget))?;
        let is_settled = || Arc::ptr_eq(&generations, &shared.generations.read());
        let no_collection_is_read = shared.shelves.leaving.lock();
        let Commit { position, .. } = commit::decide_alone(shared, unit, Vote::default(), is_settled)?;
        drop(no_collection_is_read);
        archive::leave(shared);
        shared.shelves.underway.delete_spoilt();
        shared.shelves.delete_others();
        Ok(Forgotten { position, ..forget.done.get().copied().unwrap_or_default() })
    }
}

pub(super) fn scan(
    shared: &Shared,
    objects: BTreeSet<u128>,
    by: &str,
    children: Children,
) -> Result<Forget, ForgetError> {
    let (scanned, delegating, current) =
        damage::guard(|| find_delegating(shared, &objects)).inspect_err(|failure| shared.report(failure))?;
    if let (Children::Refuse, Some((child, parent))) = (children, current.first()) {
        let (parent, child) = (ObjectId::from_bits(*parent), ObjectId::from_bits(*child));
        return Err(ForgetError::StillParent { parent, child, more: current.len() - 1 });
    }
    Overflow::check("states to detach at once", delegating.len(), limit::FORGET_DETACHED_MAX)?;
    Ok(Forget { objects, by: by.into(), children, scanned, delegating, done: OnceLock::new() })
}

/// The position of the scan, the states of others that delegate, and the (child, parent) pairs that still do.
type Delegating = (Position, Vec<(u128, u64)>, Vec<(u128, u128)>);

fn find_delegating(shared: &Shared, objects: &BTreeSet<u128>) -> Result<Delegating, Failure> {
    let txn = shared.database.read()?;
    let scanned = Position::new(read_meta(&txn.open_table(META)?, META_POSITION)?);
    let (mut delegating, mut current) = (Vec::new(), Vec::new());
    let mut before: Option<(u128, Option<u128>)> = None;
    for row in txn.open_table(OBJECTS)?.rows()? {
        let (key, value) = row?;
        let (id, position) = key.value();
        let parent = named_parent(value.value(), id, objects)?;
        if parent.is_some() {
            delegating.push((id, position));
        }
        // Rows are sorted by object and position: the last one of each object is its newest.
        if let Some((child, Some(parent))) = before.replace((id, parent))
            && child != id
        {
            current.push((child, parent));
        }
    }
    if let Some((child, Some(parent))) = before {
        current.push((child, parent));
    }
    Ok((scanned, delegating, current))
}

/// The first parent in a state that is to be forgotten, unless the state itself is to be.
fn named_parent(row: &[u8], id: u128, objects: &BTreeSet<u128>) -> Result<Option<u128>, Failure> {
    if objects.contains(&id) {
        return Ok(None);
    }
    Ok(tables::decode_head(row)?.parents.into_iter().find(|parent| objects.contains(parent)))
}

impl Forget {
    pub(crate) fn bytes(&self) -> usize {
        self.objects.len() * 16 + self.delegating.len() * 24 + self.by.len()
    }

    /// Who delegates to one of the objects since the scan; one of the objects itself when that can no longer be said.
    pub(crate) fn contested(&self, txn: &ReadTransaction) -> Result<Option<ObjectId>, Failure> {
        // Below the floor entries may be pruned, so a scan that took that long is done again.
        if read_meta(&txn.open_table(META)?, META_HISTORY_FLOOR)? > self.scanned.get() {
            return Ok(self.objects.first().map(|id| ObjectId::from_bits(*id)));
        }
        if self.children == Children::Detach {
            return Ok(None);
        }
        let (changes, objects) = (txn.open_table(CHANGES)?, txn.open_table(OBJECTS)?);
        let since = self.delegating_since(&changes, &objects)?;
        for child in since.into_iter().map(|(id, _)| id).collect::<BTreeSet<u128>>() {
            if self.newest_delegating(&objects, child)?.is_some() {
                return Ok(Some(ObjectId::from_bits(child)));
            }
        }
        Ok(None)
    }

    /// Removes everything, and says so in the audit.
    pub(crate) fn write(
        &self,
        tables: &mut Tables<'_>,
        position: Position,
        at_ms: u64,
    ) -> Result<Gone, Failure> {
        let mut removal = Removal::new(&self.objects);
        let detached = self.detach(tables, position)?;
        removal.states(tables)?;
        removal.names(tables)?;
        removal.vectors(tables)?;
        removal.shadows(tables)?;
        removal.posts(tables)?;
        removal.dead_letters(tables)?;
        let answers = removal.answers(tables)?;
        removal.gone.answers = answers;
        let done = Forgotten { detached, answers, ..removal.sum() };
        for (id, counts) in removal.counts.iter().filter(|(_, counts)| **counts != Forgotten::default()) {
            audit::write(tables, &self.fact(*id, counts), position, at_ms)?;
        }
        let left = read_meta(tables.meta.open()?, META_OBJECTS)?.saturating_sub(done.objects);
        tables.meta.open()?.insert(META_OBJECTS, left)?;
        tables.meta.open()?.insert(META_REWRITE_DUE, position.get())?;
        // A ballot is written once; were it written again, it would do the same.
        let _ = self.done.set(done);
        Ok(removal.gone)
    }

    fn fact(&self, id: u128, counts: &Forgotten) -> Fact {
        let detail = json!({
            "by": self.by, "states": counts.states, "names": counts.names, "vectors": counts.vectors,
            "shadows": counts.shadows, "posts": counts.posts, "dead_letters": counts.dead_letters,
        });
        Fact { kind: audit::OBJECT_FORGOTTEN.into(), subject: ObjectId::from_bits(id).to_string(), detail }
    }

    /// States of others written since the scan that delegate to one of the objects.
    fn delegating_since(
        &self,
        changes: &impl ReadableTable<(u64, u128), u64>,
        objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    ) -> Result<Vec<(u128, u64)>, Failure> {
        let mut delegating = Vec::new();
        for row in changes.rows_in((self.scanned.get().saturating_add(1), 0)..)? {
            let (position, id) = row?.0.value();
            let state = objects.get((id, position))?;
            if let Some(state) = state
                && named_parent(state.value(), id, &self.objects)?.is_some()
            {
                delegating.push((id, position));
            }
        }
        Ok(delegating)
    }

    /// The newest state of an object, when it delegates to one of the objects.
    fn newest_delegating(
        &self,
        objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
        id: u128,
    ) -> Result<Option<Object>, Failure> {
        let newest = tables::read_object(objects, ObjectId::from_bits(id), Position::new(u64::MAX))?;
        Ok(newest.filter(|newest| newest.parents.iter().any(|parent| self.is_going(*parent))))
    }

    fn is_going(&self, id: ObjectId) -> bool {
        self.objects.contains(&id.to_bits())
    }

    /// Takes the objects out of the parents of all others. Whoever delegates now gets a new state, so that units that
    /// read the old one conflict; past states change where they are, since nobody may build upon those.
    fn detach(&self, tables: &mut Tables<'_>, position: Position) -> Result<u64, Failure> {
        let mut states: BTreeSet<(u128, u64)> = self.delegating.iter().copied().collect();
        states.extend(self.delegating_since(tables.changes.open()?, tables.objects.open()?)?);
        let children: BTreeSet<u128> = states.iter().map(|(id, _)| *id).collect();
        let mut detached = 0;
        for child in children {
            if let Some(newest) = self.newest_delegating(tables.objects.open()?, child)? {
                self.write_detached(tables, newest, position)?;
                detached += 1;
            }
        }
        for (id, at) in states {
            let state = tables.objects.open()?.get((id, at))?;
            // A state that was pruned since the scan is not to be brought back.
            let Some(state) = state.map(|row| decode(id, at, row.value())).transpose()? else { continue };
            let row = tables::encode_object(&self.without_parents(state))?;
            tables.put_state((id, at), &row)?;
        }
        tables::add_to_meta(tables, META_OBJECT_ROWS, detached)?;
        Ok(detached)
    }

    fn write_detached(
        &self,
        tables: &mut Tables<'_>,
        newest: Object,
        position: Position,
    ) -> Result<(), Failure> {
        let (id, replaced) = (newest.id.to_bits(), newest.position);
        let revision = newest.revision.next();
        let row = tables::encode_object(&Object { revision, ..self.without_parents(newest) })?;
        tables.put_state((id, position.get()), &row)?;
        tables.changes.open()?.insert((position.get(), id), replaced.get())?;
        Ok(())
    }

    fn without_parents(&self, mut state: Object) -> Object {
        state.parents.retain(|parent| !self.is_going(*parent));
        state
    }
}

/// Whether text names one of some objects, each 32 hex digits.
fn names_one(text: &[u8], names: &HashSet<String>) -> bool {
    text.windows(32).any(|part| {
        part.iter().all(u8::is_ascii_hexdigit)
            && std::str::from_utf8(part).is_ok_and(|part| names.contains(part))
    })
}

fn decode(id: u128, at: u64, row: &[u8]) -> Result<Object, Failure> {
    tables::decode_object(ObjectId::from_bits(id), Position::new(at), row)
}

/// The removal under way: what was removed of each object, and what memory must do.
struct Removal<'a> {
    objects: &'a BTreeSet<u128>,
    counts: BTreeMap<u128, Forgotten>,
    /// Commits that changed one of the objects.
    positions: BTreeSet<u64>,
    gone: Gone,
}

impl<'a> Removal<'a> {
    fn new(objects: &'a BTreeSet<u128>) -> Removal<'a> {
        let counts = objects.iter().map(|id| (*id, Forgotten::default())).collect();
        let gone =
            Gone { objects: objects.iter().map(|id| ObjectId::from_bits(*id)).collect(), ..Gone::default() };
        Removal { objects, counts, positions: BTreeSet::new(), gone }
    }

    fn sum(&self) -> Forgotten {
        self.counts.values().fold(Forgotten::default(), |sum, one| Forgotten {
            objects: sum.objects + u64::from(one.states > 0),
            states: sum.states + one.states,
            names: sum.names + one.names,
            vectors: sum.vectors + one.vectors,
            shadows: sum.shadows + one.shadows,
            posts: sum.posts + one.posts,
            dead_letters: sum.dead_letters + one.dead_letters,
            ..sum
        })
    }

    fn count(&mut self, id: u128, of: impl FnOnce(&mut Forgotten) -> &mut u64) {
        *of(self.counts.entry(id).or_default()) += 1;
    }

    fn states(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        for id in self.objects {
            let mut owner = String::new();
            let (mut positions, mut taken) = (Vec::new(), Vec::new());
            let rows = tables.objects.open()?.extract_from_if((*id, 0)..=(*id, u64::MAX), |_, _| true)?;
            for row in Guarded::of(rows) {
                let (key, row) = row?;
                owner = tables::decode_owner(row.value())?.to_owned();
                taken.push((owner.clone(), row.value().len()));
                positions.push(key.value().1);
                self.count(*id, |counts| &mut counts.states);
            }
            taken.iter().for_each(|(owner, bytes)| tables.note_taken_state(owner, *bytes));
            tables.owned.open()?.remove((owner.as_str(), *id))?;
            for position in positions {
                tables.changes.open()?.remove((position, *id))?;
                self.positions.insert(position);
            }
        }
        Ok(())
    }

    /// Empties answers that were given with a commit that changed one of the objects, or that name one: their requests
    /// stay known. How many there were.
    fn answers(&self, tables: &mut Tables<'_>) -> Result<u64, Failure> {
        let names: HashSet<String> = self.gone.objects.iter().map(ToString::to_string).collect();
        let mut found = Vec::new();
        for row in tables.dedupe.open()?.rows()? {
            let (key, value) = row?;
            let (position, outcome) = value.value();
            let is_of_one = self.positions.contains(&position) || names_one(outcome, &names);
            if is_of_one && outcome != FORGOTTEN_ANSWER {
                found.push((key.value(), position));
            }
        }
        for (key, position) in &found {
            tables.dedupe.open()?.insert(*key, (*position, FORGOTTEN_ANSWER))?;
        }
        Ok(found.len() as u64)
    }

    fn names(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let mut touched = BTreeSet::new();
        for id in self.objects {
            let names = names_of(tables, *id)?;
            names.iter().for_each(|_| self.count(*id, |counts| &mut counts.names));
            touched.extend(names);
        }
        touched.iter().try_for_each(|name| forget_in_name(tables, name, self.objects))
    }

    fn vectors(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let numbers: Vec<u32> = tables
            .collections
            .open()?
            .rows()?
            .map(|row| Ok(row?.1.value().0))
            .collect::<Result<_, redb::StorageError>>()?;
        for id in self.objects {
            for number in &numbers {
                if tables.vectors.open()?.remove((*number, *id))?.is_some() {
                    self.count(*id, |counts| &mut counts.vectors);
                }
            }
        }
        let (mut removed, objects) = (0, self.objects);
        tables.redo.open()?.retain(|_, (_, object, _)| {
            let is_kept = !objects.contains(&object);
            removed += u64::from(!is_kept);
            is_kept
        })?;
        self.gone.redo_rows += removed;
        Ok(())
    }

    /// Shadows of the objects, and those of others that delegate to them: those are made again from the state that
    /// has been detached.
    fn shadows(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let objects = self.objects;
        let names_one = |row: &[u8]| {
            tables::decode_head(row)
                .is_ok_and(|head| head.parents.iter().any(|parent| objects.contains(parent)))
        };
        let removed =
            tables.shadows.open()?.extract_if(|(id, _), (_, row)| objects.contains(&id) || names_one(row))?;
        for row in Guarded::of(removed) {
            let (id, _) = row?.0.value();
            if objects.contains(&id) {
                self.count(id, |counts| &mut counts.shadows);
            }
        }
        Ok(())
    }

    fn posts(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let objects = self.objects;
        let is_theirs = |_, row: &[u8]| {
            tables::decode::<OutboxRow>("outbox", row).is_ok_and(|row| whose(&row.post, objects).is_some())
        };
        for row in Guarded::of(tables.outbox.open()?.extract_if(is_theirs)?) {
            let row: OutboxRow = tables::decode("outbox", row?.1.value())?;
            self.gone.posts.push((row.id, (row.post.source, row.post.target)));
            if let Some(id) = whose(&row.post, objects) {
                self.count(id, |counts| &mut counts.posts);
            }
        }
        Ok(())
    }

    fn dead_letters(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let objects = self.objects;
        let is_theirs = |_, row: &[u8]| {
            tables::decode::<DeadLetter>("dead_letters", row)
                .is_ok_and(|letter| whose(&letter.post, objects).is_some())
        };
        for row in Guarded::of(tables.dead_letters.open()?.extract_if(is_theirs)?) {
            let letter: DeadLetter = tables::decode("dead_letters", row?.1.value())?;
            if let Some(id) = whose(&letter.post, objects) {
                self.count(id, |counts| &mut counts.dead_letters);
            }
        }
        Ok(())
    }
}

/// The object to be forgotten that a post came from, else the one it goes to.
fn whose(post: &Post, objects: &BTreeSet<u128>) -> Option<u128> {
    [post.source, post.target].map(ObjectId::to_bits).into_iter().find(|id| objects.contains(id))
}

/// Every name that stood for an object at some time; its rows go with them.
fn names_of(tables: &mut Tables<'_>, id: u128) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    for row in tables.names_of.open()?.rows_in((id, "", 0)..)? {
        let key = row?.0;
        let (of, name, position) = key.value();
        if of != id {
            break;
        }
        names.insert(name.to_owned());
        keys.push((name.to_owned(), position));
    }
    for (name, position) in keys {
        tables.names_of.open()?.remove((id, name.as_str(), position))?;
    }
    Ok(names)
}

/// Rewrites one name's past as if the objects had never had it: where one of them had it, it stood for nothing. An
/// unbinding with nothing before it goes too, so that a name which only they had is no longer to be found.
fn forget_in_name(tables: &mut Tables<'_>, name: &str, objects: &BTreeSet<u128>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for row in tables.names.open()?.rows_in((name, 0)..=(name, u64::MAX))? {
        let (key, value) = row?;
        rows.push((key.value().1, value.value()));
    }
    for (position, _) in &rows {
        tables.take_name(name, *position)?;
        tables.renames.open()?.remove((*position, name))?;
    }
    let mut before: Option<(u64, Option<u128>)> = None;
    for (position, id) in rows {
        let id = id.filter(|id| !objects.contains(id));
        if id == before.and_then(|(_, id)| id) {
            continue;
        }
        tables.put_name(name, position, id)?;
        if let Some((replaced, _)) = before.replace((position, id)) {
            tables.renames.open()?.insert((position, name), replaced)?;
        }
    }
    Ok(())
}
