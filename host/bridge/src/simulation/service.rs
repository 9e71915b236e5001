//! The host's own service: it answers calls, and keeps their effects on disk by session and number. What is on disk
//! outlives hosts.

use std::time::Instant;

use bytes::Bytes;

use super::World;
use super::agenda::Event;
use super::ledger::chunk_of;
use crate::queue::{self, CallId, Dispatch, Outcome, Output};
use crate::rpc::{Effect, RpcError};
use crate::service::SessionId;

/// One call in work.
#[derive(Debug)]
pub(super) struct Serving {
    session: SessionId,
    number: u64,
    deadline: Instant,
    payload: Bytes,
    chunks_left: u64,
    next_index: u64,
    is_cancelled: bool,
    is_decided: bool,
    is_paused: bool,
}

impl World {
    pub(super) fn begin_serving(&mut self, dispatch: Dispatch) {
        let Dispatch { call, session, number, deadline, payload, .. } = dispatch;
        let chunks_left = if self.dice.percent(40) { self.dice.within(1..80) } else { 0 };
        let calls = &mut self.host.as_mut().unwrap().calls;
        let is_twin = |other: &Serving| (other.session, other.number) == (session, number);
        assert!(!calls.values().any(is_twin), "{payload:?} runs twice at once");
        let (next_index, is_cancelled, is_decided, is_paused) = (0, false, false, false);
        let serving = Serving {
            session,
            number,
            deadline,
            payload,
            chunks_left,
            next_index,
            is_cancelled,
            is_decided,
            is_paused,
        };
        calls.insert(call, serving);
        self.plan_serving(call);
    }

    pub(super) fn cancel_serving(&mut self, call: CallId) {
        if let Some(serving) = self.serving(call) {
            serving.is_cancelled = true;
        }
    }

    pub(super) fn pace_serving(&mut self, call: CallId, is_paused: bool) {
        if let Some(serving) = self.serving(call) {
            serving.is_paused = is_paused;
        }
    }

    fn serving(&mut self, call: CallId) -> Option<&mut Serving> {
        self.host.as_mut()?.calls.get_mut(&call)
    }

    fn plan_serving(&mut self, call: CallId) {
        let slow = if self.dice.percent(5) { 8_000 } else { 60 };
        let (delay, run) = (self.dice.within(1..slow), self.host.as_ref().unwrap().run);
        self.agenda.after(delay, Event::Serve { run, call });
    }

    /// Chunks, then the decision with its effect, and some time later the reply.
    pub(super) fn serve(&mut self, call: CallId) {
        let now = self.agenda.now();
        let Some(serving) = self.serving(call) else {
            return;
        };
        if serving.chunks_left > 0 && !serving.is_cancelled {
            return self.stream_chunk(call);
        }
        if serving.is_decided {
            return self.end_serving(call, Ok(()));
        }
        let (key, is_over) =
            ((serving.session, serving.number), serving.is_cancelled || now > serving.deadline);
        if self.agenda.now_ms() < self.store_open_at_ms {
            return self.end_serving(call, Err(Effect::Unknown));
        }
        if is_over && !self.durable.contains_key(&key) {
            return self.end_serving(call, Err(Effect::None));
        }
        self.decide(call, key);
    }

    fn stream_chunk(&mut self, call: CallId) {
        let serving = self.serving(call).unwrap();
        if !serving.is_paused {
            let index = serving.next_index;
            (serving.chunks_left, serving.next_index) = (serving.chunks_left - 1, index + 1);
            let payload = chunk_of(&serving.payload, index);
            self.step_host(queue::Input::Said { call, output: Output::Chunk { attempt: 1, index, payload } });
        }
        self.plan_serving(call);
    }

    /// One commit. One that fails half-way happened or not, and the store knows only when it is open again.
    fn decide(&mut self, call: CallId, key: (SessionId, u64)) {
        let is_failure = self.kind.has_doubts && self.is_trouble() && self.dice.percent(5);
        let serving = self.serving(call).unwrap();
        serving.is_decided = true;
        let payload = serving.payload.clone();
        if !is_failure || self.dice.percent(50) {
            match self.durable.insert(key, payload.clone()) {
                Some(first) => assert_eq!(first, payload, "a number was used for two requests"),
                None => self.ledger.note_applied(&payload),
            }
        }
        if !is_failure {
            return self.plan_serving(call);
        }
        self.coverage.count("doubts");
        self.store_open_at_ms = self.agenda.now_ms() + self.dice.within(1..1_000);
        self.end_serving(call, Err(Effect::Unknown));
    }

    fn end_serving(&mut self, call: CallId, result: Result<(), Effect>) {
        let serving = self.host.as_mut().unwrap().calls.remove(&call).unwrap();
        let outcome = match result {
            Ok(()) => Outcome { failed: None, payload: serving.payload },
            Err(effect) => Outcome::error(serving.number, &RpcError::new("cancelled", effect, "too late")),
        };
        self.step_host(queue::Input::Said { call, output: Output::Finished(outcome) });
    }
}
