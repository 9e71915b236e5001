//! The room that states and names take: bounded for each component, counted when a unit votes, and never lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use telos_store::{
    Children, CommitError, ComponentId, Decided, Effect, Fault, Json, MemoryBackend, ObjectId, ObjectName,
    Post, Retention, SeatRecord, Slot, Store, StoreOptions, Unit, Vote, limit,
};

use crate::fixture::{assert_clean, commit, within};
use crate::random::is_long;

fn owner(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn bounded(owner_max: u64) -> StoreOptions {
    StoreOptions { stored_bytes_per_owner_max: owner_max, ..StoreOptions::default() }
}

fn text_of(bytes: usize) -> Slot {
    Slot::Value(Json::parse(&format!("\"{}\"", "x".repeat(bytes))).unwrap())
}

fn make(unit: &mut Unit, owner: &ComponentId, bytes: usize) -> ObjectId {
    let id = unit.create(owner.clone(), 1, vec![]).unwrap();
    unit.set_slot(id, "text", text_of(bytes)).unwrap();
    id
}

fn write(store: &Store, id: ObjectId, bytes: usize) -> Result<(), CommitError> {
    let mut unit = store.begin();
    unit.set_slot(id, "text", text_of(bytes)).unwrap();
    commit(store, unit).map(drop)
}

#[track_caller]
fn assert_full(refused: Result<(), CommitError>, whose: &ComponentId) -> String {
    let error = refused.unwrap_err();
    let CommitError::StorageFull { owner, found, allowed } = &error else { panic!("{error}") };
    assert!(owner == whose && found > allowed, "{error}");
    assert_eq!((error.effect(), error.fault()), (Effect::None, Fault::Guest));
    error.to_string()
}

#[test]
fn a_component_past_its_bytes_is_refused_when_it_votes_and_others_are_not() {
    let store = Store::scratch(bounded(4_000)).unwrap();
    let (babs, other) = (owner("babs"), owner("other"));
    let (mine, another) = within(&store, |unit| (make(unit, &babs, 1_000), make(unit, &other, 1_000)));
    let stored = store.stored_bytes(&babs);
    assert!((1_000..1_300).contains(&stored), "{stored}");
    // What is replaced stays as the past, and takes the same room.
    write(&store, mine, 1_000).unwrap();
    write(&store, mine, 1_000).unwrap();
    assert!(store.stored_bytes(&babs) > 3_000);
    let text = assert_full(write(&store, mine, 1_000), &babs);
    assert!(text.contains("babs would store") && text.contains("forget objects"), "{text}");
    write(&store, another, 1_000).unwrap();
    store.forget(&[mine], "a test", Children::Refuse).unwrap();
    assert_eq!(store.stored_bytes(&babs), 0);
    within(&store, |unit| make(unit, &babs, 3_000));
    assert_clean(&store);
}

#[test]
fn names_count_for_the_component_that_they_begin_with() {
    let store = Store::scratch(bounded(2_000)).unwrap();
    let babs = owner("babs");
    let id = within(&store, |unit| make(unit, &babs, 10));
    let bind = |number: usize| {
        let mut unit = store.begin();
        unit.bind(&ObjectName::new(&format!("babs/{number:0>200}")).unwrap(), id).unwrap();
        commit(&store, unit).map(drop)
    };
    let before = store.stored_bytes(&babs);
    bind(0).unwrap();
    assert_eq!(store.stored_bytes(&babs) - before, 3 * 205 + 128);
    bind(1).unwrap();
    assert_full(bind(2), &babs);
    assert_clean(&store);
}

#[test]
fn a_change_of_seats_is_counted_and_never_refused() {
    let store = Store::scratch(bounded(500)).unwrap();
    let babs = owner("babs");
    let id = within(&store, |unit| make(unit, &babs, 300));
    assert_full(write(&store, id, 300), &babs);
    let digest = store.put_blob(b"not really a component").unwrap();
    let seat = SeatRecord {
        component: babs.clone(),
        digest,
        previous: None,
        returns_to: None,
        swaps: 0,
        since_ms: 0,
    };
    let mut unit = store.begin();
    unit.set_seat(seat).unwrap();
    unit.set_slot(id, "text", text_of(400)).unwrap();
    commit(&store, unit).unwrap();
    assert!(store.stored_bytes(&babs) > 700);
}

#[test]
fn posts_are_bounded_for_whoever_owns_their_sources() {
    let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
    let open = || Store::open_with_backend(dir.path(), backend.clone(), StoreOptions::default()).unwrap();
    let store = open();
    let (babs, other) = (owner("babs"), owner("other"));
    let ids = within(&store, |unit| [&babs, &babs, &other].map(|owner| make(unit, owner, 1)));
    let post = |store: &Store, source: ObjectId, count: usize| {
        let mut unit = store.begin();
        unit.object(source).unwrap();
        for _ in 0..count {
            let (target, selector, arguments) = (ids[0], "a".into(), Json::parse("1").unwrap());
            unit.post(Post { source, target, selector, arguments, hops: 0, trace: "t".into() }).unwrap();
        }
        commit(store, unit).map(drop)
    };
    let units = limit::POSTS_PENDING_PER_OWNER_MAX / limit::POSTS_PER_UNIT_MAX;
    for unit in 0..units {
        post(&store, ids[unit % 2], limit::POSTS_PER_UNIT_MAX).unwrap();
    }
    let assert_full = |store: &Store| {
        let refused = post(store, ids[1], 1).unwrap_err();
        assert_eq!((refused.effect(), refused.fault()), (Effect::None, Fault::Guest));
        assert!(refused.to_string().contains("10000 posts of babs are pending"), "{refused}");
        post(store, ids[2], 1).unwrap();
    };
    assert_full(&store);
    drop(store);
    let store = open();
    assert_full(&store);
    assert_eq!((store.posts_pending(&babs), store.posts_pending(&other)), (10_000, 2));
    let oldest = store.outbox_due(0, 1).unwrap()[0].id;
    within(&store, |unit| unit.take_post(oldest));
    post(&store, ids[1], 1).unwrap();
    assert_eq!(store.posts_pending(&babs), 10_000);
}

#[derive(Clone, Debug)]
enum Act {
    Make { owner: usize, bytes: usize },
    Write { object: usize, bytes: usize },
    Clone { object: usize, owner: usize },
    Give { object: usize, owner: usize },
    Bind { object: usize, name: usize },
    Forget { object: usize },
    Prune,
    Wait,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let (object, owner) = (0_usize..8, 0_usize..3);
    prop_oneof![
        4 => (owner.clone(), 0_usize..60).prop_map(|(owner, bytes)| Act::Make { owner, bytes }),
        8 => (object.clone(), 0_usize..60).prop_map(|(object, bytes)| Act::Write { object, bytes }),
        2 => (object.clone(), owner.clone()).prop_map(|(object, owner)| Act::Clone { object, owner }),
        2 => (object.clone(), owner).prop_map(|(object, owner)| Act::Give { object, owner }),
        2 => (object.clone(), 0_usize..5).prop_map(|(object, name)| Act::Bind { object, name }),
        1 => object.prop_map(|object| Act::Forget { object }),
        1 => Just(Act::Prune),
        2 => Just(Act::Wait),
        1 => Just(Act::Restart),
    ]
}

/// States by object: owner and slot text of each that is kept, oldest first.
type Model = BTreeMap<ObjectId, Vec<(usize, usize)>>;

fn vote(store: &Store, work: impl FnOnce(&mut Unit)) -> Option<Decided> {
    let mut unit = store.begin_on_voted();
    work(&mut unit);
    Some(store.decide(unit, Vote::default()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_long() { 600 } else { 24 }))]
    /// The model knows the states that are kept; `assert_clean` recomputes all sums from all rows, those of names too.
    #[test]
    fn whatever_was_done_the_bytes_counted_are_those_that_are_there(acts in prop::collection::vec(act(), 1..60)) {
        const OWNER_MAX: u64 = 6_000;
        let (dir, backend, names) = (tempfile::tempdir().unwrap(), MemoryBackend::new(), ["a", "b", "c"].map(owner));
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&now);
        let options = move || {
            let clock = Arc::clone(&clock);
            StoreOptions {
                clock: Arc::new(move || clock.load(Ordering::Relaxed)),
                retention: Retention { age: Duration::from_secs(1), ..Retention::default() },
                ..bounded(OWNER_MAX)
            }
        };
        let open = |backend: &MemoryBackend| Store::open_with_backend(dir.path(), backend.clone(), options()).unwrap();
        let mut store = open(&backend);
        let (mut model, mut pending) = (Model::new(), Vec::<Decided>::new());
        let pick = |model: &Model, index: usize| model.keys().nth(index % model.len().max(1)).copied();
        for act in acts {
            let (decided, wrote) = match act {
                Act::Make { owner, bytes } => {
                    let mut made = None;
                    let decided = vote(&store, |unit| made = Some(make(unit, &names[owner], bytes)));
                    (decided, made.map(|id| (id, (owner, bytes))))
                }
                Act::Write { object, bytes } => {
                    let Some(id) = pick(&model, object) else { continue };
                    let (owner, _) = *model[&id].last().unwrap();
                    let decided = vote(&store, |unit| unit.set_slot(id, "text", text_of(bytes)).unwrap());
                    (decided, Some((id, (owner, bytes))))
                }
                Act::Clone { object, owner } => {
                    let Some(id) = pick(&model, object) else { continue };
                    let (_, bytes) = *model[&id].last().unwrap();
                    let mut made = None;
                    let decided = vote(&store, |unit| {
                        let text = unit.object(id).unwrap().unwrap().slots["text"].clone();
                        let copy = unit.create(names[owner].clone(), 1, vec![]).unwrap();
                        unit.set_slot(copy, "text", text).unwrap();
                        made = Some(copy);
                    });
                    (decided, made.map(|id| (id, (owner, bytes))))
                }
                Act::Give { object, owner } => {
                    let Some(id) = pick(&model, object) else { continue };
                    let (_, bytes) = *model[&id].last().unwrap();
                    let decided = vote(&store, |unit| unit.set_owner_generation(id, names[owner].clone(), 1).unwrap());
                    (decided, Some((id, (owner, bytes))))
                }
                Act::Bind { object, name } => {
                    let Some(id) = pick(&model, object) else { continue };
                    let name = ObjectName::new(&format!("named/{name}")).unwrap();
                    let decided = vote(&store, |unit| {
                        if unit.find(&name).unwrap().is_none() {
                            unit.bind(&name, id).unwrap();
                        }
                    });
                    (decided, None)
                }
                Act::Forget { object } => {
                    let Some(id) = pick(&model, object) else { continue };
                    store.forget(&[id], "a test", Children::Detach).unwrap();
                    model.remove(&id);
                    (None, None)
                }
                Act::Prune => {
                    for decided in pending.drain(..) {
                        prop_assert!(decided.wait().is_ok());
                    }
                    now.fetch_add(100_000, Ordering::Relaxed);
                    // A group dates the one before it.
                    within(&store, |unit| unit.audit("tick", "clock", serde_json::Value::Null).unwrap());
                    now.fetch_add(100_000, Ordering::Relaxed);
                    while !store.prune_history(now.load(Ordering::Relaxed)).unwrap().is_done {}
                    model.values_mut().for_each(|states| { states.drain(..states.len() - 1); });
                    assert_clean(&store);
                    (None, None)
                }
                Act::Wait | Act::Restart => {
                    for decided in pending.drain(..) {
                        prop_assert!(decided.wait().is_ok());
                    }
                    assert_clean(&store);
                    if matches!(act, Act::Restart) {
                        drop(store);
                        store = open(&backend);
                        assert_clean(&store);
                    }
                    (None, None)
                }
            };
            if let Some(decided) = decided {
                let asked: u64 = wrote.iter().map(|(_, (_, bytes))| 150 + *bytes as u64).sum();
                let is_near = wrote.is_some_and(|(_, (owner, _))| store.stored_bytes(&names[owner]) + asked > OWNER_MAX - 200);
                match (wrote, is_near) {
                    (Some((id, state)), false) => {
                        model.entry(id).or_default().push(state);
                        pending.push(decided);
                    }
                    // At the bound it may go either way: what it came to is seen.
                    (wrote, _) => match (decided.wait(), wrote) {
                        (Ok(_), Some((id, state))) => model.entry(id).or_default().push(state),
                        (Ok(_), None) => {}
                        (Err(refused), _) => {
                            let is_full = matches!(refused, CommitError::StorageFull { .. });
                            prop_assert!(is_full, "{}", refused);
                        }
                    },
                }
            }
            for (index, name) in names.iter().enumerate() {
                let states = model.values().flatten().filter(|(owner, _)| *owner == index);
                // A row: owner, generation, revision, no parents, one slot of four letters; 128 beside it.
                let expected: u64 = states.map(|(_, bytes)| 128 + row_bytes(*bytes) as u64).sum();
                let counted = store.stored_bytes(name);
                prop_assert!(counted == expected, "{}: {} counted, {} expected", name, counted, expected);
                prop_assert!(counted <= OWNER_MAX);
            }
        }
        for decided in pending {
            prop_assert!(decided.wait().is_ok());
        }
        assert_clean(&store);
    }
}

/// What postcard makes of such a state: one byte each for lengths and small numbers.
fn row_bytes(text: usize) -> usize {
    let (owner, generation, revision, parents, slots) = (2, 1, 1, 1, 1);
    let (name, kind, value) = (5, 1, 1 + text + 2);
    owner + generation + revision + parents + slots + name + kind + value
}
