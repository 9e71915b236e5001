//! Pins: which snapshots open units may still search, so that compaction keeps what they need.
//!
//! A pin older than a minute no longer counts: its unit may be answered `snapshot too old` instead of holding
//! memory for as long as it pleases. Whoever waits for the oldest to go is told once it has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use crate::id::Position;
use crate::limit;

/// The snapshots of open units, oldest first.
#[derive(Default)]
pub(crate) struct Pins {
    open: Mutex<BTreeMap<(Position, u64), Instant>>,
    last: AtomicU64,
    /// Somebody waits for the oldest to go.
    is_watched: AtomicBool,
    tell: OnceLock<Box<dyn Fn() + Send + Sync>>,
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
        let pinned =
            open.iter().find(|(_, since)| is_young(**since, now)).map(|((position, _), _)| *position);
        // A unit that began on what is only voted for must not cost one that begins on what is decided its snapshot.
        let decided = Position::new(decided.load(Ordering::Acquire));
        pinned.map_or(decided, |pinned| pinned.min(decided))
    }

    /// Who is told when the oldest snapshot goes; the first to say so.
    pub(crate) fn when_oldest_goes(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// The end of the oldest snapshot is to be told, once.
    pub(crate) fn watch(&self) {
        self.is_watched.store(true, Ordering::SeqCst);
    }

    /// Removes a pin; answers whether it was the oldest that counts, or one that no longer did.
    fn remove(&self, key: &(Position, u64)) -> bool {
        let now = Instant::now();
        let mut open = self.open.lock();
        let oldest = open.iter().find(|(_, since)| is_young(**since, now)).map(|(key, _)| *key);
        open.remove(key);
        oldest.is_none_or(|oldest| *key <= oldest)
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
        let was_oldest = self.pins.remove(&self.key);
        if was_oldest
            && self.pins.is_watched.swap(false, Ordering::SeqCst)
            && let Some(tell) = self.pins.tell.get()
        {
            tell();
        }
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("open", &self.open).finish_non_exhaustive()
    }
}

fn is_young(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) <= limit::SNAPSHOT_AGE_MAX
}
