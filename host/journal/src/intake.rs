//! Where producers leave their lines and the writer takes them: bounded in lines, in bytes, and per producer.
//!
//! ```text
//! ordinary lines   up to three quarters of the intake; beyond it dropped and counted
//! ERROR and above  up to the whole intake; beyond it dropped and counted
//! one producer     up to a quarter of the intake, and its token bucket
//! facts            up to FACTS_MAX; beyond it their writer waits
//! ```
//! Lines the writer took and has not yet written are bounded by the same figures again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::Serialize;

use crate::bucket::{Bucket, Rate};
use crate::error::JournalError;
use crate::line::{AuditFact, Severity, encode_name};

/// Facts waiting for the writer; the next one's caller waits.
pub(crate) const FACTS_MAX: usize = 1_024;
/// Named producers in one run; further names share the account `others`.
const PRODUCERS_MAX: usize = 1_024;

/// What the journal did so far in this run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JournalStats {
    /// This writer life's random id, as in every line's `run`.
    pub run: String,
    /// The number the current file will carry once it is a backup.
    pub file: u64,
    /// Lines in files, the journal's own included.
    pub written: u64,
    /// Lines dropped, by severity, least urgent first.
    pub dropped: [u64; 6],
    /// Lines waiting now.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// The highest audit number on the disk.
    pub audit_cursor: u64,
    /// Files begun in this run because of midnight, size or a fault.
    pub rotations: u64,
    /// Syncs that the disk refused.
    pub sync_failures: u64,
    /// Set while lines cannot be written, and for good once a sync failed.
    pub degraded: Option<Degraded>,
}

/// Why the journal is not what it promises to be, in the words of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Degraded {
    /// Since when, wall clock.
    pub since: String,
    /// What happened.
    pub cause: String,
    /// What a person can do.
    pub do_this: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) lines_max: usize,
    pub(crate) bytes_max: usize,
}

/// A line on its way to the writer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) producer: Arc<str>,
    pub(crate) producer_sequence: u64,
    pub(crate) is_urgent: bool,
    pub(crate) rest: String,
}

/// What one producer lost since its last loss record. `through`: its sequence when this was counted.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) producer: String,
    pub(crate) dropped: [u64; 6],
    pub(crate) through: u64,
}

/// A promise that all that was queued before gets to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    sync_failures: u64,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) facts: VecDeque<AuditFact>,
    pub(crate) losses: Vec<Loss>,
    /// All that was asked to be durable up to this ticket is in this turn or before it.
    pub(crate) ticket: u64,
    pub(crate) is_closing: bool,
}

pub(crate) struct Intake {
    state: Mutex<State>,
    /// For the writer: something to do.
    work: Condvar,
    /// For those who wait: the writer took facts, finished a ticket, or ended.
    done: Condvar,
    bounds: Bounds,
    incident: AtomicU64,
    /// The store's; 0 while nobody has told it.
    position: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    facts: VecDeque<AuditFact>,
    accounts: Vec<Account>,
    names: HashMap<String, usize>,
    has_losses: bool,
    ticket_asked: u64,
    ticket_done: u64,
    is_asleep: bool,
    is_closing: bool,
    is_ended: bool,
    stats: JournalStats,
}

struct Account {
    name: String,
    encoded_name: Arc<str>,
    bucket: Bucket,
    sequence: u64,
    queued: usize,
    queued_bytes: usize,
    dropped: [u64; 6],
}

impl Intake {
    pub(crate) fn new(bounds: Bounds, stats: JournalStats, incident: u64) -> Intake {
        let state = State { stats, ..State::default() };
        Intake {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            bounds,
            incident: AtomicU64::new(incident),
            position: AtomicU64::new(0),
        }
    }

    /// The account of `name`: the same one for the same name, with the rate it was first given.
    pub(crate) fn open_account(&self, name: &str, rate: Rate) -> usize {
        let mut state = self.state.lock();
        let name = match name {
            known if state.names.contains_key(known) => known,
            _ if state.accounts.len() + 1 >= PRODUCERS_MAX => "others",
            // The writer's own names: what they say about the journal must be its own.
            "journal" => "_journal",
            "audit" => "_audit",
            free => free,
        };
        if let Some(&index) = state.names.get(name) {
            return index;
        }
        state.add_account(name, rate)
    }

    /// Queues an encoded line, or drops and counts it. Never waits for the writer.
    pub(crate) fn offer(&self, account: usize, severity: Severity, at: Timestamp, rest: String) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let is_accepted = state.offer(account, severity, at, rest, now, self.bounds);
        self.wake_writer(&mut state);
        is_accepted
    }

    /// Queues facts, waiting for room, and returns the ticket that makes them durable.
    pub(crate) fn offer_facts(&self, facts: Vec<AuditFact>, until: Instant) -> Result<Ticket, JournalError> {
        let asked_at = Instant::now();
        let mut state = self.state.lock();
        for fact in facts {
            while state.facts.len() >= FACTS_MAX {
                self.wait_done(&mut state, asked_at, until)?;
            }
            state.facts.push_back(fact);
            self.wake_writer(&mut state);
        }
        self.ask_ticket(&mut state)
    }

    /// A ticket for everything queued until now.
    pub(crate) fn ticket(&self) -> Result<Ticket, JournalError> {
        self.ask_ticket(&mut self.state.lock())
    }

    /// Waits until everything up to `ticket` is on the disk.
    pub(crate) fn wait(&self, ticket: Ticket, until: Instant) -> Result<(), JournalError> {
        let asked_at = Instant::now();
        let mut state = self.state.lock();
        while state.ticket_done < ticket.number {
            self.wait_done(&mut state, asked_at, until)?;
        }
        let has_failed = state.stats.sync_failures > ticket.sync_failures;
        if has_failed { Err(JournalError::Sync) } else { Ok(()) }
    }

    pub(crate) fn next_incident(&self) -> u64 {
        self.incident.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn note_position(&self, position: u64) {
        self.position.fetch_max(position, Ordering::Relaxed);
    }

    /// How far the store is; none while nobody has told it.
    pub(crate) fn position(&self) -> Option<u64> {
        Some(self.position.load(Ordering::Relaxed)).filter(|position| *position > 0)
    }

    /// The number the next incident will get.
    pub(crate) fn peek_incident(&self) -> u64 {
        self.incident.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let state = self.state.lock();
        JournalStats { queued: state.queue.len(), queued_bytes: state.bytes, ..state.stats.clone() }
    }

    /// From now on nothing is accepted; the writer writes what is there and ends.
    pub(crate) fn close(&self) {
        self.state.lock().is_closing = true;
        self.work.notify_all();
    }

    /// For the writer: waits for work until `wake_at`; loss records only from `loss_at` on, or on request.
    pub(crate) fn take(&self, wake_at: Instant, loss_at: Instant) -> Turn {
        let mut state = self.state.lock();
        while !state.has_work() {
            let until = if state.has_losses { wake_at.min(loss_at) } else { wake_at };
            if Instant::now() >= until {
                break;
            }
            state.is_asleep = true;
            self.work.wait_until(&mut state, until);
            state.is_asleep = false;
        }
        let turn = state.take_turn(loss_at);
        self.done.notify_all();
        turn
    }

    /// For the writer: rests for `pause` unless the journal is closing. True = it is.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_closing {
            self.work.wait_for(&mut state, pause);
        }
        state.is_closing
    }

    /// For the writer: everything up to `ticket` is on the disk.
    pub(crate) fn finish(&self, ticket: u64) {
        self.state.lock().ticket_done = ticket;
        self.done.notify_all();
    }

    /// For the writer: it will write nothing more.
    pub(crate) fn end(&self) {
        self.state.lock().is_ended = true;
        self.done.notify_all();
    }

    /// For the writer: keeps its figures.
    pub(crate) fn report(&self, change: impl FnOnce(&mut JournalStats)) {
        change(&mut self.state.lock().stats);
    }

    fn wake_writer(&self, state: &mut State) {
        if state.is_asleep && (state.has_work() || state.has_losses) {
            // Once per sleep: a wake-up costs a system call.
            state.is_asleep = false;
            self.work.notify_one();
        }
    }

    fn ask_ticket(&self, state: &mut State) -> Result<Ticket, JournalError> {
        if state.is_closing {
            return Err(JournalError::Closed);
        }
        state.ticket_asked += 1;
        self.wake_writer(state);
        Ok(Ticket { number: state.ticket_asked, sync_failures: state.stats.sync_failures })
    }

    fn wait_done(
        &self,
        state: &mut MutexGuard<State>,
        from: Instant,
        until: Instant,
    ) -> Result<(), JournalError> {
        if state.is_ended {
            return Err(JournalError::Closed);
        }
        if self.done.wait_until(state, until).timed_out() {
            return Err(JournalError::Late { waited: from.elapsed() });
        }
        Ok(())
    }
}

impl State {
    fn add_account(&mut self, name: &str, rate: Rate) -> usize {
        let index = self.accounts.len();
        self.names.insert(name.to_owned(), index);
        self.accounts.push(Account {
            name: name.to_owned(),
            encoded_name: encode_name(name).into(),
            bucket: Bucket::full(rate, Instant::now()),
            sequence: 0,
            queued: 0,
            queued_bytes: 0,
            dropped: [0; 6],
        });
        index
    }

    fn offer(
        &mut self,
        account: usize,
        severity: Severity,
        at: Timestamp,
        rest: String,
        now: Instant,
        bounds: Bounds,
    ) -> bool {
        if self.is_closing {
            self.stats.dropped[severity as usize] += 1;
            return false;
        }
        let has_space = self.has_space(severity, rest.len(), bounds);
        let account = &mut self.accounts[account];
        account.sequence += 1;
        if !(has_space && account.has_share(rest.len(), bounds) && account.bucket.try_take(now)) {
            account.dropped[severity as usize] += 1;
            self.stats.dropped[severity as usize] += 1;
            self.has_losses = true;
            return false;
        }
        account.queued += 1;
        account.queued_bytes += rest.len();
        self.bytes += rest.len();
        self.queue.push_back(Entry {
            at,
            producer: account.encoded_name.clone(),
            producer_sequence: account.sequence,
            is_urgent: severity.is_urgent(),
            rest,
        });
        true
    }

    /// A quarter of the intake is kept for ERROR and above.
    fn has_space(&self, severity: Severity, bytes: usize, bounds: Bounds) -> bool {
        let open = |max: usize| if severity.is_urgent() { max } else { max - max / 4 };
        self.queue.len() < open(bounds.lines_max) && self.bytes + bytes <= open(bounds.bytes_max)
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty()
            || !self.facts.is_empty()
            || self.ticket_asked > self.ticket_done
            || self.is_closing
    }

    fn take_turn(&mut self, loss_at: Instant) -> Turn {
        let is_asked = self.is_closing || self.ticket_asked > self.ticket_done;
        let losses_due = self.has_losses && (is_asked || Instant::now() >= loss_at);
        for account in &mut self.accounts {
            account.queued = 0;
            account.queued_bytes = 0;
        }
        self.bytes = 0;
        Turn {
            entries: std::mem::take(&mut self.queue),
            facts: std::mem::take(&mut self.facts),
            losses: if losses_due { self.take_losses() } else { Vec::new() },
            ticket: self.ticket_asked,
            is_closing: self.is_closing,
        }
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.has_losses = false;
        let losing = self.accounts.iter_mut().filter(|account| account.dropped != [0; 6]);
        losing.map(Account::take_loss).collect()
    }
}

impl Account {
    /// One producer never holds more than a quarter, so that the others find room.
    fn has_share(&self, bytes: usize, bounds: Bounds) -> bool {
        self.queued < bounds.lines_max / 4 && self.queued_bytes + bytes <= bounds.bytes_max / 4
    }

    fn take_loss(&mut self) -> Loss {
        Loss {
            producer: self.name.clone(),
            dropped: std::mem::take(&mut self.dropped),
            through: self.sequence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { lines_max: 100, bytes_max: 1 << 20 };

    fn intake() -> Intake {
        Intake::new(BOUNDS, JournalStats::default(), 1)
    }

    fn offer_many(intake: &Intake, account: usize, severity: Severity, count: usize) -> usize {
        let offer = |_: &usize| intake.offer(account, severity, Timestamp::UNIX_EPOCH, "x".into());
        (0..count).filter(offer).count()
    }

    fn take(intake: &Intake) -> Turn {
        intake.take(Instant::now(), Instant::now())
    }

    #[test]
    fn one_producer_holds_a_quarter_and_ordinary_lines_three() {
        let intake = intake();
        let accounts: Vec<usize> =
            (0..5).map(|n| intake.open_account(&format!("p{n}"), Rate::HOST)).collect();
        assert_eq!(offer_many(&intake, accounts[0], Severity::Info, 1_000), 25);
        assert_eq!(offer_many(&intake, accounts[1], Severity::Info, 1_000), 25);
        assert_eq!(offer_many(&intake, accounts[2], Severity::Warn, 1_000), 25);
        assert_eq!(offer_many(&intake, accounts[3], Severity::Warn, 1_000), 0);
        assert_eq!(offer_many(&intake, accounts[4], Severity::Error, 1_000), 25);
        let lost: u64 = take(&intake).losses.iter().flat_map(|loss| loss.dropped).sum();
        assert_eq!(lost, 4_900);
        assert_eq!(offer_many(&intake, accounts[3], Severity::Warn, 1), 1, "space returned");
    }

    #[test]
    fn bytes_are_bounded_as_lines_are() {
        let intake = intake();
        let account = intake.open_account("fat", Rate::HOST);
        let fat = || "x".repeat(100 << 10);
        let offer = |_: &usize| intake.offer(account, Severity::Info, Timestamp::UNIX_EPOCH, fat());
        assert_eq!((0..50).filter(offer).count(), 2, "a quarter of 1 MiB holds two of 100 KiB");
    }

    #[test]
    fn the_bucket_drops_and_the_loss_names_the_producer() {
        let intake = intake();
        let account = intake.open_account("guest", Rate { per_second: 0, burst: 3 });
        assert_eq!(offer_many(&intake, account, Severity::Info, 10), 3);
        let turn = take(&intake);
        assert_eq!(turn.losses[0].producer, "guest");
        assert_eq!(turn.losses[0].dropped, [0, 0, 7, 0, 0, 0]);
        assert_eq!(turn.losses[0].through, 10);
        assert!(take(&intake).losses.is_empty(), "said once");
    }

    #[test]
    fn names_are_bounded_and_the_journal_s_own_are_kept_from_others() {
        let intake = intake();
        assert_eq!(intake.open_account("a", Rate::HOST), intake.open_account("a", Rate::GUEST));
        let own = intake.open_account("journal", Rate::HOST);
        assert_eq!(own, intake.open_account("_journal", Rate::HOST));
        let accounts: Vec<usize> =
            (0..5_000).map(|n| intake.open_account(&format!("p{n}"), Rate::HOST)).collect();
        assert!(accounts.iter().all(|account| *account < PRODUCERS_MAX));
        assert_eq!(accounts[4_999], accounts[4_998]);
    }

    #[test]
    fn facts_wait_for_room_instead_of_being_dropped() {
        let intake = intake();
        let fact = |number| AuditFact {
            number,
            at_ms: 0,
            position: 0,
            kind: "k".into(),
            subject: "s".into(),
            detail: serde_json::Value::Null,
        };
        let too_many = (1..=FACTS_MAX as u64 + 1).map(fact).collect();
        let error = intake.offer_facts(too_many, Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, JournalError::Late { .. }), "{error}");
        assert_eq!(take(&intake).facts.len(), FACTS_MAX);
    }
}
