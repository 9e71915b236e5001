//! Units that begin on what is voted for and not yet durable: what they see, when they are answered, and what becomes
//! of them when the disk fails below them.
//! Method: a backend whose syncs wait for the test, so that a group can be held between its vote and its decision.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use telos_store::{
    Backend, CommitError, ComponentId, Contested, Decided, DedupeKey, Digest, Effect, Json, MemoryBackend,
    ObjectId, OnDecided, Position, Post, SessionId, Slot, Store, StoreOptions, Unit, Vote, WriteError, limit,
};

use crate::fixture::{assert_clean, name, number, object_with, operator, read};

/// What the next syncs do.
#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Shut,
    Broken,
}

#[derive(Clone)]
struct GatedBackend {
    bytes: MemoryBackend,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

struct GatedBytes {
    bytes: Box<dyn redb::StorageBackend>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

impl GatedBackend {
    fn set(&self, gate: Gate) {
        *self.gate.0.lock() = gate;
        self.gate.1.notify_all();
    }
}

impl Backend for GatedBackend {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        Ok(Box::new(GatedBytes { bytes: self.bytes.open()?, gate: Arc::clone(&self.gate) }))
    }
}

impl fmt::Debug for GatedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatedBytes")
    }
}

impl redb::StorageBackend for GatedBytes {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut gate = self.gate.0.lock();
        while *gate == Gate::Shut {
            self.gate.1.wait(&mut gate);
        }
        if *gate == Gate::Broken { Err(io::Error::other("the disk refused")) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    disk: GatedBackend,
    store: Store,
    counter: ObjectId,
}

fn ballast() -> Json {
    Json::parse(&format!("\"{}\"", "x".repeat(limit::VALUE_BYTES_MAX - 2))).unwrap()
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let disk = GatedBackend {
            bytes: MemoryBackend::new(),
            gate: Arc::new((Mutex::new(Gate::Open), Condvar::new())),
        };
        let reopen = Duration::from_micros(100);
        let options =
            StoreOptions { reopen_first: reopen, reopen_longest: reopen, ..StoreOptions::default() };
        let store = Store::open_with_backend(dir.path(), disk.clone(), options).unwrap();
        let counter = object_with(&store, "count", 0);
        // redb syncs under a lock of its readers while its file grows, so it has to be large enough before.
        let mut unit = store.begin();
        unit.set_slot(counter, "ballast", Slot::Value(ballast())).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        let mut unit = store.begin();
        unit.remove_slot(counter, "ballast").unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        Bench { _dir: dir, disk, store, counter }
    }

    /// Adds one on top of what is voted for.
    fn increment(&self) -> Unit {
        let mut unit = self.store.begin_on_voted();
        let count = read(&mut unit, self.counter, "count").unwrap();
        unit.set_slot(self.counter, "count", number(count + 1)).unwrap();
        unit
    }

    fn decide(&self, unit: Unit) -> Decided {
        self.store.decide(unit, Vote::default())
    }

    fn count(&self) -> Option<i64> {
        read(&mut self.store.begin(), self.counter, "count")
    }

    /// Lets the disk fail under everything that waits, and waits until the store is back.
    fn fail(&self) {
        self.disk.set(Gate::Broken);
        while self.store.read_only_cause().is_none() {
            std::thread::yield_now();
        }
        self.disk.set(Gate::Open);
        while self.store.read_only_cause().is_some() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Bench {
    /// A shut gate would keep the store from closing when a test fails.
    fn drop(&mut self) {
        self.disk.set(Gate::Open);
    }
}

#[test]
fn a_busy_object_is_changed_many_times_in_one_commit() {
    let bench = Bench::new();
    bench.disk.set(Gate::Shut);
    let decided: Vec<Decided> = (0..50).map(|_| bench.decide(bench.increment())).collect();
    assert_eq!(bench.count(), Some(0), "nothing is durable yet");
    assert_eq!(read(&mut bench.store.begin_on_voted(), bench.counter, "count"), Some(50));
    bench.disk.set(Gate::Open);
    let positions: Vec<u64> =
        decided.into_iter().map(|decided| decided.wait().unwrap().position.get()).collect();
    assert_eq!(positions, (4..=53).collect::<Vec<_>>());
    assert_eq!(bench.count(), Some(50));
    assert_eq!(bench.store.begin().object(bench.counter).unwrap().unwrap().revision.get(), 53);
    assert_clean(&bench.store);
}

#[test]
fn a_stale_read_of_what_is_pending_is_a_conflict_at_once() {
    let bench = Bench::new();
    let stale = bench.increment();
    bench.disk.set(Gate::Shut);
    let first = bench.decide(bench.increment());
    let (sender, receiver) = std::sync::mpsc::channel();
    bench.store.decide_then(stale, Vote::default(), move |answer| sender.send(answer).unwrap());
    // The disk is still shut, so this was said by the vote.
    assert!(matches!(receiver.try_recv(), Ok(Err(CommitError::Conflict(_)))));
    bench.disk.set(Gate::Open);
    first.wait().unwrap();
    assert_eq!(bench.count(), Some(1));
}

#[test]
fn whoever_read_what_is_pending_is_answered_when_that_is_durable() {
    let bench = Bench::new();
    bench.disk.set(Gate::Shut);
    let write = bench.decide(bench.increment());
    let mut reader = bench.store.begin_on_voted();
    assert_eq!(read(&mut reader, bench.counter, "count"), Some(1));
    let (sender, receiver) = std::sync::mpsc::channel();
    bench.store.decide_then(reader, Vote::default(), move |answer| sender.send(answer).unwrap());
    let mut settled = bench.store.begin();
    assert_eq!(read(&mut settled, bench.counter, "count"), Some(0));
    assert_eq!(
        bench.decide(settled).wait().unwrap().position,
        Position::new(3),
        "what is durable waits for nobody"
    );
    assert!(receiver.try_recv().is_err(), "what it read may still vanish");
    bench.disk.set(Gate::Open);
    assert_eq!(receiver.recv().unwrap().unwrap().position, write.wait().unwrap().position);
}

#[test]
fn a_request_resent_while_it_is_pending_hears_its_one_outcome_once_durable() {
    let bench = Bench::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let session = SessionId { client: 1, incarnation: u64::try_from(now).unwrap() };
    let ask = || {
        let dedupe = Some(DedupeKey { session, number: 1, acked_through: 0 });
        let vote = Vote { dedupe, outcome: b"one".to_vec(), ..Vote::default() };
        bench.store.decide(bench.increment(), vote)
    };
    bench.disk.set(Gate::Shut);
    let (first, second) = (ask(), ask());
    bench.disk.set(Gate::Open);
    let position = first.wait().unwrap().position;
    let known = second.wait().unwrap_err();
    assert!(
        matches!(&known, CommitError::DuplicateRequest { outcome, position: at } if outcome == b"one" && *at == position),
        "{known}"
    );
    assert_eq!(bench.count(), Some(1));
}

#[test]
fn names_lists_histories_and_vectors_show_what_is_pending() {
    let bench = Bench::new();
    let old = object_with(&bench.store, "a", 1);
    let mut unit = bench.store.begin();
    unit.bind(&name("n/old"), old).unwrap();
    unit.upsert_vector(&operator(), "notes", old, vec![1.0, 0.0], Json::parse("{}").unwrap()).unwrap();
    bench.decide(unit).wait().unwrap();

    bench.disk.set(Gate::Shut);
    let mut unit = bench.store.begin_on_voted();
    let new = unit.create(operator(), 1, vec![old]).unwrap();
    unit.unbind(&name("n/old")).unwrap();
    unit.bind(&name("n/new"), new).unwrap();
    unit.set_slot(old, "a", number(2)).unwrap();
    unit.remove_vector(&operator(), "notes", old).unwrap();
    unit.upsert_vector(&operator(), "notes", new, vec![0.0, 1.0], Json::parse("{}").unwrap()).unwrap();
    unit.upsert_vector(&operator(), "fresh", new, vec![1.0; 3], Json::parse("{}").unwrap()).unwrap();
    let write = bench.decide(unit);

    let look = |unit: &mut Unit| {
        let listed: Vec<String> =
            unit.names("n/", "", 9).unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
        let hits = unit.search_vectors(&operator(), "notes", &[0.0, 1.0], 9, &[]).unwrap();
        let history: Vec<u64> =
            unit.history(old, 9).unwrap().iter().map(|state| state.revision.get()).collect();
        let found = unit.find(&name("n/new")).unwrap();
        (listed, hits.into_iter().map(|hit| hit.object).collect::<Vec<_>>(), history, found)
    };
    let (mut decided, mut voted) = (bench.store.begin(), bench.store.begin_on_voted());
    let before = (vec!["n/old".to_owned()], vec![old], vec![1], None);
    let after = (vec!["n/new".to_owned()], vec![new], vec![2, 1], Some(new));
    assert_eq!(look(&mut decided), before);
    assert_eq!(look(&mut voted), after);
    assert_eq!(voted.names_of(new).unwrap(), [name("n/new")]);
    assert_eq!(voted.search_vectors(&operator(), "fresh", &[1.0; 3], 1, &[]).unwrap()[0].object, new);
    bench.disk.set(Gate::Open);
    write.wait().unwrap();
    assert_eq!(look(&mut voted), after, "the same once it is durable");
    let mut old_again = bench.store.begin();
    assert_eq!(look(&mut old_again), after);
    assert_clean(&bench.store);
}

#[test]
fn a_failed_group_takes_along_what_was_built_on_it_and_nothing_else() {
    let bench = Bench::new();
    bench.disk.set(Gate::Shut);
    let first = bench.decide(bench.increment());
    // The committer holds the first alone; these wait behind it.
    let behind: Vec<Decided> = (0..5).map(|_| bench.decide(bench.increment())).collect();
    let reader = bench.store.begin_on_voted();
    let stale = bench.increment();
    bench.fail();
    let error = first.wait().unwrap_err();
    assert!(matches!(error, CommitError::Unavailable(_)) && error.effect() == Effect::Unknown, "{error}");
    for decided in behind {
        let error = decided.wait().unwrap_err();
        // Those that shared the group are unknown as it is, those behind it were never written.
        assert!(matches!(error, CommitError::Aborted | CommitError::Unavailable(_)), "{error}");
    }
    for late in [stale, reader] {
        let error = bench.decide(late).wait().unwrap_err();
        assert!(matches!(error, CommitError::Aborted) && error.effect() == Effect::None, "{error}");
    }
    let before = bench.count().unwrap();
    bench.decide(bench.increment()).wait().unwrap();
    assert_eq!(bench.count(), Some(before + 1));
    assert_clean(&bench.store);
}

#[test]
fn a_post_is_taken_by_one_pending_unit_only() {
    let bench = Bench::new();
    let mut unit = bench.store.begin();
    let post = Post {
        source: bench.counter,
        target: bench.counter,
        selector: "x".into(),
        arguments: Json::parse("1").unwrap(),
        hops: 0,
        trace: String::new(),
    };
    unit.post(post).unwrap();
    bench.decide(unit).wait().unwrap();
    let id = bench.store.outbox_due(0, 1).unwrap()[0].id;
    let deliver = || {
        let mut unit = bench.increment();
        unit.take_post(id);
        unit
    };
    bench.disk.set(Gate::Shut);
    let first = bench.decide(deliver());
    assert!(matches!(bench.decide(deliver()).wait(), Err(CommitError::Conflict(_))));
    bench.disk.set(Gate::Open);
    first.wait().unwrap();
    assert_eq!(bench.count(), Some(1));
}

#[test]
fn what_a_vote_does_when_it_passes_is_done_before_anyone_begins_on_it() {
    let bench = Bench::new();
    bench.disk.set(Gate::Shut);
    let (sender, receiver) = std::sync::mpsc::channel();
    let act = move |position: Position| sender.send(position).unwrap();
    let vote = Vote { on_voted: Some(OnDecided::new(act)), ..Vote::default() };
    let decided = bench.store.decide(bench.increment(), vote);
    let position = receiver.try_recv().unwrap();
    assert_eq!(bench.store.begin_on_voted().snapshot(), position);
    assert_eq!(bench.store.begin().snapshot(), Position::new(3));
    bench.disk.set(Gate::Open);
    assert_eq!(decided.wait().unwrap().position, position);
}

#[test]
fn at_its_bound_the_order_refuses_and_changes_nothing() {
    let bench = Bench::new();
    bench.disk.set(Gate::Shut);
    let mut waiting = Vec::new();
    let refused = loop {
        let (sender, receiver) = std::sync::mpsc::channel();
        bench
            .store
            .decide_then(bench.increment(), Vote::default(), move |answer| sender.send(answer).unwrap());
        match receiver.try_recv() {
            Ok(answer) => break answer.unwrap_err(),
            Err(_) => waiting.push(receiver),
        }
    };
    assert!(matches!(refused, CommitError::Busy { allowed } if allowed == waiting.len()), "{refused}");
    bench.disk.set(Gate::Open);
    let decided = waiting.len();
    for receiver in waiting {
        receiver.recv().unwrap().unwrap();
    }
    assert_eq!(bench.count(), Some(i64::try_from(decided).unwrap()));
}

fn ours() -> ComponentId {
    ComponentId::new("ours").unwrap()
}

/// A durable object of ours in generation 1.
fn make_ours(bench: &Bench) -> ObjectId {
    let mut unit = bench.store.begin();
    let id = unit.create(ours(), 1, vec![]).unwrap();
    unit.set_slot(id, "n1", number(7)).unwrap();
    bench.decide(unit).wait().unwrap();
    id
}

fn slots(slot: &str, value: i64) -> BTreeMap<String, Json> {
    BTreeMap::from([(slot.to_owned(), Json::parse(&value.to_string()).unwrap())])
}

/// Raises ours on top of what is voted for, with the object evolved in the same commit.
fn raise(bench: &Bench, id: ObjectId, from: u32, value: i64) -> Unit {
    let mut unit = bench.store.begin_on_voted();
    unit.evolve(id, from + 1, slots(&format!("n{}", from + 1), value)).unwrap();
    unit.raise_generation(&ours(), from, from + 1, Digest::of(b"evolver")).unwrap();
    unit
}

fn seen(unit: &mut Unit, id: ObjectId) -> (u32, Vec<String>) {
    let object = unit.object(id).unwrap().unwrap();
    (object.generation, object.slots.keys().cloned().collect())
}

#[test]
fn a_raise_that_is_pending_is_in_force_for_whoever_begins_on_it() {
    let bench = Bench::new();
    let id = make_ours(&bench);
    let mut stale = bench.store.begin_on_voted();
    stale.set_slot(id, "n1", number(8)).unwrap();
    bench.disk.set(Gate::Shut);
    // Three generations wait for one disk, each on top of the last.
    let write = {
        let mut unit = bench.store.begin_on_voted();
        unit.set_slot(id, "n1", number(9)).unwrap();
        bench.decide(unit)
    };
    let raises = [1, 2].map(|from| bench.decide(raise(&bench, id, from, i64::from(from))));
    assert_eq!(seen(&mut bench.store.begin_on_voted(), id), (3, vec!["n3".to_owned()]));
    assert_eq!(seen(&mut bench.store.begin(), id), (1, vec!["n1".to_owned()]), "nothing is durable yet");
    assert_eq!(bench.store.generation(&ours()).unwrap(), None);

    let mut late = bench.store.begin_on_voted();
    assert!(matches!(
        late.create(ours(), 2, vec![]),
        Err(WriteError::Generation { found: 2, in_force: 3, .. })
    ));
    let made = late.create(ours(), 3, vec![]).unwrap();
    let made_in_3 = bench.decide(late);
    // Said by the vote, while the disk is shut.
    let (sender, receiver) = std::sync::mpsc::channel();
    let tell = |unit| {
        let sender = sender.clone();
        bench.store.decide_then(unit, Vote::default(), move |answer| sender.send(answer).unwrap());
        receiver.try_recv().unwrap().unwrap_err()
    };
    let again = {
        let mut unit = bench.store.begin_on_voted();
        unit.raise_generation(&ours(), 1, 2, Digest::of(b"evolver")).unwrap();
        unit
    };
    for refused in [tell(stale), tell(again)] {
        assert!(matches!(refused, CommitError::Conflict(_)) && refused.effect() == Effect::None, "{refused}");
    }
    bench.disk.set(Gate::Open);
    for decided in [write].into_iter().chain(raises).chain([made_in_3]) {
        decided.wait().unwrap();
    }
    let raised: Vec<u32> =
        bench.store.generations(&ours()).unwrap().iter().map(|record| record.generation).collect();
    assert_eq!(raised, [2, 3]);
    assert_eq!(seen(&mut bench.store.begin(), id), (3, vec!["n3".to_owned()]));
    assert_eq!(seen(&mut bench.store.begin(), made).0, 3);
    assert_eq!(bench.store.begin().history(id, 9).unwrap().len(), 4);
    assert_clean(&bench.store);
}

#[test]
fn a_raise_waits_for_copies_that_are_not_durable_yet() {
    let bench = Bench::new();
    let id = make_ours(&bench);
    let base = bench.store.begin().object(id).unwrap().unwrap().position;
    let raise = || {
        let mut unit = bench.store.begin_on_voted();
        unit.raise_generation(&ours(), 1, 2, Digest::of(b"evolver")).unwrap();
        bench.decide(unit)
    };
    assert!(matches!(raise().wait(), Err(CommitError::Unevolved { object, .. }) if object == id));
    bench.disk.set(Gate::Shut);
    let mut unit = bench.store.begin_on_voted();
    unit.put_shadow(id, base, 2, slots("n2", 1)).unwrap();
    let copied = bench.decide(unit);
    assert!(matches!(raise().wait(), Err(CommitError::Conflict(Contested::Generation(_)))), "said at once");
    bench.disk.set(Gate::Open);
    copied.wait().unwrap();
    raise().wait().unwrap();
    assert_eq!(seen(&mut bench.store.begin(), id), (2, vec!["n2".to_owned()]));
    assert_clean(&bench.store);
}

#[test]
fn a_raise_that_fails_with_its_group_is_in_force_for_all_or_for_nobody() {
    let bench = Bench::new();
    let id = make_ours(&bench);
    for round in 0..4_u32 {
        let from = bench.store.generation(&ours()).unwrap().map_or(1, |record| record.generation);
        bench.disk.set(Gate::Shut);
        let first = bench.decide(bench.increment());
        let raised = bench.decide(raise(&bench, id, from, 1));
        let on_top = bench.decide(raise(&bench, id, from + 1, 2));
        let late = raise(&bench, id, from + 2, 3);
        bench.fail();
        for decided in [first, raised, on_top] {
            let error = decided.wait().unwrap_err();
            assert!(matches!(error, CommitError::Aborted | CommitError::Unavailable(_)), "{round}: {error}");
        }
        assert!(matches!(bench.decide(late).wait(), Err(CommitError::Aborted)), "{round}");
        let found = bench.store.generation(&ours()).unwrap().map_or(1, |record| record.generation);
        assert_eq!(seen(&mut bench.store.begin(), id), (found, vec![format!("n{found}")]), "{round}");
        assert_eq!(seen(&mut bench.store.begin_on_voted(), id).0, found, "{round}");
        bench.decide(raise(&bench, id, found, 4)).wait().unwrap();
        assert_clean(&bench.store);
    }
}
