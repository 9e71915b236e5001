//! The client's side, pure: a Lazy Pirate that gives every call one number, one deadline and one outcome.
//!
//! ```text
//! Idle -> Connecting -> Greeting -> Ready          heard nothing for `liveness` intervals, or no progress after
//!            ^  |          |          |            `retries` repeats: drop the socket, connect anew
//!            |  v          v          v
//!          BackingOff  1, 2, 4 .. 32 s; forgotten only when a host says WELCOME
//! ```
//! A new channel (another host, or one that forgot us) hears every open call again, under the same number, in order
//! of numbers. Within a channel nothing needs repeating that the channel does not repeat itself, but for a call whose
//! error cannot tell its effect: it is asked again under its number, until the host knows or time is up (`verdict`).
//! A host that is stopping, and one that closed the session, only put a call off: it waits for the next. One that says
//! nothing is waited for until `silence_max` (`silence`).
//! Never here: sockets, the clock, randomness (jitter comes from the client's own id), JSON of requests and results.
//!
//! # Source
//! ZeroMQ Guide, chapter 4: Lazy Pirate and Paranoid Pirate patterns.

mod backoff;
mod calls;
mod silence;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::channel::{Receiver, Sender};
use crate::frame::{ClientBody, Hello, PROTOCOL, Place, Refusal, ToClient, ToHost, Welcome};
use crate::service::Role;
use crate::token::Token;

use backoff::Backoff;
use calls::{OpenCall, Wish};
use silence::Silence;

/// A call outlives its deadline by so many heartbeats: the host answers first, and its answer knows the effect.
const GRACE_HEARTBEATS: u32 = 2;

/// What the client keeps to; see `ClientConfig` for the meaning to a user.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) liveness: u32,
    pub(crate) request_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) silence_max: Option<Duration>,
    pub(crate) role: Role,
    pub(crate) token: Option<Token>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Begin; or only: look at the clock.
    Tick,
    Connected,
    ConnectFailed,
    /// The connection ended.
    Lost,
    Heard(ToClient),
    /// Bytes that are not a frame.
    Garbage,
    Call {
        number: u64,
        payload: Bytes,
        deadline: Instant,
    },
    Cancel {
        number: u64,
    },
    /// The reader of a stream fell behind, or caught up.
    Pace {
        number: u64,
        is_paused: bool,
    },
    /// Say goodbye and end every open call.
    Close,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect,
    /// Drop the socket, whether connected or not yet.
    Disconnect,
    Send(ToHost),
    Tell {
        number: u64,
        news: News,
    },
    Welcomed(Role),
    /// Calls wait and the host has not been heard for `liveness` intervals; or it is heard again.
    Silence {
        is_silent: bool,
    },
    /// The host will not have us: for want of room now, for any other reason ever.
    Refused {
        refusal: Refusal,
        payload: Bytes,
    },
}

/// What a caller learns about its call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Accepted,
    Chunk {
        attempt: u32,
        payload: Bytes,
    },
    Reset {
        attempt: u32,
    },
    Result(Bytes),
    Error(Bytes),
    /// Nobody could tell its effect, however often it was asked; the error that began it.
    Unresolved {
        asks: u32,
        cause: Bytes,
    },
    /// No answer by the deadline.
    TimedOut {
        was_sent: bool,
    },
    /// Nothing was heard of any host for so long.
    Silent {
        was_sent: bool,
        waited: Duration,
    },
    /// Too many open calls.
    Crowded,
    /// The request does not fit in a message; said by the shell.
    TooLarge {
        found: usize,
    },
    /// The reader is too slow; said by the shell.
    Overflowed,
    Closed {
        was_sent: bool,
    },
}

impl News {
    pub(crate) fn is_end(&self) -> bool {
        !matches!(self, Self::Accepted | Self::Chunk { .. } | Self::Reset { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Greeting { since: Instant, hello_at: Instant },
    Ready { heard_at: Instant, beat_at: Instant },
    BackingOff { until: Instant },
    Closed,
}

/// One client session.
#[derive(Debug)]
pub(crate) struct LazyPirate {
    settings: Settings,
    state: State,
    client: u128,
    incarnation: u64,
    run: u64,
    channel: u64,
    next_number: u64,
    calls: BTreeMap<u64, OpenCall>,
    call_bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
    /// When calls in doubt are asked again.
    asks: BTreeSet<(Instant, u64)>,
    /// The host has closed the session; a new one is opened as soon as no call is under way in this one.
    is_session_closed: bool,
    sender: Sender<Wish, ()>,
    receiver: Receiver,
    /// When the channel last got on, or was last repeated.
    progress_at: Instant,
    repeats: u32,
    beat: u64,
    silence: Silence,
    backoff: Backoff,
    stepped_at: Instant,
    actions: Vec<Action>,
}

impl LazyPirate {
    /// `client` is random and identifies the session.
    pub(crate) fn new(settings: Settings, client: u128, now: Instant) -> Self {
        let backoff = Backoff::new(settings.backoff_min, settings.backoff_max, client);
        Self {
            settings,
            backoff,
            state: State::Idle,
            client,
            incarnation: 0,
            run: 0,
            channel: 0,
            next_number: 1,
            calls: BTreeMap::new(),
            call_bytes: 0,
            deadlines: BTreeSet::new(),
            asks: BTreeSet::new(),
            is_session_closed: false,
            sender: Sender::new(),
            receiver: Receiver::default(),
            progress_at: now,
            repeats: 0,
            beat: 0,
            silence: Silence::new(now),
            stepped_at: now,
            actions: Vec::new(),
        }
    }

    /// The number of the next call; each is given once.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// What the next HELLO carries.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.settings.token = token;
    }

    /// Takes one input and says what to do, in order.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.forgive_own_absence(now);
        match input {
            Input::Tick => self.begin(),
            Input::Connected => self.greet(now),
            Input::ConnectFailed => self.back_off(now),
            Input::Lost => self.reconnect(),
            Input::Heard(frame) => self.hear(now, frame),
            Input::Garbage => {}
            Input::Call { number, payload, deadline } => self.open(now, number, payload, deadline),
            Input::Cancel { number } => self.cancel(number),
            Input::Pace { number, is_paused } => self.pace(number, is_paused),
            Input::Close => self.close(),
        }
        self.look_at_clock(now);
        self.renew_session();
        self.flush(now);
        std::mem::take(&mut self.actions)
    }

    /// When to step next, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let interval = self.settings.heartbeat;
        let state = match self.state {
            State::Greeting { since, hello_at } => Some((since + self.patience()).min(hello_at + interval)),
            State::Ready { heard_at, beat_at } => Some((heard_at + self.patience()).min(beat_at + interval)),
            State::BackingOff { until } => Some(until),
            State::Idle | State::Connecting | State::Closed => None,
        };
        let repeat = self.is_repeat_possible().then(|| self.progress_at + self.settings.request_timeout);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline + self.grace());
        let ask = self.asks.first().map(|(at, _)| *at);
        [state, repeat, deadline, ask, self.silence_wakes_at()].into_iter().flatten().min()
    }

    /// Every number up to this one has ended here.
    fn acked_through(&self) -> u64 {
        self.calls.first_key_value().map_or(self.next_number - 1, |(number, _)| number - 1)
    }

    fn patience(&self) -> Duration {
        self.settings.heartbeat * self.settings.liveness
    }

    fn grace(&self) -> Duration {
        self.settings.heartbeat * GRACE_HEARTBEATS
    }

    /// A pause of our own (a suspended laptop, a starved process) proves nothing about the host.
    fn forgive_own_absence(&mut self, now: Instant) {
        let absence = now.saturating_duration_since(self.stepped_at);
        self.stepped_at = now;
        if absence <= 2 * self.settings.heartbeat {
            return;
        }
        self.silence.forgive(absence);
        match &mut self.state {
            State::Greeting { since, .. } => *since += absence,
            State::Ready { heard_at, .. } => *heard_at += absence,
            _ => {}
        }
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

    /// The first attempt after a loss is immediate; only failed attempts back off.
    fn reconnect(&mut self) {
        if matches!(self.state, State::Greeting { .. } | State::Ready { .. }) {
            self.actions.push(Action::Disconnect);
            self.connect();
        }
    }

    fn back_off(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let until = now + self.backoff.next_pause();
        self.state = State::BackingOff { until };
    }

    fn greet(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.state = State::Greeting { since: now, hello_at: now };
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        let hello = Hello {
            protocol: PROTOCOL,
            client: self.client,
            incarnation: self.incarnation,
            run: self.run,
            channel: self.channel,
            received: self.receiver.tell(),
            role: self.settings.role,
            token: self.settings.token.as_ref().map(|token| *token.as_bytes()),
        };
        self.actions.push(Action::Send(ToHost::Hello(hello)));
    }

    fn hear(&mut self, now: Instant, frame: ToClient) {
        if self.silence.end(now) {
            self.actions.push(Action::Silence { is_silent: false });
        }
        match frame {
            ToClient::Welcome(welcome) => return self.hear_welcome(now, welcome),
            ToClient::Refused { refusal, payload } => return self.hear_refusal(now, refusal, payload),
            ToClient::Bye => return self.reconnect(),
            _ => {}
        }
        let State::Ready { heard_at, .. } = &mut self.state else {
            return;
        };
        *heard_at = now.max(*heard_at);
        match frame {
            ToClient::Heartbeat { at, beat } if self.take_place(now, at) => self.beat = self.beat.max(beat),
            ToClient::Said { at, serial, body }
                if self.take_place(now, at) && self.receiver.take(serial, body.payload_len()) =>
            {
                self.take(now, body);
            }
            ToClient::Ack { at } => {
                self.take_place(now, at);
            }
            _ => {}
        }
    }

    fn take_place(&mut self, now: Instant, at: Place) -> bool {
        if at.channel != self.channel {
            return false;
        }
        if self.sender.acknowledge(at.received) {
            self.progress_at = now;
            self.repeats = 0;
        }
        true
    }

    fn hear_welcome(&mut self, now: Instant, welcome: Welcome) {
        let is_news = match self.state {
            State::Greeting { .. } => true,
            State::Ready { .. } => welcome.run == self.run && welcome.channel > self.channel,
            _ => false,
        };
        if !is_news || welcome.protocol != PROTOCOL {
            return;
        }
        self.backoff.forget();
        self.repeats = 0;
        self.progress_at = now;
        self.incarnation = welcome.incarnation;
        // The host sets the pace, within reason: both sides must agree on what a missed beat is.
        self.settings.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(10, 60_000)));
        self.state = State::Ready { heard_at: now, beat_at: now };
        self.actions.push(Action::Welcomed(welcome.role));
        if (welcome.run, welcome.channel) == (self.run, self.channel) {
            self.sender.acknowledge(welcome.received);
            self.repeat_unacked(now);
        } else {
            self.begin_channel(welcome);
        }
    }

    fn begin_channel(&mut self, welcome: Welcome) {
        (self.run, self.channel, self.beat) = (welcome.run, welcome.channel, 0);
        self.sender = Sender::new();
        self.receiver = Receiver::default();
        self.asks.clear();
        let open: Vec<u64> = self.calls.keys().copied().collect();
        for number in open {
            self.say(number);
        }
    }

    fn hear_refusal(&mut self, now: Instant, refusal: Refusal, payload: Bytes) {
        match refusal {
            Refusal::Stranger => {
                if let State::Ready { .. } = self.state {
                    self.state = State::Greeting { since: now, hello_at: now };
                    self.say_hello();
                }
            }
            Refusal::Token | Refusal::Protocol => {
                self.actions.push(Action::Refused { refusal, payload });
                self.close();
            }
            Refusal::Full => {
                // Whoever waits for the first greeting hears of it; a session that is under way waits for room.
                self.actions.push(Action::Refused { refusal, payload });
                self.give_up_connection(now);
            }
            // Ours are well-formed and of legal size: whatever this answers, nobody waits for it.
            Refusal::Malformed | Refusal::TooLarge => {}
        }
    }

    fn give_up_connection(&mut self, now: Instant) {
        self.actions.push(Action::Disconnect);
        self.back_off(now);
    }

    /// Leaves a session that the host has closed for a new one, with the calls that were refused for it.
    fn renew_session(&mut self) {
        let is_under_way = |call: &OpenCall| call.was_sent;
        if !self.is_session_closed || self.calls.values().any(is_under_way) {
            return;
        }
        if let State::Ready { .. } = self.state {
            self.is_session_closed = false;
            (self.incarnation, self.run, self.channel) = (0, 0, 0);
            self.actions.extend([Action::Send(ToHost::Bye), Action::Disconnect]);
            self.connect();
        }
    }

    fn close(&mut self) {
        match self.state {
            State::Closed => return,
            State::Ready { .. } => self.actions.extend([Action::Send(ToHost::Bye), Action::Disconnect]),
            _ => self.actions.push(Action::Disconnect),
        }
        self.state = State::Closed;
        while let Some((&number, _)) = self.calls.first_key_value() {
            let was_sent = self.forget(number).is_some_and(|call| call.was_sent);
            self.tell(number, News::Closed { was_sent });
        }
    }

    fn tell(&mut self, number: u64, news: News) {
        self.actions.push(Action::Tell { number, news });
    }

    fn look_at_clock(&mut self, now: Instant) {
        self.expire_calls(now);
        self.look_at_silence(now);
        self.ask_again(now);
        match self.state {
            State::BackingOff { until } if now >= until => self.connect(),
            State::Greeting { since, .. } if now >= since + self.patience() => self.give_up_connection(now),
            State::Greeting { since, hello_at } if now >= hello_at + self.settings.heartbeat => {
                self.state = State::Greeting { since, hello_at: now };
                self.say_hello();
            }
            State::Ready { heard_at, .. } if now >= heard_at + self.patience() => self.reconnect(),
            State::Ready { heard_at, beat_at } if now >= beat_at + self.settings.heartbeat => {
                self.state = State::Ready { heard_at, beat_at: now };
                self.beat_back();
            }
            _ => {}
        }
        if self.is_repeat_possible() && now >= self.progress_at + self.settings.request_timeout {
            self.repeat_or_reconnect(now);
        }
    }

    fn beat_back(&mut self) {
        let (at, acked_through, beat) = (self.tell_place(), self.acked_through(), self.beat);
        self.actions.push(Action::Send(ToHost::Heartbeat { at, acked_through, beat }));
    }

    fn is_repeat_possible(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.sender.unacked_size().messages > 0
    }

    fn repeat_or_reconnect(&mut self, now: Instant) {
        if self.repeats >= self.settings.retries {
            self.repeats = 0;
            return self.reconnect();
        }
        self.repeats += 1;
        self.repeat_unacked(now);
    }

    fn repeat_unacked(&mut self, now: Instant) {
        self.progress_at = now;
        let again: Vec<_> = self.sender.unacked().map(|(serial, wish, ())| (serial, wish.clone())).collect();
        for (serial, wish) in again {
            self.send(now, serial, wish);
        }
    }

    fn flush(&mut self, now: Instant) {
        let State::Ready { .. } = self.state else { return };
        while let Some((serial, wish)) = self.sender.take_next(()) {
            if let Wish::Request { number, .. } = &wish
                && let Some(call) = self.calls.get_mut(number)
            {
                call.was_sent = true;
            }
            self.send(now, serial, wish);
        }
        if self.receiver.is_ack_owed() {
            let at = self.tell_place();
            self.actions.push(Action::Send(ToHost::Ack { at }));
        }
    }

    fn send(&mut self, now: Instant, serial: u64, wish: Wish) {
        let body = match wish {
            Wish::Cancel { number } => ClientBody::Cancel { number },
            Wish::Pace { number, is_paused } => ClientBody::Pace { number, is_paused },
            Wish::Request { number, attempt, deadline, payload } => {
                let acked_through = self.acked_through().min(number - 1);
                let remaining = deadline.saturating_duration_since(now).as_millis();
                let remaining_ms = u32::try_from(remaining).unwrap_or(u32::MAX);
                ClientBody::Request { number, acked_through, remaining_ms, attempt, payload }
            }
        };
        let at = self.tell_place();
        self.actions.push(Action::Send(ToHost::Said { at, serial, body }));
    }

    fn tell_place(&mut self) -> Place {
        Place { channel: self.channel, received: self.receiver.tell() }
    }
}

#[cfg(test)]
mod tests;
