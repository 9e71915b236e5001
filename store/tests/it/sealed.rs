//! Goal: graphs are there after a start, and whatever becomes of their files, a start is right without them.
//! Method: stores whose segments are small and many; each vector searches itself, after files were deleted, cut, changed,
//! and exchanged for others, and after deaths at every step of writing one.

use std::fs;
use std::path::{Path, PathBuf};

use telos_store::{Children, IndexShape, Json, ObjectId, Store, StoreOptions, Unit};

use crate::death::{at_every_step, place};
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

fn shape(store: &Store) -> IndexShape {
    store.collection_shapes().remove(0).index
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
