//! Rows by chance, and editions of them.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use telos_archive::{About, Budget, BuildError, Edition, Manifest, Row, Verify, build, open};

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From -1 to 1.
    pub(crate) fn component(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let unit = (self.next() >> 40) as f32 / (1_u32 << 24) as f32;
        2.0 * unit - 1.0
    }

    pub(crate) fn direction(&mut self, dim: usize) -> Vec<f32> {
        normalised((0..dim).map(|_| self.component()).collect())
    }
}

pub(crate) fn normalised(mut components: Vec<f32>) -> Vec<f32> {
    let length = components.iter().map(|component| component * component).sum::<f32>().sqrt();
    components.iter_mut().for_each(|component| *component /= length);
    components
}

/// Rows in given directions; objects leave gaps.
pub(crate) fn rows(directions: Vec<Vec<f32>>) -> Vec<Row> {
    let row = |(number, direction): (u128, Vec<f32>)| Row {
        object: 10 + 3 * number,
        added: 1000 + u64::try_from(number).unwrap(),
        metadata: format!("{{\"number\":{number}}}"),
        direction,
    };
    (0..).zip(directions).map(row).collect()
}

pub(crate) fn random_rows(seed: u64, count: usize, dim: usize) -> Vec<Row> {
    let mut random = Random(seed);
    rows((0..count).map(|_| random.direction(dim)).collect())
}

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

pub(crate) fn source(rows: &[Row]) -> impl Iterator<Item = Result<Row, Failed>> + use<'_> {
    rows.iter().cloned().map(Ok)
}

/// With a graph past 300 directions.
pub(crate) fn about(dim: usize) -> About {
    About { flat_max: 300, ..About::new(dim, 7) }
}

pub(crate) fn try_build(dir: &Path, about: &About, rows: &[Row]) -> Result<Manifest, BuildError> {
    build(dir, about, source(rows), &Budget::default(), &AtomicBool::new(false), &|_| ())
}

#[track_caller]
pub(crate) fn built(dir: &Path, rows: &[Row]) -> Edition {
    let dim = rows.first().map_or(4, |row| row.direction.len());
    let manifest = try_build(dir, &about(dim), rows).unwrap();
    let edition = open(dir, Verify::Full).unwrap();
    assert_eq!(*edition.manifest(), manifest);
    edition
}

/// Every row is there as it was given.
#[track_caller]
pub(crate) fn assert_holds(edition: &Edition, rows: &[Row]) {
    assert_eq!(edition.manifest().rows as usize, rows.len());
    let objects: Vec<_> = edition.objects().map(Result::unwrap).collect();
    assert_eq!(objects, rows.iter().map(|row| (row.object, row.added)).collect::<Vec<_>>());
    for (number, row) in (0..).zip(rows) {
        let entry = edition.row(number).unwrap();
        assert_eq!((entry.object, entry.added, &entry.metadata), (row.object, row.added, &row.metadata));
        assert_eq!(edition.find(row.object).unwrap(), Some(number));
        assert_eq!(edition.find(row.object + 1).unwrap(), None);
        assert_eq!(edition.direction(number).unwrap(), row.direction);
    }
}

/// Rows that a search for their own direction does not find.
pub(crate) fn lost(edition: &Edition, rows: &[Row], effort: usize) -> Vec<u32> {
    let is_found = |number: u32, row: &Row| {
        edition.near(&row.direction, effort).unwrap().iter().any(|(found, _)| *found == number)
    };
    (0..).zip(rows).filter(|(number, row)| !is_found(*number, row)).map(|(number, _)| number).collect()
}

/// What an edition should answer, by looking at every row.
pub(crate) fn nearest(rows: &[Row], direction: &[f32], k: usize) -> Vec<u32> {
    let distance =
        |row: &Row| -> f32 { row.direction.iter().zip(direction).map(|(left, right)| -left * right).sum() };
    let mut numbers: Vec<(u32, f32)> = (0..).zip(rows).map(|(number, row)| (number, distance(row))).collect();
    numbers.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
    numbers.into_iter().take(k).map(|(number, _)| number).collect()
}

/// Many times as long, when it was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("TELOS_LONG").is_some()
}
