//! The writer thread: takes turns from the intake, numbers lines, writes whole batches, syncs, rotates.
//!
//! ```text
//! turn    facts, lines, loss records → numbered into one buffer of at most BATCH_BYTES_MAX → one write each
//! sync    at once after ERROR and above, facts, a flush; else `sync_after_ms` after the first unsynced write
//! rotate  only between batches, so that numbers rise within and across files
//! ```
//! A write that fails is tried again, with growing pauses; the intake meanwhile fills, drops and counts. A sync that
//! fails ends the file: the journal goes on in a new one, repeats the facts that are in doubt, and stays degraded.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::intake::{Degraded, Entry, Intake, Loss, Turn};
use crate::journal::JournalConfig;
use crate::line::{AuditFact, LINE_BYTES_MAX, Line, Severity};
use crate::recovery::{Found, Torn};
use crate::shelf::{Shelf, today};

/// One write; a line that does not fit any more waits for the next.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Looks at the calendar this often when nothing else happens.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A producer under a flood gets one loss record in this time.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Incident numbers stated as taken before they are, so that no restart gives one out again.
const INCIDENTS_AHEAD: u64 = 1_000;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Why a file was opened whose facts begin again below those before.
pub(crate) const REASON_RESTORED: &str = "store-restored";
/// The same where no restore is known: another store is there.
pub(crate) const REASON_REPLACED: &str = "store-replaced";
/// Tries left for a disk that refuses, once the journal is closing.
const CLOSING_TRIES: u32 = 3;

pub(crate) struct Writer {
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    shelf: Shelf,
    run: String,
    file_bytes_max: u64,
    sync_after: Duration,
    torn: Option<Torn>,
    set_back: Option<&'static str>,

    sequence: u64,
    own_sequence: u64,
    fact_sequence: u64,
    audit_cursor: u64,
    position: Option<u64>,
    incident_reserved: u64,

    buffer: Vec<u8>,
    buffer_lines: u64,
    dirty_since: Option<Instant>,
    must_sync: bool,
    loss_at: Instant,
    rotate_again_at: Instant,
    /// Facts written and not yet known to be on the disk.
    facts_in_doubt: Vec<AuditFact>,
    finished_ticket: u64,
    /// What the disk said when it last refused a write.
    refused: Option<String>,
    is_closing: bool,
    has_given_up: bool,
}

impl Writer {
    pub(crate) fn new(
        intake: Arc<Intake>,
        clock: Arc<dyn Clock>,
        shelf: Shelf,
        config: &JournalConfig,
        found: Found,
    ) -> Writer {
        Writer {
            run: intake.stats().run,
            intake,
            clock,
            shelf,
            file_bytes_max: config.file_bytes_max,
            sync_after: Duration::from_millis(config.sync_after_ms),
            torn: found.torn,
            set_back: found.set_back,
            sequence: 0,
            own_sequence: 0,
            fact_sequence: 0,
            audit_cursor: found.audit_cursor,
            position: found.position,
            incident_reserved: found.incident_next,
            buffer: Vec::with_capacity(BATCH_BYTES_MAX),
            buffer_lines: 0,
            dirty_since: None,
            must_sync: true,
            loss_at: Instant::now(),
            rotate_again_at: Instant::now(),
            facts_in_doubt: Vec::new(),
            finished_ticket: 0,
            refused: None,
            is_closing: false,
            has_given_up: false,
        }
    }

    pub(crate) fn run(mut self) {
        self.open();
        while !self.is_closing {
            let turn = self.intake.take(self.wake_at(), self.loss_at);
            self.do_turn(turn);
        }
        self.close();
    }

    /// A day that ended while no host ran closes its file before this run's first line.
    fn open(&mut self) {
        let today = today(self.clock.as_ref());
        if self.shelf.is_past_midnight(today) && self.shelf.rotate(today).is_ok() {
            self.count_rotation();
        }
        self.incident_reserved = self.intake.peek_incident() + INCIDENTS_AHEAD;
        self.put_state("journal.opened", self.set_back.unwrap_or("start"));
        if let Some(torn) = self.torn.take() {
            self.put_own(&recovered_line(&torn));
        }
        self.spill();
        self.sync();
    }

    fn do_turn(&mut self, turn: Turn) {
        self.is_closing = turn.is_closing;
        self.rotate_if_due();
        for fact in turn.facts {
            self.put_new_fact(fact);
        }
        for entry in turn.entries {
            self.put_entry(&entry);
        }
        self.put_losses(&turn.losses);
        self.reserve_incidents();
        self.spill();
        self.note_restored();
        self.sync_if_due(turn.ticket);
    }

    fn close(&mut self) {
        self.incident_reserved = self.intake.peek_incident();
        self.put_state("journal.closed", "close");
        self.spill();
        self.sync();
        self.intake.end();
    }

    fn wake_at(&self) -> Instant {
        let idle = Instant::now() + IDLE_MAX;
        self.dirty_since.map_or(idle, |since| idle.min(since + self.sync_after))
    }

    // Lines into the buffer.

    fn put_entry(&mut self, entry: &Entry) {
        self.must_sync |= entry.is_urgent;
        self.put(entry.at, &entry.producer, entry.producer_sequence, &entry.rest);
    }

    /// A number at or below the cursor was written before: by an earlier run, or asked for twice.
    fn put_new_fact(&mut self, fact: AuditFact) {
        if fact.number > self.audit_cursor {
            self.put_fact(&fact, false);
            self.facts_in_doubt.push(fact);
        }
    }

    fn put_fact(&mut self, fact: &AuditFact, is_repeated: bool) {
        self.must_sync = true;
        self.fact_sequence += 1;
        self.put(self.clock.now(), "\"audit\"", self.fact_sequence, &fact.encode_rest(is_repeated));
        self.audit_cursor = fact.number;
        self.position = self.position.max(Some(fact.position));
    }

    fn put_losses(&mut self, losses: &[Loss]) {
        for loss in losses {
            self.put_own(&loss_line(loss));
            self.loss_at = Instant::now() + LOSS_INTERVAL;
        }
    }

    /// States what a later start must know: the file's number and day, and the cursors.
    fn put_state(&mut self, event_name: &'static str, reason: &str) {
        let line = Line::new(Severity::Info, event_name, format!("file {}: {reason}", self.shelf.number))
            .with("file", self.shelf.number)
            .with("day", self.shelf.day().to_string())
            .with("reason", reason)
            .with("audit_cursor", self.audit_cursor)
            .with("incident_next", self.incident_reserved);
        self.position = self.position.max(self.intake.position());
        let line = match self.position {
            Some(position) => line.with("position", position),
            None => line,
        };
        self.put_own(&line);
        self.must_sync = true;
    }

    fn put_own(&mut self, line: &Line) {
        self.own_sequence += 1;
        self.put(self.clock.now(), "\"journal\"", self.own_sequence, &line.encode_rest());
    }

    fn put(&mut self, at: Timestamp, producer: &str, producer_sequence: u64, rest: &str) {
        if self.buffer.len() + LINE_BYTES_MAX > BATCH_BYTES_MAX {
            self.spill();
            self.rotate_if_due();
        }
        self.sequence += 1;
        let (run, sequence) = (&self.run, self.sequence);
        // Writing to memory cannot fail.
        let _ = writeln!(
            self.buffer,
            r#"{{"timestamp":"{at:.9}","run":"{run}","sequence":{sequence},"producer":{producer},"producer_sequence":{producer_sequence},{}"#,
            &rest[1..]
        );
        self.buffer_lines += 1;
    }

    /// Keeps the stated incident number ahead of the given ones, so that a crash repeats none. A burst of more than
    /// half of what is stated ahead, within one turn and followed by a crash, may repeat.
    fn reserve_incidents(&mut self) {
        let next = self.intake.peek_incident();
        if next + INCIDENTS_AHEAD / 2 > self.incident_reserved {
            self.incident_reserved = next + INCIDENTS_AHEAD;
            self.put_state("journal.incidents", "reserve");
        }
    }

    // The buffer to the file.

    /// Writes the buffer, trying until it is written. Only a closing journal gives up.
    fn spill(&mut self) {
        let mut patience = Patience::default();
        while let Err(error) = self.append() {
            self.refused = Some(error.to_string());
            self.degrade(&error, "free space or repair the disk; lines are dropped and counted until then");
            if patience.is_over(&self.intake) {
                self.has_given_up = true;
                break;
            }
        }
        self.buffer.clear();
        self.buffer_lines = 0;
    }

    fn append(&mut self) -> io::Result<()> {
        // After giving up nothing may follow: a later line must not state cursors of lines that are not there.
        if self.buffer.is_empty() || self.has_given_up {
            return Ok(());
        }
        self.shelf.append(&self.buffer, self.buffer_lines)?;
        self.dirty_since.get_or_insert_with(Instant::now);
        let (lines, file) = (self.buffer_lines, self.shelf.number);
        self.intake.report(|stats| {
            stats.written += lines;
            stats.file = file;
        });
        Ok(())
    }

    fn sync_if_due(&mut self, ticket: u64) {
        let is_late = self.dirty_since.is_some_and(|since| since.elapsed() >= self.sync_after);
        let is_asked = ticket > self.finished_ticket;
        if !(self.must_sync || is_late || is_asked) {
            return;
        }
        if self.sync() && is_asked {
            self.finished_ticket = ticket;
            self.intake.finish(ticket);
        }
    }

    /// Puts all that was written on the disk, whatever it takes. False = gave up, which only a closing journal does.
    fn sync(&mut self) -> bool {
        if self.has_given_up {
            return false;
        }
        let mut patience = Patience::default();
        while let Err(error) = self.shelf.sync() {
            self.begin_after_fault(&error);
            if patience.is_over(&self.intake) {
                return false;
            }
        }
        self.dirty_since = None;
        self.must_sync = false;
        self.facts_in_doubt.clear();
        let cursor = self.audit_cursor;
        self.intake.report(|stats| stats.audit_cursor = cursor);
        true
    }

    // New files.

    /// Only with an empty buffer: a numbered line belongs before every line of the next file.
    fn rotate_if_due(&mut self) {
        let today = today(self.clock.as_ref());
        let reason = if self.shelf.is_past_midnight(today) {
            "midnight"
        } else if self.shelf.is_full(BATCH_BYTES_MAX, self.file_bytes_max) {
            "size"
        } else {
            return;
        };
        if Instant::now() < self.rotate_again_at || !self.sync() {
            return;
        }
        match self.shelf.rotate(today) {
            Ok(()) => {
                self.count_rotation();
                self.put_state("journal.opened", reason);
            }
            Err(error) => {
                self.rotate_again_at = Instant::now() + IDLE_MAX;
                self.degrade(
                    &error,
                    "let the host rename files in its journal directory; the current file goes on",
                );
            }
        }
    }

    /// The file whose sync failed is never used again; what was in doubt is said once more.
    fn begin_after_fault(&mut self, error: &io::Error) {
        self.intake.report(|stats| stats.sync_failures += 1);
        self.degrade(
            error,
            "check the disk, then restart the host; lines before this may be lost to a power cut",
        );
        self.shelf.abandon();
        self.count_rotation();
        let facts = std::mem::take(&mut self.facts_in_doubt);
        if let Some(first) = facts.first() {
            self.audit_cursor = first.number - 1;
        }
        self.put_state("journal.opened", "fault");
        self.put_own(&degraded_line(error));
        for fact in &facts {
            self.put_fact(fact, true);
        }
        self.facts_in_doubt = facts;
        self.spill();
    }

    fn count_rotation(&self) {
        self.intake.report(|stats| stats.rotations += 1);
    }

    fn degrade(&self, error: &io::Error, do_this: &str) {
        let since = self.clock.now().to_string();
        let cause = error.to_string();
        self.intake.report(|stats| {
            let since = stats.degraded.take().map_or(since, |earlier| earlier.since);
            stats.degraded = Some(Degraded { since, cause, do_this: do_this.to_owned() });
        });
    }

    /// Writing works again after a refusal. A failed sync is not forgiven: someone has to look at that disk.
    fn note_restored(&mut self) {
        let Some(cause) = self.refused.take().filter(|_| !self.has_given_up) else {
            return;
        };
        self.intake.report(|stats| {
            if stats.sync_failures == 0 {
                stats.degraded = None;
            }
        });
        let line = Line::new(Severity::Warn, "journal.restored", "writing works again").with("cause", cause);
        self.put_own(&line);
        self.spill();
    }
}

/// Growing pauses between tries; endless, except for a journal that is closing.
struct Patience {
    pause: Duration,
    closing_tries: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { pause: PAUSE_FIRST, closing_tries: CLOSING_TRIES }
    }
}

impl Patience {
    fn is_over(&mut self, intake: &Intake) -> bool {
        if intake.pause(self.pause) {
            self.closing_tries -= 1;
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.closing_tries == 0
    }
}

fn recovered_line(torn: &Torn) -> Line {
    let body = format!("the last run ended within a line; {} bytes are in {}", torn.bytes, torn.file_name);
    Line::new(Severity::Warn, "journal.recovered", body)
        .with("torn_file", torn.file_name.as_str())
        .with("torn_bytes", torn.bytes)
}

fn loss_line(loss: &Loss) -> Line {
    let total: u64 = loss.dropped.iter().sum();
    let by_severity = Severity::ALL.iter().zip(loss.dropped).filter(|(_, count)| *count > 0);
    let dropped: Value =
        by_severity.map(|(severity, count)| (severity.text().to_owned(), json!(count))).collect();
    Line::new(Severity::Warn, "journal.loss", format!("{total} lines of {} dropped", loss.producer))
        .with("producer", loss.producer.as_str())
        .with("total", total)
        .with("dropped", dropped)
        .with("through", loss.through)
}

fn degraded_line(error: &io::Error) -> Line {
    let body = format!(
        "the disk failed to sync ({error}); a new file begins, earlier lines may be lost to a power cut"
    );
    Line::new(Severity::Error, "journal.degraded", body).with("cause", error.to_string())
}
