//! Vectors as embeddings are: clusters in few dimensions, laid into more. The same seed gives the same ones everywhere.

use telos_graph::{Matrix, dot};

/// Components of each vector.
pub const DIM: usize = 128;
/// Dimensions that they really have.
const LATENT: usize = 32;
const CLUSTERS: u32 = 400;

/// Numbers by chance from a seed.
pub struct Random(u64);

impl Random {
    /// `seed`: any.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap_or(0)
    }

    /// The sum of twelve even ones, less their mean: as good as normal here.
    pub fn normal(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        #[expect(clippy::cast_possible_truncation, reason = "between -6 and 6")]
        let normal = (sum - 6.0) as f32;
        normal
    }
}

/// Where vectors come from.
pub struct Clusters {
    random: Random,
    projection: Matrix,
    centres: Matrix,
}

impl Clusters {
    /// 400 clusters in 32 dimensions, laid into 128.
    pub fn new(seed: u64) -> Clusters {
        let mut random = Random::new(seed);
        let mut normals = |rows: usize| (0..rows * LATENT).map(|_| random.normal()).collect::<Vec<f32>>();
        let projection = Matrix::of(LATENT, normals(DIM));
        let centres = Matrix::of(LATENT, normals(CLUSTERS as usize));
        Clusters { random, projection, centres }
    }

    /// Further vectors of unit length, one after the other.
    pub fn rows(&mut self, count: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(count * DIM);
        for _ in 0..count {
            let centre = self.centres.row(self.random.below(CLUSTERS)).to_vec();
            let latent: Vec<f32> = centre.iter().map(|at| at + 0.6 * self.random.normal()).collect();
            let of = |row| dot(self.projection.row(row), &latent);
            all.extend(
                normalised(&self.projection.numbers().map(of).collect::<Vec<f32>>()).unwrap_or_default(),
            );
        }
        all
    }
}

/// The same way, of unit length; none without a length.
pub fn normalised(row: &[f32]) -> Option<Vec<f32>> {
    let length = dot(row, row).sqrt();
    (length > 0.0).then(|| row.iter().map(|component| component / length).collect())
}
