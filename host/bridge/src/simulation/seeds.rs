//! Histories that once ended badly, or that the checks themselves got wrong: each is replayed by ordinary tests.
//!
//! A seed means something only to the simulator that rolled it: when that changes, so do its histories, and the unit
//! tests that came with each repair are what stays.

/// The kind of history, its seed, and what went wrong.
pub(super) const SAVED: [(&str, u64, &str); 0] = [];
