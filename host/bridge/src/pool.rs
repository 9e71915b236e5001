//! Who does which job, pure: workers, what they offer, what they have in hand, and what waits for them.
//!
//! ```text
//! submit ─→ waiting ─→ given (attempt 1) ─→ done
//!              ^            | the worker died, gave it back, or its lease ran out
//!              └────────────┘ attempt 2, 3; then the job is a dead letter with its history
//! ```
//! - A job goes to the worker that was longest without a new one, among those that offer its service, have credit left
//!   and are neither draining nor suspect. A worker that gets room is given the oldest job of all that it offers.
//! - What a worker says counts only with the job's present attempt: an answer of an earlier one is dropped and counted.
//! - A lease is a worker's to renew with every sign of progress. Beating hearts renew nothing: a worker that beats and
//!   gets nowhere is fenced off, and dismissed when it does not even answer to that. While whoever reads a job's pieces
//!   holds it back, its worker is not judged; being let go on renews the lease once for each sign of progress.
//! - A job of class [`Class::Once`] is never given twice once a worker may have begun it: it ends as
//!   [`End::Unknown`]. One that a worker gave back untouched is.
//! - A job that was given back goes to another worker, and rests a moment where there is none. One that was not even
//!   begun, because its worker was leaving or full, has not used up an attempt.
//!
//! Never here: sockets, the clock, presence (the queue tells who died), what a payload means.

mod job;
mod rules;
mod view;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use job::{Job, State};
use worker::{Slot, Worker};

pub use job::Class;
pub(crate) use job::{DeadLetter, End, Mishap, Order, Trial};
pub(crate) use rules::PoolRules;
pub use view::Lease;
pub use worker::WorkerState;

/// What a worker offers and a job asks for; cheap to clone.
pub(crate) type ServiceName = Arc<str>;

/// Names one job for as long as the pool lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(crate) u64);

/// What a worker says about a job it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report<P> {
    /// It goes on.
    Progress,
    /// A provisional piece of the answer; also progress.
    Chunk { index: u64, payload: P },
    /// The answer.
    Done(P),
    /// It went wrong in a way that another worker would not do better.
    Failed(P),
    /// Not begun, or undone: another worker may have it. Unless it was begun, it counts as no attempt.
    GaveBack { reason: String, was_begun: bool },
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoolAction<W, P> {
    /// Give a job to a worker. `remaining` is until the job's deadline.
    Give {
        worker: W,
        job: JobId,
        attempt: u32,
        service: ServiceName,
        lease: Duration,
        remaining: Duration,
        payload: P,
    },
    /// Tell a worker that its attempt is void.
    Recall { worker: W, job: JobId, attempt: u32 },
    /// Whoever reads the job's pieces fell behind, or caught up.
    Pace { worker: W, job: JobId, attempt: u32, is_paused: bool },
    /// This worker answers to nothing any more: end its session.
    Dismiss { worker: W },
    /// A piece of the answer of the present attempt.
    Streamed { job: JobId, attempt: u32, index: u64, payload: P },
    /// The pieces so far are void; `attempt` is the one that follows.
    Restarted { job: JobId, attempt: u32 },
    /// The job is over; its id is void.
    Ended { job: JobId, end: End<P> },
}

/// Counters since the pool began; see [`crate::Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolStats {
    pub(crate) given: u64,
    pub(crate) redispatched: u64,
    pub(crate) fenced: u64,
    pub(crate) dismissed: u64,
    pub(crate) dead_letters: u64,
}

/// What a payload weighs in the waiting room.
pub(crate) trait Size {
    fn size(&self) -> usize;
}

/// Workers and jobs. `W` names a worker, `P` is what jobs carry.
#[derive(Debug)]
pub(crate) struct Pool<W, P> {
    rules: PoolRules,
    workers: BTreeMap<W, Worker>,
    jobs: BTreeMap<JobId, Job<W, P>>,
    waiting: HashMap<ServiceName, VecDeque<JobId>>,
    waiting_count: usize,
    waiting_bytes: usize,
    /// Jobs that were given back and wait until then, unless there is another worker for them; they count as waiting.
    resting: BTreeSet<(Instant, JobId)>,
    /// Who may be given a job of a service, by turn: the lowest goes first.
    ready: HashMap<ServiceName, BTreeMap<u64, W>>,
    /// Leases and deadlines.
    due: BTreeSet<(Instant, JobId)>,
    /// Fenced slots that have not been answered to.
    overdue: BTreeSet<(Instant, W, JobId, u32)>,
    next_job: u64,
    next_turn: u64,
    dead_letters: VecDeque<DeadLetter<W>>,
    stats: PoolStats,
    actions: Vec<PoolAction<W, P>>,
}

impl<W: Ord + Copy, P: Clone + Size> Pool<W, P> {
    pub(crate) fn new(rules: PoolRules) -> Self {
        Self {
            rules,
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            waiting_bytes: 0,
            resting: BTreeSet::new(),
            ready: HashMap::new(),
            due: BTreeSet::new(),
            overdue: BTreeSet::new(),
            next_job: 1,
            next_turn: 1,
            dead_letters: VecDeque::new(),
            stats: PoolStats::default(),
            actions: Vec::new(),
        }
    }

    /// A worker offers `services` and can have `credit` jobs in hand, those it has now included. Said again, it changes
    /// both. Credit and services beyond the rules are cut off.
    pub(crate) fn declare(&mut self, now: Instant, id: W, services: &[ServiceName], credit: u16) {
        self.withdraw(id);
        let turn = self.take_turn();
        let worker = self.workers.entry(id).or_insert_with(|| Worker::new(turn));
        worker.services = services.iter().take(self.rules.services_max).cloned().collect();
        worker.credit = credit.min(self.rules.credit_max);
        worker.is_draining = false;
        worker.is_suspect = false;
        self.offer(now, id);
    }

    /// The worker takes no more; what it has it ends.
    pub(crate) fn drain(&mut self, id: W) {
        self.withdraw(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_draining = true;
        }
    }

    /// The worker cannot be reached for now: it keeps what it has and is given nothing.
    pub(crate) fn suspect(&mut self, id: W) {
        self.withdraw(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_suspect = true;
        }
    }

    /// It can be reached again.
    pub(crate) fn trust(&mut self, now: Instant, id: W) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_suspect = false;
            self.offer(now, id);
        }
    }

    /// The worker is dead, or its session is over: its jobs go to others.
    pub(crate) fn remove(&mut self, now: Instant, id: W, mishap: Mishap) {
        self.withdraw(id);
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        for ((job, attempt), slot) in worker.slots {
            match slot {
                Slot::Held => self.take_back(now, job, id, mishap.clone(), true),
                Slot::Fenced { until } => drop(self.overdue.remove(&(until, id, job, attempt))),
            }
        }
    }

    /// Takes a job, or ends it at once when there is no room or time for it.
    pub(crate) fn submit(&mut self, now: Instant, mut order: Order<P>) -> JobId {
        order.lease = order.lease.map(|lease| lease.max(self.rules.lease_min));
        let id = JobId(self.next_job);
        self.next_job += 1;
        if order.deadline <= now {
            self.actions.push(PoolAction::Ended { job: id, end: End::TimedOut { was_given: false } });
            return id;
        }
        let size = order.payload.size();
        let is_full = self.waiting_count >= self.rules.waiting_max
            || self.waiting_bytes + size > self.rules.waiting_bytes_max;
        if is_full && !self.has_ready(&order.service) {
            self.actions.push(PoolAction::Ended { job: id, end: End::Busy });
            return id;
        }
        let service = ServiceName::clone(&order.service);
        self.due.insert((order.deadline, id));
        self.jobs.insert(id, Job::new(order));
        self.enqueue(id, &service);
        self.dispatch(now, &service);
        id
    }

    /// Nobody wants the job any more. It is over at once; a worker that has it is told.
    pub(crate) fn cancel(&mut self, now: Instant, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            let was_given = job.was_begun();
            self.end(now, id, End::Cancelled { was_given });
        }
    }

    /// Whoever reads the job's pieces fell behind, or caught up; the worker that has it is told, now and later.
    pub(crate) fn pace(&mut self, now: Instant, id: JobId, is_paused: bool) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut job.is_paused, is_paused) == is_paused {
            return;
        }
        let Some(worker) = job.holder() else {
            return;
        };
        self.actions.push(PoolAction::Pace { worker, job: id, attempt: job.attempt, is_paused });
        if !is_paused {
            self.go_on(now, id);
        }
    }

    /// Its worker is judged again: from now on if it has got on since it was last let go on, and else by the lease that
    /// it had, so that a reader who stops and goes cannot keep a job with a worker that is stuck.
    fn go_on(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if std::mem::take(&mut job.has_got_on) {
            self.renew(now, id);
        } else if let State::Given { until, .. } = job.state {
            self.due.insert((until, id));
        }
    }

    /// Hears what a worker says about a job. False when it was of an attempt that is void.
    pub(crate) fn hear(&mut self, now: Instant, id: W, job: JobId, attempt: u32, report: Report<P>) -> bool {
        if !self.is_present(id, job, attempt) {
            if !matches!(report, Report::Progress | Report::Chunk { .. }) {
                self.release_fenced(now, id, job, attempt);
            }
            self.stats.fenced += 1;
            return false;
        }
        match report {
            Report::Progress => self.get_on(now, job),
            Report::Chunk { index, payload } => {
                self.get_on(now, job);
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.has_chunks = true;
                }
                self.actions.push(PoolAction::Streamed { job, attempt, index, payload });
            }
            Report::Done(payload) => self.conclude(now, id, (job, attempt), End::Done(payload)),
            Report::Failed(payload) => {
                let is_in_doubt = self.jobs.get(&job).is_some_and(|job| job.is_in_doubt);
                self.conclude(now, id, (job, attempt), End::Failed { payload, is_in_doubt });
            }
            Report::GaveBack { reason, was_begun } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.note_given_back(id, was_begun);
                }
                self.free(now, id, (job, attempt));
                self.take_back(now, job, id, Mishap::GaveBack { reason }, false);
            }
        }
        true
    }

    /// Looks at leases, deadlines, fenced slots, and jobs that rest.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.resting.first()
            && now >= at
        {
            self.wake(now, id);
        }
        while let Some(&(at, id)) = self.due.first()
            && now >= at
        {
            self.due.remove(&(at, id));
            self.pass(now, id);
        }
        while let Some(&(at, worker, job, attempt)) = self.overdue.first()
            && now >= at
        {
            self.overdue.remove(&(at, worker, job, attempt));
            self.dismiss(worker);
        }
    }

    /// When [`Pool::tick`] has something to do.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        let overdue = self.overdue.first().map(|(at, ..)| *at);
        let resting = self.resting.first().map(|(at, _)| *at);
        due.into_iter().chain(overdue).chain(resting).min()
    }

    /// What to do, in order; empty until the next call.
    pub(crate) fn take_actions(&mut self) -> Vec<PoolAction<W, P>> {
        std::mem::take(&mut self.actions)
    }

    /// Time in which we ourselves were away is nobody's lease.
    pub(crate) fn forgive(&mut self, absence: Duration) {
        let due = std::mem::take(&mut self.due);
        for (at, id) in due {
            let at = match self.jobs.get_mut(&id) {
                Some(job) => job.forgive(at, absence),
                None => continue,
            };
            self.due.insert((at, id));
        }
        let overdue = std::mem::take(&mut self.overdue);
        for (at, worker, job, attempt) in overdue {
            let until = at + absence;
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.slots.insert((job, attempt), Slot::Fenced { until });
            }
            self.overdue.insert((until, worker, job, attempt));
        }
    }

    fn take_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    fn has_ready(&self, service: &str) -> bool {
        self.ready.get(service).is_some_and(|ready| !ready.is_empty())
    }

    /// Takes a worker from the lists of those that may be given something.
    fn withdraw(&mut self, id: W) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        for service in &worker.services {
            if let Some(ready) = self.ready.get_mut(service) {
                ready.remove(&worker.turn);
                if ready.is_empty() {
                    self.ready.remove(service);
                }
            }
        }
    }

    /// Puts a worker where it can be given something, and gives it what waits.
    fn offer(&mut self, now: Instant, id: W) {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.has_room()) else {
            return;
        };
        let services = worker.services.clone();
        for service in &services {
            self.ready.entry(ServiceName::clone(service)).or_default().insert(worker.turn, id);
        }
        // The oldest job first, of whichever service: one that has many waiting does not keep the others out.
        while let Some(service) = self.oldest_waiting(&services).cloned() {
            self.dispatch_one(now, &service);
        }
    }

    /// The service whose first job has waited longest, among those that somebody is ready for.
    fn oldest_waiting<'a>(&self, services: &'a [ServiceName]) -> Option<&'a ServiceName> {
        let first = |service: &ServiceName| self.waiting.get(service).and_then(VecDeque::front).copied();
        let waiting = services.iter().filter(|service| self.has_ready(service) && first(service).is_some());
        waiting.min_by_key(|service| first(service))
    }

    /// In the order of submission, also those that come back.
    fn enqueue(&mut self, id: JobId, service: &ServiceName) {
        let size = self.jobs.get(&id).map_or(0, |job| job.order.payload.size());
        self.waiting_count += 1;
        self.waiting_bytes += size;
        let waiting = self.waiting.entry(ServiceName::clone(service)).or_default();
        waiting.insert(waiting.partition_point(|other| *other < id), id);
    }

    /// Gives what waits for a service to whoever may have it.
    fn dispatch(&mut self, now: Instant, service: &ServiceName) {
        while self.has_ready(service) && self.dispatch_one(now, service) {}
    }

    /// Gives the first of them. False when there is none.
    fn dispatch_one(&mut self, now: Instant, service: &ServiceName) -> bool {
        let first = self.waiting.get_mut(service).and_then(VecDeque::pop_front);
        if let Some(id) = first {
            self.leave_waiting(id);
            self.give(now, id, service);
        }
        if self.waiting.get(service).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(service);
        }
        first.is_some()
    }

    fn leave_waiting(&mut self, id: JobId) {
        self.waiting_count -= 1;
        self.waiting_bytes -= self.jobs.get(&id).map_or(0, |job| job.order.payload.size());
    }

    /// Whose turn it is; not the one that gave the job back, while there is another.
    fn choose(&self, id: JobId, service: &str) -> Option<W> {
        let ready = self.ready.get(service)?;
        let shunned = self.jobs.get(&id).and_then(|job| job.given_back_by);
        ready.values().find(|worker| Some(**worker) != shunned).or_else(|| ready.values().next()).copied()
    }

    fn give(&mut self, now: Instant, id: JobId, service: &ServiceName) {
        let Some(worker_id) = self.choose(id, service) else {
            return;
        };
        self.withdraw(worker_id);
        let turn = self.take_turn();
        let (Some(worker), Some(job)) = (self.workers.get_mut(&worker_id), self.jobs.get_mut(&id)) else {
            return;
        };
        worker.turn = turn;
        let lease_until = job.give(now, worker_id);
        worker.slots.insert((id, job.attempt), Slot::Held);
        let action = PoolAction::Give {
            worker: worker_id,
            job: id,
            attempt: job.attempt,
            service: ServiceName::clone(service),
            lease: job.lease(now),
            remaining: job.order.deadline.saturating_duration_since(now),
            payload: job.order.payload.clone(),
        };
        self.due.insert((lease_until, id));
        self.stats.given += 1;
        self.stats.redispatched += u64::from(job.attempts_counted() > 1);
        self.actions.push(action);
        if job.is_paused {
            let attempt = job.attempt;
            self.actions.push(PoolAction::Pace { worker: worker_id, job: id, attempt, is_paused: true });
        }
        self.relist(worker_id);
    }

    /// As `offer`, for one that was just given something.
    fn relist(&mut self, id: W) {
        if let Some(worker) = self.workers.get(&id).filter(|worker| worker.has_room()) {
            for service in &worker.services {
                self.ready.entry(ServiceName::clone(service)).or_default().insert(worker.turn, id);
            }
        }
    }

    fn is_present(&self, id: W, job: JobId, attempt: u32) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.attempt == attempt && job.holder() == Some(id))
    }

    /// A sign of progress.
    fn get_on(&mut self, now: Instant, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.has_got_on = true;
        }
        self.renew(now, id);
    }

    fn renew(&mut self, now: Instant, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && let Some((old, new)) = job.renew(now)
        {
            self.due.remove(&(old, id));
            self.due.insert((new, id));
        }
    }

    fn conclude(&mut self, now: Instant, worker: W, held: (JobId, u32), end: End<P>) {
        self.free(now, worker, held);
        self.forget(held.0);
        self.actions.push(PoolAction::Ended { job: held.0, end });
    }

    /// A worker has a slot free again.
    fn free(&mut self, now: Instant, worker: W, held: (JobId, u32)) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.slots.remove(&held);
            self.withdraw(worker);
            self.offer(now, worker);
        }
    }

    fn release_fenced(&mut self, now: Instant, worker: W, job: JobId, attempt: u32) {
        let slots = self.workers.get(&worker).map(|worker| &worker.slots);
        let Some(Slot::Fenced { until }) = slots.and_then(|slots| slots.get(&(job, attempt))) else {
            return;
        };
        self.overdue.remove(&(*until, worker, job, attempt));
        self.free(now, worker, (job, attempt));
    }

    /// A lease or a deadline has passed.
    fn pass(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if now >= job.order.deadline {
            let was_given = job.was_begun();
            return self.end(now, id, End::TimedOut { was_given });
        }
        // Held back by whoever reads it, it cannot get on, and is not judged until it may: at the latest at its deadline,
        // which whoever holds it back has set, as the lease.
        if job.is_paused {
            return;
        }
        if let Some((worker, _)) = job.lease_passed(now) {
            self.fence(now, worker, id);
            self.take_back(now, id, worker, Mishap::Wedged, true);
        }
    }

    /// Once: it is given nothing from then on.
    fn dismiss(&mut self, id: W) {
        self.withdraw(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.is_draining = true;
        if !std::mem::replace(&mut worker.is_dismissed, true) {
            self.stats.dismissed += 1;
            self.actions.push(PoolAction::Dismiss { worker: id });
        }
    }

    /// A worker's attempt is void; its slot stays taken until it answers.
    fn fence(&mut self, now: Instant, worker: W, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (attempt, until) = (job.attempt, now + self.rules.fence_patience);
        self.withdraw(worker);
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.slots.insert((id, attempt), Slot::Fenced { until });
            self.overdue.insert((until, worker, id, attempt));
            self.relist(worker);
        }
        self.actions.push(PoolAction::Recall { worker, job: id, attempt });
    }

    /// A given job comes back: it is given again, or over.
    fn take_back(&mut self, now: Instant, id: JobId, worker: W, mishap: Mishap, may_be_begun: bool) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let State::Given { until, .. } = job.state {
            self.due.remove(&(until, id));
        }
        // Its deadline may have shared the lease's entry.
        self.due.insert((job.order.deadline, id));
        let is_given_back = matches!(mishap, Mishap::GaveBack { .. });
        job.history.push(Trial { worker, attempt: job.attempt, mishap });
        job.state = State::Waiting;
        job.is_in_doubt |= may_be_begun;
        if may_be_begun && job.order.class == Class::Once {
            return self.end(now, id, End::Unknown);
        }
        if job.attempts_counted() >= self.rules.attempts_max || job.untaken >= self.rules.untaken_max {
            return self.bury(now, id);
        }
        let service = ServiceName::clone(&job.order.service);
        let rest = job.rest();
        if std::mem::take(&mut job.has_chunks) {
            let attempt = job.attempt + 1;
            self.actions.push(PoolAction::Restarted { job: id, attempt });
        }
        if is_given_back && self.choose(id, &service).is_none_or(|other| other == worker) {
            return self.put_to_rest(now + rest, id);
        }
        self.enqueue(id, &service);
        self.dispatch(now, &service);
    }

    /// Nobody but the worker that gave it back could have it now: at once it would do so again.
    fn put_to_rest(&mut self, until: Instant, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.rests_until = Some(until);
            self.resting.insert((until, id));
            self.waiting_count += 1;
            self.waiting_bytes += job.order.payload.size();
        }
    }

    fn wake(&mut self, now: Instant, id: JobId) {
        if let Some(service) = self.leave_rest(id) {
            self.enqueue(id, &service);
            self.dispatch(now, &service);
        }
    }

    /// The service of a job that was resting.
    fn leave_rest(&mut self, id: JobId) -> Option<ServiceName> {
        let job = self.jobs.get_mut(&id)?;
        let until = job.rests_until.take()?;
        let service = ServiceName::clone(&job.order.service);
        self.resting.remove(&(until, id));
        self.leave_waiting(id);
        Some(service)
    }

    fn bury(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (service, history) = (ServiceName::clone(&job.order.service), job.history.clone());
        self.stats.dead_letters += 1;
        self.dead_letters.push_back(DeadLetter { job: id, service, at: now, history: history.clone() });
        while self.dead_letters.len() > self.rules.dead_letters_max {
            self.dead_letters.pop_front();
        }
        let is_in_doubt = job.is_in_doubt;
        self.forget(id);
        let trials = history.into_iter().map(|trial| (trial.attempt, trial.mishap)).collect();
        self.actions.push(PoolAction::Ended { job: id, end: End::Dead { trials, is_in_doubt } });
    }

    /// Ends a job for a reason of its own; whoever has it is told.
    fn end(&mut self, now: Instant, id: JobId, end: End<P>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        match job.holder() {
            Some(worker) => self.fence(now, worker, id),
            None => self.leave_queue(id),
        }
        self.forget(id);
        self.actions.push(PoolAction::Ended { job: id, end });
    }

    /// Takes a waiting job out of its queue.
    fn leave_queue(&mut self, id: JobId) {
        if self.leave_rest(id).is_some() {
            return;
        }
        let Some(service) = self.jobs.get(&id).map(|job| ServiceName::clone(&job.order.service)) else {
            return;
        };
        let Some(waiting) = self.waiting.get_mut(&service) else {
            return;
        };
        let Some(index) = waiting.iter().position(|waiting| *waiting == id) else {
            return;
        };
        waiting.remove(index);
        if waiting.is_empty() {
            self.waiting.remove(&service);
        }
        self.leave_waiting(id);
    }

    fn forget(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.due.remove(&(job.order.deadline, id));
        if let State::Given { until, .. } = job.state {
            self.due.remove(&(until, id));
        }
    }
}

#[cfg(test)]
mod tests;
