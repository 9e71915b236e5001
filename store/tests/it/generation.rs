//! Generations: copies nobody reads, one small commit that puts them in force, and readers that see no step of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;

use proptest::prelude::*;
use telos_store::{
    CommitError, ComponentId, Contested, Decided, Digest, Effect, Fault, Json, LayoutMode, MemoryBackend,
    MethodSlot, Object, ObjectId, OpenError, Position, ReadError, Slot, Store, StoreOptions, Unit, Vote,
    WriteError, limit,
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
fn evolve_all(store: &Store, component: &ComponentId, to: u32, batch: usize) -> usize {
    let (mut after, mut made) = (None, 0);
    loop {
        let listed = store.unevolved(component, to, after, batch).unwrap();
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

    assert_eq!(evolve_all(&store, &ours, 2, 2), 5);
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
    evolve_all(&store, &ours, 2, 10);
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
    evolve_all(&store, &ours, 2, 10);
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
    let listed = store.unevolved(&ours, 2, None, 10).unwrap();
    evolve_all(&store, &ours, 2, 10);
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
    assert_eq!(store.unevolved(&ours, 2, None, 10).unwrap().len(), 1);
    evolve_all(&store, &ours, 2, 10);
    raise(&store, &ours, 1, 2).unwrap();
    assert_eq!(read(&mut store.begin(), ids[1], "n2"), Some(152));
    assert_clean(&store);
}

#[test]
fn only_the_generation_in_force_can_be_raised() {
    let store = scratch();
    let ours = component("ours");
    within(&store, |unit| make(unit, &ours, 1, 1));
    evolve_all(&store, &ours, 2, 10);
    raise(&store, &ours, 1, 2).unwrap();
    evolve_all(&store, &ours, 4, 10);
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
    evolve_all(&store, &ours, 2, 10);
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
    evolve_all(&store, &ours, 2, 10);
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
    evolve_all(&store, &ours, 2, 2);
    evolve_all(&store, &other, 2, 2);
    assert_eq!((store.drop_shadows(&ours).unwrap(), store.drop_shadows(&ours).unwrap()), (3, 0));
    assert_eq!(store.unevolved(&ours, 2, None, 10).unwrap().len(), 3);
    assert!(store.unevolved(&other, 2, None, 10).unwrap().is_empty());
    drop(store);
    // As after a crash: what was not in force is gone when the store is open again.
    let store = over(&dir, &backend);
    assert_eq!(store.unevolved(&other, 2, None, 10).unwrap().len(), 1);
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
        let batch = store.unevolved(&ours, 2, after, 1_000).unwrap();
        let Some(last) = batch.last() else { break };
        assert!(batch.iter().map(Object::bytes).sum::<usize>() <= limit::SHADOW_BATCH_BYTES_MAX + 200_100);
        (after, batches) = (Some(last.id), batches + 1);
        listed.extend(batch.iter().map(|object| object.id));
    }
    assert_eq!(listed, Vec::from_iter(ids));
    assert!(batches > 1);
    assert!(store.unevolved(&component("nobody"), 2, None, 10).unwrap().is_empty());
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
        evolve_all(store, component, to, 5);
        match raise(store, component, to - 1, to) {
            Ok(_) => return refused,
            Err(CommitError::Unevolved { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let _shut = admission.write().unwrap();
    evolve_all(store, component, to, 5);
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
    assert!(matches!(error, OpenError::OlderLayout { found: 1, known: 2, .. }), "{error}");
    assert!(error.to_string().contains("then run `telos up`, which raises it"), "{error}");
    assert_eq!((error.fault(), layout()), (Fault::Operator, 1));

    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.layout == 1 && report.rows > 0, "{report:#?}");
    assert_eq!(layout(), 1);

    drop(Store::open(dir.path(), StoreOptions::default()).unwrap());
    drop(Store::open(dir.path(), check()).unwrap());
    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.layout == 2, "{report:#?}");
}

/// One object as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct State {
    owner: usize,
    generation: u32,
    revision: u64,
    slots: BTreeMap<String, i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Create {
        owner: usize,
        is_ahead: bool,
        value: i64,
    },
    Write {
        object: usize,
        value: i64,
    },
    Give {
        object: usize,
        owner: usize,
    },
    Evolve {
        owner: usize,
        count: usize,
    },
    EvolveStale {
        owner: usize,
        count: usize,
        value: i64,
    },
    /// Alone, or on top of a write that is not durable yet.
    Raise {
        owner: usize,
        with: Option<usize>,
        on: Option<usize>,
    },
    Fail {
        owner: usize,
    },
    Settle {
        count: usize,
    },
    Begin,
    Finish {
        place: usize,
        value: i64,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (owner, object, value) = (0_usize..2, 0_usize..8, -9_i64..9);
    prop_oneof![
        4 => (owner.clone(), prop::bool::weighted(0.2), value.clone())
            .prop_map(|(owner, is_ahead, value)| Step::Create { owner, is_ahead, value }),
        5 => (object.clone(), value.clone()).prop_map(|(object, value)| Step::Write { object, value }),
        2 => (object.clone(), owner.clone()).prop_map(|(object, owner)| Step::Give { object, owner }),
        6 => (owner.clone(), 1_usize..6).prop_map(|(owner, count)| Step::Evolve { owner, count }),
        1 => (owner.clone(), 1_usize..4, value.clone())
            .prop_map(|(owner, count, value)| Step::EvolveStale { owner, count, value }),
        5 => (owner.clone(), prop::option::weighted(0.3, object.clone()), prop::option::weighted(0.3, object))
            .prop_map(|(owner, with, on)| Step::Raise { owner, with, on }),
        1 => owner.prop_map(|owner| Step::Fail { owner }),
        2 => (1_usize..5).prop_map(|count| Step::Settle { count }),
        2 => Just(Step::Begin),
        2 => (0_usize..3, value).prop_map(|(place, value)| Step::Finish { place, value }),
        1 => Just(Step::Reopen),
    ]
}

/// The store, and a model that evolves every object at once when a generation is raised.
struct World {
    dir: tempfile::TempDir,
    backend: MemoryBackend,
    store: Option<Store>,
    owners: [ComponentId; 2],
    in_force: [Option<u32>; 2],
    states: BTreeMap<ObjectId, Vec<(Position, State)>>,
    /// Copies that are not in force, with the state they were made from.
    copies: BTreeMap<(ObjectId, u32), Position>,
    in_order: Vec<ObjectId>,
    open: Vec<Unit>,
    raises: usize,
}

impl World {
    fn new() -> World {
        let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        let store = Some(over(&dir, &backend));
        World {
            dir,
            backend,
            store,
            owners: [component("left"), component("right")],
            in_force: [None; 2],
            states: BTreeMap::new(),
            copies: BTreeMap::new(),
            in_order: Vec::new(),
            open: Vec::new(),
            raises: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn id(&self, number: usize) -> Option<ObjectId> {
        (!self.in_order.is_empty()).then(|| self.in_order[number % self.in_order.len()])
    }

    fn newest(&self, id: ObjectId) -> &(Position, State) {
        self.states[&id].last().unwrap()
    }

    fn generation(&self, owner: usize) -> u32 {
        self.in_force[owner].unwrap_or(1)
    }

    /// Adds a state that a write made, which the copies of the one before do not survive.
    fn written(&mut self, id: ObjectId, position: Position, state: State) {
        self.copies.retain(|(object, _), _| *object != id);
        self.states.entry(id).or_default().push((position, state));
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Create { owner, is_ahead, value } => self.create(owner, is_ahead, value),
            Step::Write { object, value } => self.write(object, value),
            Step::Give { object, owner } => self.give(object, owner),
            Step::Evolve { owner, count } => self.evolve(owner, count, None),
            Step::EvolveStale { owner, count, value } => self.evolve(owner, count, Some(value)),
            Step::Raise { owner, with, on } => self.raise(owner, with, on),
            Step::Fail { owner } => self.fail(owner),
            Step::Settle { count } => drop(self.store().settle_generation(count).unwrap()),
            Step::Begin if self.open.len() < 3 => self.open.push(self.store().begin()),
            Step::Begin => {}
            Step::Finish { place, value } => self.finish(place, value),
            Step::Reopen => self.reopen(),
        }
    }

    fn create(&mut self, owner: usize, is_ahead: bool, value: i64) {
        let generation = self.generation(owner) + u32::from(is_ahead);
        let mut unit = self.store().begin();
        let id = make(&mut unit, &self.owners[owner], generation, value);
        let position = commit(self.store(), unit).unwrap().position;
        self.in_order.push(id);
        let slots = BTreeMap::from([("n".into(), value)]);
        self.written(id, position, State { owner, generation, revision: 1, slots });
    }

    fn write(&mut self, object: usize, value: i64) {
        let Some((id, decided)) = self.vote_write(object, value) else { return };
        self.settle_write(id, decided, value);
    }

    /// A write that is voted for and may not be durable yet.
    fn vote_write(&self, object: usize, value: i64) -> Option<(ObjectId, Decided)> {
        let id = self.id(object)?;
        let mut unit = self.store().begin();
        unit.set_slot(id, "w", number(value)).unwrap();
        Some((id, self.store().decide(unit, Vote::default())))
    }

    fn settle_write(&mut self, id: ObjectId, decided: Decided, value: i64) {
        let position = decided.wait().unwrap().position;
        let mut state = self.newest(id).1.clone();
        state.revision += 1;
        state.slots.insert("w".into(), value);
        self.written(id, position, state);
    }

    fn give(&mut self, object: usize, owner: usize) {
        let Some(id) = self.id(object) else { return };
        let generation = self.generation(owner);
        let mut unit = self.store().begin();
        unit.set_owner_generation(id, self.owners[owner].clone(), generation).unwrap();
        let position = commit(self.store(), unit).unwrap().position;
        let mut state = self.newest(id).1.clone();
        (state.owner, state.generation, state.revision) = (owner, generation, state.revision + 1);
        self.written(id, position, state);
    }

    /// Objects that the next generation of this owner still waits for.
    fn unevolved(&self, owner: usize) -> Vec<ObjectId> {
        let to = self.generation(owner) + 1;
        let is_left = |(id, states): (&ObjectId, &Vec<(Position, State)>)| {
            let (position, state) = states.last().unwrap();
            let has_copy = self.copies.get(&(*id, to)) == Some(position);
            (state.owner == owner && state.generation < to && !has_copy).then_some(*id)
        };
        self.states.iter().filter_map(is_left).collect()
    }

    /// Makes copies; with `meanwhile`, something is written to each object before its copy is.
    fn evolve(&mut self, owner: usize, count: usize, meanwhile: Option<i64>) {
        let to = self.generation(owner) + 1;
        let listed = self.store().unevolved(&self.owners[owner], to, None, count).unwrap();
        let expected: Vec<_> = self.unevolved(owner).into_iter().take(count).collect();
        assert_eq!(listed.iter().map(|object| object.id).collect::<Vec<_>>(), expected);
        if let Some(value) = meanwhile {
            for id in &expected {
                let object = self.in_order.iter().position(|other| other == id).unwrap();
                self.write(object, value);
            }
        }
        within(self.store(), |unit| listed.iter().for_each(|object| put(unit, object, to)));
        for object in listed.iter().filter(|_| meanwhile.is_none()) {
            self.copies.insert((object.id, to), object.position);
        }
    }

    fn raise(&mut self, owner: usize, with: Option<usize>, on: Option<usize>) {
        let pending = on.and_then(|object| self.vote_write(object, 1));
        let (from, component) = (self.generation(owner), self.owners[owner].clone());
        let to = from + 1;
        let with = with.and_then(|object| self.id(object)).filter(|id| {
            let state = &self.newest(*id).1;
            state.owner == owner && state.generation < to
        });
        let mut unit = if pending.is_some() { self.store().begin_on_voted() } else { self.store().begin() };
        if let Some(id) = with {
            let before = unit.object(id).unwrap().unwrap();
            unit.evolve(id, to, json(evolve(&values(&before), to))).unwrap();
        }
        unit.raise_generation(&component, from, to, evolver()).unwrap();
        let decided = self.store().decide(unit, Vote::default());
        if let Some((id, pending)) = pending {
            self.settle_write(id, pending, 1);
        }
        let left: Vec<_> = self.unevolved(owner).into_iter().filter(|id| Some(*id) != with).collect();
        match decided.wait() {
            Ok(done) => {
                assert!(left.is_empty(), "raised without {left:?}");
                self.raised(owner, to, done.position);
            }
            Err(CommitError::Unevolved { component, object }) => {
                assert_eq!(component, self.owners[owner]);
                // What is pending is looked at first.
                let is_first = left.first() == Some(&object);
                assert!(is_first || (on.is_some() && left.contains(&object)), "{object} of {left:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn raised(&mut self, owner: usize, to: u32, position: Position) {
        self.in_force[owner] = Some(to);
        self.raises += 1;
        for (id, states) in &mut self.states {
            let (_, state) = states.last().unwrap();
            if state.owner == owner && state.generation < to {
                let slots = evolve(&state.slots, to);
                let state = State { owner, generation: to, revision: state.revision + 1, slots };
                states.push((position, state));
                // In force, or replaced by the write of the raise itself.
                self.copies.remove(&(*id, to));
            }
        }
    }

    fn fail(&mut self, owner: usize) {
        let before = self.copies.len();
        let states = &self.states;
        self.copies.retain(|(id, _), _| states[id].last().unwrap().1.owner != owner);
        let dropped = self.store().drop_shadows(&self.owners[owner]).unwrap();
        assert_eq!(dropped, before - self.copies.len());
    }

    /// A unit that was open for a while reads everything, and writes what it saw.
    fn finish(&mut self, place: usize, value: i64) {
        if place >= self.open.len() {
            return;
        }
        let mut unit = self.open.remove(place);
        let at = unit.snapshot();
        for (id, states) in &self.states {
            let seen: Vec<_> = states.iter().filter(|(position, _)| *position <= at).collect();
            let object = unit.object(*id).unwrap();
            assert_eq!(object.as_deref().map(|object| self.plain(object)), seen.last().copied().cloned());
            let history = unit.history(*id, 100).unwrap();
            let history: Vec<_> = history.iter().rev().map(|object| self.plain(object)).collect();
            assert_eq!(history.iter().collect::<Vec<_>>(), seen);
            if let Some((_, state)) = seen.last() {
                let slot = state.slots.keys().next().unwrap();
                assert_eq!(unit.lookup(*id, slot).unwrap().unwrap().holder, *id);
            }
        }
        let is_stale = self.states.keys().any(|id| self.newest(*id).0 > at);
        unit.audit("seen", "everything", value.into()).unwrap();
        match commit(self.store(), unit) {
            Ok(_) => assert!(!is_stale),
            Err(CommitError::Conflict(Contested::Object(id))) => assert!(self.newest(id).0 > at),
            Err(error) => panic!("{error}"),
        }
    }

    fn plain(&self, object: &Object) -> (Position, State) {
        let owner = self.owners.iter().position(|owner| *owner == object.owner).unwrap();
        let (generation, revision, slots) = (object.generation, object.revision.get(), values(object));
        (object.position, State { owner, generation, revision, slots })
    }

    fn reopen(&mut self) {
        self.open.clear();
        self.assert_clean();
        self.store = None;
        self.store = Some(over(&self.dir, &self.backend));
        self.copies.clear();
    }

    fn assert_clean(&self) {
        assert_clean(self.store());
    }

    /// Every object as of every position.
    fn assert_holds_everything(&self) {
        for (id, states) in &self.states {
            for at in 0..=self.store().position().get() {
                let expected = states.iter().rev().find(|(position, _)| position.get() <= at);
                let found = self.store().object_at(*id, Position::new(at)).unwrap();
                assert_eq!(found.map(|object| self.plain(&object)).as_ref(), expected, "{id} at {at}");
            }
            let history = self.store().begin().history(*id, 3).unwrap();
            let expected: Vec<_> = states.iter().rev().take(3).cloned().collect();
            assert_eq!(history.iter().map(|object| self.plain(object)).collect::<Vec<_>>(), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn generations_behave_as_a_model_that_evolves_at_once(steps in prop::collection::vec(step(), 1..90)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.assert_holds_everything();
        world.reopen();
        world.assert_holds_everything();
        while world.store().settle_generation(3).unwrap() > 0 {}
        world.assert_holds_everything();
        world.assert_clean();
        let raised: usize =
            world.owners.iter().map(|owner| world.store().generations(owner).unwrap().len()).sum();
        assert_eq!(raised, world.raises);
    }
}

fn cases() -> u32 {
    if crate::random::is_long() { 4_000 } else { 96 }
}

#[test]
fn names_survive_a_raise() {
    let store = scratch();
    let ours = component("ours");
    within(&store, |unit| {
        let id = make(unit, &ours, 1, 1);
        unit.bind(&name("first"), id).unwrap();
    });
    evolve_all(&store, &ours, 2, 10);
    raise(&store, &ours, 1, 2).unwrap();
    let mut unit = store.begin();
    let id = unit.find(&name("first")).unwrap().unwrap();
    assert_eq!(read(&mut unit, id, "n2"), Some(5));
}
