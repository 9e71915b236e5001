//! Sessions as the order knows them: which requests are decided or pending, so that a vote need not read the tables.
//!
//! ```text
//! learn     a session that votes is read from the tables, once       what is pending is added
//! add       a request that was voted for, and the watermark it brings
//! forget    at a failure, after a sweep; when there are too many,     the next vote reads it again
//!           those with nothing pending
//! ```
//! What is known stays true: rows are written for requests that were voted for here, and removed below the watermark
//! that such a request brings. Only a sweep removes others.
//! Never here: redb, clocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::id::Position;
use crate::limit;
use crate::session::{DedupeKey, SessionId};

/// The sessions with pending requests, and what is known of those that voted lately.
#[derive(Default)]
pub(super) struct Sessions {
    pending: HashMap<SessionId, BTreeMap<u64, Pending>>,
    known: HashMap<SessionId, KnownSession>,
}

/// A request that is not yet durable.
struct Pending {
    position: Position,
    acked_through: u64,
    at_ms: u64,
    outcome: Arc<[u8]>,
}

/// One session with everything pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownSession {
    pub(crate) acked_through: u64,
    /// When its last request was voted for or decided, Unix milliseconds.
    pub(crate) last_ms: u64,
    /// Requests above the watermark, decided or pending.
    pub(crate) numbers: BTreeSet<u64>,
}

impl KnownSession {
    /// Requests above a watermark.
    pub(crate) fn count_above(&self, acked_through: u64) -> u32 {
        let above = self.numbers.iter().rev().take_while(|number| **number > acked_through).count();
        u32::try_from(above).unwrap_or(u32::MAX)
    }

    fn add(&mut self, number: u64, acked_through: u64, at_ms: u64) {
        self.last_ms = self.last_ms.max(at_ms);
        self.acked_through = self.acked_through.max(acked_through);
        self.numbers.insert(number);
        while self.numbers.first().is_some_and(|oldest| *oldest <= self.acked_through) {
            self.numbers.pop_first();
        }
    }
}

impl Sessions {
    pub(super) fn known(&self, session: SessionId) -> Option<&KnownSession> {
        self.known.get(&session)
    }

    /// Takes what the tables say of a session that is not known; none when they do not know it either.
    pub(super) fn learn(&mut self, session: SessionId, stored: Option<KnownSession>) {
        let pending = self.pending.get(&session);
        if stored.is_none() && pending.is_none() {
            return;
        }
        let mut learnt = stored.unwrap_or_default();
        for (number, request) in pending.into_iter().flatten() {
            learnt.add(*number, request.acked_through, request.at_ms);
        }
        *self.known_or_new(session) = learnt;
    }

    /// Adds a request that was voted for. Its session is known by then, or new.
    pub(super) fn add(&mut self, key: &DedupeKey, position: Position, outcome: &[u8], at_ms: u64) {
        let DedupeKey { session, number, acked_through } = *key;
        self.known_or_new(session).add(number, acked_through, at_ms);
        let request = Pending { position, acked_through, at_ms, outcome: outcome.into() };
        self.pending.entry(session).or_default().insert(number, request);
    }

    /// The one place where a session becomes known. At the bound those are forgotten that have nothing pending: fewer units
    /// may be pending than sessions known, so there is one. Cost there: one pass over all that are known.
    fn known_or_new(&mut self, session: SessionId) -> &mut KnownSession {
        if self.known.len() >= limit::SESSIONS_KNOWN_MAX && !self.known.contains_key(&session) {
            self.known.retain(|known, _| self.pending.contains_key(known));
        }
        self.known.entry(session).or_default()
    }

    /// The pending decision of a request.
    pub(super) fn decided(&self, key: &DedupeKey) -> Option<(Position, Vec<u8>)> {
        let request = self.pending.get(&key.session)?.get(&key.number)?;
        Some((request.position, request.outcome.to_vec()))
    }

    /// Forgets the outcomes that are durable through a position.
    pub(super) fn settle(&mut self, through: Position) {
        self.pending.retain(|_, requests| {
            requests.retain(|_, request| request.position > through);
            !requests.is_empty()
        });
    }

    /// Forgets what is known; what is pending stays, and joins what is learnt next.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}
