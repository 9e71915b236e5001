//! The client's side, pure: a Lazy Pirate that gives every call one number, one deadline and one outcome.
//!
//! A new channel (another host, or one that forgot us) hears every open call again, under the same number, in order
//! of numbers. Within a channel nothing needs repeating that the channel does not repeat itself, but for a call whose
//! error cannot tell its effect: it is asked again under its number, until the host knows or time is up (`verdict`).
//! A host that is stopping, and one that closed the session, only put a call off: it waits for the next. One that says
//! nothing is waited for until `silence_max` (`silence`).
//! Never here: sockets, the clock, randomness, connections (`link`), JSON of requests and results.

mod calls;
mod silence;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::frame::{OrderTerms, Refusal, ToClient, ToHost};
use crate::link::{Link, LinkAction, LinkNews, LinkSettings};
use crate::service::Role;
use crate::token::Token;

use calls::{OpenCall, Wish};
use silence::Silence;

/// A call outlives its deadline by so many heartbeats: the host answers first, and its answer knows the effect.
const GRACE_HEARTBEATS: u32 = 2;

/// How long calls that are under way in a session that its host has closed may hold up those that wait for the next.
const CLOSING_MAX: Duration = Duration::from_secs(30);

/// What the client keeps to; see `ClientConfig` for the meaning to a user.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) link: LinkSettings,
    pub(crate) silence_max: Option<Duration>,
}

/// What a caller wants.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) payload: Bytes,
    /// For a worker; none: for the host itself.
    pub(crate) order: Option<OrderTerms>,
    pub(crate) deadline: Instant,
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
        request: Request,
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

impl From<LinkAction> for Action {
    fn from(action: LinkAction) -> Self {
        match action {
            LinkAction::Connect => Self::Connect,
            LinkAction::Disconnect => Self::Disconnect,
            LinkAction::Send(frame) => Self::Send(frame),
        }
    }
}

impl News {
    pub(crate) fn is_end(&self) -> bool {
        !matches!(self, Self::Accepted | Self::Chunk { .. } | Self::Reset { .. })
    }
}

/// The end of a session that its host has closed. Calls that were not sent wait for the next.
#[derive(Debug)]
struct Closure {
    /// Calls under way have until then.
    until: Instant,
    /// The error that said so.
    cause: Bytes,
}

/// One client session.
#[derive(Debug)]
pub(crate) struct LazyPirate {
    link: Link<Wish>,
    silence_max: Option<Duration>,
    /// Jitter.
    client: u128,
    next_number: u64,
    calls: BTreeMap<u64, OpenCall>,
    call_bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
    /// When calls in doubt are asked again.
    asks: BTreeSet<(Instant, u64)>,
    /// The host has closed the session; a new one is opened as soon as no call is under way in this one.
    closed: Option<Closure>,
    silence: Silence,
    actions: Vec<Action>,
}

impl LazyPirate {
    /// `client` is random and identifies the session.
    pub(crate) fn new(settings: Settings, client: u128, now: Instant) -> Self {
        Self {
            link: Link::new(settings.link, client, now),
            silence_max: settings.silence_max,
            client,
            next_number: 1,
            calls: BTreeMap::new(),
            call_bytes: 0,
            deadlines: BTreeSet::new(),
            asks: BTreeSet::new(),
            closed: None,
            silence: Silence::new(now),
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
        self.link.set_token(token);
    }

    /// Takes one input and says what to do, in order.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let absence = self.link.note_step(now);
        self.silence.forgive(absence);
        match input {
            Input::Tick => self.link.begin(),
            Input::Connected => self.link.connected(now),
            Input::ConnectFailed => self.link.connect_failed(now),
            Input::Lost => self.link.reconnect(),
            Input::Heard(frame) => self.hear(now, frame),
            Input::Garbage => {}
            Input::Call { number, request } => self.open(now, number, request),
            Input::Cancel { number } => self.cancel(now, number),
            Input::Pace { number, is_paused } => self.pace(now, number, is_paused),
            Input::Close => self.close(),
        }
        self.take_link_actions();
        self.look_at_clock(now);
        self.renew_session(now);
        self.flush(now);
        std::mem::take(&mut self.actions)
    }

    /// When to step next, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline + self.grace());
        let ask = self.asks.first().map(|(at, _)| *at);
        let closed = self.closed.as_ref().filter(|_| self.link.is_ready()).map(|closure| closure.until);
        [self.link.wake_at(), deadline, ask, closed, self.silence_wakes_at()].into_iter().flatten().min()
    }

    /// Every number up to this one has ended here.
    fn acked_through(&self) -> u64 {
        self.calls.first_key_value().map_or(self.next_number - 1, |(number, _)| number - 1)
    }

    fn grace(&self) -> Duration {
        self.link.heartbeat() * GRACE_HEARTBEATS
    }

    fn hear(&mut self, now: Instant, frame: ToClient) {
        if self.silence.end(now) {
            self.actions.push(Action::Silence { is_silent: false });
        }
        let news = self.link.hear(now, frame);
        self.take_link_actions();
        match news {
            Some(LinkNews::Welcomed { role, is_new_channel }) => {
                self.actions.push(Action::Welcomed(role));
                if is_new_channel { self.begin_channel(now) } else { self.repeat(now) }
            }
            Some(LinkNews::Said(body)) => self.take(now, body),
            Some(LinkNews::Refused { refusal, payload }) => {
                // Whoever waits for the first greeting hears of it; a session that is under way waits for room.
                self.actions.push(Action::Refused { refusal, payload });
                if refusal != Refusal::Full {
                    self.close();
                }
            }
            None => {}
        }
    }

    fn begin_channel(&mut self, now: Instant) {
        self.asks.clear();
        // What was never sent does not go into a session that is closed.
        let is_meant = |call: &OpenCall| call.was_sent || self.closed.is_none();
        let open = self.calls.iter().filter(|(_, call)| is_meant(call)).map(|(number, _)| *number);
        for number in open.collect::<Vec<_>>() {
            self.say(now, number);
        }
    }

    /// Leaves a session that the host has closed for a new one, with the calls that were refused for it and those that
    /// came since. What is still under way by then nobody can be asked about: the new session does not know it.
    fn renew_session(&mut self, now: Instant) {
        let Some(closure) = self.closed.as_ref().filter(|_| self.link.is_ready()) else {
            return;
        };
        let under_way: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.was_sent).map(|(number, _)| *number).collect();
        if !under_way.is_empty() && now < closure.until {
            return;
        }
        let cause = closure.cause.clone();
        self.closed = None;
        for number in under_way {
            self.end(number, News::Unresolved { asks: 0, cause: cause.clone() });
        }
        self.link.renew_session();
        self.take_link_actions();
    }

    /// Nothing more goes into this session but what is under way in it.
    fn close_session(&mut self, now: Instant, cause: Bytes) {
        if self.closed.is_none() {
            self.closed = Some(Closure { until: now + CLOSING_MAX, cause });
        }
        let calls = &self.calls;
        self.link.withdraw(|wish| {
            matches!(wish, Wish::Request { number, .. } if calls.get(number).is_none_or(|call| !call.was_sent))
        });
    }

    fn close(&mut self) {
        if !self.link.close() {
            return;
        }
        self.take_link_actions();
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
        let is_repeat_due = self.link.tick(now, self.acked_through());
        self.take_link_actions();
        if is_repeat_due {
            self.repeat(now);
        }
    }

    fn repeat(&mut self, now: Instant) {
        let acked_through = self.acked_through();
        self.link.repeat(now, |wish| wish.frame(now, acked_through));
        self.take_link_actions();
    }

    fn flush(&mut self, now: Instant) {
        let (acked_through, calls) = (self.acked_through(), &mut self.calls);
        self.link.flush(|wish| {
            if let Wish::Request { number, .. } = wish
                && let Some(call) = calls.get_mut(number)
            {
                call.was_sent = true;
            }
            wish.frame(now, acked_through)
        });
        self.take_link_actions();
    }

    fn take_link_actions(&mut self) {
        self.actions.extend(self.link.take_actions().into_iter().map(Action::from));
    }
}

#[cfg(test)]
mod tests;
