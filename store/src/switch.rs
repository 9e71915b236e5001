//! Switching a store's directory to a restored state. One durable marker decides; what remains is moving files, and
//! whoever opens the directory next finishes it.
//!
//! ```text
//! stage     restore-staged/{objects.redb, blobs}    crash after: thrown away when the store is opened
//! decide    restore-decided.json, durable           crash after: finished when the store is opened
//! move      each old part aside, each new part in   once moved, a part is no longer in the stage
//! end       marker removed, then the stage
//! ```
//! The directory itself and its lock stay where they are, so nobody opens it half-way.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::directory;
use crate::error::OpenError;
use crate::kept::{self, KeptFor};
use crate::mark::MARK_FILE;
use crate::store::{self, BLOBS_DIR, DATABASE_FILE};

const STAGE: &str = "restore-staged";
const DISCARDED: &str = "restore-discarded";
const MARKER: &str = "restore-decided.json";

#[derive(Serialize, Deserialize)]
struct Marker {
    /// The directory beside the store's that takes the old parts.
    aside: String,
}

/// Where the new parts of a directory's store are put before they are decided on.
pub(crate) fn stage(dir: &Path) -> PathBuf {
    dir.join(STAGE)
}

/// Makes an empty directory beside, and tries whether the store's parts can be moved there.
pub(crate) fn make_aside(dir: &Path, at_ms: u64) -> io::Result<PathBuf> {
    let aside = kept::place(dir, KeptFor::Restore, at_ms)?;
    directory::make_private(&aside)?;
    try_moving(dir, &aside).inspect_err(|_| drop(fs::remove_dir(&aside)))?;
    directory::sync_parent(&aside)?;
    Ok(aside)
}

/// Decides that the staged parts are the store, durably. An error is no decision, unless [`is_decided`].
pub(crate) fn decide(dir: &Path, aside: &Path) -> io::Result<()> {
    let decided = write_marker(dir, aside);
    if decided.is_err() {
        let _ = fs::remove_file(dir.join(MARKER)).and_then(|()| directory::sync(dir));
    }
    decided
}

/// Whether a decision stands that was not carried out.
pub(crate) fn is_decided(dir: &Path) -> bool {
    dir.join(MARKER).exists()
}

/// Throws the staged parts away, all at once: half a stage must never be moved.
pub(crate) fn discard(dir: &Path) -> io::Result<()> {
    let (stage, discarded) = (stage(dir), dir.join(DISCARDED));
    let remove = || if discarded.exists() { fs::remove_dir_all(&discarded) } else { Ok(()) };
    // Of an earlier one that was not removed whole.
    remove()?;
    if stage.exists() {
        fs::rename(&stage, &discarded)?;
    }
    remove()
}

/// Finishes what a restore decided, and throws away what one only staged. The directory is locked by the caller.
///
/// # Errors
/// [`OpenError::File`]; what was decided stays decided, and is finished the next time.
pub(crate) fn finish(dir: &Path) -> Result<(), OpenError> {
    let marker = dir.join(MARKER);
    if marker.exists() {
        move_parts(dir, &marker).map_err(|cause| OpenError::File { path: marker, cause })?;
    }
    discard(dir).map_err(|cause| OpenError::File { path: stage(dir), cause })
}

fn write_marker(dir: &Path, aside: &Path) -> io::Result<()> {
    let aside = aside.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    // In the stage, so that it goes with it.
    let temporary = stage(dir).join(MARKER);
    let mut file = directory::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&Marker { aside })?)?;
    directory::sync_file(&file, &temporary)?;
    fail::fail_point!("store::restore-before-decided");
    fs::rename(&temporary, dir.join(MARKER))?;
    directory::sync(dir)?;
    fail::fail_point!("store::restore-decided");
    Ok(())
}

fn move_parts(dir: &Path, marker: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    let (stage, aside) = (stage(&dir), aside_of(&dir, &fs::read(marker)?)?);
    for part in [DATABASE_FILE, BLOBS_DIR] {
        if stage.join(part).exists() {
            move_part(part, &dir, &stage, &aside)?;
        }
    }
    move_mark(&dir, &aside)?;
    fail::fail_point!("store::restore-moved");
    fs::remove_file(marker)?;
    directory::sync(&dir)?;
    fail::fail_point!("store::restore-ended");
    Ok(())
}

/// Where the old parts go: where the marker says, or a new place if it says nothing of use. That they go is decided by
/// its being there.
fn aside_of(dir: &Path, marker: &[u8]) -> io::Result<PathBuf> {
    let said = serde_json::from_slice(marker).ok().map(|Marker { aside }| aside);
    let named = said.filter(|aside| kept::parse(dir, aside).is_some());
    match named.map(|aside| dir.with_file_name(aside)).filter(|aside| aside.is_dir()) {
        Some(aside) => Ok(aside),
        None => {
            let aside = kept::place(dir, KeptFor::Restore, store::system_clock())?;
            directory::make_private(&aside)?;
            directory::sync_parent(&aside)?;
            Ok(aside)
        }
    }
}

fn move_part(part: &str, dir: &Path, stage: &Path, aside: &Path) -> io::Result<()> {
    let own = dir.join(part);
    if own.exists() {
        fs::rename(&own, aside.join(part))?;
        directory::sync(aside)?;
        directory::sync(dir)?;
        fail::fail_point!("store::restore-part-aside");
    }
    fs::rename(stage.join(part), &own)?;
    directory::sync(dir)?;
    fail::fail_point!("store::restore-part-moved");
    Ok(())
}

/// What says that the old file is damaged stays with it.
fn move_mark(dir: &Path, aside: &Path) -> io::Result<()> {
    let mark = dir.join(MARK_FILE);
    if mark.exists() {
        fs::rename(&mark, aside.join(MARK_FILE))?;
        directory::sync(aside)?;
        directory::sync(dir)?;
        fail::fail_point!("store::restore-mark-aside");
    }
    Ok(())
}

/// A directory that is a mount of its own lets nothing be moved beside it: better known before than half-way.
fn try_moving(dir: &Path, aside: &Path) -> io::Result<()> {
    let (probe, moved) = (dir.join("restore-probe"), aside.join("restore-probe"));
    File::create(&probe)?;
    fs::rename(&probe, &moved).inspect_err(|_| drop(fs::remove_file(&probe)))?;
    fs::remove_file(&moved)
}
