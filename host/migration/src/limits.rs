//! What a script may use. Past any of these it ends with an error, and nothing was changed.

use std::time::Duration;

/// The bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lua instructions. Default 10,000,000,000: a thousand for each of ten million objects, some minutes.
    pub instructions: u64,
    /// Bytes that the script's own values take. Default 256 MiB: it is shown one object at a time.
    pub memory_bytes: usize,
    /// Wall time, reading and writing included. Default one hour, since nobody waits for an offline store.
    pub time: Duration,
    /// What it gets after its time to notice that it is over, since one call of a built-in function cannot be
    /// interrupted. Then its thread is left behind without the draft. Default 5 s.
    pub grace: Duration,
    /// Lines that it prints and that are kept; the rest is counted. Default 1,000.
    pub printed_lines: usize,
    /// Differences shown one by one; the rest is counted. Default 20: a screen.
    pub differences: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            instructions: 10_000_000_000,
            memory_bytes: 256 * 1024 * 1024,
            time: Duration::from_secs(3_600),
            grace: Duration::from_secs(5),
            printed_lines: 1_000,
            differences: 20,
        }
    }
}
