//! Goal: a process that dies while it prunes or forgets leaves a store that is whole, where what it said to be
//! forgotten is, and pruning goes on.
//! Method: a real child process aborts at every commit of its first rounds, before it, after it, and before it is
//! told; the parent opens the directory and looks.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use telos_store::{Children, ObjectId, Retention, Store, StoreOptions, limit};

use crate::fixture::{assert_clean, name, number, object_with, operator, read, within};
use crate::random::is_long;

const DIR: &str = "TELOS_STORE_HISTORY_CRASH_DIR";
const FAILPOINT: &str = "TELOS_STORE_HISTORY_CRASH_FAILPOINT";
const ROWS_MAX: u64 = 4;
/// Every commit of two rounds of the child: two before them; five writes, a raised floor, a sweep and a forgotten object
/// in each.
const COMMITS: u32 = 18;
/// Commits of the long run, each of which the child dies at.
const LONG_COMMITS: u32 = 200;

fn options() -> StoreOptions {
    let retention = Retention { age: Duration::MAX, rows_max: ROWS_MAX };
    StoreOptions { retention, ..StoreOptions::default() }
}

#[test]
fn a_process_that_dies_while_it_prunes_or_forgets_leaves_a_whole_store() {
    let failpoints = ["store::before-commit", "store::after-commit", "store::before-reply"];
    // The sample takes every third commit of each, so that together they take every one.
    let (stride, commits) = if is_long() { (1, LONG_COMMITS) } else { (failpoints.len(), COMMITS) };
    for (first, failpoint) in (1..).zip(failpoints) {
        for pass in (1..=commits).skip(usize::try_from(first).unwrap() % stride).step_by(stride) {
            let dir = tempfile::tempdir().unwrap();
            check_death(dir.path(), failpoint, pass);
        }
    }
}

#[track_caller]
fn check_death(dir: &Path, failpoint: &str, pass: u32) {
    let what = format!("{failpoint}, pass {pass}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["history_crash::child", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(DIR, dir.as_os_str())])
        .env(FAILPOINT, format!("{failpoint} {pass}"))
        .output()
        .unwrap();
    // 101 is a test that failed, as opposed to a process that aborted.
    assert!(!output.status.success() && output.status.code() != Some(101), "{what}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let forgotten: Vec<ObjectId> = said
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("forgot:").map(|id| id.parse().unwrap()))
        .collect();
    let written =
        said.split_whitespace().filter_map(|word| word.strip_prefix("wrote:")?.parse::<i64>().ok()).max();

    let report = Store::verify(dir).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    let store = Store::open(dir, options()).unwrap();
    for id in forgotten {
        assert_eq!(store.traces_of(id).unwrap(), [], "{what}");
    }
    let found = books(&store).and_then(|books| read(&mut store.begin(), books, "count"));
    assert!(found.unwrap_or(0) >= written.unwrap_or(0), "{what}: wrote {written:?}, found {found:?}");
    prune(&store);
    assert!(store.retention().unwrap().superseded_rows <= ROWS_MAX, "{what}");
    assert_clean(&store);
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    abort_at(&std::env::var(FAILPOINT).unwrap());
    let store = Store::open(Path::new(&dir), options()).unwrap();
    let books = object_with(&store, "count", 0);
    within(&store, |unit| unit.bind(&name("books"), books).unwrap());
    for round in 1.. {
        let id = within(&store, |unit| {
            let id = unit.create(operator(), 1, vec![books]).unwrap();
            unit.bind(&name(&format!("part/{round}")), id).unwrap();
            unit.set_slot(books, "count", number(round)).unwrap();
            id
        });
        say(&format!("wrote:{round}"));
        // As many states as history may hold, so that each round raises the floor and sweeps.
        for part in 0..ROWS_MAX {
            within(&store, |unit| unit.set_slot(id, "part", number(part.cast_signed())).unwrap());
        }
        prune(&store);
        store.forget(&[id], "a test", Children::Refuse).unwrap();
        say(&format!("forgot:{id}"));
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, " {word} ").and_then(|()| out.flush()).unwrap();
}

fn abort_at(failpoint: &str) {
    let (name, pass) = failpoint.split_once(' ').unwrap();
    let left = AtomicU32::new(pass.parse().unwrap());
    let die_in_time = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    };
    fail::cfg_callback(name, die_in_time).unwrap();
}

fn books(store: &Store) -> Option<ObjectId> {
    store.begin().find(&name("books")).unwrap()
}

fn prune(store: &Store) {
    let steps = (0..1_000).map(|_| store.prune_history(0).unwrap());
    assert!(steps.take_while(|pruned| !pruned.is_done).count() < limit::PRUNE_ROWS_PER_STEP);
}
