//! Recall: how many of the nearest a graph finds, by trying some of its rows.

use crate::Graph;
use crate::matrix::squared_distance;

/// Rows that are tried.
const TRIED: usize = 24;
/// Others that each is to find.
const NEAREST: usize = 10;

/// See [`Graph::recalls`].
pub(crate) fn of(graph: &Graph, efforts: &[usize], is_stopping: &dyn Fn() -> bool) -> Option<Vec<f32>> {
    let nodes = graph.inner.nodes();
    let live: Vec<u32> = (0..nodes.len()).filter(|node| nodes.is_live(*node)).collect();
    let step = live.len().div_ceil(TRIED).max(1);
    let (mut found, mut all) = (vec![0_u16; efforts.len()], 0_u16);
    for tried in live.iter().step_by(step) {
        if is_stopping() {
            return None;
        }
        let direction = nodes.direction(*tried);
        let others = live.iter().filter(|other| *other != tried);
        let farthest =
            nearest(others.map(|other| squared_distance(direction, nodes.direction(*other))).collect());
        let is_among = |other: &u32| {
            other != tried && squared_distance(direction, nodes.direction(*other)) <= farthest.distance
        };
        let lost = graph.lost.iter().filter(|other| is_among(other)).count();
        for (found, effort) in found.iter_mut().zip(efforts) {
            let near = graph.nodes_near(direction, *effort).into_iter();
            let near = near.filter(|other| nodes.is_live(*other)).filter(is_among).count();
            *found += u16::try_from(near + lost).unwrap_or(u16::MAX).min(farthest.count);
        }
        all += farthest.count;
    }
    (all > 0).then(|| found.into_iter().map(|found| f32::from(found) / f32::from(all)).collect())
}

/// How far the nearest reach, and how many they are.
struct Farthest {
    distance: f32,
    count: u16,
}

fn nearest(mut distances: Vec<f32>) -> Farthest {
    let count = distances.len().min(NEAREST);
    let last = count.checked_sub(1).map(|last| *distances.select_nth_unstable_by(last, f32::total_cmp).1);
    Farthest { distance: last.unwrap_or_default(), count: u16::try_from(count).unwrap_or(u16::MAX) }
}
