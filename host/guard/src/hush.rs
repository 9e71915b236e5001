//! How often the same kind of thing is told: a burst, then one a second; what was not told is counted. Pure.

use std::time::{Duration, Instant};

/// Told at once, after a quiet time.
const BURST: u32 = 16;
/// After the burst.
const INTERVAL: Duration = Duration::from_secs(1);

/// Decides what is told.
#[derive(Debug)]
pub(crate) struct Hush {
    left: u32,
    refilled_at: Instant,
    untold: u64,
}

impl Hush {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, refilled_at: now, untold: 0 }
    }

    /// Whether to tell it, and then how many were not told since the last that was.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let intervals = now.saturating_duration_since(self.refilled_at).as_secs() / INTERVAL.as_secs();
        if intervals > 0 {
            self.refilled_at = now;
            self.left = self.left.saturating_add(u32::try_from(intervals).unwrap_or(BURST)).min(BURST);
        }
        if self.left == 0 {
            self.untold += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_a_burst_and_then_once_a_second_with_what_was_left_out() {
        let start = Instant::now();
        let mut hush = Hush::new(start);
        let told = (0..10_000).filter(|_| hush.admit(start).is_some()).count();
        assert_eq!(told, 16);
        assert_eq!(hush.admit(start + INTERVAL), Some(9_984));
        assert_eq!(hush.admit(start + INTERVAL), None);
        let quiet = start + 100 * INTERVAL;
        assert_eq!((0..20).filter(|_| hush.admit(quiet).is_some()).count(), 16);
    }
}
