//! Graphs alone: whether every row is found, and how many of the nearest.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;

/// What a search looks at, as the store has it look.
const EFFORT: usize = 64;
const NONE: [u32; 0] = [];

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From -1 to 1.
    fn component(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let unit = (self.next() >> 40) as f32 / (1_u32 << 24) as f32;
        2.0 * unit - 1.0
    }

    fn direction(&mut self, dim: usize) -> Vec<f32> {
        normalised((0..dim).map(|_| self.component()).collect())
    }
}

fn normalised(mut components: Vec<f32>) -> Vec<f32> {
    let length = dot(&components, &components).sqrt();
    components.iter_mut().for_each(|component| *component /= length);
    components
}

fn rows(directions: &[Vec<f32>]) -> Arc<Matrix> {
    Arc::new(Matrix::of(directions[0].len(), directions.concat()))
}

fn build(rows: &Arc<Matrix>) -> Graph {
    Engine::default().build(rows, &AtomicBool::new(false)).unwrap()
}

/// Rows that a search for themselves does not find.
fn lost(rows: &Matrix, graph: &Graph, effort: usize) -> Vec<u32> {
    let is_found = |number: &u32| graph.near(rows.row(*number), effort).contains(number);
    rows.numbers().filter(|number| !is_found(number)).collect()
}

#[test]
fn every_row_of_a_small_graph_is_found() {
    let sizes = if std::env::var_os("TELOS_LONG").is_some() { 300 } else { 60 };
    for size in 1..sizes {
        let mut random = Random(size);
        let directions: Vec<_> = (0..size).map(|_| random.direction(16)).collect();
        let rows = rows(&directions);
        let graph = build(&rows);
        assert_eq!(lost(&rows, &graph, 16), NONE, "{size} rows");
    }
}

#[test]
fn rows_in_one_direction_are_all_found_and_hide_nobody() {
    for twins in [2, 40, 300] {
        let mut random = Random(twins);
        let twin = random.direction(16);
        let mut directions: Vec<_> = (0..twins).map(|_| twin.clone()).collect();
        directions.extend((0..500).map(|_| random.direction(16)));
        let rows = rows(&directions);
        let graph = build(&rows);
        let twins = usize::try_from(twins).unwrap();
        let near = graph.near(&twin, EFFORT);
        assert_eq!(near[..twins], (0_u32..).take(twins).collect::<Vec<_>>());
        assert_eq!(lost(&rows, &graph, EFFORT), NONE, "{twins} twins");
    }
}

#[test]
fn rows_in_almost_one_direction_are_all_found() {
    let mut random = Random(11);
    let centre = random.direction(16);
    let mut directions: Vec<_> = (0..200)
        .map(|_| normalised(centre.iter().map(|component| component + 1e-5 * random.component()).collect()))
        .collect();
    directions.extend((0..800).map(|_| random.direction(16)));
    let rows = rows(&directions);
    let graph = build(&rows);
    let near = graph.near(&centre, 256);
    let found = (0_u32..200).filter(|number| near.contains(number)).count();
    assert!(found >= 198, "{found} of 200");
    assert_eq!(lost(&rows, &graph, 256), NONE);
}

#[test]
fn rows_of_two_components_are_all_found() {
    let mut random = Random(12);
    let directions: Vec<_> = (0..3_000).map(|_| random.direction(2)).collect();
    let rows = rows(&directions);
    let graph = build(&rows);
    assert_eq!(lost(&rows, &graph, EFFORT), NONE);
}

#[test]
fn most_of_the_nearest_are_found() {
    let mut random = Random(7);
    let centres: Vec<Vec<f32>> = (0..40).map(|_| random.direction(32)).collect();
    let mut near_a_centre = || {
        let centre = &centres[usize::try_from(random.next() % 40).unwrap()];
        let components: Vec<f32> =
            centre.iter().map(|component| component + 0.15 * random.component()).collect();
        normalised(components)
    };
    let directions: Vec<_> = (0..5_000).map(|_| near_a_centre()).collect();
    let queries: Vec<_> = (0..200).map(|_| near_a_centre()).collect();
    let rows = rows(&directions);
    let graph = build(&rows);
    let mut found = 0;
    for query in &queries {
        let mut exact: Vec<u32> = rows.numbers().collect();
        exact.sort_by(|left, right| dot(query, rows.row(*right)).total_cmp(&dot(query, rows.row(*left))));
        let near = graph.near(query, EFFORT);
        found += exact[..10].iter().filter(|number| near[..10].contains(number)).count();
    }
    assert!(found >= 1_980, "{found} of 2,000");
    assert_eq!(lost(&rows, &graph, EFFORT), NONE);
    assert!(graph.links().iter().flatten().all(|link| (*link as usize) < rows.len()));
}

#[test]
fn a_build_that_is_told_to_stop_ends_without_a_graph() {
    let rows = rows(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
    assert!(Engine::default().build(&rows, &AtomicBool::new(true)).is_none());
}
