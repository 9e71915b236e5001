//! The flat index against a model that keeps every state whole: same hits, same distances, at every position.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type State = BTreeMap<ObjectId, (Position, Vec<f32>, Json)>;

/// The state after each position, kept whole.
#[derive(Default)]
struct Model {
    states: Vec<State>,
}

impl Model {
    fn search(&self, query: &Query<'_>) -> Vec<Neighbor> {
        let at = usize::try_from(query.at.get()).unwrap();
        let state = self.states[at].iter();
        let asked = state.filter(|(object, (_, _, metadata))| {
            !(query.hidden)(**object) && passes(&fields(metadata).unwrap(), query.filter)
        });
        let hits = asked.map(|(object, (_, vector, metadata))| Neighbor {
            object: *object,
            distance: distance(query.direction, &normalised(vector).unwrap()),
            metadata: metadata.clone(),
        });
        keep_nearest(hits.collect(), query.k)
    }
}

fn object(number: u64) -> ObjectId {
    ObjectId::from_parts(0, number)
}

prop_compose! {
    fn change()(number in 0_u64..12, vector in proptest::option::weighted(0.7, prop::array::uniform3(-2_i8..=2)), parity in 0..2)
        -> (ObjectId, Option<Vec<f32>>, Json) {
        // Few directions, so that ties and duplicates are common.
        let vector = vector.map(|vector| vector.map(f32::from).to_vec());
        let vector = vector.filter(|vector| vector.iter().any(|component| *component != 0.0));
        (object(number), vector, Json::parse(&format!("{{\"parity\": {parity}}}")).unwrap())
    }
}

proptest! {
    #[test]
    fn flat_answers_every_kept_snapshot_as_the_model(
        changes in prop::collection::vec(change(), 1..200),
        lag in 0_u64..40,
        k in 1_usize..8,
    ) {
        let mut flat = Flat::new(3);
        let mut model = Model { states: vec![State::new()] };
        let mut floor = Position::NONE;
        for (object, vector, metadata) in changes {
            let position = Position::new(model.states.len() as u64);
            let mut state = model.states.last().unwrap().clone();
            match vector {
                Some(vector) => {
                    flat.upsert(position, object, &vector, &metadata);
                    state.insert(object, (position, vector, metadata));
                }
                None => {
                    flat.remove(position, object);
                    state.remove(&object);
                }
            }
            model.states.push(state);
            let oldest = Position::new(position.get().saturating_sub(lag));
            floor = floor.max(flat.compact(oldest).unwrap_or(floor));
            prop_assert!(floor <= oldest || floor == Position::NONE);
        }
        let newest = model.states.len() as u64 - 1;
        let direction = normalised(&[1.0, 1.0, 0.5]).unwrap();
        let filters = [vec![], vec![("parity".to_owned(), serde_json::json!(1))]];
        for at in (floor.get()..=newest).map(Position::new) {
            for filter in &filters {
                let query = Query { direction: &direction, k, at, filter, hidden: &|hidden| hidden == object(3) };
                prop_assert_eq!(flat.search(&query), model.search(&query), "at {}", at);
            }
            let state = &model.states[usize::try_from(at.get()).unwrap()];
            for number in 0..12 {
                prop_assert_eq!(flat.added(object(number), at), state.get(&object(number)).map(|row| row.0));
            }
        }
    }
}

#[test]
fn compaction_keeps_what_the_oldest_snapshot_sees() {
    let mut flat = Flat::new(1);
    for position in 1..=200 {
        flat.upsert(Position::new(position), object(1), &[1.0], &Json::parse("{}").unwrap());
    }
    assert_eq!(flat.compact(Position::new(100)), Some(Position::new(100)));
    let found = |at| flat.added(object(1), Position::new(at));
    assert_eq!(
        (found(99), found(100), found(150), found(200)),
        (None, Some(Position::new(100)), Some(Position::new(150)), Some(Position::new(200)))
    );
    assert_eq!(flat.live().iter().map(|(object, _)| *object).collect::<Vec<_>>(), [object(1)]);
}

#[test]
fn normalising_keeps_tiny_and_huge_vectors_and_refuses_what_has_no_direction() {
    for scale in [1e-30, 1.0, 1e30] {
        let direction = normalised(&[3.0 * scale, 4.0 * scale]).unwrap();
        assert!((direction[0] - 0.6).abs() < 1e-6 && (direction[1] - 0.8).abs() < 1e-6, "{scale}");
    }
    for vector in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
        assert!(matches!(normalised(&vector), Err(VectorError::NotFinite)), "{vector:?}");
    }
}

#[test]
fn distance_runs_from_same_to_opposite() {
    let unit = |vector: &[f32]| normalised(vector).unwrap();
    let wide: Vec<f32> = (1..=19_u8).map(f32::from).collect();
    let opposite: Vec<f32> = wide.iter().map(|component| -component).collect();
    assert!(distance(&unit(&wide), &unit(&wide)) < 1e-6);
    assert!((distance(&unit(&wide), &unit(&opposite)) - 2.0).abs() < 1e-6);
    assert!((distance(&unit(&[1.0, 0.0]), &unit(&[0.0, 1.0])) - 1.0).abs() < 1e-6);
}
