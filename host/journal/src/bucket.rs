//! Token bucket: how many lines a producer may say. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// A producer's budget of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Lines a second in the long run; 0 = only the burst, ever.
    pub per_second: u32,
    /// Lines at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// What guests get: 100 lines a second, bursts of 500.
    pub const GUEST: Rate = Rate { per_second: 100, burst: 500 };

    /// For the host's own parts: bounded only by their share of the intake.
    pub const HOST: Rate = Rate { per_second: u32::MAX, burst: u32::MAX };
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::GUEST
    }
}

#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, tokens: f64::from(rate.burst), filled_at: now }
    }

    /// Takes a token when there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.fill(now.saturating_duration_since(self.filled_at));
        self.filled_at = self.filled_at.max(now);
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }

    fn fill(&mut self, passed: Duration) {
        let gained = passed.as_secs_f64() * f64::from(self.rate.per_second);
        self.tokens = (self.tokens + gained).min(f64::from(self.rate.burst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(Rate { per_second: 10, burst: 5 }, start);
        let mut take_many = |now| (0..1_000).filter(|_| bucket.try_take(now)).count();
        assert_eq!(take_many(start), 5);
        assert_eq!(take_many(start + Duration::from_millis(200)), 2);
        assert_eq!(take_many(start + Duration::from_secs(3_600)), 5);
        assert_eq!(take_many(start), 0, "a clock behind the last one gives nothing");
    }
}
