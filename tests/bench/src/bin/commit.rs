//! Commits: clients that each read and write one object and answer a request, as messages do, on a file.
//!
//! The peer is a bare redb loop that writes the same rows in the same batches with the same durability: two phases and
//! quick repair; page for page it writes as much. The batches are those that our run made, so what is compared is
//! everything but their forming. The peer leaves out what ours does besides: it reads nothing, votes on nothing, encodes
//! nothing, and wakes nobody; one thread does it all.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use redb::{Durability, ReadableDatabase, StorageBackend, TableDefinition};
use serde_json::{Map, Value, json};
use telos_bench::{Better, Row, Samples, resident_mib};
use telos_store::{
    Backend, Commit, ComponentId, DedupeKey, FileBackend, Json, ObjectId, SessionId, Slot, Store,
    StoreOptions, Vote,
};

/// How long one run of one case lasts.
const RUN: Duration = Duration::from_millis(1_500);
/// Interleaved runs of ours and the peer's.
const RUNS: usize = 3;
/// What a slow disk adds to each sync.
const SLOW_SYNC: Duration = Duration::from_millis(4);
const START_OBJECTS: usize = 100_000;
/// Where the child that fills a store for the start finds its directory.
const FILL: &str = "TELOS_BENCH_FILL";

thread_local! {
    /// Each client's session begins when its thread does.
    static INCARNATION: u64 = now_ms();
}

fn main() {
    if let Some(dir) = std::env::var_os(FILL) {
        return fill(Path::new(&dir));
    }
    for (case, clients, objects) in [
        ("1 client", 1, 1),
        ("8 clients, distinct receivers", 8, 8),
        ("32 clients, distinct receivers", 32, 32),
        ("32 clients, one receiver", 32, 1),
    ] {
        against_bare_redb(case, clients, objects);
    }
    slow_disk("32 clients, distinct receivers, 4 ms more for each sync, against 1 client", 32);
    slow_disk("32 clients, one receiver, 4 ms more for each sync, against 1 client", 1);
    start_after_kill();
}

/// What one run of ours did.
struct Ran {
    per_second: f64,
    latencies: Samples,
    /// Units of each commit group, in order.
    batches: Vec<usize>,
}

fn against_bare_redb(case: &'static str, clients: usize, objects: usize) {
    let (mut ours, mut peers, mut latencies, mut units, mut groups) =
        (Vec::new(), Vec::new(), Samples::default(), 0, 0);
    for _ in 0..RUNS {
        let ran = run(clients, objects, Duration::ZERO);
        peers.push(bare_redb(&ran.batches, objects));
        ours.push(ran.per_second);
        latencies.extend(ran.latencies);
        units += ran.batches.iter().sum::<usize>();
        groups += ran.batches.len();
    }
    let more = json!({
        "p50_us": latencies.percentile_us(50.0),
        "p99_us": latencies.percentile_us(99.0),
        "units_per_commit": units as f64 / groups.max(1) as f64,
        "phases": "begin, read, write, vote, durable commit, reply",
        "rss_mib": resident_mib(),
    });
    row(case, "units/s", median(ours), (median(peers), "bare redb, same rows and batches"), RUNS, more);
}

fn slow_disk(case: &'static str, objects: usize) {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        peers.push(run(1, 1, SLOW_SYNC).per_second);
        ours.push(run(32, objects, SLOW_SYNC).per_second);
    }
    row(case, "units/s", median(ours), (median(peers), "ours, 1 client"), RUNS, json!({}));
}

/// Clients at work for a while. A receiver's lane is held until its unit is voted for, as in the kernel.
fn run(clients: usize, objects: usize, delay: Duration) -> Ran {
    let dir = tempfile::tempdir().expect("a directory");
    let backend = SlowBackend { file: FileBackend::new(dir.path().join("objects.redb")), delay };
    let store = Store::open_with_backend(dir.path(), backend, StoreOptions::default()).expect("a store");
    let receivers: Vec<(ObjectId, Mutex<()>)> =
        (0..objects).map(|_| (counter(&store), Mutex::new(()))).collect();
    let commits = Mutex::new(Vec::new());
    let latencies = Mutex::new(Samples::default());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (store, receiver) = (&store, &receivers[client % objects]);
            let (commits, latencies) = (&commits, &latencies);
            scope.spawn(move || {
                let (mut own, mut samples) = (Vec::new(), Samples::default());
                let mut number = 0;
                while begin.elapsed() < RUN {
                    number += 1;
                    let start = Instant::now();
                    own.push(increment(store, receiver, client, number));
                    samples.add(start.elapsed());
                }
                commits.lock().extend(own);
                latencies.lock().extend(samples);
            });
        }
    });
    let elapsed = begin.elapsed();
    let mut commits = commits.into_inner();
    commits.sort_by_key(|commit| commit.position);
    check(&store, &receivers, commits.len());
    // Units of one group become visible at one moment.
    let batches =
        commits.chunk_by(|left, right| left.visible_at == right.visible_at).map(<[Commit]>::len).collect();
    Ran {
        per_second: commits.len() as f64 / elapsed.as_secs_f64(),
        latencies: latencies.into_inner(),
        batches,
    }
}

fn increment(store: &Store, (object, lane): &(ObjectId, Mutex<()>), client: usize, number: u64) -> Commit {
    let place = lane.lock();
    let mut unit = store.begin_on_voted();
    let count =
        unit.object(*object).expect("readable").and_then(|object| object.value("count").map(Json::to_value));
    let next = count.and_then(|count| count.as_u64()).expect("a count") + 1;
    let next = Json::parse(&next.to_string()).expect("JSON");
    unit.set_slot(*object, "count", Slot::Value(next)).expect("a write");
    let session =
        SessionId { client: client as u128, incarnation: INCARNATION.with(|incarnation| *incarnation) };
    let dedupe = DedupeKey { session, number, acked_through: number - 1 };
    let vote = Vote { dedupe: Some(dedupe), outcome: b"{\"value\":1}".to_vec(), ..Vote::default() };
    let decided = store.decide(unit, vote);
    drop(place);
    decided.wait().expect("a commit")
}

/// Every increment is there, once.
fn check(store: &Store, receivers: &[(ObjectId, Mutex<()>)], expected: usize) {
    let mut unit = store.begin();
    let count = |(id, _): &(ObjectId, Mutex<()>)| {
        let object = unit.object(*id).expect("readable").expect("the receiver");
        object.value("count").and_then(|count| count.to_value().as_u64()).expect("a count")
    };
    let sum: u64 = receivers.iter().map(count).sum();
    assert_eq!(sum, expected as u64, "lost or doubled");
}

fn counter(store: &Store) -> ObjectId {
    let mut unit = store.begin();
    let object = unit.create(ComponentId::operator(), 1, Vec::new()).expect("an object");
    unit.set_slot(object, "count", Slot::Value(Json::parse("0").expect("JSON"))).expect("a slot");
    store.decide(unit, Vote::default()).wait().expect("a commit");
    object
}

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const OBJECTS: TableDefinition<(u128, u64), &[u8]> = TableDefinition::new("objects");
const CHANGES: TableDefinition<(u64, u128), u64> = TableDefinition::new("changes");
const MOMENTS: TableDefinition<u64, u64> = TableDefinition::new("moments");
const SESSIONS: TableDefinition<(u128, u64), (u64, u64, u32)> = TableDefinition::new("sessions");
const DEDUPE: TableDefinition<(u128, u64, u64), (u64, &[u8])> = TableDefinition::new("dedupe");

/// The rows that our units write, batch by batch; units per second.
fn bare_redb(batches: &[usize], objects: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let database = redb::Builder::new()
        .set_cache_size(StoreOptions::default().cache_bytes)
        .create(dir.path().join("bare.redb"))
        .expect("a database");
    let ids: Vec<u128> = (0..objects)
        .map(|_| u128::from_str_radix(&ObjectId::random().to_string(), 16).expect("an id"))
        .collect();
    // As long as our row of an object with one counter.
    let row = [7_u8; 25];
    let begin = Instant::now();
    let mut position = 0;
    for batch in batches {
        let mut txn = database.begin_write().expect("a transaction");
        txn.set_durability(Durability::Immediate).expect("durable");
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        {
            let mut rows = txn.open_table(OBJECTS).expect("a table");
            let mut changes = txn.open_table(CHANGES).expect("a table");
            let mut dedupe = txn.open_table(DEDUPE).expect("a table");
            let mut sessions = txn.open_table(SESSIONS).expect("a table");
            for unit in 0..*batch {
                position += 1;
                let (client, object) = (unit as u128, ids[unit % objects]);
                rows.insert((object, position), row.as_slice()).expect("a row");
                changes.insert((position, object), position.saturating_sub(1)).expect("a row");
                let acked = (client, 1, 0)..=(client, 1, position.saturating_sub(1));
                dedupe.retain_in(acked, |_, _| false).expect("a row");
                dedupe.insert((client, 1, position), (position, b"{\"value\":1}".as_slice())).expect("a row");
                sessions.insert((client, 1), (position - 1, position, 1)).expect("a row");
            }
            let mut moments = txn.open_table(MOMENTS).expect("a table");
            // The newest group's moment gives way to the next one's.
            moments.remove(position - *batch as u64).expect("a row");
            moments.insert(position, position).expect("a row");
            let mut meta = txn.open_table(META).expect("a table");
            meta.insert("position", position).expect("a row");
            meta.insert("object_rows", position).expect("a row");
        }
        txn.commit().expect("a commit");
    }
    batches.iter().sum::<usize>() as f64 / begin.elapsed().as_secs_f64()
}

/// A host died by `kill -9` with many objects; how long until a store is open again.
fn start_after_kill() {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..RUNS {
        fill_and_kill(dir.path());
        let begin = Instant::now();
        let store = Store::open(dir.path(), StoreOptions::default()).expect("a store");
        ours.push(begin.elapsed().as_secs_f64() * 1_000.0);
        assert!(store.counts().expect("readable").objects >= START_OBJECTS as u64);
        drop(store);
        fill_and_kill(dir.path());
        let begin = Instant::now();
        let database = redb::Database::open(dir.path().join("objects.redb")).expect("a database");
        drop(database.begin_read().expect("a read"));
        peers.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    let more = json!({"objects": START_OBJECTS, "rss_mib": resident_mib()});
    let case = "start with 100,000 objects after kill -9, until units may begin";
    print(
        case,
        "ms",
        Better::Lower,
        (median(ours), median(peers), "bare redb, open and begin a read"),
        RUNS,
        more,
    );
}

/// Fills the store of a directory, unless it is full, and goes on writing until it is killed.
fn fill(dir: &Path) {
    let store = Store::open(dir, StoreOptions::default()).expect("a store");
    while store.counts().expect("readable").objects < START_OBJECTS as u64 {
        let mut unit = store.begin();
        for number in 0..1_000 {
            let object = unit.create(ComponentId::operator(), 1, Vec::new()).expect("an object");
            let text = format!("{{\"number\": {number}, \"text\": \"some words that an object may hold\"}}");
            unit.set_slot(object, "value", Slot::Value(Json::parse(&text).expect("JSON"))).expect("a slot");
        }
        store.decide(unit, Vote::default()).wait().expect("a commit");
    }
    say("full");
    let receiver = (counter(&store), Mutex::new(()));
    for number in 1.. {
        increment(&store, &receiver, 0, number);
    }
}

fn fill_and_kill(dir: &Path) {
    use std::io::BufRead;
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program).env(FILL, dir).stdout(Stdio::piped()).spawn().expect("a child");
    let output = child.stdout.take().expect("its output");
    let first = io::BufReader::new(output).lines().next();
    assert!(matches!(first, Some(Ok(line)) if line == "full"), "the child filled nothing");
    std::thread::sleep(Duration::from_millis(50));
    child.kill().expect("a kill");
    child.wait().expect("an end");
}

/// A file whose syncs take longer.
struct SlowBackend {
    file: FileBackend,
    delay: Duration,
}

struct SlowFile {
    file: Box<dyn StorageBackend>,
    delay: Duration,
}

impl Backend for SlowBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.file.open()?;
        if self.delay.is_zero() {
            return Ok(file);
        }
        Ok(Box::new(SlowFile { file, delay: self.delay }))
    }
}

impl fmt::Debug for SlowFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowFile")
    }
}

impl StorageBackend for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.delay);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn row(
    case: &'static str,
    unit: &'static str,
    ours: f64,
    (peer, name): (f64, &'static str),
    runs: usize,
    more: Value,
) {
    print(case, unit, Better::Higher, (ours, peer, name), runs, more);
}

fn print(
    case: &'static str,
    unit: &'static str,
    better: Better,
    (ours, peer, name): (f64, f64, &'static str),
    runs: usize,
    more: Value,
) {
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    Row { bench: "commit", case, unit, better, ours, peer: Some((peer, name)), runs, more }.print();
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stdout, reason = "the parent waits for this line")]
fn say(line: &str) {
    println!("{line}");
}
