//! Graphs alone: whether every row is found, and how many of the nearest.

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

fn rows(directions: &[Vec<f32>]) -> Matrix {
    Matrix::of(directions[0].len(), directions.concat())
}

fn build(directions: &[Vec<f32>]) -> Graph {
    Engine::default().build(rows(directions), &|| false).unwrap()
}

/// Every row that lies near a direction.
fn near(graph: &Graph, direction: &[f32], effort: usize) -> Vec<u32> {
    graph.near(direction, effort).flat_map(|alike| alike.numbers().collect::<Vec<_>>()).collect()
}

/// Rows that a search for themselves does not find.
fn lost(graph: &Graph, effort: usize) -> Vec<u32> {
    let is_found = |number: &u32| near(graph, graph.rows().row(*number), effort).contains(number);
    graph.rows().numbers().filter(|number| !is_found(number)).collect()
}

#[test]
fn every_row_of_a_small_graph_is_found() {
    let sizes = if std::env::var_os("TELOS_LONG").is_some() { 300 } else { 60 };
    for size in 1..sizes {
        let mut random = Random(size);
        let directions: Vec<_> = (0..size).map(|_| random.direction(16)).collect();
        let graph = build(&directions);
        assert_eq!(lost(&graph, 16), NONE, "{size} rows");
    }
}

#[test]
fn rows_in_one_direction_are_all_found_and_hide_nobody() {
    for twins in [2, 40, 300] {
        let mut random = Random(twins);
        let twin = random.direction(16);
        let mut directions: Vec<_> = (0..twins).map(|_| twin.clone()).collect();
        directions.extend((0..500).map(|_| random.direction(16)));
        let graph = build(&directions);
        let twins = usize::try_from(twins).unwrap();
        let near = near(&graph, &twin, EFFORT);
        assert_eq!(near[..twins], (0_u32..).take(twins).collect::<Vec<_>>());
        assert_eq!(lost(&graph, EFFORT), NONE, "{twins} twins");
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
    let graph = build(&directions);
    let near = near(&graph, &centre, 256);
    let found = (0_u32..200).filter(|number| near.contains(number)).count();
    assert!(found >= 198, "{found} of 200");
    assert_eq!(lost(&graph, 256), NONE);
}

#[test]
fn rows_of_two_components_are_all_found() {
    let mut random = Random(12);
    let directions: Vec<_> = (0..3_000).map(|_| random.direction(2)).collect();
    let graph = build(&directions);
    assert_eq!(lost(&graph, EFFORT), NONE);
}

/// Directions near one of some centres, as those of texts are.
fn clustered(random: &mut Random, dim: usize, count: usize) -> Vec<Vec<f32>> {
    let mut centres = Random(7);
    let centres: Vec<Vec<f32>> = (0..40).map(|_| centres.direction(dim)).collect();
    let mut near_a_centre = || {
        let centre = &centres[usize::try_from(random.next() % 40).unwrap()];
        normalised(centre.iter().map(|component| component + 0.15 * random.component()).collect())
    };
    (0..count).map(|_| near_a_centre()).collect()
}

/// How many of the ten nearest rows are found, but for erased ones.
fn found(graph: &Graph, queries: &[Vec<f32>], is_erased: impl Fn(&u32) -> bool) -> usize {
    let rows = graph.rows();
    let of_query = |query: &Vec<f32>| {
        let mut exact: Vec<u32> = rows.numbers().filter(|number| !is_erased(number)).collect();
        exact.sort_by(|left, right| dot(query, rows.row(*right)).total_cmp(&dot(query, rows.row(*left))));
        let near = near(graph, query, EFFORT);
        exact.iter().take(10).filter(|number| near.contains(number)).count()
    };
    queries.iter().map(of_query).sum()
}

#[test]
fn most_of_the_nearest_are_found() {
    let mut random = Random(8);
    let directions = clustered(&mut random, 32, 5_000);
    let queries = clustered(&mut random, 32, 200);
    let graph = build(&directions);
    let found = found(&graph, &queries, |_| false);
    assert!(found >= 1_980, "{found} of 2,000");
    assert_eq!(lost(&graph, EFFORT), NONE);
    assert!(graph.links().iter().flatten().all(|link| (*link as usize) < directions.len()));
}

/// Whoever was linked through rows that are erased is found without them, one at a time or many at once.
#[test]
fn erased_rows_are_never_near_and_cost_no_other_its_place() {
    let mut random = Random(9);
    // Of four components: in more dimensions graphs have so many ways that a few less are not noticed.
    let directions = clustered(&mut random, 4, 3_000);
    let queries = clustered(&mut random, 4, 100);
    for (step, share) in [(1, 25), (60, 4), (1_000, 2)] {
        let mut graph = build(&directions);
        let erased: Vec<u32> = (0..3_000_u32).filter(|number| number.is_multiple_of(share)).collect();
        for some in erased.chunks(step) {
            graph.erase(&some.iter().copied().collect());
        }
        let is_erased = |number: &u32| number.is_multiple_of(share);
        assert!(
            erased.iter().all(|number| graph.rows().row(*number).iter().all(|component| *component == 0.0))
        );
        assert!(queries.iter().all(|query| !near(&graph, query, EFFORT).iter().any(is_erased)));
        assert!(lost(&graph, EFFORT).iter().all(is_erased), "one of {share}, {step} at once");
        let found = found(&graph, &queries, is_erased);
        assert!(found >= 990, "{found} of 1,000; one of {share}, {step} at once");
        assert_eq!(graph.lost, NONE, "walks reach all");
        let links = graph.links();
        assert!(links.iter().flatten().all(|link| !is_erased(link)));
        assert!(erased.iter().all(|number| links[*number as usize].is_empty()));
    }
}

/// Rows that are reached through one that is erased, and through nothing else.
#[test]
fn whoever_no_walk_reaches_after_erasing_is_found_all_the_same() {
    let mut random = Random(10);
    let directions: Vec<_> = (0..40).map(|_| random.direction(8)).collect();
    for keep in 0..40 {
        let mut graph = build(&directions);
        let others: HashSet<u32> =
            (0..40_u32).filter(|number| *number != keep && !number.is_multiple_of(3)).collect();
        graph.erase(&others);
        assert!(lost(&graph, 8).iter().all(|number| others.contains(number)));
        graph.erase(&(0..40).filter(|number| *number != keep).collect());
        assert_eq!(near(&graph, &random.direction(8), 1), [keep]);
        graph.erase(&HashSet::from([keep]));
        assert_eq!(near(&graph, &random.direction(8), 8), NONE);
    }
}

#[test]
fn another_row_stands_for_a_direction_whose_first_is_erased() {
    let mut random = Random(13);
    let twin = random.direction(16);
    let mut directions: Vec<_> = (0..300).map(|_| random.direction(16)).collect();
    (0..30).for_each(|number| directions[number * 10] = twin.clone());
    let mut graph = build(&directions);
    assert_eq!(graph.links().len(), 271, "links for directions, not for rows");
    let mut left: HashSet<u32> = (0..30).map(|number| number * 10).collect();
    for erased in [0, 290, 150, 20] {
        graph.erase(&HashSet::from([erased]));
        left.remove(&erased);
        let near: Vec<u32> = near(&graph, &twin, EFFORT);
        assert_eq!(near[..left.len()].iter().copied().collect::<HashSet<_>>(), left);
        assert!(!near.contains(&erased));
    }
    graph.erase(&left);
    assert!(near(&graph, &twin, 300).iter().all(|number| !number.is_multiple_of(10)));
}

#[test]
fn a_build_that_is_told_to_stop_ends_without_a_graph() {
    let mut random = Random(14);
    let directions: Vec<_> = (0..100).map(|_| random.direction(4)).collect();
    for asked_max in [0, 50] {
        let asked = std::cell::Cell::new(0);
        let is_stopping = || asked.replace(asked.get() + 1) == asked_max;
        assert!(Engine::default().build(rows(&directions), &is_stopping).is_none());
        assert_eq!(asked.get(), asked_max + 1, "asked at every row");
    }
}
