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
    let sketch = telos_graph::Sketch { nodes: (0..ROWS).collect(), entry: ROWS / 2, links, strays: Vec::new() };
    let graph = Engine::default().load(matrix(), sketch).unwrap();
    assert_eq!(graph.lost().count(), LOST as usize);
    let row = |number: u32| Row {
        object: ObjectId::from_parts(0, u64::from(number)),
        added: Position::new(1),
        metadata: Json::parse(&format!("{{\"is_far\": {}}}", number > ROWS / 4)).unwrap(),
    };
    let rows = Rows::of((0..ROWS).map(row).collect());
    Segment::new(1, Metric::Euclidean, rows, graph, None, std::iter::repeat_n(None, ROWS as usize))
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
