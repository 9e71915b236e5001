//! Backups: a whole store in a directory of its own, as one commit left it.
//!
//! ```text
//! look                every page of the source, so that the copy gives no damage a new checksum
//! <to>.partial-...    rows as one snapshot has them, then the blobs they name, each synced
//! MANIFEST.json       last: what is there, with checksums
//! verify              read back without changing a byte: checksums, pages, every invariant
//! rename to <to>      whole or not at all; a crash before leaves a directory that says `partial`, which the next
//!                     backup to the same place removes
//! ```
//! Commits go on meanwhile; blobs are not collected. The snapshot keeps its pages, so the source's file may grow by
//! what is written meanwhile. The copy is written afresh: it holds nothing of what was forgotten.

mod check;
mod manifest;
mod partial;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::ReadTransaction;
use serde::Serialize;

use crate::backend::{Backend, FileBackend, Overlay};
use crate::blob::Blobs;
use crate::copy;
use crate::damage;
use crate::database::{self, Database, Opening};
use crate::directory;
use crate::error::{BlobError, Failure, Fault, OpenError};
use crate::id::{Digest, Position};
use crate::layout::OnOlder;
use crate::lock::DirectoryLock;
use crate::mark::{self, Mark};
use crate::pages;
use crate::presence;
use crate::progress::{Meter, Phase, Progress};
use crate::scan::Scan as _;
use crate::store::{self, BLOBS_DIR, DATABASE_FILE, Store, StoreOptions};
use crate::store_id::{self, StoreId};
use crate::switch;
use crate::tables::{BLOBS, META, META_OBJECTS, META_POSITION, read_meta};

pub(crate) use check::{blobs_of, files as check_files};
pub(crate) use manifest::{BlobEntry, Manifest};
pub(crate) use partial::{backup_of, discard_dead};

use partial::Partial;

/// redb's page cache while a backup is written.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Problems told by one error.
const PROBLEMS_TOLD: usize = 3;

/// How a backup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// Whether every page of an open store is looked at first, and the copy read back and every invariant checked before
    /// it gets its name; a store in which a look found damage is then refused. Default true. Without it a store that is
    /// damaged already can still be copied, with what the damage made of it.
    pub verify: bool,
}

impl Default for BackupOptions {
    fn default() -> BackupOptions {
        BackupOptions { verify: true }
    }
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Its directory.
    pub path: PathBuf,
    /// The store that it is a copy of.
    pub store: StoreId,
    /// The layout of its tables.
    pub layout: u64,
    /// The newest commit in it; everything up to there is in it, and nothing after.
    pub position: Position,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// Objects.
    pub objects: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of its database file.
    pub database_bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Whether every row was checked.
    pub is_verified: bool,
}

/// Why a backup was not made, or is not to be trusted. The store it was to be made of is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is something already.
    #[error("{} exists and is not an empty directory; choose another place", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file could not be written or read.
    #[error("{}: {cause}; mend that and try again", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// The rows could not be read or written.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A blob could not be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A blob that rows name is not there.
    #[error("{}: blob {digest} is missing; take another backup, or install the release again", dir.display())]
    BlobMissing {
        /// Where it should be.
        dir: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// There is no manifest.
    #[error("{} is not a finished backup: it has no MANIFEST.json; choose another one", dir.display())]
    NotABackup {
        /// The directory.
        dir: PathBuf,
    },
    /// It was written by a newer host.
    #[error("{} is a backup of format {found}, this host knows up to {known}; use a newer host", dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: u64,
        /// The newest that this code reads.
        known: u64,
    },
    /// Its tables were written by a newer host.
    #[error("{} has layout generation {found}, this host knows up to {known}; use a newer host", dir.display())]
    NewerLayout {
        /// The directory.
        dir: PathBuf,
        /// The layout found.
        found: u64,
        /// The newest that this code reads.
        known: u64,
    },
    /// Its bytes are not the ones that were written.
    #[error("{}: damaged: {why}; choose another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Its rows break invariants.
    #[error("{}: {} problems, first {}; see `telos store verify`", path.display(), problems.len(), first(problems))]
    Unsound {
        /// The store or backup.
        path: PathBuf,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
}

impl BackupError {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            BackupError::Open(cause) => cause.fault(),
            BackupError::Blob(cause) => cause.fault(),
            BackupError::Failed(_) => Fault::Host,
            _ => Fault::Operator,
        }
    }
}

impl Store {
    /// Copies the whole store into a new directory, as of its newest commit, while commits go on.
    ///
    /// `to` must not exist, or be empty; its parents are made. Cost: reads every row and blob once, twice with
    /// verification, and then every page before; the room of a second store. A rewrite waits and blob collection is
    /// postponed meanwhile, so `progress` must not ask for a rewrite or a verification.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is then at `to`.
    pub fn backup(
        &self,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, BackupError> {
        let shared = self.shared();
        let _whole = shared.whole.read();
        check_free(to)?;
        if options.verify {
            pages::check(shared, progress)?;
        }
        let source =
            Source { database: &shared.database, blobs: &shared.blobs, created_at_ms: shared.now_ms() };
        source.back_up(to, options, progress).inspect_err(|error| {
            if let BackupError::Failed(failure) = error {
                // What failed may be where it was written to.
                shared.suspect(failure);
            }
        })
    }

    /// Copies the store in a directory that no process has open. Its database is only read: an older layout is raised
    /// in the copy alone, and what a crash left is repaired there alone.
    ///
    /// # Errors
    /// As [`Store::backup`]; [`OpenError::InUse`] when a process has it open.
    pub fn backup_offline(
        dir: &Path,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, BackupError> {
        let file = dir.join(DATABASE_FILE);
        at(&file, fs::metadata(dir))?;
        let _lock = DirectoryLock::take(dir)?;
        switch::finish(dir)?;
        let mark = if options.verify { mark::check(dir)? } else { Mark::of(dir)? };
        presence::check(dir)?;
        at(&file, fs::metadata(&file))?;
        let defaults = StoreOptions::default();
        let database = store::open_database(dir, Box::new(Overlay::new(file)), whole(&defaults));
        let database = database.inspect_err(|refused| mark.note_refused(refused, (defaults.clock)()))?;
        let blobs = store::open_blobs(dir, u64::MAX)?;
        let source = Source { database: &database, blobs: &blobs, created_at_ms: (defaults.clock)() };
        source.back_up(to, options, progress)
    }

    /// Reads a backup back: its checksums, its pages and every invariant. Changes nothing in it.
    ///
    /// # Errors
    /// [`BackupError`], which says what is wrong with it.
    pub fn check_backup(
        from: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, BackupError> {
        let manifest = Manifest::read(from)?;
        check(from, &manifest, progress)?;
        Ok(report(from, &manifest, true))
    }
}

/// Opens what is there already, every page first, and raises it.
pub(crate) fn whole(options: &StoreOptions) -> Opening {
    Opening { is_checked: true, on_older: OnOlder::Raise, must_be_there: true, ..options.opening() }
}

/// What is copied.
pub(crate) struct Source<'a> {
    pub(crate) database: &'a Database,
    pub(crate) blobs: &'a Blobs,
    pub(crate) created_at_ms: u64,
}

impl Source<'_> {
    /// Copies it into a new directory, whole or not at all.
    pub(crate) fn back_up(
        &self,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, BackupError> {
        check_free(to)?;
        let name = to.file_name().and_then(|name| name.to_str());
        discard_dead(directory::parent(to), |of| Some(of) == name);
        let partial = Partial::make(to)?;
        fail::fail_point!("store::backup-made");
        let manifest = damage::guard(|| self.write(&partial.path, &mut Meter::new(progress)))?;
        if options.verify {
            check(&partial.path, &manifest, progress)?;
        }
        fail::fail_point!("store::backup-before-rename");
        partial.rename(to)?;
        fail::fail_point!("store::backup-after-rename");
        Ok(report(to, &manifest, options.verify))
    }

    fn write(&self, dir: &Path, meter: &mut Meter<'_>) -> Result<Manifest, BackupError> {
        let txn = self.database.read()?;
        let mut manifest = begin_manifest(&txn, self.created_at_ms)?;
        let file = dir.join(DATABASE_FILE);
        manifest.rows = copy_rows(&txn, &file, meter)?;
        fail::fail_point!("store::backup-copied");
        let named = named_blobs(&txn)?;
        // From here on the source may reuse the snapshot's pages.
        drop(txn);
        manifest.blobs = self.copy_blobs(&named, dir, meter)?;
        let expected = at(&file, fs::metadata(&file))?.len();
        manifest.database = check::checksum(&file, expected, meter)?;
        manifest.write(dir)?;
        fail::fail_point!("store::backup-manifest");
        at(dir, directory::sync(dir))?;
        Ok(manifest)
    }

    fn copy_blobs(
        &self,
        named: &[Digest],
        dir: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<BlobEntry>, BackupError> {
        let path = dir.join(BLOBS_DIR);
        at(&path, directory::make_private(&path))?;
        let target = blobs_of(dir)?;
        meter.begin(Phase::CopyBlobs, named.len() as u64);
        let copied = named.iter().map(|digest| {
            let Some(bytes) = self.blobs.get(digest)? else {
                return Err(BackupError::BlobMissing { dir: "the store".into(), digest: *digest });
            };
            target.put(&bytes, self.created_at_ms)?;
            fail::fail_point!("store::backup-blob");
            meter.step(1);
            Ok(BlobEntry { digest: *digest, bytes: bytes.len() as u64 })
        });
        let copied = copied.collect::<Result<Vec<_>, _>>()?;
        at(&path, directory::sync(&path))?;
        meter.end();
        Ok(copied)
    }
}

/// The manifest that a backup of a store's directory would have, which nobody has open. Its pages are checked, its rows
/// are not. `created_at_ms` in it is when the database was last written to. Cost: reads the database and every blob.
pub(crate) fn describe(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, BackupError> {
    let file = dir.join(DATABASE_FILE);
    let written = at(&file, fs::metadata(&file).and_then(|found| found.modified()))?;
    let backend = Box::new(Overlay::new(&file));
    let database = store::open_database(dir, backend, whole(&StoreOptions::default()))?;
    let mut meter = Meter::new(progress);
    damage::guard(|| {
        let txn = database.read()?;
        let mut manifest = begin_manifest(&txn, store::unix_ms(written))?;
        manifest.rows = copy::count(&txn)?;
        manifest.blobs = describe_blobs(dir, &named_blobs(&txn)?, &mut meter)?;
        manifest.database = check::checksum(&file, at(&file, fs::metadata(&file))?.len(), &mut meter)?;
        Ok(manifest)
    })
}

fn describe_blobs(
    dir: &Path,
    named: &[Digest],
    meter: &mut Meter<'_>,
) -> Result<Vec<BlobEntry>, BackupError> {
    let blobs = blobs_of(dir)?;
    meter.begin(Phase::Blobs, named.len() as u64);
    let described = named.iter().map(|digest| {
        let missing = || BackupError::BlobMissing { dir: dir.into(), digest: *digest };
        let bytes = blobs.get(digest)?.ok_or_else(missing)?.len() as u64;
        meter.step(1);
        Ok(BlobEntry { digest: *digest, bytes })
    });
    let described = described.collect::<Result<Vec<_>, BackupError>>()?;
    meter.end();
    Ok(described)
}

/// What is known of a copy before its first row.
fn begin_manifest(txn: &ReadTransaction, created_at_ms: u64) -> Result<Manifest, BackupError> {
    let meta = txn.open_table(META).map_err(failed)?;
    let position = Position::new(read_meta(&meta, META_POSITION)?);
    let mut manifest = Manifest::of(store_id::read(&meta)?, position, created_at_ms);
    manifest.objects = read_meta(&meta, META_OBJECTS)?;
    Ok(manifest)
}

/// Copies all rows into a new, synced file.
fn copy_rows(txn: &ReadTransaction, file: &Path, meter: &mut Meter<'_>) -> Result<u64, BackupError> {
    let place = at(file, FileBackend::new(file).open())?;
    let target = database::create_on(place, CACHE_BYTES)?;
    let rows = copy::copy(txn, &target, meter)?;
    target.close().map_err(Failure::from)?;
    at(file, directory::sync_closed_file(file))?;
    Ok(rows)
}

fn named_blobs(txn: &ReadTransaction) -> Result<Vec<Digest>, BackupError> {
    let blobs = txn.open_table(BLOBS).map_err(failed)?;
    let rows = blobs.rows().map_err(failed)?;
    let digests = rows.map(|row| Ok(Digest::from_bytes(*row?.0.value())));
    digests.collect::<Result<_, Failure>>().map_err(BackupError::Failed)
}

fn check(dir: &Path, manifest: &Manifest, progress: &mut dyn FnMut(Progress)) -> Result<(), BackupError> {
    check::files(dir, manifest, progress)?;
    let problems = check::rows(dir, manifest, progress)?.problems;
    if problems.is_empty() { Ok(()) } else { Err(BackupError::Unsound { path: dir.into(), problems }) }
}

fn check_free(to: &Path) -> Result<(), BackupError> {
    let is_free = match fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_none(),
        Err(cause) => cause.kind() == io::ErrorKind::NotFound,
    };
    if is_free { Ok(()) } else { Err(BackupError::Exists { path: to.into() }) }
}

fn report(path: &Path, manifest: &Manifest, is_verified: bool) -> BackupReport {
    BackupReport {
        path: path.into(),
        store: manifest.store,
        layout: manifest.layout,
        position: manifest.position,
        created_at_ms: manifest.created_at_ms,
        objects: manifest.objects,
        rows: manifest.rows,
        database_bytes: manifest.database.bytes,
        blobs: manifest.blobs.len() as u64,
        blob_bytes: manifest.blob_bytes(),
        is_verified,
    }
}

pub(crate) fn first(problems: &[String]) -> String {
    problems.iter().take(PROBLEMS_TOLD).cloned().collect::<Vec<_>>().join("; ")
}

fn failed(cause: impl Into<Failure>) -> BackupError {
    BackupError::Failed(cause.into())
}

pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, BackupError> {
    result.map_err(|cause| BackupError::File { path: path.into(), cause })
}
