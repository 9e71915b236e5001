//! Deciding: conflicts, groups, deadlines, bounds, and what a savepoint does to them.

use std::time::{Duration, Instant};

use telos_store::{
    CommitError, Contested, Effect, Fault, Json, ObjectId, OnDecided, Position, ReadError, Slot, Store,
    StoreOptions, Vote, WriteError, limit,
};

use crate::fixture::{assert_clean, commit, name, number, object_with, operator, read, scratch, within};

#[test]
fn concurrent_increments_lose_no_update() {
    let store = scratch();
    let counter = object_with(&store, "count", 0);
    let (threads, increments) = (8, 40);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut done = 0;
                while done < increments {
                    let mut unit = store.begin();
                    let count = read(&mut unit, counter, "count").unwrap();
                    unit.set_slot(counter, "count", number(count + 1)).unwrap();
                    match commit(&store, unit) {
                        Ok(_) => done += 1,
                        Err(CommitError::Conflict(what)) => assert_eq!(what, Contested::Object(counter)),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(read(&mut store.begin(), counter, "count"), Some(threads * increments));
    assert_eq!(
        store.begin().object(counter).unwrap().unwrap().revision.get(),
        1 + (threads * increments).unsigned_abs()
    );
    assert_clean(&store);
}

#[test]
fn disjoint_units_all_commit_with_consecutive_positions() {
    let store = scratch();
    let units: Vec<_> = (0..300)
        .map(|value| {
            let mut unit = store.begin();
            let id = unit.create(operator(), 1, vec![]).unwrap();
            unit.set_slot(id, "value", number(value)).unwrap();
            unit
        })
        .collect();
    let decided: Vec<_> = units.into_iter().map(|unit| store.decide(unit, Vote::default())).collect();
    let positions: Vec<_> =
        decided.into_iter().map(|decided| decided.wait().unwrap().position.get()).collect();
    assert_eq!(positions, (1..=300).collect::<Vec<_>>());
    assert_clean(&store);
}

#[test]
fn a_write_skew_is_a_conflict() {
    let store = scratch();
    let (left, right) = (object_with(&store, "on", 1), object_with(&store, "on", 1));
    let (mut first, mut second) = (store.begin(), store.begin());
    assert_eq!((read(&mut first, right, "on"), read(&mut second, left, "on")), (Some(1), Some(1)));
    first.set_slot(left, "on", number(0)).unwrap();
    second.set_slot(right, "on", number(0)).unwrap();
    commit(&store, first).unwrap();
    let error = commit(&store, second).unwrap_err();
    assert!(matches!(&error, CommitError::Conflict(Contested::Object(id)) if *id == left), "{error}");
    assert_eq!((error.effect(), error.fault()), (Effect::None, Fault::Host));
}

#[test]
fn what_was_absent_is_guarded_too() {
    let store = scratch();
    let object = object_with(&store, "a", 1);
    let mut unit = store.begin();
    assert_eq!(unit.find(&name("free")).unwrap(), None);
    unit.set_slot(object, "seen-free", number(1)).unwrap();
    within(&store, |other| other.bind(&name("free"), object).unwrap());
    let error = commit(&store, unit).unwrap_err();
    assert!(matches!(error, CommitError::Conflict(Contested::Name(found)) if found == name("free")));
}

#[test]
fn a_slot_added_on_the_way_of_a_lookup_is_a_conflict() {
    let store = scratch();
    let grandparent = object_with(&store, "far", 1);
    let parent = within(&store, |unit| unit.create(operator(), 1, vec![grandparent]).unwrap());
    let child = within(&store, |unit| unit.create(operator(), 1, vec![parent]).unwrap());
    let mut unit = store.begin();
    assert_eq!(unit.lookup(child, "far").unwrap().unwrap().holder, grandparent);
    unit.set_slot(child, "note", number(1)).unwrap();
    within(&store, |other| other.set_slot(parent, "far", number(2)).unwrap());
    let error = commit(&store, unit).unwrap_err();
    assert!(matches!(error, CommitError::Conflict(Contested::Object(id)) if id == parent));
}

#[test]
fn lookup_goes_depth_first_left_to_right_and_around_cycles() {
    let store = scratch();
    let mut unit = store.begin();
    let mut make = |parents: Vec<ObjectId>| unit.create(operator(), 1, parents).unwrap();
    let top = make(vec![]);
    let (left, right) = (make(vec![top]), make(vec![top]));
    let bottom = make(vec![left, right]);
    unit.set_parents(top, vec![bottom]).unwrap();
    unit.set_slot(top, "x", number(1)).unwrap();
    unit.set_slot(right, "x", number(2)).unwrap();
    assert_eq!(unit.lookup(bottom, "x").unwrap().unwrap().holder, top);
    assert_eq!(unit.lookup(right, "x").unwrap().unwrap().holder, right);
    assert_eq!(unit.lookup(bottom, "y").unwrap(), None);
    let unknown = ObjectId::from_parts(0, 1);
    assert!(matches!(unit.lookup(unknown, "x"), Err(ReadError::NoSuchObject(id)) if id == unknown));
}

#[test]
fn a_discarded_read_still_counts() {
    let store = scratch();
    let (seen, written) = (object_with(&store, "a", 1), object_with(&store, "a", 1));
    let mut unit = store.begin();
    let savepoint = unit.savepoint();
    assert_eq!(read(&mut unit, seen, "a"), Some(1));
    unit.set_slot(seen, "a", number(5)).unwrap();
    unit.discard(savepoint);
    assert!(unit.is_unwritten());
    unit.set_slot(written, "a", number(2)).unwrap();
    within(&store, |other| other.set_slot(seen, "a", number(3)).unwrap());
    assert!(matches!(commit(&store, unit), Err(CommitError::Conflict(Contested::Object(id))) if id == seen));
}

#[test]
fn ending_a_savepoint_ends_those_above_it() {
    let store = scratch();
    let id = object_with(&store, "a", 0);
    let mut unit = store.begin();
    let outer = unit.savepoint();
    unit.set_slot(id, "a", number(1)).unwrap();
    let _inner = unit.savepoint();
    unit.set_slot(id, "a", number(2)).unwrap();
    unit.keep(outer);
    assert_eq!(read(&mut unit, id, "a"), Some(2));
    let again = unit.savepoint();
    unit.set_slot(id, "a", number(3)).unwrap();
    unit.discard(again);
    commit(&store, unit).unwrap();
    assert_eq!(read(&mut store.begin(), id, "a"), Some(2));
}

#[test]
fn a_passed_deadline_decides_nothing() {
    let store = scratch();
    let id = object_with(&store, "a", 1);
    let mut unit = store.begin();
    unit.set_slot(id, "a", number(2)).unwrap();
    let past = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
    let error = store.decide(unit, Vote { deadline: Some(past), ..Vote::default() }).wait().unwrap_err();
    assert!(matches!(error, CommitError::Deadline) && error.effect() == Effect::None);
    assert_eq!((read(&mut store.begin(), id, "a"), store.position()), (Some(1), Position::new(1)));
}

#[test]
fn a_unit_that_only_reads_commits_at_its_snapshot() {
    let store = scratch();
    let id = object_with(&store, "a", 1);
    let mut unit = store.begin();
    assert_eq!(read(&mut unit, id, "a"), Some(1));
    within(&store, |other| other.set_slot(id, "a", number(2)).unwrap());
    assert_eq!(read(&mut unit, id, "a"), Some(1), "a snapshot does not move");
    assert_eq!(commit(&store, unit).unwrap().position, Position::new(1));
}

#[test]
fn past_a_bound_nothing_changes() {
    let store = scratch();
    let id = object_with(&store, "a", 1);
    let mut unit = store.begin();
    let too_many = vec![id; limit::PARENTS_PER_OBJECT_MAX + 1];
    assert!(matches!(unit.create(operator(), 1, too_many), Err(WriteError::TooLarge(_))));
    let long_name = "n".repeat(limit::SLOT_NAME_BYTES_MAX + 1);
    assert!(matches!(unit.set_slot(id, &long_name, number(1)), Err(WriteError::Invalid(_))));
    assert!(matches!(unit.set_slot(id, "", number(1)), Err(WriteError::Invalid(_))));
    assert!(unit.is_unwritten());

    for slot in 1..limit::SLOTS_PER_OBJECT_MAX {
        unit.set_slot(id, &format!("slot-{slot}"), number(1)).unwrap();
    }
    assert!(matches!(unit.set_slot(id, "one-more", number(1)), Err(WriteError::TooLarge(_))));
    assert_eq!(unit.object(id).unwrap().unwrap().slots.len(), limit::SLOTS_PER_OBJECT_MAX);

    let big = Json::parse(&format!("\"{}\"", "x".repeat(limit::VALUE_BYTES_MAX - 2))).unwrap();
    let fat = unit.create(operator(), 1, vec![]).unwrap();
    for slot in ["a", "b", "c"] {
        unit.set_slot(fat, slot, Slot::Value(big.clone())).unwrap();
    }
    assert!(matches!(unit.set_slot(fat, "d", Slot::Value(big.clone())), Err(WriteError::TooLarge(_))));
    assert_eq!(unit.object(fat).unwrap().unwrap().slots.len(), 3);
    commit(&store, unit).unwrap();
    assert_clean(&store);
}

#[test]
fn a_unit_writes_at_most_8_mib() {
    let store = scratch();
    let mut unit = store.begin();
    let big = Json::parse(&format!("\"{}\"", "x".repeat(limit::VALUE_BYTES_MAX - 2))).unwrap();
    let outcome = (0..64).try_for_each(|_| {
        let id = unit.create(operator(), 1, vec![])?;
        unit.set_slot(id, "v", Slot::Value(big.clone()))
    });
    assert!(
        matches!(outcome, Err(WriteError::TooLarge(overflow)) if overflow.allowed == limit::UNIT_BYTES_MAX)
    );
    assert!(unit.writes().bytes <= limit::UNIT_BYTES_MAX);
    commit(&store, unit).unwrap();
    assert_clean(&store);
}

#[test]
fn a_callback_is_called_once_and_a_closed_store_still_decides_what_it_took() {
    let store = scratch();
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..50 {
        let mut unit = store.begin();
        unit.create(operator(), 1, vec![]).unwrap();
        let sender = sender.clone();
        store
            .decide_then(unit, Vote::default(), move |result| sender.send(result.unwrap().position).unwrap());
    }
    drop((store, sender));
    assert_eq!(receiver.iter().map(Position::get).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
}

#[test]
fn what_a_vote_does_when_decided_is_done_before_its_position_is_visible() {
    let store = scratch();
    let (sender, receiver) = std::sync::mpsc::channel();
    let watched = store.clone();
    let act = move |position: Position| sender.send((position, watched.position())).unwrap();
    let vote = Vote { on_decided: Some(OnDecided::new(act)), ..Vote::default() };
    // Also for a unit that writes nothing: it gets a position of its own.
    let commit = store.decide(store.begin(), vote).wait().unwrap();
    assert_eq!(receiver.recv().unwrap(), (commit.position, Position::NONE));
    assert_eq!((commit.position, store.position()), (Position::new(1), Position::new(1)));
    assert!(receiver.recv().is_err(), "once");
}

#[test]
fn lists_and_histories_see_the_snapshot() {
    let store = scratch();
    let (left, right) = (object_with(&store, "a", 1), object_with(&store, "a", 1));
    within(&store, |unit| {
        unit.bind(&name("n/moves"), left).unwrap();
        unit.bind(&name("n/goes"), left).unwrap();
    });
    let mut old = store.begin();
    within(&store, |unit| {
        unit.unbind(&name("n/moves")).unwrap();
        unit.bind(&name("n/moves"), right).unwrap();
        unit.unbind(&name("n/goes")).unwrap();
        unit.bind(&name("n/comes"), right).unwrap();
        unit.set_slot(left, "a", number(2)).unwrap();
    });
    let mut new = store.begin();
    let listed =
        |pairs: &[(&str, ObjectId)]| -> Vec<_> { pairs.iter().map(|(text, id)| (name(text), *id)).collect() };
    assert_eq!(old.names("n/", "", 9).unwrap(), listed(&[("n/goes", left), ("n/moves", left)]));
    assert_eq!(new.names("n/", "", 9).unwrap(), listed(&[("n/comes", right), ("n/moves", right)]));
    assert_eq!(old.names_of(left).unwrap(), [name("n/goes"), name("n/moves")]);
    assert_eq!(new.names_of(right).unwrap(), [name("n/comes"), name("n/moves")]);
    assert_eq!((old.names_of(right).unwrap().len(), new.names_of(left).unwrap().len()), (0, 0));
    assert_eq!((old.history(left, 9).unwrap().len(), new.history(left, 9).unwrap().len()), (1, 2));
}

#[test]
fn a_name_that_could_be_an_id_is_refused_and_an_id_wins_over_such_a_name_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let (addressed, catcher) = (object_with(&store, "a", 1), object_with(&store, "a", 2));
    let (hex, free) = (addressed.to_string(), "ab".repeat(16));
    let mut unit = store.begin();
    for text in [&hex, &free] {
        let refused = unit.bind(&name(text), catcher).unwrap_err();
        assert!(refused.to_string().contains("32 hex digits"), "{refused}");
    }
    drop((unit, store));
    // As an earlier host would have bound them.
    let bits = u128::from_str_radix(&catcher.to_string(), 16).unwrap();
    let names: redb::TableDefinition<(&str, u64), Option<u128>> = redb::TableDefinition::new("names");
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    for text in [&hex, &free] {
        txn.open_table(names).unwrap().insert((text.as_str(), 2), Some(bits)).unwrap();
    }
    txn.commit().unwrap();
    drop(database);
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let (at, mut unit) = (store.position(), store.begin());
    for (text, found) in [(&hex, addressed), (&free, catcher)] {
        assert_eq!(unit.locate(text).unwrap(), Some(found));
        assert_eq!(store.locate_at(text, at).unwrap(), Some(found));
    }
    assert_eq!(unit.locate("nobody").unwrap(), None);
}
