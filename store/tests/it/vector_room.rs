//! The room that vectors take: bounded for each owner and for all, counted when a unit votes, and never lost.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;
use telos_store::{
    Children, CommitError, ComponentId, Effect, Fault, Json, MemoryBackend, ObjectId, Store, StoreOptions,
    Unit, Vote,
};

use crate::fixture::{assert_clean, commit, operator, within};
use crate::random::is_long;

/// What memory keeps for a vector beside its own.
const BESIDE: u64 = 300;
/// What a vector of five components without metadata counts for.
const BYTES: u64 = BESIDE + 22;

fn owner(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn bounded(owner_max: u64, max: u64) -> StoreOptions {
    StoreOptions { vector_bytes_per_owner_max: owner_max, vector_bytes_max: max, ..StoreOptions::default() }
}

fn objects(store: &Store, count: usize) -> Vec<ObjectId> {
    within(store, |unit| (0..count).map(|_| unit.create(operator(), 1, vec![]).unwrap()).collect())
}

fn upsert(unit: &mut Unit, owner: &ComponentId, id: ObjectId, metadata: &str) {
    unit.upsert_vector(owner, "notes", id, vec![1.0; 5], Json::parse(metadata).unwrap()).unwrap();
}

fn add(store: &Store, owner: &ComponentId, id: ObjectId) -> Result<(), CommitError> {
    let mut unit = store.begin();
    upsert(&mut unit, owner, id, "{}");
    commit(store, unit).map(drop)
}

#[track_caller]
fn assert_full(
    refused: Result<(), CommitError>,
    whose: Option<&ComponentId>,
    bytes: u64,
    bound: u64,
) -> String {
    let error = refused.unwrap_err();
    let CommitError::VectorsFull { owner, found, allowed } = &error else { panic!("{error}") };
    assert_eq!((owner.as_ref(), *found, *allowed), (whose, bytes, bound));
    assert_eq!(error.effect(), Effect::None);
    error.to_string()
}

#[test]
fn an_owner_past_its_bytes_is_refused_when_it_votes_and_may_still_remove() {
    let store = Store::scratch(bounded(4 * BYTES + 5, 10_000)).unwrap();
    let (babs, other, ids) = (owner("babs"), owner("other"), objects(&store, 6));
    ids[..4].iter().for_each(|id| add(&store, &babs, *id).unwrap());
    let text = assert_full(add(&store, &babs, ids[4]), Some(&babs), 5 * BYTES, 4 * BYTES + 5);
    assert!(text.contains("vectors of babs") && text.contains("remove some"), "{text}");
    assert_eq!((store.vector_bytes(&babs), store.usage().vector_bytes), (4 * BYTES, 4 * BYTES));
    add(&store, &babs, ids[3]).unwrap();
    add(&store, &other, ids[4]).unwrap();

    let with_metadata = |text: &str| {
        let mut unit = store.begin();
        upsert(&mut unit, &babs, ids[0], text);
        commit(&store, unit).map(drop)
    };
    with_metadata(r#"{"a":1}"#).unwrap();
    assert_full(with_metadata(r#"{"a":1234}"#), Some(&babs), 4 * BYTES + 8, 4 * BYTES + 5);

    let mut unit = store.begin();
    assert!(unit.remove_vector(&babs, "notes", ids[0]).unwrap());
    upsert(&mut unit, &babs, ids[4], "{}");
    commit(&store, unit).unwrap();
    store.forget(&[ids[1], ids[4]], "a test", Children::Refuse).unwrap();
    assert_eq!((store.vector_bytes(&babs), store.vector_bytes(&other)), (2 * BYTES, 0));
    assert_clean(&store);
}

#[test]
fn all_owners_share_one_bound_which_is_the_operators() {
    let store = Store::scratch(bounded(10_000, 2 * BYTES)).unwrap();
    let ids = objects(&store, 3);
    add(&store, &owner("a"), ids[0]).unwrap();
    add(&store, &owner("b"), ids[1]).unwrap();
    let refused = add(&store, &owner("c"), ids[2]);
    assert_eq!(refused.as_ref().unwrap_err().fault(), Fault::Operator);
    let text = assert_full(refused, None, 3 * BYTES, 2 * BYTES);
    assert!(text.contains("all components") && text.contains("quota of all"), "{text}");
}

/// The committer is kept busy, so that what is voted for stays pending.
#[test]
fn what_is_voted_for_and_not_yet_durable_is_counted() {
    let store = Store::scratch(bounded(3 * BYTES, 10_000)).unwrap();
    let (babs, ids) = (owner("babs"), objects(&store, 5));
    add(&store, &babs, ids[0]).unwrap();
    let ((entered, has_entered), (release, is_released)) = (mpsc::channel(), mpsc::channel::<()>());
    let mut unit = store.begin();
    unit.audit("busy", "committer", serde_json::Value::Null).unwrap();
    store.decide_then(unit, Vote::default(), move |_| {
        entered.send(()).unwrap();
        let _ = is_released.recv();
    });
    has_entered.recv().unwrap();

    let vote = |work: &dyn Fn(&mut Unit)| {
        let mut unit = store.begin_on_voted();
        work(&mut unit);
        store.decide(unit, Vote::default())
    };
    let first = vote(&|unit| upsert(unit, &babs, ids[1], "{}"));
    let second = vote(&|unit| upsert(unit, &babs, ids[2], "{}"));
    assert_eq!(store.vector_bytes(&babs), 3 * BYTES);
    let third = vote(&|unit| upsert(unit, &babs, ids[3], "{}"));
    assert_full(third.wait().map(drop), Some(&babs), 4 * BYTES, 3 * BYTES);
    // A pending one is replaced, a pending one and a durable one go: there is room for two.
    let replaced = vote(&|unit| upsert(unit, &babs, ids[1], "{}"));
    let removed = vote(&|unit| {
        assert!(unit.remove_vector(&babs, "notes", ids[0]).unwrap());
        assert!(unit.remove_vector(&babs, "notes", ids[2]).unwrap());
    });
    let more = [3, 4].map(|index| vote(&|unit| upsert(unit, &babs, ids[index], "{}")));
    assert_full(
        vote(&|unit| upsert(unit, &babs, ids[0], "{}")).wait().map(drop),
        Some(&babs),
        4 * BYTES,
        3 * BYTES,
    );

    release.send(()).unwrap();
    let all = [first, second, replaced, removed].into_iter().chain(more);
    for decided in all {
        decided.wait().unwrap();
    }
    assert_eq!(store.vector_bytes(&babs), 3 * BYTES);
    assert_clean(&store);
}

#[derive(Clone, Debug)]
enum Act {
    Upsert {
        owner: usize,
        object: usize,
        dim: usize,
        metadata: usize,
    },
    Remove {
        owner: usize,
        object: usize,
        dim: usize,
    },
    Forget {
        object: usize,
    },
    /// Waits for everything that is pending.
    Wait,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_usize..3, 0_usize..6, 1_usize..4, 0_usize..40).prop_map(|(owner, object, dim, metadata)| Act::Upsert { owner, object, dim, metadata }),
        4 => (0_usize..3, 0_usize..6, 1_usize..4).prop_map(|(owner, object, dim)| Act::Remove { owner, object, dim }),
        1 => (0_usize..6).prop_map(|object| Act::Forget { object }),
        2 => Just(Act::Wait),
        1 => Just(Act::Restart),
    ]
}

/// Bytes by owner, collection and object.
type Model = BTreeMap<(usize, usize, usize), u64>;

fn total(model: &Model, owner: Option<usize>) -> u64 {
    model.iter().filter(|((of, ..), _)| owner.is_none_or(|owner| owner == *of)).map(|(_, bytes)| bytes).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_long() { 600 } else { 16 }))]
    #[test]
    fn whatever_was_done_the_bytes_counted_are_those_that_are_there(acts in prop::collection::vec(act(), 1..50)) {
        const OWNER_MAX: u64 = 3 * BESIDE + 90;
        const MAX: u64 = 6 * BESIDE + 200;
        let (dir, backend, names) = (tempfile::tempdir().unwrap(), MemoryBackend::new(), ["a", "b", "c"].map(owner));
        let open = || Store::open_with_backend(dir.path(), backend.clone(), bounded(OWNER_MAX, MAX)).unwrap();
        let mut store = open();
        let mut ids = objects(&store, 6);
        let (mut model, mut pending) = (Model::new(), Vec::new());
        for act in acts {
            match act {
                Act::Upsert { owner, object, dim, metadata } => {
                    let mut unit = store.begin_on_voted();
                    let text = Json::parse(&format!("{{\"m\":\"{}\"}}", "x".repeat(metadata))).unwrap();
                    let bytes = BESIDE + (4 * dim + text.as_str().len()) as u64;
                    unit.upsert_vector(&names[owner], &format!("dim-{dim}"), ids[object], vec![1.0; dim], text).unwrap();
                    let mut after = model.clone();
                    let before = after.insert((owner, dim, object), bytes).unwrap_or(0);
                    let is_over = total(&after, Some(owner)) > OWNER_MAX || total(&after, None) > MAX;
                    let decided = store.decide(unit, Vote::default());
                    if bytes > before && is_over {
                        let refused = decided.wait();
                        prop_assert!(matches!(refused, Err(CommitError::VectorsFull { .. })), "{refused:?}");
                    } else {
                        pending.push(decided);
                        model = after;
                    }
                }
                Act::Remove { owner, object, dim } => {
                    let mut unit = store.begin_on_voted();
                    let was_there = model.remove(&(owner, dim, object)).is_some();
                    let removed = unit.remove_vector(&names[owner], &format!("dim-{dim}"), ids[object]);
                    prop_assert_eq!(removed.unwrap_or(false), was_there);
                    pending.push(store.decide(unit, Vote::default()));
                }
                Act::Forget { object } => {
                    store.forget(&[ids[object]], "a test", Children::Refuse).unwrap();
                    model.retain(|(_, _, of), _| *of != object);
                    ids[object] = objects(&store, 1)[0];
                }
                Act::Wait | Act::Restart => {
                    for decided in pending.drain(..) {
                        prop_assert!(decided.wait().is_ok());
                    }
                    assert_clean(&store);
                    if matches!(act, Act::Restart) {
                        drop(store);
                        store = open();
                    }
                }
            }
            for (index, name) in names.iter().enumerate() {
                prop_assert_eq!(store.vector_bytes(name), total(&model, Some(index)));
            }
            prop_assert_eq!(store.usage().vector_bytes, total(&model, None));
        }
        for decided in pending {
            prop_assert!(decided.wait().is_ok());
        }
        assert_clean(&store);
    }
}
