//! The journal as the host holds it, and the producers it hands out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::bucket::Rate;
use crate::clock::{Clock, SystemClock};
use crate::disk::{Disk, SystemDisk};
use crate::error::{JournalError, at};
use crate::intake::{Bounds, Intake, JournalStats};
use crate::line::{AuditFact, LINE_BYTES_MAX, Line};
use crate::recovery::{self, Found};
use crate::shelf::Shelf;
use crate::writer::{REASON_REPLACED, REASON_RESTORED, Writer};

/// The journal's part of the host's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// A file this long becomes a backup. Default 64 MiB: a few days of an ordinary host, and quick to search.
    pub file_bytes_max: u64,
    /// Backups kept beside the current file. Default 5.
    pub backups: usize,
    /// Lines in memory, waiting for the writer. Default 65,536: a third of a second at 200,000 lines a second.
    pub queue_lines_max: usize,
    /// Their bytes. Default 16 MiB.
    pub queue_bytes_max: usize,
    /// Ordinary lines are synced this long after their write. Default 400 ms, so that it is done within 500.
    pub sync_after_ms: u64,
    /// How long `record_facts` and `flush` wait for the disk. Default 30,000 ms.
    pub wait_ms_max: u64,
}

/// The audit that a journal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditAtHand {
    /// The number of its newest row; 0 when it has none.
    pub newest: u64,
    /// The last row before its newest restore; none when it knows of none.
    pub restored_after: Option<u64>,
    /// When that restore was, Unix milliseconds: it explains what the journal lacks only if the journal has no line since.
    pub restored_at_ms: u64,
    /// The newest commit of the store that it is in.
    pub position: u64,
}

/// The store is older than what this journal knows of it, and knows of no restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetBack {
    /// Audit rows that the journal has shown, and that are gone.
    pub missing: u64,
    /// The newest position that the journal knows of; none where only an earlier version wrote it.
    pub known_position: Option<u64>,
    /// The newest commit of the store as it was found.
    pub position: u64,
}

/// What the journal stands on; tests bring their own.
#[derive(Clone)]
pub struct Surroundings {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The files.
    pub disk: Arc<dyn Disk>,
}

/// The one journal of a host. Dropping it writes what is queued and ends the writer.
pub struct Journal {
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    wait_max: Duration,
    set_back: Option<SetBack>,
    /// The thread, and the lock, which ends when its file is closed.
    writer: Mutex<Option<(JoinHandle<()>, File)>>,
}

/// Someone who says lines. Cheap to clone; clones and further producers of the same name share one budget.
#[derive(Clone)]
pub struct Producer {
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    account: usize,
}

impl Journal {
    /// Opens the journal in `dir`, creating the directory, and starts the writer. A torn tail is moved to a
    /// `*.torn` file and reported by `journal.recovered`. Reads back at most the files of this journal.
    ///
    /// # Errors
    /// [`JournalError::Locked`] when another process writes there, [`JournalError::Config`] on impossible figures,
    /// [`JournalError::File`] when the directory cannot be used.
    pub fn open(dir: impl AsRef<Path>, config: JournalConfig) -> Result<Journal, JournalError> {
        Journal::open_in(dir, config, Surroundings::default())
    }

    /// As [`Journal::open`], for an audit that may be older than what this journal shows of it: the store was restored
    /// since, or another one took its place. Then facts are shown again from [`AuditAtHand::restored_after`] on, and `journal.opened` says why.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_beside(
        dir: impl AsRef<Path>,
        config: JournalConfig,
        audit: AuditAtHand,
    ) -> Result<Journal, JournalError> {
        Journal::open_with(dir.as_ref(), config, Surroundings::default(), Some(audit))
    }

    /// As [`Journal::open`], on the given clock and disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in(
        dir: impl AsRef<Path>,
        config: JournalConfig,
        on: Surroundings,
    ) -> Result<Journal, JournalError> {
        Journal::open_with(dir.as_ref(), config, on, None)
    }

    fn open_with(
        dir: &Path,
        config: JournalConfig,
        on: Surroundings,
        audit: Option<AuditAtHand>,
    ) -> Result<Journal, JournalError> {
        config.check()?;
        let dir = dir.to_owned();
        std::fs::create_dir_all(&dir).map_err(at("create", &dir))?;
        let lock = lock(&dir)?;
        let mut found = recovery::recover(&dir)?;
        let set_back = audit.and_then(|audit| look_back(&mut found, audit));
        let intake = Arc::new(Intake::new(config.bounds(), first_stats(&found), found.incident_next));
        let writer = start_writer(&dir, &config, &on, &intake, found)?;
        Ok(Journal {
            intake,
            clock: on.clock,
            dir,
            wait_max: Duration::from_millis(config.wait_ms_max),
            set_back,
            writer: Mutex::new(Some((writer, lock))),
        })
    }

    /// A producer named `name`, cut at 128 bytes. The rate is that of the first producer of the name. Beyond 1,024
    /// names all share one account, `others`. `journal` and `audit` are the writer's own: asking for them gives
    /// `_journal` and `_audit`.
    pub fn producer(&self, name: &str, rate: Rate) -> Producer {
        let account = self.intake.open_account(name, rate);
        Producer { intake: self.intake.clone(), clock: self.clock.clone(), account }
    }

    /// Writes one audit row; returns when it is on the disk. A number at or below the cursor is already there and
    /// is skipped, so repeating is harmless. Blocks: for the host's follower thread, not for a task.
    ///
    /// # Errors
    /// [`JournalError::Late`] when the disk takes too long (ask again), [`JournalError::Closed`].
    pub fn record_fact(&self, fact: AuditFact) -> Result<(), JournalError> {
        self.record_facts(vec![fact])
    }

    /// As [`Journal::record_fact`] for many, in rising order, with one sync.
    ///
    /// # Errors
    /// As [`Journal::record_fact`].
    pub fn record_facts(&self, facts: Vec<AuditFact>) -> Result<(), JournalError> {
        let until = Instant::now() + self.wait_max;
        let ticket = self.intake.offer_facts(facts, until)?;
        match self.intake.wait(ticket, until) {
            // The writer repeated in a new file, synced by now, what was in doubt.
            Err(JournalError::Sync) => Ok(()),
            other => other,
        }
    }

    /// The highest audit number on the disk, 0 when there is none. The follower goes on from here after a start.
    pub fn audit_cursor(&self) -> u64 {
        self.intake.stats().audit_cursor
    }

    /// How far the store had gone back when this journal was opened beside it. The next opening knows nothing of it:
    /// what is known went back too.
    pub fn set_back(&self) -> Option<SetBack> {
        self.set_back
    }

    /// Tells how far the store is: the journal's next line of its own states it, the closing one at the latest. Never
    /// blocks.
    pub fn note_position(&self, position: u64) {
        self.intake.note_position(position);
    }

    /// A number to quote in an error and in a line's `incident` attribute. Rises, restarts included; a crash may
    /// skip numbers. Never blocks.
    pub fn next_incident(&self) -> u64 {
        self.intake.next_incident()
    }

    /// Returns when everything recorded before is on the disk, its loss records included. Blocks.
    ///
    /// # Errors
    /// As [`Journal::record_fact`], and [`JournalError::Sync`] when a sync failed meanwhile: lines may be lost.
    pub fn flush(&self) -> Result<(), JournalError> {
        let ticket = self.intake.ticket()?;
        self.intake.wait(ticket, Instant::now() + self.wait_max)
    }

    /// What the journal did so far, and whether it is well.
    pub fn stats(&self) -> JournalStats {
        self.intake.stats()
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes what is queued, says `journal.closed`, syncs, ends the writer and frees the directory. Later lines are dropped. With a disk
    /// that refuses, gives up after three tries.
    pub fn close(&self) {
        self.intake.close();
        if let Some((writer, _lock)) = self.writer.lock().take() {
            // A panic of the writer was already reported by the panic hook; there is nothing left to end.
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Producer {
    /// Queues a line, or drops and counts it; true = queued. Never blocks on the disk, never fails.
    pub fn record(&self, line: &Line) -> bool {
        self.intake.offer(self.account, line.severity, self.clock.now(), line.encode_rest())
    }
}

impl Default for JournalConfig {
    fn default() -> JournalConfig {
        JournalConfig {
            file_bytes_max: 64 << 20,
            backups: 5,
            queue_lines_max: 65_536,
            queue_bytes_max: 16 << 20,
            sync_after_ms: 400,
            wait_ms_max: 30_000,
        }
    }
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        Surroundings { clock: Arc::new(SystemClock), disk: Arc::new(SystemDisk) }
    }
}

impl JournalConfig {
    fn bounds(&self) -> Bounds {
        Bounds { lines_max: self.queue_lines_max, bytes_max: self.queue_bytes_max }
    }

    fn check(&self) -> Result<(), JournalError> {
        let line_bytes = LINE_BYTES_MAX as u64;
        check_range("file_bytes_max", self.file_bytes_max, 8 * line_bytes..=1 << 40, "512 KiB to 1 TiB")?;
        check_range("backups", self.backups as u64, 1..=1_000, "1 to 1,000")?;
        check_range("queue_lines_max", self.queue_lines_max as u64, 64..=1 << 20, "64 to 1,048,576")?;
        check_range(
            "queue_bytes_max",
            self.queue_bytes_max as u64,
            8 * line_bytes..=1 << 30,
            "512 KiB to 1 GiB",
        )?;
        check_range("sync_after_ms", self.sync_after_ms, 1..=500, "1 to 500")?;
        check_range("wait_ms_max", self.wait_ms_max, 1..=600_000, "1 to 600,000")
    }
}

fn check_range(
    field: &'static str,
    found: u64,
    range: std::ops::RangeInclusive<u64>,
    allowed: &'static str,
) -> Result<(), JournalError> {
    if range.contains(&found) { Ok(()) } else { Err(JournalError::Config { field, found, allowed }) }
}

/// One writer per directory, also across processes; the operating system frees the lock of a dead one.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("journal.lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at("lock", &path)(source)),
    }
}

/// Goes on from what the store has; answers when that is less than it had, and nobody restored it.
fn look_back(found: &mut Found, audit: AuditAtHand) -> Option<SetBack> {
    let AuditAtHand { newest, restored_at_ms, position, .. } = audit;
    let is_news = found.last_ms.is_none_or(|last| last <= restored_at_ms);
    let restored_after = audit.restored_after.filter(|_| is_news);
    let set_back = SetBack {
        missing: found.audit_cursor.saturating_sub(newest),
        known_position: found.position.replace(position),
        position,
    };
    if set_back.missing > 0 || restored_after.is_some_and(|row| row < found.audit_cursor) {
        found.audit_cursor = restored_after.unwrap_or(newest).min(newest);
        found.set_back = Some(restored_after.map_or(REASON_REPLACED, |_| REASON_RESTORED));
    }
    let is_behind = set_back.missing > 0 || set_back.known_position.is_some_and(|known| position < known);
    (is_behind && restored_after.is_none()).then_some(set_back)
}

fn first_stats(found: &Found) -> JournalStats {
    JournalStats {
        run: format!("{:032x}", rand::random::<u128>()),
        file: found.file,
        audit_cursor: found.audit_cursor,
        ..JournalStats::default()
    }
}

fn start_writer(
    dir: &Path,
    config: &JournalConfig,
    on: &Surroundings,
    intake: &Arc<Intake>,
    found: Found,
) -> Result<JoinHandle<()>, JournalError> {
    let shelf = Shelf::new(dir, on.disk.clone(), config.backups, &found, on.clock.as_ref());
    let writer = Writer::new(intake.clone(), on.clock.clone(), shelf, config, found);
    let thread = std::thread::Builder::new().name("journal".to_owned());
    thread.spawn(move || writer.run()).map_err(at("start the writer for", dir))
}
