//! A message from outside, and what comes of it, as whoever sends it sees them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_store::{DedupeKey, Json, Position};

use crate::seams::StreamSink;

/// A message from outside.
pub struct Root {
    /// The receiver's name, or its id as 32 hex digits.
    pub receiver: String,
    /// The selector.
    pub selector: String,
    /// The arguments.
    pub arguments: Json,
    /// When the sender stops waiting.
    pub deadline: Instant,
    /// Who asks, and under which number; without one, a resend is a new message.
    pub request: Option<DedupeKey>,
    /// Where provisional answers go.
    pub sink: Option<Arc<dyn StreamSink>>,
}

/// The authoritative answer of a root.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// The commit that made its effects visible; none when it had none.
    pub position: Option<Position>,
    /// The answer of an earlier run of the same request.
    pub is_replay: bool,
}

/// How a message would have gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// What it would have answered.
    pub value: Value,
    /// Admission → answer ready to commit.
    pub elapsed: Duration,
    /// Of that, its instance's life: store, instantiate, call with its host calls, drop.
    pub instance: Duration,
}

/// A reading of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct DispatchStats {
    /// Roots answered.
    pub answered: u64,
    /// Roots failed.
    pub failed: u64,
    /// Attempts repeated because of a conflict.
    pub retried: u64,
}
