//! Graphs alone, by each engine: whether every row is found, and how many of the nearest.

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

fn build(engine: Engine, rows: &Arc<Matrix>) -> Graph {
    engine.build(rows, &AtomicBool::new(false)).unwrap()
}

/// A graph by each engine.
fn graphs(rows: &Arc<Matrix>) -> impl Iterator<Item = (Engine, Graph)> {
    Engine::ALL.into_iter().map(|engine| (engine, build(engine, rows)))
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
        for (engine, graph) in graphs(&rows) {
            assert_eq!(lost(&rows, &graph, 16), NONE, "{size} rows by {engine}");
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
        let rows = rows(&directions);
        let twins = usize::try_from(twins).unwrap();
        for (engine, graph) in graphs(&rows) {
            let near = graph.near(&twin, EFFORT);
            assert_eq!(near[..twins], (0_u32..).take(twins).collect::<Vec<_>>(), "by {engine}");
            assert_eq!(lost(&rows, &graph, EFFORT), NONE, "{twins} twins by {engine}");
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
    let rows = rows(&directions);
    for (engine, graph) in graphs(&rows) {
        let near = graph.near(&centre, 256);
        let found = (0_u32..200).filter(|number| near.contains(number)).count();
        assert!(found >= 198, "{found} of 200 by {engine}");
        assert_eq!(lost(&rows, &graph, 256), NONE, "by {engine}");
    }
}

#[test]
fn rows_of_two_components_are_all_found() {
    let mut random = Random(12);
    let directions: Vec<_> = (0..3_000).map(|_| random.direction(2)).collect();
    let rows = rows(&directions);
    for (engine, graph) in graphs(&rows) {
        assert_eq!(lost(&rows, &graph, EFFORT), NONE, "by {engine}");
    }
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
    for (engine, graph) in graphs(&rows) {
        let mut found = 0;
        for query in &queries {
            let mut exact: Vec<u32> = rows.numbers().collect();
            exact.sort_by(|left, right| dot(query, rows.row(*right)).total_cmp(&dot(query, rows.row(*left))));
            let near = graph.near(query, EFFORT);
            found += exact[..10].iter().filter(|number| near[..10].contains(number)).count();
        }
        assert!(found >= 1_980, "{found} of 2,000 by {engine}");
        assert_eq!(lost(&rows, &graph, EFFORT), NONE, "by {engine}");
        assert_eq!(graph.links().len(), rows.len());
        assert!(graph.links().iter().flatten().all(|link| (*link as usize) < rows.len()));
        assert!(graph.bytes() > 0);
    }
}

/// Rows with twins among them.
fn some_rows(count: u64) -> Arc<Matrix> {
    let mut random = Random(count);
    let mut directions: Vec<_> = (0..count).map(|_| random.direction(16)).collect();
    directions[5] = directions[3].clone();
    rows(&directions)
}

#[test]
fn a_graph_that_was_written_down_and_loaded_answers_as_it_did() {
    let rows = some_rows(1_000);
    let mut random = Random(8);
    for (engine, graph) in graphs(&rows).filter(|(engine, _)| engine.can_load()) {
        let loaded = engine.load(&rows, graph.entry().unwrap(), &graph.links()).unwrap();
        for query in (0..200).map(|_| random.direction(16)) {
            assert_eq!(loaded.near(&query, EFFORT), graph.near(&query, EFFORT));
        }
        assert_eq!((loaded.entry(), loaded.links()), (graph.entry(), graph.links()));
        assert_eq!(loaded.bytes(), graph.bytes());
        assert_eq!(lost(&rows, &loaded, EFFORT), NONE);
    }
}

#[test]
fn links_that_no_graph_has_are_refused() {
    let rows = some_rows(100);
    let graph = build(Engine::DiskAnn, &rows);
    let (entry, links) = (graph.entry().unwrap(), graph.links());
    let refusal = |entry, links: &Links| Engine::DiskAnn.load(&rows, entry, links).err().unwrap();
    let with = |row: usize, of_row: Vec<u32>| {
        let mut links = links.clone();
        links[row] = of_row;
        links
    };
    assert_eq!(refusal(entry, &Vec::new()), LoadError::Count { found: 0, expected: 100 });
    assert_eq!(refusal(entry, &links[1..].to_vec()), LoadError::Count { found: 99, expected: 100 });
    for stranger in [100, u32::MAX, 5] {
        assert_eq!(refusal(stranger, &links), LoadError::Entry(stranger));
        let damaged = with(7, vec![1, stranger]);
        assert_eq!(refusal(entry, &damaged), LoadError::Link { row: 7, link: stranger });
    }
    assert_eq!(refusal(entry, &with(5, vec![1])), LoadError::Link { row: 5, link: 1 });
    assert_eq!(refusal(entry, &with(7, vec![1, 2, 1])), LoadError::Twice { row: 7, link: 1 });
    let many = LoadError::Degree { row: 7, found: 99, allowed: 42 };
    assert_eq!(refusal(entry, &with(7, vec![1; 99])), many);
    assert_eq!(Engine::Hnsw.load(&rows, entry, &links).err(), Some(LoadError::BuildsOnly(Engine::Hnsw)));
    assert!(Engine::DiskAnn.load(&Arc::new(Matrix::of(16, Vec::new())), 0, &[]).is_err());
}

/// What was damaged so that it still may be a graph's is walked, wherever it leads.
#[test]
fn damaged_links_are_refused_or_walked_and_never_a_panic() {
    let rows = some_rows(200);
    let graph = build(Engine::DiskAnn, &rows);
    let mut random = Random(9);
    for _ in 0..300 {
        let mut links = graph.links();
        for _ in 0..1 + random.next() % 8 {
            let row = usize::try_from(random.next() % 200).unwrap();
            let number = u32::try_from(random.next() % 201).unwrap();
            match random.next() % 4 {
                0 => links[row].clear(),
                1 => links[row] = vec![number; usize::try_from(random.next() % 50).unwrap()],
                2 => links[row].push(number),
                _ => links[row].iter_mut().for_each(|link| *link ^= 1),
            }
        }
        let entry = u32::try_from(random.next() % 201).unwrap();
        if let Ok(loaded) = Engine::DiskAnn.load(&rows, entry, &links) {
            let near = loaded.near(rows.row(entry), EFFORT);
            assert!(near.contains(&entry) && near.iter().all(|number| *number < 200));
        }
    }
}

#[test]
fn engines_are_called_by_their_names() {
    for engine in Engine::ALL {
        assert_eq!(engine.to_string().parse(), Ok(engine));
    }
    assert_eq!(
        "HNSW".parse::<Engine>().unwrap_err().to_string(),
        "no engine is called `HNSW`; there are diskann and hnsw"
    );
}

#[test]
fn a_build_that_is_told_to_stop_ends_without_a_graph() {
    let rows = rows(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
    for engine in Engine::ALL {
        assert!(engine.build(&rows, &AtomicBool::new(true)).is_none());
    }
}
