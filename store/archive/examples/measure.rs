//! Builds an edition of clustered directions and says what it costs and finds.
//!
//! ```text
//! cargo run --release -p telos-archive --example measure [ROWS [COMPONENTS [THREADS]]]
//! ```

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people, which may fail")]

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use telos_archive::{About, Budget, Row, Verify, build, open};

const CLUSTERS: usize = 400;
const LATENT: usize = 32;
const QUERIES: usize = 500;
const K: usize = 10;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Sum of twelve, about normal.
    fn normal(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let mut unit = || (self.next() >> 40) as f32 / (1_u32 << 24) as f32;
        (0..12).map(|_| unit()).sum::<f32>() - 6.0
    }
}

/// Around centres, in a space of fewer dimensions that is turned into all of them.
struct Clusters {
    dim: usize,
    random: Random,
    centres: Vec<Vec<f32>>,
    turn: Vec<f32>,
}

impl Clusters {
    fn new(dim: usize) -> Clusters {
        let mut random = Random(7);
        let centres = (0..CLUSTERS).map(|_| (0..LATENT).map(|_| random.normal()).collect()).collect();
        let turn = (0..LATENT * dim).map(|_| random.normal()).collect();
        Clusters { dim, random, centres, turn }
    }

    fn direction(&mut self) -> Vec<f32> {
        let cluster = usize::try_from(self.random.next() % CLUSTERS as u64).unwrap();
        let latent: Vec<f32> =
            (0..LATENT).map(|at| self.centres[cluster][at] + 0.5 * self.random.normal()).collect();
        let mut direction: Vec<f32> = (0..self.dim)
            .map(|to| (0..LATENT).map(|from| latent[from] * self.turn[from * self.dim + to]).sum::<f32>())
            .collect();
        for component in &mut direction {
            *component += 0.3 * self.random.normal();
        }
        let length = direction.iter().map(|component| component * component).sum::<f32>().sqrt();
        direction.iter_mut().for_each(|component| *component /= length);
        direction
    }
}

/// Seconds of processor time, and the most memory that was ever held, in MiB.
fn spent() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak = peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0);
    ((ticks(11) + ticks(12)) / 100.0, peak / 1024.0)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap());
    let rows = arguments.next().unwrap_or(50_000);
    let dim = arguments.next().unwrap_or(128);
    let threads = NonZeroUsize::new(arguments.next().unwrap_or(1)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("edition-1");

    let mut clusters = Clusters::new(dim);
    let mut object = 0_u128;
    let source = std::iter::from_fn(|| {
        object += 1;
        let row = |direction| Row { object, added: 1, metadata: r#"{"kind":"note"}"#.into(), direction };
        (object <= rows as u128).then(|| Ok(row(clusters.direction())))
    });
    let budget = Budget { threads, ..Budget::default() };
    let (before, began) = (spent(), Instant::now());
    let manifest =
        build(&dir, &About::new(dim, 1), source, &budget, &AtomicBool::new(false), &|_| ()).unwrap();
    let after = spent();
    println!("built: {:.1} s, {:.1} s of processor time", began.elapsed().as_secs_f64(), after.0 - before.0);
    println!("peak memory: {:.0} MiB, {:.0} MiB before", after.1, before.1);
    println!("{:?}, {:?}", manifest.engine, manifest.recall);
    for (name, seal) in &manifest.files {
        println!("{name}: {} bytes", seal.bytes);
    }

    for verify in [Verify::Full, Verify::Quick] {
        let began = Instant::now();
        let edition = open(&dir, verify).unwrap();
        println!("opened {verify:?}: {:.1} ms", 1e3 * began.elapsed().as_secs_f64());
        drop(edition);
    }
    let edition = open(&dir, Verify::Quick).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let each = |bytes: usize| bytes as f64 / rows as f64;
    println!("in memory: {} bytes, {:.1} a row", edition.bytes(), each(edition.bytes()));

    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| clusters.direction()).collect();
    let began = Instant::now();
    let nearest: Vec<Vec<(u32, f32)>> =
        queries.iter().map(|query| edition.scan(query, K, &|_| Ok(true)).unwrap()).collect();
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = |seconds: f64| QUERIES as f64 / seconds;
    println!("scan: {:.0} a second", rate(began.elapsed().as_secs_f64()));
    for effort in [10, 16, 32, 64, 128] {
        let (before, began) = (spent().0, Instant::now());
        let found: Vec<_> = queries.iter().map(|query| edition.near(query, effort).unwrap()).collect();
        let (wall, spent) = (began.elapsed().as_secs_f64(), spent().0 - before);
        let hits: usize = found
            .iter()
            .zip(&nearest)
            .map(|(found, nearest)| {
                let found: Vec<u32> = found.iter().take(K).map(|(row, _)| *row).collect();
                nearest.iter().filter(|(row, _)| found.contains(row)).count()
            })
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let recall = hits as f64 / (QUERIES * K) as f64;
        println!(
            "effort {effort}: recall {recall:.4}, {:.0} a second of processor time, {:.0} a second",
            rate(spent),
            rate(wall)
        );
    }
    let began = Instant::now();
    for object in (1..=rows as u128).step_by((rows / QUERIES).max(1)) {
        assert!(edition.find(object).unwrap().is_some());
    }
    println!("find: {:.0} a second", rate(began.elapsed().as_secs_f64()));
}
