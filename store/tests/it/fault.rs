//! Goal: whatever the disk refuses, no effect is lost, doubled or halved, and the store comes back by itself.
//! Method: a backend fails calls k to k + n; a client resends every request until it is settled, as the bridge's
//! clients do; then the books are balanced.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use telos_store::{
    Backend, CommitError, DedupeKey, Effect, Json, MemoryBackend, ObjectId, ReadError, SessionId, Store,
    StoreOptions, Unit, Vote, WriteError,
};

use crate::fixture::{assert_clean, number, object_with, operator, read};

/// Which calls fail: those numbered from `first`, `count` of them.
#[derive(Clone)]
struct Faults {
    calls: Arc<AtomicU64>,
    first: Arc<AtomicU64>,
    count: u64,
    with_reads: bool,
}

impl Faults {
    fn new(count: u64, with_reads: bool) -> Faults {
        let first = Arc::new(AtomicU64::new(u64::MAX));
        Faults { calls: Arc::default(), first, count, with_reads }
    }

    /// From now on, the `skip`th call fails and those after it.
    fn arm(&self, skip: u64) {
        self.first.store(self.calls.load(Ordering::SeqCst) + skip, Ordering::SeqCst);
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let first = self.first.load(Ordering::SeqCst);
        let is_hit = call >= first && call - first < self.count;
        if is_hit { Err(io::Error::other("the disk refused")) } else { Ok(()) }
    }
}

struct FaultyBackend {
    bytes: MemoryBackend,
    faults: Faults,
}

struct FaultyBytes {
    bytes: Box<dyn redb::StorageBackend>,
    faults: Faults,
}

impl Backend for FaultyBackend {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        Ok(Box::new(FaultyBytes { bytes: self.bytes.open()?, faults: self.faults.clone() }))
    }
}

impl fmt::Debug for FaultyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyBytes")
    }
}

impl redb::StorageBackend for FaultyBytes {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.faults.with_reads {
            self.faults.call()?;
        }
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.call()?;
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.call()?;
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.call()?;
        self.bytes.write(offset, data)
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    faults: Faults,
    store: Store,
    counter: ObjectId,
}

fn bench(count: u64, with_reads: bool) -> Bench {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new(count, with_reads));
    let backend = FaultyBackend { bytes: MemoryBackend::new(), faults: faults.clone() };
    // A cache too small to hold anything, so that reads reach the backend.
    let reopen = Duration::from_micros(100);
    let options = StoreOptions {
        cache_bytes: if with_reads { 0 } else { StoreOptions::default().cache_bytes },
        reopen_first: reopen,
        reopen_longest: reopen,
        ..StoreOptions::default()
    };
    let store = Store::open_with_backend(dir.path(), backend, options).unwrap();
    let counter = object_with(&store, "count", 0);
    Bench { _dir: dir, faults, store, counter }
}

const REQUESTS: i64 = 6;

/// Adds one to the counter, makes an object with a vector, and audits it.
fn request(unit: &mut Unit, counter: ObjectId) -> Result<(), WriteError> {
    let object = unit.object(counter)?.ok_or(ReadError::NoSuchObject(counter))?;
    let count = object.value("count").and_then(|value| value.to_value().as_i64()).unwrap();
    unit.set_slot(counter, "count", number(count + 1))?;
    let made = unit.create(operator(), 1, vec![])?;
    let metadata = Json::parse("{}").unwrap();
    unit.upsert_vector(&operator(), "notes", made, vec![1.0, 1.0], metadata).unwrap();
    unit.audit("made", &made.to_string(), serde_json::Value::Null)
}

/// Sends one request until it is settled; answers how often it was sent.
fn settle(bench: &Bench, session: SessionId, number: u64) -> u32 {
    for sent in 1..=10_000 {
        let mut unit = bench.store.begin();
        match request(&mut unit, bench.counter) {
            Ok(()) => {}
            Err(WriteError::Read(ReadError::Failed(_))) => {
                std::thread::yield_now();
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        let dedupe = Some(DedupeKey { session, number, acked_through: number - 1 });
        match bench.store.decide(unit, Vote { dedupe, ..Vote::default() }).wait() {
            Ok(_) | Err(CommitError::DuplicateRequest { .. }) => return sent,
            Err(error @ (CommitError::Unavailable(_) | CommitError::ReadOnlyStore { .. })) => {
                let is_unknown = matches!(error, CommitError::Unavailable(_));
                assert_eq!(error.effect() == Effect::Unknown, is_unknown);
                std::thread::yield_now();
            }
            Err(CommitError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("request {number} was never settled");
}

fn run(bench: &Bench) -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let session = SessionId { client: 1, incarnation: u64::try_from(now).unwrap() };
    (1..=REQUESTS.unsigned_abs()).map(|number| settle(bench, session, number)).sum()
}

#[track_caller]
fn assert_balanced(bench: &Bench, what: &str) {
    let mut unit = bench.store.begin();
    assert_eq!(read(&mut unit, bench.counter, "count"), Some(REQUESTS), "{what}");
    let counts = bench.store.counts().unwrap();
    let made = REQUESTS.unsigned_abs();
    assert_eq!((counts.objects, counts.vectors, counts.audit_rows), (made + 1, made, made), "{what}");
    let hits = unit.search_vectors(&operator(), "notes", &[1.0, 1.0], 100, &[]).unwrap();
    assert_eq!(hits.len() as u64, made, "{what}");
    assert_clean(&bench.store);
}

/// Fails a spread of calls of one workload, `count` calls long each.
fn fail_calls(count: u64, with_reads: bool, samples: u64) {
    let quiet = bench(count, with_reads);
    let before = quiet.faults.calls();
    assert_eq!(i64::from(run(&quiet)), REQUESTS);
    let calls = quiet.faults.calls() - before;
    assert_balanced(&quiet, "without faults");
    let mut resent = 0;
    for skip in (0..calls).step_by(usize::try_from((calls / samples).max(1)).unwrap()) {
        let bench = bench(count, with_reads);
        bench.faults.arm(skip);
        resent += i64::from(run(&bench)) - REQUESTS;
        bench.faults.arm(u64::MAX / 2);
        assert_balanced(&bench, &format!("calls {skip} to {} of {calls}", skip + count));
    }
    assert!(resent > 0, "no fault was ever met");
}

#[test]
fn one_refused_write_or_sync_at_any_call_costs_only_a_resend() {
    fail_calls(1, false, 40);
}

#[test]
fn a_disk_that_refuses_for_a_while_costs_only_resends() {
    fail_calls(25, false, 12);
}

#[test]
fn refused_reads_cost_only_resends() {
    fail_calls(1, true, 40);
}

#[test]
fn the_store_says_why_it_is_read_only_and_reads_again_by_itself() {
    let bench = bench(1_000, false);
    bench.faults.arm(0);
    let mut unit = bench.store.begin();
    unit.set_slot(bench.counter, "count", number(1)).unwrap();
    let error = bench.store.decide(unit, Vote::default()).wait().unwrap_err();
    assert!(matches!(error, CommitError::Unavailable(_)) && error.effect() == Effect::Unknown, "{error}");
    let cause = bench.store.read_only_cause().expect("a thousand refused calls take a while");
    assert!(cause.contains("the disk refused"), "{cause}");
    bench.faults.arm(u64::MAX / 2);
    while bench.store.read_only_cause().is_some() {
        std::thread::yield_now();
    }
    assert!(read(&mut bench.store.begin(), bench.counter, "count").is_some());
    assert_clean(&bench.store);
}
