//! Chance that a seed repeats on every machine.

use std::ops::Range;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The range is not empty.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.roll() % (range.end - range.start)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    /// One of `count` things.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.within(0..count as u64)).unwrap()
    }
}
