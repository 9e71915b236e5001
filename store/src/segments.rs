//! Sealed segments on disk: `segments/00000017.segment` for one, `….tmp` for one that is being written.
//!
//! ```text
//! begin     a number, before anything is copied for the file                  crash: nothing happened
//! write     the whole file and its sync, a rename, a sync of the directory    crash: the file before, or none
//! keep      files that no segment in memory is of are deleted                 crash: done at the next start
//! ```
//! They save time and nothing else: whatever happens to them, a start is right without. So a failure here is a warning,
//! and a file that cannot be read is one that no segment is of. One file is written at a time, and nobody but who
//! writes it deletes it.
//! Never here: what is in them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::directory;
use crate::id::ObjectId;
use crate::limit;
use crate::vectors::{Head, Sealed, Unreadable};

const DIR: &str = "segments";
const EXTENSION: &str = "segment";
const TEMPORARY: &str = "tmp";
/// A file past this is not ours.
const BYTES_MAX: u64 = 4 << 30;
/// A head is some hundred bytes.
const HEAD_BYTES: u64 = 16 * 1024;

/// The directory of a store's sealed segments.
pub(crate) struct SegmentFiles {
    /// None for a store in memory.
    dir: Option<PathBuf>,
    numbers: Mutex<Numbers>,
    /// There may be files that no segment is of.
    is_untidy: AtomicBool,
}

struct Numbers {
    /// That of the newest file.
    last: u64,
    being_written: Weak<Writing>,
}

/// A file that is being written: from before the first of its bytes is copied until its segment knows of it, or it is
/// deleted.
pub(crate) struct Writing {
    pub(crate) number: u64,
    /// All of it, as far as it was copied.
    pub(crate) bytes: RwLock<Vec<u8>>,
}

/// Which files are not to be deleted.
pub(crate) struct Kept {
    files: Vec<u64>,
    being_written: Option<u64>,
    /// What came later is not judged.
    last: u64,
}

impl SegmentFiles {
    /// Those of the store in a directory. Nothing is made before something is written.
    pub(crate) fn of(store: &Path) -> SegmentFiles {
        let dir = store.join(DIR);
        let last = files(&dir).iter().filter_map(|path| number_of(path)).max().unwrap_or(0);
        let numbers = Mutex::new(Numbers { last, being_written: Weak::new() });
        SegmentFiles { is_untidy: AtomicBool::new(dir.is_dir()), dir: Some(dir), numbers }
    }

    /// Those of a store in memory: none, ever.
    pub(crate) fn none() -> SegmentFiles {
        let numbers = Mutex::new(Numbers { last: 0, being_written: Weak::new() });
        SegmentFiles { dir: None, numbers, is_untidy: AtomicBool::new(false) }
    }

    /// Whether segments are to be written.
    pub(crate) fn are_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether files may be there that no segment is of.
    pub(crate) fn are_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Acquire)
    }

    /// Has files that no segment is of, and segments whose file is gone, looked for.
    pub(crate) fn suspect(&self) {
        self.is_untidy.store(true, Ordering::Release);
    }

    /// What every file that can be read begins with, the newest first. Nobody knows yet whether their checksums fit.
    pub(crate) fn read_heads(&self) -> Vec<(u64, Head)> {
        let mut numbers: Vec<u64> = self.sealed().iter().filter_map(|path| number_of(path)).collect();
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        let head = |number| Some((number, self.read(number, |path| decode(path, HEAD_BYTES, Head::decode))?));
        numbers.into_iter().filter_map(head).collect()
    }

    /// One segment; none when it cannot be read.
    pub(crate) fn read_one(&self, number: u64) -> Option<Sealed> {
        self.read(number, |path| decode(path, BYTES_MAX, Sealed::decode))
    }

    /// A number for the next file, which is given back by dropping it.
    pub(crate) fn begin(&self) -> Arc<Writing> {
        let mut numbers = self.numbers.lock();
        numbers.last += 1;
        let writing = Arc::new(Writing { number: numbers.last, bytes: RwLock::default() });
        numbers.being_written = Arc::downgrade(&writing);
        writing
    }

    /// Writes a file down durably. `try_room`: whether enough is left beside it.
    ///
    /// # Errors
    /// What the disk said; no file of that number is left.
    pub(crate) fn write(
        &self,
        writing: &Writing,
        try_room: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Err(io::ErrorKind::Unsupported.into()) };
        directory::make_all(dir)?;
        // The segments that it replaces have files.
        self.suspect();
        let path = path_of(dir, writing.number);
        let temporary = path.with_extension(TEMPORARY);
        fail::fail_point!("store::segment-before-write");
        let written =
            write_synced(&temporary, &writing.bytes.read()).and_then(|()| try_room()).and_then(|()| {
                fail::fail_point!("store::segment-before-rename");
                fs::rename(&temporary, &path)
            });
        fail::fail_point!("store::segment-after-rename");
        if let Err(cause) = written.and_then(|()| directory::sync(dir)) {
            let _ = fs::remove_file(&temporary);
            let _ = fs::remove_file(&path);
            return Err(cause);
        }
        Ok(())
    }

    /// Which files are to be kept: those of segments, and the one that is being written. Whoever asks holds the index
    /// that has the segments, so that what was being written is either of them.
    pub(crate) fn kept(&self, files: Vec<u64>) -> Kept {
        let numbers = self.numbers.lock();
        let being_written = numbers.being_written.upgrade().map(|writing| writing.number);
        Kept { files, being_written, last: numbers.last }
    }

    /// Deletes every other file.
    pub(crate) fn keep(&self, kept: &Kept) {
        let Some(dir) = &self.dir else { return };
        self.is_untidy.store(false, Ordering::Release);
        for path in files(dir).into_iter().filter(|path| !kept.has(path)) {
            fail::fail_point!("store::segment-before-remove");
            remove(&path);
            fail::fail_point!("store::segment-after-remove");
        }
    }

    /// Deletes a file that was written and is of no use.
    pub(crate) fn delete(&self, number: u64) {
        // An index that was read in between believes that it has it.
        self.suspect();
        if let Some(dir) = &self.dir {
            remove(&path_of(dir, number));
        }
    }

    /// Whether the file of a segment is not there any more.
    pub(crate) fn is_gone(&self, number: u64) -> bool {
        let path = self.dir.as_ref().map(|dir| path_of(dir, number));
        path.is_some_and(|path| {
            fs::metadata(path).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
        })
    }

    /// Whether a file names an object, one that is being written included. Cost: reads all of them, one at a time.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) fn names(&self, object: ObjectId) -> io::Result<bool> {
        let needle = object.to_bits().to_le_bytes();
        let writing = self.numbers.lock().being_written.upgrade();
        // Before the files: what is not named here is not in what it becomes.
        if writing.is_some_and(|writing| has(writing.bytes.read().as_slice(), &needle).unwrap_or(true)) {
            return Ok(true);
        }
        for path in self.dir.as_deref().map(files).unwrap_or_default() {
            match File::open(path).and_then(|file| has(file, &needle)) {
                Ok(false) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Ok(false)
    }

    fn sealed(&self) -> Vec<PathBuf> {
        let paths = self.dir.as_deref().map(files).unwrap_or_default();
        paths
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
            .collect()
    }

    /// None where it is not there, or of no use.
    fn read<T>(&self, number: u64, read: impl FnOnce(&Path) -> io::Result<T>) -> Option<T> {
        let path = path_of(self.dir.as_ref()?, number);
        match read(&path) {
            Ok(read) => Some(read),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "a sealed segment is of no use; its graph is built anew");
                None
            }
        }
    }
}

impl Kept {
    fn has(&self, path: &Path) -> bool {
        let is_kept =
            |number| self.files.contains(&number) || self.being_written == Some(number) || number > self.last;
        number_of(path).is_some_and(is_kept)
    }
}

/// Decodes what a file has, its first bytes only where it has more.
fn decode<T>(path: &Path, bytes_max: u64, decode: fn(&[u8]) -> Result<T, Unreadable>) -> io::Result<T> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if file.metadata()?.len() > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    file.take(bytes_max).read_to_end(&mut bytes)?;
    decode(&bytes).map_err(io::Error::other)
}

/// Whether bytes have some others among them. Reads a part at a time.
pub(crate) fn has(mut bytes: impl Read, needle: &[u8; 16]) -> io::Result<bool> {
    let mut part = vec![0; limit::GATHER_BYTES_MAX];
    let mut kept = 0;
    loop {
        let read = match bytes.read(&mut part[kept..]) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let found = &part[..kept + read];
        if found.windows(needle.len()).any(|found| found == needle) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // It may lie across two parts.
        let end = found.len();
        kept = end.min(needle.len() - 1);
        part.copy_within(end - kept..end, 0);
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = directory::create(path)?;
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

/// The number of a sealed segment's file, or of one that is being written.
fn number_of(path: &Path) -> Option<u64> {
    // One past that was given by nobody.
    path.file_stem()?.to_str()?.parse().ok().filter(|number| *number < u64::MAX / 2)
}

/// Files that are ours: sealed segments and those that are being written.
fn files(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == EXTENSION || extension == TEMPORARY)
    };
    let listed = fs::read_dir(dir).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).filter(is_ours).collect()
}
