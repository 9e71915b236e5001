//! Goal: whatever happens while a graph is being built, what is forgotten goes, the store closes, and nothing is lost.
//! Method: a build waits, with every row it needs, until the test lets it go on.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::{Mutex, MutexGuard};
use telos_store::{Children, IndexShape, Json, MemoryBackend, ObjectId, Store, StoreOptions, Unit};

use crate::fixture::{assert_clean, await_until, commit, operator, within};
use crate::random::Random;

const DIM: usize = 8;
const TAIL: usize = 300;

/// Whatever of this process comes to a failpoint waits there; one test at a time has it wait.
pub(crate) struct Held {
    point: &'static str,
    entered: Receiver<()>,
    release: Sender<()>,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Held {
    /// Builds wait.
    fn begin() -> Held {
        Held::at("store::curator-builds")
    }

    pub(crate) fn at(point: &'static str) -> Held {
        let alone = ALONE.lock();
        let ((enter, entered), (release, is_released)) = (channel(), channel());
        let is_released = Mutex::new(is_released);
        let wait = move || {
            let _ = enter.send(());
            // Whoever no longer holds it back lets it go on.
            let _ = is_released.lock().recv();
        };
        fail::cfg_callback(point, wait).unwrap();
        Held { point, entered, release, _alone: alone }
    }

    /// Waits for somebody who waits: for a build that has its rows.
    pub(crate) fn await_build(&self) {
        self.entered.recv().unwrap();
    }

    fn release(&self) {
        self.release.send(()).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        fail::remove(self.point);
    }
}

fn options() -> StoreOptions {
    StoreOptions { vector_tail_rows_max: TAIL, ..StoreOptions::default() }
}

fn direction(random: &mut Random) -> Vec<f32> {
    let mut component = || f32::from(i16::try_from(random.below(2_001)).unwrap() - 1_000) / 1_000.0;
    (0..DIM).map(|_| component() + 0.001).collect()
}

/// Objects with a vector each.
fn fill(store: &Store, collection: &str, count: usize) -> Vec<(ObjectId, Vec<f32>)> {
    let mut random = Random::new(store.position().get());
    within(store, |unit| (0..count).map(|_| add(unit, collection, direction(&mut random))).collect())
}

fn add(unit: &mut Unit, collection: &str, vector: Vec<f32>) -> (ObjectId, Vec<f32>) {
    let (id, metadata) = (unit.create(operator(), 1, vec![]).unwrap(), Json::parse("{}").unwrap());
    unit.upsert_vector(&operator(), collection, id, vector.clone(), metadata).unwrap();
    (id, vector)
}

fn nearest(unit: &mut Unit, vector: &[f32]) -> Vec<ObjectId> {
    let found = unit.search_vectors(&operator(), "notes", vector, 1, &[]).unwrap();
    found.into_iter().map(|neighbor| neighbor.object).collect()
}

#[track_caller]
fn assert_found(store: &Store, all: &[(ObjectId, Vec<f32>)]) {
    let mut unit = store.begin();
    all.iter().for_each(|(id, vector)| assert_eq!(nearest(&mut unit, vector), [*id]));
}

fn forget(store: &Store, id: ObjectId) {
    store.forget(&[id], "a test", Children::Refuse).unwrap();
}

fn traces(store: &Store, id: ObjectId) -> Vec<&'static str> {
    store.traces_of(id).unwrap().into_iter().map(|trace| trace.table).collect()
}

fn shape(store: &Store, collection: &str) -> IndexShape {
    let mut shapes = store.collection_shapes().into_iter();
    shapes.find(|shape| shape.collection == collection).unwrap().index
}

/// Ends its builds, and waits for that.
fn settle(store: &Store, held: Held, collection: &str) {
    drop(held);
    await_until("every tail has its graph", || shape(store, collection).tail < TAIL);
}

#[test]
fn what_is_forgotten_while_a_build_has_it_is_known_and_soon_gone() {
    let (store, held) = (Store::scratch(options()).unwrap(), Held::begin());
    let mut all = fill(&store, "notes", TAIL);
    held.await_build();
    let (forgotten, vector) = all.swap_remove(17);
    forget(&store, forgotten);
    assert_ne!(nearest(&mut store.begin(), &vector), [forgotten]);
    assert_eq!(traces(&store, forgotten), ["index"], "the build has its row until it ends");
    held.release();
    await_until("the build is given up", || traces(&store, forgotten).is_empty());
    // The next one is without it.
    held.await_build();
    assert!(traces(&store, forgotten).is_empty());
    settle(&store, held, "notes");
    assert_eq!(shape(&store, "notes").segments, [TAIL - 1]);
    assert_found(&store, &all);
    assert_clean(&store);
}

#[test]
fn a_build_goes_on_when_something_else_is_forgotten() {
    let (store, held) = (Store::scratch(options()).unwrap(), Held::begin());
    let all = fill(&store, "notes", TAIL);
    held.await_build();
    let (later, other) = (fill(&store, "notes", 2), fill(&store, "others", 2));
    for id in [later[0].0, other[0].0] {
        forget(&store, id);
        assert!(traces(&store, id).is_empty(), "it is in no build");
    }
    held.release();
    await_until("the tail has its graph", || shape(&store, "notes").segments == [TAIL]);
    assert!(held.entered.try_recv().is_err(), "it was built once");
    drop(held);
    assert_found(&store, &all);
    assert_clean(&store);
}

#[test]
fn what_is_forgotten_while_its_segments_are_merged_is_gone_from_all_of_them() {
    let (store, held) = (Store::scratch(options()).unwrap(), Held::begin());
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(fill(&store, "notes", TAIL));
        held.await_build();
        held.release();
    }
    // Each tail has its graph, and now all four become one.
    held.await_build();
    assert_eq!(shape(&store, "notes").segments, [TAIL; 4]);
    let forgotten: Vec<_> = [5, 4, 3].map(|tail| all.swap_remove(tail * TAIL / 2 - 9)).into();
    for (id, vector) in &forgotten {
        forget(&store, *id);
        assert_ne!(nearest(&mut store.begin(), vector), [*id]);
        assert_eq!(traces(&store, *id), ["index"]);
    }
    assert_eq!(shape(&store, "notes").segments, [TAIL; 4], "erased where they are");
    settle(&store, held, "notes");
    await_until("all are one", || shape(&store, "notes").segments == [4 * TAIL - 3]);
    forgotten.iter().for_each(|(id, _)| assert!(traces(&store, *id).is_empty()));
    assert_found(&store, &all);
    assert_clean(&store);
}

/// A unit may outlive its store.
#[test]
fn a_store_closes_with_a_build_out_and_units_undecided() {
    let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
    let open = || Store::open_with_backend(dir.path(), backend.clone(), options()).unwrap();
    let (store, held) = (open(), Held::begin());
    let all = fill(&store, "notes", TAIL);
    held.await_build();
    let (mut undecided, mut searching) = (store.begin(), store.begin());
    add(&mut undecided, "notes", vec![1.0; DIM]);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| drop(store));
        held.release();
        closing.join().unwrap();
    });
    let (id, vector) = &all[7];
    assert_eq!(nearest(&mut searching, vector), [*id]);
    drop((undecided, searching));
    assert!(held.entered.try_recv().is_err(), "nothing is built any more");
    let store = open();
    settle(&store, held, "notes");
    assert_found(&store, &all);
    assert_clean(&store);
}

#[test]
fn rows_that_a_snapshot_held_back_go_when_it_does() {
    let store = Store::scratch(options()).unwrap();
    let all = fill(&store, "notes", TAIL);
    await_until("they have their graph", || shape(&store, "notes").segments == [TAIL]);
    let (mut old, mut older) = (store.begin(), store.begin());
    let (gone, left) = all.split_at(TAIL / 2);
    within(&store, |unit| {
        gone.iter().for_each(|(id, _)| assert!(unit.remove_vector(&operator(), "notes", *id).unwrap()));
    });
    assert_eq!(nearest(&mut old, &gone[0].1), [gone[0].0]);
    drop(old);
    assert_eq!(nearest(&mut older, &gone[0].1), [gone[0].0]);
    assert_eq!(shape(&store, "notes").dead, gone.len());
    drop(older);
    await_until("nobody sees them any more", || shape(&store, "notes").segments == [left.len()]);
    assert_found(&store, left);
    let mut unit = store.begin();
    unit.create(operator(), 1, vec![]).unwrap();
    commit(&store, unit).unwrap();
}

#[test]
fn rows_that_nobody_sees_go_without_anything_else_that_happens() {
    let store = Store::scratch(options()).unwrap();
    let all = fill(&store, "notes", TAIL);
    await_until("they have their graph", || shape(&store, "notes").segments == [TAIL]);
    let mut unit = store.begin();
    for (id, _) in &all[..TAIL / 2] {
        assert!(unit.remove_vector(&operator(), "notes", *id).unwrap());
    }
    commit(&store, unit).unwrap();
    await_until("they are gone", || shape(&store, "notes").segments == [TAIL / 2]);
}

/// Rows of one direction, far more than anybody asks for.
#[test]
fn the_first_of_many_twins_are_found_with_and_without_a_filter() {
    const TWINS: usize = 6_000;
    let store = Store::scratch(StoreOptions { vector_tail_rows_max: 8_000, ..options() }).unwrap();
    let (mut odd, mut all) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..TWINS / 250 {
        within(&store, |unit| {
            for number in number * 250..(number + 1) * 250 {
                let id = unit.create(operator(), 1, vec![]).unwrap();
                let metadata = Json::parse(&format!("{{\"odd\": {}}}", number % 4 == 1)).unwrap();
                unit.upsert_vector(&operator(), "notes", id, vec![0.5; DIM], metadata).unwrap();
                all.insert(id);
                odd.extend((number % 4 == 1).then_some(id));
            }
        });
    }
    (0..4).for_each(|_| drop(fill(&store, "notes", 500)));
    await_until("they have their graph", || shape(&store, "notes").segments == [TWINS + 2_000]);
    let search = |k, filter: &[(String, serde_json::Value)]| -> Vec<ObjectId> {
        let found = store.begin().search_vectors(&operator(), "notes", &[2.0; DIM], k, filter).unwrap();
        found.into_iter().map(|neighbor| neighbor.object).collect()
    };
    for k in [1, 10, 100] {
        assert!(search(k, &[]).into_iter().eq(all.iter().copied().take(k)), "{k}");
        let filter = [("odd".to_owned(), serde_json::json!(true))];
        assert!(search(k, &filter).into_iter().eq(odd.iter().copied().take(k)), "{k} that are odd");
    }
}
