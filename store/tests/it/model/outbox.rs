//! Random posting, delivering, failing and waiting, against a model that keeps a list for each (source, target).

use std::collections::BTreeMap;

use proptest::prelude::*;
use telos_store::{CommitError, Contested, Json, MemoryBackend, ObjectId, Post, PostId, Store, Unit, limit};

use crate::fixture::{assert_clean, commit, over};

type Lane = (u64, u64);

#[derive(Clone, Debug)]
enum Step {
    /// Posts, and as many more within a savepoint that is discarded.
    Post(Vec<Lane>, Vec<Lane>),
    /// Takes one that is due, and posts another in the same unit.
    Take(usize, Option<Lane>),
    /// Two units take the same one.
    TakeTwice(usize),
    /// Takes one that was settled before.
    TakeAgain(usize),
    /// A delivery fails, and waits that long before the next.
    Fail(usize, u64),
    Wait(u64),
    Reopen,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    id: PostId,
    attempts: u32,
    not_before_ms: u64,
}

struct World {
    dir: tempfile::TempDir,
    backend: MemoryBackend,
    store: Option<Store>,
    lanes: BTreeMap<Lane, Vec<Pending>>,
    settled: Vec<PostId>,
    dead: Vec<(PostId, String)>,
    now_ms: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = (0_u64..2, 0_u64..2);
    let lanes = prop::collection::vec(lane.clone(), 0..4);
    prop_oneof![
        3 => (lanes.clone(), lanes).prop_map(|(kept, gone)| Step::Post(kept, gone)),
        3 => (0_usize..4, prop::option::of(lane)).prop_map(|(which, more)| Step::Take(which, more)),
        1 => (0_usize..4).prop_map(Step::TakeTwice),
        1 => (0_usize..9).prop_map(Step::TakeAgain),
        5 => (0_usize..4, 0_u64..30).prop_map(|(which, delay)| Step::Fail(which, delay)),
        2 => (1_u64..20).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

fn post(lane: Lane) -> Post {
    Post {
        source: ObjectId::from_parts(1, lane.0),
        target: ObjectId::from_parts(2, lane.1),
        selector: "note".into(),
        arguments: Json::null(),
        hops: 0,
        trace: String::new(),
    }
}

impl World {
    fn new() -> World {
        let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
        let store = Some(over(&dir, &backend));
        World { dir, backend, store, lanes: BTreeMap::new(), settled: vec![], dead: vec![], now_ms: 0 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// The oldest of every lane whose time has come, longest due first.
    fn due(&self) -> Vec<(Pending, Lane)> {
        let heads = self.lanes.iter().filter_map(|(lane, posts)| Some((posts.first()?.clone(), *lane)));
        let mut due: Vec<_> = heads.filter(|(head, _)| head.not_before_ms <= self.now_ms).collect();
        due.sort_by_key(|(head, _)| (head.not_before_ms, head.id));
        due
    }

    fn pick(&self, which: usize) -> Option<(Pending, Lane)> {
        let due = self.due();
        (!due.is_empty()).then(|| due[which % due.len()].clone())
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Post(kept, gone) => self.post(kept, gone),
            Step::Take(which, more) => self.take(*which, more.as_slice()),
            Step::TakeTwice(which) => self.take_twice(*which),
            Step::TakeAgain(which) => self.take_again(*which),
            Step::Fail(which, delay) => self.fail(*which, *delay),
            Step::Wait(ms) => self.now_ms += ms,
            Step::Reopen => {
                self.store = None;
                self.store = Some(over(&self.dir, &self.backend));
            }
        }
    }

    fn post(&mut self, kept: &[Lane], gone: &[Lane]) {
        let mut unit = self.store().begin();
        let (before, after) = kept.split_at(kept.len() / 2);
        before.iter().for_each(|lane| unit.post(post(*lane)).unwrap());
        let savepoint = unit.savepoint();
        gone.iter().for_each(|lane| unit.post(post(*lane)).unwrap());
        unit.discard(savepoint);
        after.iter().for_each(|lane| unit.post(post(*lane)).unwrap());
        self.decide(unit, kept);
    }

    fn take(&mut self, which: usize, more: &[Lane]) {
        let Some((head, lane)) = self.pick(which) else { return };
        let mut unit = self.store().begin();
        unit.take_post(head.id);
        more.iter().for_each(|lane| unit.post(post(*lane)).unwrap());
        self.settle(lane);
        self.decide(unit, more);
    }

    fn take_twice(&mut self, which: usize) {
        let Some((head, lane)) = self.pick(which) else { return };
        let (mut first, mut second) = (self.store().begin(), self.store().begin());
        [&mut first, &mut second].into_iter().for_each(|unit| unit.take_post(head.id));
        self.settle(lane);
        self.decide(first, &[]);
        self.assert_gone(second, head.id);
    }

    fn take_again(&mut self, which: usize) {
        let Some(id) = self.settled.get(which % self.settled.len().max(1)).copied() else { return };
        let mut unit = self.store().begin();
        unit.take_post(id);
        unit.post(post((0, 0))).unwrap();
        self.assert_gone(unit, id);
        // A failure that comes too late changes nothing, though it is decided.
        self.store().fail_post(id, "late", 0).unwrap();
    }

    fn fail(&mut self, which: usize, delay: u64) {
        let Some((head, lane)) = self.pick(which) else { return };
        let (not_before_ms, cause) = (self.now_ms + delay, format!("{delay}"));
        self.store().fail_post(head.id, &cause, not_before_ms).unwrap();
        let posts = self.lanes.get_mut(&lane).unwrap();
        posts[0].attempts += 1;
        posts[0].not_before_ms = not_before_ms;
        if posts[0].attempts == limit::POST_ATTEMPTS_MAX {
            self.settle(lane);
            self.dead.push((head.id, cause));
        }
    }

    fn settle(&mut self, lane: Lane) {
        let settled = self.lanes.get_mut(&lane).unwrap().remove(0);
        self.settled.push(settled.id);
    }

    fn decide(&mut self, unit: Unit, posted: &[Lane]) {
        let position = commit(self.store(), unit).unwrap().position;
        for (lane, index) in posted.iter().zip(0..) {
            let id = PostId { position, index };
            self.lanes.entry(*lane).or_default().push(Pending { id, attempts: 0, not_before_ms: 0 });
        }
    }

    fn assert_gone(&self, unit: Unit, id: PostId) {
        let error = commit(self.store(), unit).unwrap_err();
        assert!(matches!(error, CommitError::Conflict(Contested::Post(found)) if found == id), "{error}");
    }

    fn assert_agrees(&self) {
        let rows = self.store().outbox_due(self.now_ms, 100).unwrap();
        let found = rows.iter().map(|row| Pending {
            id: row.id,
            attempts: row.attempts,
            not_before_ms: row.not_before_ms,
        });
        let expected: Vec<_> = self.due().into_iter().map(|(head, _)| head).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let heads = self.lanes.values().filter_map(|posts| Some(posts.first()?.not_before_ms));
        assert_eq!(self.store().outbox_next_due_ms(), heads.min());
        let letters = self.store().dead_letters(100).unwrap();
        let letters: Vec<_> = letters.into_iter().map(|letter| (letter.id, letter.cause)).collect();
        let mut expected = self.dead.clone();
        expected.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        assert_eq!(letters, expected);
        let counts = self.store().counts().unwrap();
        let pending: usize = self.lanes.values().map(Vec::len).sum();
        let expected = (pending as u64, self.dead.len() as u64, self.dead.len() as u64);
        assert_eq!((counts.posts_pending, counts.dead_letters, counts.audit_rows), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_outbox_behaves_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.assert_agrees();
        }
        assert_clean(world.store());
    }
}
