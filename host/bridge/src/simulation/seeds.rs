//! Histories that once ended badly, or that the checks themselves got wrong: each is replayed by ordinary tests.
//!
//! A seed means something only to the simulator that rolled it: when that changes, so do its histories, and the unit
//! tests that came with each repair are what stays.

/// The kind of history, its seed, and what went wrong.
pub(super) const SAVED: [(&str, u64, &str); 6] = [
    ("rough", 2, "an order asked anew, for which no worker was free, was said to be without effect"),
    ("parted", 1, "the same, where only a line was dead"),
    ("rough", 8, "a call ended in silence as not sent went out later"),
    ("rough", 82, "a later worker's error spoke for an earlier worker"),
    ("calm", 57, "the same, where nobody was disturbed"),
    (
        "rough",
        10_683,
        "a host stopped at the end of the trouble starts again after it: the check was too early",
    ),
];
