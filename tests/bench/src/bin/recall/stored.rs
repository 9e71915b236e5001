//! A store that holds a set, searched through units.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bench::clusters::Random;
use telos_bench::{Better, Samples, resident_mib};
use telos_store::{
    ComponentId, IndexShape, Json, Neighbor, ObjectId, Store, StoreOptions, Unit, VectorEngine, Vote,
};

use crate::peers::{Files, run};
use crate::sets::{Set, components};
use crate::{Built, K, Ours, print};

/// Where the child that fills a store finds its directory; a file of vectors and their dimension are its arguments.
pub(crate) const FILL: &str = "TELOS_BENCH_FILL";
/// Vectors of one unit while a store is filled.
const BATCH: usize = 1_000;
/// Commits whose vectors are searched for at once.
const COMMITS: usize = 300;
const COLLECTION: &str = "notes";
/// The longest that graphs are waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A store on a file with every vector of a set, and their graph.
pub(crate) struct Stored {
    store: Store,
    _dir: tempfile::TempDir,
    engine: VectorEngine,
    graphs_s: f64,
    shape: IndexShape,
    resident_mib: Option<f64>,
}

impl Stored {
    /// Has another process fill a store, and opens it: all its vectors then get one graph, as after every start.
    pub(crate) fn open(files: &Files, vector_engine: VectorEngine) -> Stored {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.env(FILL, dir.path()).arg(&files.vectors).arg(files.dim.to_string());
        run(&mut child).expect("a store that was filled");
        let (before, begin) = (resident_mib(), Instant::now());
        let options = StoreOptions { vector_engine, ..StoreOptions::default() };
        let store = Store::open(dir.path(), options).expect("a store");
        let shape = await_graph(&store);
        let resident_mib = resident_mib().zip(before).map(|(after, before)| after - before);
        let graphs_s = begin.elapsed().as_secs_f64();
        Stored { store, _dir: dir, engine: vector_engine, graphs_s, shape, resident_mib }
    }

    pub(crate) fn subject<'a>(&'a self, set: &'a Set) -> Ours<'a, Neighbor> {
        let raw = set.raw_bytes();
        let more = json!({
            "phases": "begin a unit, search, ten hits with metadata",
            "engine": self.engine.to_string(),
            "segments": self.shape.segments,
            "open_until_graphs_s": self.graphs_s,
            "rss_over_raw": self.resident_mib.map(|mib| mib * 1024.0 * 1024.0 / raw),
        });
        Ours {
            name: format!("store with {}", self.engine),
            set,
            built: Built { cpu_s: None, memory_over_raw: self.shape.bytes as f64 / raw, more },
            search: Box::new(|query, effort| search(&self.store, query, K, Some(effort))),
            row: Box::new(row_of),
        }
    }

    /// How long after a commit began a search finds what it wrote.
    pub(crate) fn insert(&self, set: &Set) {
        let (mut random, mut found, mut commits) = (Random::new(2), Samples::default(), Samples::default());
        let mut searches = 0_u64;
        for _ in 0..COMMITS {
            let vector: Vec<f32> = (0..set.vectors.dim()).map(|_| random.normal()).collect();
            let mut unit = self.store.begin();
            let object = remember(&mut unit, &vector, u32::MAX);
            let begin = Instant::now();
            self.store.decide(unit, Vote::default()).wait().expect("a commit");
            commits.add(begin.elapsed());
            loop {
                searches += 1;
                if search(&self.store, &vector, 1, None).first().is_some_and(|hit| hit.object == object) {
                    break;
                }
            }
            found.add(begin.elapsed());
        }
        let more = json!({
            "p50_us": found.percentile_us(50.0),
            "p99_us": found.percentile_us(99.0),
            "commit_p50_us": commits.percentile_us(50.0),
            "searches_per_vector": searches as f64 / COMMITS as f64,
            "phases": "vote, durable commit, reply, begin a unit, search",
        });
        let case = format!(
            "{}, store with {}: from a commit's begin until a search finds it, p50",
            set.name, self.engine
        );
        print(case, "us", Better::Lower, found.percentile_us(50.0), None, COMMITS, more);
    }
}

/// Fills a store without a graph, in a process of its own: what that took is gone with it.
pub(crate) fn fill(dir: &Path, arguments: &[String]) {
    let [vectors, dim] = arguments else { panic!("a file of vectors, and their dimension") };
    let components = components(&fs::read(vectors).expect("a file"));
    let options = StoreOptions { vector_tail_rows_max: usize::MAX, ..StoreOptions::default() };
    let store = Store::open(dir, options).expect("a store");
    let mut rows = (0..).zip(components.chunks_exact(dim.parse().expect("a dimension"))).peekable();
    while rows.peek().is_some() {
        let mut unit = store.begin();
        for (row, vector) in rows.by_ref().take(BATCH) {
            remember(&mut unit, vector, row);
        }
        store.decide(unit, Vote::default()).wait().expect("a commit");
    }
}

fn remember(unit: &mut Unit, vector: &[f32], row: u32) -> ObjectId {
    let owner = ComponentId::operator();
    let object = unit.create(owner.clone(), 1, Vec::new()).expect("an object");
    let metadata = Json::parse(&json!({"row": row}).to_string()).expect("JSON");
    unit.upsert_vector(&owner, COLLECTION, object, vector.to_vec(), metadata).expect("a vector");
    object
}

fn row_of(hit: &Neighbor) -> u32 {
    let row = hit.metadata.to_value()["row"].as_u64();
    row.and_then(|row| u32::try_from(row).ok()).expect("a row")
}

fn search(store: &Store, query: &[f32], k: usize, effort: Option<usize>) -> Vec<Neighbor> {
    let mut unit = store.begin();
    unit.search_vectors_with(&ComponentId::operator(), COLLECTION, query, k, &[], effort).expect("a search")
}

fn await_graph(store: &Store) -> IndexShape {
    let begin = Instant::now();
    loop {
        let shape = store.collection_shapes().remove(0).index;
        if shape.tail == 0 {
            return shape;
        }
        assert!(begin.elapsed() < PATIENCE, "no graph yet: {shape:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
