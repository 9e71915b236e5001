//! What one component may have of the minds: tokens a minute, and requests at once.
//!
//! ```text
//! admit    a place, and room for the most that the request may cost     else how long to wait
//! refill   by the clock, up to a minute's worth
//! settle   what it did not cost comes back, and its place
//! ```
//! So over any time at all a component has a minute's worth of tokens and what that time refills, and no more; one
//! request that may cost more than a minute's worth is admitted when nothing is used, and waited for afterwards.
//! Pure: whoever asks says what time it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use telos_store::ComponentId;

/// What each component may have of the minds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceTerms {
    /// Tokens a minute, read and generated together; at least 1. Default 60,000: more than a small mind reads and writes
    /// in a minute on a processor, so it holds where several components share one.
    pub tokens_per_minute: u32,
    /// Requests at once; at least 1. Default 8: as deep as messages send messages.
    pub requests_max: u32,
}

impl Default for InferenceTerms {
    fn default() -> Self {
        Self { tokens_per_minute: 60_000, requests_max: 8 }
    }
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When asking again may succeed; unless others ask in between, for tokens it will.
    pub(crate) time: Duration,
}

/// What a component has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Of a minute's worth of tokens; more than that after a request that cost more.
    pub(crate) tokens: u64,
    /// Requests under way.
    pub(crate) requests: u32,
}

/// What every component has used. One account for each that ever asked.
pub(crate) struct InferenceBudgets {
    terms: InferenceTerms,
    accounts: HashMap<ComponentId, Account>,
}

/// One component's. Tokens are counted in shares: a token is a minute's milliseconds of them, so that a millisecond
/// refills whole shares.
struct Account {
    shares: i64,
    at: Instant,
    requests: u32,
}

/// A minute.
const MINUTE_MS: i64 = 60_000;
/// How long whoever finds no place is told to wait: about as long as a short text takes.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// Requests cost at most this many tokens, far above what one can ask for.
const COST_MAX: u64 = 1 << 32;

impl InferenceBudgets {
    pub(crate) fn new(terms: InferenceTerms) -> Self {
        Self { terms, accounts: HashMap::new() }
    }

    pub(crate) fn terms(&self) -> InferenceTerms {
        self.terms
    }

    /// Takes a place, and `cost` tokens, the most that the request may cost.
    ///
    /// # Errors
    /// [`Wait`]; nothing was taken.
    pub(crate) fn admit(&mut self, component: &ComponentId, cost: u64, now: Instant) -> Result<(), Wait> {
        let terms = self.terms;
        let account = match self.accounts.get_mut(component) {
            Some(account) => account,
            None => self.accounts.entry(component.clone()).or_insert(Account::full(terms, now)),
        };
        account.refill(terms, now);
        account.admit(terms, shares(cost))
    }

    /// Gives the place of a request back, and what it did not cost.
    pub(crate) fn settle(&mut self, component: &ComponentId, reserved: u64, cost: u64, now: Instant) {
        let terms = self.terms;
        let Some(account) = self.accounts.get_mut(component) else { return };
        account.refill(terms, now);
        account.shares = capacity(terms).min(account.shares + shares(reserved) - shares(cost));
        account.requests = account.requests.saturating_sub(1);
    }

    /// What a component has used by now.
    pub(crate) fn reading(&mut self, component: &ComponentId, now: Instant) -> Reading {
        let terms = self.terms;
        let Some(account) = self.accounts.get_mut(component) else { return Reading::default() };
        account.refill(terms, now);
        let used = capacity(terms) - account.shares;
        Reading {
            tokens: (used + MINUTE_MS - 1).unsigned_abs() / MINUTE_MS.unsigned_abs(),
            requests: account.requests,
        }
    }
}

impl Account {
    fn full(terms: InferenceTerms, now: Instant) -> Self {
        Self { shares: capacity(terms), at: now, requests: 0 }
    }

    /// Whole milliseconds only; what is left of one counts the next time.
    fn refill(&mut self, terms: InferenceTerms, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        let refilled = elapsed_ms.saturating_mul(i64::from(terms.tokens_per_minute));
        self.shares = self.shares.saturating_add(refilled).min(capacity(terms));
        self.at += Duration::from_millis(elapsed_ms.unsigned_abs());
    }

    fn admit(&mut self, terms: InferenceTerms, cost: i64) -> Result<(), Wait> {
        if self.requests >= terms.requests_max.max(1) {
            return Err(Wait { time: PLACE_WAIT });
        }
        let missing = cost.min(capacity(terms)) - self.shares;
        if missing > 0 {
            let a_millisecond = u64::from(terms.tokens_per_minute.max(1));
            return Err(Wait { time: Duration::from_millis(missing.unsigned_abs().div_ceil(a_millisecond)) });
        }
        self.shares -= cost;
        self.requests += 1;
        Ok(())
    }
}

fn capacity(terms: InferenceTerms) -> i64 {
    i64::from(terms.tokens_per_minute.max(1)) * MINUTE_MS
}

fn shares(tokens: u64) -> i64 {
    i64::try_from(tokens.min(COST_MAX)).unwrap_or(i64::MAX) * MINUTE_MS
}

#[cfg(test)]
mod tests;
