use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::{ReadableDatabase, TableHandle};

use crate::error::{CommitError, Contested, ReadError};
use crate::id::{ComponentId, ObjectId, ObjectName, Position, Revision};
use crate::json::Json;
use crate::limit;
use crate::object::Slot;
use crate::store::{Store, StoreOptions};
use crate::tables::Tables;
use crate::unit::Unit;
use crate::{Vote, history::Retention};

use super::forget::{Children, Forget, scan};
use super::moment::{Moment, is_one_interval, newest_at};
use super::trace;

#[track_caller]
fn check_newest(rows: &[(u64, u64)], ms: u64, now_ms: u64, expected: u64) {
    let moment =
        |(position, at_ms): &(u64, u64)| Ok(Moment { position: Position::new(*position), at_ms: *at_ms });
    assert_eq!(newest_at(rows.iter().map(moment), ms, now_ms).unwrap(), Position::new(expected));
}

#[test]
fn a_time_names_the_newest_position_at_or_before_it() {
    let rows = [(10, 100), (20, 200), (30, 300)];
    check_newest(&rows, 99, 400, 0);
    check_newest(&rows, 100, 400, 10);
    check_newest(&rows, 299, 400, 20);
    check_newest(&rows, u64::MAX, 400, 30);
    check_newest(&[], 350, 400, 0);
}

#[test]
fn a_wrong_clock_keeps_the_past_for_longer_and_not_for_ever() {
    // Set back for a while: what was decided before the last row may be as young as the one before it.
    check_newest(&[(10, 100), (20, 400), (30, 5)], 350, 450, 10);
    check_newest(&[(10, 100), (20, 400), (30, 5)], 400, 450, 30);
    // Far ahead for a while: passed over, until something dated rightly follows.
    check_newest(&[(10, 100), (20, 99_999)], 350, 450, 10);
    check_newest(&[(10, 100), (20, 99_999), (30, 300)], 350, 450, 30);
}

#[test]
fn moments_stay_apart_by_a_minute() {
    let (before, minute) = (1_000_000, limit::MOMENT_MS_MAX);
    assert!(is_one_interval(before, before + minute - 1));
    assert!(!is_one_interval(before, before + minute));
    assert!(!is_one_interval(before, before - minute), "the clock was set back");
}

#[test]
fn the_search_for_traces_reads_every_table_but_the_audit() {
    let database =
        redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    let txn = database.begin_write().unwrap();
    drop(Tables::make(&txn).unwrap());
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

/// What every step removed, until one says that it was the last.
fn prune_all(store: &Store, now_ms: u64) -> Vec<u64> {
    let mut steps = Vec::new();
    while steps.len() < 1_000 {
        let before = store.retention().unwrap();
        let pruned = store.prune_history(now_ms).unwrap();
        let after = store.retention().unwrap();
        assert_eq!(before.superseded_rows - after.superseded_rows, pruned.rows);
        assert_eq!(after.gone_rows - before.gone_rows, pruned.rows);
        assert_eq!(after.floor, pruned.floor);
        assert!(store.verify_open().unwrap().is_clean());
        steps.push(pruned.rows);
        if pruned.is_done {
            break;
        }
    }
    steps
}

fn change_often(store: &Store, id: ObjectId, times: u64) {
    for number in 0..times {
        within(store, |unit| unit.set_slot(id, "a", value(number)).unwrap());
    }
}

#[test]
fn a_step_is_bounded_and_the_next_goes_on() {
    let (store, id, now) = forgetful();
    let step = limit::PRUNE_ROWS_PER_STEP as u64;
    change_often(&store, id, 2 * step);
    // One more state ended before those; the entry of the object that was made takes the place of a row.
    let steps = prune_all(&store, now.load(Ordering::Relaxed));
    assert_eq!(steps, [step - 1, step, 2]);
    assert!(store.verify_open().unwrap().is_clean());
}

#[test]
fn the_newest_superseded_states_are_kept_up_to_the_bound() {
    let retention = Retention { age: Duration::MAX, rows_max: 1_000 };
    let store = Store::scratch(StoreOptions { retention, ..StoreOptions::default() }).unwrap();
    let id = within(&store, |unit| unit.create(ComponentId::operator(), 1, vec![]).unwrap());
    change_often(&store, id, 1_000);
    assert_eq!(prune_all(&store, u64::MAX), [0], "the bound is not passed");
    assert_eq!(store.retention().unwrap().floor, Position::NONE);
    change_often(&store, id, 600);
    assert_eq!(prune_all(&store, u64::MAX).iter().sum::<u64>(), 600);
    let kept = store.retention().unwrap();
    assert_eq!((kept.superseded_rows, kept.floor), (1_000, Position::new(601)));
    assert_eq!(store.object_at(id, kept.floor).unwrap().unwrap().revision, Revision::new(601));
    assert!(is_too_old(store.object_at(id, Position::new(600))));
}

#[test]
fn a_bound_far_away_is_reached_in_several_looks() {
    let retention = Retention { age: Duration::MAX, rows_max: 0 };
    let store = Store::scratch(StoreOptions { retention, ..StoreOptions::default() }).unwrap();
    // So many new objects that one look sees nothing of the states that ended after them.
    let ids: Vec<ObjectId> = within(&store, |unit| {
        (0..limit::PRUNE_LOOKAHEAD_ROWS)
            .map(|_| unit.create(ComponentId::operator(), 1, vec![]).unwrap())
            .collect()
    });
    change_often(&store, ids[0], 3);
    // Units hold the floor for a minute; on a slow machine that is over before the pruning is.
    let (held, began) = (store.begin(), Instant::now());
    change_often(&store, ids[0], 2);
    let (mut pruned, mut is_done) = (0, false);
    while !is_done {
        let step = store.prune_history_at(u64::MAX, began).unwrap();
        (pruned, is_done) = (pruned + step.rows, step.is_done);
    }
    assert_eq!(pruned, 3, "and no further than the open unit");
    drop(held);
    assert_eq!(prune_all(&store, u64::MAX).iter().sum::<u64>(), 2);
    assert_eq!(store.retention().unwrap().superseded_rows, 0);
    assert!(store.verify_open().unwrap().is_clean());
}

fn decide_scanned(store: &Store, scanned: Forget) -> CommitError {
    let mut unit = store.begin();
    unit.forget(Arc::new(scanned)).unwrap();
    store.decide(unit, Vote::default()).wait().unwrap_err()
}

#[test]
fn what_a_scan_has_not_seen_is_found_when_it_votes() {
    let (store, id, _) = forgetful();
    let ids = BTreeSet::from([id.to_bits()]);
    let scanned = scan(store.shared(), ids, "a test", Children::Refuse).unwrap();
    let child = within(&store, |unit| unit.create(ComponentId::operator(), 1, vec![id]).unwrap());
    let error = decide_scanned(&store, scanned);
    assert!(matches!(error, CommitError::Conflict(Contested::Object(found)) if found == child), "{error}");
    assert!(store.begin().object(id).unwrap().is_some());
}

#[test]
fn a_scan_that_the_floor_has_passed_is_done_again() {
    let (store, id, now) = forgetful();
    let ids = BTreeSet::from([id.to_bits()]);
    let scanned = scan(store.shared(), ids, "a test", Children::Detach).unwrap();
    // Whoever delegates to it now is in no entry any more once those are pruned.
    within(&store, |unit| unit.create(ComponentId::operator(), 1, vec![id]).unwrap());
    change_often(&store, id, 1);
    prune_all(&store, now.load(Ordering::Relaxed));
    let error = decide_scanned(&store, scanned);
    assert!(matches!(error, CommitError::Conflict(Contested::Object(found)) if found == id), "{error}");
    assert_eq!(store.forget(&[id], "a test", Children::Detach).unwrap().detached, 1);
    assert_eq!(store.traces_of(id).unwrap(), []);
}

#[test]
fn moments_below_the_floor_go_except_the_one_that_dates_it() {
    let (store, id, now) = forgetful();
    let first = now.load(Ordering::Relaxed);
    for _ in 0..10 {
        now.fetch_add(limit::MOMENT_MS_MAX, Ordering::Relaxed);
        change_often(&store, id, 1);
    }
    let (before, held) = (store.retention().unwrap(), store.begin());
    assert!(before.moments >= 10, "{before:?}");
    now.fetch_add(limit::MOMENT_MS_MAX, Ordering::Relaxed);
    prune_all(&store, now.load(Ordering::Relaxed));
    let after = store.retention().unwrap();
    assert_eq!((after.floor, after.floor_ms), (held.snapshot(), Some(first + 10 * limit::MOMENT_MS_MAX)));
    assert!((1..=3).contains(&after.moments), "{after:?}");
    assert_eq!(store.position_at(first + 9 * limit::MOMENT_MS_MAX).unwrap(), None);
    assert_eq!(store.position_at(first + 10 * limit::MOMENT_MS_MAX).unwrap(), Some(after.floor));
}
