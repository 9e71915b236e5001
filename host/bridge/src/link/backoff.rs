//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Doubles from failure to failure, give or take a fifth, so that a thousand clients do not return at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// `client` is random: it is the jitter.
    pub(crate) fn new(min: Duration, max: Duration, client: u128) -> Self {
        let seed = u64::try_from(client & u128::from(u64::MAX)).unwrap_or(0);
        Self { min, max, failures: 0, seed }
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let dice = u32::try_from(scatter(self.seed ^ u64::from(self.failures)) >> 32).unwrap_or(0);
        // The longest pause is that, also where the dice make pauses longer.
        let middle = doubled.min(self.max.div_f64(1.2));
        middle.mul_f64(0.8 + 0.4 * f64::from(dice) / f64::from(u32::MAX))
    }

    /// The other side answered.
    pub(crate) fn forget(&mut self) {
        self.failures = 0;
    }

    #[cfg(test)]
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Spreads a seed over all bits.
///
/// # Source
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (the mixer of SplitMix64).
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
