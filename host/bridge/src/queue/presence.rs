//! Who is there: greetings, connections, farewells, and answers to those who do not belong.

use std::time::Instant;

use super::calls::RunningCall;
use super::session::Session;
use super::{Action, Notice, Queue, Route};
use crate::frame::{FrameError, Hello, PROTOCOL, Refusal, ToClient, Welcome};
use crate::pool::Mishap;
use crate::rpc::{self, Effect, RpcError};
use crate::service::{CancelReason, Role, SessionId};

/// Offences (garbage, frames of strangers) after which a connection is dropped.
pub(super) const OFFENCES_MAX: u32 = 8;
/// To whoever could only not have read it.
const UNTRUE: &str = "it acknowledges what was never sent";
/// Connections that offended and are remembered; past it the memory starts anew.
const STRANGERS_MAX: usize = 4_096;

impl Queue {
    pub(super) fn greet(&mut self, now: Instant, route: Route, hello: &Hello, wall_ms: u64) {
        if let Some((refusal, error)) = self.find_objection(&route, hello) {
            self.stats.refused += 1;
            return self.refuse(&route, refusal, &error);
        }
        self.strangers.remove(&route);
        let is_same_session =
            |session: &Session| hello.incarnation == 0 || session.id.incarnation == hello.incarnation;
        match self.sessions.get(&hello.client).map(is_same_session) {
            Some(true) => self.take_back(now, route, hello),
            Some(false) => {
                self.note_twin(hello.client);
                self.refuse_twin(&route);
            }
            None => self.admit(now, route, hello, wall_ms),
        }
    }

    fn find_objection(&self, route: &Route, hello: &Hello) -> Option<(Refusal, RpcError)> {
        let refuse =
            |refusal, kind, message: String| Some((refusal, RpcError::new(kind, Effect::None, message)));
        if hello.protocol != PROTOCOL {
            let message = format!("bridge protocol {}; this host speaks {PROTOCOL}", hello.protocol);
            return refuse(Refusal::Protocol, "protocol", message);
        }
        if self.rules.token.as_ref().is_some_and(|token| !token.matches(hello.token.as_ref())) {
            return refuse(Refusal::Token, "token", "the token is missing or is not this host's".to_owned());
        }
        let is_of_now = |session: &&Session| (hello.run, hello.channel) == (self.run, session.channel);
        let session = self.sessions.get(&hello.client).filter(is_of_now);
        if session.is_some_and(|session| !session.has_said(hello.received)) {
            return refuse(Refusal::Malformed, "malformed", UNTRUE.to_owned());
        }
        if self.routes.get(route).is_some_and(|client| *client != hello.client) {
            return refuse(Refusal::Malformed, "malformed", "one connection carries one session".to_owned());
        }
        let sessions_max = self.rules.limits.sessions_max;
        let is_full = !self.sessions.contains_key(&hello.client) && self.sessions.len() >= sessions_max;
        if is_full && self.find_ghost().is_none() {
            return refuse(
                Refusal::Full,
                "full",
                format!("{sessions_max} clients are connected; no more are taken"),
            );
        }
        None
    }

    /// The session to give up for a newcomer: one whose connection is gone, and of those first one that nothing is done
    /// for, and first the one that was not heard for longest.
    fn find_ghost(&self) -> Option<u128> {
        let is_busy =
            |session: &Session| session.calls > 0 || self.pool.held_by(session.id.client).next().is_some();
        let lost = self.sessions.values().filter(|session| session.route.is_none());
        lost.min_by_key(|session| (is_busy(session), session.heard_at)).map(|session| session.id.client)
    }

    fn make_room(&mut self) {
        if self.sessions.len() >= self.rules.limits.sessions_max
            && let Some(ghost) = self.find_ghost()
        {
            self.expire(ghost, CancelReason::ClientGone);
        }
    }

    fn admit(&mut self, now: Instant, route: Route, hello: &Hello, wall_ms: u64) {
        self.make_room();
        let incarnation = if hello.incarnation == 0 { wall_ms.max(1) } else { hello.incarnation };
        let id = SessionId { client: hello.client, incarnation };
        let role = self.grant(hello.role);
        let channel = self.next_channel;
        self.next_channel += 1;
        let mut session = Session::new(id, role, channel, now);
        // What the service still has from this session's earlier life counts.
        let calls = self.calls_of(id);
        session.calls = calls.len();
        session.call_bytes =
            calls.iter().filter_map(|call| self.calls.get(call)).map(RunningCall::bytes).sum();
        self.sessions.insert(hello.client, session);
        self.bind(route, hello.client);
        self.welcome(hello.client);
        self.note(Notice::Came { session: id, role });
    }

    /// A worker is a worker; for the others the endpoint sets the most.
    fn grant(&self, asked: Role) -> Role {
        asked.min(self.rules.role_max)
    }

    fn take_back(&mut self, now: Instant, route: Route, hello: &Hello) {
        let role = self.grant(hello.role);
        let Some(session) = self.sessions.get_mut(&hello.client) else {
            return;
        };
        if (hello.run, hello.channel) == (self.run, session.channel) {
            session.resume(hello.received);
        } else if session.is_channel_known && session.route.as_ref() == Some(&route) {
            // The client has used this channel, and this HELLO is older than that: it came late.
            return;
        } else if session.is_channel_known {
            // Late on a dead connection, which loses nothing by an answer; or its owner has left the session, and its
            // farewell was lost or comes by another way: it waits until this one is over.
            return self.refuse_twin(&route);
        } else {
            session.resume(0);
        }
        session.heard_at = now.max(session.heard_at);
        session.role = role;
        let id = session.id;
        if session.greet_again() > OFFENCES_MAX {
            return self.expire(hello.client, CancelReason::SlowReader);
        }
        if session.route.as_ref() != Some(&route) {
            self.stats.reconnects += 1;
            self.note(Notice::Returned { session: id });
        }
        self.bind(route, hello.client);
        self.pool.trust(now, hello.client);
        self.welcome(hello.client);
        self.repeat(hello.client);
        self.flush(hello.client);
    }

    /// The newest connection is the session's; an older one is dropped.
    fn bind(&mut self, route: Route, client: u128) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if let Some(old) = session.route.replace(route.clone())
            && old != route
        {
            self.routes.remove(&old);
            self.actions.push(Action::Disconnect { route: old });
        }
        self.routes.insert(route, client);
    }

    fn welcome(&mut self, client: u128) {
        let (run, heartbeat) = (self.run, self.rules.heartbeat);
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let frame = ToClient::Welcome(Welcome {
            protocol: PROTOCOL,
            incarnation: session.id.incarnation,
            run,
            channel: session.channel,
            received: session.receiver.tell(),
            heartbeat_ms: u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX),
            role: session.role,
        });
        self.send(client, frame);
    }

    pub(super) fn lose(&mut self, route: &Route) {
        self.strangers.remove(route);
        let Some(client) = self.routes.remove(route) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&client) {
            session.route = None;
        }
        self.pool.suspect(client);
    }

    /// What is on its way to a connection is more than it may leave unread.
    pub(super) fn give_up_reading(&mut self, route: &Route) {
        match self.routes.get(route) {
            Some(&client) => self.expire(client, CancelReason::SlowReader),
            None => {
                self.strangers.remove(route);
                self.actions.push(Action::Disconnect { route: route.clone() });
            }
        }
    }

    /// A peer that is not there any more, or might as well not be.
    pub(super) fn expire(&mut self, client: u128, reason: CancelReason) {
        self.stats.expired += 1;
        if let Some(session) = self.sessions.get(&client) {
            let (session, silent) = (session.id, self.stepped_at.saturating_duration_since(session.heard_at));
            self.note(Notice::Expired { session, silent, is_slow: reason == CancelReason::SlowReader });
        }
        self.end_session(client, reason);
    }

    pub(super) fn say_farewell(&mut self, client: u128) {
        if let Some(session) = self.sessions.get(&client) {
            let session = session.id;
            self.note(Notice::Left { session });
        }
        self.pool.remove(self.stepped_at, client, Mishap::Left);
        self.end_session(client, CancelReason::ClientGone);
    }

    pub(super) fn end_session(&mut self, client: u128, reason: CancelReason) {
        let Some(session) = self.sessions.remove(&client) else {
            return;
        };
        self.stats.dropped_replies += session.owed_replies();
        self.pool.remove(self.stepped_at, client, Mishap::Died);
        for call in self.calls_of(session.id) {
            self.drop_again(call);
            if let Some(running) = self.calls.get_mut(&call) {
                running.is_wanted = false;
            }
            self.cancel(call, reason);
        }
        if let Some(route) = session.route {
            self.routes.remove(&route);
            self.actions.push(Action::Disconnect { route });
        }
    }

    pub(super) fn refuse_stranger(&mut self, route: &Route) {
        let error = RpcError::new("stranger", Effect::None, "this connection has not said HELLO");
        self.refuse(route, Refusal::Stranger, &error);
    }

    /// A frame of another channel: its sender missed a WELCOME, so it introduces itself anew.
    pub(super) fn refuse_channel(&mut self, client: u128) {
        let Some(route) = self.sessions.get(&client).and_then(|session| session.route.clone()) else {
            return;
        };
        let error = RpcError::new("stranger", Effect::None, "this channel has ended");
        self.refuse(&route, Refusal::Stranger, &error);
    }

    /// What it acknowledges was never sent: not even a frame of it is believed.
    pub(super) fn refuse_untruth(&mut self, client: u128) {
        self.stats.malformed += 1;
        let Some(route) = self.sessions.get(&client).and_then(|session| session.route.clone()) else {
            return;
        };
        let error = RpcError::new("malformed", Effect::None, UNTRUE).with_next("speak the bridge's protocol");
        self.refuse(&route, Refusal::Malformed, &error);
    }

    /// A worker's frame from one that was not granted to be one.
    pub(super) fn refuse_role(&mut self, client: u128) {
        self.stats.refused += 1;
        let Some(route) = self.sessions.get(&client).and_then(|session| session.route.clone()) else {
            return;
        };
        let error =
            RpcError::new("denied", Effect::None, "this connection was not granted the role of a worker")
                .with_next("connect as a worker, where workers are taken");
        self.refuse(&route, Refusal::Role, &error);
    }

    /// Another incarnation of a session that is there: whoever says so is not its owner, whose session it stays.
    fn note_twin(&mut self, client: u128) {
        if let Some(session) = self.sessions.get(&client) {
            let session = session.id;
            self.note(Notice::Twin { session });
        }
    }

    fn refuse_twin(&mut self, route: &Route) {
        self.stats.refused += 1;
        let error = RpcError::new("twin", Effect::None, "another connection has this session")
            .with_next("begin a session of your own");
        self.refuse(route, Refusal::Full, &error);
    }

    pub(super) fn refuse_garbage(&mut self, route: &Route, error: FrameError) {
        self.stats.malformed += 1;
        let (refusal, kind, next) = if error.is_size() {
            (Refusal::TooLarge, "too-large", "send it in smaller pieces")
        } else {
            (Refusal::Malformed, "malformed", "speak the bridge's protocol")
        };
        let error = RpcError::new(kind, Effect::None, error.to_string()).with_next(next);
        self.refuse(route, refusal, &error);
    }

    /// Answers an offence, and drops the connection that goes on: each answer costs us memory if nobody reads it.
    fn refuse(&mut self, route: &Route, refusal: Refusal, error: &RpcError) {
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.clear();
        }
        let offences = self.strangers.entry(route.clone()).or_default();
        *offences += 1;
        if *offences > OFFENCES_MAX {
            self.strangers.remove(route);
            self.lose(route);
            self.actions.push(Action::Disconnect { route: route.clone() });
            return;
        }
        let payload = rpc::encode_error(None, error);
        self.actions
            .push(Action::Send { route: route.clone(), frame: ToClient::Refused { refusal, payload } });
    }
}
