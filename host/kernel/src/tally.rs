//! What a release has done since this host loaded it: counted where messages end, read by whoever judges or shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The counts of one loaded release. Cheap: relaxed atomics.
#[derive(Default)]
pub(crate) struct Tally {
    answered: AtomicU64,
    broken: AtomicU64,
    is_watched: AtomicBool,
}

impl Tally {
    /// A message ended that it did not break, answered or declined.
    pub(crate) fn count_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A message ended that it broke.
    pub(crate) fn count_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that it did not break.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Messages that it broke.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether it is on probation, so that what it breaks is looked into.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }
}
