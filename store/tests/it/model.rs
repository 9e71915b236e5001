//! Random units, several open at a time, against a model that copies everything.

mod delegation;
mod outbox;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use telos_store::{
    CommitError, MemoryBackend, ObjectId, ObjectName, Position, ReadError, Savepoint, Slot, Store, Unit,
    WriteError,
};

use crate::fixture::{assert_clean, commit, name, number, operator, over};

#[derive(Clone, Debug, Default, PartialEq)]
struct Object {
    revision: u64,
    parents: Vec<ObjectId>,
    slots: BTreeMap<String, i64>,
}

/// What a unit sees, with what it wrote itself.
#[derive(Clone, Default)]
struct State {
    objects: BTreeMap<ObjectId, Object>,
    names: BTreeMap<ObjectName, ObjectId>,
    own_objects: BTreeSet<ObjectId>,
    own_names: BTreeSet<ObjectName>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Object(ObjectId),
    Name(ObjectName),
}

struct Open {
    unit: Unit,
    state: State,
    savepoints: Vec<(Savepoint, State)>,
    reads: BTreeSet<Read>,
}

/// The store, its model and the units open over both.
struct World {
    store: Store,
    committed: State,
    versions: BTreeMap<Read, Position>,
    history: BTreeMap<ObjectId, Vec<(Position, Object)>>,
    ids: Vec<ObjectId>,
    open: [Option<Open>; 3],
}

#[derive(Clone, Debug)]
enum Step {
    Create(Vec<usize>),
    SetSlot(usize, u8, i64),
    RemoveSlot(usize, u8),
    SetParents(usize, Vec<usize>),
    Bind(u8, usize),
    Unbind(u8),
    Object(usize),
    Lookup(usize, u8),
    Find(u8),
    Names(u8, u8, usize),
    NamesOf(usize),
    History(usize),
    Savepoint,
    /// Ends the open savepoint of that depth, and those above it.
    Keep(usize),
    Discard(usize),
    Commit,
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let object = 0_usize..6;
    let parents = prop::collection::vec(0_usize..6, 0..3);
    prop_oneof![
        2 => parents.clone().prop_map(Step::Create),
        4 => (object.clone(), 0_u8..3, -9_i64..9).prop_map(|(id, slot, value)| Step::SetSlot(id, slot, value)),
        1 => (object.clone(), 0_u8..3).prop_map(|(id, slot)| Step::RemoveSlot(id, slot)),
        2 => (object.clone(), parents).prop_map(|(id, parents)| Step::SetParents(id, parents)),
        4 => (0_u8..4, object.clone()).prop_map(|(name, id)| Step::Bind(name, id)),
        1 => (0_u8..4).prop_map(Step::Unbind),
        2 => object.clone().prop_map(Step::Object),
        3 => (object.clone(), 0_u8..3).prop_map(|(id, slot)| Step::Lookup(id, slot)),
        1 => (0_u8..4).prop_map(Step::Find),
        3 => (0_u8..3, 0_u8..5, 0_usize..5).prop_map(|(prefix, after, limit)| Step::Names(prefix, after, limit)),
        2 => object.clone().prop_map(Step::NamesOf),
        1 => object.prop_map(Step::History),
        2 => Just(Step::Savepoint),
        1 => (0_usize..4).prop_map(Step::Keep),
        1 => (0_usize..4).prop_map(Step::Discard),
        4 => Just(Step::Commit),
        1 => Just(Step::Drop),
    ]
}

fn slot_name(slot: u8) -> String {
    format!("s{slot}")
}

/// Names share prefixes, so that listing has something to cut off.
fn object_name(number: u8) -> ObjectName {
    name(["a", "a/b", "ab", "b"][usize::from(number)])
}

impl Open {
    fn read_object(&mut self, id: ObjectId) -> Option<Object> {
        if !self.state.own_objects.contains(&id) {
            self.reads.insert(Read::Object(id));
        }
        self.state.objects.get(&id).cloned()
    }

    /// Existence is recorded only when it is absence: objects are never deleted.
    fn exists(&mut self, id: ObjectId) -> bool {
        let is_there = self.state.objects.contains_key(&id);
        if !is_there {
            self.reads.insert(Read::Object(id));
        }
        is_there
    }

    fn read_name(&mut self, name: &ObjectName) -> Option<ObjectId> {
        if !self.state.own_names.contains(name) {
            self.reads.insert(Read::Name(name.clone()));
        }
        self.state.names.get(name).copied()
    }

    fn write(&mut self, id: ObjectId, change: impl FnOnce(&mut Object)) {
        let is_first = self.state.own_objects.insert(id);
        let object = self.state.objects.get_mut(&id).unwrap();
        object.revision += u64::from(is_first);
        change(object);
    }

    fn write_name(&mut self, name: &ObjectName, id: Option<ObjectId>) {
        self.state.own_names.insert(name.clone());
        match id {
            Some(id) => self.state.names.insert(name.clone(), id),
            None => self.state.names.remove(name),
        };
    }

    fn lookup(
        &mut self,
        id: ObjectId,
        slot: &str,
        visited: &mut BTreeSet<ObjectId>,
    ) -> Option<(ObjectId, i64)> {
        if !visited.insert(id) {
            return None;
        }
        let object = self.read_object(id)?;
        if let Some(value) = object.slots.get(slot) {
            return Some((id, *value));
        }
        object.parents.iter().find_map(|parent| self.lookup(*parent, slot, visited))
    }
}

impl World {
    fn new(store: Store) -> World {
        World {
            store,
            committed: State::default(),
            versions: BTreeMap::new(),
            history: BTreeMap::new(),
            ids: vec![ObjectId::from_parts(0, 404)], // never made
            open: [None, None, None],
        }
    }

    fn id(&self, number: usize) -> ObjectId {
        // The newest few: what units fight over.
        self.ids[self.ids.len() - 1 - number % self.ids.len().min(6)]
    }

    fn run(&mut self, place: usize, step: &Step) {
        let mut open = self.open[place].take().unwrap_or_else(|| Open {
            unit: self.store.begin(),
            state: self.committed.clone(),
            savepoints: Vec::new(),
            reads: BTreeSet::new(),
        });
        match step {
            Step::Commit => return self.commit(open),
            Step::Drop => return,
            Step::Create(..) | Step::SetSlot(..) | Step::RemoveSlot(..) | Step::SetParents(..) => {
                self.write(&mut open, step);
            }
            Step::Bind(..) | Step::Unbind(..) => self.rename(&mut open, step),
            Step::Savepoint | Step::Keep(_) | Step::Discard(_) => save(&mut open, step),
            _ => self.look(&mut open, step),
        }
        self.open[place] = Some(open);
    }

    fn write(&mut self, open: &mut Open, step: &Step) {
        match step {
            Step::Create(parents) => {
                let parents: Vec<_> = parents.iter().map(|parent| self.id(*parent)).collect();
                let expected = parents.iter().all(|parent| open.exists(*parent));
                let made = open.unit.create(operator(), 1, parents.clone());
                assert_eq!(made.is_ok(), expected);
                if let Ok(id) = made {
                    self.ids.push(id);
                    open.state.objects.insert(id, Object { revision: 0, parents, slots: BTreeMap::new() });
                    open.write(id, |_| {});
                }
            }
            Step::SetSlot(id, slot, value) => {
                let (id, slot) = (self.id(*id), slot_name(*slot));
                let expected = open.read_object(id).is_some();
                assert_eq!(open.unit.set_slot(id, &slot, number(*value)).is_ok(), expected);
                if expected {
                    open.write(id, |object| {
                        object.slots.insert(slot, *value);
                    });
                }
            }
            Step::RemoveSlot(id, slot) => {
                let (id, slot) = (self.id(*id), slot_name(*slot));
                let expected = open.read_object(id).map(|object| object.slots.contains_key(&slot));
                assert_eq!(open.unit.remove_slot(id, &slot).ok(), expected);
                if expected == Some(true) {
                    open.write(id, |object| {
                        object.slots.remove(&slot);
                    });
                }
            }
            Step::SetParents(id, parents) => {
                let id = self.id(*id);
                let parents: Vec<_> = parents.iter().map(|parent| self.id(*parent)).collect();
                let expected =
                    open.read_object(id).is_some() && parents.iter().all(|parent| open.exists(*parent));
                assert_eq!(open.unit.set_parents(id, parents.clone()).is_ok(), expected);
                if expected {
                    open.write(id, |object| object.parents = parents);
                }
            }
            _ => unreachable!(),
        }
    }

    fn rename(&mut self, open: &mut Open, step: &Step) {
        match step {
            Step::Bind(name, id) => {
                let (name, id) = (object_name(*name), self.id(*id));
                let exists = open.exists(id);
                let before = exists.then(|| open.read_name(&name)).flatten();
                match open.unit.bind(&name, id) {
                    Ok(()) => {
                        assert!(exists && before.is_none_or(|before| before == id));
                        if before.is_none() {
                            open.write_name(&name, Some(id));
                        }
                    }
                    Err(WriteError::NameTaken { by, .. }) => {
                        assert!(exists && before == Some(by) && by != id)
                    }
                    Err(error) => assert!(!exists, "{error}"),
                }
            }
            Step::Unbind(name) => {
                let name = object_name(*name);
                let before = open.read_name(&name);
                assert_eq!(open.unit.unbind(&name).unwrap(), before);
                if before.is_some() {
                    open.write_name(&name, None);
                }
            }
            _ => unreachable!(),
        }
    }

    fn look(&mut self, open: &mut Open, step: &Step) {
        match step {
            Step::Object(id) => {
                let id = self.id(*id);
                let expected = open.read_object(id);
                assert_eq!(open.unit.object(id).unwrap().as_deref().map(plain), expected);
            }
            Step::Lookup(id, slot) => {
                let (id, slot) = (self.id(*id), slot_name(*slot));
                let expected = open.lookup(id, &slot, &mut BTreeSet::new());
                match open.unit.lookup(id, &slot) {
                    Ok(found) => {
                        assert!(open.state.objects.contains_key(&id));
                        assert_eq!(found.map(|found| (found.holder, value(&found.slot))), expected);
                    }
                    Err(ReadError::NoSuchObject(missing)) => {
                        assert_eq!(missing, id);
                        assert!(!open.state.objects.contains_key(&id));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Find(name) => {
                let name = object_name(*name);
                let expected = open.read_name(&name);
                assert_eq!(open.unit.find(&name).unwrap(), expected);
            }
            Step::Names(prefix, after, limit) => {
                let prefix = ["", "a", "a/"][usize::from(*prefix)];
                let after = ["", "a", "a/b", "aa", "b"][usize::from(*after)];
                let names = open.state.names.iter();
                let passing =
                    names.filter(|(name, _)| name.as_str().starts_with(prefix) && name.as_str() > after);
                let expected: Vec<_> = passing.take(*limit).map(|(name, id)| (name.clone(), *id)).collect();
                assert_eq!(open.unit.names(prefix, after, *limit).unwrap(), expected, "{prefix:?} {after:?}");
            }
            Step::NamesOf(id) => {
                let id = self.id(*id);
                let names = open.state.names.iter().filter(|(_, of)| **of == id);
                let expected: Vec<_> = names.map(|(name, _)| name.clone()).collect();
                assert_eq!(open.unit.names_of(id).unwrap(), expected);
            }
            Step::History(id) => {
                let id = self.id(*id);
                let states = self.history.get(&id).into_iter().flatten().rev();
                let visible = states.filter(|(position, _)| *position <= open.unit.snapshot());
                let expected: Vec<_> = visible.take(5).cloned().collect();
                let found = open.unit.history(id, 5).unwrap();
                let found: Vec<_> = found.iter().map(|object| (object.position, plain(object))).collect();
                assert_eq!(found, expected);
            }
            _ => unreachable!(),
        }
    }

    fn commit(&mut self, open: Open) {
        let Open { unit, state, reads, .. } = open;
        let snapshot = unit.snapshot();
        let is_unwritten = state.own_objects.is_empty() && state.own_names.is_empty();
        assert_eq!(unit.is_unwritten(), is_unwritten);
        let version = |read: &Read| self.versions.get(read).copied().unwrap_or(Position::NONE);
        let is_stale = reads.iter().any(|read| version(read) > snapshot);
        let before = self.store.position();
        match commit(&self.store, unit) {
            Ok(done) if is_unwritten => {
                assert_eq!((done.position, self.store.position()), (snapshot, before))
            }
            Ok(done) => {
                assert!(!is_stale, "stale reads passed: {reads:?}");
                assert_eq!((done.position, self.store.position()), (before.next(), before.next()));
                self.publish(state, done.position);
            }
            Err(CommitError::Conflict(what)) => assert!(is_stale, "{what}, though nothing read had changed"),
            Err(error) => panic!("{error}"),
        }
    }

    fn publish(&mut self, state: State, position: Position) {
        for id in &state.own_objects {
            let object = state.objects[id].clone();
            self.history.entry(*id).or_default().push((position, object.clone()));
            self.committed.objects.insert(*id, object);
            self.versions.insert(Read::Object(*id), position);
        }
        for name in &state.own_names {
            if state.names.get(name) != self.committed.names.get(name) {
                self.versions.insert(Read::Name(name.clone()), position);
            }
            match state.names.get(name) {
                Some(id) => self.committed.names.insert(name.clone(), *id),
                None => self.committed.names.remove(name),
            };
        }
    }

    /// Every committed state, as of every position, and the newest names.
    fn assert_holds_everything(&self, store: &Store) {
        for (id, states) in &self.history {
            for at in 0..=store.position().get() {
                let expected = states.iter().rev().find(|(position, _)| position.get() <= at);
                let found = store.object_at(*id, Position::new(at)).unwrap();
                assert_eq!(found.as_ref().map(plain), expected.map(|(_, object)| object.clone()));
            }
        }
        let names: Vec<_> = self.committed.names.iter().map(|(name, id)| (name.clone(), *id)).collect();
        assert_eq!(store.begin().names("", "", 100).unwrap(), names);
        assert_eq!(store.counts().unwrap().objects, self.history.len() as u64);
    }
}

fn save(open: &mut Open, step: &Step) {
    match step {
        Step::Savepoint => {
            let savepoint = open.unit.savepoint();
            open.savepoints.push((savepoint, open.state.clone()));
        }
        Step::Keep(depth) => {
            if let Some((savepoint, _)) = end(open, *depth) {
                open.unit.keep(savepoint);
            }
        }
        Step::Discard(depth) => {
            if let Some((savepoint, state)) = end(open, *depth) {
                open.unit.discard(savepoint);
                open.state = state;
            }
        }
        _ => unreachable!(),
    }
}

/// The open savepoint of a depth; those above it are forgotten.
fn end(open: &mut Open, depth: usize) -> Option<(Savepoint, State)> {
    let at = depth % open.savepoints.len().max(1);
    let ended = open.savepoints.drain(at.min(open.savepoints.len())..);
    ended.into_iter().next()
}

fn value(slot: &Slot) -> i64 {
    let Slot::Value(value) = slot else { panic!("{slot:?}") };
    value.to_value().as_i64().unwrap()
}

fn plain(object: &telos_store::Object) -> Object {
    let slots = object.slots.iter().map(|(name, slot)| (name.clone(), value(slot))).collect();
    Object { revision: object.revision.get(), parents: object.parents.clone(), slots }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn units_behave_as_the_model(steps in prop::collection::vec((0_usize..3, step()), 1..120)) {
        let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        let mut world = World::new(over(&dir, &backend));
        for (place, step) in &steps {
            world.run(*place, step);
        }
        world.open = [None, None, None];
        assert_clean(&world.store);
        world.assert_holds_everything(&world.store);
        let World { store, history, committed, versions, ids, open } = world;
        drop(store);
        let store = over(&dir, &backend);
        let world = World { store: store.clone(), history, committed, versions, ids, open };
        world.assert_holds_everything(&store);
        assert_clean(&store);
    }
}
