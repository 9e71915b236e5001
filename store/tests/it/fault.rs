//! Goal: whatever the disk refuses, no effect is lost, doubled or halved, and the store comes back by itself.
//! Method: a backend refuses calls k to k + n, of some kinds; a client resends every request until it is settled, as
//! the bridge's clients do; then the books are balanced. Every k in the long run, a spread of them otherwise.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redb::StorageBackend;
use telos_store::{
    Backend, CommitError, ComponentId, Dedupe, DedupeKey, Effect, MemoryBackend, OpenError, SessionId, Store,
    StoreOptions, Vote,
};

use crate::fixture::{assert_clean, number, object_with, read};
use crate::ledger::{Ear, Known, Ledger, Trouble};
use crate::random::is_long;

const REQUESTS: u64 = 6;
const NEVER: u64 = u64::MAX;

/// Which calls are counted and refused: those that write, those that read, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Writes,
    /// Without syncs, which never ask for space.
    Space,
    Reads,
}

/// Refuses counted calls from `first` on, `count` of them.
#[derive(Clone)]
struct Faults {
    calls: Calls,
    kind: io::ErrorKind,
    counted: Arc<AtomicU64>,
    first: Arc<AtomicU64>,
    count: u64,
    /// Answers whoever looks for room.
    is_full: Arc<AtomicBool>,
}

impl Faults {
    fn new(calls: Calls, kind: io::ErrorKind, count: u64) -> Faults {
        let first = Arc::new(AtomicU64::new(NEVER));
        Faults { calls, kind, counted: Arc::default(), first, count, is_full: Arc::default() }
    }

    /// From now on, the `skip`th call is refused and those after it.
    fn arm(&self, skip: u64) {
        self.first.store(self.counted() + skip, Ordering::SeqCst);
    }

    fn disarm(&self) {
        self.first.store(NEVER, Ordering::SeqCst);
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::SeqCst)
    }

    fn pass(&self, kinds: &[Calls]) -> io::Result<()> {
        if !kinds.contains(&self.calls) {
            return Ok(());
        }
        let call = self.counted.fetch_add(1, Ordering::SeqCst);
        let first = self.first.load(Ordering::SeqCst);
        let is_hit = call >= first && call - first < self.count;
        if is_hit { Err(io::Error::new(self.kind, "the disk refused")) } else { Ok(()) }
    }
}

#[derive(Clone)]
struct FaultyBackend {
    bytes: MemoryBackend,
    faults: Faults,
}

struct FaultyBytes {
    bytes: Box<dyn StorageBackend>,
    faults: Faults,
}

impl Backend for FaultyBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.faults.pass(&[Calls::Reads])?;
        Ok(Box::new(FaultyBytes { bytes: self.bytes.open()?, faults: self.faults.clone() }))
    }

    fn try_room(&self, _: u64) -> io::Result<()> {
        if self.faults.is_full.load(Ordering::SeqCst) { Err(self.faults.kind.into()) } else { Ok(()) }
    }
}

impl fmt::Debug for FaultyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyBytes")
    }
}

impl StorageBackend for FaultyBytes {
    fn len(&self) -> io::Result<u64> {
        self.faults.pass(&[Calls::Reads])?;
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.pass(&[Calls::Reads])?;
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.pass(&[Calls::Writes, Calls::Space])?;
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.pass(&[Calls::Writes])?;
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.pass(&[Calls::Writes, Calls::Space])?;
        self.bytes.write(offset, data)
    }
}

/// A store on a disk that can refuse, its client, and what the client was told.
struct Bench {
    dir: tempfile::TempDir,
    backend: FaultyBackend,
    ledger: Ledger,
    known: Arc<Mutex<Known>>,
}

impl Bench {
    fn new(calls: Calls, kind: io::ErrorKind, count: u64) -> Bench {
        let faults = Faults::new(calls, kind, count);
        let backend = FaultyBackend { bytes: MemoryBackend::new(), faults };
        let known = Arc::new(Mutex::new(Known::nothing(1)));
        Bench { dir: tempfile::tempdir().unwrap(), backend, ledger: Ledger::new(), known }
    }

    /// The same past on a disk of its own.
    fn copy(&self) -> Bench {
        let copy = Bench::new(self.faults().calls, self.faults().kind, self.faults().count);
        let mut bytes = vec![0; usize::try_from(self.backend.bytes.len().unwrap()).unwrap()];
        self.backend.bytes.read(0, &mut bytes).unwrap();
        copy.backend.bytes.set_len(bytes.len() as u64).unwrap();
        copy.backend.bytes.write(0, &bytes).unwrap();
        Bench { ledger: self.ledger.clone(), known: Arc::new(Mutex::new(self.known.lock().clone())), ..copy }
    }

    fn faults(&self) -> &Faults {
        &self.backend.faults
    }

    fn open(&self) -> Result<Store, OpenError> {
        let reopen = Duration::from_micros(100);
        let options = StoreOptions {
            // A cache too small to hold anything, so that reads reach the backend.
            cache_bytes: if self.faults().calls == Calls::Reads { 0 } else { 1 << 25 },
            reopen_first: reopen,
            reopen_longest: reopen,
            room_poll: reopen,
            ..StoreOptions::default()
        };
        Store::open_with_backend(self.dir.path(), self.backend.clone(), options)
    }

    fn ear(&self) -> Ear {
        let known = Arc::clone(&self.known);
        Arc::new(move |said| known.lock().hear(said))
    }

    /// Settles the next requests and delivers what they posted; answers how often something was refused.
    fn run(&self, store: &Store) -> u64 {
        let next = self.known.lock().acknowledged() + 1;
        let requests: u64 = (next..next + REQUESTS).map(|number| self.settle(store, number)).sum();
        let mut refused = requests;
        while store.outbox_next_due_ms().is_some() {
            refused +=
                u64::from(self.ledger.deliver(store).inspect_err(|trouble| self.judge(trouble)).is_err());
            std::thread::yield_now();
        }
        refused
    }

    /// Sends one request until it is answered; answers how often it was refused.
    fn settle(&self, store: &Store, number: u64) -> u64 {
        let ear = self.ear();
        let mut may_exist = false;
        for refused in 0..100_000 {
            match self.ledger.ask(store, 0, number, &ear) {
                Ok(answer) => {
                    assert!(
                        may_exist || !answer.is_replayed,
                        "{number}: no effect was told, and there was one"
                    );
                    return refused;
                }
                Err(trouble) => {
                    self.judge(&trouble);
                    may_exist |= trouble.effect() == Effect::Unknown;
                    let is_there = matches!(self.ledger.look_up(store, 0, number), Ok(Dedupe::Replay { .. }));
                    assert!(may_exist || !is_there, "{number}: {trouble}, and there is one");
                    std::thread::yield_now();
                }
            }
        }
        panic!("request {number} was never settled");
    }

    /// What a client is told names the disk, where it was the disk that just refused.
    fn judge(&self, trouble: &Trouble) {
        let failure = match trouble {
            Trouble::Read(failure) | Trouble::Commit(CommitError::Unavailable(failure)) => failure,
            Trouble::Commit(error @ CommitError::ReadOnlyStore { cause }) => {
                assert_eq!(error.effect(), Effect::None);
                return assert!(cause.contains("I/O error"), "{cause}");
            }
            Trouble::Commit(error @ CommitError::NoRoom { cause, .. }) => {
                assert_eq!((error.effect(), self.faults().calls), (Effect::None, Calls::Space));
                return assert!(cause.contains("the disk refused"), "{cause}");
            }
            Trouble::Commit(error) => panic!("{error}"),
        };
        assert!(failure.io_kind().is_none_or(|kind| kind == self.faults().kind), "{failure}");
        if self.faults().calls == Calls::Space && matches!(trouble, Trouble::Commit(_)) {
            assert_eq!(failure.io_kind(), Some(self.faults().kind), "{failure}");
        }
    }

    #[track_caller]
    fn assert_balanced(&self, store: &Store, what: &str) {
        let known = self.known.lock().clone();
        self.ledger.check(store, &known).unwrap_or_else(|problem| panic!("{what}: {problem}"));
    }
}

/// Refuses a spread of calls of one workload, `count` calls each, and does it once more after that many calls.
fn refuse(calls: Calls, kind: io::ErrorKind, count: u64, again_after: Option<u64>, samples: u64) {
    let quiet = Bench::new(calls, kind, count);
    let store = quiet.open().unwrap();
    let before = quiet.faults().counted();
    assert_eq!(quiet.run(&store), 0);
    let counted = quiet.faults().counted() - before;
    quiet.assert_balanced(&store, "without faults");
    let (mut refused, mut tried) = (0, 0);
    for skip in spread(counted, samples) {
        let bench = Bench::new(calls, kind, count);
        let store = bench.open().unwrap();
        bench.faults().arm(skip);
        if let Some(more) = again_after {
            refused += bench.settle(&store, 1);
            bench.faults().arm(more);
        }
        refused += bench.run(&store);
        bench.faults().disarm();
        bench.assert_balanced(&store, &format!("{calls:?} {skip} to {} of {counted}", skip + count));
        drop(store);
        bench.assert_balanced(&bench.open().unwrap(), "opened again");
        tried += 1;
    }
    println!("{calls:?}, {kind}: {count} refused at {tried} of {counted} places, {refused} resends");
    assert!(refused > 0, "no fault was ever met");
}

/// Every number below `all` in the long run, about `samples` of them otherwise.
fn spread(all: u64, samples: u64) -> impl Iterator<Item = u64> {
    let step = if is_long() { 1 } else { (all / samples).max(1) };
    (0..all).step_by(usize::try_from(step).unwrap())
}

#[test]
fn one_refused_write_or_sync_at_any_call_costs_only_a_resend() {
    refuse(Calls::Writes, io::ErrorKind::Other, 1, None, 40);
}

#[test]
fn a_few_refused_writes_in_a_row_cost_only_resends() {
    for count in [2, 3, 7] {
        refuse(Calls::Writes, io::ErrorKind::Other, count, None, 10);
    }
}

#[test]
fn a_disk_that_refuses_for_a_while_costs_only_resends() {
    refuse(Calls::Writes, io::ErrorKind::Other, 25, None, 12);
}

#[test]
fn a_disk_that_refuses_twice_costs_only_resends() {
    for more in [0, 5, 40] {
        refuse(Calls::Writes, io::ErrorKind::Other, 1, Some(more), 8);
    }
}

#[test]
fn a_full_disk_costs_only_resends_and_is_named_as_the_cause() {
    for count in [1, 4, 30] {
        refuse(Calls::Space, io::ErrorKind::StorageFull, count, None, 12);
    }
}

#[test]
fn refused_reads_cost_only_resends() {
    for count in [1, 6] {
        refuse(Calls::Reads, io::ErrorKind::Other, count, None, 25);
    }
}

/// Opening an empty disk, and one with a past.
#[test]
fn a_call_refused_while_opening_fails_it_with_its_cause_and_changes_nothing() {
    for (calls, kind) in [
        (Calls::Writes, io::ErrorKind::Other),
        (Calls::Space, io::ErrorKind::StorageFull),
        (Calls::Reads, io::ErrorKind::Other),
    ] {
        for count in [1, 4] {
            for has_past in [false, true] {
                refuse_opening(calls, kind, count, has_past);
            }
        }
    }
}

fn refuse_opening(calls: Calls, kind: io::ErrorKind, count: u64, has_past: bool) {
    let past = Bench::new(calls, kind, count);
    if has_past {
        past.run(&past.open().unwrap());
    }
    let quiet = past.copy();
    let before = quiet.faults().counted();
    quiet.open().unwrap();
    let counted = quiet.faults().counted() - before;
    let mut failed = 0;
    for skip in spread(counted, 5) {
        let bench = past.copy();
        bench.faults().arm(skip);
        let opened = bench.open();
        bench.faults().disarm();
        if let Err(error) = &opened {
            failed += 1;
            let OpenError::Failed { cause, .. } = error else { panic!("{error}") };
            assert_eq!(cause.io_kind(), Some(kind), "call {skip} of {counted}: {cause}");
        }
        drop(opened);
        let store = bench.open().unwrap_or_else(|error| panic!("call {skip} of {counted}: {error:?}"));
        bench.assert_balanced(&store, &format!("call {skip} of {counted}"));
        bench.run(&store);
        bench.assert_balanced(&store, &format!("call {skip} of {counted}, later"));
    }
    assert!(failed > 0, "no fault was ever met");
}

/// Units that began on what a failing group had written, or waited behind it, fail with it or stand alone.
#[test]
fn several_clients_at_once_meet_a_disk_that_refuses_now_and_then() {
    const CLIENTS: u32 = 4;
    let rounds = if is_long() { 200 } else { 6 };
    let mut resent = 0;
    for round in 0..rounds {
        let bench = Bench::new(Calls::Writes, io::ErrorKind::Other, 1 + round % 3);
        *bench.known.lock() = Known::nothing(CLIENTS);
        let store = bench.open().unwrap();
        let skip = AtomicU64::new(40 + round);
        resent += std::thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| {
                let (bench, store, skip) = (&bench, &store, &skip);
                scope.spawn(move || -> u64 {
                    let requests = (1..=REQUESTS).map(|number| {
                        bench.faults().arm(skip.fetch_add(13, Ordering::SeqCst) % 97);
                        bench.ledger.settle(store, client, number, &bench.ear()).1 - 1
                    });
                    requests.sum()
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>()
        });
        bench.faults().disarm();
        while store.read_only_cause().is_some() {
            std::thread::yield_now();
        }
        bench.assert_balanced(&store, &format!("round {round}"));
        bench.ledger.drain(&store).unwrap();
        bench.assert_balanced(&store, &format!("round {round}, delivered"));
    }
    println!("{rounds} rounds, {resent} resends");
    assert!(resent > 0, "no fault was ever met");
}

#[test]
fn the_store_says_why_it_is_read_only_and_reads_go_on() {
    for (calls, kind) in [(Calls::Writes, io::ErrorKind::Other), (Calls::Space, io::ErrorKind::StorageFull)] {
        let bench = Bench::new(calls, kind, NEVER);
        let store = bench.open().unwrap();
        bench.run(&store);
        let id = object_with(&store, "count", 1);
        bench.faults().arm(0);
        let mut unit = store.begin();
        unit.set_slot(id, "count", number(2)).unwrap();
        let error = store.decide(unit, Vote::default()).wait().unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        let CommitError::Unavailable(failure) = &error else { panic!("{error}") };
        assert_eq!(failure.io_kind(), Some(kind));
        let cause = store.read_only_cause().expect("the disk still refuses");
        assert!(cause.contains("the disk refused"), "{cause}");

        await_attempts(&bench, 10);
        assert_eq!(read(&mut store.begin(), id, "count"), Some(1), "nothing was decided");
        assert!(bench.ledger.look_up(&store, 0, REQUESTS).is_ok(), "reads go on");
        bench.assert_balanced(&store, "while the disk refuses");
        let mut unit = store.begin();
        unit.set_slot(id, "count", number(3)).unwrap();
        let error = store.decide(unit, Vote::default()).wait().unwrap_err();
        assert!(
            matches!(error, CommitError::ReadOnlyStore { .. }) && error.effect() == Effect::None,
            "{error}"
        );
        assert!(store.read_only_cause().is_some());

        bench.faults().disarm();
        while store.read_only_cause().is_some() {
            std::thread::yield_now();
        }
        assert!(read(&mut store.begin(), id, "count").is_some());
        bench.assert_balanced(&store, "by itself");
        bench.settle(&store, REQUESTS + 1);
    }
}

#[test]
fn a_disk_without_room_refuses_writes_without_effect_until_there_is_some() {
    let bench = Bench::new(Calls::Space, io::ErrorKind::StorageFull, 1);
    let store = bench.open().unwrap();
    bench.run(&store);
    bench.faults().is_full.store(true, Ordering::SeqCst);
    bench.faults().arm(0);
    let found_out = bench.ledger.ask(&store, 0, REQUESTS + 1, &bench.ear()).unwrap_err();
    assert_eq!(found_out.effect(), Effect::Unknown, "{found_out}");
    assert!(found_out.to_string().contains("the disk refused"), "{found_out}");
    while store.standing().full.is_none() {
        std::thread::yield_now();
    }
    for number in [REQUESTS + 1, REQUESTS + 2] {
        let refused = bench.ledger.ask(&store, 0, number, &bench.ear()).unwrap_err();
        assert!(matches!(refused, Trouble::Commit(CommitError::NoRoom { .. })), "{refused}");
        assert_eq!(refused.effect(), Effect::None);
        let told = refused.to_string();
        assert!(
            told.contains(bench.dir.path().to_str().unwrap()) && told.contains("the disk refused"),
            "{told}"
        );
    }
    bench.assert_balanced(&store, "while there is no room");
    assert_eq!((store.standing().failures, store.read_only_cause()), (1, None));
    bench.faults().is_full.store(false, Ordering::SeqCst);
    while store.standing().trouble().is_some() {
        std::thread::yield_now();
    }
    bench.settle(&store, REQUESTS + 1);
    bench.assert_balanced(&store, "with room again");
}

#[test]
fn a_database_that_was_emptied_is_not_made_anew_below_an_open_store() {
    let bench = Bench::new(Calls::Writes, io::ErrorKind::Other, 1);
    let store = bench.open().unwrap();
    bench.run(&store);
    bench.backend.bytes.set_len(0).unwrap();
    bench.faults().arm(0);
    let mut unit = store.begin();
    unit.audit("test", "of nothing", serde_json::Value::Null).unwrap();
    assert!(store.decide(unit, Vote::default()).wait().is_err());
    let is_parked = || store.read_only_cause().is_some_and(|cause| cause.contains("holds nothing any more"));
    while !is_parked() {
        std::thread::yield_now();
    }
    assert_eq!(bench.backend.bytes.len().unwrap(), 0);
}

/// Waits until reopening was refused several times, so that the handle that failed is gone. Until then a read may be
/// told of the failure.
fn await_attempts(bench: &Bench, attempts: u64) {
    let until = bench.faults().first.load(Ordering::SeqCst) + attempts;
    while bench.faults().counted() < until {
        std::thread::yield_now();
    }
}

/// Gives a grant and takes it away again by turns, each under a number and with an audit row, until each is settled.
/// Answers how often something was refused.
fn turn_grants(bench: &Bench, store: &Store) -> u64 {
    let babs = ComponentId::new("babs").unwrap();
    let session = SessionId { client: 9, incarnation: bench.ledger.opened_ms };
    let is_granted = || store.grants(&babs).map(|grants| !grants.is_empty());
    let mut refused = 0;
    for number in 1..=REQUESTS {
        let is_given = number % 2 == 1;
        let mut may_exist = false;
        loop {
            let mut unit = store.begin();
            if is_given {
                unit.put_grant(&babs, "storage", "operator").unwrap();
            } else {
                unit.remove_grant(&babs, "storage").unwrap();
            }
            unit.audit("turn", &number.to_string(), serde_json::Value::Null).unwrap();
            let dedupe = Some(DedupeKey { session, number, acked_through: 0 });
            match store.decide(unit, Vote { dedupe, ..Vote::default() }).wait() {
                Ok(_) | Err(CommitError::DuplicateRequest { .. }) => break,
                Err(error) => {
                    may_exist |= error.effect() == Effect::Unknown;
                    bench.judge(&Trouble::Commit(error));
                    // While nobody knows, the old state or the new one; else the old one.
                    let is_right = is_granted().map_or(true, |found| may_exist || found != is_given);
                    assert!(is_right, "{number}: no effect was told, and there was one");
                    refused += 1;
                    std::thread::yield_now();
                }
            }
        }
        let settled = (0..100_000).find_map(|_| is_granted().ok());
        assert_eq!(settled, Some(is_given), "{number} is settled");
    }
    refused
}

#[test]
fn grants_that_are_given_and_revoked_while_the_disk_refuses_have_one_effect_each() {
    for (calls, kind, count) in [
        (Calls::Writes, io::ErrorKind::Other, 1),
        (Calls::Writes, io::ErrorKind::Other, 9),
        (Calls::Space, io::ErrorKind::StorageFull, 4),
    ] {
        let quiet = Bench::new(calls, kind, count);
        let store = quiet.open().unwrap();
        let before = quiet.faults().counted();
        assert_eq!(turn_grants(&quiet, &store), 0);
        let counted = quiet.faults().counted() - before;
        let (mut refused, mut tried) = (0, 0);
        for skip in spread(counted, 12) {
            let bench = Bench::new(calls, kind, count);
            let store = bench.open().unwrap();
            bench.faults().arm(skip);
            refused += turn_grants(&bench, &store);
            bench.faults().disarm();
            drop(store);
            let store = bench.open().unwrap();
            assert_clean(&store);
            let turns = store.audit_after(0, 1_000).unwrap();
            let turns: Vec<String> =
                turns.into_iter().filter(|row| row.kind == "turn").map(|row| row.subject).collect();
            let expected: Vec<String> = (1..=REQUESTS).map(|number| number.to_string()).collect();
            assert_eq!(turns, expected, "{calls:?} {skip} of {counted}");
            assert_eq!(store.all_grants().unwrap().len() as u64, REQUESTS % 2);
            tried += 1;
        }
        println!(
            "grants, {calls:?}, {kind}: {count} refused at {tried} of {counted} places, {refused} resends"
        );
        assert!(refused > 0, "no fault was ever met");
    }
}
