//! The mark of damage: a look at every page of a store's file found some that were not as they had been written.
//!
//! ```text
//! note     `damaged`, synced, once a look found damage     crash before: the file is looked at again; half of it counts
//! keep     over restarts, whatever a later look finds      a page that is written anew gets a checksum that fits
//! end      a restore moves it aside, with the old file     what takes its place was verified
//! ```
//! While it stands the store serves, and is not copied: no verification says that it is whole, and backups, rewrites and
//! drafts refuse. Whoever has no backup and decides to live with what the file says removes `damaged` while no host is
//! running, or restores a backup that was made without verification: what was changed then stays as it is.
//! Never here: looking, and what is to be served.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::directory;
use crate::error::{Failure, OpenError};

/// The mark's file in a store's directory.
pub(crate) const MARK_FILE: &str = "damaged";

/// Whether a look at every page found damage, in this process or before.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// None where the rows are not in a directory of the store's own.
    path: Option<PathBuf>,
    found: RwLock<Option<Arc<str>>>,
}

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Unix milliseconds.
    at_ms: u64,
    /// What the look said.
    what: String,
}

impl Mark {
    /// The mark of a store's directory. One that cannot be understood stands all the same.
    ///
    /// # Errors
    /// [`OpenError::File`] when it is there and cannot be read.
    pub(crate) fn of(dir: &Path) -> Result<Mark, OpenError> {
        let path = dir.join(MARK_FILE);
        let found = match fs::read(&path) {
            Ok(bytes) => Some(found(&bytes).into()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(OpenError::File { path, cause }),
        };
        Ok(Mark { path: Some(path), found: RwLock::new(found) })
    }

    /// Refuses where damage was found.
    ///
    /// # Errors
    /// [`Failure::Damaged`], which says what.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.found.read().as_ref().map_or(Ok(()), |what| Err(refusal(what)))
    }

    /// Why a file did not open whose every page was looked at first; nothing unless that was damage.
    pub(crate) fn note_refused(&self, refused: &OpenError, at_ms: u64) {
        if let OpenError::Failed { cause, .. } = refused
            && cause.is_damage()
        {
            self.note(cause, at_ms);
        }
    }

    /// A look found this. The first that was found stays.
    pub(crate) fn note(&self, what: &Failure, at_ms: u64) {
        let mut found = self.found.write();
        if found.is_some() {
            return;
        }
        let what = match what {
            Failure::Damaged { why } => why.clone(),
            what => what.to_string(),
        };
        *found = Some(what.as_str().into());
        let Some(path) = &self.path else { return };
        if let Err(cause) = write(path, &Written { at_ms, what }) {
            tracing::error!(%cause, path = %path.display(), "that the file is damaged was not noted");
        }
    }
}

/// The mark of a store's directory, which is refused when it stands: for whoever makes another file of what is in it.
///
/// # Errors
/// [`OpenError::Failed`] with what was found, and [`OpenError::File`].
pub(crate) fn check(dir: &Path) -> Result<Mark, OpenError> {
    let mark = Mark::of(dir)?;
    mark.check().map_err(|cause| OpenError::Failed { dir: dir.into(), cause })?;
    Ok(mark)
}

/// What a mark's bytes say; half of one is all that a crash may leave.
fn found(bytes: &[u8]) -> String {
    serde_json::from_slice(bytes)
        .map_or_else(|_| "pages were not as they had been written".into(), |written: Written| written.what)
}

fn refusal(what: &str) -> Failure {
    let why = format!(
        "{what}, as a look at every page found; it may have been written anew since, so that no check sees it any more"
    );
    Failure::Damaged { why }
}

fn write(path: &Path, written: &Written) -> io::Result<()> {
    let mut file = directory::create(path)?;
    file.write_all(&serde_json::to_vec(written)?)?;
    directory::sync_file(&file, path)?;
    directory::sync_parent(path)
}
