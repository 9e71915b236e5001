//! A bare worker, pure: it says READY, beats while it is idle, and owes each request one reply.
//!
//! ```text
//! Idle ─→ Connecting ─→ Ready          heard nothing for `liveness` intervals, or the connection ended before
//!            ^  |         |            anything was heard: drop the socket and connect anew, after a pause
//!            |  v         v
//!          BackingOff  1, 2, 4 .. 32 s; forgotten only when the queue says something that is valid
//! ```
//! - With a request in hand it neither beats nor minds the queue's silence: the guide's queue takes a beat for "give me
//!   more", and keeps no list of those it should beat to.
//! - A connection that ends takes the request in hand with it: the work is told to stop, its reply goes nowhere, and
//!   until it has stopped the worker is not READY anew.
//! - Requests that come although it has one (no queue should) wait, up to [`WAITING_MAX`]; more are dropped.
//!
//! Never here: ZeroMQ, the clock, chance, what a request asks for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::envelope::{Content, HEARTBEAT, QueueSaid, READY, Request};
use crate::link::Backoff;
use crate::service::CancelReason;

/// Requests beside the one in hand.
const WAITING_MAX: usize = 16;

/// What a worker keeps to; see [`super::PppWorkerConfig`].
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) heartbeat: Duration,
    pub(super) liveness: u32,
    pub(super) backoff_min: Duration,
    pub(super) backoff_max: Duration,
    pub(super) deadline: Duration,
}

/// Names one piece of work in this process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId(pub(super) u64);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// Begin; or only: look at the clock.
    Tick,
    Connected,
    ConnectFailed,
    /// The connection ended.
    Lost,
    Heard(Vec<Bytes>),
    /// The work is over; no content: it was not done, and another worker may have it.
    Done {
        slot: SlotId,
        content: Option<Content>,
    },
    /// Take no more.
    Drain,
    Close,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Connect,
    /// Drop the socket, whether connected or not yet.
    Disconnect,
    Send(Vec<Bytes>),
    Begin {
        slot: SlotId,
        deadline: Instant,
        content: Content,
    },
    /// Nobody wants its reply: stop, and say that it is over.
    Stop {
        slot: SlotId,
        reason: CancelReason,
    },
    /// The queue has said something, the first time in this connection.
    Heard,
    /// Every reply is sent, and no more requests come.
    Drained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Ready { heard_at: Instant, beat_at: Instant, was_heard: bool },
    BackingOff { until: Instant },
    Closed,
}

#[derive(Debug)]
struct Slot {
    id: SlotId,
    envelope: Vec<Bytes>,
    deadline: Instant,
    /// Of a connection that ended.
    is_void: bool,
    is_stopped: bool,
}

/// One bare worker.
#[derive(Debug)]
pub(super) struct Pirate {
    settings: Settings,
    state: State,
    backoff: Backoff,
    slot: Option<Slot>,
    waiting: VecDeque<Request>,
    next_slot: u64,
    is_draining: bool,
    is_drained: bool,
    malformed: u64,
    actions: Vec<Action>,
}

impl Pirate {
    /// `jitter` is random: a thousand workers do not return at once.
    pub(super) fn new(settings: Settings, jitter: u128) -> Self {
        Self {
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max, jitter),
            settings,
            state: State::Idle,
            slot: None,
            waiting: VecDeque::new(),
            next_slot: 1,
            is_draining: false,
            is_drained: false,
            malformed: 0,
            actions: Vec::new(),
        }
    }

    /// Takes one input and says what to do, in order.
    pub(super) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::Tick => self.begin(),
            Input::Connected => self.connected(now),
            Input::ConnectFailed => self.back_off(now),
            Input::Lost => self.lose(now),
            Input::Heard(frames) => self.hear(now, frames),
            Input::Done { slot, content } => self.take_done(now, slot, content),
            Input::Drain => self.is_draining = true,
            Input::Close => self.close(),
        }
        self.look_at_clock(now);
        if self.is_draining && self.slot.is_none() && self.waiting.is_empty() && !self.is_drained {
            self.is_drained = true;
            self.actions.push(Action::Drained);
        }
        std::mem::take(&mut self.actions)
    }

    /// When to step next, if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let state = match self.state {
            State::Ready { heard_at, beat_at, .. } if self.slot.is_none() => {
                Some((heard_at + self.patience()).min(beat_at + self.settings.heartbeat))
            }
            State::BackingOff { until } => Some(until),
            _ => None,
        };
        let running = self.slot.as_ref().filter(|slot| !slot.is_stopped);
        running.map(|slot| slot.deadline).into_iter().chain(state).min()
    }

    /// Messages that were not understood.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    fn patience(&self) -> Duration {
        self.settings.heartbeat * self.settings.liveness
    }

    fn begin(&mut self) {
        if self.state == State::Idle {
            self.connect();
        }
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.actions.push(Action::Connect);
    }

    fn connected(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.state = State::Ready { heard_at: now, beat_at: now, was_heard: false };
            self.say_ready();
        }
    }

    /// Once for each connection, as soon as nothing of an earlier one is in hand.
    fn say_ready(&mut self) {
        if let State::Ready { .. } = self.state
            && self.slot.is_none()
            && !self.is_draining
        {
            self.send_signal(READY);
        }
    }

    fn send_signal(&mut self, signal: &'static [u8]) {
        self.actions.push(Action::Send(vec![Bytes::from_static(signal)]));
    }

    fn back_off(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.state = State::BackingOff { until: now + self.backoff.next_pause() };
        }
    }

    fn lose(&mut self, now: Instant) {
        let State::Ready { was_heard, .. } = self.state else {
            return;
        };
        self.void_work(CancelReason::ClientGone);
        self.actions.push(Action::Disconnect);
        // One that hangs up on whoever comes would else be called upon without end.
        if was_heard { self.connect() } else { self.back_off(now) }
    }

    fn hear(&mut self, now: Instant, frames: Vec<Bytes>) {
        let State::Ready { heard_at, was_heard, .. } = &mut self.state else {
            return;
        };
        let Some(said) = QueueSaid::decode(frames) else {
            return self.malformed += 1;
        };
        *heard_at = now;
        if !std::mem::replace(was_heard, true) {
            self.actions.push(Action::Heard);
        }
        self.backoff.forget();
        match said {
            QueueSaid::Heartbeat => {}
            QueueSaid::Request(_) if self.is_draining || self.waiting.len() >= WAITING_MAX => {}
            QueueSaid::Request(request) => {
                self.waiting.push_back(request);
                self.begin_next(now);
            }
        }
    }

    fn begin_next(&mut self, now: Instant) {
        if self.slot.is_some() {
            return;
        }
        let Some(Request { envelope, content }) = self.waiting.pop_front() else {
            return;
        };
        let id = SlotId(self.next_slot);
        self.next_slot += 1;
        let deadline = now + self.settings.deadline;
        self.slot = Some(Slot { id, envelope, deadline, is_void: false, is_stopped: false });
        self.actions.push(Action::Begin { slot: id, deadline, content });
    }

    fn take_done(&mut self, now: Instant, id: SlotId, content: Option<Content>) {
        let Some(slot) = self.slot.take_if(|slot| slot.id == id) else {
            return;
        };
        // Neither side could speak meanwhile.
        if let State::Ready { heard_at, beat_at, .. } = &mut self.state {
            (*heard_at, *beat_at) = (now, now);
        }
        match content {
            Some(content) if !slot.is_void => {
                self.actions.push(Action::Send(Request::encode(slot.envelope, content)));
            }
            // Nothing in bare frames gives a request back, but a conversation that begins anew.
            _ => self.say_ready(),
        }
        self.begin_next(now);
    }

    fn look_at_clock(&mut self, now: Instant) {
        if let Some(slot) = &mut self.slot
            && now >= slot.deadline
            && !std::mem::replace(&mut slot.is_stopped, true)
        {
            self.actions.push(Action::Stop { slot: slot.id, reason: CancelReason::Deadline });
        }
        let patience = self.patience();
        match &mut self.state {
            State::BackingOff { until } if now >= *until => self.connect(),
            State::Ready { heard_at, .. } if self.slot.is_none() && now >= *heard_at + patience => {
                self.actions.push(Action::Disconnect);
                self.back_off(now);
            }
            State::Ready { beat_at, .. }
                if self.slot.is_none() && now >= *beat_at + self.settings.heartbeat =>
            {
                *beat_at = now;
                self.send_signal(HEARTBEAT);
            }
            _ => {}
        }
    }

    fn void_work(&mut self, reason: CancelReason) {
        self.waiting.clear();
        if let Some(slot) = &mut self.slot {
            slot.is_void = true;
            if !std::mem::replace(&mut slot.is_stopped, true) {
                self.actions.push(Action::Stop { slot: slot.id, reason });
            }
        }
    }

    fn close(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.void_work(CancelReason::Shutdown);
            self.actions.push(Action::Disconnect);
        }
    }
}

#[cfg(test)]
mod tests;
