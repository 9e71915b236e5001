//! Vector search through units: snapshots, own writes, filters and refusals, against brute force.

use std::collections::BTreeMap;

use proptest::prelude::*;
use telos_store::{
    CollectionForm, CommitError, ComponentId, Contested, Json, Metric, Neighbor, ObjectId, Precision, Store,
    StoreOptions, Unit, VectorError, limit,
};

use crate::fixture::{assert_clean, commit, operator, scratch, within};

type Rows = BTreeMap<ObjectId, (Vec<f32>, i64)>;

fn metadata(tag: i64) -> Json {
    Json::parse(&format!("{{\"tag\": {tag}}}")).unwrap()
}

/// Cosine in f64, as the definition has it.
fn brute_force(rows: &Rows, query: &[f32], k: usize, tag: Option<i64>) -> Vec<(ObjectId, f64)> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let asked = rows.iter().filter(|(_, (_, own))| tag.is_none_or(|tag| tag == *own));
    let distance =
        |vector: &[f32]| 1.0 - dot(vector, query) / (dot(vector, vector).sqrt() * dot(query, query).sqrt());
    let mut hits: Vec<_> = asked.map(|(object, (vector, _))| (*object, distance(vector))).collect();
    hits.sort_by(|a, b| a.1.total_cmp(&b.1));
    hits.truncate(k);
    hits
}

fn search(unit: &mut Unit, query: &[f32], k: usize, tag: Option<i64>) -> Vec<Neighbor> {
    let filter: Vec<_> = tag.map(|tag| ("tag".to_owned(), tag.into())).into_iter().collect();
    unit.search_vectors(&operator(), "notes", query, k, &filter).unwrap()
}

#[track_caller]
fn assert_same(found: &[Neighbor], expected: &[(ObjectId, f64)], rows: &Rows) {
    assert_eq!(found.len(), expected.len());
    for (found, (_, distance)) in found.iter().zip(expected) {
        // Rounding may swap near-ties, so distances are compared, and each object's own.
        assert!((f64::from(found.distance) - distance).abs() < 1e-5, "{found:?} {distance}");
        assert_eq!(found.metadata, metadata(rows[&found.object].1));
    }
    let mut objects: Vec<_> = found.iter().map(|hit| hit.object).collect();
    objects.sort();
    objects.dedup();
    assert_eq!(objects.len(), found.len());
}

fn objects(store: &Store, count: usize) -> Vec<ObjectId> {
    within(store, |unit| (0..count).map(|_| unit.create(operator(), 1, vec![]).unwrap()).collect())
}

type Change = (usize, Option<[f32; 5]>, i64);

fn change() -> impl Strategy<Value = Change> {
    let vector = prop::array::uniform5(-1.0_f32..1.0).prop_map(|mut vector| {
        vector[0] += 1.5; // never without a direction
        vector
    });
    (0_usize..20, prop::option::weighted(0.75, vector), 0_i64..3)
}

fn apply(unit: &mut Unit, rows: &mut Rows, ids: &[ObjectId], changes: &[Change]) {
    for (number, vector, tag) in changes {
        let id = ids[*number];
        match vector {
            Some(vector) => {
                unit.upsert_vector(&operator(), "notes", id, vector.to_vec(), metadata(*tag)).unwrap();
                rows.insert(id, (vector.to_vec(), *tag));
            }
            None => {
                let was_there = unit.remove_vector(&operator(), "notes", id).unwrap();
                assert_eq!(was_there, rows.remove(&id).is_some());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn search_equals_brute_force_at_every_snapshot_with_own_writes(
        rounds in prop::collection::vec(prop::collection::vec(change(), 1..12), 1..12),
        own in prop::collection::vec(change(), 0..6),
        dropped in prop::collection::vec(change(), 0..4),
        query in prop::array::uniform5(-1.0_f32..1.0),
        k in 1_usize..8,
    ) {
        let mut query = query;
        query[4] += 1.5;
        let store = scratch();
        let ids = objects(&store, 20);
        let mut rows = Rows::new();
        within(&store, |unit| apply(unit, &mut rows, &ids, &[(0, Some([1.0; 5]), 0)]));
        let mut snapshots = Vec::new();
        for changes in &rounds {
            snapshots.push((store.begin(), rows.clone()));
            within(&store, |unit| apply(unit, &mut rows, &ids, changes));
        }
        snapshots.push((store.begin(), rows));
        for (mut unit, mut rows) in snapshots {
            assert_same(&search(&mut unit, &query, k, None), &brute_force(&rows, &query, k, None), &rows);
            apply(&mut unit, &mut rows, &ids, &own);
            let savepoint = unit.savepoint();
            apply(&mut unit, &mut rows.clone(), &ids, &dropped);
            unit.discard(savepoint);
            for tag in [None, Some(1)] {
                assert_same(&search(&mut unit, &query, k, tag), &brute_force(&rows, &query, k, tag), &rows);
            }
        }
        assert_clean(&store);
    }
}

#[test]
fn a_snapshot_survives_compaction_that_happens_meanwhile() {
    let store = scratch();
    let ids = objects(&store, 1);
    let upsert = |value: f32| {
        within(&store, |unit| {
            unit.upsert_vector(&operator(), "notes", ids[0], vec![1.0, value], metadata(0)).unwrap();
        });
    };
    upsert(0.0);
    let mut old = store.begin();
    (1..300_u16).for_each(|value| upsert(f32::from(value)));
    assert!(
        search(&mut old, &[1.0, 0.0], 1, None)[0].distance < 1e-6,
        "the old vector is still the one seen"
    );
    drop(old);
    (1..100_u16).for_each(|value| upsert(f32::from(value)));
    assert_clean(&store);
}

#[test]
fn components_never_meet_in_a_collection() {
    let store = scratch();
    let ids = objects(&store, 1);
    let other = ComponentId::new("babs").unwrap();
    within(&store, |unit| {
        unit.upsert_vector(&operator(), "notes", ids[0], vec![1.0, 0.0], metadata(0)).unwrap();
        unit.upsert_vector(&other, "notes", ids[0], vec![1.0, 0.0, 0.0], metadata(0)).unwrap();
    });
    let mut unit = store.begin();
    assert!(unit.search_vectors(&operator(), "notes", &[1.0, 0.0], 1, &[]).is_ok());
    let error = unit.search_vectors(&other, "notes", &[1.0, 0.0], 1, &[]).unwrap_err();
    assert!(matches!(error, VectorError::Dimension { found: 2, expected: 3 }), "{error}");
}

#[test]
fn malformed_vectors_are_refused() {
    let store = scratch();
    let id = objects(&store, 1)[0];
    let mut unit = store.begin();
    let mut upsert = |collection: &str, id, vector: Vec<f32>, metadata: &str| {
        let metadata = Json::parse(metadata).unwrap();
        unit.upsert_vector(&operator(), collection, id, vector, metadata).unwrap_err()
    };
    assert!(matches!(upsert("notes", id, vec![f32::NAN], "{}"), VectorError::NotFinite));
    assert!(matches!(upsert("notes", id, vec![0.0, 0.0], "{}"), VectorError::NotFinite));
    let error = upsert("notes", id, vec![], "{}");
    assert!(matches!(error, VectorError::Dimension { found: 0, .. } | VectorError::NoDimension), "{error}");
    assert!(matches!(
        upsert("notes", id, vec![1.0; limit::VECTOR_DIM_MAX + 1], "{}"),
        VectorError::TooLarge(_)
    ));
    assert!(matches!(upsert("notes", id, vec![1.0], "[1]"), VectorError::Metadata));
    assert!(matches!(upsert("no tes", id, vec![1.0], "{}"), VectorError::Name(_)));
    let unknown = ObjectId::from_parts(0, 1);
    assert!(matches!(upsert("notes", unknown, vec![1.0], "{}"), VectorError::NoSuchObject(_)));
    assert!(unit.is_unwritten());
    let error = unit.search_vectors(&operator(), "notes", &[1.0], 1, &[]).unwrap_err();
    assert!(matches!(error, VectorError::NoSuchCollection(_)));
}

#[test]
fn two_units_cannot_give_one_collection_two_dimensions() {
    let store = scratch();
    let ids = objects(&store, 2);
    let (mut first, mut second) = (store.begin(), store.begin());
    first.upsert_vector(&operator(), "notes", ids[0], vec![1.0], metadata(0)).unwrap();
    second.upsert_vector(&operator(), "notes", ids[1], vec![1.0, 2.0], metadata(0)).unwrap();
    commit(&store, first).unwrap();
    assert!(matches!(commit(&store, second), Err(CommitError::Conflict(Contested::Collection(_)))));
    assert_clean(&store);
}

#[test]
fn a_removal_that_was_answered_conflicts_with_another() {
    let store = scratch();
    let id = objects(&store, 1)[0];
    within(&store, |unit| unit.upsert_vector(&operator(), "notes", id, vec![1.0], metadata(0)).unwrap());
    let (mut first, mut second) = (store.begin(), store.begin());
    assert!(first.remove_vector(&operator(), "notes", id).unwrap());
    assert!(second.remove_vector(&operator(), "notes", id).unwrap());
    commit(&store, first).unwrap();
    assert!(matches!(commit(&store, second), Err(CommitError::Conflict(Contested::Vector { .. }))));
}

#[test]
fn old_redo_rows_are_trimmed_and_the_books_still_balance() {
    let store = scratch();
    let ids = objects(&store, 4_000);
    let rounds = limit::REDO_ROWS_MAX / 4_000 + 2;
    for _ in 0..rounds {
        within(&store, |unit| {
            for id in &ids {
                unit.upsert_vector(&operator(), "notes", *id, vec![1.0], metadata(0)).unwrap();
            }
        });
    }
    let before = store.counts().unwrap().redo_rows;
    assert!(before > limit::REDO_ROWS_MAX, "a group trims only a few");
    while store.counts().unwrap().redo_rows > limit::REDO_ROWS_MAX {
        within(&store, |unit| unit.audit("tick", "x", serde_json::Value::Null).unwrap());
    }
    assert_eq!(store.counts().unwrap().vectors, 4_000);
    assert_clean(&store);
}

const EUCLIDEAN: CollectionForm =
    CollectionForm { dim: 2, metric: Metric::Euclidean, precision: Precision::Half };

fn place(unit: &mut Unit, object: ObjectId, at: [f32; 2]) -> Result<(), VectorError> {
    unit.upsert_vector(&operator(), "places", object, at.to_vec(), Json::parse("{}").unwrap())
}

fn distances(unit: &mut Unit, at: [f32; 2]) -> Vec<f32> {
    let hits = unit.search_vectors(&operator(), "places", &at, 9, &[]).unwrap();
    hits.iter().map(|hit| hit.distance).collect()
}

#[test]
fn a_declared_collection_keeps_its_form_and_is_there_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let ids = objects(&store, 3);
    let mut unit = store.begin();
    unit.declare_collection(&operator(), "places", EUCLIDEAN).unwrap();
    assert!(distances(&mut unit, [0.0, 0.0]).is_empty());
    place(&mut unit, ids[0], [3.0, 4.0]).unwrap();
    assert_eq!(distances(&mut unit, [0.0, 0.0]), [5.0]);
    commit(&store, unit).unwrap();
    within(&store, |unit| {
        unit.declare_collection(&operator(), "places", EUCLIDEAN).unwrap();
        place(unit, ids[1], [0.0, 0.0]).unwrap();
        // A tenth has no half; what is kept is what is searched, before and after.
        place(unit, ids[2], [0.1, 0.0]).unwrap();
    });
    let kept = [0.0, 0.099_975_586, 5.0];
    assert_eq!(distances(&mut store.begin(), [0.0, 0.0]), kept);
    assert_eq!(store.collection_shapes()[0].form, EUCLIDEAN);
    assert_clean(&store);
    drop(store);
    assert!(Store::verify(dir.path()).unwrap().is_clean());
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    assert_eq!(distances(&mut store.begin(), [0.0, 0.0]), kept);
    assert_eq!(store.collection_shapes()[0].form, EUCLIDEAN);
}

#[test]
fn another_form_is_refused_whoever_is_first() {
    let store = scratch();
    let ids = objects(&store, 1);
    let flat = CollectionForm { dim: 3, ..EUCLIDEAN };
    let mut first = store.begin();
    let mut second = store.begin();
    first.declare_collection(&operator(), "places", EUCLIDEAN).unwrap();
    second.declare_collection(&operator(), "places", flat).unwrap();
    commit(&store, first).unwrap();
    assert!(matches!(commit(&store, second), Err(CommitError::Conflict(Contested::Collection(_)))));
    let mut unit = store.begin();
    let error = unit.declare_collection(&operator(), "places", flat).unwrap_err();
    assert!(matches!(&error, VectorError::DeclaredOtherwise { found, .. } if *found == EUCLIDEAN), "{error}");
    let none = unit.declare_collection(&operator(), "empty", CollectionForm { dim: 0, ..EUCLIDEAN });
    assert!(matches!(none, Err(VectorError::NoDimension)), "{none:?}");
    let error = place(&mut unit, ids[0], [70_000.0, 0.0]).unwrap_err();
    assert!(matches!(error, VectorError::NotFinite), "{error}");
}

#[test]
fn a_declaration_that_is_discarded_declares_nothing() {
    let store = scratch();
    let mut unit = store.begin();
    let savepoint = unit.savepoint();
    unit.declare_collection(&operator(), "places", EUCLIDEAN).unwrap();
    unit.discard(savepoint);
    let other = CollectionForm { metric: Metric::Cosine, ..EUCLIDEAN };
    unit.declare_collection(&operator(), "places", other).unwrap();
    commit(&store, unit).unwrap();
    assert_eq!(store.collection_shapes()[0].form, other);
}

#[test]
fn an_owner_has_so_many_collections_and_no_more() {
    let store = scratch();
    let mut unit = store.begin();
    for number in 0..limit::COLLECTIONS_PER_OWNER_MAX {
        unit.declare_collection(&operator(), &format!("c{number}"), EUCLIDEAN).unwrap();
    }
    let error = unit.declare_collection(&operator(), "one-more", EUCLIDEAN).unwrap_err();
    assert!(matches!(error, VectorError::TooLarge(_)), "{error}");
    commit(&store, unit).unwrap();
    let mut unit = store.begin();
    assert!(unit.declare_collection(&operator(), "one-more", EUCLIDEAN).is_err());
    unit.declare_collection(&operator(), "c7", EUCLIDEAN).unwrap();
}

/// Each was right when it was asked; together they are one too many.
#[test]
fn units_beside_each_other_make_no_more_collections_than_an_owner_may_have() {
    let store = scratch();
    within(&store, |unit| {
        for number in 1..limit::COLLECTIONS_PER_OWNER_MAX {
            unit.declare_collection(&operator(), &format!("c{number}"), EUCLIDEAN).unwrap();
        }
    });
    let declare = |name: &str| {
        let mut unit = store.begin();
        unit.declare_collection(&operator(), name, EUCLIDEAN).unwrap();
        unit
    };
    let (first, second, same) = (declare("first"), declare("second"), declare("first"));
    let first = store.decide(first, telos_store::Vote::default());
    let refused = commit(&store, second).unwrap_err();
    assert!(matches!(refused, CommitError::TooLarge(_)), "{refused}");
    commit(&store, same).unwrap();
    first.wait().unwrap();
    // Another owner's are its own, in one unit too.
    let other = ComponentId::new("other").unwrap();
    let mut unit = store.begin();
    unit.declare_collection(&other, "one", EUCLIDEAN).unwrap();
    unit.declare_collection(&operator(), "c7", EUCLIDEAN).unwrap();
    commit(&store, unit).unwrap();
    assert_eq!(store.collection_shapes().len(), limit::COLLECTIONS_PER_OWNER_MAX + 1);
}
