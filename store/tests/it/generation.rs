//! Generations: copies nobody reads, one small commit that puts them in force, and readers that see no step of it.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;

use proptest::prelude::*;
use telos_store::{
    CommitError, ComponentId, Contested, Decided, Digest, Effect, Fault, Json, LayoutMode, MemoryBackend,
    MethodSlot, Object, ObjectId, OpenError, Position, ReadError, Slot, Store, StoreOptions, Toward, Unit,
    Vote, WriteError, limit,
};

use crate::fixture::{assert_clean, commit, name, number, over, read, scratch, within};

fn component(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn evolver() -> Digest {
    Digest::of(b"the code that evolves")
}

/// What these tests' components do with state: one slot named after the generation.
fn evolve(slots: &BTreeMap<String, i64>, to: u32) -> BTreeMap<String, i64> {
    let sum: i64 = slots.values().fold(0, |sum, value| sum.wrapping_add(*value));
    BTreeMap::from([(format!("n{to}"), sum.wrapping_mul(3).wrapping_add(i64::from(to)))])
}

fn values(object: &Object) -> BTreeMap<String, i64> {
    let value = |slot: &Slot| match slot {
        Slot::Value(value) => value.to_value().as_i64(),
        Slot::Method(_) => None,
    };
    object.slots.iter().filter_map(|(name, slot)| Some((name.clone(), value(slot)?))).collect()
}

fn json(slots: BTreeMap<String, i64>) -> BTreeMap<String, Json> {
    slots.into_iter().map(|(name, value)| (name, Json::parse(&value.to_string()).unwrap())).collect()
}

fn put(unit: &mut Unit, object: &Object, to: u32) {
    unit.put_shadow(object.id, object.position, to, json(evolve(&values(object), to))).unwrap();
}

/// Evolves everything that is left to evolve, in batches; answers how many copies were made.
fn evolve_all(store: &Store, component: &ComponentId, toward: Toward, batch: usize) -> usize {
    let to = toward.generation();
    let (mut after, mut made) = (None, 0);
    loop {
        let listed = store.unevolved(component, toward, after, batch).unwrap();
        let Some(last) = listed.last() else { return made };
        (after, made) = (Some(last.id), made + listed.len());
        within(store, |unit| listed.iter().for_each(|object| put(unit, object, to)));
    }
}

fn raise(store: &Store, component: &ComponentId, from: u32, to: u32) -> Result<Position, CommitError> {
    let mut unit = store.begin();
    unit.raise_generation(component, from, to, evolver()).unwrap();
    commit(store, unit).map(|commit| commit.position)
}

fn make(unit: &mut Unit, owner: &ComponentId, generation: u32, value: i64) -> ObjectId {
    let id = unit.create(owner.clone(), generation, vec![]).unwrap();
    unit.set_slot(id, "n", number(value)).unwrap();
    id
}

#[test]
fn a_raise_changes_every_object_at_once_and_none_before() {
    let store = scratch();
    let (ours, other) = (component("ours"), component("other"));
    let ids: Vec<_> = (0..5).map(|value| within(&store, |unit| make(unit, &ours, 1, value))).collect();
    let stranger = within(&store, |unit| make(unit, &other, 1, 7));
    let child = within(&store, |unit| unit.create(other.clone(), 1, vec![ids[3]]).unwrap());
    let (mut before, seen) = (store.begin(), store.position());

    assert_eq!(evolve_all(&store, &ours, Toward::Up(2), 2), 5);
    assert_eq!(read(&mut store.begin(), ids[3], "n"), Some(3));
    let raised = raise(&store, &ours, 1, 2).unwrap();

    let mut unit = store.begin();
    for (value, id) in ids.iter().enumerate() {
        let object = unit.object(*id).unwrap().unwrap();
        let expected = 3 * i64::try_from(value).unwrap() + 2;
        assert_eq!(values(&object), BTreeMap::from([("n2".into(), expected)]));
        assert_eq!((object.generation, object.revision.get(), object.position), (2, 2, raised));
        assert_eq!(store.object_at(*id, seen).unwrap().unwrap().generation, 1);
        assert_eq!(store.object_at(*id, raised).unwrap().unwrap(), *object);
    }
    assert_eq!(unit.lookup(child, "n2").unwrap().unwrap().holder, ids[3]);
    assert_eq!(unit.lookup(child, "n").unwrap(), None);
    assert_eq!(unit.object(stranger).unwrap().unwrap().generation, 1);
    assert_eq!(before.lookup(child, "n").unwrap().unwrap().holder, ids[3]);
    assert_clean(&store);

    let history = |store: &Store| store.begin().history(ids[0], 10).unwrap();
    let states = history(&store);
    assert_eq!(states.iter().map(|state| state.generation).collect::<Vec<_>>(), [2, 1]);
    let rows = store.counts().unwrap().object_rows;
    assert_eq!((store.settle_generation(3).unwrap(), store.settle_generation(3).unwrap()), (3, 2));
    assert_eq!(store.settle_generation(3).unwrap(), 0);
    assert_eq!((history(&store), store.counts().unwrap().object_rows), (states, rows + 5));
    assert_clean(&store);
    let record = store.generation(&ours).unwrap().unwrap();
    assert_eq!((record.generation, record.evolver), (2, evolver()));
    assert_eq!(store.generation(&other).unwrap(), None);
}

#[test]
fn the_raise_is_a_fact_with_its_evolver_and_counts() {
    let store = scratch();
    let ours = component("ours");
    within(&store, |unit| {
        make(unit, &ours, 1, 1);
        make(unit, &ours, 2, 2);
    });
    evolve_all(&store, &ours, Toward::Up(2), 10);
    let raised = raise(&store, &ours, 1, 2).unwrap();
    let rows = store.audit_after(0, 10).unwrap();
    assert_eq!((rows[0].kind.as_str(), rows[0].subject.as_str()), ("generation.raised", "ours"));
    let expected = serde_json::json!({"from": 1, "to": 2, "evolver": evolver(), "objects": 2, "evolved": 1});
    assert_eq!((rows.len(), &rows[0].detail, rows[0].position), (1, &expected, raised));
}

#[test]
fn whoever_read_the_old_state_conflicts_with_the_raise() {
    let store = scratch();
    let ours = component("ours");
    let id = within(&store, |unit| make(unit, &ours, 1, 1));
    let [mut reader, mut writer, mut maker] = [store.begin(), store.begin(), store.begin()];
    assert_eq!(read(&mut reader, id, "n"), Some(1));
    reader.audit("saw", "it", serde_json::Value::Null).unwrap();
    writer.set_slot(id, "n", number(9)).unwrap();
    make(&mut maker, &ours, 1, 4);
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    for unit in [reader, writer] {
        let error = commit(&store, unit).unwrap_err();
        assert!(matches!(error, CommitError::Conflict(Contested::Object(object)) if object == id), "{error}");
    }
    // Nothing that it read has changed, yet it would leave an object behind.
    let error = commit(&store, maker).unwrap_err();
    assert!(matches!(&error, CommitError::Conflict(Contested::Generation(of)) if *of == ours), "{error}");

    within(&store, |unit| unit.set_slot(id, "n2", number(10)).unwrap());
    let mut unit = store.begin();
    let object = unit.object(id).unwrap().unwrap();
    assert_eq!((object.generation, object.revision.get()), (2, 3));
    let error = unit.create(ours.clone(), 1, vec![]).unwrap_err();
    let found = WriteError::Generation { component: ours, found: 1, in_force: 2 };
    assert_eq!(error.to_string(), found.to_string());
    assert_clean(&store);
}

#[test]
fn a_write_drops_the_copy_of_what_it_replaces() {
    let store = scratch();
    let ours = component("ours");
    let ids: Vec<_> = (0..2).map(|value| within(&store, |unit| make(unit, &ours, 1, value))).collect();
    let listed = store.unevolved(&ours, Toward::Up(2), None, 10).unwrap();
    evolve_all(&store, &ours, Toward::Up(2), 10);
    within(&store, |unit| unit.set_slot(ids[1], "n", number(50)).unwrap());
    let error = raise(&store, &ours, 1, 2).unwrap_err();
    assert!(
        matches!(&error, CommitError::Unevolved { component, object } if (component, *object) == (&ours, ids[1])),
        "{error}"
    );
    assert_eq!((error.effect(), error.fault()), (Effect::None, Fault::Host));
    // Made from the state that is no longer there, so it is not taken.
    within(&store, |unit| {
        listed.iter().filter(|object| object.id == ids[1]).for_each(|object| put(unit, object, 2));
    });
    assert!(raise(&store, &ours, 1, 2).is_err());
    assert_eq!(store.unevolved(&ours, Toward::Up(2), None, 10).unwrap().len(), 1);
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    assert_eq!(read(&mut store.begin(), ids[1], "n2"), Some(152));
    assert_clean(&store);
}

#[test]
fn only_the_generation_in_force_can_be_raised() {
    let store = scratch();
    let ours = component("ours");
    within(&store, |unit| make(unit, &ours, 1, 1));
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    evolve_all(&store, &ours, Toward::Up(4), 10);
    let error = raise(&store, &ours, 1, 4).unwrap_err();
    assert!(matches!(&error, CommitError::Conflict(Contested::Generation(of)) if *of == ours), "{error}");
    raise(&store, &ours, 2, 4).unwrap();
    let mut unit = store.begin();
    assert!(matches!(unit.raise_generation(&ours, 4, 4, evolver()), Err(WriteError::Generation { .. })));
    let generations: Vec<_> =
        store.generations(&ours).unwrap().iter().map(|record| record.generation).collect();
    assert_eq!(generations, [2, 4]);
    assert_clean(&store);
}

#[test]
fn the_raising_unit_evolves_what_it_writes_itself() {
    let store = scratch();
    let ours = component("ours");
    let (root, other) = within(&store, |unit| (make(unit, &ours, 1, 1), make(unit, &ours, 1, 2)));
    evolve_all(&store, &ours, Toward::Up(2), 10);
    let method =
        Slot::Method(MethodSlot { component: ours.clone(), requirement: "*".into(), selector: "say".into() });
    let mut unit = store.begin();
    unit.set_slot(root, "say", method.clone()).unwrap();
    unit.raise_generation(&ours, 1, 2, evolver()).unwrap();
    let error = commit(&store, unit).unwrap_err();
    assert!(matches!(error, CommitError::Unevolved { object, .. } if object == root), "{error}");

    let mut unit = store.begin();
    let before = unit.object(root).unwrap().unwrap();
    unit.evolve(root, 2, json(evolve(&values(&before), 2))).unwrap();
    unit.set_slot(root, "say", method.clone()).unwrap();
    unit.raise_generation(&ours, 1, 2, evolver()).unwrap();
    let raised = commit(&store, unit).unwrap().position;
    let mut unit = store.begin();
    let (root, other) = (unit.object(root).unwrap().unwrap(), unit.object(other).unwrap().unwrap());
    assert_eq!((root.position, root.revision.get(), root.generation), (raised, 2, 2));
    assert_eq!((other.position, other.revision.get(), other.generation), (raised, 2, 2));
    assert_eq!((root.slots.get("say"), values(&root)["n2"]), (Some(&method), 5));
    assert_eq!(store.settle_generation(10).unwrap(), 1);
    assert_clean(&store);
}

#[test]
fn copies_keep_parents_and_methods_and_the_bounds_of_objects() {
    let store = scratch();
    let ours = component("ours");
    let method = Slot::Method(MethodSlot {
        component: ours.clone(),
        requirement: "^1".into(),
        selector: "say".into(),
    });
    let parent = within(&store, |unit| make(unit, &ours, 1, 0));
    let id = within(&store, |unit| {
        let id = unit.create(ours.clone(), 1, vec![parent]).unwrap();
        unit.set_slot(id, "say", method.clone()).unwrap();
        id
    });
    let base = store.position();
    let mut unit = store.begin();
    let mut put = |base, generation, slots: &[(&str, String)]| {
        let slots = slots.iter().map(|(name, text)| ((*name).to_owned(), Json::parse(text).unwrap()));
        unit.put_shadow(id, base, generation, slots.collect())
    };
    let missing = put(Position::new(1), 2, &[]);
    assert!(matches!(missing, Err(WriteError::Read(ReadError::NoSuchObject(of))) if of == id));
    assert!(matches!(put(base, 1, &[]), Err(WriteError::Generation { found: 1, in_force: 1, .. })));
    assert!(matches!(put(base, 2, &[("say", "1".into())]), Err(WriteError::Invalid(_))));
    assert!(matches!(put(base, 2, &[("", "1".into())]), Err(WriteError::Invalid(_))));
    let large = format!("\"{}\"", "x".repeat(limit::VALUE_BYTES_MAX - 2));
    let many: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| (name, large.clone())).into();
    assert!(matches!(put(base, 2, &many), Err(WriteError::TooLarge(_))));
    put(base, 2, &[("a", "1".into())]).unwrap();
    commit(&store, unit).unwrap();
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    let object = store.begin().object(id).unwrap().unwrap();
    assert_eq!((&object.parents, object.slots.get("say")), (&vec![parent], Some(&method)));
    assert_eq!(values(&object), BTreeMap::from([("a".into(), 1)]));
}

#[test]
fn a_generation_that_was_not_reached_leaves_nothing() {
    let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
    let store = over(&dir, &backend);
    let (ours, other) = (component("ours"), component("other"));
    within(&store, |unit| {
        for value in 0..3 {
            make(unit, &ours, 1, value);
        }
        make(unit, &other, 1, 9);
    });
    evolve_all(&store, &ours, Toward::Up(2), 2);
    evolve_all(&store, &other, Toward::Up(2), 2);
    assert_eq!((store.drop_shadows(&ours).unwrap(), store.drop_shadows(&ours).unwrap()), (3, 0));
    assert_eq!(store.unevolved(&ours, Toward::Up(2), None, 10).unwrap().len(), 3);
    assert!(store.unevolved(&other, Toward::Up(2), None, 10).unwrap().is_empty());
    drop(store);
    // As after a crash: what was not in force is gone when the store is open again.
    let store = over(&dir, &backend);
    assert_eq!(store.unevolved(&other, Toward::Up(2), None, 10).unwrap().len(), 1);
    assert_eq!(store.drop_shadows(&other).unwrap(), 0);
    assert_clean(&store);
}

#[test]
fn listings_of_what_is_to_be_evolved_are_bounded_and_go_on() {
    let store = scratch();
    let ours = component("ours");
    let large = Slot::Value(Json::parse(&format!("\"{}\"", "x".repeat(200_000))).unwrap());
    let mut ids = BTreeSet::new();
    for _ in 0..40 {
        within(&store, |unit| {
            let id = unit.create(ours.clone(), 1, vec![]).unwrap();
            unit.set_slot(id, "text", large.clone()).unwrap();
            ids.insert(id);
        });
    }
    let (mut after, mut listed, mut batches) = (None, Vec::new(), 0);
    loop {
        let batch = store.unevolved(&ours, Toward::Up(2), after, 1_000).unwrap();
        let Some(last) = batch.last() else { break };
        assert!(batch.iter().map(Object::bytes).sum::<usize>() <= limit::SHADOW_BATCH_BYTES_MAX + 200_100);
        (after, batches) = (Some(last.id), batches + 1);
        listed.extend(batch.iter().map(|object| object.id));
    }
    assert_eq!(listed, Vec::from_iter(ids));
    assert!(batches > 1);
    assert!(store.unevolved(&component("nobody"), Toward::Up(2), None, 10).unwrap().is_empty());
}

/// Goal: evolving beside writers loses no write. Method: each writer adds 1 to objects of its own while copies are
/// made and the raise is tried, at last with the writers shut out, as a host does; every raised state must be the
/// evolved state before it.
#[test]
fn writers_beside_an_evolution_lose_nothing() {
    let store = scratch();
    let ours = component("ours");
    let (threads, objects, target) = (4, 6, 6);
    let ids: Vec<Vec<ObjectId>> = (0..threads)
        .map(|_| within(&store, |unit| (0..objects).map(|_| make(unit, &ours, 1, 0)).collect()))
        .collect();
    let admission = RwLock::new(Admission::Open);
    let (mut refused, mut written) = (0, Vec::new());
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            ids.iter().map(|own| scope.spawn(|| write_until_closed(&store, own, &admission))).collect();
        for to in 2..=target {
            refused += raise_beside_writers(&store, &ours, to, &admission);
            while store.settle_generation(7).unwrap() > 0 {}
        }
        *admission.write().unwrap() = Admission::Closed;
        written.extend(writers.into_iter().map(|writer| writer.join().unwrap()));
    });
    for (own, written) in ids.iter().zip(&written) {
        let writes: u64 = own.iter().map(|id| assert_evolved_in_place(&store, *id, target)).sum();
        assert_eq!(writes, *written, "writes of one thread");
    }
    assert!(written.iter().all(|written| *written > 0) && refused > 0, "{written:?}, {refused} refused");
    assert_clean(&store);
}

#[derive(PartialEq)]
enum Admission {
    Open,
    Closed,
}

/// Answers how many raises were refused for what was written meanwhile.
fn raise_beside_writers(
    store: &Store,
    component: &ComponentId,
    to: u32,
    admission: &RwLock<Admission>,
) -> u32 {
    for refused in 0..10 {
        evolve_all(store, component, Toward::Up(to), 5);
        match raise(store, component, to - 1, to) {
            Ok(_) => return refused,
            Err(CommitError::Unevolved { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let _shut = admission.write().unwrap();
    evolve_all(store, component, Toward::Up(to), 5);
    raise(store, component, to - 1, to).unwrap();
    10
}

/// Adds 1 to the objects' only slot, in turn; answers how often.
fn write_until_closed(store: &Store, own: &[ObjectId], admission: &RwLock<Admission>) -> u64 {
    let mut written = 0;
    for id in own.iter().cycle() {
        let admitted = admission.read().unwrap();
        if *admitted == Admission::Closed {
            break;
        }
        let mut unit = store.begin();
        let object = unit.object(*id).unwrap().unwrap();
        let (slot, value) = values(&object).pop_first().unwrap();
        unit.set_slot(*id, &slot, number(value + 1)).unwrap();
        match commit(store, unit) {
            Ok(_) => written += 1,
            Err(CommitError::Conflict(Contested::Object(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    written
}

/// Every state follows from the one before it, by one write or by one evolution; answers the writes.
fn assert_evolved_in_place(store: &Store, id: ObjectId, target: u32) -> u64 {
    let mut after = store.object_at(id, store.position()).unwrap().unwrap();
    let (generation, revision) = (after.generation, after.revision.get());
    assert_eq!(generation, target);
    while after.revision.get() > 2 {
        let before = store.object_at(id, Position::new(after.position.get() - 1)).unwrap().unwrap();
        assert_eq!(after.revision, before.revision.next());
        if after.generation == before.generation {
            let (slot, value) = values(&before).pop_first().unwrap();
            assert_eq!(values(&after), BTreeMap::from([(slot, value + 1)]));
        } else {
            assert_eq!(after.generation, before.generation + 1);
            assert_eq!(values(&after), evolve(&values(&before), after.generation));
        }
        after = before;
    }
    revision - u64::from(target)
}

const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");

#[test]
fn an_older_layout_is_left_alone_when_it_is_only_to_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let case = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/layout-1");
    crate::frozen::copy_tree(&case, dir.path());
    let layout = || {
        let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
        txn.open_table(META).unwrap().get("layout").unwrap().unwrap().value()
    };
    let check = || StoreOptions { layout: LayoutMode::Check, ..StoreOptions::default() };
    let error = Store::open(dir.path(), check()).unwrap_err();
    assert!(matches!(error, OpenError::OlderLayout { found: 1, known: 4, .. }), "{error}");
    assert!(error.to_string().contains("then run `telos up`, which raises it"), "{error}");
    assert_eq!((error.fault(), layout()), (Fault::Operator, 1));

    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.layout == 1 && report.rows > 0, "{report:#?}");
    assert_eq!(layout(), 1);

    drop(Store::open(dir.path(), StoreOptions::default()).unwrap());
    drop(Store::open(dir.path(), check()).unwrap());
    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.layout == 4, "{report:#?}");
}

#[test]
fn names_survive_a_raise() {
    let store = scratch();
    let ours = component("ours");
    within(&store, |unit| {
        let id = make(unit, &ours, 1, 1);
        unit.bind(&name("first"), id).unwrap();
    });
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    let mut unit = store.begin();
    let id = unit.find(&name("first")).unwrap().unwrap();
    assert_eq!(read(&mut unit, id, "n2"), Some(5));
}

#[test]
fn a_generation_is_lowered_and_raised_again_and_every_state_between_stays_readable() {
    let (store, ours) = (scratch(), component("ours"));
    let mut unit = store.begin();
    let ids: Vec<_> = (0..3).map(|value| make(&mut unit, &ours, 1, value)).collect();
    commit(&store, unit).unwrap();
    let mut seen = vec![(store.position(), 1)];
    // Nothing is settled between, so that copies of the same number stand beside each other.
    for (from, to) in [(1, 2), (2, 1), (1, 2), (2, 3), (3, 1), (1, 3)] {
        let toward = Toward::between(from, to).unwrap();
        assert_eq!(evolve_all(&store, &ours, toward, 2), ids.len());
        assert!(store.unevolved(&ours, toward, None, 10).unwrap().is_empty());
        seen.push((raise(&store, &ours, from, to).unwrap(), to));
    }
    let look = || {
        for id in &ids {
            for (position, generation) in &seen {
                let object = store.object_at(*id, *position).unwrap().unwrap();
                assert_eq!(object.generation, *generation, "{id} at {position}");
            }
            let history = store.begin().history(*id, 100).unwrap();
            let revisions: Vec<_> = history.iter().map(|object| object.revision.get()).collect();
            assert_eq!(revisions, [7, 6, 5, 4, 3, 2, 1]);
        }
        assert_clean(&store);
    };
    look();
    while store.settle_generation(2).unwrap() > 0 {
        look();
    }
    let kinds: Vec<_> = store.audit_after(0, 100).unwrap().into_iter().map(|row| row.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "generation.lowered").count(), 2);
}

#[test]
fn what_was_left_behind_by_lowering_is_written_no_more() {
    let (store, ours) = (scratch(), component("ours"));
    let mut unit = store.begin();
    let id = make(&mut unit, &ours, 1, 1);
    commit(&store, unit).unwrap();
    let never = store.begin().raise_generation(&ours, 2, 1, evolver());
    assert!(matches!(never, Err(WriteError::Generation { .. })), "{never:?}");
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    let mut late = store.begin();
    make(&mut late, &ours, 2, 5);
    let left = raise(&store, &ours, 2, 1).unwrap_err();
    assert!(matches!(left, CommitError::Unevolved { object, .. } if object == id), "{left}");
    evolve_all(&store, &ours, Toward::Down(1), 10);
    raise(&store, &ours, 2, 1).unwrap();
    let refused = commit(&store, late).unwrap_err();
    assert!(matches!(&refused, CommitError::Conflict(Contested::Generation(of)) if *of == ours), "{refused}");
    let mut unit = store.begin();
    make(&mut unit, &ours, 1, 6);
    commit(&store, unit).unwrap();
    assert_clean(&store);
}

#[test]
fn copies_of_a_state_that_a_raise_replaced_put_nothing_in_force() {
    let (store, ours) = (scratch(), component("ours"));
    let mut unit = store.begin();
    let id = make(&mut unit, &ours, 1, 1);
    commit(&store, unit).unwrap();
    evolve_all(&store, &ours, Toward::Up(3), 10);
    evolve_all(&store, &ours, Toward::Up(2), 10);
    raise(&store, &ours, 1, 2).unwrap();
    let stale = raise(&store, &ours, 2, 3).unwrap_err();
    assert!(matches!(stale, CommitError::Unevolved { object, .. } if object == id), "{stale}");
    assert_eq!(evolve_all(&store, &ours, Toward::Up(3), 10), 1);
    raise(&store, &ours, 2, 3).unwrap();
    assert_clean(&store);
}
