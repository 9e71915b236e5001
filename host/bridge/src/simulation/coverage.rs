//! How often everything happened that histories are made for, so that none stops happening unnoticed.

use std::collections::BTreeMap;

use crate::queue::Stats;

#[derive(Debug, Default)]
pub(super) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub(super) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// What a host counted until it died, or the history did.
    pub(super) fn add_stats(&mut self, stats: &Stats) {
        self.add("dispatched", stats.dispatched);
        self.add("repeats", stats.repeats);
        self.add("expired", stats.expired);
        self.add("reconnects", stats.reconnects);
        self.add("refused", stats.refused);
        self.add("malformed", stats.malformed);
        self.add("slow readers", stats.slow_readers);
        self.add("overdue", stats.overdue);
        self.add("given", stats.given);
        self.add("redispatched", stats.redispatched);
        self.add("fenced", stats.fenced);
        self.add("dismissed", stats.dismissed);
        self.add("dead letters", stats.dead_letters);
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.add(what, *times));
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    #[track_caller]
    pub(super) fn check(&self, expected: &[&str]) {
        let missing: Vec<_> = expected.iter().filter(|what| self.of(what) == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}; what did: {:?}", self.0);
    }
}
