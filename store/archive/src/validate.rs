//! Whether what was built finds what is in it: sampled rows themselves, and the ten nearest of places beside them, as
//! exact search does.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::directions::{components, distance};
use crate::edition::Edition;
use crate::error::BuildError;
use crate::manifest::{Engine, Recall};
use crate::nearest::{Found, Nearest};

/// Directions that are sampled.
const SAMPLED: u32 = 100;
/// How many of the nearest are compared.
const K: usize = 10;
/// Tried one after the other until one is enough.
const EFFORTS: [usize; 5] = [32, 64, 128, 256, 512];
/// How far beside a sampled direction a query lies: about as far as a thing is from what is asked about it.
const ASIDE: f32 = 0.3;
/// Distances that differ by less are the same.
const TOLERANCE: f32 = 1e-5;

/// A direction that is in the edition, and a query beside it with its nearest.
struct Sample {
    number: u32,
    direction: Vec<f32>,
    query: Vec<f32>,
    nearest: Vec<Found>,
}

/// How well the edition answers.
///
/// # Errors
/// [`BuildError::Recall`] when no effort that was tried is enough.
pub(crate) fn validate(
    edition: &Edition,
    floor: f64,
    is_stopping: &AtomicBool,
    tell: &dyn Fn(u64, u64),
) -> Result<Recall, BuildError> {
    let samples = samples(edition, is_stopping)?;
    let queries = samples.len();
    // Every direction is looked at, whatever the effort.
    let efforts = if edition.manifest().engine == Engine::Flat { &EFFORTS[..1] } else { &EFFORTS[..] };
    let mut best = (0.0, 0);
    for (tried, effort) in efforts.iter().enumerate() {
        tell(tried as u64, efforts.len() as u64);
        let (mut found, mut sought, mut lost) = (0, 0, 0);
        for sample in &samples {
            if is_stopping.load(Ordering::Relaxed) {
                return Err(BuildError::Stopped);
            }
            let near = edition.near_directions(&sample.query, *effort)?;
            let last = sample.nearest.last().map_or(0.0, |found| found.distance) + TOLERANCE;
            found += near.iter().take(K).filter(|found| found.distance <= last).count();
            sought += sample.nearest.len();
            let is_near = |found: &Found| found.number == sample.number;
            lost += usize::from(!edition.near_directions(&sample.direction, *effort)?.iter().any(is_near));
        }
        #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
        let at_10 = if sought == 0 { 1.0 } else { found as f64 / sought as f64 };
        if lost == 0 && at_10 >= floor {
            return Ok(Recall { at_10, effort: *effort, queries });
        }
        best = (at_10, lost);
    }
    let effort = efforts.last().copied().unwrap_or(0);
    Err(BuildError::Recall { measured: best.0, floor, effort, lost: best.1, queries })
}

/// Evenly among all directions, but for the zero direction, which is near nothing. Cost: reads all of them twice.
fn samples(edition: &Edition, is_stopping: &AtomicBool) -> Result<Vec<Sample>, BuildError> {
    let step = (edition.manifest().directions / SAMPLED).max(1);
    let (mut samples, mut random) = (Vec::new(), Random(1));
    edition.each_direction::<BuildError>(|number, bytes| {
        if number.is_multiple_of(step) && samples.len() < SAMPLED as usize {
            let direction: Vec<f32> = components(bytes).collect();
            if direction.iter().any(|component| *component != 0.0) {
                let query = beside(&direction, &mut random);
                samples.push((number, direction, query));
            }
        }
        Ok(())
    })?;
    let mut nearest: Vec<Nearest> = samples.iter().map(|_| Nearest::new(K)).collect();
    edition.each_direction(|number, bytes| {
        if is_stopping.load(Ordering::Relaxed) {
            return Err(BuildError::Stopped);
        }
        for ((_, _, query), nearest) in samples.iter().zip(&mut nearest) {
            nearest.offer(distance(query, bytes), number);
        }
        Ok(())
    })?;
    let samples = samples.into_iter().zip(nearest).map(|((number, direction, query), nearest)| Sample {
        number,
        direction,
        query,
        nearest: nearest.into_sorted(),
    });
    Ok(samples.collect())
}

/// A direction near another.
fn beside(direction: &[f32], random: &mut Random) -> Vec<f32> {
    let mut aside: Vec<f32> = direction.iter().map(|_| random.component()).collect();
    let length =
        |components: &[f32]| components.iter().map(|component| component * component).sum::<f32>().sqrt();
    let scale = ASIDE / length(&aside).max(f32::MIN_POSITIVE);
    aside.iter_mut().zip(direction).for_each(|(aside, component)| *aside = component + scale * *aside);
    let scale = length(&aside).max(f32::MIN_POSITIVE);
    aside.iter_mut().for_each(|component| *component /= scale);
    aside
}

/// Splitmix64: the same queries in every build.
struct Random(u64);

impl Random {
    /// From -1 to 1.
    fn component(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let unit = ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u32 << 24) as f32;
        2.0 * unit - 1.0
    }
}
