//! Drafts: a store that nobody has open, changed in as many objects as need be by one commit, or not at all.
//!
//! ```text
//! begin    lock, a verified backup beside, a copy in objects.draft    crash after: the old file; the copy is thrown away
//! write    states of one position, in bounded transactions            the same: only the copy is written
//! seal     names, generations, audit, position; every invariant       the same
//! switch   the copy takes the file's name, directory synced           crash before: the old file; after: the new one
//! ```
//! A unit is bounded, so that it fits in memory and a commit; a draft is not, since nobody waits for it. Its states
//! stand at one position all the same: no other position shows half of them.
//! A *rehearsal* does the same over the store's file without changing a byte of it: what it writes stays in memory.
//! Never here: who asked for it, how the new states are made.

mod error;
mod raise;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::audit::Fact;
use crate::backend::{Backend, FileBackend, Overlay};
use crate::backup::{self, BackupOptions, BackupReport, at};
use crate::blob::Blobs;
use crate::copy;
use crate::database::{self, Database, Opening};
use crate::directory;
use crate::error::{Failure, Overflow};
use crate::generation::{self, Generations};
use crate::id::{ComponentId, Digest, ObjectId, ObjectName, Position};
use crate::kept::{self, KeptFor};
use crate::layout::OnOlder;
use crate::limit;
use crate::lock::DirectoryLock;
use crate::mark;
use crate::object::Object;
use crate::presence;
use crate::progress::{Meter, Phase, Progress};
use crate::record::ReleaseRecord;
use crate::store::{self, BLOBS_DIR, DATABASE_FILE, StoreOptions};
use crate::store_id::{self, StoreId};
use crate::switch;
use crate::tables::{GENERATIONS, META, META_POSITION, read_meta};
use crate::verify;

pub use error::DraftError;
pub use raise::DraftRaise;
pub use read::Changed;

use raise::Raising;

/// The copy that is worked on, in a store's directory.
const DRAFT_FILE: &str = "objects.draft";

/// How a draft is made.
#[derive(Clone, Debug, Default)]
pub struct DraftOptions {
    /// Nothing is written in the store's directory or beside it, and nothing will take its place; only the lock is
    /// taken, and a restore that was decided is finished first, since it decided what the store is. Default false.
    pub is_rehearsal: bool,
    /// Reads which generation a release knows; none when it cannot tell. Descriptors are not the store's business.
    /// With it no object is put in a generation that no release of its owner knows, and one that is made begins in
    /// that of the release that serves. Default none: every later generation is taken.
    pub generation_of: Option<fn(&ReleaseRecord) -> Option<u32>>,
    /// The clock and the page cache; the rest does not matter here.
    pub store: StoreOptions,
}

/// What the audit says of a draft.
#[derive(Clone, Debug)]
pub struct DraftFact {
    /// What kind of decision it was.
    pub kind: String,
    /// What it was about.
    pub subject: String,
    /// The rest.
    pub detail: Value,
    /// Digest of what carried state over, for the rows of generations that it put in force.
    pub evolver: Digest,
}

/// What a draft became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DraftReport {
    /// Its one commit.
    pub position: Position,
    /// The generations that it put in force, by component.
    pub raised: Vec<DraftRaise>,
    /// The store as it was, next to it; none of a rehearsal.
    pub backup: Option<BackupReport>,
}

/// A store being changed; see the module. Dropping it forgets the changes and removes the backup, which then holds
/// nothing that the store does not.
pub struct Draft {
    /// None once it is closed.
    database: Option<Database>,
    dir: PathBuf,
    blobs: Blobs,
    is_rehearsal: bool,
    backup: Option<BackupReport>,
    store: StoreId,
    base: Position,
    at_ms: u64,
    generations: Arc<Generations>,
    generation_of: Option<fn(&ReleaseRecord) -> Option<u32>>,
    /// The highest generation that is known, of owners that were asked for. Releases are not changed meanwhile.
    known: HashMap<ComponentId, Option<u32>>,
    /// The generation of the release that serves, likewise.
    serving: HashMap<ComponentId, Option<u32>>,
    /// Components of which an object was put in a later generation.
    raising: BTreeMap<ComponentId, Raising>,
    /// States that are not in the copy yet.
    pending: BTreeMap<ObjectId, Pending>,
    pending_bytes: usize,
    /// Bytes of all states put, each as often as it was.
    bytes: usize,
    /// Names bound or unbound; what they were before is what the base says.
    names: BTreeMap<ObjectName, Option<ObjectId>>,
    /// Those of them that stand for an object, by object.
    bound: HashMap<ObjectId, BTreeSet<ObjectName>>,
    made: u64,
    _lock: DirectoryLock,
}

/// A state to be written, and the one before the draft.
struct Pending {
    before: Option<Arc<Object>>,
    after: Arc<Object>,
}

impl Draft {
    /// Begins a draft of the store in a directory, which no process may have open; it stays locked meanwhile.
    ///
    /// Unless it is a rehearsal the store is backed up first, verified, in `<dir>.before-evolve-<time>`. Cost: reads
    /// and writes the store twice; the room of two more stores beside it. A rehearsal reads it once. A layout that is
    /// older is raised in the draft alone.
    ///
    /// # Errors
    /// [`DraftError`]; nothing was changed.
    pub fn begin(
        dir: &Path,
        options: &DraftOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Draft, DraftError> {
        let file = dir.join(DATABASE_FILE);
        at(&file, fs::metadata(dir))?;
        let lock = DirectoryLock::take(dir)?;
        if !options.is_rehearsal || switch::is_decided(dir) {
            switch::finish(dir)?;
        }
        let mark = mark::check(dir)?;
        presence::check(dir)?;
        at(&file, fs::metadata(&file))?;
        let at_ms = (options.store.clock)();
        let backend = Box::new(Overlay::new(file));
        let source = store::open_database(dir, backend, backup::whole(&options.store));
        let source = source.inspect_err(|refused| {
            if !options.is_rehearsal {
                mark.note_refused(refused, at_ms);
            }
        })?;
        if options.is_rehearsal {
            let blobs = blobs_there(dir)?;
            let mut draft = Draft::over(source, blobs, dir, lock, at_ms)?;
            draft.generation_of = options.generation_of;
            return Ok(draft);
        }
        let blobs = store::open_blobs(dir, u64::MAX)?;
        // Of a process that died over its draft.
        discard(dir);
        let home = at(dir, fs::canonicalize(dir))?;
        let to = at(dir, kept::place(&home, KeptFor::Evolve, at_ms))?;
        // Their names have a time, so no other backup would remove them.
        backup::discard_dead(directory::parent(&to), |of| kept::parse(&home, of).is_some());
        let copied = backup::Source { database: &source, blobs: &blobs, created_at_ms: at_ms };
        let backup = copied.back_up(&to, BackupOptions::default(), progress)?;
        fail::fail_point!("store::draft-backed-up");
        let copied = copy_to(dir, &source, options, progress);
        drop(source);
        let draft = copied.and_then(|copy| Draft::over(copy, blobs, dir, lock, at_ms));
        let mut draft = draft.inspect_err(|_| {
            discard(dir);
            remove_backup(&backup);
        })?;
        (draft.is_rehearsal, draft.backup) = (false, Some(backup));
        draft.generation_of = options.generation_of;
        Ok(draft)
    }

    /// The commit that the draft's states will have; the base's is the one before.
    pub fn position(&self) -> Position {
        self.base.next()
    }

    /// The backup; none of a rehearsal.
    pub fn backup(&self) -> Option<&BackupReport> {
        self.backup.as_ref()
    }

    /// Makes the draft the store, or ends the rehearsal: the generations that objects were put in come into force, an
    /// audit row states what was done, every invariant is checked, and the copy takes the store's place. Cost: reads
    /// the copy twice.
    ///
    /// # Errors
    /// [`DraftError`]; the store is as it was and no backup is kept, but for [`DraftError::Unsynced`]: then the draft
    /// took its place, and the backup is kept.
    pub fn seal(
        mut self,
        fact: DraftFact,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<DraftReport, DraftError> {
        let DraftFact { kind, subject, detail, evolver } = fact;
        let fact = Fact { kind, subject, detail };
        Overflow::check("bytes of one audit row", fact.bytes(), limit::AUDIT_BYTES_MAX)?;
        self.write_pending()?;
        let raised = self.judge_raises()?;
        self.write_rest(&fact, &raised, evolver)?;
        fail::fail_point!("store::draft-sealed");
        let problems = verify::verify_offline(self.database()?, &self.blobs, Ok(()), progress)?.problems;
        if !problems.is_empty() {
            return Err(DraftError::Unsound { dir: self.dir.clone(), problems });
        }
        let position = self.position();
        if self.is_rehearsal {
            return Ok(DraftReport { position, raised, backup: None });
        }
        let backup = self.switch(progress)?;
        Ok(DraftReport { position, raised, backup })
    }

    /// A draft in a database that holds the store's rows. A rehearsal, as far as it is known here.
    fn over(
        database: Database,
        blobs: Blobs,
        dir: &Path,
        lock: DirectoryLock,
        at_ms: u64,
    ) -> Result<Draft, DraftError> {
        let txn = database.read()?;
        let meta = txn.open_table(META).map_err(Failure::from)?;
        let (store, base) = (store_id::read(&meta)?, Position::new(read_meta(&meta, META_POSITION)?));
        let generations = Arc::new(Generations::read(&txn.open_table(GENERATIONS).map_err(Failure::from)?)?);
        drop((meta, txn));
        generation::drop_leftovers(&database, &generations)?;
        Ok(Draft {
            database: Some(database),
            dir: dir.into(),
            blobs,
            is_rehearsal: true,
            backup: None,
            store,
            base,
            at_ms,
            generations,
            generation_of: None,
            known: HashMap::new(),
            serving: HashMap::new(),
            raising: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            bytes: 0,
            names: BTreeMap::new(),
            bound: HashMap::new(),
            made: 0,
            _lock: lock,
        })
    }

    fn database(&self) -> Result<&Database, Failure> {
        self.database.as_ref().ok_or(Failure::Reopening)
    }

    /// The decision is one rename. The backup is kept from there on, whatever happens.
    fn switch(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Option<BackupReport>, DraftError> {
        let mut meter = Meter::new(progress);
        meter.begin(Phase::Switch, 1);
        // Closed before the rename: some systems do not rename an open file.
        self.database = None;
        let (draft, file) = (self.dir.join(DRAFT_FILE), self.dir.join(DATABASE_FILE));
        at(&draft, directory::sync_closed_file(&draft))?;
        fail::fail_point!("store::draft-before-switch");
        at(&file, fs::rename(&draft, &file))?;
        let backup = self.backup.take();
        let unsynced = |cause| {
            let backup = backup.as_ref().map(|backup| backup.path.clone()).unwrap_or_default();
            DraftError::Unsynced { dir: self.dir.clone(), backup, cause }
        };
        fail::fail_point!("store::draft-switched", |_| Err(unsynced(std::io::Error::other(
            "a test says so"
        ))));
        directory::sync(&self.dir).map_err(unsynced)?;
        meter.step(1);
        meter.end();
        Ok(backup)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Closed first: some systems do not remove an open file.
        self.database = None;
        if !self.is_rehearsal {
            discard(&self.dir);
        }
        if let Some(backup) = &self.backup {
            remove_backup(backup);
        }
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("dir", &self.dir)
            .field("is_rehearsal", &self.is_rehearsal)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// Throws away what a process that died left of a draft. The directory is locked by the caller.
pub(crate) fn discard(dir: &Path) {
    let _ = fs::remove_file(dir.join(DRAFT_FILE));
}

/// Copies every row into a file of its own, and opens that.
fn copy_to(
    dir: &Path,
    source: &Database,
    options: &DraftOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Database, DraftError> {
    let backend = FileBackend::new(dir.join(DRAFT_FILE));
    let place = at(&dir.join(DRAFT_FILE), backend.open())?;
    let target = database::create_on(place, options.store.cache_bytes)?;
    copy::copy(&source.read()?, &target, &mut Meter::new(progress))?;
    target.close().map_err(Failure::from)?;
    fail::fail_point!("store::draft-copied");
    let opening = Opening { on_older: OnOlder::Refuse, must_be_there: true, ..options.store.opening() };
    Ok(store::open_database(dir, Box::new(backend), opening)?)
}

/// The blobs that there are; an absent directory is not made.
fn blobs_there(dir: &Path) -> Result<Blobs, DraftError> {
    match dir.join(BLOBS_DIR).is_dir() {
        true => Ok(store::open_blobs(dir, u64::MAX)?),
        false => Ok(Blobs::in_memory(u64::MAX)),
    }
}

/// The store is as it was, so nobody needs its copy.
fn remove_backup(backup: &BackupReport) {
    let _ = fs::remove_dir_all(&backup.path);
}
