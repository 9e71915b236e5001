//! Goal: a store with many objects starts at once after `kill -9`.
//! Method: a child fills a directory and goes on writing; it is killed, and opening is timed. The time is printed,
//! not judged: `TELOS_LONG=1 cargo nextest run --release -p telos-store start --no-capture`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use telos_store::{Json, ObjectId, Store, StoreOptions, Unit, Vote};

use crate::fixture::{assert_clean, name, number, operator};
use crate::random::{Random, is_long};

const DIR: &str = "TELOS_STORE_START_DIR";
const OBJECTS: &str = "TELOS_STORE_START_OBJECTS";
const DIM: &str = "TELOS_STORE_START_DIM";
const PER_UNIT: u64 = 500;

#[test]
fn a_store_with_many_objects_starts_after_kill_9() {
    let objects = if is_long() { 100_000 } else { 1_000 };
    for dim in [0, 64] {
        let dir = tempfile::tempdir().unwrap();
        fill_and_kill(&dir, objects, dim);
        let took = time_opening(&dir, objects);
        println!("{objects} objects, with a vector of {dim} components each: open after {took:?}");
    }
}

fn fill_and_kill(dir: &tempfile::TempDir, objects: u64, dim: u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["start::child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir.path()).env(OBJECTS, objects.to_string()).env(DIM, dim.to_string());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("filled")), "the child died early");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn time_opening(dir: &tempfile::TempDir, objects: u64) -> Duration {
    let begun = Instant::now();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let found = store.begin().find(&name("object/0")).unwrap();
    let took = begun.elapsed();
    assert!(found.is_some() && store.counts().unwrap().objects >= objects);
    if !is_long() {
        assert_clean(&store);
    }
    took
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let ask = |what: &str| std::env::var(what).unwrap().parse::<u64>().unwrap();
    let store = Store::open(&dir, StoreOptions::default()).unwrap();
    for first in (0..).step_by(usize::try_from(PER_UNIT).unwrap()) {
        let mut unit = store.begin();
        (first..first + PER_UNIT).for_each(|object| make(&mut unit, object, ask(DIM)));
        store.decide(unit, Vote::default()).wait().unwrap();
        if first + PER_UNIT == ask(OBJECTS) {
            let mut out = std::io::stdout().lock();
            writeln!(out, "filled").and_then(|()| out.flush()).unwrap();
        }
    }
}

fn make(unit: &mut Unit, object: u64, dim: u64) {
    let id: ObjectId = unit.create(operator(), 1, vec![]).unwrap();
    unit.set_slot(id, "count", number(i64::try_from(object).unwrap())).unwrap();
    unit.bind(&name(&format!("object/{object}")), id).unwrap();
    if dim > 0 {
        let metadata = Json::parse("{}").unwrap();
        unit.upsert_vector(&operator(), "notes", id, direction(object, dim), metadata).unwrap();
    }
}

#[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
fn direction(object: u64, dim: u64) -> Vec<f32> {
    let mut random = Random::new(object);
    (0..dim).map(|_| random.below(1 << 24) as f32 - (1 << 23) as f32).collect()
}
