//! Goal: what serves is there, and nothing else is, whatever becomes of an edition on its way, in force, or given up.
//! Method: publications are held back or refused, readers held up, files harmed; then the directory is looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use telos_store::{
    ArchiveBudget, ArchiveError, ArchiveReport, Children, CommitError, Json, Neighbor, ObjectId, OnDecided,
    Store, Unit, Vote,
};

use crate::archive::{
    DIM, Rows, archive, assert_same, build, direction, editions, fill, heard, is_named, is_tidy, open,
    search, set, shape, shape_of,
};
use crate::curator::Held;
use crate::fixture::{assert_clean, await_until, operator, within};
use crate::frozen::copy_tree;
use crate::random::Random;

/// A store with so many rows and, when an edition serves, ten more that it has not.
fn made(dir: &Path, random: &mut Random, has_serving: bool) -> (Store, Rows) {
    let store = open(dir);
    let mut rows = fill(&store, random, 100);
    if has_serving {
        archive(&store);
        rows.extend(fill(&store, random, 10));
    }
    (store, rows)
}

/// An edition that waits for an old snapshot, and what is done meanwhile; answers how its publication ended.
fn while_it_waits(store: &Store, meanwhile: impl FnOnce()) -> Result<ArchiveReport, ArchiveError> {
    let old = store.begin();
    within(store, |unit| unit.create(operator(), 1, vec![]).unwrap());
    let built = build(store);
    let waits = heard("store::edition-waits");
    std::thread::scope(|scope| {
        let archiver = scope.spawn(|| built.publish());
        waits.recv().unwrap();
        meanwhile();
        let ended = archiver.join().unwrap();
        drop(old);
        ended
    })
}

#[test]
fn what_is_forgotten_while_an_edition_is_about_to_serve_is_in_no_file() {
    for has_serving in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, rows) = made(dir.path(), &mut Random::new(31), has_serving);
        let late = fill(&store, &mut Random::new(32), 1);
        let id = *late.keys().next().unwrap();
        let forget = || {
            store.forget(&[id], "ada", Children::Refuse).unwrap();
        };
        let ended = while_it_waits(&store, forget);
        assert!(matches!(ended, Err(ArchiveError::Forgotten)), "{ended:?}");
        assert!(!is_named(dir.path(), id) && store.traces_of(id).unwrap().is_empty());
        assert_eq!(shape(&store).edition, has_serving.then_some(1));
        assert!(is_tidy(&store, dir.path()), "{:?}", editions(dir.path()));
        assert_same(&store, &rows, "forgotten");
    }
}

#[test]
fn what_is_stopped_while_it_is_about_to_serve_leaves_nothing() {
    for has_serving in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, rows) = made(dir.path(), &mut Random::new(32), has_serving);
        let old = store.begin();
        within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
        let work = store.begin_archive(&operator(), "notes").unwrap();
        let stop = work.stop();
        let built = work.build(&ArchiveBudget::default(), &|_| ()).unwrap();
        stop.store(true, Ordering::Release);
        let ended = built.publish();
        assert!(matches!(ended, Err(ArchiveError::Stopped)), "{ended:?}");
        drop(old);
        assert!(is_tidy(&store, dir.path()), "{:?}", editions(dir.path()));
        assert_same(&store, &rows, "stopped");
    }
}

#[test]
fn an_edition_whose_commit_is_refused_leaves_nothing() {
    for has_serving in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, rows) = made(dir.path(), &mut Random::new(33), has_serving);
        let built = build(&store);
        let held = Held::at("store::reopen-before-open");
        fail_half_way(&store);
        held.await_build();
        let refused = built.publish();
        let is_closed = matches!(&refused, Err(ArchiveError::Commit(CommitError::ReadOnlyStore { .. })));
        assert!(is_closed, "{refused:?}");
        drop(held);
        await_until("the store is open again", || store.read_only_cause().is_none());
        assert!(is_tidy(&store, dir.path()), "{:?}", editions(dir.path()));
        assert_same(&store, &rows, "refused");
    }
}

#[test]
fn an_edition_that_is_read_at_the_switch_goes_with_its_reader_or_with_what_is_forgotten() {
    for is_forgotten in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut rows) = made(dir.path(), &mut Random::new(34), true);
        let id = *rows.keys().next().unwrap();
        let held = Held::at("store::archive-searched");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| search(&mut store.begin(), &[1.0; DIM], 3, None));
            held.await_build();
            archive(&store);
            assert!(!is_tidy(&store, dir.path()), "somebody reads the edition before");
            if is_forgotten {
                store.forget(&[id], "ada", Children::Refuse).unwrap();
                assert!(!is_named(dir.path(), id));
                rows.remove(&id);
            }
            drop(held);
            assert_eq!(reader.join().unwrap().len(), 3);
        });
        await_until("the edition before is gone", || is_tidy(&store, dir.path()));
        assert_same(&store, &rows, "afterwards");
    }
}

#[test]
fn what_waits_is_not_deleted_when_the_edition_before_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut rows) = made(dir.path(), &mut Random::new(35), true);
    let id = *rows.keys().next().unwrap();
    within(&store, |unit| assert!(unit.remove_vector(&operator(), "notes", id).unwrap()));
    rows.remove(&id);
    let built = build(&store);
    store.forget(&[id], "ada", Children::Refuse).unwrap();
    assert!(!is_named(dir.path(), id));
    await_until("it is given up", || shape(&store).edition.is_none());
    assert!(!built.is_spoilt());
    assert_eq!(built.publish().unwrap().about.edition, 2);
    assert_same(&store, &rows, "published");
    drop(store);
    let store = open(dir.path());
    assert_eq!(shape(&store).edition, Some(2));
    await_until("nothing else is there", || is_tidy(&store, dir.path()));
}

/// Has the database opened again, as after a failure of the disk.
fn reopen(store: &Store) {
    let reopened = heard("store::reopen-before-install");
    fail_half_way(store);
    reopened.recv().unwrap();
    await_until("the store is open again", || store.read_only_cause().is_none());
}

fn fail_half_way(store: &Store) {
    let on_decided = Some(OnDecided::new(|_| panic!("so that the file is opened again")));
    let mut unit = store.begin();
    unit.audit("written", "before", serde_json::Value::Null).unwrap();
    store.decide(unit, Vote { on_decided, ..Vote::default() }).wait().unwrap_err();
}

#[test]
fn what_waits_is_not_deleted_when_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(36), false);
    let built = build(&store);
    leave_an_orphan(dir.path(), 7);
    reopen(&store);
    await_until("it was tidied", || !orphan(dir.path(), 7).exists());
    assert_eq!(built.publish().unwrap().about.edition, 1);
    assert!(is_tidy(&store, dir.path()));
    assert_same(&store, &rows, "published");
}

fn orphan(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("archive/0/edition-{number}"))
}

/// Whoever tidies deletes it.
fn leave_an_orphan(dir: &Path, number: u64) {
    fs::create_dir(orphan(dir, number)).unwrap();
    fs::write(orphan(dir, number).join("rows"), "half").unwrap();
}

#[test]
fn what_a_start_cannot_open_is_deleted_when_it_is_damaged_and_kept_when_it_may_be_whole() {
    type Harm = fn(&Path);
    let is_newer: Harm = |edition| {
        let text = format!("{}\n", serde_json::json!({ "format": 99 }));
        let whole = format!("{text}{}\n", blake3::hash(text.as_bytes()));
        fs::write(edition.join("MANIFEST"), whole).unwrap();
    };
    let is_damaged: Harm = |edition| fs::write(edition.join("MANIFEST"), "what").unwrap();
    let is_unfinished: Harm = |edition| fs::remove_file(edition.join("MANIFEST")).unwrap();
    let is_short: Harm = |edition| fs::write(edition.join("rows"), "short").unwrap();
    let cannot_be_read: Harm = |edition| {
        fs::remove_file(edition.join("rows")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("rows", edition.join("rows")).unwrap();
        #[cfg(not(unix))]
        fs::create_dir(edition.join("rows")).unwrap();
    };
    for (number, (harm, is_kept)) in [
        (is_newer, true),
        (cannot_be_read, true),
        (is_damaged, false),
        (is_unfinished, false),
        (is_short, false),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut rows) = made(dir.path(), &mut Random::new(37), true);
        drop(store);
        harm(&orphan(dir.path(), 1));
        leave_an_orphan(dir.path(), 7);
        let store = open(dir.path());
        await_until("it was tidied", || !orphan(dir.path(), 7).exists());
        assert_eq!(orphan(dir.path(), 1).exists(), is_kept, "harm {number}");
        assert_same(&store, &rows, "with less on disk");
        // Nobody knows whose vectors are in it.
        let id = *rows.keys().next().unwrap();
        store.forget(&[id], "ada", Children::Refuse).unwrap();
        rows.remove(&id);
        assert!(!orphan(dir.path(), 1).exists(), "harm {number}");
        archive(&store);
        assert!(is_tidy(&store, dir.path()), "harm {number}");
        assert_same(&store, &rows, "archived again");
    }
}

#[test]
fn the_archive_of_a_collection_that_there_is_not_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(38), true);
    drop(store);
    let (other, letter) = (dir.path().join("archive/9"), dir.path().join("archive/letter"));
    copy_tree(&dir.path().join("archive/0"), &other);
    fs::write(&letter, "mine").unwrap();
    let store = open(dir.path());
    await_until("it is gone", || !other.exists());
    assert!(letter.exists());
    assert_same(&store, &rows, "opened");
}

#[test]
fn verification_finds_what_no_search_has_met() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(39), true);
    assert!(store.verify_archive().unwrap().iter().all(|check| check.problem.is_none()));
    for file in editions(dir.path()).into_iter().filter(|file| !file.ends_with("CURRENT")) {
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        fs::write(&file, bytes).unwrap();
        let checks = store.verify_archive().unwrap();
        assert!(checks[0].problem.is_some(), "{}", file.display());
        fs::write(&file, whole).unwrap();
    }
    assert_same(&store, &rows, "as before");
}

#[test]
fn commits_go_on_while_an_edition_is_given_up_and_other_collections_keep_their_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(40);
    let (store, mut rows) = made(dir.path(), &mut random, true);
    let other = |unit: &mut Unit| unit.search_vectors(&operator(), "others", &[1.0; DIM], 3, &[]);
    within(&store, |unit| {
        let id = unit.create(operator(), 1, vec![]).unwrap();
        unit.upsert_vector(&operator(), "others", id, vec![1.0; DIM], Json::parse("{}").unwrap()).unwrap();
    });
    let mut before = store.begin();
    assert_eq!(other(&mut before).unwrap().len(), 1);
    let ids: Vec<ObjectId> = rows.keys().copied().collect();
    let held = Held::at("store::collection-read-anew");
    std::thread::scope(|scope| {
        let forgetting = scope.spawn(|| store.forget(&ids[..1], "ada", Children::Refuse).unwrap());
        held.await_build();
        within(&store, |unit| {
            for (number, id) in ids.iter().enumerate().skip(1) {
                let vector = direction(&mut random);
                match number % 3 {
                    0 => {
                        set(unit, *id, &vector, 1);
                        rows.insert(*id, (vector, 1));
                    }
                    1 => {
                        assert!(unit.remove_vector(&operator(), "notes", *id).unwrap());
                        rows.remove(id);
                    }
                    _ => {}
                }
            }
        });
        rows.extend(fill(&store, &mut random, 7));
        drop(held);
        forgetting.join().unwrap();
    });
    rows.remove(&ids[0]);
    assert_eq!(other(&mut before).unwrap().len(), 1, "nothing of it was given up");
    drop(before);
    assert!(shape_of(&store, "notes").edition.is_none() && !is_named(dir.path(), ids[0]));
    assert_same(&store, &rows, "afterwards");
}

/// Past 4,096 directions an edition has a graph; rows in one direction are one node of it.
#[test]
fn many_vectors_and_many_in_one_direction_are_found_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut random = Random::new(41);
    let rows = fill(&store, &mut random, 4_300);
    let twin = direction(&mut random);
    let mut twins: Vec<ObjectId> = within(&store, |unit| {
        let mut twin = |_| {
            let id = unit.create(operator(), 1, vec![]).unwrap();
            set(unit, id, &twin, 7);
            id
        };
        (0..200).map(&mut twin).collect()
    });
    twins.sort_unstable();
    assert_eq!(archive(&store).about.rows, 4_500);
    let ids = |found: Vec<Neighbor>| found.into_iter().map(|neighbor| neighbor.object).collect::<Vec<_>>();
    for round in 0..3 {
        let mut unit = store.begin();
        let is_found = |unit: &mut Unit, vector: &[f32]| search(unit, vector, 1, None)[0].distance < 1e-5;
        let lost = rows.values().step_by(20).filter(|(vector, _)| !is_found(&mut unit, vector)).count();
        assert!(lost <= 2, "round {round}: {lost} of 215 do not find themselves");
        assert_eq!(ids(search(&mut unit, &twin, 5, None)), twins[..5], "round {round}");
        assert_eq!(ids(search(&mut unit, &twin, twins.len(), None)), twins, "round {round}");
        let opposite: Vec<f32> = twin.iter().map(|component| -component).collect();
        assert_eq!(ids(search(&mut unit, &opposite, 3, Some(7))), twins[..3], "round {round}: a rare filter");
        drop(unit);
        let removed: Vec<ObjectId> = twins.drain(..10).collect();
        within(&store, |unit| {
            for id in removed {
                assert!(unit.remove_vector(&operator(), "notes", id).unwrap());
            }
        });
        if round == 1 {
            drop(store);
            store = open(dir.path());
        }
        assert_eq!(shape(&store).archived, 4_500, "round {round}");
    }
    assert_clean(&store);
}

/// What is durable and not yet to be seen is in an edition that is built then.
#[test]
fn a_snapshot_from_before_the_newest_vector_holds_the_switch_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(42), false);
    let mut old = store.begin();
    let held = Held::at("store::after-commit");
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| fill(&store, &mut Random::new(43), 1));
        held.await_build();
        let built = build(&store);
        assert_eq!(built.about().rows as usize, rows.len() + 1);
        let waits = heard("store::edition-waits");
        let archiver = scope.spawn(|| built.publish().unwrap());
        waits.recv().unwrap();
        drop(held);
        committing.join().unwrap();
        for _ in 0..5 {
            within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
        }
        assert_eq!(shape(&store).edition, None);
        assert_eq!(search(&mut old, &[1.0; DIM], 200, None).len(), rows.len());
        drop(old);
        assert_eq!(archiver.join().unwrap().about.edition, 1);
    });
}

const EDITIONS: redb::TableDefinition<u32, (u64, u64)> = redb::TableDefinition::new("editions");

/// Changes rows of a store that is closed.
fn behind_its_back(dir: &Path, change: impl FnOnce(&mut redb::Table<'_, u32, (u64, u64)>)) {
    let database = redb::Database::open(dir.join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    change(&mut txn.open_table(EDITIONS).unwrap());
    txn.commit().unwrap();
}

#[test]
fn verification_finds_editions_of_no_collection_and_of_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    drop(made(dir.path(), &mut Random::new(44), true));
    assert!(Store::verify(dir.path()).unwrap().is_clean());
    behind_its_back(dir.path(), |editions| {
        editions.insert(9, (1, 1)).unwrap();
        editions.insert(0, (1, 1_000_000)).unwrap();
    });
    let report = Store::verify(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 2, "{report:#?}");
}

#[test]
fn no_row_names_an_edition_for_long_that_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(45), true);
    drop(store);
    fs::remove_dir_all(dir.path().join("archive/0/edition-1")).unwrap();
    let store = open(dir.path());
    let at = store.position();
    await_until("the row says so", || store.position() > at);
    assert_same(&store, &rows, "without it");
    drop(store);
    behind_its_back(dir.path(), |editions| {
        let row = redb::ReadableTable::get(editions, 0).unwrap().unwrap().value();
        assert_eq!(row, (1, 0));
    });
    assert_eq!(archive(&open(dir.path())).about.edition, 2);
}

/// What the audit says of editions that were given up: owner and collection, number, why.
fn audited(store: &Store) -> Vec<(String, u64, String)> {
    let rows = store.audit_after(0, 1_000).unwrap().into_iter();
    rows.filter(|row| row.kind == "memory.edition-given-up")
        .map(|row| {
            let (number, why) =
                (row.detail["edition"].as_u64().unwrap(), row.detail["why"].as_str().unwrap());
            (row.subject, number, why.to_owned())
        })
        .collect()
}

/// What the store says of them, and what verification does.
#[track_caller]
fn assert_given_up(store: &Store, why: &str) {
    let given_up = store.editions_given_up().unwrap();
    assert!(given_up.len() == 1 && !given_up[0].is_forgetting, "{given_up:?}");
    assert_eq!((given_up[0].collection.as_str(), given_up[0].edition), ("notes", 1));
    assert!(given_up[0].why.contains(why), "{given_up:?}");
    let checks = store.verify_archive().unwrap();
    assert!(checks.len() == 1 && checks[0].edition == 1, "{checks:?}");
    let problem = checks[0].problem.as_ref().unwrap();
    assert!(problem.contains(why) && problem.contains("`telos memory archive operator notes`"), "{problem}");
}

#[test]
fn an_edition_that_is_given_up_is_told_until_the_collection_is_archived_again() {
    for is_open in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, rows) = made(dir.path(), &mut Random::new(46), true);
        assert_eq!(store.editions_given_up().unwrap(), []);
        let why = if is_open {
            for file in editions(dir.path()).into_iter().filter(|file| !file.ends_with("CURRENT")) {
                let bytes: Vec<u8> = fs::read(&file).unwrap().iter().map(|byte| byte ^ 1).collect();
                fs::write(&file, bytes).unwrap();
            }
            assert_same(&store, &rows, "no search fails when it meets the damage");
            "not as it was written"
        } else {
            drop(store);
            fs::remove_dir_all(dir.path().join("archive/0/edition-1")).unwrap();
            store = open(dir.path());
            "its files are gone"
        };
        await_until("the audit says so", || !audited(&store).is_empty());
        assert_given_up(&store, why);
        drop(store);
        let store = open(dir.path());
        assert_given_up(&store, why);
        let audited = audited(&store);
        let [(subject, 1, said)] = &audited[..] else { panic!("{audited:?}") };
        assert!(subject == "operator/notes" && said.contains(why), "{audited:?}");
        archive(&store);
        assert_eq!(store.editions_given_up().unwrap(), []);
        assert!(store.verify_archive().unwrap().iter().all(|check| check.problem.is_none()));
    }
}

#[test]
fn an_edition_that_is_given_up_since_an_object_is_forgotten_is_told_and_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rows) = made(dir.path(), &mut Random::new(47), true);
    store.forget(&[*rows.keys().next().unwrap()], "ada", Children::Refuse).unwrap();
    await_until("the audit says so", || !audited(&store).is_empty());
    let given_up = store.editions_given_up().unwrap();
    assert!(given_up.len() == 1 && given_up[0].is_forgetting, "{given_up:?}");
    assert_eq!(store.verify_archive().unwrap(), []);
}

/// Goal: a search that meets damage finds what its snapshot sees, whatever was committed since.
/// Method: the edition is not given up meanwhile; then vectors that the snapshot sees are replaced.
#[test]
fn a_search_that_meets_damage_sees_its_snapshot_or_is_told_that_it_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(48);
    let (store, rows) = made(dir.path(), &mut random, true);
    let held = Held::at("store::collection-read-anew");
    let mut before = store.begin();
    for file in editions(dir.path()).into_iter().filter(|file| !file.ends_with("CURRENT")) {
        fs::write(&file, vec![7; fs::read(&file).unwrap().len()]).unwrap();
    }
    let all = |unit: &mut Unit| unit.search_vectors(&operator(), "notes", &[1.0; DIM], 300, &[]);
    assert_eq!(all(&mut before).unwrap().len(), rows.len());
    let others = fill(&store, &mut random, 7);
    let seen = all(&mut before).unwrap();
    assert_eq!(seen.len(), rows.len(), "what came later is not seen");
    assert_eq!(all(&mut store.begin()).unwrap().len(), rows.len() + others.len());
    let id = *rows.keys().next().unwrap();
    within(&store, |unit| set(unit, id, &direction(&mut random), 1));
    match all(&mut before) {
        Ok(found) => assert_eq!(found, seen),
        Err(refused) => {
            assert!(matches!(refused, telos_store::VectorError::SnapshotTooOld { .. }), "{refused}");
        }
    }
    assert_eq!(all(&mut store.begin()).unwrap().len(), rows.len() + others.len());
    drop(held);
}
