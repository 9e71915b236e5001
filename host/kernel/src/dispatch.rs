//! Roots: a message from outside, its lane, its attempts, and the one commit that makes its tree real.
//!
//! ```text
//! line up   dedupe, and a place in the receiver's lane     in the order of arrival, without waiting
//! attempt   turn → admission → unit + seat table → tree → vote
//! decide    the lane goes on with the vote; the answer waits until what the tree read is durable
//! ```
//! Roots that may write, and deliveries of posts, have a place in a lane and begin on what is voted for, so those of a
//! busy object follow each other while the disk writes, and share commits. Roots that only read begin on what is
//! decided and never wait for the disk. A root is run again when somebody else changed what it read, or when what it
//! was built on failed; then in its old place, before everyone who came later.
//!
//! Never here: how a selector is looked up (`deliver`), how a guest runs (`instance`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::{Map, Value, json};
use telos_store::{
    CommitError, ComponentId, Contested, Dedupe, DedupeKey, Json, ObjectId, OnDecided, PostId, Slot, Store,
    Unit, Vote,
};
use tokio::sync::mpsc;

use crate::admission::{Admission, Passage};
use crate::allowance::Allowances;
use crate::archivist::Archivist;
use crate::blame::Struck;
use crate::decide::ask;
use crate::deliver::{CLONE, Message, deliver_root};
use crate::effects::EffectLog;
use crate::engine::Engines;
use crate::failure::{Failure, StoreFailure};
use crate::grant::Grants;
use crate::lane::{Lanes, Place};
use crate::miss::{ForgeSeat, Forged, Miss};
use crate::pace::{Pace, Pacer, Turn};
use crate::root::{Answer, DispatchStats, Rehearsal, Root};
use crate::seams::{JournalLine, JournalSink, Minds, Severity, StreamSink};
use crate::seat::{Release, SeatTable, Seats};
use crate::shared::Shared;
use crate::traffic::{Reading, Traffic};
use crate::tree::{Answers, RootClock, RootContext, Tree};

/// Attempts of one root before it ends in `conflict`.
pub const ATTEMPTS_MAX: u32 = 8;
/// Attempts after which a root goes into the lanes of what it lost as well.
const ATTEMPTS_ALONE: u32 = 2;
/// How long it waits there, each time: who has such a lane may wait for this root's own.
const OTHER_LANE_TIME: Duration = Duration::from_millis(50);
/// How long a root with a turn waits for its snapshot.
const BEGIN_TIME: Duration = Duration::from_millis(50);

/// How long a root that runs again waits for a store that failed below it; then it is told `busy`, as new ones are.
const STORE_BACK_TIME: Duration = Duration::from_secs(5);
const STORE_BACK_POLL: Duration = Duration::from_millis(2);

/// What every message of this host, or of one trial, works with.
pub(crate) struct Surroundings {
    pub(crate) pacer: Pacer,
    pub(crate) grants: Arc<Grants>,
    pub(crate) journal: Arc<dyn JournalSink>,
    pub(crate) minds: Arc<dyn Minds>,
    /// What each component may have of them.
    pub(crate) allowances: Allowances,
    /// None where nothing is archived: in trials.
    pub(crate) archivist: Option<Arc<Archivist>>,
    /// None where nothing is forged.
    pub(crate) forge: ForgeSeat,
}

/// Admits, runs and commits roots.
pub(crate) struct Dispatcher {
    pub(crate) store: Store,
    engines: Arc<Engines>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) surroundings: Arc<Surroundings>,
    lanes: Arc<Lanes>,
    pub(crate) admission: Arc<Admission>,
    traffic: Arc<Traffic>,
    /// Runs after a commit that posted messages.
    on_posts: Box<dyn Fn() + Send + Sync>,
    /// Who looks into messages that broke a release on probation; what is too much at once is not looked into.
    struck: mpsc::Sender<Struck>,
}

/// A root on its way: what all attempts share, and what each needs anew.
pub(crate) struct Attempting {
    receiver: ObjectId,
    selector: String,
    arguments: Json,
    context: RootContext,
    request: Option<DedupeKey>,
    post: Option<(PostId, u32)>,
    /// In the receiver's lane; none for a root that only reads.
    place: Option<Place>,
    /// In the lanes of objects that others were quicker to write.
    also: Vec<(ObjectId, Place)>,
    /// Counted by the release that served its method when it came.
    in_hand: Option<InHand>,
}

impl Attempting {
    /// The component whose release it was for when it came; none when that is not known.
    fn concerns(&self) -> Option<ComponentId> {
        self.in_hand.as_ref().map(|in_hand| in_hand.0.component.clone())
    }

    /// Whether it takes turns from its beginning.
    fn computes(&self) -> bool {
        self.in_hand.as_ref().is_some_and(|in_hand| in_hand.0.tally.computes())
    }
}

/// One root that a release has in hand, until this is dropped.
struct InHand(Arc<Release>);

impl InHand {
    fn of(release: Arc<Release>) -> Self {
        release.tally.take_in();
        Self(release)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.tally.let_go();
    }
}

/// A root that has arrived.
pub(crate) enum Arrived {
    /// Its request was answered before.
    Remembered(Answer),
    /// It may run.
    Attempting(Box<Attempting>),
}

/// A tree that has run.
struct Ran {
    tree: Box<Tree>,
    outcome: Result<Json, Failure>,
    _passage: Passage,
}

enum Attempted {
    Done(Answer),
    Failed(Failure),
    /// To be run again; the failure is what it ends in when it may not. With the object that others were quicker to write.
    Again(EffectLog, Failure, Option<ObjectId>),
}

impl Dispatcher {
    pub(crate) fn new(
        shared: Shared,
        engines: Arc<Engines>,
        surroundings: Arc<Surroundings>,
        on_posts: Box<dyn Fn() + Send + Sync>,
        struck: mpsc::Sender<Struck>,
    ) -> Self {
        let Shared { store, seats, lanes, admission, traffic } = shared;
        Self { store, engines, seats, surroundings, lanes, admission, traffic, on_posts, struck }
    }

    pub(crate) fn stats(&self) -> DispatchStats {
        let Reading { answered, failed, retried, .. } = self.traffic.read();
        DispatchStats { answered, failed, retried }
    }

    /// Takes a root in: looks whether its request was answered before, and takes its place in its receiver's lane
    /// when it may write. Waits for nothing, so that roots run in the order of these calls.
    pub(crate) fn line_up(&self, root: Root) -> Result<Arrived, Failure> {
        if let Some(answer) = self.remembered(root.request.as_ref())? {
            return Ok(Arrived::Remembered(answer));
        }
        Ok(Arrived::Attempting(Box::new(self.attempting(root)?)))
    }

    /// Runs a root that was taken in to its answer, within its deadline.
    pub(crate) async fn answer(&self, arrived: Result<Arrived, Failure>) -> Result<Answer, Failure> {
        let waiting = self.traffic.wait();
        let outcome = match arrived {
            Ok(Arrived::Remembered(answer)) => Ok(answer),
            Ok(Arrived::Attempting(attempting)) => self.run_or_forge(*attempting).await,
            Err(failure) => Err(failure),
        };
        waiting.end(outcome.is_ok());
        outcome
    }

    /// Runs a root up to its commit, and then throws it away: nothing it did is kept.
    pub(crate) async fn rehearse(&self, root: Root) -> Result<Rehearsal, Failure> {
        let start = Instant::now();
        let attempting = self.attempting(Root { request: None, ..root })?;
        let ran = self.run_tree(&attempting, EffectLog::default()).await?;
        Ok(Rehearsal {
            elapsed: start.elapsed(),
            instance: ran.tree.instance,
            value: ran.outcome?.to_value(),
        })
    }

    /// Delivers a post as a root of its own, deleting its row in the same commit.
    pub(crate) async fn deliver_post(
        &self,
        id: PostId,
        post: telos_store::Post,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let place = Some(self.place(post.target)?);
        let mut attempting = Attempting {
            receiver: post.target,
            selector: post.selector,
            arguments: post.arguments,
            context: context(Some(post.trace), deadline, None),
            request: None,
            post: Some((id, post.hops)),
            place,
            also: Vec::new(),
            in_hand: None,
        };
        let failure = match self.run_attempts(&mut attempting).await {
            Err(failure @ Failure::NotUnderstood { .. }) => failure,
            ended => return ended,
        };
        // Its sender waits for nothing, and it is delivered again by itself.
        Err(self.forge(failure, None).await.1)
    }

    fn attempting(&self, root: Root) -> Result<Attempting, Failure> {
        let receiver = self.resolve(&root.receiver)?;
        let (writes, release) = self.may_write(receiver, &root.selector)?;
        let place = writes.then(|| self.place(receiver)).transpose()?;
        Ok(Attempting {
            receiver,
            selector: root.selector,
            arguments: root.arguments,
            context: context(None, root.deadline, root.sink),
            request: root.request,
            post: None,
            place,
            also: Vec::new(),
            in_hand: release.map(InHand::of),
        })
    }

    fn place(&self, receiver: ObjectId) -> Result<Place, Failure> {
        self.lanes.line_up(receiver).ok_or_else(|| {
            Failure::Busy(format!(
                "{} messages wait for this object, the most there may be",
                crate::lane::LANE_ENTRIES_MAX
            ))
        })
    }

    fn remembered(&self, request: Option<&DedupeKey>) -> Result<Option<Answer>, Failure> {
        let Some(key) = request else {
            return Ok(None);
        };
        // A store that cannot be read cannot say whether an earlier run of this request took effect.
        match self.store.dedupe_lookup(key).map_err(|error| Failure::Unavailable(error.to_string()))? {
            // A session that only reads leaves no trace, and its reads need none. The commit refuses what writes.
            Dedupe::Fresh | Dedupe::UnknownSession => Ok(None),
            Dedupe::Replay { outcome, .. } => replayed(&outcome).map(Some),
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
        let located = unit.locate(receiver).map_err(|error| self.failure(error.into()))?;
        located.ok_or_else(|| Failure::NoSuchObject(receiver.to_owned()))
    }

    /// Whether the selector may write, as far as its slot tells, and the release that would answer it.
    fn may_write(&self, receiver: ObjectId, selector: &str) -> Result<(bool, Option<Arc<Release>>), Failure> {
        let (mut unit, seats) = loop {
            if let Some(begun) = self.begin_on_decided() {
                break begun;
            }
            std::thread::yield_now();
        };
        let found = unit.lookup(receiver, selector).map_err(|error| self.failure(error.into()))?;
        Ok(match found.map(|found| found.slot) {
            Some(Slot::Value(_)) => (false, None),
            Some(Slot::Method(method)) => {
                let release = seats.releases.get(&method.component).cloned();
                let known = release.as_ref().and_then(|it| it.descriptor.selectors.get(&method.selector));
                (known.is_some_and(|selector| !selector.read_only), release)
            }
            None => (selector == CLONE, None),
        })
    }

    /// Runs a root; one that nobody understands is told to whoever forges, and runs again where that helped.
    async fn run_or_forge(&self, mut attempting: Attempting) -> Result<Answer, Failure> {
        let failure = match self.run_attempts(&mut attempting).await {
            Err(failure @ Failure::NotUnderstood { .. }) => failure,
            ended => return ended,
        };
        // Waiting for behaviour holds nobody up.
        (attempting.place, attempting.in_hand) = (None, None);
        attempting.also.clear();
        let (is_taught, failure) = self.forge(failure, Some(attempting.context.deadline)).await;
        if !is_taught {
            return Err(failure);
        }
        let (writes, release) = self.may_write(attempting.receiver, &attempting.selector)?;
        attempting.place = writes.then(|| self.place(attempting.receiver)).transpose()?;
        attempting.in_hand = release.map(InHand::of);
        self.run_attempts(&mut attempting).await
    }

    /// Tells whoever forges of a miss; whether its prototype understands it now, and else what the sender is told.
    async fn forge(&self, failure: Failure, until: Option<Instant>) -> (bool, Failure) {
        let Failure::NotUnderstood { receiver, selector, tried, miss, .. } = failure else {
            return (false, failure);
        };
        let forged = match &self.surroundings.forge.0 {
            Some(forge) if forge.takes(miss.prototype, &miss.selector) => {
                forge.missed(Miss::clone(&miss), until).await
            }
            _ => Forged::Nothing,
        };
        let ticket = match forged {
            Forged::Nothing => None,
            Forged::Ticket(ticket) | Forged::Now(ticket) => Some(ticket),
        };
        let failure = Failure::NotUnderstood { receiver, selector, tried, ticket, miss };
        (matches!(forged, Forged::Now(_)), failure)
    }

    async fn run_attempts(&self, attempting: &mut Attempting) -> Result<Answer, Failure> {
        let mut effects = EffectLog::default();
        loop {
            attempting.context.attempt += 1;
            let failure = match self.attempt(attempting, effects).await {
                Attempted::Done(answer) => return Ok(answer),
                Attempted::Failed(failure) => return Err(failure),
                Attempted::Again(log, failure, contested) => {
                    effects = log;
                    self.line_up_for(attempting, contested);
                    failure
                }
            };
            self.traffic.retry();
            if attempting.context.attempt >= ATTEMPTS_MAX || !effects.rewind() {
                return Err(failure);
            }
            if let Some(sink) = &attempting.context.sink {
                sink.reset(attempting.context.attempt + 1);
            }
        }
    }

    /// A root that lost an object of another lane again goes into that lane as well: there, roots come one after another
    /// and each sees what the one before wrote, so that whoever only tries would lose as long as they come.
    fn line_up_for(&self, attempting: &mut Attempting, contested: Option<ObjectId>) {
        let Some(object) = contested else { return };
        let is_new = object != attempting.receiver && attempting.also.iter().all(|(held, _)| *held != object);
        if attempting.context.attempt >= ATTEMPTS_ALONE && is_new && attempting.place.is_some() {
            attempting.also.extend(self.lanes.line_up(object).map(|place| (object, place)));
        }
    }

    async fn attempt(&self, attempting: &Attempting, effects: EffectLog) -> Attempted {
        // The commit is not under this clock: the vote looks at the deadline, and what is decided is the answer, late
        // or not.
        let running = within(attempting.context.deadline, self.run_tree(attempting, effects));
        // Inside until its commit is decided: whoever closes the gate then knows all that was written.
        let Ran { tree, outcome, _passage } = match running.await {
            Ok(ran) => ran,
            Err(failure) => return Attempted::Failed(failure),
        };
        let struck = struck(&tree, attempting);
        let attempted = match outcome {
            _ if tree.effects.is_diverged() => Attempted::Again(tree.effects, conflict(attempting), None),
            Ok(answer) => self.commit(*tree, answer, attempting).await,
            Err(failure) => self.fail(*tree, failure, attempting).await,
        };
        if !matches!(attempted, Attempted::Again(..)) {
            // Whoever looks into them has enough to do when this fails.
            struck.into_iter().for_each(|struck| drop(self.struck.try_send(struck)));
        }
        attempted
    }

    /// Runs the whole tree on a fresh snapshot, as soon as it is its turn and there is an instance for it.
    async fn run_tree(&self, attempting: &Attempting, effects: EffectLog) -> Result<Ran, Failure> {
        if let Some(place) = &attempting.place {
            place.turn().await;
        }
        for (_, place) in &attempting.also {
            // Whoever has that lane may be waiting for this one.
            let _ = tokio::time::timeout(OTHER_LANE_TIME, place.turn()).await;
        }
        let mut passage = self.admission.pass(attempting.concerns()).await;
        let _admitted = self.admission.enter(attempting.concerns()).await?;
        let (first, (unit, seats)) = self.begin_with_turn(attempting).await?;
        let tree = self.tree(unit, seats, attempting, effects);
        if first.is_some() {
            tree.root.pace.is_now_long();
        }
        let message = Message {
            receiver: attempting.receiver,
            selector: attempting.selector.clone(),
            arguments: attempting.arguments.clone(),
        };
        let _running = self.engines.running();
        let (tree, outcome) = tokio::select! {
            delivered = deliver_root(tree, message, first) => delivered,
            () = passage.retired() => return Err(Failure::Retired),
        };
        Ok(Ran { tree, outcome, _passage: passage })
    }

    /// A snapshot, with a turn where the root is expected to need one: it has that before the snapshot, which others
    /// overtake while it waits. Whoever must go first may need a turn as well, so it is not kept for long without one.
    async fn begin_with_turn(
        &self,
        attempting: &Attempting,
    ) -> Result<(Option<Turn>, (Unit, Arc<SeatTable>)), Failure> {
        if attempting.computes() {
            let turn = self.surroundings.pacer.turn().await;
            if let Ok(begun) = tokio::time::timeout(BEGIN_TIME, self.begin(attempting)).await {
                return Ok((turn, begun?));
            }
        }
        Ok((None, self.begin(attempting).await?))
    }

    async fn begin(&self, attempting: &Attempting) -> Result<(Unit, Arc<SeatTable>), Failure> {
        match &attempting.place {
            Some(place) => self.begin_in_lane(place, attempting.context.attempt).await,
            None => Ok(self.begin_to_read().await),
        }
    }

    /// A snapshot of what is decided and the seat table that belongs to it.
    async fn begin_to_read(&self) -> (Unit, Arc<SeatTable>) {
        loop {
            if let Some(begun) = self.begin_on_decided() {
                return begun;
            }
            tokio::task::yield_now().await;
        }
    }

    /// None for the microseconds in which a table is published and its position not yet visible.
    fn begin_on_decided(&self) -> Option<(Unit, Arc<SeatTable>)> {
        let unit = self.store.begin();
        let seats = self.seats.current();
        (seats.position <= unit.snapshot()).then_some((unit, seats))
    }

    /// A snapshot of what is voted for and the seat table that belongs to it, while it is this place's turn.
    ///
    /// What was voted for can fail. Then those built on it line up again before the store takes writes, so a root whose
    /// turn it still is after it began, on a store that takes writes, overtakes nobody.
    async fn begin_in_lane(&self, place: &Place, attempt: u32) -> Result<(Unit, Arc<SeatTable>), Failure> {
        let patience = if attempt > 1 { STORE_BACK_TIME } else { Duration::ZERO };
        let give_up_at = Instant::now() + patience;
        loop {
            place.turn().await;
            let unit = self.store.begin_on_voted();
            if let Some(cause) = self.store.read_only_cause() {
                if Instant::now() >= give_up_at {
                    return Err(self.failure(CommitError::ReadOnlyStore { cause }.into()));
                }
                tokio::time::sleep(STORE_BACK_POLL).await;
                continue;
            }
            let seats = self.seats.voted();
            if place.has_turn() && seats.position <= unit.snapshot() {
                return Ok((unit, seats));
            }
            tokio::task::yield_now().await;
        }
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
            instance: Duration::ZERO,
            fuel: 0,
            sends: 0,
            hops: attempting.post.map_or(0, |(_, hops)| hops),
            cpu: Duration::ZERO,
            breakages: Vec::new(),
        })
    }

    async fn commit(&self, tree: Tree, answer: Json, attempting: &Attempting) -> Attempted {
        let value = answer.to_value();
        let Tree { mut unit, effects, .. } = tree;
        if let Some((id, _)) = attempting.post {
            unit.take_post(id);
        }
        if unit.is_unwritten() {
            let answer = Answer { value, position: None, is_replay: false };
            return self.confirm(unit, effects, attempting, Attempted::Done(answer)).await;
        }
        let has_posts = unit.writes().posts > 0;
        let passing: Vec<Place> =
            attempting.place.iter().chain(attempting.also.iter().map(|(_, place)| place)).cloned().collect();
        let vote = Vote {
            deadline: Some(attempting.context.deadline),
            dedupe: attempting.request,
            outcome: remember(&value),
            on_voted: (!passing.is_empty())
                .then(|| OnDecided::new(move |_| passing.iter().for_each(Place::pass_on))),
            ..Vote::default()
        };
        match self.decide(unit, vote, attempting).await {
            Ok(commit) => {
                if has_posts {
                    (self.on_posts)();
                }
                Attempted::Done(Answer { value, position: Some(commit.position), is_replay: false })
            }
            Err(error) => self.refused(error, effects, attempting),
        }
    }

    /// A failed tree has discarded what it wrote; what it read it has read.
    async fn fail(&self, tree: Tree, failure: Failure, attempting: &Attempting) -> Attempted {
        let Tree { unit, effects, .. } = tree;
        self.confirm(unit, effects, attempting, Attempted::Failed(failure)).await
    }

    /// Gives an answer that changed nothing, once what it relies on is durable.
    async fn confirm(
        &self,
        unit: Unit,
        effects: EffectLog,
        attempting: &Attempting,
        answer: Attempted,
    ) -> Attempted {
        let Some(place) = attempting.place.as_ref().filter(|_| unit.is_unwritten()) else {
            return answer;
        };
        place.pass_on();
        match self.decide(unit, Vote::default(), attempting).await {
            Ok(_) => answer,
            Err(error) => self.refused(error, effects, attempting),
        }
    }

    async fn decide(
        &self,
        unit: Unit,
        vote: Vote,
        attempting: &Attempting,
    ) -> Result<telos_store::Commit, CommitError> {
        let place = attempting.place.clone();
        let on_failed = move |error: &CommitError| {
            if let (CommitError::Aborted, Some(place)) = (error, place) {
                place.line_up_again();
            }
        };
        ask(&self.store, unit, vote, on_failed).decided().await
    }

    fn refused(&self, error: CommitError, effects: EffectLog, attempting: &Attempting) -> Attempted {
        match error {
            CommitError::Conflict(contested) => {
                Attempted::Again(effects, conflict(attempting), contested_object(&contested))
            }
            CommitError::Aborted => Attempted::Again(effects, Failure::Busy(error.to_string()), None),
            CommitError::DuplicateRequest { outcome, .. } => {
                replayed(&outcome).map_or_else(Attempted::Failed, Attempted::Done)
            }
            error => Attempted::Failed(self.failure(error.into())),
        }
    }

    pub(crate) fn failure(&self, error: StoreFailure) -> Failure {
        match error {
            StoreFailure::Failure(failure) => failure,
            StoreFailure::Host(cause) => {
                let incident = self.surroundings.journal.next_incident();
                let attributes = Map::from_iter([("incident".into(), Value::from(incident))]);
                self.note(Severity::Error, "message.host-failed", cause.clone(), None, attributes);
                Failure::Host { cause, incident }
            }
        }
    }

    /// Writes a line of the host's own to the journal.
    pub(crate) fn note(
        &self,
        severity: Severity,
        event: &'static str,
        body: String,
        trace: Option<String>,
        attributes: Map<String, Value>,
    ) {
        self.surroundings.journal.record(JournalLine {
            severity,
            event,
            body,
            trace,
            plugin: None,
            attributes,
        });
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
        pace: Pace::default(),
    }
}

/// What an attempt tells of releases on probation that broke it.
fn struck(tree: &Tree, attempting: &Attempting) -> Vec<Struck> {
    let watched = tree.breakages.iter().filter(|(release, _)| release.tally.is_watched());
    let tell = |(release, breakage): &(Arc<Release>, String)| Struck {
        release: Arc::clone(release),
        breakage: breakage.clone(),
        receiver: attempting.receiver,
        selector: attempting.selector.clone(),
        arguments: attempting.arguments.clone(),
        context: RootContext { sink: None, ..attempting.context.again() },
        effects: tree.effects.unseen(),
    };
    watched.map(tell).collect()
}

fn contested_object(contested: &Contested) -> Option<ObjectId> {
    match contested {
        Contested::Object(object) | Contested::Vector { object, .. } => Some(*object),
        _ => None,
    }
}

fn conflict(attempting: &Attempting) -> Failure {
    Failure::Conflict { attempts: attempting.context.attempt }
}

fn remember(value: &Value) -> Vec<u8> {
    json!({ "value": value }).to_string().into_bytes()
}

/// What was answered before; nothing is left of an answer that was forgotten.
fn replayed(outcome: &[u8]) -> Result<Answer, Failure> {
    if outcome.is_empty() {
        return Err(Failure::AnswerForgotten);
    }
    let remembered: Value = serde_json::from_slice(outcome).unwrap_or_default();
    let value = remembered.get("value").cloned().unwrap_or_default();
    Ok(Answer { value, position: None, is_replay: true })
}
