//! Goal: rewriting the file leaves nothing of what was removed in it, loses nothing else, and can die or fail anywhere.
//! Method: a marker is searched in the file's bytes; children die at every step; a backend refuses call after call.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use telos_store::{Backend, CommitError, Json, MemoryBackend, Post, Slot, Store, StoreOptions};

use crate::death;
use crate::fixture::{assert_clean, commit, number, object_with, read, within};
use crate::whole::{Over, dump, fill, now_ms, post, vary};

/// 64 bytes that occur nowhere else.
const MARKER: &str = "c0ffee-7d1f-the-forgotten-bytes-that-must-not-be-found-again-42!";

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

fn holds_marker(dir: &Path) -> bool {
    let bytes = fs::read(dir.join("objects.redb")).unwrap();
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

/// A filled store with posts that hold the marker and were taken again: so many that free pages still hold it after
/// some were used for something else.
fn with_forgotten(dir: &Path, now_ms: u64, seed: u64) -> Store {
    let store = open(dir);
    fill(&store, now_ms);
    vary(&store, seed);
    let id = object_with(&store, "a", 1);
    let arguments = Json::parse(&format!("{{\"secret\": \"{}\"}}", MARKER.repeat(100))).unwrap();
    for _ in 0..20 {
        let arguments = arguments.clone();
        within(&store, |unit| unit.post(Post { arguments, ..post(id, id, "secret") }).unwrap());
    }
    // What is last in the file may be cut off.
    let text = Json::parse(&format!("\"{}\"", "x".repeat(100_000))).unwrap();
    within(&store, |unit| unit.set_slot(id, "after", Slot::Value(text)).unwrap());
    let is_secret = |row: &telos_store::OutboxRow| row.post.selector == "secret";
    while let Some(row) = store.outbox_due(u64::MAX, 100).unwrap().into_iter().find(is_secret) {
        within(&store, |unit| unit.take_post(row.id));
    }
    store
}

#[test]
fn bytes_of_a_removed_row_are_nowhere_in_the_rewritten_file() {
    assert_eq!(MARKER.len(), 64);
    let (dir, now_ms) = (tempfile::tempdir().unwrap(), now_ms());
    let store = with_forgotten(dir.path(), now_ms, 0);
    let said = dump(&store, now_ms);
    assert!(holds_marker(dir.path()), "without it the test shows nothing");
    let report = store.rewrite(&mut |_| ()).unwrap();
    assert!(!holds_marker(dir.path()));
    assert!(report.bytes_after <= report.bytes_before, "{report:?}");
    assert_eq!(report.bytes_after, store.usage().database_bytes);
    assert_eq!(dump(&store, now_ms), said);
    within(&store, |unit| unit.create(crate::fixture::operator(), 1, vec![]).unwrap());
    assert_clean(&store);
    drop(store);
    assert!(!holds_marker(dir.path()));
    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

#[test]
fn a_backup_holds_no_bytes_of_a_removed_row_either() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = with_forgotten(dir.path(), now_ms(), 0);
    store.backup(to.path(), Default::default(), &mut |_| ()).unwrap();
    assert!(holds_marker(dir.path()) && !holds_marker(to.path()));
}

#[test]
fn a_rewritten_file_gives_free_pages_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = object_with(&store, "a", 1);
    let arguments = Json::parse(&format!("\"{}\"", "x".repeat(200_000))).unwrap();
    for _ in 0..20 {
        within(&store, |unit| {
            unit.post(Post { arguments: arguments.clone(), ..post(id, id, "big") }).unwrap()
        });
    }
    while let Some(row) = store.outbox_due(u64::MAX, 1).unwrap().pop() {
        within(&store, |unit| unit.take_post(row.id));
    }
    let report = store.rewrite(&mut |_| ()).unwrap();
    assert!(report.bytes_after * 4 < report.bytes_before, "{report:?}");
    assert_eq!(fs::metadata(dir.path().join("objects.redb")).unwrap().len(), report.bytes_after);
}

/// Three writers and two readers never notice more than a pause.
#[test]
fn readers_and_writers_go_on_through_rewrites() {
    for on_file in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = if on_file {
            open(dir.path())
        } else {
            Store::open_with_backend(dir.path(), MemoryBackend::new(), StoreOptions::default()).unwrap()
        };
        let counters: Vec<_> = (0..3).map(|_| object_with(&store, "count", 0)).collect();
        let is_over = AtomicBool::new(false);
        let totals = std::thread::scope(|scope| {
            let over = Over(&is_over);
            let writers: Vec<_> = counters
                .iter()
                .map(|id| {
                    let (store, is_over) = (&store, &is_over);
                    scope.spawn(move || count_until(store, *id, is_over))
                })
                .collect();
            for id in &counters[..2] {
                let (store, is_over) = (&store, &is_over);
                scope.spawn(move || {
                    let mut last = 0;
                    while !is_over.load(Ordering::Acquire) {
                        let now = read(&mut store.begin(), *id, "count").unwrap();
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                });
            }
            for _ in 0..6 {
                let before = store.position();
                while store.position() == before {
                    std::thread::yield_now();
                }
                store.rewrite(&mut |_| ()).unwrap();
            }
            drop(over);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<i64>>()
        });
        for (id, total) in counters.iter().zip(totals) {
            assert_eq!(read(&mut store.begin(), *id, "count"), Some(total), "on a file: {on_file}");
        }
        assert_clean(&store);
    }
}

fn count_until(store: &Store, id: telos_store::ObjectId, is_over: &AtomicBool) -> i64 {
    let mut count = 0;
    while !is_over.load(Ordering::Acquire) {
        count += 1;
        within(store, |unit| unit.set_slot(id, "count", number(count)).unwrap());
    }
    count
}

/// Units that were queued during a rewrite are decided after it.
#[test]
fn units_that_arrive_during_a_rewrite_are_decided_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = object_with(&store, "a", 1);
    let (mut waiting, mut told) = (Vec::new(), 0);
    store
        .rewrite(&mut |_| {
            told += 1;
            let mut unit = store.begin();
            unit.audit("during", &told.to_string(), serde_json::Value::Null).unwrap();
            assert_eq!(read(&mut unit, id, "a"), Some(1));
            waiting.push(store.decide(unit, Default::default()));
        })
        .unwrap();
    assert!(!waiting.is_empty());
    let decided = waiting.len() as u64;
    for decision in waiting {
        decision.wait().unwrap();
    }
    assert_eq!(store.counts().unwrap().audit_rows, decided);
}

#[test]
fn a_process_that_dies_while_rewriting_leaves_the_old_file_or_the_new_one() {
    let now_ms = now_ms();
    let make = |seed| {
        let dir = tempfile::tempdir().unwrap();
        let store = with_forgotten(dir.path(), now_ms, seed);
        let said = dump(&store, now_ms);
        (dir, said)
    };
    let points = [
        "store::copy-before-commit",
        "store::rewrite-copied",
        "store::rewrite-before-rename",
        "store::rewrite-after-rename",
    ];
    let prepare = |(dir, _): &(tempfile::TempDir, serde_json::Value)| {
        let copy = tempfile::tempdir().unwrap();
        crate::whole::copy_tree(dir.path(), copy.path());
        assert!(holds_marker(copy.path()), "without it the test shows nothing");
        copy
    };
    death::at_every_step("rewrite::child_rewrites", &points, make, prepare, |(_, said), place, what| {
        let is_new = !what.contains("died: true") || what.contains("after-rename");
        assert_eq!(holds_marker(place), !is_new, "{what}");
        let store = open(place);
        assert_eq!(dump(&store, now_ms), *said, "{what}");
        assert_clean(&store);
        assert!(!place.join("objects.rewriting").exists(), "{what}");
        drop(store);
        let report = Store::verify(place).unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    });
}

#[test]
fn child_rewrites() {
    let Some(place) = death::place() else { return };
    open(&place).rewrite(&mut |_| ()).unwrap();
}

/// A backend whose calls from `first` on are refused, `count` of them, the replacement's included.
#[derive(Clone)]
struct Refusing {
    bytes: MemoryBackend,
    calls: Arc<AtomicU64>,
    first: Arc<AtomicU64>,
    count: u64,
}

struct RefusingBytes {
    bytes: Box<dyn redb::StorageBackend>,
    refusing: Refusing,
}

impl Refusing {
    fn new(count: u64) -> Refusing {
        let (calls, first) = (Arc::default(), Arc::new(AtomicU64::new(u64::MAX)));
        Refusing { bytes: MemoryBackend::new(), calls, first, count }
    }

    /// From now on, the `skip`th call is refused and those after it.
    fn arm(&self, skip: u64) {
        self.first.store(self.calls.load(Ordering::SeqCst).saturating_add(skip), Ordering::SeqCst);
    }

    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let first = self.first.load(Ordering::SeqCst);
        if call < first || call - first >= self.count {
            return Ok(());
        }
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::Other];
        Err(kinds[usize::try_from(call % 2).unwrap()].into())
    }

    fn over(&self, bytes: Box<dyn redb::StorageBackend>) -> Box<dyn redb::StorageBackend> {
        Box::new(RefusingBytes { bytes, refusing: self.clone() })
    }
}

impl Backend for Refusing {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        self.call()?;
        Ok(self.over(self.bytes.open()?))
    }

    fn open_replacement(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        self.call()?;
        Ok(self.over(self.bytes.open_replacement()?))
    }

    fn replace(&self) -> io::Result<()> {
        self.call()?;
        self.bytes.replace()
    }

    fn discard_replacement(&self) {
        self.bytes.discard_replacement();
    }
}

impl fmt::Debug for RefusingBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusingBytes")
    }
}

impl redb::StorageBackend for RefusingBytes {
    fn len(&self) -> io::Result<u64> {
        self.refusing.call()?;
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.refusing.call()?;
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refusing.call()?;
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.refusing.call()?;
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.refusing.call()?;
        self.bytes.write(offset, data)
    }
}

fn bench(count: u64, now_ms: u64) -> (tempfile::TempDir, Refusing, Store) {
    let (dir, refusing) = (tempfile::tempdir().unwrap(), Refusing::new(count));
    let wait = Duration::from_micros(100);
    let options =
        StoreOptions { reopen_first: wait, reopen_longest: wait, room_poll: wait, ..StoreOptions::default() };
    let store = Store::open_with_backend(dir.path(), refusing.clone(), options).unwrap();
    fill(&store, now_ms);
    (dir, refusing, store)
}

/// Commits until the store has come back; nothing is decided meanwhile that is not told.
fn settle(store: &Store) {
    loop {
        let mut unit = store.begin();
        unit.audit("after", "a fault", serde_json::Value::Null).unwrap();
        match commit(store, unit) {
            Ok(_) => return,
            Err(
                CommitError::Unavailable(_)
                | CommitError::ReadOnlyStore { .. }
                | CommitError::NoRoom { .. }
                | CommitError::Aborted,
            ) => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What the store says but for the audit rows, positions and counts that settling adds.
fn said(store: &Store, now_ms: u64) -> serde_json::Value {
    let mut said = dump(store, now_ms);
    let fields = said.as_object_mut().unwrap();
    ["audit", "position", "counts"].iter().for_each(|field| drop(fields.remove(*field)));
    said
}

/// Refuses a spread of the calls of one rewrite, `count` calls long each.
fn refuse_calls(count: u64, samples: u64) {
    let now_ms = now_ms();
    let (_dir, quiet, store) = bench(count, now_ms);
    let before = quiet.calls.load(Ordering::SeqCst);
    store.rewrite(&mut |_| ()).unwrap();
    let calls = quiet.calls.load(Ordering::SeqCst) - before;
    let samples = if crate::random::is_long() { calls } else { samples };
    let mut refused = 0;
    for skip in (0..calls).step_by(usize::try_from((calls / samples).max(1)).unwrap()) {
        let (_dir, refusing, store) = bench(count, now_ms);
        let before = said(&store, now_ms);
        refusing.arm(skip);
        refused += u64::from(store.rewrite(&mut |_| ()).is_err());
        refusing.arm(u64::MAX);
        settle(&store);
        assert_eq!(said(&store, now_ms), before, "calls {skip} to {} of {calls}", skip + count);
        assert_clean(&store);
        store.rewrite(&mut |_| ()).unwrap();
        assert_eq!(said(&store, now_ms), before, "rewritten after calls {skip} of {calls}");
    }
    assert!(refused > 0, "no rewrite ever failed");
}

#[test]
fn one_refused_call_at_any_step_leaves_the_old_state_or_the_new_and_writes_go_on() {
    refuse_calls(1, 16);
}

#[test]
fn a_disk_that_is_full_for_a_while_leaves_the_old_state_or_the_new_and_writes_go_on() {
    refuse_calls(200, 12);
}

#[test]
fn a_disk_that_fails_under_a_backup_fails_only_the_backup() {
    let (now_ms, to) = (now_ms(), tempfile::tempdir().unwrap());
    let mut refused = 0;
    for skip in 0..20 {
        let (dir, refusing, store) = bench(1, now_ms);
        drop(store);
        // A cache too small to hold anything, so that the backup reads from the disk.
        let wait = Duration::from_micros(100);
        let options = StoreOptions {
            cache_bytes: 0,
            reopen_first: wait,
            reopen_longest: wait,
            room_poll: wait,
            ..Default::default()
        };
        let store = Store::open_with_backend(dir.path(), refusing.clone(), options).unwrap();
        let before = said(&store, now_ms);
        refusing.arm(skip);
        let backup = store.backup(&to.path().join(skip.to_string()), Default::default(), &mut |_| ());
        refusing.arm(u64::MAX);
        assert_eq!(backup.is_ok(), to.path().join(skip.to_string()).exists());
        refused += u64::from(backup.is_err());
        settle(&store);
        assert_eq!(said(&store, now_ms), before, "call {skip}");
        assert_clean(&store);
    }
    assert!(refused > 0, "no backup ever failed");
    let left = fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("partial")));
}
