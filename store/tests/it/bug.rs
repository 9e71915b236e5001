//! Goal: a panic of a host's own code costs nobody the database, and is not told as damage of it.
//! Method: replies and finishes that panic, over a disk that counts how often it is opened.

use std::sync::mpsc;

use telos_store::{CommitError, Effect, OnDecided, Vote};

use crate::fixture::{Watched, await_until, commit, number, object_with, read};

#[test]
fn a_reply_that_panics_costs_nobody_else_anything() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Watched::default());
    let store = disk.store(&dir);
    let (first, second) = (object_with(&store, "a", 1), object_with(&store, "a", 1));
    let begun_before = store.begin_on_voted();
    let (go_on, all_sent) = mpsc::channel::<()>();
    // The committer is held in this reply until those below wait for it together.
    let mut unit = store.begin();
    unit.audit("written", "first", serde_json::Value::Null).unwrap();
    store.decide_then(unit, Vote::default(), move |_| all_sent.recv().unwrap());
    let mut unit = store.begin();
    unit.set_slot(first, "a", number(2)).unwrap();
    store.decide_then(unit, Vote::default(), |told| panic!("this reply is not right: {told:?}"));
    let mut unit = store.begin();
    unit.set_slot(second, "a", number(2)).unwrap();
    let behind = store.decide(unit, Vote::default());
    go_on.send(()).unwrap();
    behind.wait().unwrap();
    assert_eq!(read(&mut store.begin(), first, "a"), Some(2));
    // Nothing was closed, and what was begun goes on.
    let mut unit = begun_before;
    unit.audit("written", "after", serde_json::Value::Null).unwrap();
    commit(&store, unit).unwrap();
    assert_eq!((store.read_only_cause(), disk.opened()), (None, 1));
}

#[test]
fn a_finish_that_panics_is_told_as_a_bug_and_not_as_damage() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Watched::default());
    let store = disk.store(&dir);
    let id = object_with(&store, "a", 1);
    let shut = disk.gate.lock();
    let mut unit = store.begin();
    unit.set_slot(id, "a", number(2)).unwrap();
    let on_decided = Some(OnDecided::new(|_| panic!("this finish is not right")));
    let error = store.decide(unit, Vote { on_decided, ..Vote::default() }).wait().unwrap_err();
    assert!(matches!(error, CommitError::Unavailable(_)) && error.effect() == Effect::Unknown, "{error}");
    await_until("a cause", || store.read_only_cause().is_some());
    let cause = store.read_only_cause().unwrap();
    assert!(cause.contains("a bug in this host") && cause.contains("this finish is not right"), "{cause}");
    assert!(cause.contains("telos store verify") && !cause.contains("telos store restore"), "{cause}");
    assert!(!cause.contains("damaged"), "{cause}");
    drop(shut);
    await_until("the store is open again", || store.read_only_cause().is_none());
    assert_eq!((read(&mut store.begin(), id, "a"), disk.opened()), (Some(2), 2));
}

/// What another handle finds in the bytes is the same for ever, so it is looked for once.
#[test]
fn a_reopened_file_with_a_row_that_cannot_be_read_leaves_the_store_read_only() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Watched::default());
    let store = disk.store(&dir);
    let shut = disk.gate.lock();
    let on_decided = Some(OnDecided::new(|_| panic!("so that the file is opened again")));
    let mut unit = store.begin();
    unit.audit("written", "before", serde_json::Value::Null).unwrap();
    store.decide(unit, Vote { on_decided, ..Vote::default() }).wait().unwrap_err();
    await_until("the file is to be opened again", || disk.opened() == 2);
    disk.replace(&with_unreadable_post(&disk.image()));
    drop(shut);
    await_until("a cause", || store.read_only_cause().is_some_and(|cause| cause.contains("not readable")));
    let opened = disk.opened();
    let mut unit = store.begin();
    unit.audit("written", "after", serde_json::Value::Null).unwrap();
    assert!(matches!(commit(&store, unit), Err(CommitError::ReadOnlyStore { .. })));
    assert_eq!(disk.opened(), opened);
}

/// A database's bytes after a change that no store makes.
fn with_unreadable_post(image: &[u8]) -> Vec<u8> {
    let disk = Watched::default();
    disk.replace(image);
    let outbox = redb::TableDefinition::<(u64, u32), &[u8]>::new("outbox");
    let database = redb::Builder::new().create_with_backend(disk.bytes.clone()).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(outbox).unwrap().insert((1, 0), &[9][..]).unwrap();
    txn.commit().unwrap();
    drop(database);
    disk.image()
}
