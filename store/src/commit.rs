//! Deciding: one thread, one redb transaction per group of units, one decision point.
//!
//! ```text
//! vote     deadline, everything read is still so, sessions, bounds    in the group's transaction, before its writes
//! decide   one durable redb commit for the whole group                crash before: nothing; after: everything
//! finish   vectors and outbox into memory, then the new position      cannot fail; crash: rebuilt at open
//! reply    in the order of the queue                                  an acknowledged unit is durable and searchable
//! ```
//! A unit votes against decided states and against those its group wrote before it, so a busy object batches.
//! A unit that fails its vote is left out; the others go on. Each that stays gets its own position, without gaps.
//! An I/O error leaves nobody knowing whether the group was decided: all get `unknown`, the database is reopened,
//! and the dedupe rows answer whoever resends. Never here: retries, who may do what.

mod ballot;
mod recovery;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::error::{CommitError, Failure};
use crate::generation;
use crate::id::Position;
use crate::limit;
use crate::session::DedupeKey;
use crate::shared::Shared;
use crate::tables::{META_POSITION, Tables};
use crate::unit::{Layer, Seen, Unit};

use write::Finish;

/// What a unit's decision depends on besides its reads and writes.
#[derive(Debug, Default)]
pub struct Vote {
    /// Not to be decided after this.
    pub deadline: Option<Instant>,
    /// The request that the unit answers, decided at most once.
    pub dedupe: Option<DedupeKey>,
    /// Stored with the request and given back when it is resent; counts against the unit's bytes.
    pub outcome: Vec<u8>,
    /// Runs in the commit's finish: the unit is durable, its position not yet visible. Whoever takes a snapshot at or
    /// after that position finds it done. Must be quick, must not panic and must not ask the store for a commit.
    /// It does not run when the commit ends as `Unavailable`: then only the reopened store knows what was decided.
    pub on_decided: Option<OnDecided>,
}

/// What a vote does at the moment it is decided.
pub struct OnDecided(Box<dyn FnOnce(Position) + Send>);

impl OnDecided {
    /// Calls `act` with the unit's position.
    pub fn new(act: impl FnOnce(Position) + Send + 'static) -> OnDecided {
        OnDecided(Box::new(act))
    }
}

impl std::fmt::Debug for OnDecided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnDecided")
    }
}

/// A decided unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its place in the order of all commits; the snapshot for a unit that had nothing to write.
    pub position: Position,
    /// When it was decided, Unix milliseconds.
    pub at_ms: u64,
    /// When snapshots began to show it.
    pub visible_at: Instant,
}

/// A decision that is being made.
#[derive(Debug)]
#[must_use = "a decision is waited for"]
pub struct Decided {
    receiver: Receiver<Result<Commit, CommitError>>,
}

impl Decided {
    /// Blocks until the unit is decided.
    ///
    /// # Errors
    /// [`CommitError`]; its `effect()` says whether the unit may have been decided.
    pub fn wait(self) -> Result<Commit, CommitError> {
        self.receiver.recv().unwrap_or(Err(CommitError::Unavailable(Failure::Reopening)))
    }
}

/// One thing for the committer to do.
pub(crate) enum Job {
    Decide(Box<Ballot>),
    Reopen(Failure),
}

/// A unit on its way to a decision; answers exactly once, also when it is dropped.
pub(crate) struct Ballot {
    pub(crate) seen: Seen,
    pub(crate) writes: Layer,
    pub(crate) vote: Vote,
    reply: Option<Reply>,
}

type Reply = Box<dyn FnOnce(Result<Commit, CommitError>) + Send>;

impl Ballot {
    fn answer(mut self, result: Result<Commit, CommitError>) {
        if let Some(reply) = self.reply.take() {
            reply(result);
        }
    }
}

impl Drop for Ballot {
    /// The committer died with the unit in hand.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(CommitError::Unavailable(Failure::Reopening)));
        }
    }
}

/// Sends a unit to its decision; `on_done` is called exactly once, on the committer's thread or on this one.
pub(crate) fn decide(shared: &Shared, unit: Unit, vote: Vote, on_done: Reply) {
    let snapshot = unit.snapshot();
    let is_trivial = unit.is_unwritten() && vote.dedupe.is_none() && vote.on_decided.is_none();
    let (seen, writes) = unit.into_parts();
    if is_trivial {
        // A snapshot is one decided state, so a unit that only reads is serializable where it began.
        return on_done(check_deadline(&vote).map(|()| Commit {
            position: snapshot,
            at_ms: shared.now_ms(),
            visible_at: Instant::now(),
        }));
    }
    let ballot = Box::new(Ballot { seen, writes, vote, reply: Some(on_done) });
    if let Some(cause) = shared.read_only.read().clone() {
        return ballot.answer(Err(CommitError::ReadOnlyStore { cause }));
    }
    send(shared, ballot);
}

fn send(shared: &Shared, ballot: Box<Ballot>) {
    let Some(queue) = shared.queue.lock().clone() else {
        return ballot.answer(Err(CommitError::Closed));
    };
    match queue.try_send(Job::Decide(ballot)) {
        Ok(()) => {}
        Err(TrySendError::Full(Job::Decide(ballot))) => {
            ballot.answer(Err(CommitError::Busy { allowed: limit::QUEUE_UNITS_MAX }));
        }
        Err(TrySendError::Disconnected(Job::Decide(ballot))) => ballot.answer(Err(CommitError::Closed)),
        Err(_) => {}
    }
}

/// A decision to block on, with the reply that fulfils it.
pub(crate) fn pair() -> (Decided, Reply) {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Whoever dropped the receiver no longer wants to know.
    (Decided { receiver }, Box::new(move |result| drop(sender.send(result))))
}

/// Starts the committer; it ends when the queue's last sender is gone.
pub(crate) fn spawn(
    make_shared: impl FnOnce(SyncSender<Job>) -> Arc<Shared>,
) -> std::io::Result<(Arc<Shared>, JoinHandle<()>)> {
    let (sender, queue) = mpsc::sync_channel(limit::QUEUE_UNITS_MAX);
    let shared = make_shared(sender);
    let committer = Committer { shared: Arc::clone(&shared), queue };
    let thread = std::thread::Builder::new().name("store-committer".into()).spawn(move || committer.run())?;
    Ok((shared, thread))
}

struct Committer {
    shared: Arc<Shared>,
    queue: Receiver<Job>,
}

/// What became of a group's ballots, and what to do once they are durable.
struct Group {
    answers: Vec<(Ballot, Result<Commit, CommitError>)>,
    finish: Finish,
    position: Position,
}

impl Committer {
    fn run(self) {
        while let Ok(job) = self.queue.recv() {
            match job {
                Job::Decide(ballot) => self.decide_group(self.gather(*ballot)),
                Job::Reopen(failure) => self.reopen_if_broken(&failure),
            }
        }
    }

    /// Takes what waits already: while one group is being decided, the next one gathers.
    fn gather(&self, first: Ballot) -> Vec<Ballot> {
        let mut bytes = first.writes.bytes;
        let mut group = vec![first];
        while group.len() < limit::GROUP_UNITS_MAX && bytes < limit::GROUP_BYTES_MAX {
            match self.queue.try_recv() {
                Ok(Job::Decide(ballot)) => {
                    bytes += ballot.writes.bytes;
                    group.push(*ballot);
                }
                // The group is about to meet the same failure.
                Ok(Job::Reopen(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        group
    }

    fn decide_group(&self, ballots: Vec<Ballot>) {
        let mut group =
            Group { answers: Vec::new(), finish: Finish::default(), position: self.shared.position() };
        match self.write_group(ballots, &mut group) {
            Ok(()) => self.finish(group),
            Err(failure) => self.recover(group, &failure),
        }
    }

    /// Votes on each ballot and writes those that pass, then commits. Every ballot is in `group.answers`
    /// afterwards, whether this succeeds or not.
    fn write_group(&self, ballots: Vec<Ballot>, group: &mut Group) -> Result<(), Failure> {
        let at_ms = self.shared.now_ms();
        let unknown = |failure: &Failure| Err(CommitError::Unavailable(failure.clone()));
        let mut waiting = ballots.into_iter();
        let mut write = || -> Result<(), Failure> {
            let txn = self.shared.database.write()?;
            let mut tables = Tables::open(&txn)?;
            let before = group.position;
            for ballot in waiting.by_ref() {
                match self.write_ballot(&mut tables, &ballot, group, at_ms) {
                    Ok(answer) => group.answers.push((ballot, answer)),
                    Err(failure) => {
                        group.answers.push((ballot, unknown(&failure)));
                        return Err(failure);
                    }
                }
            }
            if group.position == before {
                drop(tables);
                return Ok(txn.abort()?);
            }
            tables.meta.insert(META_POSITION, group.position.get())?;
            write::trim_redo(&mut tables, &self.shared, &mut group.finish)?;
            drop(tables);
            fail::fail_point!("store::before-commit");
            txn.commit()?;
            fail::fail_point!("store::after-commit");
            Ok(())
        };
        let written = write();
        if let Err(failure) = &written {
            group.answers.extend(waiting.map(|ballot| (ballot, unknown(failure))));
        }
        written
    }

    /// One ballot's vote and writes. The outer error is the disk's, the inner one the ballot's.
    fn write_ballot(
        &self,
        tables: &mut Tables<'_>,
        ballot: &Ballot,
        group: &mut Group,
        at_ms: u64,
    ) -> Result<Result<Commit, CommitError>, Failure> {
        if let Err(refused) = check_deadline(&ballot.vote) {
            return Ok(Err(refused));
        }
        let pending = self.shared.outbox.lock().pending();
        let pending = group.finish.pending_after(pending);
        let mut generations = group.finish.generations(&self.shared);
        if let Err(refused) = ballot::vote(tables, ballot, &generations, pending, at_ms)? {
            return Ok(Err(refused));
        }
        let raises = match generation::judge(tables, &ballot.writes, &generations)? {
            Ok(raises) => raises,
            Err(refused) => return Ok(Err(refused)),
        };
        let position = group.position.next();
        write::write(tables, ballot, &generations, (position, at_ms), &mut group.finish)?;
        if !raises.is_empty() {
            generation::write_raised(tables, &raises, (position, at_ms), &mut generations)?;
            group.finish.generations = Some(generations);
        }
        group.position = position;
        Ok(Ok(Commit { position, at_ms, visible_at: Instant::now() }))
    }

    /// The group is durable: memory follows, then everyone is told.
    fn finish(&self, mut group: Group) {
        group.finish.apply(&self.shared);
        for (ballot, answer) in &mut group.answers {
            if let (Some(act), Ok(commit)) = (ballot.vote.on_decided.take(), answer) {
                (act.0)(commit.position);
            }
        }
        self.shared.decided.store(group.position.get(), Ordering::Release);
        let visible_at = Instant::now();
        group
            .answers
            .iter_mut()
            .flat_map(|(_, answer)| answer)
            .for_each(|commit| commit.visible_at = visible_at);
        fail::fail_point!("store::before-reply");
        for (ballot, answer) in group.answers {
            ballot.answer(answer);
        }
    }
}

fn check_deadline(vote: &Vote) -> Result<(), CommitError> {
    let has_passed = vote.deadline.is_some_and(|deadline| Instant::now() > deadline);
    if has_passed { Err(CommitError::Deadline) } else { Ok(()) }
}
