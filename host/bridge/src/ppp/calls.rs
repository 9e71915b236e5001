//! JSON-RPC requests of bare clients to the host itself, pure: from a request to the one answer.
//!
//! A client's connection is a session, and its requests are numbered as they come. An id is a client's own: while its
//! request runs, the same request under the same id joins it, and the answer goes to whoever asked last; another
//! request under that id is refused. Once answered, the id is free, for many clients have only one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::envelope::Content;
use super::queue::{Action, Dispatch};
use crate::queue::{CallId, Output, Route};
use crate::rpc::{self, Effect, HostRequest, RequestId, RpcError};
use crate::service::{CancelReason, SessionId};

/// A session that begins to write after a day is refused as unknown; a connection that lasts gets a new one in time.
const SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// The way back to a client: none when it is gone.
type Back = Option<(Route, Vec<Bytes>)>;

/// An answer, and where it goes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) back: Back,
    pub(super) payload: Bytes,
}

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) route: Route,
    pub(super) envelope: Vec<Bytes>,
    pub(super) content: Content,
    pub(super) request: HostRequest,
    /// The wall clock, for the incarnation of a new session.
    pub(super) wall_ms: u64,
}

#[derive(Debug)]
struct Call {
    back: Back,
    id: RequestId,
    content: Content,
    /// The next thing that is due: first it is cancelled, one heartbeat later answered for the service.
    due: Instant,
    is_cancelled: bool,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    since: Instant,
    next_number: u64,
    /// Running ones, by their id.
    running: HashMap<RequestId, Running>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    call: CallId,
    number: u64,
}

impl Session {
    fn begin(&mut self, id: RequestId, call: CallId) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.running.insert(id, Running { call, number });
        number
    }

    /// Nobody asks again for what is answered.
    fn acked_through(&self) -> u64 {
        let oldest = self.running.values().map(|running| running.number).min();
        oldest.unwrap_or(self.next_number) - 1
    }
}

#[derive(Debug)]
pub(super) struct Calls {
    calls: BTreeMap<CallId, Call>,
    sessions: HashMap<Route, Session>,
    due: BTreeSet<(Instant, CallId)>,
    deadline: Duration,
    grace: Duration,
    next_call: u64,
    next_session: u128,
}

impl Calls {
    /// `sessions` is random: the name of the first session, from which the others count on.
    pub(super) fn new(sessions: u128, deadline: Duration, grace: Duration) -> Self {
        Self {
            calls: BTreeMap::new(),
            sessions: HashMap::new(),
            due: BTreeSet::new(),
            deadline,
            grace,
            next_call: 1,
            next_session: sessions,
        }
    }

    /// A call for the service; none when it joined a running one.
    ///
    /// # Errors
    /// The refusal of an id that another request has, with the envelope that it goes in.
    pub(super) fn take(
        &mut self,
        now: Instant,
        asked: Asked,
    ) -> Result<Option<Dispatch>, (Vec<Bytes>, Bytes)> {
        let Asked { route, envelope, content, request: HostRequest { id, method, params }, wall_ms } = asked;
        if let Some(running) = self.running(&route, &id) {
            if running.content != content {
                return Err((envelope, rpc::encode_refusal(&id, &id_in_use())));
            }
            running.back = Some((route, envelope));
            return Ok(None);
        }
        let call = CallId(self.next_call);
        self.next_call += 1;
        let deadline = now + self.deadline;
        let owner = self.session(now, &route, wall_ms);
        let number = owner.begin(id.clone(), call);
        let (session, acked_through) = (owner.id, owner.acked_through());
        self.due.insert((deadline, call));
        let back = Some((route, envelope));
        self.calls.insert(call, Call { back, id, content, due: deadline, is_cancelled: false });
        Ok(Some(Dispatch { call, session, number, acked_through, deadline, method, params }))
    }

    /// The answer, when this was one.
    pub(super) fn hear(&mut self, call: CallId, output: Output) -> Option<Answer> {
        match output {
            Output::Finished(outcome) => self.finish(call, |id| rpc::readdress(id, &outcome)),
            Output::GaveBack { reason } => {
                let error = RpcError::new("gave-back", Effect::None, reason);
                self.finish(call, |id| rpc::encode_refusal(id, &error))
            }
            // A bare reply is one message.
            Output::Accepted
            | Output::Progress
            | Output::Chunk { .. }
            | Output::Reset { .. }
            | Output::Refused(_) => None,
        }
    }

    /// Cancels what is late, and answers for the service what is later still.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(&(at, id)) = self.due.first()
            && now >= at
        {
            self.due.remove(&(at, id));
            let Some(call) = self.calls.get_mut(&id) else { continue };
            if std::mem::replace(&mut call.is_cancelled, true) {
                answers.extend(self.finish(id, |id| rpc::encode_refusal(id, &overdue())));
                continue;
            }
            call.due = at + self.grace;
            self.due.insert((call.due, id));
            actions.push(Action::Cancel { call: id, reason: CancelReason::Deadline });
        }
        answers
    }

    /// The client is gone: what it asked is cancelled, and its answers reach nobody.
    pub(super) fn lose(&mut self, route: &Route, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.remove(route) else {
            return;
        };
        for Running { call: id, .. } in session.running.into_values() {
            if let Some(call) = self.calls.get_mut(&id) {
                call.back = None;
                actions.push(Action::Cancel { call: id, reason: CancelReason::ClientGone });
            }
        }
    }

    pub(super) fn leave(&mut self, actions: &mut Vec<Action>) {
        let cancel = |call: &CallId| Action::Cancel { call: *call, reason: CancelReason::Shutdown };
        actions.extend(self.calls.keys().map(cancel));
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// With the service, those of clients that are gone included.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn is_running(&self, route: &Route, id: &RequestId) -> bool {
        self.sessions.get(route).is_some_and(|session| session.running.contains_key(id))
    }

    pub(super) fn count_of(&self, route: &Route) -> usize {
        self.sessions.get(route).map_or(0, |session| session.running.len())
    }

    fn running(&mut self, route: &Route, id: &RequestId) -> Option<&mut Call> {
        let running = self.sessions.get(route)?.running.get(id)?;
        self.calls.get_mut(&running.call)
    }

    fn session(&mut self, now: Instant, route: &Route, wall_ms: u64) -> &mut Session {
        let next = SessionId { client: self.next_session, incarnation: wall_ms };
        let fresh = |id| Session { id, since: now, next_number: 1, running: HashMap::new() };
        let session = self.sessions.entry(route.clone()).or_insert_with(|| fresh(next));
        if now >= session.since + SESSION_AGE_MAX && session.running.is_empty() {
            *session = fresh(next);
        }
        if session.id == next {
            self.next_session = self.next_session.wrapping_add(1);
        }
        session
    }

    fn finish(&mut self, id: CallId, payload: impl FnOnce(&RequestId) -> Bytes) -> Option<Answer> {
        let call = self.calls.remove(&id)?;
        self.due.remove(&(call.due, id));
        if let Some((route, _)) = &call.back
            && let Some(session) = self.sessions.get_mut(route)
        {
            session.running.remove(&call.id);
        }
        Some(Answer { payload: payload(&call.id), back: call.back })
    }
}

fn id_in_use() -> RpcError {
    RpcError::new("id-in-use", Effect::None, "another request with this id is under way")
        .with_next("give each request that is under way an id of its own")
}

fn overdue() -> RpcError {
    RpcError::new("timeout", Effect::Unknown, "the host did not answer by the deadline")
        .with_next("look whether it happened before asking again")
}
