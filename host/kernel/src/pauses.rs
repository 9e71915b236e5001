//! How long changes of seats kept roots from beginning, since the host started.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The pauses so far.
pub(crate) struct Pauses(Mutex<Histogram<u32>>);

/// The longest that is told apart, in microseconds: a minute.
const PAUSE_US_MAX: u64 = 60_000_000;

impl Pauses {
    pub(crate) fn note(&self, pause: Duration) {
        self.0.lock().saturating_record(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
    }

    /// What 99 of 100 of them took at most, in microseconds; none before the first.
    pub(crate) fn estimate_us(&self) -> Option<u64> {
        let pauses = self.0.lock();
        (!pauses.is_empty()).then(|| pauses.value_at_quantile(0.99))
    }
}

impl Default for Pauses {
    fn default() -> Self {
        match Histogram::new_with_bounds(1, PAUSE_US_MAX, 2) {
            Ok(pauses) => Self(Mutex::new(pauses)),
            Err(_) => unreachable!("the bounds are constants that a histogram takes"),
        }
    }
}
