//! The host's side, pure: who is there, what they asked, and what they are still owed.
//!
//! - A session lives while its client beats; after `liveness` missed intervals it is gone: its calls are told
//!   `cancelled`, its queued replies are dropped and counted.
//! - A call is handed to the service once per (session, number) while the queue remembers it: a repeat of a running
//!   one joins it, a repeat of a finished one is answered from a small memory. One that was cancelled because its
//!   client vanished, and whose client returned, is handed over again only if it ended without effect. An answer that
//!   cannot tell the effect is not remembered: a repeat goes to the service, which may know by then.
//! - A call that somebody waits for ends in exactly one reply: the service's, or at deadline + one heartbeat an error
//!   `timeout` with effect unknown.
//! - A host that is closing lets what it has go on, and answers new calls `closing`, which their client takes to the
//!   next host. What is not done when it leaves is not answered: its client asks the next host, as after a crash.
//! - A call that is an order is not handed to the service but to a worker, by the [`Pool`]; to its caller that is no
//!   difference. The host orders too, under tickets. Who a worker is and whether it lives, its session says.
//!
//! Never here: sockets, the clock (`now` comes in), JSON of requests, randomness.

mod calls;
mod limits;
mod notice;
mod orders;
mod presence;
mod session;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::frame::{ClientBody, FrameError, HostBody, Place, ToClient, ToHost};
use crate::pool::{JobId, Order, Pool, ServiceName};
use crate::rpc::{self, Effect, RpcError};
use crate::service::{CancelReason, Role, SessionId};
use crate::token::Token;

use calls::{Request, RunningCall};
use orders::Orderer;
use session::{Claim, Session};

pub use limits::{Limits, PeerInfo, Stats, WorkerInfo};
pub use notice::Notice;
pub(crate) use orders::{Ticket, TicketNews};

/// A connection, as the socket names it; means nothing beyond the connection's life.
pub(crate) type Route = Bytes;

/// How the queue keeps time and whom it lets in.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) heartbeat: Duration,
    pub(crate) liveness: u32,
    /// The most a peer is granted.
    pub(crate) role_max: Role,
    pub(crate) token: Option<Token>,
    pub(crate) limits: Limits,
    /// Services that clients may order from; operators may order from all.
    pub(crate) open_services: Vec<ServiceName>,
}

/// Names one handing-over to the service; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// How the service ended a call, already encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The effect, when it failed.
    pub(crate) failed: Option<Effect>,
    pub(crate) payload: Bytes,
}

impl Outcome {
    pub(crate) fn error(number: u64, error: &RpcError) -> Self {
        Self { failed: Some(error.data.effect), payload: rpc::encode_error(Some(number), error) }
    }

    fn into_body(self, number: u64) -> HostBody {
        match self.failed {
            None => HostBody::Result { number, payload: self.payload },
            Some(_) => HostBody::Error { number, payload: self.payload },
        }
    }
}

/// What the service says about a call.
#[derive(Debug)]
pub(crate) enum Output {
    Accepted,
    Chunk {
        attempt: u32,
        index: u64,
        payload: Bytes,
    },
    Reset {
        attempt: u32,
    },
    /// A chunk could not be taken: stop.
    Refused(CancelReason),
    /// It goes on.
    Progress,
    /// Not begun, or undone: somebody else may have it.
    GaveBack {
        reason: String,
    },
    Finished(Outcome),
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    Tick,
    /// `wall_ms`: the wall clock, for the incarnation of a new session.
    Heard {
        route: Route,
        frame: ToHost,
        wall_ms: u64,
    },
    Garbage {
        route: Route,
        error: FrameError,
    },
    /// The connection is gone.
    Lost {
        route: Route,
    },
    /// What was last sent to the connection is not: too much before it is unread.
    Slow {
        route: Route,
    },
    Said {
        call: CallId,
        output: Output,
    },
    /// The host orders something of a worker.
    Order {
        ticket: Ticket,
        order: Order<Bytes>,
    },
    /// The host does not want it any more.
    CancelOrder {
        ticket: Ticket,
    },
    /// The host does not take an order's pieces as fast as they come, or does again.
    PaceOrder {
        ticket: Ticket,
        is_paused: bool,
    },
    /// Take no more calls; those that run go on.
    Close,
    /// Say goodbye to everybody, and stop what still runs: its answers reach nobody.
    Leave,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Send {
        route: Route,
        frame: ToClient,
    },
    Disconnect {
        route: Route,
    },
    Dispatch(Dispatch),
    Cancel {
        call: CallId,
        reason: CancelReason,
    },
    /// The call's reader fell behind, or caught up.
    Pace {
        call: CallId,
        is_paused: bool,
    },
    /// What became of something that the host ordered.
    Tell {
        ticket: Ticket,
        news: TicketNews,
    },
}

/// One call for the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispatch {
    pub(crate) call: CallId,
    pub(crate) session: SessionId,
    pub(crate) role: Role,
    pub(crate) number: u64,
    pub(crate) acked_through: u64,
    pub(crate) deadline: Instant,
    pub(crate) payload: Bytes,
}

/// Messages that wait for one peer, replies and refusals included, before it is dropped like a dead one.
const WAITING_MESSAGES_MAX: usize = 8_192;
/// Heartbeats of ours that a peer may have left unread, or as many as are answered in the time in which a silent one is
/// still waited for and half as long again, if that is more: beyond it, it does not read.
const BEATS_BEHIND_MIN: u64 = 8;

/// The host's memory of its peers.
#[derive(Debug)]
pub(crate) struct Queue {
    rules: Rules,
    /// Tells this host's run from every other.
    run: u64,
    sessions: BTreeMap<u128, Session>,
    routes: HashMap<Route, u128>,
    strangers: HashMap<Route, u32>,
    calls: BTreeMap<CallId, RunningCall>,
    /// Bytes of their requests.
    call_bytes: usize,
    by_number: BTreeMap<(SessionId, u64), CallId>,
    deadlines: BTreeSet<(Instant, CallId)>,
    pool: Pool<u128, Bytes>,
    orderers: BTreeMap<JobId, Orderer>,
    /// Calls that a worker has and whose callers have not been told so.
    unaccepted: BTreeSet<CallId>,
    tickets: BTreeMap<Ticket, JobId>,
    next_call: u64,
    next_channel: u64,
    stepped_at: Instant,
    ticked_at: Instant,
    is_closing: bool,
    stats: Stats,
    actions: Vec<Action>,
    notices: Vec<Notice>,
}

impl Queue {
    pub(crate) fn new(rules: Rules, run: u64, now: Instant) -> Self {
        Self {
            run,
            sessions: BTreeMap::new(),
            routes: HashMap::new(),
            strangers: HashMap::new(),
            calls: BTreeMap::new(),
            call_bytes: 0,
            by_number: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            pool: Pool::new(rules.limits.pool_rules(rules.heartbeat)),
            orderers: BTreeMap::new(),
            unaccepted: BTreeSet::new(),
            tickets: BTreeMap::new(),
            next_call: 1,
            next_channel: 1,
            stepped_at: now,
            ticked_at: now,
            is_closing: false,
            stats: Stats::default(),
            actions: Vec::new(),
            notices: Vec::new(),
            rules,
        }
    }

    /// Takes one input and says what to do, in order.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.forgive_own_absence(now);
        match input {
            Input::Tick => self.look_at_clock(now),
            Input::Heard { route, frame: ToHost::Hello(hello), wall_ms } => {
                self.greet(now, route, &hello, wall_ms)
            }
            Input::Heard { route, frame, .. } => self.hear(now, &route, frame),
            Input::Garbage { route, error } => self.refuse_garbage(&route, error),
            Input::Lost { route } => self.lose(&route),
            Input::Slow { route } => self.give_up_reading(&route),
            Input::Said { call, output } => self.take_output(now, call, output),
            Input::Order { ticket, order } => self.take_host_order(now, ticket, order),
            Input::CancelOrder { ticket } => self.cancel_host_order(ticket),
            Input::PaceOrder { ticket, is_paused } => self.pace_host_order(ticket, is_paused),
            Input::Close => self.is_closing = true,
            Input::Leave => self.leave(),
        }
        self.perform_pool();
        std::mem::take(&mut self.actions)
    }

    /// When a tick is due: at the next deadline, and four times a heartbeat to look for silent peers.
    pub(crate) fn wake_at(&self) -> Instant {
        let round = self.ticked_at + self.rules.heartbeat / 4;
        let due = self.deadlines.first().map(|(due, _)| *due);
        due.into_iter().chain(self.pool.wake_at()).fold(round, Instant::min)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.pool.is_idle() && self.sessions.values().all(Session::is_drained)
    }

    pub(crate) fn stats(&self) -> Stats {
        let stats = Stats { sessions: self.sessions.len(), calls: self.calls.len(), ..self.stats };
        stats.with_pool(&self.pool)
    }

    pub(crate) fn peers(&self, now: Instant) -> Vec<PeerInfo> {
        let describe = |session: &Session| PeerInfo {
            worker: self.describe_worker(session.id.client, now),
            ..session.describe(now)
        };
        self.sessions.values().map(describe).collect()
    }

    /// Whether a worker offers the service.
    pub(crate) fn offers(&self, service: &str) -> bool {
        self.pool.offers(service)
    }

    /// What a person may want to know, in order; empty until the next step.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn patience(&self) -> Duration {
        self.rules.heartbeat * self.rules.liveness
    }

    /// A pause of our own proves nothing about the peers: what they said waits in the socket.
    fn forgive_own_absence(&mut self, now: Instant) {
        let absence = now.saturating_duration_since(self.stepped_at);
        self.stepped_at = now;
        if absence > 2 * self.rules.heartbeat {
            self.sessions.values_mut().for_each(|session| session.heard_at += absence);
            self.pool.forgive(absence);
        }
    }

    fn send(&mut self, client: u128, frame: ToClient) {
        if let Some(route) = self.sessions.get(&client).and_then(|session| session.route.clone()) {
            self.actions.push(Action::Send { route, frame });
        }
    }

    fn hear(&mut self, now: Instant, route: &Route, frame: ToHost) {
        let Some(&client) = self.routes.get(route) else {
            return self.refuse_stranger(route);
        };
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        session.heard_at = now.max(session.heard_at);
        match frame {
            ToHost::Hello(_) => {}
            ToHost::Bye => return self.say_farewell(client),
            ToHost::Ack { at } => {
                if session.acknowledge(at) == Claim::Untrue {
                    return self.refuse_untruth(client);
                }
            }
            ToHost::Heartbeat { at, acked_through, beat } => {
                self.hear_heartbeat(now, client, at, acked_through, beat)
            }
            ToHost::Said { at, serial, body } => self.hear_said(now, client, at, serial, body),
        }
        self.flush(client);
    }

    /// False when the frame is void, and whoever sent it was told why.
    fn take_place(&mut self, client: u128, at: Place) -> bool {
        let claim = self.sessions.get_mut(&client).map(|session| session.acknowledge(at));
        match claim {
            Some(Claim::Possible) => true,
            Some(Claim::OfAnotherChannel) => {
                self.refuse_channel(client);
                false
            }
            Some(Claim::Untrue) => {
                self.refuse_untruth(client);
                false
            }
            None => false,
        }
    }

    fn hear_heartbeat(&mut self, now: Instant, client: u128, at: Place, acked_through: u64, beat: u64) {
        if !self.take_place(client, at) {
            return;
        }
        let behind_max = BEATS_BEHIND_MIN.max(3 * u64::from(self.rules.liveness));
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let Some(is_lost) = session.hear_beat(beat) else {
            return self.refuse_untruth(client);
        };
        session.release_finished(acked_through);
        if session.beats_behind() > behind_max {
            return self.expire(client, CancelReason::SlowReader);
        }
        if let Some(frame) = session.next_beat(now, self.rules.heartbeat / 2) {
            self.send(client, frame);
        }
        if is_lost {
            self.repeat(client);
        }
    }

    fn hear_said(&mut self, now: Instant, client: u128, at: Place, serial: u64, body: ClientBody) {
        if !self.take_place(client, at) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if !session.receiver.take(serial, body.payload_len()) {
            return;
        }
        match body {
            ClientBody::Cancel { number } => self.cancel_by_caller(client, number),
            ClientBody::Pace { number, is_paused } => self.pace(client, number, is_paused),
            ClientBody::Work(body) => self.hear_worker(now, client, body),
            ClientBody::Request { number, acked_through, remaining_ms, attempt, order, payload } => {
                let deadline = now + Duration::from_millis(u64::from(remaining_ms));
                session.release_finished(acked_through);
                self.take_request(now, client, Request { number, attempt, deadline, order, payload });
            }
        }
    }

    /// Lets something wait for the peer's window; a peer for which too much waits is dropped like a dead one. The bytes
    /// of jobs are not counted for that: how many a worker is given is bounded by its credit, and it asked for them.
    fn push(&mut self, client: u128, body: HostBody) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let is_work = matches!(body, HostBody::Work(_));
        session.sender.push(body);
        let waiting = session.sender.waiting_size();
        let is_overfull = waiting.messages > WAITING_MESSAGES_MAX
            || (!is_work && waiting.bytes > self.rules.limits.reply_bytes_max);
        if is_overfull {
            self.expire(client, CancelReason::SlowReader);
        }
    }

    fn flush(&mut self, client: u128) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let Some(route) = session.route.clone() else {
            return;
        };
        while let Some(frame) = session.next_frame() {
            self.actions.push(Action::Send { route: route.clone(), frame });
        }
        self.release_held(client);
    }

    fn repeat(&mut self, client: u128) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        for frame in session.repeat_unacked() {
            self.send(client, frame);
        }
    }

    fn look_at_clock(&mut self, now: Instant) {
        self.ticked_at = now;
        let patience = self.patience();
        let is_silent = |session: &&Session| now >= session.heard_at + patience;
        let silent: Vec<u128> =
            self.sessions.values().filter(is_silent).map(|session| session.id.client).collect();
        for client in silent {
            self.expire(client, CancelReason::ClientGone);
        }
        self.pool.tick(now);
        self.perform_pool();
        self.accept_orders();
        while let Some(&(due, call)) = self.deadlines.first()
            && now >= due
        {
            self.deadlines.remove(&(due, call));
            self.pass_deadline(due, call);
        }
    }

    fn leave(&mut self) {
        let clients: Vec<u128> = self.sessions.keys().copied().collect();
        for client in clients {
            self.send(client, ToClient::Bye);
        }
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            self.cancel(call, CancelReason::Shutdown);
        }
        self.cancel_host_orders();
    }
}

#[cfg(test)]
mod tests;
