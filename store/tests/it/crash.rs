//! Goal: a process that dies leaves every acknowledged unit whole, and every other whole or absent.
//! Method: a real child process works on a real directory and prints what it was acknowledged; it is killed at
//! random times, or aborts at a failpoint; the parent reopens the directory and counts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use telos_store::{
    Digest, Json, ObjectName, ReleaseRecord, ReleaseState, Store, StoreOptions, Unit, Vote, WriteError,
};

use crate::fixture::{assert_clean, name, number, operator, read};

const DIR: &str = "TELOS_STORE_CRASH_DIR";
const FAILPOINT: &str = "TELOS_STORE_CRASH_FAILPOINT";
const WRITERS: u32 = 3;
const OBJECTS_PER_UNIT: u32 = 4;

/// Where the process dies; every unit passes each of them.
const FAILPOINTS: [&str; 5] = [
    "store::before-commit",
    "store::after-commit",
    "store::before-reply",
    "store::blob-before-rename",
    "store::blob-after-rename",
];

/// What a child said before it died.
#[derive(Debug)]
struct Outcome {
    /// Each writer's last acknowledged unit.
    acknowledged: BTreeMap<u32, i64>,
    /// How it ended, when it was not killed.
    own_end: Option<ExitStatus>,
}

#[test]
fn a_killed_process_leaves_acknowledged_units_whole() {
    let rounds = if std::env::var_os("TELOS_LONG").is_some() { 200 } else { 12 };
    let dir = tempfile::tempdir().unwrap();
    let mut seed = 0x5eed_u64;
    for round in 0..rounds {
        let mut child = spawn(dir.path(), None);
        let delay = Duration::from_millis(next(&mut seed) % 120);
        let outcome = collect(&mut child, delay);
        let what = format!("round {round}, killed {delay:?} after the first");
        assert!(!outcome.acknowledged.is_empty() && outcome.own_end.is_none(), "{what}: {outcome:?}");
        assert_whole(dir.path(), &outcome.acknowledged, &what);
    }
}

#[test]
fn a_process_that_dies_at_a_failpoint_leaves_acknowledged_units_whole() {
    for failpoint in FAILPOINTS {
        let dir = tempfile::tempdir().unwrap();
        for pass in [1, 2, 5] {
            let mut child = spawn(dir.path(), Some(&format!("{failpoint} {pass}")));
            let outcome = collect(&mut child, Duration::from_secs(60));
            let what = format!("{failpoint}, pass {pass}");
            // 101 is a test that failed, as opposed to a process that aborted.
            let has_aborted = outcome.own_end.is_some_and(|end| !end.success() && end.code() != Some(101));
            assert!(has_aborted, "{what}: {outcome:?}");
            assert_whole(dir.path(), &outcome.acknowledged, &what);
        }
    }
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    if let Ok(failpoint) = std::env::var(FAILPOINT) {
        abort_at(&failpoint);
    }
    let store = Store::open(Path::new(&dir), StoreOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || write_for_ever(store, writer));
        }
    });
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

fn write_for_ever(store: &Store, writer: u32) {
    let mut done = count(store, writer);
    loop {
        done += 1;
        let blob = store.put_blob(format!("{writer}/{done}").as_bytes()).unwrap();
        let mut unit = store.begin();
        write_one(&mut unit, writer, done, blob).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {writer} {done}").and_then(|()| out.flush()).unwrap();
    }
}

/// Four named objects with vectors, their sum and count in a fifth, and a release that names a blob.
fn write_one(unit: &mut Unit, writer: u32, done: i64, blob: Digest) -> Result<(), WriteError> {
    let mut sum = 0;
    for part in 0..OBJECTS_PER_UNIT {
        let id = unit.create(operator(), 1, vec![])?;
        let value = done * 10 + i64::from(part);
        unit.set_slot(id, "value", number(value))?;
        unit.bind(&part_name(writer, done, part), id)?;
        let metadata = Json::parse(&format!("{{\"value\": {value}}}")).unwrap();
        unit.upsert_vector(&operator(), &format!("w{writer}"), id, direction(done, part), metadata).unwrap();
        sum += value;
    }
    let books = match unit.find(&books_name(writer))? {
        Some(books) => books,
        None => {
            let books = unit.create(operator(), 1, vec![])?;
            unit.bind(&books_name(writer), books)?;
            books
        }
    };
    let before = read(unit, books, "sum").unwrap_or(0);
    unit.set_slot(books, "sum", number(before + sum))?;
    unit.set_slot(books, "count", number(done))?;
    unit.put_release(release(writer, done, blob))
}

fn release(writer: u32, done: i64, digest: Digest) -> ReleaseRecord {
    ReleaseRecord {
        component: operator(),
        digest,
        version: format!("{writer}.{done}.0"),
        descriptor: Json::null(),
        contract: String::new(),
        imports: vec![],
        limits: Json::null(),
        source: String::new(),
        state: ReleaseState::Staged,
        installed_at_ms: 0,
    }
}

fn part_name(writer: u32, done: i64, part: u32) -> ObjectName {
    name(&format!("{writer}/{done}/{part}"))
}

fn books_name(writer: u32) -> ObjectName {
    name(&format!("books/{writer}"))
}

/// A random direction of its own for every part: in eight dimensions no two come near each other.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
fn direction(done: i64, part: u32) -> Vec<f32> {
    let mut seed = done.unsigned_abs() * 10 + u64::from(part);
    (0..8).map(|_| (next(&mut seed) % (1 << 24)) as f32 - (1 << 23) as f32).collect()
}

fn count(store: &Store, writer: u32) -> i64 {
    let mut unit = store.begin();
    let books = unit.find(&books_name(writer)).unwrap();
    books.and_then(|books| read(&mut unit, books, "count")).unwrap_or(0)
}

fn spawn(dir: &Path, failpoint: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact", "--nocapture", "--test-threads=1"]).env(DIR, dir);
    if let Some(failpoint) = failpoint {
        command.env(FAILPOINT, failpoint);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads acknowledgements; kills the child `delay` after the first, and answers each writer's last.
fn collect(child: &mut Child, delay: Duration) -> Outcome {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = BTreeMap::new();
    let (sender, first) = std::sync::mpsc::channel();
    let own_end = std::thread::scope(|scope| {
        let acknowledged = &mut acknowledged;
        scope.spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(rest) = line.split("ack ").nth(1) else {
                    continue;
                };
                let Some((writer, done)) = rest.split_once(' ') else {
                    continue;
                };
                // A torn last line is no acknowledgement, or an earlier one.
                if let (Ok(writer), Ok(done)) = (writer.parse::<u32>(), done.parse::<i64>()) {
                    let last = acknowledged.entry(writer).or_insert(done);
                    *last = done.max(*last);
                    let _ = sender.send(());
                }
            }
        });
        // An error means that the child closed its output, so that it has died or is about to.
        let has_acknowledged = first.recv().is_ok();
        let own_end = if has_acknowledged { wait_or_exit(child, delay) } else { child.wait().ok() };
        let _ = child.kill();
        child.wait().unwrap();
        own_end
    });
    Outcome { acknowledged, own_end }
}

/// The random part of the test is when the child dies, so this one waits for time to pass.
fn wait_or_exit(child: &mut Child, delay: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + delay;
    let mut own_end = child.try_wait().unwrap();
    while own_end.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
        own_end = child.try_wait().unwrap();
    }
    own_end
}

#[track_caller]
fn assert_whole(dir: &Path, acknowledged: &BTreeMap<u32, i64>, what: &str) {
    let report = Store::verify(dir).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    let store = Store::open(dir, StoreOptions::default()).unwrap();
    assert_clean(&store);
    for writer in 0..WRITERS {
        let done = count(&store, writer);
        let last = acknowledged.get(&writer).copied().unwrap_or(0);
        // One unit per writer is under way when the process dies.
        assert!(done >= last, "{what}: writer {writer} was acknowledged {last}, found {done}");
        assert!(
            last == 0 || done <= last + 1,
            "{what}: writer {writer} was acknowledged {last}, found {done}"
        );
        assert_books(&store, writer, done, what);
    }
}

fn assert_books(store: &Store, writer: u32, done: i64, what: &str) {
    let mut unit = store.begin();
    let mut sum = 0;
    for unit_number in 1..=done {
        for part in 0..OBJECTS_PER_UNIT {
            let found = unit.find(&part_name(writer, unit_number, part)).unwrap();
            let id = found.unwrap_or_else(|| panic!("{what}: {writer}/{unit_number}/{part} is missing"));
            sum += read(&mut unit, id, "value").unwrap();
        }
    }
    let parts = unit.names(&format!("{writer}/{}/", done + 1), "", 10).unwrap();
    assert!(parts.is_empty(), "{what}: half a unit: {parts:?}");
    let books = unit.find(&books_name(writer)).unwrap();
    let booked = books.and_then(|books| read(&mut unit, books, "sum")).unwrap_or(0);
    assert_eq!(booked, sum, "{what}: the sum of writer {writer}");
    // The newest unit's vectors find themselves.
    for part in (0..OBJECTS_PER_UNIT).filter(|_| done > 0) {
        let id = unit.find(&part_name(writer, done, part)).unwrap();
        let query = direction(done, part);
        let hits = unit.search_vectors(&operator(), &format!("w{writer}"), &query, 1, &[]).unwrap();
        assert_eq!(hits.first().map(|hit| hit.object), id, "{what}");
    }
}

/// A small generator, so that a failing round is the same round again.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
