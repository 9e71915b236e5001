//! Copies that a store keeps beside its directory before it becomes another: `<dir>.before-evolve-<time>`, a backup, and
//! `<dir>.before-restore-<time>`, the parts of the store that was replaced. Nobody removes them but their owner, so they
//! hold what was forgotten since.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::directory;
use crate::store::Store;

/// What a copy was kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeptFor {
    /// A script changed the store: a backup of what it was.
    Evolve,
    /// A backup was restored: the store that it took the place of.
    Restore,
}

/// A copy beside a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptCopy {
    /// Its directory.
    pub path: PathBuf,
    /// What it was kept for.
    pub kept_for: KeptFor,
    /// When it was kept, Unix milliseconds.
    pub at_ms: u64,
    /// Bytes of all files in it, as far as they may be read.
    pub bytes: u64,
}

impl KeptFor {
    const ALL: [KeptFor; 2] = [KeptFor::Evolve, KeptFor::Restore];

    fn infix(self) -> &'static str {
        match self {
            KeptFor::Evolve => ".before-evolve-",
            KeptFor::Restore => ".before-restore-",
        }
    }
}

impl Store {
    /// The copies beside the store in a directory, oldest first; none when there is no such directory. Whether they are
    /// whole is not looked at. Cost: a look at every file in them.
    ///
    /// # Errors
    /// What the directory that they are in answers.
    pub fn kept_copies(dir: &Path) -> io::Result<Vec<KeptCopy>> {
        let dir = match fs::canonicalize(dir) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found?,
        };
        let mut copies = Vec::new();
        for entry in fs::read_dir(directory::parent(&dir))? {
            let entry = entry?;
            let name = entry.file_name();
            let kept = name.to_str().and_then(|name| parse(&dir, name));
            if let Some((kept_for, at_ms)) = kept.filter(|_| entry.path().is_dir()) {
                let path = entry.path();
                copies.push(KeptCopy { bytes: bytes_below(&path), path, kept_for, at_ms });
            }
        }
        copies.sort_by(|one, other| (one.at_ms, &one.path).cmp(&(other.at_ms, &other.path)));
        Ok(copies)
    }
}

/// Where a copy of the store in a directory is kept.
pub(crate) fn place(dir: &Path, kept_for: KeptFor, at_ms: u64) -> io::Result<PathBuf> {
    let dir = fs::canonicalize(dir)?;
    let name = dir.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(dir.with_file_name(format!("{name}{}{at_ms}", kept_for.infix())))
}

/// What a name beside a directory says; none when it is not that of a copy.
pub(crate) fn parse(dir: &Path, name: &str) -> Option<(KeptFor, u64)> {
    let rest = name.strip_prefix(&*dir.file_name()?.to_string_lossy())?;
    KeptFor::ALL.into_iter().find_map(|kept_for| {
        let at_ms = rest.strip_prefix(kept_for.infix())?;
        let is_number = at_ms.bytes().all(|digit| digit.is_ascii_digit());
        Some((kept_for, at_ms.parse().ok().filter(|_| is_number)?))
    })
}

/// Bytes of all files below; links are not followed.
fn bytes_below(dir: &Path) -> u64 {
    let listed = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = listed.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    bytes.sum()
}
