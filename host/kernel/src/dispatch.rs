//! Roots: a message from outside, its lane, its attempts, and the one commit that makes its tree real.
//!
//! ```text
//! dedupe → lane (writers) → admission → [ unit + seat table → tree → commit ] retried on conflict → answer
//! ```
//! Never here: how a selector is looked up (`deliver`), how a guest runs (`instance`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::{Map, Value, json};
use telos_store::{
    CommitError, Dedupe, DedupeKey, Json, ObjectId, ObjectName, Position, PostId, Slot, Store, Unit, Vote,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::MESSAGE_DEPTH_MAX;
use crate::decide::decide;
use crate::deliver::{CLONE, Message, deliver};
use crate::effects::EffectLog;
use crate::engine::Engines;
use crate::failure::{Failure, StoreFailure};
use crate::grant::Grants;
use crate::lane::{Lanes, Place};
use crate::seams::{JournalLine, JournalSink, Minds, Severity, StreamSink};
use crate::seat::{SeatTable, Seats};
use crate::tree::{Answers, RootClock, RootContext, Tree};

/// Attempts of one root before it ends in `conflict`.
pub const ATTEMPTS_MAX: u32 = 8;

/// Roots that may wait for an instance; the next is told `busy`.
pub(crate) const ADMISSION_QUEUE_MAX: usize = 256;

/// What every message of this host, or of one trial, works with.
pub(crate) struct Surroundings {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) grants: Arc<Grants>,
    pub(crate) journal: Arc<dyn JournalSink>,
    pub(crate) minds: Arc<dyn Minds>,
}

/// A message from outside.
pub struct Root {
    /// The receiver's name, or its id as 32 hex digits.
    pub receiver: String,
    /// The selector.
    pub selector: String,
    /// The arguments.
    pub arguments: Json,
    /// When the sender stops waiting.
    pub deadline: Instant,
    /// Who asks, and under which number; without one, a resend is a new message.
    pub request: Option<DedupeKey>,
    /// Where provisional answers go.
    pub sink: Option<Arc<dyn StreamSink>>,
}

/// The authoritative answer of a root.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// The commit that made its effects visible; none when it had none.
    pub position: Option<Position>,
    /// The answer of an earlier run of the same request.
    pub is_replay: bool,
}

/// How a message would have gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// What it would have answered.
    pub value: Value,
    /// Admission → answer ready to commit.
    pub elapsed: Duration,
}

/// Admits, runs and commits roots.
pub(crate) struct Dispatcher {
    store: Store,
    engines: Arc<Engines>,
    seats: Arc<Seats>,
    surroundings: Arc<Surroundings>,
    lanes: Arc<Lanes>,
    admission: Admission,
    counts: Counts,
    /// Runs after a commit that posted messages.
    on_posts: Box<dyn Fn() + Send + Sync>,
}

/// What the dispatcher has done since the host started.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

/// A reading of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct DispatchStats {
    /// Roots answered.
    pub answered: u64,
    /// Roots failed.
    pub failed: u64,
    /// Attempts repeated because of a conflict.
    pub retried: u64,
}

/// A root on its way: what all attempts share, and what each needs anew.
struct Attempting {
    receiver: ObjectId,
    selector: String,
    arguments: Json,
    context: RootContext,
    request: Option<DedupeKey>,
    post: Option<(PostId, u32)>,
}

enum Attempted {
    Done(Answer),
    Failed(Failure),
    /// Somebody else changed what it read.
    Conflict(EffectLog),
}

impl Dispatcher {
    pub(crate) fn new(
        store: Store,
        engines: Arc<Engines>,
        seats: Arc<Seats>,
        surroundings: Arc<Surroundings>,
        lanes: Arc<Lanes>,
        on_posts: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let admission = Admission::new(engines.slots as usize / MESSAGE_DEPTH_MAX as usize);
        Self { store, engines, seats, surroundings, lanes, admission, counts: Counts::default(), on_posts }
    }

    pub(crate) fn stats(&self) -> DispatchStats {
        DispatchStats {
            answered: self.counts.answered.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            retried: self.counts.retried.load(Ordering::Relaxed),
        }
    }

    /// Runs a root to its answer, within its deadline.
    pub(crate) async fn send(&self, root: Root) -> Result<Answer, Failure> {
        let outcome = self.run(root).await;
        let count = if outcome.is_ok() { &self.counts.answered } else { &self.counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Runs a root up to its commit, and then throws it away: nothing it did is kept.
    pub(crate) async fn rehearse(&self, root: Root) -> Result<Rehearsal, Failure> {
        let start = Instant::now();
        let attempting = Attempting {
            receiver: self.resolve(&root.receiver)?,
            selector: root.selector,
            arguments: root.arguments,
            context: context(None, root.deadline, root.sink),
            request: None,
            post: None,
        };
        let _place = self.line_up(&attempting).await?;
        let (_tree, outcome) = self.run_tree(&attempting, EffectLog::default()).await?;
        Ok(Rehearsal { elapsed: start.elapsed(), value: outcome?.to_value() })
    }

    /// Delivers a post as a root of its own, deleting its row in the same commit.
    pub(crate) async fn deliver_post(
        &self,
        id: PostId,
        post: telos_store::Post,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let attempting = Attempting {
            receiver: post.target,
            selector: post.selector,
            arguments: post.arguments,
            context: context(Some(post.trace), deadline, None),
            request: None,
            post: Some((id, post.hops)),
        };
        self.run_attempts(attempting).await
    }

    async fn run(&self, root: Root) -> Result<Answer, Failure> {
        if let Some(answer) = self.remembered(root.request.as_ref())? {
            return Ok(answer);
        }
        let receiver = self.resolve(&root.receiver)?;
        self.run_attempts(Attempting {
            receiver,
            selector: root.selector,
            arguments: root.arguments,
            context: context(None, root.deadline, root.sink),
            request: root.request,
            post: None,
        })
        .await
    }

    fn remembered(&self, request: Option<&DedupeKey>) -> Result<Option<Answer>, Failure> {
        let Some(key) = request else {
            return Ok(None);
        };
        // A store that cannot be read cannot say whether an earlier run of this request took effect.
        match self.store.dedupe_lookup(key).map_err(|error| Failure::Unavailable(error.to_string()))? {
            // A session that only reads leaves no trace, and its reads need none. The commit refuses what writes.
            Dedupe::Fresh | Dedupe::UnknownSession => Ok(None),
            Dedupe::Replay { outcome, .. } => Ok(Some(replayed(&outcome))),
            Dedupe::TooOld { .. } => Err(Failure::Session(format!(
                "request {} was acknowledged; its answer is no longer kept",
                key.number
            ))),
            Dedupe::SessionFull => {
                Err(Failure::Busy("this session has 1,024 answers that were never acknowledged".into()))
            }
        }
    }

    /// The object behind a name or an id.
    pub(crate) fn resolve(&self, receiver: &str) -> Result<ObjectId, Failure> {
        let mut unit = self.store.begin();
        let unknown = || Failure::NoSuchObject(receiver.to_owned());
        if let Ok(name) = ObjectName::new(receiver)
            && let Some(id) = unit.find(&name).map_err(|error| self.failure(error.into()))?
        {
            return Ok(id);
        }
        receiver.parse().map_err(|_| unknown())
    }

    async fn run_attempts(&self, mut attempting: Attempting) -> Result<Answer, Failure> {
        let deadline = attempting.context.deadline;
        let _place = within(deadline, self.line_up(&attempting)).await?;
        let mut effects = EffectLog::default();
        while attempting.context.attempt < ATTEMPTS_MAX {
            attempting.context.attempt += 1;
            match self.attempt(&attempting, effects).await {
                Attempted::Done(answer) => return Ok(answer),
                Attempted::Failed(failure) => return Err(failure),
                Attempted::Conflict(mut log) => {
                    self.counts.retried.fetch_add(1, Ordering::Relaxed);
                    if !log.rewind() {
                        break;
                    }
                    effects = log;
                }
            }
            if let Some(sink) = &attempting.context.sink {
                sink.reset(attempting.context.attempt + 1);
            }
        }
        Err(Failure::Conflict { attempts: attempting.context.attempt })
    }

    /// A place in the receiver's lane, when the message may write.
    async fn line_up(&self, attempting: &Attempting) -> Result<Option<Place>, Failure> {
        let (mut unit, seats) = self.begin().await;
        let writes = may_write(&mut unit, &seats, attempting).map_err(|error| self.failure(error))?;
        if !writes && attempting.post.is_none() {
            return Ok(None);
        }
        match self.lanes.enter(attempting.receiver).await {
            Some(place) => Ok(Some(place)),
            None => Err(Failure::Busy(format!(
                "{} messages wait for this object, the most there may be",
                crate::lane::LANE_ENTRIES_MAX
            ))),
        }
    }

    /// A snapshot and the seat table that belongs to it.
    ///
    /// The table is published before its commit's position becomes visible, so a snapshot can only be too old, for the
    /// microseconds between the two; then it begins again.
    async fn begin(&self) -> (Unit, Arc<SeatTable>) {
        loop {
            let unit = self.store.begin();
            let seats = self.seats.current();
            if seats.position <= unit.snapshot() {
                return (unit, seats);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn attempt(&self, attempting: &Attempting, effects: EffectLog) -> Attempted {
        // The commit is not under this clock: the committer looks at the deadline before it decides, and what it has
        // decided is the answer, late or not.
        let running = within(attempting.context.deadline, self.run_tree(attempting, effects));
        let (tree, outcome) = match running.await {
            Ok(ran) => ran,
            Err(failure) => return Attempted::Failed(failure),
        };
        match outcome {
            _ if tree.effects.is_diverged() => Attempted::Conflict(tree.effects),
            Ok(answer) => self.commit(*tree, answer, attempting).await,
            Err(failure) => Attempted::Failed(failure),
        }
    }

    /// Runs the whole tree on a fresh snapshot, as soon as there is an instance for it.
    async fn run_tree(
        &self,
        attempting: &Attempting,
        effects: EffectLog,
    ) -> Result<(Box<Tree>, Result<Json, Failure>), Failure> {
        let _admitted = self.admission.enter().await?;
        let (unit, seats) = self.begin().await;
        let mut tree = self.tree(unit, seats, attempting, effects);
        if let Some((id, _)) = attempting.post {
            tree.unit.take_post(id);
        }
        let message = Message {
            receiver: attempting.receiver,
            selector: attempting.selector.clone(),
            arguments: attempting.arguments.clone(),
        };
        let _running = self.engines.running();
        Ok(deliver(tree, message).await)
    }

    fn tree(
        &self,
        unit: Unit,
        seats: Arc<SeatTable>,
        attempting: &Attempting,
        effects: EffectLog,
    ) -> Box<Tree> {
        Box::new(Tree {
            unit,
            seats,
            surroundings: Arc::clone(&self.surroundings),
            root: Arc::new(attempting.context.again()),
            effects,
            answers: Answers::Live,
            depth: 0,
            is_read_only: false,
            instances: 0,
            hops: attempting.post.map_or(0, |(_, hops)| hops),
        })
    }

    async fn commit(&self, tree: Tree, answer: Json, attempting: &Attempting) -> Attempted {
        let Tree { unit, effects, .. } = tree;
        let value = answer.to_value();
        if unit.is_unwritten() {
            return Attempted::Done(Answer { value, position: None, is_replay: false });
        }
        let has_posts = unit.writes().posts > 0;
        let vote = Vote {
            deadline: Some(attempting.context.deadline),
            dedupe: attempting.request,
            outcome: remember(&value),
            ..Vote::default()
        };
        match decide(&self.store, unit, vote).await {
            Ok(commit) => {
                if has_posts {
                    (self.on_posts)();
                }
                Attempted::Done(Answer { value, position: Some(commit.position), is_replay: false })
            }
            Err(CommitError::Conflict { .. }) => Attempted::Conflict(effects),
            Err(CommitError::DuplicateRequest { outcome, .. }) => Attempted::Done(replayed(&outcome)),
            Err(error) => Attempted::Failed(self.failure(error.into())),
        }
    }

    fn failure(&self, error: StoreFailure) -> Failure {
        match error {
            StoreFailure::Failure(failure) => failure,
            StoreFailure::Host(cause) => {
                let incident = self.surroundings.journal.next_incident();
                self.surroundings.journal.record(JournalLine {
                    severity: Severity::Error,
                    event: "message.host-failed",
                    body: cause.clone(),
                    trace: None,
                    plugin: None,
                    attributes: Map::from_iter([("incident".into(), Value::from(incident))]),
                });
                Failure::Host { cause, incident }
            }
        }
    }
}

/// What comes of it before the deadline; dropping a running tree leaves nothing behind.
async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Failure::Deadline))
}

fn context(trace: Option<String>, deadline: Instant, sink: Option<Arc<dyn StreamSink>>) -> RootContext {
    let mut chance = rand::rng();
    RootContext {
        trace: trace.unwrap_or_else(|| format!("{:032x}", chance.random::<u128>())),
        deadline,
        clock: RootClock::now(),
        seed: chance.random(),
        sink,
        attempt: 0,
    }
}

/// Whether the message's selector may write, as far as its slot tells.
fn may_write(unit: &mut Unit, seats: &SeatTable, attempting: &Attempting) -> Result<bool, StoreFailure> {
    Ok(match unit.lookup(attempting.receiver, &attempting.selector)? {
        Some(found) => match found.slot {
            Slot::Value(_) => false,
            Slot::Method(method) => seats
                .releases
                .get(&method.component)
                .and_then(|release| release.descriptor.selectors.get(&method.selector))
                .is_some_and(|selector| !selector.read_only),
        },
        None => attempting.selector == CLONE,
    })
}

fn remember(value: &Value) -> Vec<u8> {
    json!({ "value": value }).to_string().into_bytes()
}

fn replayed(outcome: &[u8]) -> Answer {
    let remembered: Value = serde_json::from_slice(outcome).unwrap_or_default();
    let value = remembered.get("value").cloned().unwrap_or_default();
    Answer { value, position: None, is_replay: true }
}

/// Roots are admitted up to instances ÷ depth, so that a nested message never waits for an instance.
struct Admission {
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Admission {
    fn new(roots: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(roots)),
            waiting: Arc::new(Semaphore::new(ADMISSION_QUEUE_MAX)),
        }
    }

    async fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || Failure::Busy(format!("{ADMISSION_QUEUE_MAX} messages wait for an instance"));
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| busy())
    }
}
