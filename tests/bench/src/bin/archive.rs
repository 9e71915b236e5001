//! Archive: what moving vectors to disk costs and saves, beside the same vectors in memory in one run.
//!
//! ```text
//! memory     bytes of the index of an archived collection, against those of its graphs    the peer is L1
//! recall     of the ten nearest, by brute force
//! searches   on one thread, by the clock; files are in the page cache
//! switch     how long the index was locked; searches and commits go on meanwhile, and none may fail or miss
//! start      a process that was killed: until the first answer, and until every vector has its graph
//! ```

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use telos_bench::clusters::{Clusters, DIM};
use telos_bench::{Better, Row, Samples};
use telos_graph::dot;
use telos_store::{
    ArchiveBudget, ArchiveReport, ComponentId, IndexShape, Json, Neighbor, ObjectId, Store, StoreOptions,
    Unit, Vote,
};

const ROWS: usize = 50_000;
const START_ROWS: usize = 100_000;
const QUERIES: usize = 300;
const K: usize = 10;
/// Vectors of one unit while a store is filled.
const BATCH: usize = 1_000;
const COLLECTION: &str = "notes";
/// Where the child that fills a store for the start finds its directory.
const FILL: &str = "TELOS_BENCH_FILL";
/// The longest that graphs are waited for.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    if let Some(dir) = std::env::var_os(FILL) {
        let store = open(Path::new(&dir));
        fill(&store, &Clusters::new(1).rows(START_ROWS));
        await_graphs(&store);
        // Whoever waits for this line kills.
        std::process::abort();
    }
    archive();
    start();
}

fn archive() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut clusters = Clusters::new(1);
    let (vectors, queries) = (clusters.rows(ROWS), clusters.rows(QUERIES));
    let objects = fill(&store, &vectors);
    let before = await_graphs(&store);
    let in_memory = searches(&store, &queries);
    let (report, while_switched) = archive_under_load(&store, &mut clusters);
    let after = shape(&store);
    let on_disk = searches(&store, &queries);
    let each = |bytes: usize| bytes as f64 / ROWS as f64;
    print(
        "bytes in memory a vector",
        "bytes",
        Better::Lower,
        each(after.bytes),
        Some((each(before.bytes), "graphs in memory")),
        json!({
            "rows": report.about.rows, "dim": DIM, "build_ms": report.about.build_ms, "switch_us": report.switch_us,
            "failed": while_switched.failed, "missing": while_switched.missing, "searches_meanwhile": while_switched.searches,
            "longest_ms": while_switched.longest.as_secs_f64() * 1e3,
        }),
    );
    let recall = |found: &Found| found.recall(&vectors, &queries, &objects);
    print(
        "recall of the ten nearest",
        "share",
        Better::Higher,
        recall(&on_disk),
        Some((recall(&in_memory), "graphs in memory")),
        json!({ "queries": QUERIES }),
    );
    print(
        "searches on one thread",
        "searches/s",
        Better::Higher,
        on_disk.per_s,
        Some((in_memory.per_s, "graphs in memory")),
        json!({ "p50_us": on_disk.p50_us, "p99_us": on_disk.p99_us }),
    );
}

/// How searches went.
struct Found {
    hits: Vec<Vec<ObjectId>>,
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Found {
    fn recall(&self, vectors: &[f32], queries: &[f32], objects: &[ObjectId]) -> f64 {
        let row_of: std::collections::HashMap<ObjectId, usize> =
            objects.iter().enumerate().map(|(row, object)| (*object, row)).collect();
        let mut near = 0;
        for (query, hits) in queries.chunks_exact(DIM).zip(&self.hits) {
            let mut products: Vec<f32> = vectors.chunks_exact(DIM).map(|row| dot(query, row)).collect();
            let tenth = *products.select_nth_unstable_by(K - 1, |left, right| right.total_cmp(left)).1;
            let product =
                |object: &ObjectId| row_of.get(object).map(|row| dot(query, &vectors[row * DIM..][..DIM]));
            near += hits.iter().filter_map(product).filter(|product| *product >= tenth - 1e-5).count();
        }
        near as f64 / (self.hits.len() * K) as f64
    }
}

fn searches(store: &Store, queries: &[f32]) -> Found {
    let (mut samples, mut hits, begin) = (Samples::default(), Vec::new(), Instant::now());
    for query in queries.chunks_exact(DIM) {
        let begin = Instant::now();
        hits.push(search(store, query, K).expect("a search").into_iter().map(|hit| hit.object).collect());
        samples.add(begin.elapsed());
    }
    let per_s = hits.len() as f64 / begin.elapsed().as_secs_f64();
    Found { hits, per_s, p50_us: samples.percentile_us(50.0), p99_us: samples.percentile_us(99.0) }
}

#[derive(Default)]
struct Meanwhile {
    searches: u64,
    failed: u64,
    missing: u64,
    longest: Duration,
}

/// Archives while another thread commits vectors and searches for each at once.
fn archive_under_load(store: &Store, clusters: &mut Clusters) -> (ArchiveReport, Meanwhile) {
    let vectors = clusters.rows(2_000);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut meanwhile = Meanwhile::default();
            for vector in vectors.chunks_exact(DIM).cycle().take_while(|_| !is_done.load(Ordering::Relaxed)) {
                let mut unit = store.begin();
                let object = remember(&mut unit, vector);
                store.decide(unit, Vote::default()).wait().expect("a commit");
                let begin = Instant::now();
                match search(store, vector, 40) {
                    Ok(hits) => meanwhile.missing += u64::from(!hits.iter().any(|hit| hit.object == object)),
                    Err(_) => meanwhile.failed += 1,
                }
                meanwhile.longest = meanwhile.longest.max(begin.elapsed());
                meanwhile.searches += 1;
                forget_vector(store, object);
            }
            meanwhile
        });
        let owner = ComponentId::operator();
        let report = store.archive(&owner, COLLECTION, &ArchiveBudget::default(), &|_| ());
        is_done.store(true, Ordering::Relaxed);
        (report.expect("an edition"), load.join().expect("the load"))
    })
}

/// 100,000 vectors with their graphs, and a process that is killed.
fn start() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let _ =
        child.env(FILL, dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a child");
    let query = Clusters::new(2).rows(1);
    let begin = Instant::now();
    let store = open(dir.path());
    let hits = search(&store, &query, K).expect("a search");
    let first = begin.elapsed();
    assert_eq!(hits.len(), K);
    let sealed = shape(&store).sealed;
    await_graphs(&store);
    let more = json!({ "vectors": START_ROWS, "graphs_ready_ms": begin.elapsed().as_secs_f64() * 1e3, "sealed": sealed });
    print(
        "start with 100,000 vectors after a kill, until the first answer",
        "ms",
        Better::Lower,
        first.as_secs_f64() * 1e3,
        None,
        more,
    );
}

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).expect("a store")
}

fn fill(store: &Store, vectors: &[f32]) -> Vec<ObjectId> {
    let mut objects = Vec::new();
    for batch in vectors.chunks(BATCH * DIM) {
        let mut unit = store.begin();
        objects.extend(batch.chunks_exact(DIM).map(|vector| remember(&mut unit, vector)));
        store.decide(unit, Vote::default()).wait().expect("a commit");
    }
    objects
}

fn remember(unit: &mut Unit, vector: &[f32]) -> ObjectId {
    let owner = ComponentId::operator();
    let object = unit.create(owner.clone(), 1, Vec::new()).expect("an object");
    let metadata = Json::parse("{}").expect("JSON");
    unit.upsert_vector(&owner, COLLECTION, object, vector.to_vec(), metadata).expect("a vector");
    object
}

fn forget_vector(store: &Store, object: ObjectId) {
    let mut unit = store.begin();
    unit.remove_vector(&ComponentId::operator(), COLLECTION, object).expect("a vector");
    store.decide(unit, Vote::default()).wait().expect("a commit");
}

fn search(store: &Store, query: &[f32], k: usize) -> Result<Vec<Neighbor>, telos_store::VectorError> {
    store.begin().search_vectors(&ComponentId::operator(), COLLECTION, query, k, &[])
}

fn shape(store: &Store) -> IndexShape {
    store.collection_shapes().remove(0).index
}

/// Waits until every full tail has its graph, and each is written down.
fn await_graphs(store: &Store) -> IndexShape {
    let begin = Instant::now();
    loop {
        let shape = shape(store);
        if shape.tail < StoreOptions::default().vector_tail_rows_max && shape.sealed == shape.segments.len() {
            return shape;
        }
        assert!(begin.elapsed() < PATIENCE, "no graphs yet: {shape:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn print(
    case: &'static str,
    unit: &'static str,
    better: Better,
    ours: f64,
    peer: Option<(f64, &'static str)>,
    more: Value,
) {
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    Row { bench: "archive", case, unit, better, ours, peer, runs: 1, more }.print();
}
