//! Sealed segments on disk: `segments/00000017.segment` for one, `….tmp` for one that is being written.
//!
//! ```text
//! write     the whole file and its sync, a rename, a sync of the directory    crash: the file before, or none
//! remove    files that no segment in memory is of                             crash: done at the next start
//! ```
//! They save time and nothing else: whatever happens to them, a start is right without. So a failure here is a warning,
//! and a file that cannot be read is deleted and made again.
//! Never here: what is in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::directory;
use crate::id::ObjectId;
use crate::vectors::Sealed;

const DIR: &str = "segments";
const EXTENSION: &str = "segment";
/// A file past this is not ours.
const BYTES_MAX: u64 = 4 << 30;

/// The directory of a store's sealed segments.
pub(crate) struct SegmentFiles {
    /// None for a store in memory.
    dir: Option<PathBuf>,
    /// The number of the newest file.
    last: AtomicU64,
    /// There may be files that no segment is of.
    is_untidy: AtomicBool,
}

/// A segment that was read, and the number of its file.
pub(crate) type Read = (u64, Sealed);

impl SegmentFiles {
    /// Those of the store in a directory. Nothing is made before something is written.
    pub(crate) fn of(store: &Path) -> SegmentFiles {
        let dir = store.join(DIR);
        let last = numbers(&dir).into_iter().max().unwrap_or(0);
        SegmentFiles { is_untidy: AtomicBool::new(dir.is_dir()), dir: Some(dir), last: AtomicU64::new(last) }
    }

    /// Those of a store in memory: none, ever.
    pub(crate) fn none() -> SegmentFiles {
        SegmentFiles { dir: None, last: AtomicU64::new(0), is_untidy: AtomicBool::new(false) }
    }

    /// Whether segments are to be written.
    pub(crate) fn are_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether files may be there that no segment is of.
    pub(crate) fn are_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Acquire)
    }

    /// Every segment that can be read, the newest first. What cannot be is deleted.
    pub(crate) fn read_all(&self) -> Vec<Read> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let mut numbers = numbers(dir);
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        numbers.into_iter().filter_map(|number| self.read(number)).collect()
    }

    /// Writes a segment down durably; answers the number of its file.
    ///
    /// # Errors
    /// What the disk said; no file of that number is left.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<u64> {
        let Some(dir) = &self.dir else { return Err(io::ErrorKind::Unsupported.into()) };
        directory::make_all(dir)?;
        // The segments that it replaces have files.
        self.is_untidy.store(true, Ordering::Release);
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let path = path_of(dir, number);
        let temporary = path.with_extension("tmp");
        fail::fail_point!("store::segment-before-write");
        let written = write_synced(&temporary, bytes).and_then(|()| {
            fail::fail_point!("store::segment-before-rename");
            fs::rename(&temporary, &path)
        });
        fail::fail_point!("store::segment-after-rename");
        if let Err(cause) = written.and_then(|()| directory::sync(dir)) {
            let _ = fs::remove_file(&temporary);
            let _ = fs::remove_file(&path);
            return Err(cause);
        }
        Ok(number)
    }

    /// Deletes every file but these.
    pub(crate) fn keep(&self, kept: &[u64]) {
        let Some(dir) = &self.dir else { return };
        self.is_untidy.store(false, Ordering::Release);
        let is_kept = |path: &Path| number_of(path).is_some_and(|number| kept.contains(&number));
        for path in files(dir).into_iter().filter(|path| !is_kept(path)) {
            fail::fail_point!("store::segment-before-remove");
            remove(&path);
            fail::fail_point!("store::segment-after-remove");
        }
    }

    /// Deletes a file that is of no use.
    pub(crate) fn delete(&self, number: u64) {
        if let Some(dir) = &self.dir {
            remove(&path_of(dir, number));
        }
    }

    /// Whether a file names an object. Cost: reads all of them.
    pub(crate) fn name(&self, object: ObjectId) -> bool {
        let names = |sealed: &Sealed| sealed.rows.iter().any(|row| row.object == object);
        self.read_all().iter().any(|(_, sealed)| names(sealed))
    }

    fn read(&self, number: u64) -> Option<Read> {
        let path = path_of(self.dir.as_ref()?, number);
        let unread = |why: &dyn std::fmt::Display| {
            tracing::warn!(path = %path.display(), %why, "a sealed segment is of no use; it is deleted and made again");
            remove(&path);
            None
        };
        match read_bounded(&path) {
            Err(cause) => unread(&cause),
            Ok(bytes) => match Sealed::decode(&bytes) {
                Ok(sealed) => Some((number, sealed)),
                Err(why) => unread(&why),
            },
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read(path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    directory::sync_file(&file, path)
}

/// What stays is deleted at the next start.
fn remove(path: &Path) {
    if let Err(cause) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %cause, "a sealed segment was not deleted");
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.{EXTENSION}"))
}

fn numbers(dir: &Path) -> Vec<u64> {
    files(dir).iter().filter_map(|path| number_of(path)).collect()
}

/// The number of a sealed segment's file; none of one that is being written.
fn number_of(path: &Path) -> Option<u64> {
    let is_sealed = path.extension().is_some_and(|extension| extension == EXTENSION);
    path.file_stem().filter(|_| is_sealed)?.to_str()?.parse().ok()
}

/// Files that are ours: sealed segments and those that are being written.
fn files(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == EXTENSION || extension == "tmp")
    };
    let listed = fs::read_dir(dir).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).filter(is_ours).collect()
}
