//! How long calls have waited for a host that says nothing: first that is told, at last they end.
//!
//! A call that joins a silence ends with it: the host that is not there for one is not there for the other.

use std::time::{Duration, Instant};

use super::{Action, LazyPirate, News};

/// One silence; it only counts while calls are open.
#[derive(Debug)]
pub(super) struct Silence {
    /// The host's last sign of life, or when the first of the open calls began.
    since: Instant,
    is_told: bool,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, is_told: false }
    }

    /// True when it had been told, so that its end is news too.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        std::mem::replace(self, Self::new(now)).is_told
    }

    /// Calls wait from here on; whether it was told stays, until the host is heard.
    pub(super) fn wait_from(&mut self, now: Instant) {
        self.since = now;
    }

    /// Our own absence is no silence of the host's.
    pub(super) fn forgive(&mut self, absence: Duration) {
        self.since += absence;
    }
}

impl LazyPirate {
    /// Tells of a silence once, and ends every open call when it has lasted too long.
    pub(super) fn look_at_silence(&mut self, now: Instant) {
        if self.silence_due_at().is_none_or(|at| now < at) {
            return;
        }
        if !std::mem::replace(&mut self.silence.is_told, true) {
            self.actions.push(Action::Silence { is_silent: true });
        }
        if self.silence_max.is_some_and(|max| now >= self.silence.since + max) {
            self.end_in_silence(now);
        }
    }

    /// When to look next; never while nobody waits. Each heartbeat, though that is no news: else a long pause between
    /// two attempts to connect would pass for an absence of our own.
    pub(super) fn silence_wakes_at(&self) -> Option<Instant> {
        Some(self.silence_due_at()?.min(self.link.stepped_at() + self.link.heartbeat()))
    }

    fn silence_due_at(&self) -> Option<Instant> {
        if self.calls.is_empty() {
            return None;
        }
        let wait = if self.silence.is_told { self.silence_max? } else { self.link.patience() };
        Some(self.silence.since + wait)
    }

    fn end_in_silence(&mut self, now: Instant) {
        let waited = now - self.silence.since;
        while let Some((&number, _)) = self.calls.first_key_value() {
            let was_sent = self.give_up(now, number);
            self.tell(number, News::Silent { was_sent, waited });
        }
    }
}
