//! The queue between bare clients and bare workers, pure.
//!
//! Who does which request, with attempts and fencing, is the [`Pool`]'s; here is who is there. A READY begins a
//! conversation, so whatever its worker had before is void and goes to another. A worker with a request in hand is not
//! judged by its silence.
//!
//! A client that leaves takes its waiting requests with it. What a worker has of it the worker may end, for nothing in
//! bare frames recalls it; nobody does it again.
//!
//! Never here: ZeroMQ, the clock (`now` comes in), chance, what the host's own requests mean (`calls`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::calls::{Asked, Calls};
use super::envelope::{AttemptToken, Content, Request, WorkerSaid};
use super::limits::{PppLimits, PppStats};
use crate::pool::{Class, End, JobId, Mishap, Order, Pool, PoolAction, Report};
use crate::queue::{CallId, Output, Route};
use crate::rpc::{self, Effect, HostRequest, RpcError};
use crate::service::{CancelReason, SessionId};

/// What bare workers offer, for they name nothing.
pub(super) const SERVICE: &str = "ppp";
/// Messages of one connection that are not understood before it is hung up on.
const OFFENCES_MAX: u32 = 8;

/// How the queue keeps time; see [`super::PppConfig`].
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) heartbeat: Duration,
    pub(super) liveness: u32,
    pub(super) deadline: Duration,
    pub(super) lease: Option<Duration>,
    pub(super) limits: PppLimits,
}

/// Names one conversation with a worker; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkerNumber(u64);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    Tick,
    /// `wall_ms`: the wall clock, for the incarnation of a new session.
    ClientSaid {
        route: Route,
        frames: Vec<Bytes>,
        wall_ms: u64,
    },
    WorkerSaid {
        route: Route,
        frames: Vec<Bytes>,
    },
    ClientLost {
        route: Route,
    },
    /// It did not read; it is hung up on.
    ClientSlow {
        route: Route,
    },
    WorkerLost {
        route: Route,
    },
    /// It did not read; it is hung up on.
    WorkerSlow {
        route: Route,
    },
    /// The service says something about a call.
    Said {
        call: CallId,
        output: Output,
    },
    /// Take nothing new.
    Close,
    /// Stop what still runs: its answers reach nobody.
    Leave,
}

/// What to do about it.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    ToClient {
        route: Route,
        frames: Vec<Bytes>,
    },
    ToWorker {
        route: Route,
        frames: Vec<Bytes>,
    },
    /// A heartbeat, unless the worker has something unread.
    BeatWorker {
        route: Route,
    },
    HangUpClient {
        route: Route,
    },
    HangUpWorker {
        route: Route,
    },
    Dispatch(Dispatch),
    Cancel {
        call: CallId,
        reason: CancelReason,
    },
}

/// One call for the service.
#[derive(Debug, PartialEq)]
pub(super) struct Dispatch {
    pub(super) call: CallId,
    pub(super) session: SessionId,
    pub(super) number: u64,
    pub(super) acked_through: u64,
    pub(super) deadline: Instant,
    pub(super) method: String,
    pub(super) params: Value,
}

#[derive(Debug)]
struct Worker {
    route: Route,
    heard_at: Instant,
    /// What it was handed last and has not answered: whatever else it echoes is of an earlier conversation.
    handed: Option<AttemptToken>,
}

/// Whom a request's answer goes to; none when it is gone.
#[derive(Debug)]
struct Asker {
    back: Option<(Route, Vec<Bytes>)>,
}

/// What one client has under way with workers.
#[derive(Debug, Default)]
struct Client {
    jobs: HashSet<JobId>,
}

/// The queue's memory of its peers.
#[derive(Debug)]
pub(super) struct Queue {
    rules: Rules,
    /// Tells this queue's tokens from every other's.
    run: u64,
    pool: Pool<WorkerNumber, Content>,
    workers: BTreeMap<WorkerNumber, Worker>,
    by_route: HashMap<Route, WorkerNumber>,
    askers: BTreeMap<JobId, Asker>,
    clients: HashMap<Route, Client>,
    calls: Calls,
    offences: HashMap<Route, u32>,
    next_worker: u64,
    beat_at: Instant,
    stepped_at: Instant,
    ticked_at: Instant,
    is_closing: bool,
    stats: PppStats,
    actions: Vec<Action>,
}

impl Queue {
    /// `run` and `sessions` are random.
    pub(super) fn new(rules: Rules, run: u64, sessions: u128, now: Instant) -> Self {
        Self {
            run,
            pool: Pool::new(rules.limits.pool_rules(rules.lease)),
            workers: BTreeMap::new(),
            by_route: HashMap::new(),
            askers: BTreeMap::new(),
            clients: HashMap::new(),
            calls: Calls::new(sessions, rules.deadline, rules.heartbeat),
            offences: HashMap::new(),
            next_worker: 1,
            beat_at: now,
            stepped_at: now,
            ticked_at: now,
            is_closing: false,
            stats: PppStats::default(),
            actions: Vec::new(),
            rules,
        }
    }

    /// Takes one input and says what to do, in order.
    pub(super) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.forgive_own_absence(now);
        match input {
            Input::Tick => {}
            Input::ClientSaid { route, frames, wall_ms } => self.hear_client(now, route, frames, wall_ms),
            Input::WorkerSaid { route, frames } => self.hear_worker(now, route, frames),
            Input::ClientLost { route } => self.lose_client(now, &route),
            Input::ClientSlow { route } => {
                self.stats.slow_readers += 1;
                self.lose_client(now, &route);
                self.actions.push(Action::HangUpClient { route });
            }
            Input::WorkerLost { route } => self.lose_worker(now, &route),
            Input::WorkerSlow { route } => {
                self.stats.slow_readers += 1;
                self.lose_worker(now, &route);
                self.actions.push(Action::HangUpWorker { route });
            }
            Input::Said { call, output } => self.hear_service(call, output),
            Input::Close => self.is_closing = true,
            Input::Leave => self.calls.leave(&mut self.actions),
        }
        self.look_at_clock(now);
        self.perform_pool(now);
        std::mem::take(&mut self.actions)
    }

    /// When a tick is due: at the next deadline, and four times a heartbeat to look for silent workers.
    pub(super) fn wake_at(&self) -> Instant {
        let due = self.pool.wake_at().into_iter().chain(self.calls.wake_at());
        due.fold(self.ticked_at + self.round(), Instant::min)
    }

    /// Workers are looked at so often.
    fn round(&self) -> Duration {
        self.rules.heartbeat / 4
    }

    /// Nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.pool.is_idle() && self.calls.is_idle()
    }

    pub(super) fn stats(&self) -> PppStats {
        let counted = self.pool.stats();
        PppStats {
            clients: self.clients.len(),
            workers: self.workers.len(),
            waiting: self.pool.waiting_count(),
            in_hand: self.pool.in_hand_count(),
            calls: self.calls.len(),
            given: counted.given,
            redispatched: counted.redispatched,
            fenced: self.stats.fenced + counted.fenced,
            dismissed: counted.dismissed,
            ..self.stats
        }
    }

    /// A pause of our own proves nothing about the peers: what they said waits to be read.
    fn forgive_own_absence(&mut self, now: Instant) {
        let absence = now.saturating_duration_since(self.stepped_at);
        self.stepped_at = now;
        if absence > 2 * self.rules.heartbeat {
            self.workers.values_mut().for_each(|worker| worker.heard_at += absence);
            self.pool.forgive(absence);
        }
    }

    fn hear_client(&mut self, now: Instant, route: Route, frames: Vec<Bytes>, wall_ms: u64) {
        let Some(request) = Request::decode(frames) else {
            return if self.offend(&route) {
                self.actions.push(Action::HangUpClient { route })
            };
        };
        if !self.clients.contains_key(&route) {
            if self.clients.len() >= self.rules.limits.clients_max {
                self.stats.refused += 1;
                return self.actions.push(Action::HangUpClient { route });
            }
            self.clients.insert(route.clone(), Client::default());
        }
        match rpc::decode_host_request(&request.content.0) {
            Ok(None) => self.take_job(now, route, request),
            Ok(Some(asked)) => self.take_call(now, route, request, asked, wall_ms),
            Err(invalid) => {
                let (id, error) = *invalid;
                self.answer(route, request.envelope, rpc::encode_refusal(&id, &error));
            }
        }
    }

    fn take_call(&mut self, now: Instant, route: Route, request: Request, asked: HostRequest, wall_ms: u64) {
        let Request { envelope, content } = request;
        if !self.calls.is_running(&route, &asked.id)
            && let Err(error) = self.may_call(&route)
        {
            return self.answer(route, envelope, rpc::encode_refusal(&asked.id, &error));
        }
        match self.calls.take(now, Asked { route: route.clone(), envelope, content, request: asked, wall_ms })
        {
            Ok(Some(dispatch)) => {
                self.stats.dispatched += 1;
                self.actions.push(Action::Dispatch(dispatch));
            }
            Ok(None) => self.stats.repeats += 1,
            Err((envelope, refusal)) => self.answer(route, envelope, refusal),
        }
    }

    fn may_call(&mut self, route: &Route) -> Result<(), RpcError> {
        let limits = &self.rules.limits;
        let is_full =
            self.calls.len() >= limits.calls_max || self.under_way(route) >= limits.client_requests_max;
        if self.is_closing {
            return Err(RpcError::new("closing", Effect::None, "the host is stopping")
                .with_next("ask again when it is back"));
        }
        if is_full {
            self.stats.refused += 1;
            return Err(RpcError::new("busy", Effect::None, "too many requests are under way")
                .with_next("wait for some of them, then ask again"));
        }
        Ok(())
    }

    fn under_way(&self, route: &Route) -> usize {
        self.clients.get(route).map_or(0, |client| client.jobs.len()) + self.calls.count_of(route)
    }

    /// What a worker is to do. Without room it is dropped, as a bare queue would: its client asks again.
    fn take_job(&mut self, now: Instant, route: Route, request: Request) {
        if self.is_closing || self.under_way(&route) >= self.rules.limits.client_requests_max {
            self.stats.refused += 1;
            return;
        }
        self.stats.requests += 1;
        let order = Order {
            service: SERVICE.into(),
            class: Class::Idempotent,
            deadline: now + self.rules.deadline,
            lease: self.rules.lease,
            payload: request.content,
        };
        let job = self.pool.submit(now, order);
        if let Some(client) = self.clients.get_mut(&route) {
            client.jobs.insert(job);
        }
        self.askers.insert(job, Asker { back: Some((route, request.envelope)) });
    }

    fn hear_service(&mut self, call: CallId, output: Output) {
        if let Some(answer) = self.calls.hear(call, output) {
            match answer.back {
                Some((route, envelope)) => self.answer(route, envelope, answer.payload),
                None => self.stats.unwanted += 1,
            }
        }
    }

    fn answer(&mut self, route: Route, envelope: Vec<Bytes>, payload: Bytes) {
        self.reply(route, envelope, Content(vec![payload]));
    }

    fn reply(&mut self, route: Route, envelope: Vec<Bytes>, content: Content) {
        self.stats.replies += 1;
        let frames = Request::encode(envelope, content);
        self.actions.push(Action::ToClient { route, frames });
    }

    fn lose_client(&mut self, now: Instant, route: &Route) {
        self.offences.remove(route);
        self.calls.lose(route, &mut self.actions);
        let Some(client) = self.clients.remove(route) else {
            return;
        };
        for job in client.jobs {
            if let Some(asker) = self.askers.get_mut(&job) {
                asker.back = None;
            }
            if !self.is_in_hand(job) {
                self.pool.cancel(now, job);
            }
        }
    }

    fn is_in_hand(&self, job: JobId) -> bool {
        self.pool.holder(job).is_some()
    }

    fn hear_worker(&mut self, now: Instant, route: Route, frames: Vec<Bytes>) {
        let Some(said) = WorkerSaid::decode(frames) else {
            return if self.offend(&route) {
                self.actions.push(Action::HangUpWorker { route })
            };
        };
        let known = self.by_route.get(&route).copied();
        if let Some(worker) = known.and_then(|number| self.workers.get_mut(&number)) {
            worker.heard_at = now.max(worker.heard_at);
        }
        match (said, known) {
            (WorkerSaid::Ready, _) => self.greet(now, route),
            (WorkerSaid::Heartbeat, Some(_)) => {}
            (WorkerSaid::Heartbeat, None) => self.stats.strangers += 1,
            (WorkerSaid::Reply { token: Some(token), content }, Some(number)) => {
                self.hear_reply(now, number, token, content)
            }
            (WorkerSaid::Reply { .. }, _) => self.stats.fenced += 1,
        }
    }

    fn hear_reply(&mut self, now: Instant, number: WorkerNumber, token: AttemptToken, content: Content) {
        let handed =
            self.workers.get_mut(&number).and_then(|worker| worker.handed.take_if(|handed| *handed == token));
        match handed {
            // The pool counts what is void meanwhile.
            Some(_) => drop(self.pool.hear(now, number, token.job, token.attempt, Report::Done(content))),
            None => self.stats.fenced += 1,
        }
    }

    /// A conversation begins; the one before, if any, is over.
    fn greet(&mut self, now: Instant, route: Route) {
        self.lose_worker(now, &route);
        if self.workers.len() >= self.rules.limits.workers_max {
            self.stats.refused += 1;
            return self.actions.push(Action::HangUpWorker { route });
        }
        let number = WorkerNumber(self.next_worker);
        self.next_worker += 1;
        self.by_route.insert(route.clone(), number);
        self.workers.insert(number, Worker { route, heard_at: now, handed: None });
        self.pool.declare(now, number, &[SERVICE.into()], 1);
    }

    fn lose_worker(&mut self, now: Instant, route: &Route) {
        self.offences.remove(route);
        if let Some(number) = self.by_route.remove(route) {
            self.workers.remove(&number);
            self.drop_unwanted(now, number);
            self.pool.remove(now, number, Mishap::Died);
        }
    }

    /// What a worker has for a client that is gone is not done again.
    fn drop_unwanted(&mut self, now: Instant, number: WorkerNumber) {
        let is_unwanted = |job: &JobId| self.askers.get(job).is_none_or(|asker| asker.back.is_none());
        let unwanted: Vec<JobId> = self.pool.held_by(number).filter(is_unwanted).collect();
        unwanted.into_iter().for_each(|job| self.pool.cancel(now, job));
    }

    /// Counts a message that was not understood. True when it is one too many.
    fn offend(&mut self, route: &Route) -> bool {
        self.stats.malformed += 1;
        let known = self.clients.contains_key(route) || self.by_route.contains_key(route);
        // Of strangers as many are remembered as there may be peers; of more, each is hung up on at once.
        if !known && self.offences.len() >= self.rules.limits.clients_max + self.rules.limits.workers_max {
            return true;
        }
        let offences = self.offences.entry(route.clone()).or_default();
        *offences += 1;
        *offences > OFFENCES_MAX
    }

    fn look_at_clock(&mut self, now: Instant) {
        self.pool.tick(now);
        for answer in self.calls.tick(now, &mut self.actions) {
            if let Some((route, envelope)) = answer.back {
                self.answer(route, envelope, answer.payload);
            }
        }
        if now >= self.ticked_at + self.round() {
            self.ticked_at = now;
            self.expire_silent(now);
            self.beat(now);
        }
    }

    fn beat(&mut self, now: Instant) {
        if now < self.beat_at + self.rules.heartbeat {
            return;
        }
        self.beat_at = now;
        let beat = |worker: &Worker| Action::BeatWorker { route: worker.route.clone() };
        self.actions.extend(self.workers.values().map(beat));
    }

    /// An idle worker has to beat; one with a request in hand may have no hands free.
    fn expire_silent(&mut self, now: Instant) {
        let patience = self.rules.heartbeat * self.rules.liveness;
        let is_silent = |(number, worker): &(&WorkerNumber, &Worker)| {
            let is_idle = self.pool.worker(**number).is_none_or(|(_, _, in_hand, _)| in_hand == 0);
            is_idle && now >= worker.heard_at + patience
        };
        let silent: Vec<Route> =
            self.workers.iter().filter(is_silent).map(|(_, worker)| worker.route.clone()).collect();
        for route in silent {
            self.stats.expired += 1;
            self.lose_worker(now, &route);
            self.actions.push(Action::HangUpWorker { route });
        }
    }

    fn perform_pool(&mut self, now: Instant) {
        loop {
            let actions = self.pool.take_actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.perform(now, action));
        }
    }

    fn perform(&mut self, now: Instant, action: PoolAction<WorkerNumber, Content>) {
        match action {
            PoolAction::Give { worker, job, attempt, payload, .. } => {
                self.give(worker, job, attempt, payload)
            }
            PoolAction::Ended { job, end } => self.end(job, end),
            PoolAction::Dismiss { worker } => {
                if let Some(route) = self.workers.get(&worker).map(|worker| worker.route.clone()) {
                    self.lose_worker(now, &route);
                    self.actions.push(Action::HangUpWorker { route });
                }
            }
            // Bare workers cannot be told, and say nothing piece by piece.
            PoolAction::Recall { .. }
            | PoolAction::Pace { .. }
            | PoolAction::Streamed { .. }
            | PoolAction::Restarted { .. } => {}
        }
    }

    fn give(&mut self, worker: WorkerNumber, job: JobId, attempt: u32, content: Content) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            let token = AttemptToken { run: self.run, job, attempt };
            worker.handed = Some(token);
            let frames = Request::encode(vec![token.encode(), Bytes::new()], content);
            self.actions.push(Action::ToWorker { route: worker.route.clone(), frames });
        }
    }

    fn end(&mut self, job: JobId, end: End<Content>) {
        let back = self.askers.remove(&job).and_then(|asker| asker.back);
        if let Some((route, _)) = &back
            && let Some(client) = self.clients.get_mut(route)
        {
            client.jobs.remove(&job);
        }
        match (end, back) {
            (End::Done(content), Some((route, envelope))) => self.reply(route, envelope, content),
            (End::Done(_), None) => self.stats.unwanted += 1,
            (_, Some(_)) => self.stats.unanswered += 1,
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests;
