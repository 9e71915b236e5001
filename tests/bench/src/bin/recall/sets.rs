//! Sets of vectors that are searched: clustered by chance, a table of embeddings, sentences that a mind embeds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_bench::clusters::{self, Clusters, normalised};
use telos_graph::{Matrix, dot};
use telos_inference::{Catalogue, LlamaEngine, Minds, MindsConfig};

use crate::K;
use crate::peers::{PROGRAM, run};

/// As much as products of unit vectors differ by the order of their sums; the peers' program has it too.
const SLACK: f32 = 1e-5;
/// What the set is called that is made here.
const CLUSTERED: &str = "clustered";
const QUERIES: usize = 1_000;
/// Texts of one call, and the longest that it is waited for.
const TEXTS_AT_ONCE: usize = 64;
const EMBED_TIME: Duration = Duration::from_secs(120);
/// Vectors of unit length, queries, and how near the tenth nearest of each is.
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) vectors: Arc<Matrix>,
    pub(crate) queries: Matrix,
    pub(crate) tenth: Vec<f32>,
}

impl Set {
    fn of(what: &str, dim: usize, vectors: Vec<f32>, queries: Vec<f32>) -> Set {
        let (vectors, queries) = (Arc::new(Matrix::of(dim, vectors)), Matrix::of(dim, queries));
        let tenth = queries.numbers().map(|query| tenth(&vectors, queries.row(query))).collect();
        Set { name: format!("{} x {dim} {what}", vectors.len()), vectors, queries, tenth }
    }

    pub(crate) fn is_clustered(&self) -> bool {
        self.name.ends_with(CLUSTERED)
    }

    pub(crate) fn raw_bytes(&self) -> f64 {
        (self.vectors.len() * self.vectors.dim() * size_of::<f32>()) as f64
    }

    /// The share of the ten nearest of every query that was found.
    pub(crate) fn recall(&self, found: &[Vec<u32>]) -> f64 {
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
    pub(crate) fn is_itself(&self, row: u32, found: Option<u32>) -> bool {
        let asked = self.vectors.row(row);
        found.is_some_and(|found| dot(asked, self.vectors.row(found)) >= dot(asked, asked) - SLACK)
    }
}

fn tenth(vectors: &Matrix, query: &[f32]) -> f32 {
    let mut products: Vec<f32> = vectors.numbers().map(|row| dot(query, vectors.row(row))).collect();
    *products.select_nth_unstable_by(K - 1, |left, right| right.total_cmp(left)).1
}

pub(crate) fn clustered() -> Set {
    const ROWS: usize = 50_000;
    let mut clusters = Clusters::new(1);
    let (vectors, queries) = (clusters.rows(ROWS), clusters.rows(QUERIES));
    Set::of(CLUSTERED, clusters::DIM, vectors, queries)
}

/// The table of a published model.
pub(crate) fn embeddings(python: &Path, scratch: &Path) -> Option<Set> {
    let path = scratch.join("table.f32");
    let mut command = Command::new(python);
    let said = command.args(["-c", PROGRAM, "table"]).arg(&path).stderr(Stdio::inherit()).output().ok()?;
    let said: Value = serde_json::from_slice(&said.stdout).ok()?;
    let dim = usize::try_from(said["dim"].as_u64()?).ok()?;
    let components = components(&fs::read(path).ok()?);
    let rows: Vec<Vec<f32>> = components.chunks_exact(dim).filter_map(normalised).collect();
    Some(set_of("embeddings (wordllama)", dim, &rows))
}

/// Sentences of a published documentation, as the default embedding mind has them.
///
/// # Errors
/// Why there are none, for a person.
pub(crate) fn sentences(python: &Path, scratch: &Path) -> Result<Set, String> {
    let path = scratch.join("sentences");
    run(Command::new(python).args(["-c", PROGRAM, "sentences"]).arg(&path))?;
    let lines = fs::read_to_string(path).map_err(|cause| cause.to_string())?;
    let texts: Result<Vec<String>, _> = lines.lines().map(serde_json::from_str).collect();
    let rows = embed(&texts.map_err(|cause| cause.to_string())?)?;
    let dim = rows.first().ok_or("no sentences")?.len();
    Ok(set_of("embeddings (MiniLM, sentences)", dim, &rows))
}

fn embed(texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
    let models = std::env::var_os("TELOS_MODELS_DIR").ok_or("TELOS_MODELS_DIR names no models")?;
    let engine = LlamaEngine::new(None).map_err(|cause| cause.to_string())?;
    let minds =
        Minds::open(Path::new(&models), Catalogue::bundled(), Arc::new(engine), MindsConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| cause.to_string())?;
    let mut rows = Vec::new();
    for texts in texts.chunks(TEXTS_AT_ONCE) {
        let embedded = minds.embed(None, texts.to_vec(), Instant::now() + EMBED_TIME);
        let embedded = runtime.block_on(embedded).map_err(|cause| cause.to_string())?;
        rows.extend(embedded.iter().filter_map(|row| normalised(row)));
    }
    Ok(rows)
}

/// Some of the rows are queries, spread over all of them.
fn set_of(what: &str, dim: usize, rows: &[Vec<f32>]) -> Set {
    let step = (rows.len() / QUERIES).max(2);
    let (mut vectors, mut queries) = (Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        if number % step == 0 { queries.extend(row) } else { vectors.extend(row) }
    }
    Set::of(what, dim, vectors, queries)
}

pub(crate) fn components(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
