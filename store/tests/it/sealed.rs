//! Goal: graphs are there after a start, and whatever becomes of their files, a start is right without them.
//! Method: stores whose segments are small and many; each vector searches itself, after files were deleted, cut, changed,
//! and exchanged for others, and after deaths at every step of writing one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use telos_store::{
    Children, CollectionForm, IndexShape, Json, Metric, ObjectId, OnDecided, Precision, Store, StoreOptions,
    Unit, VectorEngine, Vote,
};

use crate::curator::Held;
use crate::death::{at_every_step, place, with_little_room};
use crate::fixture::{assert_clean, await_until, operator, within};
use crate::frozen::copy_tree;
use crate::random::Random;
use crate::whole::files;

const DIM: usize = 8;
const TAIL: usize = 200;
const OBJECTS: usize = 700;

type Rows = Vec<(ObjectId, Vec<f32>)>;

fn open(dir: &Path) -> Store {
    let options = StoreOptions { vector_tail_rows_max: TAIL, ..StoreOptions::default() };
    Store::open(dir, options).unwrap()
}

fn direction(random: &mut Random) -> Vec<f32> {
    let mut component = || f32::from(i16::try_from(random.below(2_001)).unwrap() - 1_000) / 1_000.0;
    (0..DIM).map(|_| component() + 0.001).collect()
}

fn set(unit: &mut Unit, id: ObjectId, vector: &[f32]) {
    unit.upsert_vector(&operator(), "notes", id, vector.to_vec(), Json::parse("{}").unwrap()).unwrap();
}

/// Objects with a vector each.
fn fill(store: &Store, random: &mut Random) -> Rows {
    let mut rows = Rows::new();
    while rows.len() < OBJECTS {
        within(store, |unit| {
            for _ in 0..100 {
                let (id, vector) = (unit.create(operator(), 1, vec![]).unwrap(), direction(random));
                set(unit, id, &vector);
                rows.push((id, vector));
            }
        });
    }
    rows
}

/// Its segments by size: a start has the newest first.
fn shape(store: &Store) -> IndexShape {
    let mut shape = store.collection_shapes().remove(0).index;
    shape.segments.sort_unstable();
    shape
}

/// Waits until every tail has its graph, all of them are written down, and nothing else is.
fn await_sealed(store: &Store, dir: &Path) -> IndexShape {
    await_until("all segments are sealed", || {
        let shape = shape(store);
        let count = shape.segments.len();
        count > 0 && shape.tail < TAIL && shape.sealed == count && segment_files(dir).len() == count
    });
    shape(store)
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join("segments");
    if dir.is_dir() { files(&dir) } else { Vec::new() }
}

/// Each vector finds itself, and nobody else is there.
#[track_caller]
fn assert_all_found(store: &Store, rows: &Rows, what: &str) {
    let mut unit = store.begin();
    for (id, vector) in rows {
        let found = unit.search_vectors(&operator(), "notes", vector, 1, &[]).unwrap();
        assert!(found[0].object == *id && found[0].distance < 1e-5, "{what}: {id} {found:?}");
    }
    assert_eq!(shape(store).vectors, rows.len(), "{what}");
    assert_clean(store);
}

/// A closed store with sealed segments.
fn sealed(seed: u64) -> (tempfile::TempDir, Rows, IndexShape) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let rows = fill(&store, &mut Random::new(seed));
    let shape = await_sealed(&store, dir.path());
    (dir, rows, shape)
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir, copy.path());
    copy
}

#[test]
fn a_start_has_the_graphs_of_the_run_before() {
    let (dir, rows, before) = sealed(1);
    let store = open(dir.path());
    let now = shape(&store);
    assert_eq!((&now.segments, now.tail, now.sealed), (&before.segments, before.tail, before.sealed));
    assert_all_found(&store, &rows, "opened");
}

#[test]
fn what_changed_after_a_segment_was_sealed_is_not_found_in_it() {
    let (dir, mut rows, _) = sealed(2);
    let store = open(dir.path());
    let mut random = Random::new(3);
    within(&store, |unit| {
        for (id, vector) in rows.iter_mut().step_by(7) {
            *vector = direction(&mut random);
            set(unit, *id, vector);
        }
        for (id, _) in rows.iter().skip(1).step_by(7) {
            assert!(unit.remove_vector(&operator(), "notes", *id).unwrap());
        }
    });
    let mut number = 0;
    rows.retain(|_| {
        number += 1;
        number % 7 != 2
    });
    drop(store);
    let store = open(dir.path());
    assert_all_found(&store, &rows, "opened once");
    await_sealed(&store, dir.path());
    drop(store);
    assert_all_found(&open(dir.path()), &rows, "opened twice");
}

#[test]
fn what_is_forgotten_is_in_no_file() {
    let (dir, mut rows, _) = sealed(4);
    let store = open(dir.path());
    let forgotten = [rows.remove(5).0, rows.remove(300).0];
    store.forget(&forgotten, "ada", Children::Refuse).unwrap();
    for id in forgotten {
        let needle = u128::from_str_radix(&id.to_string(), 16).unwrap().to_le_bytes();
        let has = |file: &PathBuf| {
            fs::read(file).is_ok_and(|bytes| bytes.windows(needle.len()).any(|bytes| bytes == needle))
        };
        assert!(!segment_files(dir.path()).iter().any(has), "{id}");
        assert!(store.traces_of(id).unwrap().is_empty(), "{id}");
    }
    let before = await_sealed(&store, dir.path());
    assert!(forgotten.iter().all(|id| store.traces_of(*id).unwrap().is_empty()));
    drop(store);
    let store = open(dir.path());
    assert_eq!(shape(&store).segments, before.segments);
    assert_all_found(&store, &rows, "opened");
}

#[test]
fn damaged_files_cost_time_and_nothing_else() {
    let (dir, rows, _) = sealed(5);
    let mut random = Random::new(6);
    for round in 0..if crate::random::is_long() { 400 } else { 24 } {
        let copy = copy(dir.path());
        let files = segment_files(copy.path());
        let file = &files[random.index(files.len())];
        let mut bytes = fs::read(file).unwrap();
        let at = random.index(bytes.len());
        let what = match round % 6 {
            0 => fs::remove_file(file).map(|()| "deleted"),
            1 => fs::write(file, &bytes[..at]).map(|()| "cut"),
            2 => fs::write(file, [7; 500]).map(|()| "overwritten"),
            3 => fs::copy(file, copy.path().join("segments/00000099.segment")).map(|_| "doubled"),
            4 => fs::write(copy.path().join("segments/00000100.tmp"), &bytes).map(|()| "left half written"),
            _ => {
                bytes[at] ^= 1 << random.below(8);
                fs::write(file, &bytes).map(|()| "changed")
            }
        };
        let what = format!("round {round}: {} {}", file.display(), what.unwrap());
        let store = open(copy.path());
        assert_all_found(&store, &rows, &what);
        await_sealed(&store, copy.path());
        drop(store);
        assert_all_found(&open(copy.path()), &rows, &what);
    }
}

/// Of both steps between which a file is there and its segment does not know.
const UNKNOWN: [&str; 2] = ["store::segment-before-rename", "store::segment-after-rename"];

#[test]
fn what_is_forgotten_while_it_is_being_written_is_known_and_soon_gone() {
    for (point, seed) in UNKNOWN.into_iter().zip(20..) {
        let (dir, held) = (tempfile::tempdir().unwrap(), Held::at(point));
        let store = open(dir.path());
        let mut rows = fill(&store, &mut Random::new(seed));
        held.await_build();
        let forgotten = rows.remove(5).0;
        store.forget(&[forgotten], "ada", Children::Refuse).unwrap();
        let traces = || store.traces_of(forgotten).unwrap();
        assert_eq!(
            traces().into_iter().map(|trace| trace.table).collect::<Vec<_>>(),
            ["segments"],
            "{point}"
        );
        drop(held);
        await_until("the file is given up", || traces().is_empty());
        await_sealed(&store, dir.path());
        assert!(traces().is_empty());
        drop(store);
        assert_all_found(&open(dir.path()), &rows, point);
    }
}

#[test]
fn a_segment_that_is_being_written_when_something_else_is_forgotten_keeps_its_file() {
    for (point, seed) in UNKNOWN.into_iter().zip(30..) {
        let (dir, held) = (tempfile::tempdir().unwrap(), Held::at(point));
        let store = open(dir.path());
        let rows = fill(&store, &mut Random::new(seed));
        held.await_build();
        let other = within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
        store.forget(&[other], "ada", Children::Refuse).unwrap();
        assert!(store.traces_of(other).unwrap().is_empty(), "{point}");
        assert_eq!(segment_files(dir.path()).len(), 1, "{point}");
        drop(held);
        let before = await_sealed(&store, dir.path());
        drop(store);
        let store = open(dir.path());
        assert_eq!(shape(&store).segments, before.segments, "{point}");
        assert_all_found(&store, &rows, point);
    }
}

/// The file is opened again while somebody is about to delete what the index before it had no more.
#[test]
fn a_store_that_is_opened_again_writes_down_what_was_deleted_meanwhile() {
    let (dir, rows, _) = sealed(40);
    let oldest = segment_files(dir.path()).into_iter().min().unwrap();
    let (aside, others) = (dir.path().join("aside"), segment_files(dir.path()).into_iter().max().unwrap());
    fs::rename(&oldest, &aside).unwrap();
    let held = Held::at("store::curator-tidies");
    let store = open(dir.path());
    held.await_build();
    // In its place, what is about to be deleted.
    let made = segment_files(dir.path()).into_iter().filter(|file| *file > others);
    made.for_each(|file| fs::remove_file(file).unwrap());
    fs::rename(&aside, &oldest).unwrap();
    let (reopens, reopening) = std::sync::mpsc::channel();
    let has_read = move || {
        let _ = reopens.send(());
    };
    fail::cfg_callback("store::reopen-before-install", has_read).unwrap();
    let on_decided = Some(OnDecided::new(|_| panic!("so that the file is opened again")));
    let mut unit = store.begin();
    unit.audit("written", "before", serde_json::Value::Null).unwrap();
    store.decide(unit, Vote { on_decided, ..Vote::default() }).wait().unwrap_err();
    reopening.recv().unwrap();
    await_until("the store is open again", || store.read_only_cause().is_none());
    drop(held);
    await_until("it is deleted", || !oldest.exists());
    await_sealed(&store, dir.path());
    drop(store);
    assert_all_found(&open(dir.path()), &rows, "opened");
}

/// One that fits its checksum and leads to nodes that are not there.
#[test]
fn a_file_that_is_no_graph_costs_the_others_of_its_collection_nothing() {
    let (dir, rows, before) = sealed(41);
    let file = segment_files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len() - blake3::OUT_LEN;
    bytes[end - 4..end].fill(0xfe);
    let checksum = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(checksum.as_bytes());
    fs::write(&file, bytes).unwrap();
    let held = Held::at("store::curator-builds");
    let store = open(dir.path());
    assert_eq!(shape(&store).sealed, before.sealed - 1);
    drop(held);
    assert_all_found(&store, &rows, "opened");
    await_sealed(&store, dir.path());
}

/// As much of it as the vectors of all owners may take twice.
#[test]
fn a_start_loads_no_more_than_its_bound_of_all_files_together() {
    let (dir, rows, _) = sealed(42);
    let held = Held::at("store::curator-builds");
    let rows_max = 350;
    let vector_bytes_max = rows_max * (DIM as u64 * 4 + 300) / 2;
    let options = StoreOptions { vector_tail_rows_max: TAIL, vector_bytes_max, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let loaded: usize = shape(&store).segments.iter().sum();
    assert!(loaded > 0 && loaded as u64 <= rows_max, "{loaded}");
    drop(held);
    assert_all_found(&store, &rows, "opened");
}

#[test]
fn collections_of_every_form_have_their_graphs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let form = CollectionForm { dim: DIM, metric: Metric::Euclidean, precision: Precision::Half };
    within(&store, |unit| unit.declare_collection(&operator(), "places", form).unwrap());
    let mut random = Random::new(43);
    let rows = fill(&store, &mut random);
    let places: Rows = rows.iter().map(|(id, _)| (*id, direction(&mut random))).collect();
    for some in places.chunks(100) {
        within(&store, |unit| {
            for (id, vector) in some {
                let metadata = Json::parse("{}").unwrap();
                unit.upsert_vector(&operator(), "places", *id, vector.clone(), metadata).unwrap();
            }
        });
    }
    let all_sealed = |store: &Store| {
        let shapes = store.collection_shapes();
        let is_sealed = |shape: &IndexShape| shape.tail < TAIL && shape.sealed == shape.segments.len();
        shapes.len() == 2 && shapes.iter().all(|shape| is_sealed(&shape.index))
    };
    await_until("all are sealed", || all_sealed(&store));
    drop(store);
    let store = open(dir.path());
    assert!(all_sealed(&store));
    assert!(store.collection_shapes().iter().all(|shape| !shape.index.segments.is_empty()));
    let mut unit = store.begin();
    for (collection, rows) in [("notes", &rows), ("places", &places)] {
        for (id, vector) in rows {
            let found = unit.search_vectors(&operator(), collection, vector, 1, &[]).unwrap();
            assert_eq!(found[0].object, *id, "{collection}");
        }
    }
    assert_clean(&store);
}

#[test]
fn graphs_of_another_engine_are_built_anew() {
    let (dir, rows, before) = sealed(44);
    let options =
        |vector_engine| StoreOptions { vector_tail_rows_max: TAIL, vector_engine, ..StoreOptions::default() };
    let held = Held::at("store::curator-builds");
    let store = Store::open(dir.path(), options(VectorEngine::Hnsw)).unwrap();
    assert_eq!((shape(&store).segments.len(), shape(&store).tail), (0, OBJECTS));
    drop(held);
    await_until("all have their graphs", || {
        shape(&store).tail < TAIL && segment_files(dir.path()).is_empty()
    });
    assert_all_found(&store, &rows, "with hnsw");
    drop(store);
    let store = open(dir.path());
    await_sealed(&store, dir.path());
    assert_eq!(shape(&store).segments.iter().sum::<usize>() + shape(&store).tail, OBJECTS);
    assert!(before.sealed > 0);
    drop(store);
    assert_all_found(&open(dir.path()), &rows, "and back");
}

/// A segment takes no room that commits need: it would fit, and with it a commit would not.
#[cfg(unix)]
#[test]
fn no_segment_takes_the_last_room() {
    let (dir, rows, _) = sealed(45);
    fs::remove_dir_all(dir.path().join("segments")).unwrap();
    let database = fs::metadata(dir.path().join("objects.redb")).unwrap().len();
    with_little_room("sealed::child_with_little_room", dir.path(), (database + 512 * 1024) / 512);
    assert!(segment_files(dir.path()).is_empty());
    let store = open(dir.path());
    await_sealed(&store, dir.path());
    assert_all_found(&store, &rows, "with room");
}

#[test]
fn child_with_little_room() {
    let Some(place) = place() else { return };
    let tried = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tried);
    let has_tried = move || {
        let _ = count.fetch_add(1, Ordering::SeqCst);
    };
    fail::cfg_callback("store::segment-after-rename", has_tried).unwrap();
    let store = open(&place);
    await_until("all have their graphs", || shape(&store).tail < TAIL);
    await_until("each was tried", || tried.load(Ordering::SeqCst) >= shape(&store).segments.len() as u64);
    within(&store, |unit| unit.audit("written", "after", serde_json::Value::Null).unwrap());
    assert_eq!((shape(&store).sealed, store.read_only_cause()), (0, None));
    drop(store);
    assert!(segment_files(&place).is_empty());
}

/// As after a restore of an earlier backup: the same objects and commits stand for something else.
#[test]
fn files_of_another_past_are_not_believed() {
    let (dir, rows, _) = sealed(7);
    let earlier = copy(dir.path());
    let store = open(dir.path());
    let mut random = Random::new(8);
    within(&store, |unit| rows.iter().for_each(|(id, _)| set(unit, *id, &direction(&mut random))));
    await_sealed(&store, dir.path());
    drop(store);
    fs::remove_dir_all(earlier.path().join("segments")).unwrap();
    copy_tree(&dir.path().join("segments"), &earlier.path().join("segments"));
    // The commit that the files know, with other vectors.
    let store = open(earlier.path());
    assert_all_found(&store, &rows, "with files from the future");
    let mut now = rows.clone();
    within(&store, |unit| {
        for (id, vector) in &mut now {
            *vector = direction(&mut random);
            set(unit, *id, vector);
        }
    });
    drop(store);
    fs::remove_dir_all(earlier.path().join("segments")).unwrap();
    copy_tree(&dir.path().join("segments"), &earlier.path().join("segments"));
    assert_all_found(&open(earlier.path()), &now, "with files of another future");
}

/// In a child: vectors change and are forgotten until a segment is sealed once more.
#[test]
fn child() {
    let Some(place) = place() else { return };
    let store = open(&place);
    let ids: Vec<ObjectId> =
        store.begin().names("", "", 2_000).unwrap().into_iter().map(|(_, id)| id).collect();
    let mut random = Random::new(9);
    within(&store, |unit| ids.iter().step_by(3).for_each(|id| set(unit, *id, &direction(&mut random))));
    await_sealed(&store, &place);
    store.forget(&ids[..2], "ada", Children::Refuse).unwrap();
    await_sealed(&store, &place);
}

const STEPS: [&str; 5] = [
    "store::segment-before-write",
    "store::segment-before-rename",
    "store::segment-after-rename",
    "store::segment-before-remove",
    "store::segment-after-remove",
];

#[test]
fn a_process_that_dies_while_it_writes_segments_is_followed_by_one_that_is_right() {
    let made = |seed: u64| {
        let (dir, rows, _) = sealed(100 + seed);
        let store = open(dir.path());
        within(&store, |unit| {
            for (number, (id, _)) in rows.iter().enumerate() {
                unit.bind(&crate::fixture::name(&format!("o/{number:04}")), *id).unwrap();
            }
        });
        dir
    };
    at_every_step(
        "sealed::child",
        &STEPS,
        made,
        |dir| copy(dir.path()),
        |_, place, what| {
            let store = open(place);
            assert_clean(&store);
            let vectors = store.counts().unwrap().vectors;
            assert_eq!(shape(&store).vectors as u64, vectors, "{what}");
            let ids: Vec<ObjectId> =
                store.begin().names("", "", 2_000).unwrap().into_iter().map(|(_, id)| id).collect();
            assert!(ids.len() == OBJECTS || ids.len() == OBJECTS - 2, "{what}: {}", ids.len());
            // All of them are there, whatever the graphs say: asked for more than there are, every row is read.
            let found = store.begin().search_vectors(&operator(), "notes", &[1.0; DIM], 1_000, &[]).unwrap();
            let mut found: Vec<ObjectId> = found.into_iter().map(|neighbor| neighbor.object).collect();
            found.sort_unstable();
            let mut ids = ids;
            ids.sort_unstable();
            assert_eq!(found, ids, "{what}");
            await_sealed(&store, place);
        },
    );
}
