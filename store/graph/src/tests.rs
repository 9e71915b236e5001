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

/// A graph by each engine.
fn graphs(directions: &[Vec<f32>]) -> impl Iterator<Item = (Engine, Graph)> {
    Engine::ALL.into_iter().map(|engine| (engine, engine.build(rows(directions), &|| false).unwrap()))
}

/// Every row that lies near a direction, then those that no walk reaches.
fn near(graph: &Graph, direction: &[f32], effort: usize) -> Vec<u32> {
    graph
        .near(direction, effort)
        .chain(graph.lost())
        .flat_map(|alike| alike.numbers().collect::<Vec<_>>())
        .collect()
}

fn links(graph: &Graph) -> Links {
    graph.sketch().unwrap().links
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
        for (engine, graph) in graphs(&directions) {
            assert_eq!(lost(&graph, 16), NONE, "{size} rows by {engine}");
        }
    }
}

#[test]
fn rows_in_one_direction_are_all_found_and_hide_nobody() {
    for twins in [2, 40, 300] {
        let mut random = Random(twins);
        let twin = random.direction(16);
        let mut directions: Vec<_> = (0..twins).map(|_| twin.clone()).collect();
        directions.extend((0..500).map(|_| random.direction(16)));
        let twins = usize::try_from(twins).unwrap();
        for (engine, graph) in graphs(&directions) {
            let near = near(&graph, &twin, EFFORT);
            assert_eq!(near[..twins], (0_u32..).take(twins).collect::<Vec<_>>(), "by {engine}");
            assert_eq!(lost(&graph, EFFORT), NONE, "{twins} twins by {engine}");
        }
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
    for (engine, graph) in graphs(&directions) {
        let near = near(&graph, &centre, 256);
        let found = (0_u32..200).filter(|number| near.contains(number)).count();
        assert!(found >= 198, "{found} of 200 by {engine}");
        assert_eq!(lost(&graph, 256), NONE, "by {engine}");
    }
}

#[test]
fn rows_of_two_components_are_all_found() {
    let mut random = Random(12);
    let directions: Vec<_> = (0..3_000).map(|_| random.direction(2)).collect();
    for (engine, graph) in graphs(&directions) {
        assert_eq!(lost(&graph, EFFORT), NONE, "by {engine}");
    }
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
    for (engine, graph) in graphs(&directions) {
        let found = found(&graph, &queries, |_| false);
        assert!(found >= 1_980, "{found} of 2,000 by {engine}");
        assert_eq!(lost(&graph, EFFORT), NONE, "by {engine}");
        assert!(graph.bytes() > 0);
        let recall = graph.recall(EFFORT, &|| false).unwrap();
        assert!((0.97..=1.0).contains(&recall), "{recall} by {engine}");
        assert!(graph.recall(10, &|| false).unwrap() <= recall && graph.recall(EFFORT, &|| true).is_none());
    }
}

#[test]
fn whoever_is_left_after_erasing_is_found_by_an_engine_that_takes_nothing_out() {
    let mut random = Random(17);
    let mut directions: Vec<_> = (0..300).map(|_| random.direction(16)).collect();
    directions[7] = directions[0].clone();
    let mut graph = Engine::Hnsw.build(rows(&directions), &|| false).unwrap();
    // One of two in its direction: no node is gone.
    graph.erase(&HashSet::from([7]));
    assert_eq!(lost(&graph, EFFORT), [7]);
    graph.erase(&(0..100).collect());
    assert_eq!(lost(&graph, EFFORT), (0..100).collect::<Vec<_>>());
    assert!(graph.sketch().is_none() && !Engine::Hnsw.can_load());
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
        let links = links(&graph);
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
    assert_eq!(links(&graph).len(), 271, "links for directions, not for rows");
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

/// The same rows and what was written down of the graph, without some of the rows.
fn loaded(graph: &Graph, directions: &[Vec<f32>], is_left: impl Fn(usize) -> bool) -> Graph {
    let mut sketch = graph.sketch().unwrap();
    let mut directions = directions.to_vec();
    for (row, direction) in directions.iter_mut().enumerate().filter(|(row, _)| !is_left(*row)) {
        direction.fill(0.0);
        sketch.nodes[row] = NO_NODE;
    }
    Engine::default().load(rows(&directions), sketch).unwrap()
}

#[test]
fn a_graph_that_was_written_down_answers_as_it_did() {
    let mut random = Random(14);
    let mut directions = clustered(&mut random, 16, 2_000);
    (0..40).for_each(|number| directions[number * 50] = directions[0].clone());
    let queries = clustered(&mut random, 16, 100);
    let mut graph = build(&directions);
    let same = |left: &Graph, right: &Graph| {
        assert_eq!(left.sketch(), right.sketch());
        // Rows of one direction have no order among them.
        let near =
            |graph: &Graph, query: &Vec<f32>| near(graph, query, EFFORT).into_iter().collect::<HashSet<_>>();
        queries.iter().for_each(|query| assert_eq!(near(left, query), near(right, query)));
    };
    same(&graph, &loaded(&graph, &directions, |_| true));
    let erased: HashSet<u32> = (0..2_000).filter(|number| number % 7 == 0).collect();
    graph.erase(&erased);
    let is_left = |row: usize| !row.is_multiple_of(7);
    same(&graph, &loaded(&graph, &directions, is_left));
}

#[test]
fn rows_that_are_not_there_any_more_are_taken_out_of_a_graph_that_is_loaded() {
    let mut random = Random(15);
    let directions = clustered(&mut random, 16, 2_000);
    let graph = build(&directions);
    for share in [2_usize, 5, 2_001] {
        let loaded = loaded(&graph, &directions, |row| !row.is_multiple_of(share));
        assert!(
            lost(&loaded, EFFORT).iter().all(|row| (*row as usize).is_multiple_of(share)),
            "one of {share}"
        );
    }
}

#[test]
fn what_is_no_graph_is_refused() {
    let mut random = Random(16);
    let directions: Vec<_> = (0..50).map(|_| random.direction(8)).collect();
    let sketch = build(&directions).sketch().unwrap();
    type Change = fn(&mut Sketch);
    let changes: [(Change, &str); 11] = [
        (|sketch| sketch.entry = 50, "begin at node 50"),
        (|sketch| sketch.nodes.truncate(49), "49 rows"),
        (|sketch| sketch.nodes[7] = 50, "node 50"),
        (|sketch| sketch.nodes[7] = 8, "lies elsewhere"),
        (|sketch| sketch.links[3] = vec![50], "leads to"),
        (|sketch| sketch.links[3] = vec![1; 43], "leads to"),
        (|sketch| sketch.links.truncate(49), "node 49"),
        (|sketch| sketch.nodes.fill(NO_NODE), "no row"),
        (|sketch| sketch.strays = vec![50], "find node 50"),
        (|sketch| sketch.strays = vec![7, 7], "find node 7"),
        (|sketch| sketch.strays = vec![7, 3], "find node 3"),
    ];
    for (change, expected) in changes {
        let mut changed = sketch.clone();
        change(&mut changed);
        let error = Engine::default().load(rows(&directions), changed).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    }
    // Links that lead nowhere useful are a graph; nobody is lost with them.
    let mut alone = sketch.clone();
    alone.links.iter_mut().for_each(Vec::clear);
    let graph = Engine::default().load(rows(&directions), alone).unwrap();
    assert_eq!(lost(&graph, EFFORT), NONE);
}

/// A walk compares rows four at once where the processor can, and the last few of each step, or all, one by one: both
/// ways it comes to the same.
#[test]
fn walks_come_to_the_same_rows_four_at_once_and_one_by_one() {
    let mut random = Random(18);
    // A row is two lines of sixteen components and five more.
    let (directions, queries) = (clustered(&mut random, 37, 2_000), clustered(&mut random, 37, 50));
    let graph = build(&directions);
    let walk = |direction: &Vec<f32>, four_at_once| {
        let distance = |row: &[f32]| squared_distance(direction, row);
        crate::walk::near(
            graph.inner.web().unwrap(),
            EFFORT,
            &crate::walk::Aim { direction, distance, four_at_once },
        )
    };
    for query in &queries {
        let one_by_one = walk(query, None);
        let mut exact: Vec<u32> = graph.rows().numbers().collect();
        let distance = |number: &u32| squared_distance(query, graph.rows().row(*number));
        exact.sort_by(|left, right| distance(left).total_cmp(&distance(right)));
        assert!(exact[..10].iter().filter(|number| one_by_one.contains(number)).count() >= 9);
        let Some(four_at_once) = crate::lanes::FourAtOnce::of_this_processor() else { continue };
        // Last digits of distances differ, and so may the order.
        let of = |nodes: Vec<u32>| nodes.into_iter().take(EFFORT / 2).collect::<HashSet<_>>();
        let (one_by_one, at_once) = (of(one_by_one), of(walk(query, Some(four_at_once))));
        assert!(one_by_one.intersection(&at_once).count() >= EFFORT / 2 - 1);
    }
}

#[test]
fn four_rows_at_once_are_as_far_as_each_alone() {
    let Some(four_at_once) = crate::lanes::FourAtOnce::of_this_processor() else { return };
    for dim in 1..=100 {
        let rows: [Vec<f32>; 5] =
            std::array::from_fn(|row| (0..dim).map(|at| ((row * 31 + at * 7) % 17) as f32 - 8.0).collect());
        let [from, others @ ..] = &rows;
        let found = four_at_once.squared_distances(from, others.each_ref().map(Vec::as_slice));
        assert_eq!(found, others.each_ref().map(|row| squared_distance(from, row)), "{dim}");
    }
}

/// A component of a normal distribution, about: the sum of twelve.
fn normal(random: &mut Random) -> f32 {
    (0..12).map(|_| random.component()).sum::<f32>() / 2.0
}

/// One row each of kinds that walks go astray among.
fn row(kind: &str, random: &mut Random, dim: usize, number: usize) -> Vec<f32> {
    let mut row = vec![0.0; dim];
    let mut any = || usize::try_from(random.next()).unwrap() % dim;
    match kind {
        "one-hot" => row[number % dim] = 1.0,
        "four-hot" => {
            (0..4).for_each(|_| row[any()] = 1.0);
            row = normalised(row);
        }
        "outliers" => {
            row.iter_mut().for_each(|component| *component = 0.01 * random.component());
            if number.is_multiple_of(50) {
                let far = usize::try_from(random.next()).unwrap() % dim;
                row[far] = 1_500.0 + 500.0 * random.component();
            }
        }
        "of any length" => {
            let length = (2.0 * normal(random)).exp();
            row = random.direction(dim).into_iter().map(|component| component * length).collect();
        }
        _ => unreachable!("{kind}"),
    }
    row
}

/// Every row is found by a search for it, wherever it lies: by a walk, or since no walk comes to it. Some of these have
/// hundreds that the links of the build do not lead to, and those of `one-hot` lie all as far from each other.
#[test]
fn every_row_of_any_kind_is_found_and_is_once_the_graph_was_written_down() {
    let is_long = std::env::var_os("TELOS_LONG").is_some();
    let kinds = [
        ("one-hot", 4_096, 4_096, 1_000, 1_000),
        ("four-hot", 8_000, 384, 2_000, 128),
        ("outliers", 8_000, 32, 2_000, 16),
        ("of any length", 4_096, 64, 1_000, 64),
    ];
    for (kind, count, dim, count_short, dim_short) in kinds {
        let (count, dim) = if is_long { (count, dim) } else { (count_short, dim_short) };
        let mut random = Random(5);
        let directions: Vec<_> = (0..count).map(|number| row(kind, &mut random, dim, number)).collect();
        for (engine, mut graph) in graphs(&directions) {
            assert_eq!(lost(&graph, EFFORT), NONE, "{kind} by {engine}");
            if !engine.can_load() {
                continue;
            }
            let loaded = loaded(&graph, &directions, |_| true);
            assert_eq!(lost(&loaded, EFFORT), NONE, "{kind} that was written down");
            assert_eq!(loaded.lost, graph.lost, "{kind}");
            // What is erased is no stray any more.
            let erased: HashSet<u32> = graph.lost.iter().copied().take(10).collect();
            graph.erase(&erased);
            assert!(graph.lost.iter().all(|node| !erased.contains(node)), "{kind}");
            assert!(near(&graph, &directions[0], EFFORT).iter().all(|row| !erased.contains(row)), "{kind}");
        }
    }
}
