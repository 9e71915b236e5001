//! Open calls: from the caller's wish to the one piece of news that ends it.

use std::time::Instant;

use bytes::Bytes;

use super::verdict::{self, Doubt, Past, Verdict};
use super::{Action, LazyPirate, News, Request};
use crate::channel::Weigh;
use crate::frame::{ClientBody, HostBody, OrderTerms};
use crate::rpc::Effect;

/// Calls open at once, and the bytes of their requests: beyond it a call is refused at once.
pub(super) const CALLS_MAX: usize = 1_024;
const CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) payload: Bytes,
    pub(super) order: Option<OrderTerms>,
    pub(super) deadline: Instant,
    pub(super) attempt: u32,
    /// A host may have begun it: to be without an answer is to be without knowledge of its effect.
    pub(super) was_sent: bool,
    pub(super) had_chunks: bool,
    pub(super) is_paused: bool,
    pub(super) doubt: Option<Doubt>,
    /// Its entry among `asks`.
    pub(super) ask_at: Option<Instant>,
    pub(super) was_renewed: bool,
}

/// What goes through the channel; a request is complete here but for the clock.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Request { number: u64, attempt: u32, deadline: Instant, order: Option<OrderTerms>, payload: Bytes },
    Cancel { number: u64 },
    Pace { number: u64, is_paused: bool },
}

impl Weigh for Wish {
    fn weight(&self) -> usize {
        match self {
            Self::Request { payload, .. } => payload.len(),
            Self::Cancel { .. } | Self::Pace { .. } => 0,
        }
    }
}

impl Wish {
    fn number(&self) -> u64 {
        match self {
            Self::Request { number, .. } | Self::Cancel { number } | Self::Pace { number, .. } => *number,
        }
    }

    pub(super) fn frame(&self, now: Instant, acked_through: u64) -> ClientBody {
        match self {
            Self::Cancel { number } => ClientBody::Cancel { number: *number },
            Self::Pace { number, is_paused } => ClientBody::Pace { number: *number, is_paused: *is_paused },
            Self::Request { number, attempt, deadline, order, payload } => {
                let remaining = deadline.saturating_duration_since(now).as_millis();
                ClientBody::Request {
                    number: *number,
                    acked_through: acked_through.min(number - 1),
                    remaining_ms: u32::try_from(remaining).unwrap_or(u32::MAX),
                    attempt: *attempt,
                    order: order.clone(),
                    payload: payload.clone(),
                }
            }
        }
    }
}

impl OpenCall {
    fn new(payload: Bytes, order: Option<OrderTerms>, deadline: Instant) -> Self {
        Self {
            payload,
            order,
            deadline,
            attempt: 1,
            was_sent: false,
            had_chunks: false,
            is_paused: false,
            doubt: None,
            ask_at: None,
            was_renewed: false,
        }
    }

    fn wish(&self, number: u64) -> Wish {
        Wish::Request {
            number,
            attempt: self.attempt,
            deadline: self.deadline,
            order: self.order.clone(),
            payload: self.payload.clone(),
        }
    }
}

impl LazyPirate {
    pub(super) fn open(&mut self, now: Instant, number: u64, request: Request) {
        let Request { payload, order, deadline } = request;
        if self.link.is_closed() {
            return self.tell(number, News::Closed { was_sent: false });
        }
        if self.is_crowded(payload.len()) {
            return self.tell(number, News::Crowded);
        }
        if self.calls.is_empty() {
            self.silence.wait_from(now);
        }
        let call = OpenCall::new(payload, order, deadline);
        self.call_bytes += call.payload.len();
        self.deadlines.insert((deadline, number));
        // Before the first channel, and once the host has closed the session, there is nothing to put it in;
        // `begin_channel` does.
        if self.closed.is_none() {
            self.link.say(now, call.wish(number));
        }
        self.calls.insert(number, call);
    }

    /// Cancelled calls may still wait in the channel, so both are counted.
    fn is_crowded(&self, more: usize) -> bool {
        let (waiting, waiting_bytes) = self.link.waiting();
        self.calls.len() >= CALLS_MAX
            || waiting >= 2 * CALLS_MAX
            || self.call_bytes.max(waiting_bytes) + more > CALL_BYTES_MAX
    }

    pub(super) fn cancel(&mut self, now: Instant, number: u64) {
        if self.calls.contains_key(&number) {
            self.give_up(now, number);
        }
    }

    pub(super) fn pace(&mut self, now: Instant, number: u64, is_paused: bool) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut call.is_paused, is_paused) != is_paused {
            self.link.say(now, Wish::Pace { number, is_paused });
        }
    }

    /// Puts a call into the channel: anew, when a host may have begun it, and then what came of that is void.
    pub(super) fn say(&mut self, now: Instant, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.ask_at = None;
        if call.was_sent {
            call.attempt += 1;
        }
        if std::mem::take(&mut call.had_chunks) {
            self.actions.push(Action::Tell { number, news: News::Reset { attempt: call.attempt } });
        }
        self.link.say(now, call.wish(number));
        if call.is_paused {
            self.link.say(now, Wish::Pace { number, is_paused: true });
        }
    }

    pub(super) fn take(&mut self, now: Instant, body: HostBody) {
        let Some(number) = body.number() else {
            return;
        };
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let news = match body {
            HostBody::Work(_) => return,
            HostBody::Accepted { .. } => News::Accepted,
            HostBody::Chunk { attempt, payload, .. } => {
                call.had_chunks = true;
                News::Chunk { attempt, payload }
            }
            HostBody::Reset { attempt, .. } => {
                call.had_chunks = false;
                News::Reset { attempt }
            }
            HostBody::Result { payload, .. } => News::Result(payload),
            HostBody::Error { payload, .. } => return self.take_error(now, number, payload),
        };
        if news.is_end() {
            return self.end(number, news);
        }
        self.tell(number, news);
    }

    fn take_error(&mut self, now: Instant, number: u64, payload: Bytes) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let past =
            Past { attempt: call.attempt, is_in_doubt: call.doubt.is_some(), is_order: call.order.is_some() };
        match verdict::judge(number, &payload, past) {
            Verdict::Final => self.end(number, News::Error(payload)),
            Verdict::Unknowable => self.end(number, News::Unresolved { asks: 0, cause: payload }),
            Verdict::AskAgain => self.put_off(now, number, payload),
            // The next channel says it again.
            Verdict::NextHost(effect) => call.was_sent = effect != Effect::None,
            Verdict::NewSession if call.was_renewed => self.end(number, News::Error(payload)),
            Verdict::NewSession => {
                (call.was_sent, call.was_renewed) = (false, true);
                self.close_session(now, payload);
            }
        }
    }

    fn put_off(&mut self, now: Instant, number: u64, cause: Bytes) {
        let seed = self.client ^ u128::from(number);
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let doubt = call.doubt.get_or_insert_with(|| Doubt::new(cause, seed));
        if let Some(at) = call.ask_at.take() {
            self.asks.remove(&(at, number));
        }
        match doubt.next_ask(now, call.deadline) {
            Some(at) => {
                call.ask_at = Some(at);
                self.asks.insert((at, number));
            }
            None => {
                let news = News::Unresolved { asks: doubt.asks, cause: doubt.cause.clone() };
                self.end(number, news);
            }
        }
    }

    pub(super) fn ask_again(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.asks.first()
            && now >= at
        {
            self.asks.remove(&(at, number));
            self.say(now, number);
        }
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some(&(deadline, number)) = self.deadlines.first()
            && now >= deadline + self.grace()
        {
            let was_sent = self.give_up(now, number);
            self.tell(number, News::TimedOut { was_sent });
        }
    }

    /// Forgets a call, and lets the host do so; whether a host may have begun it. What has not gone out never does: its
    /// caller is told that it had no effect.
    pub(super) fn give_up(&mut self, now: Instant, number: u64) -> bool {
        let was_sent = self.forget(number).is_some_and(|call| call.was_sent);
        self.link.withdraw(|wish| wish.number() == number);
        if was_sent {
            self.link.say(now, Wish::Cancel { number });
        }
        was_sent
    }

    pub(super) fn end(&mut self, number: u64, news: News) {
        self.forget(number);
        self.tell(number, news);
    }

    pub(super) fn forget(&mut self, number: u64) -> Option<OpenCall> {
        let call = self.calls.remove(&number)?;
        self.deadlines.remove(&(call.deadline, number));
        if let Some(at) = call.ask_at {
            self.asks.remove(&(at, number));
        }
        self.call_bytes -= call.payload.len();
        Some(call)
    }
}
