//! Goal: vectors on disk are found as those in memory are, through changes, switches, starts, crashes and damage.
//! Method: a second store holds the same and archives nothing; editions are small, so both are exact.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;
use telos_store::{
    ArchiveBudget, ArchiveError, ArchiveProgress, ArchiveReport, ArchiveStage, BuiltEdition, Children,
    CollectionForm, IndexShape, Json, Metric, Neighbor, ObjectId, Precision, Store, StoreOptions, Unit,
};

use crate::death::{at_every_step, place};
use crate::fixture::{assert_clean, await_until, commit, name, operator, within};
use crate::frozen::copy_tree;
use crate::random::Random;

pub(crate) const DIM: usize = 8;

pub(crate) type Rows = BTreeMap<ObjectId, (Vec<f32>, i64)>;

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

pub(crate) fn archive(store: &Store) -> ArchiveReport {
    store.archive(&operator(), "notes", &ArchiveBudget::default(), &|_| ()).unwrap()
}

pub(crate) fn build(store: &Store) -> BuiltEdition {
    let work = store.begin_archive(&operator(), "notes").unwrap();
    work.build(&ArchiveBudget::default(), &|_| ()).unwrap()
}

pub(crate) fn direction(random: &mut Random) -> Vec<f32> {
    let mut component = || f32::from(i16::try_from(random.below(2_001)).unwrap() - 1_000) / 1_000.0;
    (0..DIM).map(|_| component() + 0.001).collect()
}

pub(crate) fn set(unit: &mut Unit, id: ObjectId, vector: &[f32], tag: i64) {
    let metadata = Json::parse(&format!("{{\"tag\": {tag}}}")).unwrap();
    unit.upsert_vector(&operator(), "notes", id, vector.to_vec(), metadata).unwrap();
}

pub(crate) fn fill(store: &Store, random: &mut Random, count: usize) -> Rows {
    within(store, |unit| {
        let mut rows = Rows::new();
        for number in 0..count {
            let (id, vector, tag) =
                (unit.create(operator(), 1, vec![]).unwrap(), direction(random), number as i64 % 3);
            set(unit, id, &vector, tag);
            rows.insert(id, (vector, tag));
        }
        rows
    })
}

pub(crate) fn shape(store: &Store) -> IndexShape {
    shape_of(store, "notes")
}

pub(crate) fn shape_of(store: &Store, collection: &str) -> IndexShape {
    let shapes = store.collection_shapes().into_iter();
    shapes.filter(|shape| shape.collection == collection).map(|shape| shape.index).next().unwrap()
}

pub(crate) fn search(unit: &mut Unit, query: &[f32], k: usize, tag: Option<i64>) -> Vec<Neighbor> {
    let filter: Vec<_> = tag.map(|tag| ("tag".to_owned(), tag.into())).into_iter().collect();
    unit.search_vectors(&operator(), "notes", query, k, &filter).unwrap()
}

/// The same as brute force says.
#[track_caller]
pub(crate) fn assert_same(store: &Store, rows: &Rows, what: &str) {
    let mut unit = store.begin();
    let mut random = Random::new(99);
    for k in [1, 7, rows.len() + 3] {
        for tag in [None, Some(1)] {
            let query = direction(&mut random);
            let found = search(&mut unit, &query, k, tag);
            let cosine = |vector: &[f32]| {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                1.0 - dot(vector, &query) / (dot(vector, vector) * dot(&query, &query)).sqrt()
            };
            let asked = rows.iter().filter(|(_, row)| tag.is_none_or(|tag| tag == row.1));
            let mut expected: Vec<(ObjectId, f32)> = asked.map(|(id, row)| (*id, cosine(&row.0))).collect();
            expected.sort_by(|left, right| left.1.total_cmp(&right.1));
            expected.truncate(k);
            assert_eq!(found.len(), expected.len(), "{what}: {k} {tag:?}");
            for (found, (_, distance)) in found.iter().zip(&expected) {
                assert!((found.distance - distance).abs() < 1e-5, "{what}: {k} {tag:?} {found:?} {distance}");
                assert!(rows.contains_key(&found.object), "{what}");
            }
        }
    }
    drop(unit);
    assert_eq!(shape(store).vectors, rows.len(), "{what}");
    assert_clean(store);
}

/// Files of the archive, some of which may be deleted meanwhile.
pub(crate) fn editions(dir: &Path) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![dir.join("archive")], Vec::new());
    while let Some(dir) = dirs.pop() {
        let listed = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let (below, files): (Vec<_>, Vec<_>) = listed.partition(|path| path.is_dir());
        dirs.extend(below);
        found.extend(files);
    }
    found.sort();
    found
}

/// Whether all that is there is the edition that serves, and CURRENT, which names it.
pub(crate) fn is_tidy(store: &Store, dir: &Path) -> bool {
    let Some(serving) = shape(store).edition else { return editions(dir).is_empty() };
    let name = format!("edition-{serving}");
    let is_of_it = |file: &PathBuf| file.parent().unwrap().ends_with(&name) || file.ends_with("CURRENT");
    editions(dir).iter().all(is_of_it)
        && fs::read_to_string(dir.join("archive/0/CURRENT")).is_ok_and(|current| current.trim() == name)
}

/// What hears that somebody comes to a point.
pub(crate) fn heard(point: &str) -> Receiver<()> {
    let (tell, told) = channel();
    let tell = move || {
        let _ = tell.send(());
    };
    fail::cfg_callback(point, tell).unwrap();
    told
}

#[test]
fn what_is_archived_is_found_and_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random::new(1);
    let mut rows = fill(&store, &mut random, 600);
    let before = shape(&store).bytes;
    let report = archive(&store);
    assert_eq!((report.about.edition, report.about.rows), (1, 600));
    let now = shape(&store);
    assert_eq!((now.archived, now.edition, now.tail, now.vectors), (600, Some(1), 0, 600));
    assert!(now.bytes < before, "{} {before}", now.bytes);
    assert_eq!((now.bytes, now.edition_recall), (report.about.bytes, Some(report.about.recall)));
    assert_same(&store, &rows, "archived");
    rows.extend(fill(&store, &mut random, 50));
    let ids: Vec<ObjectId> = rows.keys().copied().collect();
    within(&store, |unit| {
        for id in ids.iter().step_by(5) {
            let vector = direction(&mut random);
            set(unit, *id, &vector, 1);
            rows.insert(*id, (vector, 1));
        }
        for id in ids.iter().skip(1).step_by(5) {
            assert!(unit.remove_vector(&operator(), "notes", *id).unwrap());
            rows.remove(id);
        }
    });
    assert_same(&store, &rows, "changed");
    drop(store);
    let store = open(dir.path());
    assert_eq!(shape(&store).edition, Some(1));
    assert_same(&store, &rows, "opened");
    assert_eq!(archive(&store).about.edition, 2);
    assert_same(&store, &rows, "archived again");
    assert!(editions(dir.path()).iter().all(|file| !file.to_string_lossy().contains("edition-1/")));
    drop(store);
    let store = open(dir.path());
    assert_eq!((shape(&store).edition, shape(&store).tail), (Some(2), 0));
    assert_same(&store, &rows, "opened again");
    let checks = store.verify_archive().unwrap();
    assert!(checks.len() == 1 && checks[0].problem.is_none() && checks[0].edition == 2, "{checks:?}");
}

#[derive(Clone, Debug)]
enum Act {
    Set(usize, u64),
    Remove(usize),
    Forget(usize),
    Archive,
    Open,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_usize..12, 0_u64..50).prop_map(|(object, seed)| Act::Set(object, seed)),
        3 => (0_usize..12).prop_map(Act::Remove),
        1 => (0_usize..12).prop_map(Act::Forget),
        2 => Just(Act::Archive),
        1 => Just(Act::Open),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::random::is_long() { 400 } else { 10 }, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_and_whenever_it_is_archived_the_same_is_found(
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut rows = fill(&store, &mut Random::new(5), 12);
        let mut ids: Vec<Option<ObjectId>> = rows.keys().copied().map(Some).collect();
        for act in acts {
            match act {
                Act::Set(object, seed) => if let Some(id) = ids[object] {
                    let vector = direction(&mut Random::new(seed));
                    within(&store, |unit| set(unit, id, &vector, 1));
                    rows.insert(id, (vector, 1));
                },
                Act::Remove(object) => if let Some(id) = ids[object] {
                    let was_there = within(&store, |unit| unit.remove_vector(&operator(), "notes", id).unwrap());
                    prop_assert_eq!(was_there, rows.remove(&id).is_some());
                },
                Act::Forget(object) => if let Some(id) = ids[object].take() {
                    store.forget(&[id], "ada", Children::Refuse).unwrap();
                    rows.remove(&id);
                    prop_assert!(store.traces_of(id).unwrap().is_empty());
                },
                Act::Archive => if !rows.is_empty() {
                    archive(&store);
                },
                Act::Open => {
                    drop(store);
                    store = open(dir.path());
                }
            }
            assert_same(&store, &rows, "after each step");
        }
    }
}

#[test]
fn what_is_forgotten_is_in_no_edition() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut rows = fill(&store, &mut Random::new(2), 100);
    archive(&store);
    let id = *rows.keys().next().unwrap();
    assert!(is_named(dir.path(), id), "the test knows how an edition names it");
    store.forget(&[id], "ada", Children::Refuse).unwrap();
    rows.remove(&id);
    assert!(store.traces_of(id).unwrap().is_empty() && !is_named(dir.path(), id));
    assert_eq!(shape(&store).edition, None);
    assert_same(&store, &rows, "forgotten");
    drop(store);
    let store = open(dir.path());
    assert_same(&store, &rows, "opened");
    assert_eq!(archive(&store).about.edition, 2, "numbers go on");
    assert_same(&store, &rows, "archived again");
}

/// Whether a file of the archive names an object.
pub(crate) fn is_named(dir: &Path, id: ObjectId) -> bool {
    let needle = u128::from_str_radix(&id.to_string(), 16).unwrap().to_le_bytes();
    let has = |bytes: Vec<u8>| bytes.windows(16).any(|bytes| bytes == needle);
    editions(dir).iter().any(|file| fs::read(file).is_ok_and(has))
}

#[test]
fn what_is_forgotten_while_an_edition_is_built_is_in_no_file() {
    for is_removed_first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut rows = fill(&store, &mut Random::new(21), 100);
        let id = *rows.keys().next().unwrap();
        let was_named = AtomicBool::new(false);
        // All rows were read when the graph is built.
        let forget = |progress: ArchiveProgress| {
            if progress.stage != ArchiveStage::Rows
                && !was_named.swap(is_named(dir.path(), id), Ordering::AcqRel)
            {
                if is_removed_first {
                    within(&store, |unit| unit.remove_vector(&operator(), "notes", id).unwrap());
                }
                store.forget(&[id], "ada", Children::Refuse).unwrap();
                let traces = store.traces_of(id).unwrap();
                assert!(traces.iter().any(|trace| trace.table == "archive"), "{traces:?}");
            }
        };
        let work = store.begin_archive(&operator(), "notes").unwrap();
        let refused = work.build(&ArchiveBudget::default(), &forget).unwrap_err();
        assert!(matches!(refused, ArchiveError::Forgotten), "{refused}");
        assert!(was_named.load(Ordering::Acquire) && !is_named(dir.path(), id));
        assert!(store.traces_of(id).unwrap().is_empty());
        rows.remove(&id);
        assert_same(&store, &rows, "forgotten");
        archive(&store);
        assert!(!is_named(dir.path(), id));
        assert_same(&store, &rows, "archived again");
    }
}

#[test]
fn what_is_forgotten_while_an_edition_waits_is_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut rows = fill(&store, &mut Random::new(22), 100);
    let id = *rows.keys().next().unwrap();
    let built =
        store.begin_archive(&operator(), "notes").unwrap().build(&ArchiveBudget::default(), &|_| ()).unwrap();
    let other = within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
    store.forget(&[other], "ada", Children::Refuse).unwrap();
    assert!(!built.is_spoilt() && is_named(dir.path(), id), "it has nothing of that one");
    store.forget(&[id], "ada", Children::Refuse).unwrap();
    assert!(built.is_spoilt() && !is_named(dir.path(), id));
    assert!(matches!(built.validate(), Err(ArchiveError::Forgotten)));
    assert!(matches!(built.publish(), Err(ArchiveError::Forgotten)));
    rows.remove(&id);
    assert_same(&store, &rows, "forgotten");
    assert_eq!(archive(&store).about.rows, 99);
    assert_same(&store, &rows, "archived again");
}

#[test]
fn an_edition_waits_until_it_is_put_in_force_or_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random::new(23);
    let mut rows = fill(&store, &mut random, 100);
    archive(&store);
    let begin = || store.begin_archive(&operator(), "notes").unwrap();
    let build = || begin().build(&ArchiveBudget::default(), &|_| ()).unwrap();
    let before = editions(dir.path());
    let built = build();
    assert!(editions(dir.path()).len() > before.len() && shape(&store).edition == Some(1));
    assert!(matches!(store.begin_archive(&operator(), "notes"), Err(ArchiveError::Busy(..))));
    drop(built);
    assert_eq!(editions(dir.path()), before, "nothing is left of it");

    let built = build();
    assert_eq!((built.validate().unwrap(), built.about().rows), (built.about(), 100));
    rows.extend(fill(&store, &mut random, 20));
    let report = built.publish().unwrap();
    assert_eq!((shape(&store).edition, report.about.rows), (Some(report.about.edition), 100));
    assert_same(&store, &rows, "published later");

    let built = build();
    let is_new = |file: &&PathBuf| !before.contains(file) && fs::metadata(file).unwrap().len() > 100;
    let there = editions(dir.path());
    let file = there.iter().rev().find(is_new).unwrap();
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
    assert!(matches!(built.validate(), Err(ArchiveError::Shelf(_))), "{}", file.display());
    drop(built);
    assert_same(&store, &rows, "after damage");
}

#[test]
fn editions_that_are_damaged_or_of_another_past_cost_memory_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let rows = fill(&store, &mut Random::new(3), 200);
    archive(&store);
    drop(store);
    let mut random = Random::new(4);
    for round in 0..if crate::random::is_long() { 300 } else { 16 } {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), copy.path());
        let files = editions(copy.path());
        let file = &files[random.index(files.len())];
        let mut bytes = fs::read(file).unwrap();
        let at = random.index(bytes.len().max(1));
        match round % 4 {
            0 => fs::remove_file(file).unwrap(),
            1 => fs::write(file, &bytes[..at.min(bytes.len())]).unwrap(),
            2 => fs::write(file, [7; 99]).unwrap(),
            _ if bytes.is_empty() => {}
            _ => {
                bytes[at] ^= 1_u8 << random.below(8);
                fs::write(file, &bytes).unwrap();
            }
        }
        let what = format!("round {round}: {} at {at}", file.display());
        let store = open(copy.path());
        // What a start did not read is met by a search, which has the vectors from the database then.
        let found = store.begin().search_vectors(&operator(), "notes", &[1.0; DIM], 300, &[]).unwrap();
        assert_eq!(found.len(), rows.len(), "{what}");
        assert_same(&store, &rows, &what);
        // It mends what there is.
        archive(&store);
        assert_same(&store, &rows, &what);
    }
}

#[test]
fn what_cannot_be_archived_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let try_it = |collection: &str| {
        store.archive(&operator(), collection, &ArchiveBudget::default(), &|_| ()).unwrap_err()
    };
    assert!(matches!(try_it("notes"), ArchiveError::NoSuchCollection(..)));
    within(&store, |unit| {
        let form = CollectionForm { dim: 2, metric: Metric::Euclidean, precision: Precision::Full };
        unit.declare_collection(&operator(), "places", form).unwrap();
        unit.declare_collection(&operator(), "empty", CollectionForm { metric: Metric::Cosine, ..form })
            .unwrap();
    });
    assert!(matches!(try_it("places"), ArchiveError::NotCosine(_)));
    assert!(matches!(try_it("empty"), ArchiveError::Empty(_)));
    let rows = fill(&store, &mut Random::new(6), 60);
    let work = store.begin_archive(&operator(), "notes").unwrap();
    let other = store.begin_archive(&operator(), "empty");
    assert!(matches!(&other, Err(ArchiveError::Busy(_, of)) if of == "notes"), "{other:?}");
    work.stop().store(true, Ordering::Release);
    let stopped = work.build(&ArchiveBudget::default(), &|_| ()).unwrap_err();
    assert!(matches!(stopped, ArchiveError::Stopped));
    assert!(store.collection_shapes().iter().all(|shape| shape.index.edition.is_none()));
    let found = store.begin().search_vectors(&operator(), "notes", &[1.0; DIM], 100, &[]).unwrap();
    assert_eq!(found.len(), rows.len());
    let scratch = Store::scratch(StoreOptions::default()).unwrap();
    fill(&scratch, &mut Random::new(6), 3);
    let refused = scratch.archive(&operator(), "notes", &ArchiveBudget::default(), &|_| ());
    assert!(matches!(refused, Err(ArchiveError::InMemory)));
}

#[test]
fn no_search_fails_or_misses_what_was_committed_before_it_while_editions_are_switched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random::new(7);
    fill(&store, &mut random, 300);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut random = Random::new(8);
            let mut searched = 0;
            while !is_done.load(Ordering::Relaxed) {
                let vector = direction(&mut random);
                let id = within(&store, |unit| {
                    let id = unit.create(operator(), 1, vec![]).unwrap();
                    set(unit, id, &vector, 1);
                    id
                });
                let found = search(&mut store.begin(), &vector, 1, None);
                assert_eq!(found[0].object, id);
                let mut unit = store.begin();
                assert!(unit.remove_vector(&operator(), "notes", id).unwrap() || searched == 0);
                if searched % 3 == 0 {
                    commit(&store, unit).unwrap();
                }
                searched += 1;
            }
            searched
        });
        for _ in 0..4 {
            archive(&store);
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
    assert_clean(&store);
}

/// In a child: vectors change and are archived again.
#[test]
fn child() {
    let Some(place) = place() else { return };
    let store = open(&place);
    let ids: Vec<ObjectId> =
        store.begin().names("", "", 500).unwrap().into_iter().map(|(_, id)| id).collect();
    within(&store, |unit| ids.iter().step_by(3).for_each(|id| set(unit, *id, &[1.0; DIM], 2)));
    archive(&store);
    store.forget(&ids[..1], "ada", Children::Refuse).unwrap();
}

const STEPS: [&str; 8] = [
    "archive::built",
    "store::edition-waits",
    "store::before-commit",
    "store::after-commit",
    "store::edition-in-force",
    "archive::current-before-rename",
    "archive::published",
    "archive::collect-manifest-removed",
];

#[test]
fn a_process_that_dies_while_it_archives_is_followed_by_one_that_finds_the_same() {
    let made = |seed: u64| {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let rows = fill(&store, &mut Random::new(200 + seed), 90);
        within(&store, |unit| {
            for (number, id) in rows.keys().enumerate() {
                unit.bind(&name(&format!("o/{number:04}")), *id).unwrap();
            }
        });
        archive(&store);
        dir
    };
    let copied = |dir: &tempfile::TempDir| {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), copy.path());
        copy
    };
    at_every_step("archive::child", &STEPS, made, copied, |_, place, what| {
        let store = open(place);
        let names = store.begin().names("", "", 500).unwrap();
        let found = store.begin().search_vectors(&operator(), "notes", &[1.0; DIM], 500, &[]).unwrap();
        let mut found: Vec<ObjectId> = found.into_iter().map(|neighbor| neighbor.object).collect();
        let mut ids: Vec<ObjectId> = names.into_iter().map(|(_, id)| id).collect();
        found.sort_unstable();
        ids.sort_unstable();
        assert!(ids.len() == 90 || ids.len() == 89, "{what}: {}", ids.len());
        assert_eq!(found, ids, "{what}");
        assert_clean(&store);
        await_until("nothing is left of what does not serve", || is_tidy(&store, place));
        archive(&store);
        await_until("only the edition that serves is there", || is_tidy(&store, place));
    });
}

/// A snapshot that was begun after the base sees what was superseded while it is open, in the edition before or this one.
#[test]
fn a_snapshot_that_is_open_during_a_switch_sees_what_it_saw() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut rows = fill(&store, &mut Random::new(11), 40);
    archive(&store);
    let id = *rows.keys().next().unwrap();
    let vector = rows[&id].0.clone();
    std::thread::scope(|scope| {
        // Holds the switch back until another unit is open at a later snapshot.
        let early = store.begin();
        within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
        let built = build(&store);
        let waits = heard("store::edition-waits");
        let archiver = scope.spawn(|| built.publish().unwrap());
        waits.recv().unwrap();
        let mut open_unit = store.begin();
        within(&store, |unit| assert!(unit.remove_vector(&operator(), "notes", id).unwrap()));
        assert_eq!(shape(&store).edition, Some(1));
        drop(early);
        assert_eq!(archiver.join().unwrap().about.edition, 2);
        let found = search(&mut open_unit, &vector, 1, None);
        assert_eq!(found[0].object, id, "the unit began before it was removed");
    });
    rows.remove(&id);
    assert_same(&store, &rows, "afterwards");
}
