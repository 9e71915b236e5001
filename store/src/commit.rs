//! Deciding: votes in one order, one redb transaction for a group of them, one decision point.
//!
//! ```text
//! vote     deadline, everything read is still so, sessions, bounds    on the caller's thread, under the order's lock
//!          the unit has its position; units may begin on it           memory   crash: nothing happened
//! decide   one durable redb commit for the whole group                crash before: nothing; after: everything
//! finish   vectors and outbox into memory, then the new position      cannot fail; crash: rebuilt at open
//! reply    in the order of the votes                                  an acknowledged unit is durable and searchable
//! ```
//! A unit votes against decided states and against those voted for before it, so a busy object batches: while one
//! group is being written, the next one gathers on top of it. All that can refuse a unit happens in its vote; each
//! that passes has its own position, without gaps. An answer, also of a unit that only read, waits until what the unit
//! read is durable.
//!
//! An I/O error leaves nobody knowing whether the group was decided: all its units get `unknown`, what was voted on top
//! of it is aborted without effect, the database is reopened, and the dedupe rows answer whoever resends. Where the disk
//! had no room, units that write are refused from then on in their vote, without effect, until there is some.
//!
//! Who else must take part in a commit joins at three places, in this order: what may refuse goes into `ballot::vote`,
//! what must be durable into `write::write`, what memory follows into `write::Finish`; participants run in the order in
//! which they stand there, today objects, names, vectors, outbox, audit, records, generations, sessions. Never here:
//! retries, who may do what.

mod ballot;
mod recovery;
mod room;
mod write;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SendError, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLockWriteGuard};

use crate::bug;
use crate::curator;
use crate::damage;
use crate::error::{CommitError, Failure};
use crate::generation::{self, Raised, Survey};
use crate::history;
use crate::id::{ComponentId, ObjectId, Position};
use crate::limit;
use crate::order::{Order, Posters};
use crate::session::DedupeKey;
use crate::shared::Shared;
use crate::stored::{self, Asked};
use crate::tables::{META_POSITION, Tables};
use crate::unit::{Layer, Seen, Unit};

use write::Finish;
pub(crate) use write::write_name;

/// What a unit's decision depends on besides its reads and writes.
#[derive(Debug, Default)]
pub struct Vote {
    /// Not to be decided after this.
    pub deadline: Option<Instant>,
    /// The request that the unit answers, decided at most once.
    pub dedupe: Option<DedupeKey>,
    /// Stored with the request and given back when it is resent; counts against the unit's bytes.
    pub outcome: Vec<u8>,
    /// Runs in the vote: the unit has its position, and units that begin on what is voted for do not see it yet. Must be
    /// quick, must not panic and must not touch the store. What it did is undone by whoever hears that the unit failed.
    pub on_voted: Option<OnDecided>,
    /// Runs in the commit's finish: the unit is durable, its position not yet visible. Whoever takes a snapshot at or
    /// after that position finds it done. Must be quick, must not panic and must not ask the store for a commit.
    /// It does not run when the commit ends as `Unavailable`: then only the reopened store knows what was decided.
    pub on_decided: Option<OnDecided>,
}

/// What a vote does at the moment it passes, or is decided.
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
pub struct Decided(Arc<Answer>);

/// Where an answer is left for whoever waits. Unlike a channel's receiver, a waiter yields no processor before it
/// sleeps: a decision takes far longer than that, and the processors are the committer's meanwhile.
#[derive(Debug, Default)]
struct Answer {
    told: Mutex<Option<Result<Commit, CommitError>>>,
    is_told: Condvar,
}

impl Decided {
    /// Blocks until the unit is decided.
    ///
    /// # Errors
    /// [`CommitError`]; its `effect()` says whether the unit may have been decided.
    pub fn wait(self) -> Result<Commit, CommitError> {
        let mut told = self.0.told.lock();
        loop {
            // Every ballot answers, also one that is dropped.
            if let Some(answer) = told.take() {
                return answer;
            }
            self.0.is_told.wait(&mut told);
        }
    }
}

/// How often a unit that is to be alone looks whether it is: a fraction of a commit.
const ALONE_POLL: Duration = Duration::from_micros(200);

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
    era: Option<u64>,
    snapshot: Position,
    /// What its writes ask for of their owners' room.
    stored: Asked,
    /// How many posts it makes for the owners of their sources, as far as it read those.
    posters: Posters,
    /// What was found out about the raises among its writes before it voted.
    survey: Option<Survey>,
    /// The raises that its vote passed.
    raises: Vec<Raised>,
    task: Task,
    reply: Option<Reply>,
}

/// What the committer does for a ballot.
enum Task {
    /// Write it at its position.
    Write(Position),
    /// Nothing but this answer, once everything before it is durable.
    Answer(Box<Result<Commit, CommitError>>),
}

type Reply = Box<dyn FnOnce(Result<Commit, CommitError>) + Send>;

impl Ballot {
    fn new(unit: Unit, vote: Vote, reply: Reply) -> Ballot {
        let (snapshot, era) = (unit.snapshot(), unit.era());
        let (seen, writes) = unit.into_parts();
        Ballot {
            stored: stored::asked(&writes),
            posters: posters(&seen, &writes),
            seen,
            writes,
            vote,
            era,
            snapshot,
            survey: None,
            raises: Vec::new(),
            task: Task::Write(Position::NONE),
            reply: Some(reply),
        }
    }

    fn answer(mut self, result: Result<Commit, CommitError>) {
        self.tell(result);
    }

    /// A reply is the host's: a panic in it is that bug's alone, and takes nothing from whoever else waits.
    fn tell(&mut self, result: Result<Commit, CommitError>) {
        let Some(reply) = self.reply.take() else { return };
        if let Err(failure) = bug::guard("the reply to a commit", || reply(result)) {
            tracing::error!(%failure, "a unit's answer was lost");
        }
    }

    /// Who owns an object that it wrote or read.
    fn owner_known(&self, id: ObjectId) -> Option<&ComponentId> {
        owner_known(&self.seen, &self.writes, id)
    }

    /// Where it will be written; none for one that is only answered.
    fn position(&self) -> Option<Position> {
        match self.task {
            Task::Write(position) => Some(position),
            Task::Answer(_) => None,
        }
    }

    /// The answer to a unit that has nothing to write.
    fn as_read(&self, shared: &Shared) -> Commit {
        Commit { position: self.snapshot, at_ms: shared.now_ms(), visible_at: Instant::now() }
    }

    /// Whether it asks for nothing but an answer.
    fn only_reads(&self) -> bool {
        let Vote { dedupe, on_voted, on_decided, .. } = &self.vote;
        self.writes.is_empty() && dedupe.is_none() && on_voted.is_none() && on_decided.is_none()
    }
}

impl Drop for Ballot {
    /// The committer died with the unit in hand.
    fn drop(&mut self) {
        self.tell(Err(CommitError::Unavailable(Failure::Reopening)));
    }
}

fn owner_known<'a>(seen: &'a Seen, writes: &'a Layer, id: ObjectId) -> Option<&'a ComponentId> {
    let seen = || seen.objects.get(&id).and_then(Option::as_ref);
    writes.objects.get(&id).or_else(seen).map(|object| &object.owner)
}

fn posters(seen: &Seen, writes: &Layer) -> Posters {
    let mut posters = Posters::new();
    for owner in writes.posts.iter().filter_map(|post| owner_known(seen, writes, post.source)) {
        *posters.entry(owner.clone()).or_default() += 1;
    }
    posters
}

/// A ballot with what its caller is told.
type Told = (Box<Ballot>, Result<Commit, CommitError>);

/// Votes on a unit and sends it to its decision; `on_done` is called exactly once, on the committer's thread or on
/// this one. A unit that is refused has heard so when this returns, unless the reason itself is not durable yet.
pub(crate) fn decide(shared: &Shared, unit: Unit, vote: Vote, on_done: Reply) {
    let mut ballot = Box::new(Ballot::new(unit, vote, on_done));
    ballot.survey = generation::survey(shared, &ballot.writes);
    let votes = shared.votes.read();
    let told = match ballot.era {
        // A decided state is one snapshot, so a unit that only read it is serializable where it began.
        None if ballot.only_reads() => {
            let answer = check_deadline(&ballot.vote).map(|()| ballot.as_read(shared));
            Err((ballot, answer))
        }
        _ => line_up(shared, ballot),
    };
    drop(votes);
    // Nobody is told anything under the order's lock: a reply may begin the next unit.
    if let Err((ballot, answer)) = told {
        ballot.answer(answer);
    }
}

/// Waits until nothing is pending; nobody votes while the answer is held.
pub(crate) fn alone(shared: &Shared) -> RwLockWriteGuard<'_, ()> {
    let votes = shared.votes.write();
    while shared.order.read().waiting() > 0 {
        std::thread::sleep(ALONE_POLL);
    }
    votes
}

/// Decides a unit while nothing else is pending and nobody else votes: for what changes states that pending units may
/// have read. Blocks, and so do all other votes meanwhile. Aborted when it is alone and `may` answers false.
pub(crate) fn decide_alone(
    shared: &Shared,
    unit: Unit,
    vote: Vote,
    may: impl FnOnce() -> bool,
) -> Result<Commit, CommitError> {
    let votes = alone(shared);
    if !may() {
        return Err(CommitError::Aborted);
    }
    let (decided, reply) = pair();
    let told = line_up(shared, Box::new(Ballot::new(unit, vote, reply)));
    if let Err((ballot, answer)) = told {
        ballot.answer(answer);
    }
    let outcome = decided.wait();
    drop(votes);
    outcome
}

/// Votes, and sends the ballot on in the order of votes.
fn line_up(shared: &Shared, mut ballot: Box<Ballot>) -> Result<(), Told> {
    let mut order = shared.order.write();
    let Some(queue) = shared.queue.lock().clone() else {
        return Err((ballot, Err(CommitError::Closed)));
    };
    match judge(shared, &mut order, &ballot) {
        Verdict::Tell(answer) => return Err((ballot, answer)),
        Verdict::TellOnceDurable(answer) => {
            order.add_reader();
            ballot.task = Task::Answer(Box::new(answer));
        }
        Verdict::Pass(raises) => {
            ballot.raises = raises;
            let Ballot { writes, vote, stored, posters, .. } = ballot.as_mut();
            let growth = room::growth(shared, &order, writes);
            let position = order.add(writes, vote.dedupe.as_ref(), &vote.outcome, shared.now_ms());
            order.grow(&growth);
            order.stored.add(position, std::mem::take(stored));
            order.add_posters(position, std::mem::take(posters));
            if let Some(act) = vote.on_voted.take() {
                (act.0)(position);
            }
            shared.voted.store(position.get(), Ordering::Release);
            ballot.task = Task::Write(position);
        }
    }
    match queue.send(Job::Decide(ballot)) {
        Err(SendError(Job::Decide(ballot))) => Err((ballot, Err(CommitError::Closed))),
        _ => Ok(()),
    }
}

/// What a ballot is told.
enum Verdict {
    Pass(Vec<Raised>),
    Tell(Result<Commit, CommitError>),
    TellOnceDurable(Result<Commit, CommitError>),
}

fn judge(shared: &Shared, order: &mut Order, ballot: &Ballot) -> Verdict {
    let verdict = may_vote(shared, order, ballot).and_then(|()| match ballot.only_reads() {
        true => Ok(Vec::new()),
        false => {
            damage::guard(|| ballot::vote(shared, order, ballot, shared.now_ms())).unwrap_or_else(|failure| {
                shared.report(&failure);
                Err(CommitError::ReadOnlyStore { cause: failure.to_string().into() })
            })
        }
    });
    match verdict {
        Ok(raises) if !ballot.only_reads() => Verdict::Pass(raises),
        Ok(_) if ballot.snapshot <= shared.position() => Verdict::Tell(Ok(ballot.as_read(shared))),
        Ok(_) => Verdict::TellOnceDurable(Ok(ballot.as_read(shared))),
        Err(known @ CommitError::DuplicateRequest { position, .. }) if position > shared.position() => {
            Verdict::TellOnceDurable(Err(known))
        }
        Err(refused) => Verdict::Tell(Err(refused)),
    }
}

/// What may refuse a ballot whatever it read and wrote.
fn may_vote(shared: &Shared, order: &Order, ballot: &Ballot) -> Result<(), CommitError> {
    check_deadline(&ballot.vote)?;
    if let Some(cause) = shared.stand.read_only() {
        return Err(CommitError::ReadOnlyStore { cause });
    }
    if ballot.era.is_some_and(|era| era != order.era()) {
        return Err(CommitError::Aborted);
    }
    if order.waiting() >= limit::QUEUE_UNITS_MAX {
        return Err(CommitError::Busy { allowed: limit::QUEUE_UNITS_MAX });
    }
    Ok(())
}

/// A decision to block on, with the reply that fulfils it.
pub(crate) fn pair() -> (Decided, Reply) {
    let answer = Arc::new(Answer::default());
    let decided = Decided(Arc::clone(&answer));
    let reply = move |result| {
        *answer.told.lock() = Some(result);
        answer.is_told.notify_one();
    };
    (decided, Box::new(reply))
}

/// Starts the committer; it ends when the queue's last sender is gone.
pub(crate) fn spawn(
    make_shared: impl FnOnce(Sender<Job>) -> Arc<Shared>,
) -> std::io::Result<(Arc<Shared>, JoinHandle<()>)> {
    // Bounded by the order, which counts who waits.
    let (sender, queue) = mpsc::channel();
    let shared = make_shared(sender);
    let committer = Committer { shared: Arc::clone(&shared), queue, is_parked: Cell::new(false) };
    let thread = std::thread::Builder::new().name("store-committer".into()).spawn(move || committer.run())?;
    Ok((shared, thread))
}

struct Committer {
    shared: Arc<Shared>,
    queue: Receiver<Job>,
    /// The file is damaged, and no longer opened again.
    is_parked: Cell<bool>,
}

/// A group of ballots being decided, and what to do once they are durable.
struct Group {
    ballots: Vec<Ballot>,
    at_ms: u64,
    /// The last position written; the one before the group when it writes nothing.
    position: Position,
    finish: Finish,
}

impl Committer {
    fn run(self) {
        while let Some(job) = self.next_job() {
            let _turn = self.shared.turn.lock();
            // Whoever waits must hear, whatever happens here: a committer that is gone answers nobody.
            if let Err(failure) = bug::guard("the committer", || self.do_one(job)) {
                self.restart(&failure);
            }
        }
    }

    /// Waits; none when the last handle is gone.
    fn next_job(&self) -> Option<Job> {
        while self.shared.stand.full().is_some() {
            match self.queue.recv_timeout(self.shared.options.room_poll) {
                Err(RecvTimeoutError::Timeout) => self.look_for_room(),
                told => return told.ok(),
            }
        }
        self.queue.recv().ok()
    }

    /// Answers its failures itself, those of the file included; what is left is a panic of this host's own code.
    fn do_one(&self, job: Job) {
        match job {
            Job::Decide(ballot) => self.decide_group(self.gather(*ballot)),
            Job::Reopen(failure) => self.reopen_if_broken(&failure),
        }
    }

    /// Takes what waits already: while one group is being decided, the next one gathers.
    fn gather(&self, first: Ballot) -> Group {
        let mut bytes = first.writes.bytes;
        let mut ballots = vec![first];
        while ballots.len() < limit::GROUP_UNITS_MAX && bytes < limit::GROUP_BYTES_MAX {
            match self.queue.try_recv() {
                Ok(Job::Decide(ballot)) => {
                    bytes += ballot.writes.bytes;
                    ballots.push(*ballot);
                }
                // The group is about to meet the same failure.
                Ok(Job::Reopen(_)) => self.shared.is_reopen_asked.store(false, Ordering::Release),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let (at_ms, position) = (self.shared.now_ms(), self.shared.position());
        Group { ballots, at_ms, position, finish: Finish::default() }
    }

    fn decide_group(&self, mut group: Group) {
        match damage::guard(|| self.write_group(&mut group)) {
            Ok(()) => self.finish(group),
            Err(failure) => self.recover(group, &failure),
        }
    }

    /// Writes what was voted for, in order, and commits.
    fn write_group(&self, group: &mut Group) -> Result<(), Failure> {
        let Group { ballots, at_ms, position, finish } = group;
        let mut written = ballots.iter().filter_map(|ballot| Some((ballot, ballot.position()?))).peekable();
        if written.peek().is_none() {
            return Ok(());
        }
        let txn = self.shared.database.write()?;
        let mut tables = Tables::of(&txn);
        let mut generations = Arc::clone(&self.shared.generations.read());
        for (ballot, own) in written {
            write::write(&mut tables, &mut generations, ballot, (own, *at_ms), finish)?;
            *position = own;
        }
        tables.meta.open()?.insert(META_POSITION, position.get())?;
        history::note_group(&mut tables, *position, *at_ms)?;
        finish.count(&mut tables)?;
        finish.stored = tables.count_stored()?;
        write::trim_redo(&mut tables, &self.shared, finish)?;
        drop(tables);
        fail::fail_point!("store::before-commit");
        txn.commit()?;
        fail::fail_point!("store::after-commit");
        Ok(())
    }

    /// The group is durable: memory follows, then everyone is told.
    fn finish(&self, mut group: Group) {
        let may_have_work = group.finish.apply_index(&self.shared);
        let visible_at = self.make_visible(&mut group);
        if may_have_work {
            // Once it is visible: until then the snapshot before it may be searched, and rows that it removed count.
            curator::wake(&self.shared);
        }
        fail::fail_point!("store::before-reply");
        for mut ballot in group.ballots {
            let answer = match std::mem::replace(&mut ballot.task, Task::Write(Position::NONE)) {
                Task::Write(position) => Ok(Commit { position, at_ms: group.at_ms, visible_at }),
                Task::Answer(answer) => *answer,
            };
            ballot.answer(answer);
        }
    }

    /// Under the order's lock, so that no vote sees a post or a state twice, or not at all.
    fn make_visible(&self, group: &mut Group) -> Instant {
        let mut order = self.shared.order.write();
        group.finish.apply_outbox(&self.shared);
        group.finish.apply_generations(&self.shared);
        if group.finish.has_swept_sessions {
            order.forget_sessions();
        }
        group.finish.apply_room(&self.shared, &mut order);
        for ballot in &mut group.ballots {
            if let (Some(position), Some(act)) = (ballot.position(), ballot.vote.on_decided.take()) {
                (act.0)(position);
            }
        }
        self.shared.decided.store(group.position.get(), Ordering::Release);
        let visible_at = Instant::now();
        order.stored.settle(group.position, &group.finish.stored);
        let aged = order.settle(group.position, group.ballots.len());
        // Nobody votes while the order is held, so what takes long is dropped after it.
        drop(order);
        drop(aged);
        visible_at
    }
}

fn check_deadline(vote: &Vote) -> Result<(), CommitError> {
    let has_passed = vote.deadline.is_some_and(|deadline| Instant::now() > deadline);
    if has_passed { Err(CommitError::Deadline) } else { Ok(()) }
}
