//! One end of the line to a host, pure: whoever talks to a host, client or worker, connects, greets, beats and repeats.
//!
//! ```text
//! Idle -> Connecting -> Greeting -> Ready          heard nothing for `liveness` intervals, or no progress after
//!            ^  |          |          |            `retries` repeats: drop the socket, connect anew
//!            |  v          v          v
//!          BackingOff  1, 2, 4 .. 32 s; forgotten only when a host says WELCOME
//! ```
//! What is said goes through a channel and arrives once, in order. A new channel (another host, or one that forgot us)
//! begins empty: what still matters, its owner says again. `T` is what the owner says; it is framed when it goes out,
//! since a frame tells time that is left.
//!
//! Never here: sockets, the clock, randomness (jitter comes from the session's own id), what is said and heard.
//!
//! # Source
//! ZeroMQ Guide, chapter 4: Lazy Pirate and Paranoid Pirate patterns.

mod backoff;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::channel::{Receiver, Sender, Weigh};
use crate::frame::{ClientBody, Hello, HostBody, PROTOCOL, Place, Refusal, ToClient, ToHost, Welcome};
use crate::service::Role;
use crate::token::Token;

pub(crate) use backoff::Backoff;

/// What a link keeps to; see `ClientConfig` for the meaning to a user.
#[derive(Debug, Clone)]
pub(crate) struct LinkSettings {
    pub(crate) heartbeat: Duration,
    pub(crate) liveness: u32,
    /// Without progress in the channel for so long, what is under way is said again.
    pub(crate) request_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) role: Role,
    pub(crate) token: Option<Token>,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    Connect,
    /// Drop the socket, whether connected or not yet.
    Disconnect,
    Send(ToHost),
}

/// What came over the line that its owner has to know.
#[derive(Debug)]
pub(crate) enum LinkNews {
    /// A host took us. In a new channel everything has to be said again.
    Welcomed { role: Role, is_new_channel: bool },
    /// The next thing the host said.
    Said(HostBody),
    /// The host will not have us: for want of room now, for any other reason ever.
    Refused { refusal: Refusal, payload: Bytes },
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

/// One session's line to its host.
#[derive(Debug)]
pub(crate) struct Link<T> {
    settings: LinkSettings,
    state: State,
    client: u128,
    incarnation: u64,
    run: u64,
    channel: u64,
    sender: Sender<T, ()>,
    receiver: Receiver,
    /// When the channel last got on, or was last repeated.
    progress_at: Instant,
    repeats: u32,
    beat: u64,
    backoff: Backoff,
    stepped_at: Instant,
    actions: Vec<LinkAction>,
}

impl<T: Weigh + Clone> Link<T> {
    /// `client` is random and identifies the session.
    pub(crate) fn new(settings: LinkSettings, client: u128, now: Instant) -> Self {
        let backoff = Backoff::new(settings.backoff_min, settings.backoff_max, client);
        Self {
            settings,
            backoff,
            state: State::Idle,
            client,
            incarnation: 0,
            run: 0,
            channel: 0,
            sender: Sender::new(),
            receiver: Receiver::default(),
            progress_at: now,
            repeats: 0,
            beat: 0,
            stepped_at: now,
            actions: Vec::new(),
        }
    }

    /// What the next HELLO carries.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.settings.token = token;
    }

    /// To be said first at every step: how long we ourselves were away (a suspended laptop, a starved process), which
    /// proves nothing about the host. Zero when we were not.
    pub(crate) fn note_step(&mut self, now: Instant) -> Duration {
        let absence = now.saturating_duration_since(self.stepped_at);
        self.stepped_at = now;
        if absence <= 2 * self.settings.heartbeat {
            return Duration::ZERO;
        }
        match &mut self.state {
            State::Greeting { since, .. } => *since += absence,
            State::Ready { heard_at, .. } => *heard_at += absence,
            _ => {}
        }
        absence
    }

    pub(crate) fn stepped_at(&self) -> Instant {
        self.stepped_at
    }

    /// What to do, in order; empty until the next call.
    pub(crate) fn take_actions(&mut self) -> Vec<LinkAction> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn begin(&mut self) {
        if self.state == State::Idle {
            self.connect();
        }
    }

    pub(crate) fn connected(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.state = State::Greeting { since: now, hello_at: now };
            self.say_hello();
        }
    }

    pub(crate) fn connect_failed(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.state = State::BackingOff { until: now + self.backoff.next_pause() };
        }
    }

    /// The connection ended. The first attempt after a loss is immediate; only failed attempts back off.
    pub(crate) fn reconnect(&mut self) {
        if matches!(self.state, State::Greeting { .. } | State::Ready { .. }) {
            self.actions.push(LinkAction::Disconnect);
            self.connect();
        }
    }

    /// Leaves the session for a new one with the same host.
    pub(crate) fn renew_session(&mut self) {
        (self.incarnation, self.run, self.channel) = (0, 0, 0);
        self.actions.extend([LinkAction::Send(ToHost::Bye), LinkAction::Disconnect]);
        self.connect();
    }

    /// Says goodbye. False when that was said before.
    pub(crate) fn close(&mut self) -> bool {
        match self.state {
            State::Closed => return false,
            // A host that has our HELLO knows us, though we do not know that yet.
            State::Ready { .. } | State::Greeting { .. } => {
                self.actions.extend([LinkAction::Send(ToHost::Bye), LinkAction::Disconnect])
            }
            _ => self.actions.push(LinkAction::Disconnect),
        }
        self.state = State::Closed;
        true
    }

    /// Takes what the host sent.
    pub(crate) fn hear(&mut self, now: Instant, frame: ToClient) -> Option<LinkNews> {
        match frame {
            ToClient::Welcome(welcome) => return self.hear_welcome(now, welcome),
            ToClient::Refused { refusal, payload } => return self.hear_refusal(now, refusal, payload),
            ToClient::Bye => {
                self.reconnect();
                return None;
            }
            _ => {}
        }
        let State::Ready { heard_at, .. } = &mut self.state else {
            return None;
        };
        *heard_at = now.max(*heard_at);
        match frame {
            ToClient::Heartbeat { at, beat } if self.take_place(now, at) => self.beat = self.beat.max(beat),
            ToClient::Said { at, serial, body }
                if self.take_place(now, at) && self.receiver.take(serial, body.payload_len()) =>
            {
                return Some(LinkNews::Said(body));
            }
            ToClient::Ack { at } => {
                self.take_place(now, at);
            }
            _ => {}
        }
        None
    }

    /// Says something as soon as there is room for it. Before the first channel there is nowhere to say it: false.
    pub(crate) fn say(&mut self, now: Instant, item: T) -> bool {
        if self.channel == 0 {
            return false;
        }
        if self.sender.unacked_size().messages == 0 {
            self.progress_at = now;
        }
        self.sender.push(item);
        true
    }

    /// Takes back what has not gone out yet.
    pub(crate) fn withdraw(&mut self, is_meant: impl Fn(&T) -> bool) {
        self.sender.withdraw(is_meant);
    }

    /// Looks at the clock. True when what is under way is to be said again.
    pub(crate) fn tick(&mut self, now: Instant, acked_through: u64) -> bool {
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
                let (at, beat) = (self.tell_place(), self.beat);
                self.actions.push(LinkAction::Send(ToHost::Heartbeat { at, acked_through, beat }));
            }
            _ => {}
        }
        self.is_repeat_possible()
            && now >= self.progress_at + self.settings.request_timeout
            && self.may_repeat()
    }

    /// Says again what is under way.
    pub(crate) fn repeat(&mut self, now: Instant, mut frame: impl FnMut(&T) -> ClientBody) {
        self.progress_at = now;
        let again: Vec<_> = self.sender.unacked().map(|(serial, item, ())| (serial, frame(item))).collect();
        again.into_iter().for_each(|(serial, body)| self.send(serial, body));
    }

    /// Says what waits, as far as there is room, and acknowledges what is owed.
    pub(crate) fn flush(&mut self, mut frame: impl FnMut(&T) -> ClientBody) {
        let State::Ready { .. } = self.state else { return };
        while let Some((serial, item)) = self.sender.take_next(()) {
            self.send(serial, frame(&item));
        }
        if self.receiver.is_ack_owed() {
            let at = self.tell_place();
            self.actions.push(LinkAction::Send(ToHost::Ack { at }));
        }
    }

    /// When [`Link::tick`] has something to do.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let interval = self.settings.heartbeat;
        let state = match self.state {
            State::Greeting { since, hello_at } => Some((since + self.patience()).min(hello_at + interval)),
            State::Ready { heard_at, beat_at } => Some((heard_at + self.patience()).min(beat_at + interval)),
            State::BackingOff { until } => Some(until),
            State::Idle | State::Connecting | State::Closed => None,
        };
        let repeat = self.is_repeat_possible().then(|| self.progress_at + self.settings.request_timeout);
        state.into_iter().chain(repeat).min()
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// What waits and what is under way, together.
    pub(crate) fn is_drained(&self) -> bool {
        self.sender.unacked_size().messages == 0 && self.sender.waiting_size().messages == 0
    }

    /// Messages and bytes that wait for room.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let waiting = self.sender.waiting_size();
        (waiting.messages, waiting.bytes)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.settings.heartbeat
    }

    /// So long without a sign of life, and a peer is gone.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.heartbeat * self.settings.liveness
    }

    #[cfg(test)]
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.actions.push(LinkAction::Connect);
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
        self.actions.push(LinkAction::Send(ToHost::Hello(hello)));
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

    fn hear_welcome(&mut self, now: Instant, welcome: Welcome) -> Option<LinkNews> {
        let is_news = match self.state {
            State::Greeting { .. } => true,
            State::Ready { .. } => welcome.run == self.run && welcome.channel > self.channel,
            _ => false,
        };
        if !is_news || welcome.protocol != PROTOCOL {
            return None;
        }
        self.backoff.forget();
        self.repeats = 0;
        self.progress_at = now;
        self.incarnation = welcome.incarnation;
        // The host sets the pace, within reason: both sides must agree on what a missed beat is.
        self.settings.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(10, 60_000)));
        self.state = State::Ready { heard_at: now, beat_at: now };
        let is_new_channel = (welcome.run, welcome.channel) != (self.run, self.channel);
        if is_new_channel {
            (self.run, self.channel, self.beat) = (welcome.run, welcome.channel, 0);
            self.sender = Sender::new();
            self.receiver = Receiver::default();
        } else {
            self.sender.acknowledge(welcome.received);
        }
        Some(LinkNews::Welcomed { role: welcome.role, is_new_channel })
    }

    fn hear_refusal(&mut self, now: Instant, refusal: Refusal, payload: Bytes) -> Option<LinkNews> {
        match refusal {
            Refusal::Stranger => {
                if let State::Ready { .. } = self.state {
                    self.state = State::Greeting { since: now, hello_at: now };
                    self.say_hello();
                }
                None
            }
            Refusal::Token | Refusal::Protocol | Refusal::Role => {
                Some(LinkNews::Refused { refusal, payload })
            }
            Refusal::Full => {
                self.give_up_connection(now);
                Some(LinkNews::Refused { refusal, payload })
            }
            // Ours are well-formed and of legal size: whatever this answers, nobody waits for it.
            Refusal::Malformed | Refusal::TooLarge => None,
        }
    }

    fn give_up_connection(&mut self, now: Instant) {
        self.actions.push(LinkAction::Disconnect);
        self.connect_failed(now);
    }

    fn is_repeat_possible(&self) -> bool {
        self.is_ready() && self.sender.unacked_size().messages > 0
    }

    fn may_repeat(&mut self) -> bool {
        let may_repeat = self.repeats < self.settings.retries;
        if may_repeat {
            self.repeats += 1;
        } else {
            self.repeats = 0;
            self.reconnect();
        }
        may_repeat
    }

    fn send(&mut self, serial: u64, body: ClientBody) {
        let at = self.tell_place();
        self.actions.push(LinkAction::Send(ToHost::Said { at, serial, body }));
    }

    fn tell_place(&mut self) -> Place {
        Place { channel: self.channel, received: self.receiver.tell() }
    }
}
