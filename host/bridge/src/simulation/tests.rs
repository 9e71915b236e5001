use std::ops::Range;

use super::World;
use super::coverage::Coverage;
use super::kinds::{CALM, CROWD, DEATHS, DOUBTS, PARTED, ROUGH, STOPS};
use super::ledger::Fate;
use super::seeds::SAVED;
use super::trouble::Kind;
use crate::pool::Class;

/// The seeds that were asked for; none: those of every day.
fn seeds_asked_for() -> Option<Range<u64>> {
    let range = std::env::var("TELOS_BRIDGE_SEEDS").ok()?;
    let (from, to) = range.split_once("..").expect("TELOS_BRIDGE_SEEDS=from..to");
    Some(from.parse().unwrap()..to.parse().unwrap())
}

fn live(kind: &Kind, seed: u64) -> World {
    let end = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, kind.clone());
        world.live();
        world
    });
    match end {
        Ok(world) => world,
        Err(_) => panic!("{}", describe(kind, seed)),
    }
}

fn describe(kind: &Kind, seed: u64) -> String {
    format!("a {} history fails: TELOS_BRIDGE_SEEDS={seed}..{}", kind.name, seed + 1)
}

/// Runs every seed's history to its end, and hands it to `check`. What never happened fails, unless other seeds were
/// asked for.
fn for_each_history(kind: &Kind, daily: u64, expected: &[&str], mut check: impl FnMut(&World)) -> Coverage {
    let many = if std::env::var_os("TELOS_LONG").is_some() { 50 } else { 1 };
    let asked_for = seeds_asked_for();
    let mut coverage = Coverage::default();
    for seed in asked_for.clone().unwrap_or(0..daily * many) {
        let world = live(kind, seed);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&world)));
        assert!(end.is_ok(), "{}", describe(kind, seed));
        coverage.add_all(&world.coverage);
    }
    if asked_for.is_none() {
        coverage.check(expected);
    }
    coverage
}

/// Every one of these had its result, and whoever asked heard it.
fn check_all_succeed(world: &World, is_meant: impl Fn(&Fate) -> bool) {
    for (name, fate) in world.ledger.fates.iter().filter(|(_, fate)| is_meant(fate)) {
        assert_eq!(fate.claims_effect, Some(true), "{name:?} ended in {:?}", fate.end);
    }
}

#[test]
fn every_history_ends_each_call_and_order_once_and_truthfully() {
    let (mut asked, mut applied) = (0, 0);
    let expected = [
        "clients killed",
        "dead letters",
        "deaf",
        "dismissed",
        "doubts",
        "drains",
        "expired",
        "failing",
        "fenced",
        "giving back",
        "hosts killed",
        "hosts paused",
        "hosts stopped",
        "liars",
        "lines cut",
        "lines severed",
        "malformed",
        "overdue",
        "kept out by an impostor",
        "partitions",
        "peers paused",
        "reconnects",
        "redispatched",
        "refused",
        "repeats",
        "silences ended",
        "silences told",
        "sleeps",
        "slow readers",
        "twins",
        "wedged",
        "workers drained",
        "workers killed",
    ];
    for_each_history(&ROUGH, 100, &expected, |world| {
        asked += world.ledger.fates.len();
        applied += world.ledger.fates.values().filter(|fate| fate.applied > 0).count();
    });
    // The trouble must be real, and much of the work must survive it; ten minutes of sleep outlast any deadline.
    assert!(applied * 10 > asked * 4, "{applied} of {asked} happened");
}

#[test]
fn a_commit_whose_fate_nobody_knew_happens_once_and_a_drained_worker_fails_nothing() {
    let expected = ["doubts", "drains", "workers drained"];
    let coverage = for_each_history(&DOUBTS, 40, &expected, |world| check_all_succeed(world, |_| true));
    assert_eq!(coverage.of("redispatched"), 0, "a drained worker ends what it has");
}

#[test]
fn a_stopped_host_leaves_nobody_in_doubt() {
    for_each_history(&STOPS, 40, &["hosts stopped"], |world| {
        // What a worker may have begun under the old host, and must not be done twice, nobody can know.
        check_all_succeed(world, |fate| fate.is_client && fate.class != Some(Class::Once));
    });
}

#[test]
fn a_worker_that_gets_on_is_left_alone_and_one_that_is_stuck_is_found_out_also_after_sleep() {
    let expected =
        ["redispatched", "dismissed", "dead letters", "sleeps", "workers drained", "twins", "liars"];
    for_each_history(&CALM, 40, &expected, |world| {
        assert_eq!(world.coverage.of("reconnects"), 0, "somebody lost its line");
    });
}

#[test]
fn both_ends_notice_when_one_direction_of_their_line_is_dead() {
    for_each_history(&PARTED, 40, &["partitions", "expired"], |_| {});
}

#[test]
fn the_dead_are_found_out_and_their_jobs_go_to_others() {
    for_each_history(&DEATHS, 40, &["expired", "redispatched", "workers killed", "clients killed"], |_| {});
}

#[test]
fn a_crowd_is_back_soon_after_its_host_died() {
    for_each_history(&CROWD, 1, &[], |_| {});
}

#[test]
fn histories_that_once_went_wrong_go_well() {
    let kinds = [ROUGH, DOUBTS, STOPS, CALM, PARTED, DEATHS, CROWD];
    for (name, seed, _) in SAVED {
        let kind = kinds.iter().find(|kind| kind.name == name).expect("no such kind");
        live(kind, seed);
    }
}
