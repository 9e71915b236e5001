//! Pins: which snapshots open units may still search, so that compaction keeps what they need.
//!
//! A pin older than a minute no longer counts: its unit may be answered `snapshot too old` instead of holding
//! memory for as long as it pleases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::id::Position;
use crate::limit;

/// The snapshots of open units, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    open: Mutex<BTreeMap<(Position, u64), Instant>>,
    last: AtomicU64,
}

/// One open unit's snapshot; gone when dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    key: (Position, u64),
}

impl Pins {
    /// Pins the newest decided, or voted, position. Read under the lock, so that no compaction slips in between.
    pub(crate) fn pin(self: &Arc<Pins>, newest: &AtomicU64) -> Pin {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        let key = (Position::new(newest.load(Ordering::Acquire)), number);
        open.insert(key, Instant::now());
        Pin { pins: Arc::clone(self), key }
    }

    /// The oldest snapshot that must stay searchable.
    pub(crate) fn oldest(&self, decided: &AtomicU64, now: Instant) -> Position {
        let open = self.open.lock();
        let is_young = |since: &Instant| now.saturating_duration_since(*since) <= limit::SNAPSHOT_AGE_MAX;
        let pinned = open.iter().find(|(_, since)| is_young(since)).map(|((position, _), _)| *position);
        // A unit that began on what is only voted for must not cost one that begins on what is decided its snapshot.
        let decided = Position::new(decided.load(Ordering::Acquire));
        pinned.map_or(decided, |pinned| pinned.min(decided))
    }

    /// How many units are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Pin {
    pub(crate) fn position(&self) -> Position {
        self.key.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.open.lock().remove(&self.key);
    }
}
