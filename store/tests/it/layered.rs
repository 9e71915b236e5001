//! Goal: a search finds what it should while vectors come, go and get their graphs in the background, and after that;
//! nothing is missed that was committed before it began.
//! Method: enough vectors for several segments; hits are compared with brute force, and each vector searches itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use telos_store::{Children, IndexShape, Json, ObjectId, Store, StoreOptions, VectorEngine};

use crate::fixture::{assert_clean, await_until, commit, operator, within};
use crate::random::Random;

const DIM: usize = 24;
/// Vectors that are gathered before they get a graph: enough that it is searched, too few for a long test.
const TAIL: usize = 2_200;
/// Vectors of one unit.
const BATCH: usize = 250;

fn options() -> StoreOptions {
    StoreOptions { vector_tail_rows_max: TAIL, ..StoreOptions::default() }
}

fn scratch() -> Store {
    Store::scratch(options()).unwrap()
}

fn direction(random: &mut Random) -> Vec<f32> {
    let mut component = || f32::from(i16::try_from(random.below(2_001)).unwrap() - 1_000) / 1_000.0;
    (0..DIM).map(|_| component() + 0.001).collect()
}

fn metadata(number: usize) -> Json {
    Json::parse(&format!("{{\"of\": {}, \"rare\": {}}}", number % 3, number.is_multiple_of(100))).unwrap()
}

/// Objects with a vector each.
fn fill(store: &Store, random: &mut Random, count: usize) -> Vec<(ObjectId, Vec<f32>)> {
    let mut all = Vec::new();
    while all.len() < count {
        within(store, |unit| {
            for number in all.len()..count.min(all.len() + BATCH) {
                let (id, vector) = (unit.create(operator(), 1, vec![]).unwrap(), direction(random));
                unit.upsert_vector(&operator(), "notes", id, vector.clone(), metadata(number)).unwrap();
                all.push((id, vector));
            }
        });
    }
    all
}

fn shape(store: &Store) -> IndexShape {
    let mut shapes = store.collection_shapes();
    assert_eq!((shapes.len(), shapes[0].collection.as_str(), shapes[0].form.dim), (1, "notes", DIM));
    shapes.remove(0).index
}

fn await_graphs(store: &Store) {
    await_until("every tail has its graph", || {
        let shape = shape(store);
        shape.tail < TAIL && !shape.segments.is_empty()
    });
}

fn nearest(store: &Store, query: &[f32], k: usize, filter: &[(String, serde_json::Value)]) -> Vec<ObjectId> {
    let found = store.begin().search_vectors(&operator(), "notes", query, k, filter).unwrap();
    found.into_iter().map(|neighbor| neighbor.object).collect()
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

fn exact(all: &[(ObjectId, Vec<f32>)], query: &[f32], k: usize) -> HashSet<ObjectId> {
    let mut sorted: Vec<_> = all.iter().map(|(id, vector)| (cosine(query, vector), *id)).collect();
    sorted.sort_by(|left, right| right.0.total_cmp(&left.0));
    sorted.into_iter().take(k).map(|(_, id)| id).collect()
}

/// How many of the ten nearest of some queries are found, in a thousand.
fn recall(store: &Store, all: &[(ObjectId, Vec<f32>)], random: &mut Random) -> usize {
    let mut found = 0;
    for _ in 0..100 {
        let query = direction(random);
        let expected = exact(all, &query, 10);
        found += nearest(store, &query, 10, &[]).iter().filter(|id| expected.contains(id)).count();
    }
    found
}

#[test]
fn every_vector_is_found_in_segments_that_diskann_built_beside_it() {
    every_vector_is_found(VectorEngine::DiskAnn);
}

#[test]
fn every_vector_is_found_in_segments_that_hnsw_built_beside_it() {
    every_vector_is_found(VectorEngine::Hnsw);
}

fn every_vector_is_found(vector_engine: VectorEngine) {
    let store = Store::scratch(StoreOptions { vector_engine, ..options() }).unwrap();
    let mut random = Random::new(1);
    let mut all = fill(&store, &mut random, 3 * TAIL + 100);
    await_graphs(&store);
    let shape = shape(&store);
    assert_eq!(shape.tail + shape.segments.iter().sum::<usize>(), all.len(), "{shape:?}");
    assert_eq!((shape.vectors, shape.dead, shape.degraded), (all.len(), 0, 0), "{shape:?}");
    for (id, vector) in &all {
        assert_eq!(nearest(&store, vector, 1, &[]), [*id]);
    }
    let found = recall(&store, &all, &mut random);
    assert!(found >= 980, "{found} of 1,000");

    // Whatever effort is asked for, there are as many hits; with more than a graph is worth, they are the nearest.
    let query = direction(&mut random);
    let with = |effort| {
        let found = store.begin().search_vectors_with(&operator(), "notes", &query, 10, &[], Some(effort));
        found.unwrap().into_iter().map(|neighbor| neighbor.object).collect::<Vec<_>>()
    };
    assert!([0, 1, 11, 64].into_iter().all(|effort| with(effort).len() == 10));
    for effort in [all.len(), usize::MAX] {
        assert_eq!(HashSet::from_iter(with(effort)), exact(&all, &query, 10), "{effort}");
    }

    // A filter that few pass, and one that many do: as many hits as there are.
    for (field, share) in [("rare", 100), ("of", 3)] {
        let wanted = if field == "rare" { serde_json::json!(true) } else { serde_json::json!(0) };
        let passing: Vec<_> = all.iter().step_by(share).cloned().collect();
        let filter = [(field.to_owned(), wanted)];
        let query = direction(&mut random);
        let expected = exact(&passing, &query, 20);
        let hits = nearest(&store, &query, 20, &filter);
        assert_eq!(hits.len(), 20);
        assert!(hits.iter().filter(|id| expected.contains(id)).count() >= 19, "{field}");
    }

    // What is removed, superseded or forgotten is never found again, also in segments.
    let (gone, moved, forgotten) = (all[1].0, all[2].0, all[3].0);
    within(&store, |unit| {
        assert!(unit.remove_vector(&operator(), "notes", gone).unwrap());
        unit.upsert_vector(&operator(), "notes", moved, vec![-1.0; DIM], metadata(0)).unwrap();
    });
    assert!(!nearest(&store, &all[1].1, 10, &[]).contains(&gone));
    assert_eq!(nearest(&store, &[-1.0; DIM], 1, &[]), [moved]);
    store.forget(&[forgotten], "a test", Children::Refuse).unwrap();
    assert!(!nearest(&store, &all[3].1, 10, &[]).contains(&forgotten));
    assert_eq!(store.traces_of(forgotten).unwrap(), []);
    await_graphs(&store);
    all[2].1 = vec![-1.0; DIM];
    all.retain(|(id, _)| *id != gone && *id != forgotten);
    assert!(recall(&store, &all, &mut random) >= 980);
    assert_clean(&store);
}

#[test]
fn searches_and_writes_go_on_while_graphs_are_built_and_miss_nothing_that_was_committed() {
    let (store, is_done) = (scratch(), AtomicBool::new(false));
    let mut random = Random::new(2);
    let first = fill(&store, &mut random, BATCH);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut searches, mut random) = (0_u64, Random::new(3));
            while !is_done.load(Ordering::Acquire) {
                let (id, vector) = &first[random.index(first.len())];
                assert_eq!(nearest(&store, vector, 1, &[]), [*id], "search {searches}");
                searches += 1;
            }
            searches
        });
        let mut all = first.clone();
        while all.len() < 5 * TAIL {
            let more = fill(&store, &mut random, BATCH);
            let (id, vector) = &more[random.index(more.len())];
            assert_eq!(nearest(&store, vector, 1, &[]), [*id], "a reply implies searchable");
            all.extend(more);
        }
        await_graphs(&store);
        is_done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
        assert!(recall(&store, &all, &mut random) >= 980);
    });
    assert_clean(&store);
}

/// A snapshot sees its own state, wherever the rows have gone meanwhile.
#[test]
fn a_snapshot_is_searched_as_it_was_while_its_rows_get_graphs() {
    let (store, mut random) = (scratch(), Random::new(4));
    let all = fill(&store, &mut random, TAIL - 10);
    let mut before = store.begin();
    before.search_vectors(&operator(), "notes", &all[0].1, 1, &[]).unwrap();
    within(&store, |unit| {
        for (id, _) in &all[..BATCH] {
            assert!(unit.remove_vector(&operator(), "notes", *id).unwrap());
        }
    });
    fill(&store, &mut random, TAIL);
    await_graphs(&store);
    for (id, vector) in &all[..BATCH] {
        let found = before.search_vectors(&operator(), "notes", vector, 1, &[]).unwrap();
        assert_eq!(found[0].object, *id);
        assert_ne!(nearest(&store, vector, 1, &[]), [*id]);
    }
}

/// A store that closes does not wait for what it builds.
#[test]
fn a_store_closes_while_it_builds_and_opens_with_every_vector() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut random) = (Store::open(dir.path(), options()).unwrap(), Random::new(5));
    let all = fill(&store, &mut random, 2 * TAIL);
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    for (id, vector) in all.iter().step_by(97) {
        assert_eq!(nearest(&store, vector, 1, &[]), [*id]);
    }
    await_graphs(&store);
    for (id, vector) in all.iter().step_by(97) {
        assert_eq!(nearest(&store, vector, 1, &[]), [*id]);
    }
    let mut unit = store.begin();
    unit.create(operator(), 1, vec![]).unwrap();
    commit(&store, unit).unwrap();
}
