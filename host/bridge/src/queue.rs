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
//!
//! Never here: sockets, the clock (`now` comes in), JSON of requests, randomness.

mod calls;
mod limits;
mod presence;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::frame::{ClientBody, FrameError, HostBody, Place, ToClient, ToHost};
use crate::rpc::{self, Effect, RpcError};
use crate::service::{CancelReason, Role, SessionId};
use crate::token::Token;

use calls::{Request, RunningCall};
use session::Session;

pub use limits::{Limits, PeerInfo, Stats};

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
    Said {
        call: CallId,
        output: Output,
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

/// Heartbeats of ours that a peer may have left unread: more, and it does not read.
const BEATS_BEHIND_MAX: u64 = 8;

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
    by_number: BTreeMap<(SessionId, u64), CallId>,
    deadlines: BTreeSet<(Instant, CallId)>,
    next_call: u64,
    next_channel: u64,
    stepped_at: Instant,
    ticked_at: Instant,
    is_closing: bool,
    stats: Stats,
    actions: Vec<Action>,
}

impl Queue {
    pub(crate) fn new(rules: Rules, run: u64, now: Instant) -> Self {
        Self {
            rules,
            run,
            sessions: BTreeMap::new(),
            routes: HashMap::new(),
            strangers: HashMap::new(),
            calls: BTreeMap::new(),
            by_number: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_call: 1,
            next_channel: 1,
            stepped_at: now,
            ticked_at: now,
            is_closing: false,
            stats: Stats::default(),
            actions: Vec::new(),
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
            Input::Said { call, output } => self.take_output(now, call, output),
            Input::Close => self.is_closing = true,
            Input::Leave => self.leave(),
        }
        std::mem::take(&mut self.actions)
    }

    /// When a tick is due: at the next deadline, and four times a heartbeat to look for silent peers.
    pub(crate) fn wake_at(&self) -> Instant {
        let round = self.ticked_at + self.rules.heartbeat / 4;
        self.deadlines.first().map_or(round, |(due, _)| round.min(*due))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.sessions.values().all(Session::is_drained)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { sessions: self.sessions.len(), calls: self.calls.len(), ..self.stats }
    }

    pub(crate) fn peers(&self, now: Instant) -> Vec<PeerInfo> {
        self.sessions.values().map(|session| session.describe(now)).collect()
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
            ToHost::Bye => return self.end_session(client, CancelReason::ClientGone),
            ToHost::Ack { at } => {
                session.acknowledge(at);
            }
            ToHost::Heartbeat { at, acked_through, beat } => {
                self.hear_heartbeat(client, at, acked_through, beat)
            }
            ToHost::Said { at, serial, body } => self.hear_said(now, client, at, serial, body),
        }
        self.flush(client);
    }

    fn hear_heartbeat(&mut self, client: u128, at: Place, acked_through: u64, beat: u64) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if !session.acknowledge(at) {
            return self.refuse_channel(client);
        }
        session.release_finished(acked_through);
        let is_lost = session.hear_beat(beat);
        if session.beats_behind() > BEATS_BEHIND_MAX {
            self.stats.expired += 1;
            return self.end_session(client, CancelReason::SlowReader);
        }
        let frame = session.next_beat();
        self.send(client, frame);
        if is_lost {
            self.repeat(client);
        }
    }

    fn hear_said(&mut self, now: Instant, client: u128, at: Place, serial: u64, body: ClientBody) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if !session.acknowledge(at) {
            return self.refuse_channel(client);
        }
        let weight = if let ClientBody::Request { payload, .. } = &body { payload.len() } else { 0 };
        if !session.receiver.take(serial, weight) {
            return;
        }
        match body {
            ClientBody::Cancel { number } => self.cancel_by_caller(client, number),
            ClientBody::Pace { number, is_paused } => self.pace(client, number, is_paused),
            ClientBody::Request { number, acked_through, remaining_ms, attempt, payload } => {
                let deadline = now + Duration::from_millis(u64::from(remaining_ms));
                session.release_finished(acked_through);
                self.take_request(now, client, Request { number, attempt, deadline, payload });
            }
        }
    }

    fn push(&mut self, client: u128, body: HostBody) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.sender.push(body);
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
            self.stats.expired += 1;
            self.end_session(client, CancelReason::ClientGone);
        }
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
    }
}

#[cfg(test)]
mod tests;
