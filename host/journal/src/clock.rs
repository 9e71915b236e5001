//! The wall clock, as a seam: tests bring midnight, daylight saving and clocks that run backwards.

use jiff::{Timestamp, tz::TimeZone};

/// Where the journal's time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall. May step in either direction.
    fn now(&self) -> Timestamp;

    /// Whose midnight begins a new file.
    fn zone(&self) -> TimeZone;
}

/// This machine's clock and time zone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::system()
    }
}
