//! Calls: from a request to the one reply.

use std::time::Instant;

use bytes::Bytes;

use super::{Action, CallId, Dispatch, Outcome, Output, Queue};
use crate::frame::{HostBody, OrderTerms};
use crate::pool::{Class, JobId};
use crate::rpc::{Effect, RpcError};
use crate::service::{CancelReason, SessionId};

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) number: u64,
    /// More than 1: it may have been begun before, perhaps by an earlier host.
    pub(super) attempt: u32,
    pub(super) deadline: Instant,
    /// For a worker; none: for the service.
    pub(super) order: Option<OrderTerms>,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
pub(super) struct RunningCall {
    pub(super) session: SessionId,
    pub(super) number: u64,
    pub(super) deadline: Instant,
    /// Of its request, which somebody holds until it ends.
    request_bytes: usize,
    /// Its entry among the deadlines: the deadline itself, then one heartbeat later.
    pub(super) due: Instant,
    /// The worker's job that it became; none: the service has it.
    pub(super) job: Option<JobId>,
    /// It is not the first attempt: it may have been begun before, perhaps under an earlier host.
    pub(super) was_asked_before: bool,
    pub(super) is_accepted: bool,
    /// Somebody waits for the reply.
    pub(super) is_wanted: bool,
    pub(super) is_paused: bool,
    pub(super) cancelled: Option<CancelReason>,
    /// The client returned after we cancelled on its behalf, and asked again.
    again: Option<Request>,
    /// The reply that we gave for a service that was overdue.
    pub(super) overdue: Option<Outcome>,
}

impl RunningCall {
    /// What of the peer's is held for it.
    pub(super) fn bytes(&self) -> usize {
        self.request_bytes + self.again.as_ref().map_or(0, |request| request.payload.len())
    }
}

impl Queue {
    pub(super) fn take_request(&mut self, now: Instant, client: u128, request: Request) {
        let Some(session) = self.sessions.get(&client) else {
            return;
        };
        let (id, number) = (session.id, request.number);
        if number <= session.acked_through {
            let message = format!("request {number}: its reply was acknowledged before");
            return self.answer_error(client, number, &RpcError::new("too-old", Effect::Unknown, message));
        }
        if let Some(body) = session.finished.find(number) {
            self.stats.repeats += 1;
            return self.push(client, body);
        }
        if let Some(&call) = self.by_number.get(&(id, number)) {
            self.stats.repeats += 1;
            return self.join(client, call, request);
        }
        if let Some(error) = self.find_hindrance(now, client, &request) {
            return self.answer_error(client, number, &error);
        }
        self.dispatch(id, request);
    }

    fn find_hindrance(&self, now: Instant, client: u128, request: &Request) -> Option<RpcError> {
        let (limits, number) = (&self.rules.limits, request.number);
        let effect = if request.attempt > 1 { Effect::Unknown } else { Effect::None };
        let refuse = |kind, message: String, next: &str| {
            Some(RpcError::new(kind, effect, format!("request {number}: {message}")).with_next(next))
        };
        if self.is_closing {
            return refuse(
                "closing",
                "the host is stopping".to_owned(),
                "ask the next host under the same number",
            );
        }
        if let Some(terms) = &request.order
            && !self.may_order(client, &terms.service)
        {
            let message = format!("orders of `{}` are for operators", terms.service);
            return refuse("denied", message, "ask an operator to open the service to clients");
        }
        if let Some(terms) = &request.order
            && terms.class == Class::Once
            && request.attempt > 1
        {
            let message = "a worker may have begun it before, and it must not be done twice".to_owned();
            return refuse(
                "worker-lost",
                message,
                "look at what it would have changed before ordering it anew",
            );
        }
        if request.deadline <= now {
            return refuse("timeout", "its deadline passed on the way".to_owned(), "allow it more time");
        }
        let own = self.sessions.get(&client).map_or(0, |session| session.calls);
        if own >= limits.session_calls_max || self.calls.len() >= limits.calls_max {
            let message = format!("{own} calls of this session and {} in all are open", self.calls.len());
            return refuse("busy", message, "wait for an answer, then send it again");
        }
        if let Some(message) = self.find_byte_bound(client, request.payload.len()) {
            return refuse("busy", message, "wait for an answer, then send it again");
        }
        None
    }

    /// Which bound on bytes of requests so many more would break.
    fn find_byte_bound(&self, client: u128, more: usize) -> Option<String> {
        let own = self.sessions.get(&client).map_or(0, |session| session.call_bytes);
        let (own_max, max) = (self.rules.limits.session_call_bytes_max, self.rules.limits.call_bytes_max);
        if own + more > own_max {
            return Some(format!(
                "it has {more} bytes, and the session's open calls have {own} of at most {own_max}"
            ));
        }
        let all = self.call_bytes;
        let is_too_much = all + more > max;
        is_too_much.then(|| format!("it has {more} bytes, and all open calls have {all} of at most {max}"))
    }

    fn count_bytes_in(&mut self, id: SessionId, bytes: usize) {
        self.call_bytes += bytes;
        if let Some(session) = self.sessions.get_mut(&id.client).filter(|session| session.id == id) {
            session.call_bytes += bytes;
        }
    }

    fn count_bytes_out(&mut self, id: SessionId, bytes: usize) {
        self.call_bytes -= bytes;
        if let Some(session) = self.sessions.get_mut(&id.client).filter(|session| session.id == id) {
            session.call_bytes -= bytes;
        }
    }

    /// Nobody waits for the second asking any more.
    pub(super) fn drop_again(&mut self, call: CallId) {
        let running = self.calls.get_mut(&call);
        let again = running.and_then(|running| Some((running.session, running.again.take()?)));
        if let Some((id, request)) = again {
            self.count_bytes_out(id, request.payload.len());
        }
    }

    fn dispatch_again(&mut self, id: SessionId, request: Request, is_paused: bool) {
        let number = request.number;
        self.dispatch(id, request);
        if is_paused {
            self.pace(id.client, number, true);
        }
    }

    fn dispatch(&mut self, id: SessionId, request: Request) {
        let Some(session) = self.sessions.get_mut(&id.client) else {
            return;
        };
        session.calls += 1;
        let call = CallId(self.next_call);
        self.next_call += 1;
        let Request { number, attempt, deadline, order, payload } = request;
        let (role, acked_through) = (session.role, session.acked_through);
        let request_bytes = payload.len();
        self.count_bytes_in(id, request_bytes);
        self.by_number.insert((id, number), call);
        self.deadlines.insert((deadline, call));
        self.calls.insert(
            call,
            RunningCall {
                session: id,
                number,
                deadline,
                request_bytes,
                due: deadline,
                job: None,
                was_asked_before: attempt > 1,
                is_accepted: false,
                is_wanted: true,
                is_paused: false,
                cancelled: None,
                again: None,
                overdue: None,
            },
        );
        if let Some(terms) = order {
            return self.order_for_call(call, deadline, terms, payload);
        }
        self.stats.dispatched += 1;
        let dispatch = Dispatch { call, session: id, role, number, acked_through, deadline, payload };
        self.actions.push(Action::Dispatch(dispatch));
    }

    /// A repeat of a call that the service still has.
    fn join(&mut self, client: u128, call: CallId, request: Request) {
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(outcome) = running.overdue.clone() {
            let body = outcome.into_body(request.number);
            return self.push(client, body);
        }
        if !running.is_wanted {
            return self.keep_again(client, call, request);
        }
        if running.is_accepted {
            self.push(client, HostBody::Accepted { number: request.number });
        }
    }

    /// Asked again before the first run has ended. Who cancelled it wants no second one; else it counts as a call more.
    fn keep_again(&mut self, client: u128, call: CallId, request: Request) {
        self.drop_again(call);
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        let number = request.number;
        if running.cancelled == Some(CancelReason::Caller) {
            let message = format!("request {number}: it was cancelled, and has not ended yet");
            return self.answer_error(client, number, &RpcError::new("cancelled", Effect::Unknown, message));
        }
        let (id, bytes) = (running.session, request.payload.len());
        if let Some(message) = self.find_byte_bound(client, bytes) {
            let error = RpcError::new("busy", Effect::Unknown, format!("request {number}: {message}"));
            return self.answer_error(client, number, &error.with_next("send it again under its number"));
        }
        self.count_bytes_in(id, bytes);
        if let Some(running) = self.calls.get_mut(&call) {
            running.again = Some(request);
        }
    }

    fn find_call(&self, client: u128, number: u64) -> Option<CallId> {
        let id = self.sessions.get(&client)?.id;
        self.by_number.get(&(id, number)).copied()
    }

    pub(super) fn pace(&mut self, client: u128, number: u64, is_paused: bool) {
        let Some(call) = self.find_call(client, number) else {
            return;
        };
        if let Some(running) = self.calls.get_mut(&call) {
            running.is_paused = is_paused;
            if let Some(job) = running.job {
                return self.pool.pace(self.stepped_at, job, is_paused);
            }
            self.actions.push(Action::Pace { call, is_paused });
        }
    }

    pub(super) fn cancel_by_caller(&mut self, client: u128, number: u64) {
        let Some(call) = self.find_call(client, number) else {
            return;
        };
        self.drop_again(call);
        if let Some(running) = self.calls.get_mut(&call) {
            running.is_wanted = false;
        }
        self.cancel(call, CancelReason::Caller);
    }

    pub(super) fn cancel(&mut self, call: CallId, reason: CancelReason) {
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        if running.cancelled.is_none() {
            running.cancelled = Some(reason);
            match running.job {
                Some(job) => self.pool.cancel(self.stepped_at, job),
                None => self.actions.push(Action::Cancel { call, reason }),
            }
        }
    }

    pub(super) fn take_output(&mut self, now: Instant, call: CallId, output: Output) {
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        let (client, number) = (running.session.client, running.number);
        let is_streaming = running.is_wanted && running.cancelled.is_none();
        match output {
            Output::Accepted if is_streaming && !running.is_accepted => {
                running.is_accepted = true;
                self.push(client, HostBody::Accepted { number });
            }
            Output::Chunk { attempt, index, payload } if is_streaming => {
                self.take_chunk(client, call, HostBody::Chunk { number, attempt, index, payload });
            }
            Output::Reset { attempt } if is_streaming => {
                self.push(client, HostBody::Reset { number, attempt })
            }
            Output::Refused(reason) if is_streaming => self.cut_stream(call, reason),
            Output::Finished(outcome) => self.finish(now, call, outcome),
            Output::GaveBack { reason } => {
                let error = RpcError::new("gave-back", Effect::None, format!("request {number}: {reason}"));
                self.finish(now, call, Outcome::error(number, &error));
            }
            Output::Accepted
            | Output::Chunk { .. }
            | Output::Reset { .. }
            | Output::Refused(_)
            | Output::Progress => {}
        }
        self.flush(client);
    }

    fn take_chunk(&mut self, client: u128, call: CallId, chunk: HostBody) {
        let limits = &self.rules.limits;
        let Some(session) = self.sessions.get(&client) else {
            return;
        };
        let waiting = session.sender.waiting_size();
        let is_full = waiting.messages >= limits.stream_messages_max
            || (waiting.messages > 0 && waiting.bytes + chunk.payload_len() > limits.stream_bytes_max);
        if is_full { self.cut_stream(call, CancelReason::SlowReader) } else { self.push(client, chunk) }
    }

    fn cut_stream(&mut self, call: CallId, reason: CancelReason) {
        self.stats.slow_readers += u64::from(reason == CancelReason::SlowReader);
        self.cancel(call, reason);
    }

    fn finish(&mut self, now: Instant, call: CallId, outcome: Outcome) {
        let Some(running) = self.calls.remove(&call) else {
            return;
        };
        let (id, number) = (running.session, running.number);
        self.by_number.remove(&(id, number));
        self.deadlines.remove(&(running.due, call));
        self.count_bytes_out(id, running.bytes());
        let Some(session) = self.sessions.get_mut(&id.client).filter(|session| session.id == id) else {
            self.stats.dropped_replies += 1;
            return;
        };
        session.calls = session.calls.saturating_sub(1);
        let had_no_effect = outcome.failed == Some(Effect::None);
        if let Some(request) = running.again {
            if had_no_effect && request.deadline > now {
                return self.dispatch_again(id, request, running.is_paused);
            }
        } else if running.overdue.is_some() {
            session.finished.remember(number, outcome, &self.rules.limits);
            return;
        } else if !running.is_wanted {
            self.stats.dropped_replies += 1;
            return;
        }
        let is_order = running.job.is_some();
        self.answer(id.client, number, explain(number, running.cancelled, outcome), is_order);
    }

    fn answer(&mut self, client: u128, number: u64, outcome: Outcome, is_order: bool) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let limits = &self.rules.limits;
        if is_order {
            session.finished.keep(number, outcome.clone(), limits);
        } else {
            session.finished.remember(number, outcome.clone(), limits);
        }
        self.stats.replies += 1;
        self.push(client, outcome.into_body(number));
    }

    fn answer_error(&mut self, client: u128, number: u64, error: &RpcError) {
        self.push(client, Outcome::error(number, error).into_body(number));
    }

    /// First time: the call is told. Second time, one heartbeat later: we answer for it.
    pub(super) fn pass_deadline(&mut self, due: Instant, call: CallId) {
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        let conclude_at = running.deadline + self.rules.heartbeat;
        if due < conclude_at {
            running.due = conclude_at;
            self.deadlines.insert((conclude_at, call));
            return self.cancel(call, CancelReason::Deadline);
        }
        let (client, number, is_wanted) = (running.session.client, running.number, running.is_wanted);
        if !is_wanted {
            return;
        }
        let message = format!("request {number}: no answer by its deadline; it may still happen");
        let next = "look at what it would have changed before sending it anew, or allow more time";
        let outcome =
            Outcome::error(number, &RpcError::new("timeout", Effect::Unknown, message).with_next(next));
        running.overdue = Some(outcome.clone());
        running.is_wanted = false;
        self.stats.overdue += 1;
        self.push(client, outcome.into_body(number));
        self.flush(client);
    }

    pub(super) fn calls_of(&self, id: SessionId) -> Vec<CallId> {
        self.by_number.range((id, 0)..=(id, u64::MAX)).map(|(_, call)| *call).collect()
    }
}

/// A stream that we cut ends in our error whatever the service says: the reader has missed something.
fn explain(number: u64, cancelled: Option<CancelReason>, outcome: Outcome) -> Outcome {
    let effect = outcome.failed.unwrap_or(Effect::Committed);
    let error = match cancelled {
        Some(CancelReason::SlowReader) => {
            RpcError::new("slow-reader", effect, "the stream was read too slowly")
                .with_next("read it faster, or ask for less")
        }
        Some(CancelReason::TooLarge) => {
            RpcError::new("too-large", effect, "a chunk was larger than a message may be")
                .with_next("stream smaller chunks")
        }
        _ => return outcome,
    };
    Outcome::error(number, &error)
}
