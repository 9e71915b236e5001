//! Building an edition: rows first, then a graph over their directions, then a look at what was built.
//!
//! Memory is that of the graph while it is built, which is estimated and refused beforehand. Rows only pass through, but
//! for what knows their twins, which takes less.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::directory;
use crate::disk_graph::{self, Failure};
use crate::edition::Edition;
use crate::error::{BuildError, FileError, RowProblem};
use crate::manifest::{
    CODEBOOK, CODES, COSINE, ENTRIES, Engine, FORMAT, GRAPH, METADATA, Manifest, Recall, TWINS, VECTORS,
};
use crate::rows::Place;
use crate::sealed::seal;
use crate::validate::validate;
use crate::{DIM_MAX, METADATA_BYTES_MAX, ROWS_MAX, Verify, codes, twins};

/// One row to be archived.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose it is; one row each.
    pub object: u128,
    /// Kept beside it; nothing is read into it.
    pub added: u64,
    /// Kept beside it; at most [`METADATA_BYTES_MAX`] bytes.
    pub metadata: String,
    /// Of unit length, or zeros.
    pub direction: Vec<f32>,
}

/// What an edition is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct About {
    /// Components of each direction: 1 to [`DIM_MAX`].
    pub dim: usize,
    /// Kept in the manifest; nothing is read into it.
    pub base: u64,
    /// The least recall of the ten nearest that is good enough.
    pub recall_floor: f64,
    /// With at most so many distinct directions, all of them are looked at, and there is no graph. Codes need 256.
    pub flat_max: u32,
}

impl About {
    /// Recall of 0.95, and a graph past 4,096 directions: reading as many takes about a millisecond.
    pub fn new(dim: usize, base: u64) -> About {
        About { dim, base, recall_floor: 0.95, flat_max: 4096 }
    }
}

/// What building may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of memory at the peak. A graph that would take more is not begun.
    pub memory_bytes: u64,
    /// Threads that build the graph, besides the one that waits for them.
    pub threads: NonZeroUsize,
}

impl Default for Budget {
    /// One GiB, which is enough for 1.3 million directions of 128 components, and one thread.
    fn default() -> Budget {
        Budget { memory_bytes: 1 << 30, threads: NonZeroUsize::MIN }
    }
}

/// How far a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub stage: Stage,
    /// How much of it is done.
    pub done: u64,
    /// Of how much; 0 while nobody knows.
    pub of: u64,
}

/// What a build does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Rows are written: counted one by one.
    Rows,
    /// The graph is built: bytes looked at, of all that will be.
    Graph,
    /// Files are made safe: counted one by one.
    Files,
    /// What was built is searched: efforts tried.
    Validation,
}

/// Distinct directions are counted in hashes of this many bytes: so many bits never meet by chance.
type Hash = [u8; 16];

/// Rows between two looks at whether to stop.
const ROWS_AT_ONCE: u32 = 1024;
/// How far a length may be from 1.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// Builds an edition in a directory of its own, and validates it. Nothing is switched.
///
/// `rows` come in ascending order of their objects, each object once; their numbers in the edition follow this order.
/// `directory` is absent or empty, and the one it is in exists. With one thread, the same rows make the same files.
/// Cost: about 1.4 ms of processor time a row of 128 components, most of it to train codes, and up to three times the
/// bytes of the directions on disk meanwhile. It stops soon after `is_stopping`, but for the last touches of a graph.
///
/// # Errors
/// [`BuildError`]; the directory is no edition then, and most of it was removed.
pub fn build(
    directory: &Path,
    about: &About,
    rows: impl Iterator<Item = Result<Row, Box<dyn Error + Send + Sync>>>,
    budget: &Budget,
    is_stopping: &AtomicBool,
    progress: &dyn Fn(Progress),
) -> Result<Manifest, BuildError> {
    if about.dim == 0 || about.dim > DIM_MAX {
        return Err(BuildError::Dimension { dim: about.dim, max: DIM_MAX });
    }
    make_own(directory)?;
    let work = Work { dir: directory, about, budget, is_stopping, progress };
    let built = work.build(rows);
    if built.is_err() {
        // Best effort: without a manifest it is an orphan, which is collected.
        let _ = fs::remove_dir_all(directory);
    }
    built
}

fn make_own(dir: &Path) -> Result<(), BuildError> {
    match directory::make_private(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            let is_empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
            if !is_empty {
                return Err(BuildError::Taken { path: dir.into() });
            }
        }
        made => BuildError::at(dir, made)?,
    }
    BuildError::at(dir, directory::sync_parent(dir))?;
    fail::fail_point!("archive::directory-made");
    Ok(())
}

struct Work<'a> {
    dir: &'a Path,
    about: &'a About,
    budget: &'a Budget,
    is_stopping: &'a AtomicBool,
    progress: &'a dyn Fn(Progress),
}

/// What came in.
struct Counts {
    rows: u32,
    directions: u32,
}

impl Work<'_> {
    fn build(
        &self,
        rows: impl Iterator<Item = Result<Row, Box<dyn Error + Send + Sync>>>,
    ) -> Result<Manifest, BuildError> {
        let Counts { rows, directions } = self.write_rows(rows)?;
        fail::fail_point!("archive::rows-written");
        let engine = self.build_engine(directions)?;
        fail::fail_point!("archive::engine-built");
        let mut manifest = Manifest {
            format: FORMAT,
            base: self.about.base,
            rows,
            directions,
            dim: self.about.dim,
            metric: COSINE.into(),
            engine,
            recall: Recall { at_10: 0.0, effort: 0, queries: 0 },
            files: Default::default(),
        };
        self.seal_files(&mut manifest)?;
        let edition = Edition::open(self.dir, manifest.clone(), Verify::Full)?;
        let tell = |done, of| self.tell(Stage::Validation, done, of);
        manifest.recall = validate(&edition, self.about.recall_floor, self.is_stopping, &tell)?;
        fail::fail_point!("archive::validated");
        self.go_on()?;
        BuildError::at(self.dir, manifest.write(self.dir))?;
        fail::fail_point!("archive::built");
        Ok(manifest)
    }

    fn go_on(&self) -> Result<(), BuildError> {
        if self.is_stopping.load(Ordering::Relaxed) { Err(BuildError::Stopped) } else { Ok(()) }
    }

    fn tell(&self, stage: Stage, done: u64, of: u64) {
        (self.progress)(Progress { stage, done, of });
    }

    fn write_rows(
        &self,
        rows: impl Iterator<Item = Result<Row, Box<dyn Error + Send + Sync>>>,
    ) -> Result<Counts, BuildError> {
        let mut entries = self.create(ENTRIES)?;
        let mut metadata = self.create(METADATA)?;
        let mut vectors = self.create(VECTORS)?;
        vectors.write(&[0; crate::directions::HEADER])?;
        let mut known: HashMap<Hash, u32> = HashMap::new();
        let mut of_rows: Vec<u32> = Vec::new();
        let (mut before, mut metadata_at) = (None, 0_u64);
        for row in rows {
            let row = row.map_err(|cause| BuildError::Rows { cause })?;
            let number = u32::try_from(of_rows.len()).ok().filter(|number| *number < ROWS_MAX);
            let number = number.ok_or(BuildError::TooManyRows { max: ROWS_MAX })?;
            if number.is_multiple_of(ROWS_AT_ONCE) {
                self.go_on()?;
                self.tell(Stage::Rows, u64::from(number), 0);
                // What knows them by their hashes takes less than the graph will.
                self.check_memory(count(known.len()))?;
            }
            let problem = |problem| BuildError::Row { object: row.object, problem };
            check(&row, before, self.about.dim).map_err(problem)?;
            before = Some(row.object);
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
            let bytes: Vec<u8> =
                row.direction.iter().flat_map(|component| (component + 0.0).to_le_bytes()).collect();
            let direction = *known.entry(hash(&bytes)).or_insert(next);
            if direction == next {
                vectors.write(&bytes)?;
            }
            let metadata_bytes = u32::try_from(row.metadata.len()).unwrap_or(u32::MAX);
            let place = Place {
                object: row.object,
                added: row.added,
                metadata: metadata_at,
                metadata_bytes,
                direction,
            };
            entries.write(&place.to_bytes())?;
            metadata.write(row.metadata.as_bytes())?;
            metadata_at += u64::from(metadata_bytes);
            of_rows.push(direction);
        }
        let counts = Counts { rows: count(of_rows.len()), directions: count(known.len()) };
        let dim = u32::try_from(self.about.dim).unwrap_or(u32::MAX);
        vectors.write_first(&[counts.directions.to_le_bytes(), dim.to_le_bytes()].concat())?;
        entries.end()?;
        metadata.end()?;
        if counts.directions < counts.rows {
            let mut twins = self.create(TWINS)?;
            twins.write(&twins::write(counts.directions, &of_rows))?;
            twins.end()?;
        }
        Ok(counts)
    }

    fn is_flat(&self, directions: u32) -> bool {
        directions <= self.about.flat_max.max(u32::try_from(codes::CENTRES).unwrap_or(u32::MAX))
    }

    fn check_memory(&self, directions: u32) -> Result<(), BuildError> {
        let (needed, allowed) = (disk_graph::memory(self.about.dim, directions), self.budget.memory_bytes);
        if self.is_flat(directions) || needed <= allowed {
            return Ok(());
        }
        Err(BuildError::Memory { nodes: directions, needed, allowed })
    }

    fn build_engine(&self, directions: u32) -> Result<Engine, BuildError> {
        if self.is_flat(directions) {
            return Ok(Engine::Flat);
        }
        self.check_memory(directions)?;
        let tell = |done, of| self.tell(Stage::Graph, done, of);
        let (dim, threads) = (self.about.dim, self.budget.threads);
        let built = disk_graph::build(self.dir, dim, directions, threads, self.is_stopping, &tell);
        built.map_err(|failure| match failure {
            Failure::Stopped => BuildError::Stopped,
            Failure::File(path, cause) => BuildError::File { path, cause },
            Failure::Said(said) => BuildError::Engine { said },
        })
    }

    fn seal_files(&self, manifest: &mut Manifest) -> Result<(), BuildError> {
        let of_engine: &[&str] = match manifest.engine {
            Engine::Flat => &[VECTORS],
            Engine::DiskAnn { .. } => &[GRAPH, CODEBOOK, CODES],
        };
        let twins = (manifest.directions < manifest.rows).then_some(TWINS);
        let names: Vec<&str> =
            [ENTRIES, METADATA].into_iter().chain(twins).chain(of_engine.iter().copied()).collect();
        for (done, name) in names.iter().enumerate() {
            self.go_on()?;
            self.tell(Stage::Files, done as u64, names.len() as u64);
            let path = self.dir.join(name);
            manifest.files.insert((*name).into(), BuildError::at(&path, seal(&path))?);
            fail::fail_point!("archive::file-sealed");
        }
        BuildError::at(self.dir, directory::sync(self.dir))?;
        fail::fail_point!("archive::files-safe");
        Ok(())
    }

    fn create(&self, name: &str) -> Result<Output, BuildError> {
        let path = self.dir.join(name);
        Ok(Output { file: BufWriter::new(BuildError::at(&path, directory::create(&path))?), path })
    }
}

/// A file that is written, and says which it is when that fails.
struct Output {
    path: std::path::PathBuf,
    file: BufWriter<File>,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        BuildError::at(&self.path, self.file.write_all(bytes))
    }

    /// Over the bytes that it begins with; nothing is written after.
    fn write_first(mut self, bytes: &[u8]) -> Result<(), BuildError> {
        BuildError::at(&self.path, self.file.seek(SeekFrom::Start(0)))?;
        self.write(bytes)?;
        self.end()
    }

    fn end(mut self) -> Result<(), BuildError> {
        BuildError::at(&self.path, self.file.flush())
    }
}

fn check(row: &Row, before: Option<u128>, dim: usize) -> Result<(), RowProblem> {
    if let Some(after) = before.filter(|before| row.object <= *before) {
        return Err(RowProblem::Order { after });
    }
    if row.direction.len() != dim {
        return Err(RowProblem::Dimension { found: row.direction.len(), dim });
    }
    let length = row.direction.iter().map(|component| component * component).sum::<f32>().sqrt();
    // Not a number is neither.
    let is_direction = (length - 1.0).abs() <= LENGTH_TOLERANCE || length == 0.0;
    if !is_direction {
        return Err(RowProblem::Length { length });
    }
    if row.metadata.len() > METADATA_BYTES_MAX {
        return Err(RowProblem::Metadata { found: row.metadata.len(), max: METADATA_BYTES_MAX });
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    hash
}

/// Counted with [`ROWS_MAX`] in mind.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
