//! Graphs on disk by the `diskann-disk` crate: it trains codes, builds the graph and lays it out in sectors. Searches are
//! ours: its own searcher cannot be asked from within an asynchronous runtime, and trusts what it reads.
//!
//! The crate moves fast, so its version is fixed and it is named in this file alone. It works on a thread of its own,
//! with threads of its own, as many as it is given; a panic there is an error here. It takes a read that fails for the
//! end of its input, so files are read through [`Files`], which remembers.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use diskann::ANNError;
use diskann::graph::config::{Builder, MaxDegree};
use diskann_disk::build::builder::build::DiskIndexBuilder;
use diskann_disk::build::configuration::{MemoryBudget, NumPQChunks};
use diskann_disk::data_model::AdHoc;
use diskann_disk::storage::DiskIndexWriter;
use diskann_disk::{DiskIndexBuildParameters, QuantizationType};
use diskann_providers::model::IndexConfiguration;
use diskann_providers::storage::{PQStorage, StorageReadProvider, StorageWriteProvider};
use diskann_utils::views::rowmajor::Matrix;
use diskann_vector::distance::Metric;

use crate::codes;
use crate::directory;
use crate::manifest::{CODEBOOK, CODES, DEGREE_MAX, Engine, GRAPH, VECTORS};
use crate::sealed::BLOCK;

/// The crate's, as the manifest has it.
const VERSION: &str = "0.61.0";
/// Of directions of unit length: the order is that of cosine, and what is almost the same keeps apart.
const METRIC: Metric = Metric::L2;
/// Links that a node has after it was pruned, and gathers until then.
const DEGREE: usize = 32;
const DEGREE_WHILE_BUILT: usize = 42;
/// Nodes looked at for each that is added.
const BUILD_EFFORT: usize = 100;
/// The same rows make the same graph, with one thread.
const SEED: u64 = 1;
/// Directions that codes are trained with, at most.
const TRAINED_MAX: u64 = 256_000;
/// Directions that are put into codes at a time.
const CODED_AT_ONCE: usize = 25_000;
/// Buffers and threads of the engine, however little there is to do.
const FIXED: u64 = 64 << 20;
/// Passes over all directions: training, codes, two for the entry, the graph, its sectors.
const PASSES: u64 = 6;
/// How often it is asked whether to stop, and told how far it is.
const WAIT: Duration = Duration::from_millis(20);

/// Files of the engine, all named from this.
const PREFIX: &str = "engine";
const MEMORY_GRAPH: &str = "engine_mem.index";
const SECTORS: &str = "engine_disk.index";
const PIVOTS: &str = "engine_pq_pivots.bin";
const COMPRESSED: &str = "engine_pq_compressed.bin";

/// Why there is no graph.
pub(crate) enum Failure {
    Stopped,
    File(PathBuf, io::Error),
    Said(String),
}

/// Bytes of memory that building takes at its peak, or less: 95 MiB were seen where this says 198 (50,000 directions of
/// 128 components), and 73 where it says 90 (10,000).
pub(crate) fn memory(dim: usize, directions: u32) -> u64 {
    let (dim, directions) = (dim as u64, u64::from(directions));
    let graph = directions * 4 * (dim.next_multiple_of(8) + DEGREE_WHILE_BUILT as u64 + 1);
    // A sample, its pieces, and how far those are from each centre; then a block of directions and what stands for it.
    let training = directions.min(TRAINED_MAX) * 4 * (3 * dim + codes::CENTRES as u64);
    let coding = 2 * 4 * dim * directions.min(CODED_AT_ONCE as u64);
    graph.max(training).max(coding) / 10 * 11 + FIXED
}

/// Bytes that stand for a direction: one for four components, and more where there are few.
pub(crate) fn pieces(dim: usize) -> usize {
    dim.div_ceil(4).max(dim.min(8))
}

/// Builds a graph over the directions in `vectors`, and puts it, codebook and codes beside it.
pub(crate) fn build(
    dir: &Path,
    dim: usize,
    directions: u32,
    threads: NonZeroUsize,
    is_stopping: &AtomicBool,
    progress: &dyn Fn(u64, u64),
) -> Result<Engine, Failure> {
    let files = Arc::new(Files::new(dir));
    let theirs = Arc::clone(&files);
    let work = move || run(&theirs, dim, directions, threads).map_err(|error| error.to_string());
    let worker = thread::Builder::new().name("archive-build".into()).spawn(work);
    let worker = worker.map_err(|cause| Failure::Said(format!("no thread: {cause}")))?;
    let mut worker = Worker { thread: Some(worker), files: &files };
    let all = PASSES * 4 * dim as u64 * u64::from(directions);
    while !worker.is_finished() {
        files.is_stopping.store(is_stopping.load(Ordering::Relaxed), Ordering::Relaxed);
        progress(files.read.load(Ordering::Relaxed).min(all), all);
        thread::park_timeout(WAIT);
    }
    let ended = worker.join();
    if files.is_stopping.load(Ordering::Relaxed) {
        return Err(Failure::Stopped);
    }
    if let Some((path, cause)) = files.trouble() {
        return Err(Failure::File(path, cause));
    }
    ended.map_err(Failure::Said)?;
    let engine = adopt(&files, dim, directions);
    engine.map_err(|error| match files.trouble() {
        Some((path, cause)) => Failure::File(path, cause),
        None => Failure::Said(error.to_string()),
    })
}

/// The engine's thread, which never outlives its caller.
struct Worker<'a> {
    thread: Option<JoinHandle<Result<(), String>>>,
    files: &'a Files,
}

impl Worker<'_> {
    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Result<(), String> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err("it panicked".into()))
    }
}

impl Drop for Worker<'_> {
    /// It is still there when whoever is told of its progress panicked.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.files.is_stopping.store(true, Ordering::Relaxed);
            let _ = self.join();
        }
    }
}

/// On a thread of its own: it blocks on a runtime that it makes.
fn run(files: &Arc<Files>, dim: usize, directions: u32, threads: NonZeroUsize) -> Result<(), ANNError> {
    let config =
        Builder::new(DEGREE, MaxDegree::new(DEGREE_WHILE_BUILT), BUILD_EFFORT, METRIC.into()).build()?;
    let index =
        IndexConfiguration::new(METRIC, dim, directions as usize, NonZeroUsize::MIN, threads.get(), config)
            .with_pseudo_rng_from_seed(SEED);
    // Whether it may be built was decided before. With too little it would build and merge parts, and print to the
    // standard output.
    let room = MemoryBudget::try_from_gb(1e6)?;
    let parameters =
        DiskIndexBuildParameters::new(room, QuantizationType::FP, NumPQChunks::new_with(pieces(dim), dim)?)
            .with_data_compression_chunk_vector_count(CODED_AT_ONCE);
    let writer = DiskIndexWriter::new(VECTORS.into(), PREFIX.into(), None, BLOCK)?;
    DiskIndexBuilder::<AdHoc<f32>, Files>::new(files.as_ref(), parameters, index, writer)?.build()
}

/// Puts what it wrote into files of ours, and compares what it says of itself with what was asked for.
fn adopt(files: &Files, dim: usize, directions: u32) -> Result<Engine, ANNError> {
    let table = PQStorage::new(PIVOTS, COMPRESSED, None).load_pivots(files)?;
    let starts = table.view_offsets().as_slice().to_vec();
    let codebook = codes::codebook(&starts, table.view_pivots().as_slice());
    directory::create(&files.dir.join(CODEBOOK))?.write_all(&codebook)?;
    let mut compressed = File::open(files.dir.join(COMPRESSED))?;
    compressed.seek(SeekFrom::Start(8))?;
    io::copy(&mut compressed, &mut directory::create(&files.dir.join(CODES))?)?;
    let mut header = [0; 48];
    File::open(files.dir.join(SECTORS))?.read_exact(&mut header)?;
    let mut header = header[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let [count, found_dim, entry, node_bytes, _] = std::array::from_fn(|_| header.next().unwrap_or(0));
    let degree = (node_bytes / 4).checked_sub(dim as u64 + 1);
    let degree =
        degree.and_then(|degree| usize::try_from(degree).ok()).filter(|degree| *degree <= DEGREE_MAX);
    let (Some(degree), Ok(entry)) = (degree, u32::try_from(entry)) else {
        return Err(ANNError::message(format!("a node of {node_bytes} bytes, entry {entry}")));
    };
    if (count, found_dim) != (u64::from(directions), dim as u64) || starts.len() != pieces(dim) + 1 {
        return Err(ANNError::message(format!("{count} nodes of {found_dim} components in its file")));
    }
    fs::rename(files.dir.join(SECTORS), files.dir.join(GRAPH))?;
    for name in [VECTORS, PIVOTS, COMPRESSED, MEMORY_GRAPH] {
        directory::remove(&files.dir.join(name))?;
    }
    Ok(Engine::DiskAnn { version: VERSION.into(), degree, entry, pieces: pieces(dim) })
}

/// The edition's directory as the engine sees it.
struct Files {
    dir: PathBuf,
    is_stopping: Arc<AtomicBool>,
    /// Bytes of directions that were read.
    read: Arc<AtomicU64>,
    trouble: Arc<Mutex<Option<(PathBuf, io::Error)>>>,
}

impl Files {
    fn new(dir: &Path) -> Files {
        let (is_stopping, read, trouble) = Default::default();
        Files { dir: dir.into(), is_stopping, read, trouble }
    }

    fn watch(&self, name: &str, file: File) -> Watched {
        Watched {
            path: self.dir.join(name),
            file,
            is_stopping: Arc::clone(&self.is_stopping),
            read: (name == VECTORS).then(|| Arc::clone(&self.read)),
            trouble: Arc::clone(&self.trouble),
        }
    }

    fn note(&self, name: &str, opened: io::Result<File>) -> io::Result<Watched> {
        let opened = opened.inspect_err(|cause| note(&self.trouble, &self.dir.join(name), cause));
        opened.map(|file| self.watch(name, file))
    }

    fn trouble(&self) -> Option<(PathBuf, io::Error)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The first stays.
fn note(trouble: &Mutex<Option<(PathBuf, io::Error)>>, path: &Path, cause: &io::Error) {
    if cause.kind() != io::ErrorKind::Interrupted {
        let copy = cause.raw_os_error().map_or_else(|| cause.kind().into(), io::Error::from_raw_os_error);
        trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((path.into(), copy));
    }
}

impl StorageReadProvider for Files {
    type Reader = BufReader<Watched>;

    fn open_reader(&self, name: &str) -> io::Result<BufReader<Watched>> {
        Ok(BufReader::new(self.note(name, File::open(self.dir.join(name)))?))
    }

    fn get_length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.dir.join(name))?.len())
    }

    fn exists(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }
}

impl StorageWriteProvider for Files {
    type Writer = BufWriter<Watched>;

    fn open_writer(&self, name: &str) -> io::Result<BufWriter<Watched>> {
        let opened = File::options().write(true).open(self.dir.join(name));
        Ok(BufWriter::new(self.note(name, opened)?))
    }

    fn create_for_write(&self, name: &str) -> io::Result<BufWriter<Watched>> {
        Ok(BufWriter::new(self.note(name, directory::create(&self.dir.join(name)))?))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }
}

/// A file that ends the engine's work when it is told to stop, and remembers what went wrong.
struct Watched {
    path: PathBuf,
    file: File,
    is_stopping: Arc<AtomicBool>,
    read: Option<Arc<AtomicU64>>,
    trouble: Arc<Mutex<Option<(PathBuf, io::Error)>>>,
}

impl Watched {
    fn watch<T>(&mut self, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("told to stop"));
        }
        work(&mut self.file).inspect_err(|cause| note(&self.trouble, &self.path, cause))
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let found = self.watch(|file| file.read(buffer))?;
        if let Some(read) = &self.read {
            read.fetch_add(found as u64, Ordering::Relaxed);
        }
        Ok(found)
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.watch(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watch(File::flush)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.watch(|file| file.seek(to))
    }
}
