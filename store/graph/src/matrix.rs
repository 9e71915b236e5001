//! Directions, row by row.

use std::ops::Range;

use crate::lanes::{self, LINE};

/// Rows of one dimension; at most `u32::MAX - 1` of them. Squared lengths are far from overflowing.
#[derive(Clone, Debug)]
pub struct Matrix {
    dim: usize,
    /// Zeros, so many that the first row begins with a cache line: one that does not takes one more to fetch. A copy may
    /// lie otherwise; only time depends on it.
    before: usize,
    /// Those zeros, then the rows.
    components: Vec<f32>,
}

impl Matrix {
    /// `components`: row-major, a multiple of `dim` of them; `dim` is not 0. Cost: moves all of them.
    pub fn of(dim: usize, mut components: Vec<f32>) -> Matrix {
        debug_assert!(dim > 0 && components.len().is_multiple_of(dim), "{} of {dim}", components.len());
        let count = components.len();
        components.reserve_exact(LINE - 1);
        let before = components.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        components.resize(count + before, 0.0);
        components.copy_within(..count, before);
        components[..before].fill(0.0);
        Matrix { dim, before, components }
    }

    /// Components of each row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        (self.components.len() - self.before) / self.dim
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.components.len() == self.before
    }

    /// Row numbers in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    /// One row.
    pub fn row(&self, number: u32) -> &[f32] {
        &self.components[self.place(number)]
    }

    /// Has a row fetched while something else is done.
    pub(crate) fn fetch(&self, number: u32) {
        lanes::fetch(self.row(number));
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.components.capacity() * size_of::<f32>()
    }

    /// Makes a row zeros.
    pub(crate) fn erase(&mut self, number: u32) {
        let place = self.place(number);
        self.components[place].fill(0.0);
    }

    fn place(&self, number: u32) -> Range<usize> {
        let first = self.before + number as usize * self.dim;
        first..first + self.dim
    }
}

/// The sum of products of two rows of one dimension. Eight sums side by side, so that the compiler uses vector
/// registers.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left_lanes, left_rest) = left.as_chunks::<8>();
    let (right_lanes, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

/// The sum of squared differences of two rows of one dimension, as [`dot`] sums.
pub fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    let (left_lanes, left_rest) = left.as_chunks::<8>();
    let (right_lanes, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..8 {
            sums[lane] += (left[lane] - right[lane]).powi(2);
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| (left - right).powi(2)).sum();
    sums.iter().sum::<f32>() + rest
}
