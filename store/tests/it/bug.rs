//! Goal: a panic of a host's own code costs nobody the database, and is not told as damage of it.
//! Method: replies and finishes that panic, over a disk that counts how often it is opened and has a page that a check of
//! every page would refuse.

use std::sync::mpsc;

use telos_store::{CommitError, Effect, OnDecided, Vote};

use crate::fixture::{Watched, await_until, commit, number, object_among_many, object_with, read};

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
fn a_finish_that_panics_is_told_as_a_bug_and_no_page_is_checked_for_it() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Watched::default());
    let store = disk.store(&dir);
    object_among_many(&store, "a page that a check would refuse");
    let id = object_with(&store, "a", 1);
    disk.rot("a page that a check would refuse");
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
