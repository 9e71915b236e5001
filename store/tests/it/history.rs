//! Random pasts against a model that keeps everything: what may be read is right, what may not is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use telos_store::{
    Children, ForgetError, Json, MemoryBackend, ObjectId, ObjectName, Position, Post, ReadError, Retention,
    Revision, Store, StoreOptions, Unit, limit,
};

use crate::fixture::{assert_clean, commit, name, number, object_with, operator, scratch_at, within};

#[derive(Clone, Debug, PartialEq)]
struct State {
    at: u64,
    revision: u64,
    value: i64,
    parents: Vec<ObjectId>,
}

type Names = BTreeMap<ObjectName, Vec<(u64, Option<ObjectId>)>>;

struct World {
    dir: tempfile::TempDir,
    backend: MemoryBackend,
    now: Arc<AtomicU64>,
    retention: Retention,
    store: Store,
    states: BTreeMap<ObjectId, Vec<State>>,
    names: Names,
    posts: Vec<(ObjectId, ObjectId)>,
    vectors: BTreeSet<ObjectId>,
    ids: Vec<ObjectId>,
    forgotten: BTreeSet<ObjectId>,
    /// The time of every position.
    times: Vec<u64>,
    was_set_back: bool,
    open: Vec<Unit>,
}

#[derive(Clone, Debug)]
enum Step {
    Create(Vec<usize>),
    Set(usize, i64),
    Link(usize, Vec<usize>),
    Bind(u8, usize),
    Rebind(u8, usize),
    Unbind(u8),
    Vector(usize, bool),
    Post(usize, usize),
    Tick(u64),
    SetBack(u64),
    PruneOnce,
    Prune,
    Begin,
    End(usize),
    Forget(Vec<usize>, bool),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let object = 0_usize..5;
    let parents = prop::collection::vec(0_usize..5, 0..3);
    prop_oneof![
        3 => parents.clone().prop_map(Step::Create),
        8 => (object.clone(), -9_i64..9).prop_map(|(id, value)| Step::Set(id, value)),
        1 => (object.clone(), parents).prop_map(|(id, parents)| Step::Link(id, parents)),
        3 => (0_u8..3, object.clone()).prop_map(|(name, id)| Step::Bind(name, id)),
        2 => (0_u8..3, object.clone()).prop_map(|(name, id)| Step::Rebind(name, id)),
        2 => (0_u8..3).prop_map(Step::Unbind),
        1 => (object.clone(), any::<bool>()).prop_map(|(id, is_there)| Step::Vector(id, is_there)),
        1 => (object.clone(), object.clone()).prop_map(|(from, to)| Step::Post(from, to)),
        6 => (0_u64..40_000).prop_map(Step::Tick),
        1 => (0_u64..1_000_000).prop_map(Step::Tick),
        1 => Just(Step::SetBack(200_000)),
        5 => Just(Step::PruneOnce),
        1 => Just(Step::Prune),
        3 => Just(Step::Begin),
        2 => (0_usize..4).prop_map(Step::End),
        2 => (prop::collection::vec(object, 1..3), any::<bool>()).prop_map(|(ids, detach)| Step::Forget(ids, detach)),
        1 => Just(Step::Reopen),
    ]
}

fn retention() -> impl Strategy<Value = Retention> {
    let age = prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(120)), Just(Duration::MAX)];
    let rows_max = prop_oneof![Just(0_u64), Just(6), Just(u64::MAX)];
    (age, rows_max).prop_map(|(age, rows_max)| Retention { age, rows_max })
}

fn open(
    dir: &tempfile::TempDir,
    backend: &MemoryBackend,
    now: &Arc<AtomicU64>,
    retention: Retention,
) -> Store {
    let now = Arc::clone(now);
    let clock = Arc::new(move || now.load(Ordering::Relaxed));
    let options = StoreOptions { clock, retention, ..StoreOptions::default() };
    Store::open_with_backend(dir.path(), backend.clone(), options).unwrap()
}

impl World {
    fn new(retention: Retention) -> World {
        let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        let now = Arc::new(AtomicU64::new(1_000_000_000));
        let store = open(&dir, &backend, &now, retention);
        World {
            dir,
            backend,
            now,
            retention,
            store,
            states: BTreeMap::new(),
            names: BTreeMap::new(),
            posts: vec![],
            vectors: BTreeSet::new(),
            ids: vec![],
            forgotten: BTreeSet::new(),
            times: vec![0],
            was_set_back: false,
            open: vec![],
        }
    }

    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// One of the newest few that were made, forgotten ones included.
    fn pick(&self, number: usize) -> Option<ObjectId> {
        let recent = self.ids.iter().rev().take(5).copied().collect::<Vec<_>>();
        recent.get(number % recent.len().max(1)).copied()
    }

    /// One that exists.
    fn live(&self, number: usize) -> Option<ObjectId> {
        self.pick(number).filter(|id| self.states.contains_key(id))
    }

    fn newest(&self, id: ObjectId) -> &State {
        self.states[&id].last().unwrap()
    }

    fn named(&self, name: &ObjectName) -> Option<ObjectId> {
        self.names.get(name).and_then(|rows| rows.last()).and_then(|(_, id)| *id)
    }

    /// Every commit the store made since, pruning included, has the time of now.
    fn note_commits(&mut self) {
        let now_ms = self.now_ms();
        self.times.resize(usize::try_from(self.store.position().get()).unwrap() + 1, now_ms);
    }

    fn commit(&mut self, unit: Unit) -> u64 {
        let at = commit(&self.store, unit).unwrap().position.get();
        self.note_commits();
        at
    }

    fn add_state(&mut self, id: ObjectId, at: u64, change: impl FnOnce(&mut State)) {
        let mut state = self.newest(id).clone();
        state.at = at;
        state.revision += 1;
        change(&mut state);
        self.states.get_mut(&id).unwrap().push(state);
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Create(..) | Step::Set(..) | Step::Link(..) => self.write(step),
            Step::Bind(..) | Step::Rebind(..) | Step::Unbind(..) => self.rename(step),
            Step::Vector(..) | Step::Post(..) => self.attach(step),
            Step::Tick(ms) => drop(self.now.fetch_add(*ms, Ordering::Relaxed)),
            Step::SetBack(ms) => {
                self.was_set_back = true;
                self.now.fetch_sub(*ms, Ordering::Relaxed);
            }
            Step::PruneOnce => self.prune(1),
            Step::Prune => self.prune(1_000),
            Step::Begin => self.open.push(self.store.begin()),
            Step::End(number) if *number < self.open.len() => drop(self.open.remove(*number)),
            Step::End(_) => {}
            Step::Forget(ids, detach) => self.forget(ids, *detach),
            Step::Reopen => self.reopen(),
        }
    }

    fn write(&mut self, step: &Step) {
        let mut unit = self.store.begin();
        match step {
            Step::Create(parents) => {
                let mut parents: Vec<_> = parents.iter().filter_map(|parent| self.live(*parent)).collect();
                parents.dedup();
                let id = unit.create(operator(), 1, parents.clone()).unwrap();
                unit.set_slot(id, "v", number(0)).unwrap();
                let at = self.commit(unit);
                self.ids.push(id);
                self.states.insert(id, vec![State { at, revision: 1, value: 0, parents }]);
            }
            Step::Set(id, value) => {
                let Some(id) = self.live(*id) else { return };
                unit.set_slot(id, "v", number(*value)).unwrap();
                let at = self.commit(unit);
                self.add_state(id, at, |state| state.value = *value);
            }
            Step::Link(id, parents) => {
                let Some(id) = self.live(*id) else { return };
                let parents: Vec<_> = parents.iter().filter_map(|parent| self.live(*parent)).collect();
                unit.set_parents(id, parents.clone()).unwrap();
                let at = self.commit(unit);
                self.add_state(id, at, |state| state.parents = parents);
            }
            _ => unreachable!(),
        }
    }

    fn rename(&mut self, step: &Step) {
        let (Step::Bind(word, _) | Step::Rebind(word, _) | Step::Unbind(word)) = step else { unreachable!() };
        let word = name(["a", "a/b", "b"][usize::from(*word)]);
        let before = self.named(&word);
        let wanted = match step {
            Step::Bind(_, id) if before.is_none() => self.live(*id),
            Step::Rebind(_, id) => self.live(*id),
            Step::Unbind(_) => None,
            _ => return,
        };
        if wanted == before {
            return;
        }
        let mut unit = self.store.begin();
        unit.unbind(&word).unwrap();
        if let Some(id) = wanted {
            unit.bind(&word, id).unwrap();
        }
        let at = self.commit(unit);
        self.names.entry(word).or_default().push((at, wanted));
    }

    fn attach(&mut self, step: &Step) {
        let mut unit = self.store.begin();
        match step {
            Step::Vector(id, true) => {
                let Some(id) = self.live(*id) else { return };
                unit.upsert_vector(&operator(), "notes", id, vec![1.0, 2.0], Json::parse("{}").unwrap())
                    .unwrap();
                self.vectors.insert(id);
            }
            Step::Vector(id, false) => {
                let Some(id) = self.live(*id).filter(|id| self.vectors.contains(id)) else { return };
                assert!(unit.remove_vector(&operator(), "notes", id).unwrap());
                self.vectors.remove(&id);
            }
            Step::Post(from, to) => {
                let (Some(source), Some(target)) = (self.live(*from), self.live(*to)) else { return };
                unit.post(post(source, target)).unwrap();
                self.posts.push((source, target));
            }
            _ => unreachable!(),
        }
        self.commit(unit);
    }

    fn prune(&mut self, steps: usize) {
        let before = self.floor();
        let mut is_done = false;
        for _ in 0..steps {
            let pruned = self.store.prune_history(self.now_ms()).unwrap();
            assert_eq!(pruned.floor.get(), self.floor());
            is_done = pruned.is_done;
            if is_done {
                break;
            }
        }
        assert!(is_done || steps == 1);
        self.note_commits();
        self.assert_floor_is_right(before, is_done);
        if is_done {
            self.assert_nothing_needless_is_left();
        }
    }

    fn floor(&self) -> u64 {
        self.store.retention().unwrap().floor.get()
    }

    fn cutoff(&self) -> Option<u64> {
        let age = u64::try_from(self.retention.age.as_millis()).ok()?;
        self.now_ms().checked_sub(age)
    }

    /// The floor rose no further than a bound asks for, and as far as it may.
    fn assert_floor_is_right(&self, before: u64, is_done: bool) {
        let floor = self.floor();
        assert!(floor >= before);
        let oldest = self.open.iter().map(|unit| unit.snapshot().get()).min();
        assert!(
            floor == before || oldest.is_none_or(|oldest| floor <= oldest),
            "an open snapshot was passed"
        );
        let time = |at: u64| self.times[usize::try_from(at).unwrap()];
        if self.was_set_back {
            return;
        }
        let is_aged = self.cutoff().is_some_and(|cutoff| time(floor) <= cutoff);
        // One commit ends a handful of states at most.
        let kept = self.kept_above(floor);
        let is_full = kept + 8 >= self.retention.rows_max;
        assert!(floor == before || is_aged || is_full, "floor {floor} for no reason");
        if oldest.is_none() && is_done {
            let aged = (1..=self.store.position().get())
                .rev()
                .find(|at| self.cutoff().is_some_and(|cutoff| time(*at) + 60_000 <= cutoff));
            assert!(aged.is_none_or(|aged| floor >= aged), "floor {floor}, {aged:?} is past the age");
            assert!(kept <= self.retention.rows_max, "{kept} are kept");
        }
    }

    /// Superseded states that may still be read.
    fn kept_above(&self, floor: u64) -> u64 {
        let kept = self.states.values().map(|states| visible(states, u64::MAX, floor).len() - 1);
        kept.sum::<usize>() as u64
    }

    /// Rows in the file are those that somebody may still read.
    fn assert_nothing_needless_is_left(&self) {
        let (floor, counts) = (self.floor(), self.store.counts().unwrap());
        let states: usize = self.states.values().map(|states| visible(states, u64::MAX, floor).len()).sum();
        assert_eq!(counts.object_rows, states as u64);
        let names: usize = self.names.values().map(|rows| visible_names(rows, floor)).sum();
        assert_eq!(counts.name_rows, names as u64);
    }

    fn forget(&mut self, numbers: &[usize], detach: bool) {
        let ids: BTreeSet<ObjectId> = numbers.iter().filter_map(|number| self.pick(*number)).collect();
        let listed: Vec<_> = ids.iter().copied().collect();
        let children: Vec<ObjectId> = self
            .states
            .iter()
            .filter(|(id, _)| !ids.contains(id))
            .filter(|(id, _)| self.newest(**id).parents.iter().any(|parent| ids.contains(parent)))
            .map(|(id, _)| *id)
            .collect();
        let how = if detach { Children::Detach } else { Children::Refuse };
        let outcome = self.store.forget(&listed, "a test", how);
        if !detach && !children.is_empty() {
            let Err(ForgetError::StillParent { parent, child, more }) = outcome else {
                panic!("{outcome:?}")
            };
            assert!(ids.contains(&parent) && children.contains(&child) && more == children.len() - 1);
            return;
        }
        let done = outcome.unwrap();
        self.note_commits();
        if ids.is_empty() {
            return assert_eq!(done.position, Position::NONE);
        }
        let existed = ids.iter().filter(|id| self.states.contains_key(id)).count();
        assert_eq!((done.objects, done.detached), (existed as u64, children.len() as u64));
        let is_theirs =
            |(source, target): &(ObjectId, ObjectId)| ids.contains(source) || ids.contains(target);
        assert_eq!(done.posts, self.posts.iter().filter(|post| is_theirs(post)).count() as u64);
        self.posts.retain(|post| !is_theirs(post));
        self.vectors.retain(|id| !ids.contains(id));
        self.states.retain(|id, _| !ids.contains(id));
        for child in children {
            self.add_state(child, done.position.get(), |_| {});
        }
        for state in self.states.values_mut().flatten() {
            state.parents.retain(|parent| !ids.contains(parent));
        }
        forget_names(&mut self.names, &ids);
        self.forgotten.extend(&ids);
        for id in &ids {
            assert_eq!(self.store.traces_of(*id).unwrap(), []);
        }
    }

    fn reopen(&mut self) {
        self.open.clear();
        let World { dir, backend, now, retention, .. } = self;
        let (other_dir, other) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        // The old handle must be gone before the new one opens.
        self.store = open(&other_dir, &other, now, *retention);
        self.store = open(dir, backend, now, *retention);
    }

    fn check(&mut self) {
        assert_clean(&self.store);
        let (floor, newest) = (self.floor(), self.store.position().get());
        for at in 0..=newest {
            self.check_at(at, floor);
        }
        for (id, states) in &self.states {
            assert_eq!(pages(&self.store, *id), visible(states, newest, floor));
        }
        for id in &self.forgotten {
            assert_eq!(pages(&self.store, *id), []);
        }
        let counts = self.store.counts().unwrap();
        let expected = (self.states.len(), self.posts.len(), self.vectors.len());
        assert_eq!((counts.objects, counts.posts_pending, counts.vectors), as_u64(expected));
        self.check_times(floor);
        let mut units = std::mem::take(&mut self.open);
        units.iter_mut().for_each(|unit| self.check_unit(unit, floor));
        self.open = units;
    }

    fn check_at(&self, at: u64, floor: u64) {
        let position = Position::new(at);
        let is_refused = |error: &ReadError| {
            matches!(error, ReadError::SnapshotTooOld { snapshot, oldest }
                if *snapshot == position && oldest.get() == floor)
        };
        for id in &self.ids {
            match self.store.object_at(*id, position) {
                Ok(found) => {
                    assert!(at >= floor, "{at} is below {floor}");
                    let states = self.states.get(id).map_or(&[][..], Vec::as_slice);
                    let expected = states.iter().rev().find(|state| state.at <= at);
                    assert_eq!(found.as_ref().map(plain).as_ref(), expected, "{id} at {at}");
                }
                Err(error) => assert!(at < floor && is_refused(&error), "{error}"),
            }
        }
        for (name, rows) in &self.names {
            match self.store.name_at(name, position) {
                Ok(found) => {
                    assert!(at >= floor, "{at} is below {floor}");
                    assert_eq!(found, named_at(rows, at), "{name} at {at}");
                }
                Err(error) => assert!(at < floor && is_refused(&error), "{error}"),
            }
        }
    }

    /// A unit sees its snapshot, whatever was pruned; what was forgotten it sees no more.
    fn check_unit(&self, unit: &mut Unit, floor: u64) {
        let at = unit.snapshot().get();
        assert!(at >= floor, "a unit of this moment holds the floor");
        for (id, states) in &self.states {
            let found: Vec<_> = unit.history(*id, 100).unwrap().iter().map(|state| plain(state)).collect();
            assert_eq!(found, visible(states, at, floor));
        }
        let named = self.names.iter().filter_map(|(name, rows)| Some((name.clone(), named_at(rows, at)?)));
        assert_eq!(unit.names("", "", 100).unwrap(), named.collect::<Vec<_>>());
    }

    /// "As of a time" is never too late, and at most a minute too early.
    fn check_times(&self, floor: u64) {
        if self.was_set_back {
            return;
        }
        for (at, ms) in self.times.iter().enumerate().skip(1) {
            let found = self.store.position_at(*ms).unwrap().map(Position::get);
            let earliest = self.times.iter().rposition(|time| time + 60_000 <= *ms).unwrap_or(0) as u64;
            let latest = self.times.iter().rposition(|time| time <= ms).unwrap() as u64;
            match found {
                Some(found) => {
                    assert!((earliest..=latest).contains(&found) && found >= floor, "{at}: {found}")
                }
                None => {
                    assert!(earliest < floor.max(1), "{at} of {ms} ms is not found, the floor is {floor}")
                }
            }
        }
    }
}

/// All states through pages of two, newest first.
fn pages(store: &Store, id: ObjectId) -> Vec<State> {
    let mut all: Vec<State> = Vec::new();
    loop {
        let before = all.last().map(|state| Revision::new(state.revision));
        let page = store.object_history(id, before, 2).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().map(|state| plain(state)));
    }
}

/// States as of a position that did not end at or below the floor, newest first.
fn visible(states: &[State], at: u64, floor: u64) -> Vec<State> {
    let until = states.iter().skip(1).map(|state| state.at).chain([u64::MAX]);
    let kept = states.iter().zip(until).filter(|(state, until)| state.at <= at && *until > floor);
    let mut kept: Vec<State> = kept.map(|(state, _)| state.clone()).collect();
    kept.reverse();
    kept
}

/// Rows of a name that say something at or above the floor.
fn visible_names(rows: &[(u64, Option<ObjectId>)], floor: u64) -> usize {
    let until = rows.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
    let says =
        |((at, id), until): (&(u64, Option<ObjectId>), u64)| until > floor && (id.is_some() || *at > floor);
    rows.iter().zip(until).filter(|row| says(*row)).count()
}

fn named_at(rows: &[(u64, Option<ObjectId>)], at: u64) -> Option<ObjectId> {
    rows.iter().rev().find(|(row, _)| *row <= at).and_then(|(_, id)| *id)
}

fn forget_names(names: &mut Names, ids: &BTreeSet<ObjectId>) {
    for rows in names.values_mut() {
        rows.iter_mut().for_each(|(_, id)| *id = id.filter(|id| !ids.contains(id)));
        let mut before = None;
        rows.retain(|(_, id)| std::mem::replace(&mut before, *id) != *id);
    }
}

fn plain(object: &telos_store::Object) -> State {
    State {
        at: object.position.get(),
        revision: object.revision.get(),
        value: object.value("v").and_then(|value| value.to_value().as_i64()).unwrap(),
        parents: object.parents.clone(),
    }
}

fn post(source: ObjectId, target: ObjectId) -> Post {
    let arguments = Json::parse("[]").unwrap();
    Post { source, target, selector: "go".into(), arguments, hops: 0, trace: String::new() }
}

fn as_u64((a, b, c): (usize, usize, usize)) -> (u64, u64, u64) {
    (a as u64, b as u64, c as u64)
}

fn cases() -> u32 {
    if crate::random::is_long() { 2_000 } else { 48 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_position_above_the_floor_says_what_was_so(
        retention in retention(),
        steps in prop::collection::vec(step(), 1..70),
    ) {
        // Two rows a step: most checks find the past half pruned.
        fail::cfg("store::prune-rows", "return(2)").unwrap();
        let mut world = World::new(retention);
        for step in &steps {
            world.run(step);
            world.check();
        }
        world.run(&Step::Reopen);
        world.run(&Step::Prune);
        world.check();
    }
}

#[test]
fn every_kept_revision_is_reached_page_by_page() {
    let (store, _) = scratch_at(1_000);
    let id = object_with(&store, "v", 0);
    let states = 3 * i64::try_from(limit::HISTORY_ROWS_MAX).unwrap();
    (1..states).for_each(|value| within(&store, |unit| unit.set_slot(id, "v", number(value)).unwrap()));
    let mut reached = Vec::new();
    loop {
        let before = reached.last().copied();
        let page = store.object_history(id, before, usize::MAX).unwrap();
        if page.is_empty() {
            break;
        }
        reached.extend(page.iter().map(|state| state.revision));
    }
    let expected: Vec<_> = (1..=states.unsigned_abs()).rev().map(Revision::new).collect();
    assert_eq!(reached, expected);
    let between = store.object_history(id, Some(Revision::new(150)), 1).unwrap();
    assert_eq!(between[0].revision, Revision::new(149));
}

#[test]
fn a_quiet_hour_has_the_position_of_its_last_commit() {
    let (store, now) = scratch_at(1_000_000);
    let id = object_with(&store, "v", 0);
    // A second commit within the same minute, then nothing for an hour.
    now.store(1_030_000, Ordering::Relaxed);
    within(&store, |unit| unit.set_slot(id, "v", number(1)).unwrap());
    now.store(5_000_000, Ordering::Relaxed);
    assert_eq!(store.position_at(3_000_000).unwrap(), Some(Position::new(2)));
    within(&store, |unit| unit.set_slot(id, "v", number(2)).unwrap());
    assert_eq!(store.position_at(3_000_000).unwrap(), Some(Position::new(2)));
    assert_eq!(store.position_at(5_000_000).unwrap(), Some(Position::new(3)));
    assert_eq!(store.position_at(999_999).unwrap(), None);
}

#[test]
fn moments_are_few_however_many_commits_there_are() {
    let (store, now) = scratch_at(1_000_000);
    let id = object_with(&store, "v", 0);
    for value in 0..600 {
        now.fetch_add(1_000, Ordering::Relaxed);
        within(&store, |unit| unit.set_slot(id, "v", number(value)).unwrap());
    }
    let view = store.retention().unwrap();
    assert!((10..=21).contains(&view.moments), "{view:?}"); // ten minutes, two a minute at most
    assert_eq!((view.superseded_rows, view.floor, view.floor_ms), (600, Position::NONE, None));
    assert_eq!((view.age_ms, view.rows_max), (30 * 24 * 60 * 60 * 1_000, 1_000_000));
}

#[test]
fn verification_misses_a_state_that_should_be_there() {
    const OBJECTS: redb::TableDefinition<(u128, u64), &[u8]> = redb::TableDefinition::new("objects");
    const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let id = object_with(&store, "v", 0);
    within(&store, |unit| unit.set_slot(id, "v", number(1)).unwrap());
    drop(store);
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(OBJECTS).unwrap().pop_first().unwrap();
    txn.commit().unwrap();
    drop(database);
    let problems = Store::verify(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("revision: 2, expected 1")), "{problems:#?}");
    assert!(problems.iter().any(|problem| problem.contains("changes:")), "{problems:#?}");

    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("history_floor", 99).unwrap();
    txn.commit().unwrap();
    drop(database);
    let problems = Store::verify(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("floor 99 of 2")), "{problems:#?}");
}
