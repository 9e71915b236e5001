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
//! over the clustered vectors only. With `--set clustered | table | sentences` there is one set only.

mod peers;
mod sets;
mod stored;

use std::path::Path;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use serde_json::{Map, Value, json};
use telos_bench::{Better, Row};
use telos_graph::{Engine, Graph, Matrix};
use telos_store::VectorEngine;

use peers::{Files, PEERS, Peer, peers, set_up};
use sets::{Set, clustered, embeddings, sentences};
use stored::{FILL, Stored, fill};

/// Nearest vectors that are looked for.
const K: usize = 10;
/// The share of them that is compared at.
const RECALL: f64 = 0.99;
/// Efforts tried, until one reaches the recall; then those between it and the one before.
const EFFORTS: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// Interleaved runs.
const RUNS: usize = 3;
/// With which every vector is searched for: what the store looks at when nobody asks for more.
const OWN_EFFORT: usize = 64;
fn main() {
    if let Some(dir) = std::env::var_os(FILL) {
        return fill(Path::new(&dir), &std::env::args().skip(1).collect::<Vec<_>>());
    }
    let is_long = std::env::args().any(|argument| argument == "--long");
    let run = Duration::from_millis(if is_long { 2_000 } else { 250 });
    let python =
        set_up().inspect_err(|cause| note(&format!("no peers, and clustered vectors only: {cause}")));
    let scratch = tempfile::tempdir().expect("a directory");
    let (default, all) = (&Engine::ALL[..1], &Engine::ALL[..]);
    for set in asked_sets(python.as_deref().ok(), scratch.path()) {
        let (engines, through_store) = match set.is_clustered() {
            _ if is_long => (all, all),
            true => (all, default),
            false => (default, &[][..]),
        };
        let files = Files::write(&set, scratch.path());
        let peers = python.as_ref().map_or_else(|_| Vec::new(), |python| peers(python, &files));
        compare((&set, &files), peers, engines, through_store, run);
    }
}

/// The set that was asked for, or all of them.
fn asked_sets(python: Option<&Path>, scratch: &Path) -> Vec<Set> {
    let asked = std::env::args().skip_while(|argument| argument != "--set").nth(1);
    let is_asked = |name: &str| asked.as_deref().is_none_or(|asked| asked == name);
    let mut sets = Vec::new();
    sets.extend(is_asked("clustered").then(clustered));
    let Some(python) = python else { return sets };
    if is_asked("table") {
        sets.push(embeddings(python, scratch).expect("a table of embeddings"));
    }
    if is_asked("sentences") {
        let said = sentences(python, scratch);
        let why_not = |cause: &String| {
            note(&format!("no embedded sentences: {cause}; `cargo xtask up` fetches the minds"));
        };
        sets.extend(said.inspect_err(why_not).ok());
    }
    sets
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
