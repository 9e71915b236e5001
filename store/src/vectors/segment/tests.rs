use telos_graph::{Engine, Matrix};

use super::*;
use crate::json::Json;

const ROWS: u32 = 40_000;
const LOST: u32 = 100;

/// Rows on a line; a walk begins in their middle, and comes to none of the last.
fn line() -> Segment {
    let place = |number| f32::from(u16::try_from(number).unwrap()) / 100.0;
    let matrix = || Matrix::of(1, (0..ROWS).map(place).collect());
    let mut links: Vec<Vec<u32>> = Vec::new();
    let reached = ROWS - LOST;
    for number in 0..ROWS {
        let hops = (0..12)
            .map(|power| 1 << power)
            .flat_map(|hop| [number.checked_sub(hop), number.checked_add(hop)]);
        links.push(hops.flatten().filter(|other| *other < reached).collect());
    }
    let sketch =
        telos_graph::Sketch { nodes: (0..ROWS).collect(), entry: ROWS / 2, links, strays: Vec::new() };
    let graph = Engine::default().load(matrix(), sketch).unwrap();
    assert_eq!(graph.lost().count(), LOST as usize);
    let row = |number: u32| Row {
        object: ObjectId::from_parts(0, u64::from(number)),
        added: Position::new(1),
        metadata: Json::parse(&format!("{{\"is_far\": {}}}", number > ROWS / 4)).unwrap(),
    };
    let rows = Rows::of((0..ROWS).map(row).collect());
    let tuning = Tuning::known(Some(64), None);
    Segment::new(1, Metric::Euclidean, rows, graph, tuning, std::iter::repeat_n(None, ROWS as usize))
}

/// Those that no walk reaches lie anywhere, and are looked at by every search: that they are enough for an answer says
/// nothing of what is near.
#[test]
fn rows_that_no_walk_reaches_do_not_end_a_search() {
    let segment = line();
    let find = |at: f32, filter: &[(String, serde_json::Value)]| -> Vec<u128> {
        let (place, hidden) = ([at], |_| false);
        let query =
            Query { place: &place, k: 10, effort: None, at: Position::new(1), filter, hidden: &hidden };
        segment.search(&query).iter().map(|found| found.object.to_bits()).collect()
    };
    let far = [("is_far".to_owned(), serde_json::json!(true))];
    let first = u128::from(ROWS / 4) + 1;
    assert!(find(0.0, &far).into_iter().eq(first..first + 10), "{:?}", find(0.0, &far));
    // They are found where they lie.
    let last = u128::from(ROWS) - 10;
    let mut found = find(1_000.0, &[]);
    found.sort_unstable();
    assert!(found.into_iter().eq(last..last + 10));
}

/// A segment of vectors in random directions, of lengths that differ a thousandfold or of one: a walk with the least
/// effort finds half of the nearest, or nine tenths.
fn random(count: u32, dim: usize, is_of_any_length: bool) -> Segment {
    let mut state = 5_u64;
    let mut component = || {
        // The sum of some even numbers is normal, about.
        let mut even = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u32 << 24) as f32
        };
        (0..6).map(|_| even()).sum::<f32>() - 3.0
    };
    let mut places = Vec::new();
    for _ in 0..count {
        let length = if is_of_any_length { (2.8 * component()).exp() } else { 1.0 };
        let place: Vec<f32> = (0..dim).map(|_| component()).collect();
        let norm = place.iter().map(|component| component * component).sum::<f32>().sqrt();
        places.extend(place.iter().map(|component| component / norm * length));
    }
    let graph = Engine::default().build(Matrix::of(dim, places), &|| false).unwrap();
    let row = |number: u32| Row {
        object: ObjectId::from_parts(0, u64::from(number)),
        added: Position::new(1),
        metadata: Json::parse("{}").unwrap(),
    };
    let rows = Rows::of((0..count).map(row).collect());
    let tuning = Tuning::of(&graph, &|| false);
    Segment::new(1, Metric::Euclidean, rows, graph, tuning, std::iter::repeat_n(None, count as usize))
}

/// Of the ten nearest, those that searches for some rows find.
fn found(segment: &Segment) -> f32 {
    let (mut found, mut all, hidden) = (0.0, 0.0, |_| false);
    for number in segment.rows.numbers().step_by(segment.len() / 100) {
        let query = Query {
            place: segment.direction(number),
            k: 10,
            effort: None,
            at: Position::new(1),
            filter: &[],
            hidden: &hidden,
        };
        let (near, exact) = (segment.search(&query), segment.scan(&query));
        found += exact.iter().filter(|exact| near.contains(exact)).count() as f32;
        all += exact.len() as f32;
    }
    found / all
}

#[test]
fn a_search_that_asks_for_no_effort_finds_most_of_the_nearest_whatever_the_vectors_are() {
    let segment = random(3_000, 32, true);
    assert!(segment.graph.recall(64, &|| false).unwrap() < 0.9, "a walk is not enough");
    assert_eq!((segment.effort(), segment.recall(), found(&segment)), (None, Some(1.0), 1.0));
    if std::env::var_os("TELOS_LONG").is_some() {
        let segment = random(8_500, 384, false);
        assert!(segment.graph.recall(64, &|| false).unwrap() < 0.95, "the least effort is not enough");
        let found = found(&segment);
        assert!(segment.effort() == Some(256) && found >= 0.95, "{found} with {:?}", segment.effort());
    }
}
