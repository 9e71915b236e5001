//! Sessions: a request that was decided is never decided again, however often its client resends it.
//!
//! A session is one client's run. Its watermark says through which number the client has its answers; rows are
//! kept only above it. A session idle for a day is closed, and stays unknown ever after: its incarnation, the
//! time it began, is then older than any session without a row may be.
//! Pure: rows and times come in, a judgement comes out.

use serde::{Deserialize, Serialize};

use crate::error::CommitError;
use crate::id::Position;
use crate::limit;

/// One run of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The client, as it names itself.
    pub client: u128,
    /// When the host opened the session, Unix milliseconds.
    pub incarnation: u64,
}

/// One request of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DedupeKey {
    /// The session.
    pub session: SessionId,
    /// The request, from 1.
    pub number: u64,
    /// The client has every answer up to and including this number.
    pub acked_through: u64,
}

/// What is known about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dedupe {
    /// Not decided; it may run.
    Fresh,
    /// Decided; this was its outcome.
    Replay {
        /// The outcome stored with the decision.
        outcome: Vec<u8>,
        /// The decision.
        position: Position,
    },
    /// At or below the watermark: never run again.
    TooOld {
        /// The watermark.
        acked_through: u64,
    },
    /// The session has 1,024 unacknowledged requests.
    SessionFull,
    /// The session was closed.
    UnknownSession,
}

/// One session's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) acked_through: u64,
    pub(crate) last_ms: u64,
    /// Dedupe rows kept above the watermark.
    pub(crate) rows: u32,
}

impl SessionRow {
    /// Whether a sweep at that time closes the session.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) > limit::SESSION_IDLE_MS_MAX
    }
}

/// Judges a request. `rows_above`: the session's dedupe rows above the request's own watermark.
pub(crate) fn judge(
    key: &DedupeKey,
    session: Option<SessionRow>,
    decided: Option<(Position, Vec<u8>)>,
    rows_above: u32,
    now_ms: u64,
) -> Dedupe {
    let is_closed = now_ms.saturating_sub(key.session.incarnation) > limit::SESSION_IDLE_MS_MAX;
    if session.is_none() && is_closed {
        return Dedupe::UnknownSession;
    }
    let acked_through = watermark(key, session);
    if key.number <= acked_through {
        return Dedupe::TooOld { acked_through };
    }
    if let Some((position, outcome)) = decided {
        return Dedupe::Replay { outcome, position };
    }
    // Closed, whether or not a sweep was here: one that is under way may have taken the rows that a decision would add to.
    if session.is_some_and(|row| row.is_idle(now_ms)) {
        return Dedupe::UnknownSession;
    }
    if rows_above >= limit::DEDUPE_ROWS_PER_SESSION_MAX {
        return Dedupe::SessionFull;
    }
    Dedupe::Fresh
}

/// The watermark after this request: it never falls.
pub(crate) fn watermark(key: &DedupeKey, session: Option<SessionRow>) -> u64 {
    key.acked_through.max(session.map_or(0, |row| row.acked_through))
}

impl Dedupe {
    /// Lets only a fresh request pass.
    ///
    /// # Errors
    /// What a decision under this key would have said; [`CommitError::DuplicateRequest`] carries the outcome.
    pub fn into_result(self, key: &DedupeKey) -> Result<(), CommitError> {
        match self {
            Dedupe::Fresh => Ok(()),
            Dedupe::Replay { outcome, position } => Err(CommitError::DuplicateRequest { outcome, position }),
            Dedupe::TooOld { acked_through } => {
                Err(CommitError::TooOld { number: key.number, acked_through })
            }
            Dedupe::SessionFull => {
                Err(CommitError::SessionFull { allowed: limit::DEDUPE_ROWS_PER_SESSION_MAX })
            }
            Dedupe::UnknownSession => Err(CommitError::UnknownSession),
        }
    }
}

#[cfg(test)]
mod tests;
