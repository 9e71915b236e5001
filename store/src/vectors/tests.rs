//! The indexes against a model that keeps every state whole: same hits, same distances, at every position. Segments of
//! a few rows are read one by one, so the layered index is exact here; `graph` tries what is not.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use telos_graph::Engine;

use super::flat::Flat;
use super::*;

type State = BTreeMap<ObjectId, (Position, Vec<f32>, Json)>;

/// The state after each position, kept whole.
struct Model {
    form: CollectionForm,
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
            distance: self.form.metric.distance(query.place, &self.form.place(vector).unwrap()),
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
        // Not all of them have halves.
        let vector = vector.map(|vector| vector.iter().map(|component| component * 0.1).collect());
        (object(number), vector, Json::parse(&format!("{{\"parity\": {parity}}}")).unwrap())
    }
}

fn form() -> impl Strategy<Value = CollectionForm> {
    let metric = prop::sample::select(vec![Metric::Cosine, Metric::Euclidean]);
    let precision = prop::sample::select(vec![Precision::Full, Precision::Half]);
    (metric, precision).prop_map(|(metric, precision)| CollectionForm { dim: 3, metric, precision })
}

/// What is done to an index besides the changes.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Take,
    Gather,
    Install,
    Abandon,
    Forget(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        3 => Just(Act::Take),
        3 => Just(Act::Gather),
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
    fn new(form: CollectionForm, index: I, lag: u64) -> World<I> {
        World { index, model: Model { form, states: vec![State::new()] }, floor: Position::NONE, lag }
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
    }

    fn assert_same(&self, k: usize) {
        let place = self.model.form.metric.place(&[1.0, 1.0, 0.5]).unwrap();
        let filters = [vec![], vec![("parity".to_owned(), serde_json::json!(1))]];
        for at in (self.floor.get()..=self.newest().get()).map(Position::new) {
            for filter in &filters {
                let hidden = &|hidden| hidden == object(3);
                let query = Query { place: &place, k, effort: None, at, filter, hidden };
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

impl World<Layered> {
    fn gather_and_install(&mut self, mut work: Work) {
        while self.index.gather(&mut work) {}
        match work.build(&AtomicBool::new(false)) {
            Outcome::Built(built) => {
                let (dropped, freed) = self.index.install(*built);
                drop(freed);
                self.drop(dropped);
            }
            Outcome::Ended => self.index.abandon(false),
            Outcome::Failed => panic!("nothing was built"),
        }
    }
}

proptest! {
    #[test]
    fn flat_answers_every_kept_snapshot_as_the_model(
        changes in prop::collection::vec(change(), 1..200),
        form in form(),
        lag in 0_u64..40,
        k in 1_usize..8,
    ) {
        let mut world = World::new(form, Flat::new(form), lag);
        for (object, vector, metadata) in changes {
            world.change(object, vector, metadata);
        }
        world.assert_same(k);
    }

    #[test]
    fn layered_answers_as_the_model_whatever_is_built_and_when(
        steps in prop::collection::vec((change(), act()), 1..200),
        form in form(),
        lag in 0_u64..40,
        k in 1_usize..8,
        tail in 1_usize..12,
        engine in prop::sample::select(&Engine::ALL[..]),
    ) {
        let mut world = World::new(form, Layered::new(form, tail), lag);
        let (mut taken, mut forgotten): (Option<Work>, _) = (None, HashSet::new());
        for ((object_changed, vector, metadata), act) in steps {
            forgotten.remove(&object_changed);
            world.change(object_changed, vector, metadata);
            match act {
                Act::Take if taken.is_none() => taken = world.index.work(engine, world.oldest()),
                Act::Gather => drop(taken.as_mut().map(|work| world.index.gather(work))),
                Act::Install => drop(taken.take().map(|work| world.gather_and_install(work))),
                Act::Abandon if taken.take().is_some() => world.index.abandon(false),
                Act::Forget(number) => {
                    world.forget(object(number));
                    forgotten.insert(object(number));
                }
                Act::Nothing | Act::Take | Act::Abandon => {}
            }
            let is_held = |object: &ObjectId| world.index.holds(*object);
            prop_assert!(taken.is_some() || !forgotten.iter().any(is_held));
        }
        world.assert_same(k);
        if taken.take().is_some() {
            world.index.abandon(false);
        }
        while let Some(work) = world.index.work(engine, world.oldest()) {
            world.gather_and_install(work);
        }
        world.assert_same(k);
        prop_assert!(world.index.shape().tail < tail.max(1) && !world.index.has_work(world.oldest()));
    }
}

fn key(name: &str) -> CollectionKey {
    CollectionKey { owner: ComponentId::operator(), name: ObjectName::new(name).unwrap() }
}

/// A set in which each of these collections has a row more.
fn add(set: &mut VectorSet, names: &[&str], number: u64) {
    for name in names {
        let vector = Vector { components: [1.0, 2.0].into(), metadata: Json::parse("{}").unwrap() };
        let (position, object, vector) = (Position::new(number), object(number), Some(vector));
        set.apply(
            &[IndexChange {
                position,
                collection: key(name),
                form: CollectionForm::of_first(2),
                object,
                vector,
            }],
            position,
        );
    }
}

#[test]
fn collections_are_worked_on_in_turn() {
    let names = ["a", "b", "c"];
    let mut set = VectorSet::starting_at(Position::NONE, 1);
    let mut worked = Vec::new();
    for number in 1..=6 {
        add(&mut set, &names, number);
        let (key, work) = set.work(Engine::default(), Position::new(number)).unwrap();
        worked.push(key.name.as_str().to_owned());
        drop(work);
        set.abandon(&key, false);
    }
    assert_eq!(worked, ["a", "b", "c", "a", "b", "c"]);
}

/// As when the file is opened anew while a graph is built.
#[test]
fn a_set_knows_what_is_being_built_of_the_one_before_it() {
    let sets = || {
        let mut set = VectorSet::starting_at(Position::NONE, 1);
        add(&mut set, &["a"], 1);
        set
    };
    let (mut before, mut after) = (sets(), sets());
    let (key, mut work) = before.work(Engine::default(), Position::new(1)).unwrap();
    while before.gather(&key, &mut work) {}
    after.inherit(&mut before);
    drop(before);
    after.forget(&HashSet::from([object(1)]));
    assert!(after.holds(object(1)), "the work has its row");
    assert!(!after.gather(&key, &mut work));
    assert!(matches!(work.build(&AtomicBool::new(false)), Outcome::Ended));
    assert!(!after.holds(object(1)));
    after.abandon(&key, false);
    assert!(!after.shapes()[0].index.segments.iter().any(|rows| *rows > 0));
}

/// As above, of segments: those of the other set have other numbers.
#[test]
fn a_set_knows_which_segments_are_being_merged_of_the_one_before_it() {
    let sets = || {
        let mut set = VectorSet::starting_at(Position::NONE, 1);
        for number in 1..=limit::SEGMENTS_PER_TIER as u64 {
            add(&mut set, &["a"], number);
            let (key, mut work) = set.work(Engine::default(), Position::new(number)).unwrap();
            while set.gather(&key, &mut work) {}
            let Outcome::Built(built) = work.build(&AtomicBool::new(false)) else { panic!("it was built") };
            drop(set.install(&key, *built));
        }
        assert_eq!(set.shapes()[0].index.tail, 0);
        set
    };
    let (mut before, mut after) = (sets(), sets());
    let (key, mut work) = before.work(Engine::default(), Position::new(9)).unwrap();
    while before.gather(&key, &mut work) {}
    after.inherit(&mut before);
    drop(before);
    after.forget(&HashSet::from([object(2)]));
    assert!(after.holds(object(2)), "the work has its row");
    drop(work);
    assert!(!after.holds(object(2)));
}

#[test]
fn what_was_built_and_then_cancelled_is_not_installed() {
    let mut index = Layered::new(CollectionForm::of_first(2), 2);
    for number in 1..=2 {
        index.upsert(Position::new(number), object(number), &[1.0, 1.0], &Json::parse("{}").unwrap());
    }
    let mut work = index.work(Engine::default(), Position::NONE).unwrap();
    while index.gather(&mut work) {}
    let Outcome::Built(built) = work.build(&AtomicBool::new(false)) else { panic!("it was built") };
    index.forget(&HashSet::from([object(2)]));
    assert!(index.holds(object(2)));
    let (dropped, freed) = index.install(*built);
    assert!(index.holds(object(2)) && dropped.is_none());
    drop(freed);
    assert!(!index.holds(object(2)));
    assert_eq!((index.shape().segments.len(), index.shape().vectors), (0, 1));
}

#[test]
fn compaction_keeps_what_the_oldest_snapshot_sees() {
    let mut flat = Flat::new(CollectionForm::of_first(1));
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

/// What a vector counts for beside its own, against what indexes say that they take.
#[test]
fn what_a_vector_counts_for_is_what_it_takes() {
    let (rows, dim) = (6_000, 16);
    let mut index = Layered::new(CollectionForm::of_first(dim), rows);
    for number in 0..rows as u64 {
        // Directions that are all different; which ones does not matter.
        let component = |of| ((number + 1) * (2 * of + 1) * 7_919 % 10_007) as f32 - 5_000.5;
        let vector: Vec<f32> = (0..dim as u64).map(component).collect();
        index.upsert(Position::new(number), object(number), &vector, &Json::parse("{}").unwrap());
    }
    let counted = usize::try_from(index.bytes(object(1))).unwrap();
    let in_tail = index.shape().bytes / rows;
    let mut work = index.work(Engine::default(), Position::NONE).unwrap();
    while index.gather(&mut work) {}
    let Outcome::Built(built) = work.build(&AtomicBool::new(false)) else { panic!("it was built") };
    drop(index.install(*built));
    let in_segment = index.shape().bytes / rows;
    assert!(in_tail <= counted && in_segment.abs_diff(counted) <= 16, "{in_tail}, {in_segment}: {counted}");
}
