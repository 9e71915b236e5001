use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::{ReadableDatabase, TableHandle};

use crate::error::{Failure, ReadError};
use crate::id::{ComponentId, ObjectId, ObjectName, Position, Revision};
use crate::json::Json;
use crate::limit;
use crate::object::Slot;
use crate::store::{Store, StoreOptions};
use crate::tables::Tables;
use crate::unit::Unit;
use crate::{Vote, history::Retention};

use super::moment::{Moment, Standing, floor, is_one_interval, newest_at};
use super::trace;

const MINUTE_MS: u64 = limit::MOMENT_MS_MAX;

fn moments(rows: &[(u64, u64, u64)]) -> Vec<Moment> {
    let moment = |(position, at_ms, superseded): &(u64, u64, u64)| Moment {
        position: Position::new(*position),
        at_ms: *at_ms,
        superseded: *superseded,
    };
    rows.iter().map(moment).collect()
}

fn fallible(moments: Vec<Moment>) -> impl Iterator<Item = Result<Moment, Failure>> {
    moments.into_iter().map(Ok)
}

/// `retention` and `standing` are (age, rows) and (now, superseded, kept).
#[track_caller]
fn check_floor(
    rows: &[(u64, u64, u64)],
    retention: (u64, u64),
    (now_ms, superseded, kept): (u64, u64, u64),
    expected: u64,
) {
    let retention = Retention { age: Duration::from_millis(retention.0), rows_max: retention.1 };
    let standing = Standing { now_ms, superseded, kept };
    let found = floor(fallible(moments(rows)), &retention, &standing).unwrap();
    assert_eq!(found, Position::new(expected));
}

#[test]
fn the_floor_is_the_newest_moment_past_the_age() {
    let rows = [(10, 100, 0), (20, 200, 5), (30, 300, 9)];
    check_floor(&rows, (50, 99), (149, 9, 9), 0);
    check_floor(&rows, (50, 99), (150, 9, 9), 10);
    check_floor(&rows, (50, 99), (349, 9, 9), 20);
    check_floor(&rows, (0, 99), (300, 9, 9), 30);
    check_floor(&rows, (1_000, 99), (300, 9, 9), 0);
    check_floor(&[], (0, 0), (300, 9, 9), 0);
}

#[test]
fn the_floor_rises_with_the_count_only_when_too_much_is_kept() {
    let rows = [(10, 100, 0), (20, 200, 5), (30, 300, 9)];
    check_floor(&rows, (1_000, 4), (300, 9, 9), 20);
    check_floor(&rows, (1_000, 3), (300, 9, 9), 30);
    check_floor(&rows, (1_000, 3), (300, 9, 3), 0);
    check_floor(&rows, (50, 4), (300, 9, 9), 20); // age says 20 too
    check_floor(&rows, (0, 4), (300, 9, 9), 30); // the newer of the two
    check_floor(&rows, (150, 1), (300, 9, 9), 30);
}

#[test]
fn a_wrong_clock_keeps_the_past_for_longer_and_not_for_ever() {
    // Set back for a while: what was decided before the second row is as old as that row at most.
    check_floor(&[(10, 100, 0), (20, 400, 0), (30, 5, 0)], (100, 99), (450, 0, 0), 10);
    // Far ahead for a while: passed over, until something dated rightly follows.
    check_floor(&[(10, 100, 0), (20, 99_999, 0)], (100, 99), (450, 0, 0), 10);
    check_floor(&[(10, 100, 0), (20, 99_999, 0), (30, 300, 0)], (100, 99), (450, 0, 0), 30);
}

#[test]
fn a_time_names_the_newest_position_at_or_before_it() {
    let at = |rows: &[(u64, u64, u64)], ms, now_ms| {
        newest_at(fallible(moments(rows)), ms, now_ms).unwrap().map(Position::get)
    };
    let rows = [(10, 100, 0), (20, 200, 0), (30, 300, 0)];
    assert_eq!((at(&rows, 99, 400), at(&rows, 100, 400), at(&rows, 299, 400)), (None, Some(10), Some(20)));
    assert_eq!(at(&rows, u64::MAX, 400), Some(30));
    assert_eq!(at(&[(10, 100, 0), (20, 9_999, 0), (30, 300, 0)], 350, 400), Some(30));
    assert_eq!(at(&[], 350, 400), None);
}

#[test]
fn moments_stay_apart_by_a_minute_or_a_tenth_of_the_rows() {
    let retention = Retention { rows_max: 100, ..Retention::default() };
    let is_one = |next: (u64, u64, u64)| {
        is_one_interval(&moments(&[(1, 1_000_000, 50)])[0], &moments(&[next])[0], &retention)
    };
    assert!(is_one((2, 1_000_000 + MINUTE_MS - 1, 59)));
    assert!(!is_one((2, 1_000_000 + MINUTE_MS, 50)));
    assert!(!is_one((2, 1_000_000 - MINUTE_MS, 50)), "the clock was set back");
    assert!(!is_one((2, 1_000_000, 60)));
    let everything = Retention { rows_max: 0, ..Retention::default() };
    assert!(!is_one_interval(&moments(&[(1, 1, 0)])[0], &moments(&[(2, 1, 1)])[0], &everything));
}

#[test]
fn the_search_for_traces_reads_every_table_but_the_audit() {
    let database =
        redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    let txn = database.begin_write().unwrap();
    drop(Tables::open(&txn).unwrap());
    txn.commit().unwrap();
    let made = database.begin_read().unwrap();
    let made: BTreeSet<_> = made.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    let searched: BTreeSet<_> = trace::TABLES.iter().map(|table| (*table).to_owned()).collect();
    let left: Vec<_> = made.difference(&searched).collect();
    assert_eq!(left, ["audit"]);
    assert!(searched.is_subset(&made));
}

fn within<T>(store: &Store, work: impl FnOnce(&mut Unit) -> T) -> T {
    let mut unit = store.begin();
    let answer = work(&mut unit);
    store.decide(unit, Vote::default()).wait().unwrap();
    answer
}

fn value(number: u64) -> Slot {
    Slot::Value(Json::parse(&number.to_string()).unwrap())
}

/// A store that keeps nothing past, with an object of three states and a name, and its clock.
fn forgetful() -> (Store, ObjectId, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let reading = Arc::clone(&now);
    let retention = Retention { age: Duration::ZERO, rows_max: 1_000 };
    let clock = Arc::new(move || reading.load(Ordering::Relaxed));
    let store = Store::scratch(StoreOptions { retention, clock, ..StoreOptions::default() }).unwrap();
    let id = within(&store, |unit| unit.create(ComponentId::operator(), 1, vec![]).unwrap());
    within(&store, |unit| unit.bind(&ObjectName::new("n").unwrap(), id).unwrap());
    within(&store, |unit| unit.set_slot(id, "a", value(1)).unwrap());
    (store, id, now)
}

fn is_too_old<T>(answer: Result<T, ReadError>) -> bool {
    matches!(answer, Err(ReadError::SnapshotTooOld { .. }))
}

#[test]
fn three_units_over_a_minute_old_do_not_hold_the_floor() {
    let (store, id, now) = forgetful();
    let name = ObjectName::new("n").unwrap();
    let now_ms = || now.load(Ordering::Relaxed);
    let mut old: Vec<Unit> = (0..3).map(|_| store.begin()).collect();
    let snapshot = store.position();
    within(&store, |unit| unit.set_slot(id, "a", value(2)).unwrap());

    let young = Instant::now() + limit::SNAPSHOT_AGE_MAX;
    let held = store.prune_history_at(now_ms(), Instant::now()).unwrap();
    assert_eq!((held.floor, held.is_done), (snapshot, true));
    assert_eq!(old[0].history(id, 9).unwrap().len(), 1, "what ended before the snapshot is gone");
    assert_eq!(old[0].object(id).unwrap().unwrap().slots["a"], value(1));

    let late = young + Duration::from_millis(1);
    let pruned = store.prune_history_at(now_ms(), late).unwrap();
    assert!(pruned.floor > snapshot && pruned.is_done, "{pruned:?}");
    for unit in &mut old[1..] {
        assert!(is_too_old(unit.object(id)) && is_too_old(unit.find(&name)));
        assert!(is_too_old(unit.names("", "", 9)) && is_too_old(unit.names_of(id)));
        assert!(is_too_old(unit.history(id, 9)) && is_too_old(unit.lookup(id, "a")));
        assert!(unit.create(ComponentId::operator(), 1, vec![id]).is_err());
    }
    assert!(is_too_old(store.object_at(id, snapshot)) && is_too_old(store.name_at(&name, snapshot)));
    assert_eq!(within(&store, |unit| unit.object(id).unwrap().unwrap().revision), Revision::new(3));
    assert!(store.verify_open().unwrap().is_clean());
}

#[test]
fn a_step_is_bounded_and_the_next_goes_on() {
    let (store, id, now) = forgetful();
    let states = 2 * limit::PRUNE_ROWS_PER_STEP as u64;
    for number in 0..states {
        let mut unit = store.begin();
        unit.set_slot(id, "a", value(number)).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
    }
    let mut steps = Vec::new();
    while steps.last() != Some(&0) && steps.len() < 10 {
        let before = store.retention().unwrap().superseded_rows;
        let pruned = store.prune_history(now.load(Ordering::Relaxed)).unwrap();
        let after = store.retention().unwrap().superseded_rows;
        assert_eq!(before - after, pruned.rows);
        assert!(pruned.rows <= limit::PRUNE_ROWS_PER_STEP as u64);
        steps.push(pruned.rows);
        assert!(store.verify_open().unwrap().is_clean());
    }
    // The first of its three first states was made, not changed: its entry goes without a row.
    assert_eq!((steps.iter().sum::<u64>(), steps.len()), (states + 1, 4));
}
