//! The indexes against a model that keeps every state whole: same hits, same distances, at every position. Segments of
//! a few rows are read one by one, so the layered index is exact here; `graph` tries what is not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use telos_graph::Engine;

use super::flat::Flat;
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

/// What is done to an index besides the changes.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Take,
    Install,
    Abandon,
    Forget(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        3 => Just(Act::Take),
        3 => Just(Act::Install),
        1 => Just(Act::Abandon),
        1 => (0_u64..12).prop_map(Act::Forget),
    ]
}

/// An index and the model, the positions that both still answer, and what is being built.
struct World<I> {
    index: I,
    model: Model,
    floor: Position,
    lag: u64,
}

impl<I: VectorIndex> World<I> {
    fn new(index: I, lag: u64) -> World<I> {
        World { index, model: Model { states: vec![State::new()] }, floor: Position::NONE, lag }
    }

    fn newest(&self) -> Position {
        Position::new(self.model.states.len() as u64 - 1)
    }

    fn oldest(&self) -> Position {
        Position::new(self.newest().get().saturating_sub(self.lag))
    }

    fn change(&mut self, object: ObjectId, vector: Option<Vec<f32>>, metadata: Json) {
        let position = self.newest().next();
        let mut state = self.model.states.last().unwrap().clone();
        match vector {
            Some(vector) => {
                self.index.upsert(position, object, &vector, &metadata);
                state.insert(object, (position, vector, metadata));
            }
            None => {
                self.index.remove(position, object);
                state.remove(&object);
            }
        }
        self.model.states.push(state);
        let dropped = self.index.compact(self.oldest());
        self.drop(dropped);
    }

    fn drop(&mut self, dropped: Option<Position>) {
        self.floor = self.floor.max(dropped.unwrap_or_default());
        assert!(self.floor <= self.oldest());
    }

    fn forget(&mut self, object: ObjectId) {
        self.index.forget(&HashSet::from([object]));
        self.model.states.iter_mut().for_each(|state| drop(state.remove(&object)));
        assert!(!self.index.holds(object));
    }

    fn assert_same(&self, k: usize) {
        let direction = normalised(&[1.0, 1.0, 0.5]).unwrap();
        let filters = [vec![], vec![("parity".to_owned(), serde_json::json!(1))]];
        for at in (self.floor.get()..=self.newest().get()).map(Position::new) {
            for filter in &filters {
                let hidden = &|hidden| hidden == object(3);
                let query = Query { direction: &direction, k, effort: None, at, filter, hidden };
                assert_eq!(self.index.search(&query), self.model.search(&query), "at {at}");
            }
            let state = &self.model.states[usize::try_from(at.get()).unwrap()];
            for number in 0..12 {
                let added = state.get(&object(number)).map(|row| row.0);
                assert_eq!(self.index.added(object(number), at), added, "{number} at {at}");
            }
        }
        let live: BTreeSet<ObjectId> = self.index.live().into_iter().map(|(object, _)| object).collect();
        assert_eq!(live, self.model.states.last().unwrap().keys().copied().collect());
        assert_eq!(live.len(), self.index.live().len());
    }
}

proptest! {
    #[test]
    fn flat_answers_every_kept_snapshot_as_the_model(
        changes in prop::collection::vec(change(), 1..200),
        lag in 0_u64..40,
        k in 1_usize..8,
    ) {
        let mut world = World::new(Flat::new(3), lag);
        for (object, vector, metadata) in changes {
            world.change(object, vector, metadata);
        }
        world.assert_same(k);
    }

    #[test]
    fn layered_answers_as_the_model_whatever_is_built_and_when(
        steps in prop::collection::vec((change(), act()), 1..200),
        lag in 0_u64..40,
        k in 1_usize..8,
        tail in 1_usize..12,
        engine in prop::sample::select(&Engine::ALL[..]),
    ) {
        let mut world = World::new(Layered::new(3, tail), lag);
        let mut taken: Option<Work> = None;
        let go_on = std::sync::atomic::AtomicBool::new(false);
        for ((object_changed, vector, metadata), act) in steps {
            world.change(object_changed, vector, metadata);
            match act {
                Act::Take if taken.is_none() => taken = world.index.work(engine, world.oldest()),
                Act::Install => {
                    if let Some(built) = taken.take().and_then(|work| work.build(&go_on)) {
                        let dropped = world.index.install(built);
                        world.drop(dropped);
                    }
                }
                Act::Abandon if taken.take().is_some() => world.index.abandon(false),
                Act::Forget(number) => world.forget(object(number)),
                Act::Nothing | Act::Take | Act::Abandon => {}
            }
        }
        world.assert_same(k);
        if taken.is_some() {
            world.index.abandon(false);
        }
        while let Some(work) = world.index.work(engine, world.oldest()) {
            let built = work.build(&go_on).unwrap();
            let dropped = world.index.install(built);
            world.drop(dropped);
        }
        world.assert_same(k);
        prop_assert!(world.index.shape().tail < tail.max(1) && !world.index.has_work(world.oldest()));
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
