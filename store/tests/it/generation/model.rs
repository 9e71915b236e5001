//! Goal: whatever is done to objects, generations behave as if every object evolved at once when one is raised.
//! Method: random steps on the store and on a model that does just that; both are compared after each.

use super::*;

/// One object as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct State {
    owner: usize,
    generation: u32,
    revision: u64,
    slots: BTreeMap<String, i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Create {
        owner: usize,
        is_ahead: bool,
        value: i64,
    },
    Write {
        object: usize,
        value: i64,
    },
    Give {
        object: usize,
        owner: usize,
    },
    /// Towards the next generation, or back to the one before.
    Evolve {
        owner: usize,
        back: bool,
        count: usize,
    },
    EvolveStale {
        owner: usize,
        back: bool,
        count: usize,
        value: i64,
    },
    /// Alone, or on top of a write that is not durable yet.
    Raise {
        owner: usize,
        back: bool,
        with: Option<usize>,
        on: Option<usize>,
    },
    Fail {
        owner: usize,
    },
    Settle {
        count: usize,
    },
    Begin,
    Finish {
        place: usize,
        value: i64,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (owner, object, value) = (0_usize..2, 0_usize..8, -9_i64..9);
    let back = prop::bool::weighted(0.3);
    prop_oneof![
        4 => (owner.clone(), prop::bool::weighted(0.2), value.clone())
            .prop_map(|(owner, is_ahead, value)| Step::Create { owner, is_ahead, value }),
        5 => (object.clone(), value.clone()).prop_map(|(object, value)| Step::Write { object, value }),
        2 => (object.clone(), owner.clone()).prop_map(|(object, owner)| Step::Give { object, owner }),
        6 => (owner.clone(), back, 1_usize..6)
            .prop_map(|(owner, back, count)| Step::Evolve { owner, back, count }),
        1 => (owner.clone(), back, 1_usize..4, value.clone())
            .prop_map(|(owner, back, count, value)| Step::EvolveStale { owner, back, count, value }),
        5 => (owner.clone(), back, prop::option::weighted(0.3, object.clone()), prop::option::weighted(0.3, object))
            .prop_map(|(owner, back, with, on)| Step::Raise { owner, back, with, on }),
        1 => owner.prop_map(|owner| Step::Fail { owner }),
        2 => (1_usize..5).prop_map(|count| Step::Settle { count }),
        2 => Just(Step::Begin),
        2 => (0_usize..3, value).prop_map(|(place, value)| Step::Finish { place, value }),
        1 => Just(Step::Reopen),
    ]
}

/// The store, and a model that evolves every object at once when a generation is raised.
struct World {
    dir: tempfile::TempDir,
    backend: MemoryBackend,
    store: Option<Store>,
    owners: [ComponentId; 2],
    in_force: [Option<u32>; 2],
    /// It was lowered to.
    is_lowered: [bool; 2],
    states: BTreeMap<ObjectId, Vec<(Position, State)>>,
    /// Copies that are not in force, with the state they were made from.
    copies: BTreeMap<(ObjectId, u32), Position>,
    in_order: Vec<ObjectId>,
    open: Vec<Unit>,
    raises: usize,
}

impl World {
    fn new() -> World {
        let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        let store = Some(over(&dir, &backend));
        World {
            dir,
            backend,
            store,
            owners: [component("left"), component("right")],
            in_force: [None; 2],
            is_lowered: [false; 2],
            states: BTreeMap::new(),
            copies: BTreeMap::new(),
            in_order: Vec::new(),
            open: Vec::new(),
            raises: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn id(&self, number: usize) -> Option<ObjectId> {
        (!self.in_order.is_empty()).then(|| self.in_order[number % self.in_order.len()])
    }

    fn newest(&self, id: ObjectId) -> &(Position, State) {
        self.states[&id].last().unwrap()
    }

    fn generation(&self, owner: usize) -> u32 {
        self.in_force[owner].unwrap_or(1)
    }

    /// Adds a state that a write made, which the copies of the one before do not survive.
    fn written(&mut self, id: ObjectId, position: Position, state: State) {
        self.copies.retain(|(object, _), _| *object != id);
        self.states.entry(id).or_default().push((position, state));
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Create { owner, is_ahead, value } => self.create(owner, is_ahead, value),
            Step::Write { object, value } => self.write(object, value),
            Step::Give { object, owner } => self.give(object, owner),
            Step::Evolve { owner, back, count } => self.evolve((owner, back), count, None),
            Step::EvolveStale { owner, back, count, value } => self.evolve((owner, back), count, Some(value)),
            Step::Raise { owner, back, with, on } => self.raise((owner, back), with, on),
            Step::Fail { owner } => self.fail(owner),
            Step::Settle { count } => drop(self.store().settle_generation(count).unwrap()),
            Step::Begin if self.open.len() < 3 => self.open.push(self.store().begin()),
            Step::Begin => {}
            Step::Finish { place, value } => self.finish(place, value),
            Step::Reopen => self.reopen(),
        }
    }

    fn create(&mut self, owner: usize, is_ahead: bool, value: i64) {
        let generation = self.generation(owner) + u32::from(is_ahead && !self.is_lowered[owner]);
        let mut unit = self.store().begin();
        let id = make(&mut unit, &self.owners[owner], generation, value);
        let position = commit(self.store(), unit).unwrap().position;
        self.in_order.push(id);
        let slots = BTreeMap::from([("n".into(), value)]);
        self.written(id, position, State { owner, generation, revision: 1, slots });
    }

    fn write(&mut self, object: usize, value: i64) {
        let Some((id, decided)) = self.vote_write(object, value) else { return };
        self.settle_write(id, decided, value);
    }

    /// A write that is voted for and may not be durable yet.
    fn vote_write(&self, object: usize, value: i64) -> Option<(ObjectId, Decided)> {
        let id = self.id(object)?;
        let mut unit = self.store().begin();
        unit.set_slot(id, "w", number(value)).unwrap();
        Some((id, self.store().decide(unit, Vote::default())))
    }

    fn settle_write(&mut self, id: ObjectId, decided: Decided, value: i64) {
        let position = decided.wait().unwrap().position;
        let mut state = self.newest(id).1.clone();
        state.revision += 1;
        state.slots.insert("w".into(), value);
        self.written(id, position, state);
    }

    fn give(&mut self, object: usize, owner: usize) {
        let Some(id) = self.id(object) else { return };
        let generation = self.generation(owner);
        let mut unit = self.store().begin();
        unit.set_owner_generation(id, self.owners[owner].clone(), generation).unwrap();
        let position = commit(self.store(), unit).unwrap().position;
        let mut state = self.newest(id).1.clone();
        (state.owner, state.generation, state.revision) = (owner, generation, state.revision + 1);
        self.written(id, position, state);
    }

    fn toward(&self, (owner, back): (usize, bool)) -> Toward {
        let from = self.generation(owner);
        if back && from > 1 { Toward::Down(from - 1) } else { Toward::Up(from + 1) }
    }

    /// Objects that the next generation of this owner still waits for.
    fn unevolved(&self, owner: usize, toward: Toward) -> Vec<ObjectId> {
        let to = toward.generation();
        let is_left = |(id, states): (&ObjectId, &Vec<(Position, State)>)| {
            let (position, state) = states.last().unwrap();
            let has_copy = self.copies.get(&(*id, to)) == Some(position);
            (state.owner == owner && toward.leaves_behind(state.generation) && !has_copy).then_some(*id)
        };
        self.states.iter().filter_map(is_left).collect()
    }

    /// Makes copies; with `meanwhile`, something is written to each object before its copy is.
    fn evolve(&mut self, way: (usize, bool), count: usize, meanwhile: Option<i64>) {
        let (toward, owner) = (self.toward(way), way.0);
        let to = toward.generation();
        let listed = self.store().unevolved(&self.owners[owner], toward, None, count).unwrap();
        let expected: Vec<_> = self.unevolved(owner, toward).into_iter().take(count).collect();
        assert_eq!(listed.iter().map(|object| object.id).collect::<Vec<_>>(), expected);
        if let Some(value) = meanwhile {
            for id in &expected {
                let object = self.in_order.iter().position(|other| other == id).unwrap();
                self.write(object, value);
            }
        }
        within(self.store(), |unit| listed.iter().for_each(|object| put(unit, object, to)));
        for object in listed.iter().filter(|_| meanwhile.is_none()) {
            self.copies.insert((object.id, to), object.position);
        }
    }

    fn raise(&mut self, way: (usize, bool), with: Option<usize>, on: Option<usize>) {
        let (toward, owner) = (self.toward(way), way.0);
        let pending = on.and_then(|object| self.vote_write(object, 1));
        let (from, component) = (self.generation(owner), self.owners[owner].clone());
        let to = toward.generation();
        let with = with.and_then(|object| self.id(object)).filter(|id| {
            let state = &self.newest(*id).1;
            state.owner == owner && toward.leaves_behind(state.generation)
        });
        let mut unit = if pending.is_some() { self.store().begin_on_voted() } else { self.store().begin() };
        if let Some(id) = with {
            let before = unit.object(id).unwrap().unwrap();
            unit.evolve(id, to, json(evolve(&values(&before), to))).unwrap();
        }
        unit.raise_generation(&component, from, to, evolver()).unwrap();
        let decided = self.store().decide(unit, Vote::default());
        if let Some((id, pending)) = pending {
            self.settle_write(id, pending, 1);
        }
        let left = self.unevolved(owner, toward);
        let left: Vec<_> = left.into_iter().filter(|id| Some(*id) != with).collect();
        match decided.wait() {
            Ok(done) => {
                assert!(left.is_empty(), "raised without {left:?}");
                self.raised(owner, toward, done.position);
                // A write in the same commit, which no copy of it survives.
                self.copies.retain(|(id, _), _| Some(*id) != with);
            }
            Err(CommitError::Unevolved { component, object }) => {
                assert_eq!(component, self.owners[owner]);
                // What is pending is looked at first.
                let is_first = left.first() == Some(&object);
                assert!(is_first || (on.is_some() && left.contains(&object)), "{object} of {left:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn raised(&mut self, owner: usize, toward: Toward, position: Position) {
        let to = toward.generation();
        self.in_force[owner] = Some(to);
        self.is_lowered[owner] = matches!(toward, Toward::Down(_));
        self.raises += 1;
        for (id, states) in &mut self.states {
            let (_, state) = states.last().unwrap();
            if state.owner == owner && toward.leaves_behind(state.generation) {
                let slots = evolve(&state.slots, to);
                let state = State { owner, generation: to, revision: state.revision + 1, slots };
                states.push((position, state));
                // In force.
                self.copies.remove(&(*id, to));
            }
        }
    }

    fn fail(&mut self, owner: usize) {
        let before = self.copies.len();
        let states = &self.states;
        self.copies.retain(|(id, _), _| states[id].last().unwrap().1.owner != owner);
        let dropped = self.store().drop_shadows(&self.owners[owner]).unwrap();
        assert_eq!(dropped, before - self.copies.len());
    }

    /// A unit that was open for a while reads everything, and writes what it saw.
    fn finish(&mut self, place: usize, value: i64) {
        if place >= self.open.len() {
            return;
        }
        let mut unit = self.open.remove(place);
        let at = unit.snapshot();
        for (id, states) in &self.states {
            let seen: Vec<_> = states.iter().filter(|(position, _)| *position <= at).collect();
            let object = unit.object(*id).unwrap();
            assert_eq!(object.as_deref().map(|object| self.plain(object)), seen.last().copied().cloned());
            let history = unit.history(*id, 100).unwrap();
            let history: Vec<_> = history.iter().rev().map(|object| self.plain(object)).collect();
            assert_eq!(history.iter().collect::<Vec<_>>(), seen);
            if let Some((_, state)) = seen.last() {
                let slot = state.slots.keys().next().unwrap();
                assert_eq!(unit.lookup(*id, slot).unwrap().unwrap().holder, *id);
            }
        }
        let is_stale = self.states.keys().any(|id| self.newest(*id).0 > at);
        unit.audit("seen", "everything", value.into()).unwrap();
        match commit(self.store(), unit) {
            Ok(_) => assert!(!is_stale),
            Err(CommitError::Conflict(Contested::Object(id))) => assert!(self.newest(id).0 > at),
            Err(error) => panic!("{error}"),
        }
    }

    fn plain(&self, object: &Object) -> (Position, State) {
        let owner = self.owners.iter().position(|owner| *owner == object.owner).unwrap();
        let (generation, revision, slots) = (object.generation, object.revision.get(), values(object));
        (object.position, State { owner, generation, revision, slots })
    }

    fn reopen(&mut self) {
        self.open.clear();
        self.assert_clean();
        self.store = None;
        self.store = Some(over(&self.dir, &self.backend));
        self.copies.clear();
    }

    fn assert_clean(&self) {
        assert_clean(self.store());
    }

    /// Every object as of every position.
    fn assert_holds_everything(&self) {
        for (id, states) in &self.states {
            for at in 0..=self.store().position().get() {
                let expected = states.iter().rev().find(|(position, _)| position.get() <= at);
                let found = self.store().object_at(*id, Position::new(at)).unwrap();
                assert_eq!(found.map(|object| self.plain(&object)).as_ref(), expected, "{id} at {at}");
            }
            let history = self.store().begin().history(*id, 3).unwrap();
            let expected: Vec<_> = states.iter().rev().take(3).cloned().collect();
            assert_eq!(history.iter().map(|object| self.plain(object)).collect::<Vec<_>>(), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn generations_behave_as_a_model_that_evolves_at_once(steps in prop::collection::vec(step(), 1..90)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.assert_holds_everything();
        world.reopen();
        world.assert_holds_everything();
        while world.store().settle_generation(3).unwrap() > 0 {}
        world.assert_holds_everything();
        world.assert_clean();
        let raised: usize =
            world.owners.iter().map(|owner| world.store().generations(owner).unwrap().len()).sum();
        assert_eq!(raised, world.raises);
    }
}

fn cases() -> u32 {
    if crate::random::is_long() { 4_000 } else { 96 }
}
