//! Lanes: rows that are asked for before they are looked at, and four of them compared at once in the widest registers.
//!
//! The compiler is free to do neither by itself, so this is one of the few modules with `unsafe` in it: a hint that
//! changes no value, loads of arrays by reference, and calls of what the processor was asked for first.
//! Never here: which rows.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "prefetches and wide registers have no safe names; each block is argued")
)]

/// Components in a cache line.
pub(crate) const LINE: usize = 64 / size_of::<f32>();
/// Lines of a row that are asked for. A processor that has met some in a row fetches the next ones by itself: of rows
/// with 16 and 24 lines, asking for all of them made walks slower by an eighth.
const LINES_MAX: usize = 4;

/// Has the beginning of a row fetched while something else is done.
pub(crate) fn fetch(row: &[f32]) {
    row.iter().step_by(LINE).take(LINES_MAX).for_each(fetch_line);
}

#[cfg(target_arch = "x86_64")]
fn fetch_line(component: &f32) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint, it reads no value and faults nowhere; every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(component).cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch_line(component: &f32) {
    std::hint::black_box(*component);
}

/// That the processor compares four rows at once.
#[derive(Clone, Copy)]
pub(crate) struct FourAtOnce(());

impl FourAtOnce {
    /// None where it cannot, or nobody wrote how.
    pub(crate) fn of_this_processor() -> Option<FourAtOnce> {
        #[cfg(target_arch = "x86_64")]
        let can = std::arch::is_x86_feature_detected!("avx512f");
        #[cfg(not(target_arch = "x86_64"))]
        let can = false;
        can.then_some(FourAtOnce(()))
    }

    /// The squared distance from one place to each of four rows of its dimension. Sums are in another order than those
    /// of one row alone, so the last digits may differ.
    pub(crate) fn squared_distances(self, from: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: there is a value of this type only where the processor was found to have the feature.
        unsafe {
            squared_distances(from, rows)
        }
        #[cfg(not(target_arch = "x86_64"))]
        rows.map(|row| crate::matrix::squared_distance(from, row))
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn squared_distances(from: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_sub_ps};
    let (from, from_rest) = from.as_chunks::<LINE>();
    let lines = rows.map(|row| &row.as_chunks::<LINE>().0[..from.len()]);
    let mut sums = [_mm512_setzero_ps(); 4];
    for (at, from) in from.iter().enumerate() {
        let from = load(from);
        for (sum, row) in sums.iter_mut().zip(lines) {
            let apart = _mm512_sub_ps(from, load(&row[at]));
            *sum = _mm512_fmadd_ps(apart, apart, *sum);
        }
    }
    let mut distances = sums.map(|sum| _mm512_reduce_add_ps(sum));
    for (distance, row) in distances.iter_mut().zip(rows) {
        *distance += crate::matrix::squared_distance(from_rest, row.as_chunks::<LINE>().1);
    }
    distances
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn load(line: &[f32; LINE]) -> std::arch::x86_64::__m512 {
    // SAFETY: the array is as long as what is read, and the load asks for no alignment.
    unsafe { std::arch::x86_64::_mm512_loadu_ps(line.as_ptr()) }
}
