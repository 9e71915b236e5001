//! Restoring: a store's directory becomes what a backup holds; what was there is kept beside it.
//!
//! ```text
//! check     manifest and checksums of the backup, or the      nothing was touched yet
//!           pages and blobs of a store's directory
//! lock      the directory, which no host may have open        another store is not replaced unless told to
//! stage     a copy inside the directory, raised, verified     crash after: thrown away at the next opening
//! decide    one durable marker, see `switch`                  crash after: finished at the next opening
//! move      old parts to <into>.before-restore-<time>
//! ```
//! A restore is a fact: it writes an audit row, in a commit of its own, into what it restores.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, AuditRow, Fact, OBJECT_FORGOTTEN};
use crate::backend::{FileBackend, Overlay};
use crate::backup::{self, BackupError, Manifest, at, blobs_of};
use crate::blob::Blobs;
use crate::damage;
use crate::database::Database;
use crate::directory;
use crate::error::{Failure, Fault, OpenError};
use crate::id::{ObjectId, Position};
use crate::lock::DirectoryLock;
use crate::mark;
use crate::progress::{Meter, Phase, Progress};
use crate::scan::Scan as _;
use crate::store::{self, BLOBS_DIR, DATABASE_FILE, Store, StoreOptions};
use crate::store_id::{self, StoreId};
use crate::switch;
use crate::tables::{self, AUDIT, META, META_POSITION, OBJECTS, Tables};
use crate::verify;

/// How a backup is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Replaces a store of another home, or one whose identity cannot be read, and takes a backup whose rows break
    /// invariants. Damaged bytes are never taken. Default false.
    pub force: bool,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The store restored.
    pub store: StoreId,
    /// The newest commit in it: the backup's, one for each layout that it was raised by, and the restore's own.
    pub position: Position,
    /// The newest commit in the backup.
    pub backup_position: Position,
    /// Objects.
    pub objects: u64,
    /// Rows of all tables in the backup.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Where the replaced store is kept; none when there was none.
    pub replaced: Option<PathBuf>,
    /// Objects of the backup that the replaced store had forgotten, and that are back; none where that store could not
    /// be read.
    pub forgotten_back: Option<u64>,
    /// What is wrong with the rows; empty unless the restore was forced.
    pub problems: Vec<String>,
}

/// Why a backup was not restored. Before the decision the target is untouched; after it, which only
/// [`RestoreError::Unfinished`] says, the next opening finishes the restore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup is not to be trusted, or could not be copied.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The target is in use, or could not be locked.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The target is the store of another home.
    #[error(
        "{} holds {}, the backup is of store {backup}; restore elsewhere, or force it: the old one is kept beside",
        into.display(),
        held(*found)
    )]
    OtherStore {
        /// The target.
        into: PathBuf,
        /// Its store; none when that cannot be read.
        found: Option<StoreId>,
        /// The store that the backup is of.
        backup: StoreId,
    },
    /// The switch was decided and could not be carried out.
    #[error("{}: the restore is decided but not finished; mend this and open the store", into.display())]
    Unfinished {
        /// The target.
        into: PathBuf,
        /// What went wrong.
        #[source]
        cause: OpenError,
    },
}

impl RestoreError {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            RestoreError::Backup(cause) => cause.fault(),
            RestoreError::Open(cause) | RestoreError::Unfinished { cause, .. } => cause.fault(),
            RestoreError::OtherStore { .. } => Fault::Operator,
        }
    }
}

impl From<Failure> for RestoreError {
    fn from(cause: Failure) -> RestoreError {
        RestoreError::Backup(cause.into())
    }
}

impl Store {
    /// Whether a restore was decided in a directory and has not ended, since its process died: opening the store
    /// finishes it.
    pub fn is_restore_decided(dir: &Path) -> bool {
        switch::is_decided(dir)
    }

    /// Makes the store in the directory `into` what the backup `from` holds; makes the directory when it is absent.
    /// `from` may also be the directory of a store that nobody has open, as an earlier restore kept it: one with a
    /// database and without a manifest.
    ///
    /// Cost: reads the backup twice and its copy once, and every page of the store that is replaced once; the room of a
    /// second store. Clients that were acknowledged
    /// after the backup was made are not: their effects are in the store kept beside.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        from: &Path,
        into: &Path,
        options: RestoreOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RestoreReport, RestoreError> {
        let (manifest, _still) = read(from, progress)?;
        at(into, directory::make_all(into))?;
        let _lock = DirectoryLock::take(into)?;
        switch::finish(into)?;
        let current = Current::of(into);
        check_identity(into, &current, &manifest, options)?;
        let staged = Stage { path: switch::stage(into) }.fill(from, &current, &manifest, options, progress);
        // Closed before its file is moved: some systems do not move an open one.
        drop(current);
        let switched = staged.and_then(|staged| {
            fail::fail_point!("store::restore-staged");
            Ok((staged, switch_to_staged(into, progress)?))
        });
        if switched.is_err() && !switch::is_decided(into) {
            // Removed at the next opening at the latest.
            let _ = switch::discard(into);
        }
        let (staged, replaced) = switched?;
        Ok(RestoreReport {
            store: manifest.store,
            position: staged.position,
            backup_position: manifest.position,
            objects: manifest.objects,
            rows: manifest.rows,
            blobs: manifest.blobs.len() as u64,
            replaced,
            forgotten_back: staged.forgotten_back,
            problems: staged.problems,
        })
    }
}

/// What is to be restored: described by its manifest and checked against it, or looked at and locked.
fn read(
    from: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Manifest, Option<DirectoryLock>), RestoreError> {
    match Manifest::read(from) {
        Err(BackupError::NotABackup { .. }) if is_store(from) => {
            let lock = DirectoryLock::take(from)?;
            switch::finish(from)?;
            mark::check(from)?;
            Ok((backup::describe(from, progress)?, Some(lock)))
        }
        manifest => {
            let manifest = manifest?;
            backup::check_files(from, &manifest, progress)?;
            Ok((manifest, None))
        }
    }
}

/// Whether a directory is a store's, and not a backup whose process died.
fn is_store(dir: &Path) -> bool {
    let name = dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    dir.join(DATABASE_FILE).is_file() && backup::backup_of(&name).is_none()
}

/// The copy inside the target.
struct Stage {
    path: PathBuf,
}

struct Staged {
    position: Position,
    forgotten_back: Option<u64>,
    problems: Vec<String>,
}

impl Stage {
    /// Copies, raises and checks the backup, and writes down that it was restored.
    fn fill(
        &self,
        from: &Path,
        current: &Current,
        manifest: &Manifest,
        options: RestoreOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Staged, RestoreError> {
        let file = self.path.join(DATABASE_FILE);
        at(&self.path, directory::make_private(&self.path))?;
        at(&file, copy_bytes(&from.join(DATABASE_FILE), &file))?;
        fail::fail_point!("store::restore-copied");
        let blobs = self.copy_blobs(from, manifest, progress)?;
        let defaults = StoreOptions::default();
        let backend = Box::new(FileBackend::new(file.clone()));
        let database = store::open_database(&self.path, backend, backup::whole(&defaults))?;
        let problems = verify::verify_offline(&database, &blobs, Ok(()), progress)?.problems;
        if !problems.is_empty() && !options.force {
            return Err(BackupError::Unsound { path: from.into(), problems }.into());
        }
        let forgotten_back = forgotten_back(current, &database);
        let position = write_down(&database, manifest, (defaults.clock)())?;
        drop(database);
        at(&file, directory::sync_closed_file(&file))?;
        at(&self.path, directory::sync(&self.path))?;
        Ok(Staged { position, forgotten_back, problems })
    }

    fn copy_blobs(
        &self,
        from: &Path,
        manifest: &Manifest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Blobs, BackupError> {
        let path = self.path.join(BLOBS_DIR);
        at(&path, directory::make_private(&path))?;
        let (source, target) = (blobs_of(from)?, blobs_of(&self.path)?);
        let mut meter = Meter::new(progress);
        meter.begin(Phase::CopyBlobs, manifest.blobs.len() as u64);
        for blob in &manifest.blobs {
            let missing = || BackupError::BlobMissing { dir: from.into(), digest: blob.digest };
            target.put(&source.get(&blob.digest)?.ok_or_else(missing)?, 0)?;
            fail::fail_point!("store::restore-blob");
            meter.step(1);
        }
        at(&path, directory::sync(&path))?;
        meter.end();
        Ok(target)
    }
}

/// Copies bytes alone: a backup may be marked read-only, and its copy must not be.
fn copy_bytes(from: &Path, to: &Path) -> io::Result<u64> {
    let mut to = directory::private().write(true).create_new(true).open(to)?;
    io::copy(&mut File::open(from)?, &mut to)
}

/// From the decision on there is no way back, and none is needed.
fn switch_to_staged(
    into: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<PathBuf>, RestoreError> {
    let mut meter = Meter::new(progress);
    meter.begin(Phase::Switch, 1);
    let aside = at(into, switch::make_aside(into, store::system_clock()))?;
    if let Err(cause) = at(into, switch::decide(into, &aside))
        && !switch::is_decided(into)
    {
        let _ = fs::remove_dir(&aside);
        return Err(cause.into());
    }
    switch::finish(into).map_err(|cause| RestoreError::Unfinished { into: into.into(), cause })?;
    meter.step(1);
    meter.end();
    // There was nothing to keep when it is still empty.
    Ok(if fs::remove_dir(&aside).is_ok() { None } else { Some(aside) })
}

/// The store that is replaced, opened without a change to it.
enum Current {
    /// There is none.
    Absent,
    /// It cannot be read.
    Unreadable,
    Open(Box<Database>),
}

impl Current {
    /// Cost: reads every page.
    fn of(into: &Path) -> Current {
        let file = into.join(DATABASE_FILE);
        if !fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
            return Current::Absent;
        }
        let backend = Box::new(Overlay::new(file));
        store::open_database(into, backend, backup::whole(&StoreOptions::default()))
            .map_or(Current::Unreadable, |database| Current::Open(Box::new(database)))
    }
}

fn check_identity(
    into: &Path,
    current: &Current,
    manifest: &Manifest,
    options: RestoreOptions,
) -> Result<(), RestoreError> {
    let found = match current {
        Current::Absent => return Ok(()),
        Current::Unreadable => None,
        Current::Open(database) => identity(database),
    };
    if options.force || found == Some(manifest.store) {
        return Ok(());
    }
    Err(RestoreError::OtherStore { into: into.into(), found, backup: manifest.store })
}

/// Which store a database is; none when that cannot be told.
fn identity(database: &Database) -> Option<StoreId> {
    damage::guard(|| -> Result<StoreId, Failure> { store_id::read(&database.read()?.open_table(META)?) }).ok()
}

/// How many objects the backup brings back that the store which is replaced has forgotten since. An id is given once, so
/// whoever is in both was forgotten later than the backup was made.
///
/// Cost: reads that store's audit, and looks a row up for each object that was forgotten.
fn forgotten_back(current: &Current, staged: &Database) -> Option<u64> {
    let current = match current {
        Current::Absent => return Some(0),
        Current::Unreadable => return None,
        Current::Open(current) => current,
    };
    let count = || -> Result<u64, Failure> {
        let objects = staged.read()?.open_table(OBJECTS)?;
        let mut back = 0;
        for id in forgotten(current)? {
            let at = tables::read_object_position(&objects, id, Position::new(u64::MAX))?;
            back += u64::from(at != Position::NONE);
        }
        Ok(back)
    };
    damage::guard(count).ok()
}

/// The objects that a store's audit says were forgotten, each once: others may have written rows of that kind too.
fn forgotten(database: &Database) -> Result<HashSet<ObjectId>, Failure> {
    let audit = database.read()?.open_table(AUDIT)?;
    let mut forgotten = HashSet::new();
    for row in audit.rows()? {
        let row: AuditRow = tables::decode_json("audit", row?.1.value())?;
        forgotten.extend(row.subject.parse::<ObjectId>().ok().filter(|_| row.kind == OBJECT_FORGOTTEN));
    }
    Ok(forgotten)
}

/// The restore's own commit.
fn write_down(database: &Database, manifest: &Manifest, at_ms: u64) -> Result<Position, Failure> {
    let txn = database.write()?;
    let mut tables = Tables::of(&txn);
    let position = Position::new(tables::add_to_meta(&mut tables, META_POSITION, 1)?);
    let detail = json!({ "position": manifest.position, "created_at_ms": manifest.created_at_ms });
    let fact = Fact { kind: "store.restored".into(), subject: "store".into(), detail };
    audit::write(&mut tables, &fact, position, at_ms)?;
    drop(tables);
    txn.commit()?;
    Ok(position)
}

fn held(found: Option<StoreId>) -> String {
    found.map_or_else(|| "a store that cannot be read".into(), |id| format!("store {id}"))
}
