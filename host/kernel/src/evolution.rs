//! State carried to another generation: here for staged releases, when a host starts and before it admits messages; in
//! `live` while messages flow, and in `back` to an earlier one. All three are a `Course`.
//!
//! ```text
//! carry     an evolved copy of every object, in batches       crash after: the next start drops them and begins anew
//! decide    one commit: generation, release, seat,             crash after: the release serves
//!           root object, audit
//! settle    copies become ordinary rows, by the upkeep         nobody sees a difference
//! give up   copies dropped, one audit row says why             what served serves
//! ```
//! Every object goes from its own generation to the release's in one call of a fresh instance that reaches nothing.
//! What changed since its copy was made is carried again, and whoever decides anew who serves has the last word, so
//! nothing here needs the host to be quiet; that it is makes the decision come at the first try. How many objects there
//! are is no bound: how far it is shows every second, and whoever stops the host then has changed nothing. A course
//! begins without copies, whoever left some: they do not say whose code made them.
//!
//! Never here: which generation is in force (`generation`), what evolving may use (`pure`).

mod back;
mod evolver;
mod live;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use telos_store::{
    CommitError, ComponentId, DedupeKey, Digest, Fault, Json, Object, ObjectId, ReadError, ReleaseRecord,
    ReleaseState, SeatRecord, Toward, Unit, Vote, WriteError,
};

use crate::change::Settled;
use crate::decide::decide;
use crate::decision::{Decision, Reason};
use crate::descriptor::Descriptor;
use crate::failure::Effect;
use crate::generation::{GenerationMode, Standing, has_served, standing};
use crate::notice::GENERATION_FAILED;
use crate::objects::display_name;
use crate::raise::{CarriedRoot, Raise};
use crate::root_object;
use crate::seams::Severity;
use crate::seat::Release;
use crate::swap::{SwapError, Swapped, Swapper};
use crate::traffic::Toll;
use crate::turn::Turn;

pub(crate) use back::{Back, NotBack};
pub(crate) use evolver::Evolver;
use report::Progress;

pub use report::{Evolution, EvolutionOutcome, Evolving, OnEvolving};

/// Objects of one commit of copies: enough that the disk is not what takes the time, few enough that others wait for
/// milliseconds.
const BATCH: usize = 256;
/// Bytes of copies that wait in memory for their commit; the last may pass it.
const BATCH_BYTES: usize = 4 << 20;
/// How often a generation is decided anew because something changed meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// Why state was not carried over.
pub(crate) enum Trouble {
    /// An object was not carried over, by the release's fault or for want of time.
    Object { object: ObjectId, from: u32, cause: String, is_of_release: bool },
    /// Somebody decided anew who serves.
    Overtaken,
    /// Messages to the component did not end in time.
    Undrained,
    /// It took too long.
    Overdue(Bound),
    /// Something else was in the way.
    Other(SwapError),
}

/// Of what there was too much for the time it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Of what changed while messages to the component were held.
    Held,
    /// Of everything.
    Whole,
}

/// The value slots that objects have in another generation.
type Carried<'a> = Vec<(&'a Object, BTreeMap<String, Json>)>;

impl Swapper {
    /// Carries state over for every staged release that has its grants, and lets it serve; see [`GenerationMode`]. One
    /// that fails leaves everything as it was, and one of which something cannot be read is left to the next start.
    ///
    /// # Errors
    /// When the releases cannot be listed.
    pub(crate) async fn raise_generations(
        &self,
        mode: GenerationMode,
        told: OnEvolving,
    ) -> Result<Vec<Evolution>, SwapError> {
        let mut evolutions = Vec::new();
        for record in self.store.releases(None)? {
            if record.state == ReleaseState::Staged {
                evolutions.push(self.evolve(&record, mode, &told).await);
            }
        }
        Ok(evolutions)
    }

    async fn evolve(&self, record: &ReleaseRecord, mode: GenerationMode, told: &OnEvolving) -> Evolution {
        let mut evolution = Evolution::of(record);
        evolution.outcome = match self.look_at(record, mode, &mut evolution) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => self.carry_over(record, mode, &mut evolution, told).await,
            Err(error) => {
                evolution.record(&*self.journal, Severity::Error, GENERATION_FAILED, error.to_string());
                EvolutionOutcome::Hindered(error.to_string())
            }
        };
        if let Some(notice) = evolution.notice(record) {
            self.notices.put(&record.component, notice);
        }
        evolution
    }

    /// Learns between which generations a release stands; none: its state is to be carried over.
    fn look_at(
        &self,
        record: &ReleaseRecord,
        mode: GenerationMode,
        evolution: &mut Evolution,
    ) -> Result<Option<EvolutionOutcome>, SwapError> {
        let from = self.in_force(&record.component)?;
        evolution.from = from.unwrap_or_default();
        let unreadable = |error| SwapError::Store(format!("its descriptor cannot be read: {error}"));
        evolution.to = Descriptor::of(record).map_err(unreadable)?.generation;
        self.reason_to_wait(record, mode, (from, evolution.to))
    }

    fn reason_to_wait(
        &self,
        record: &ReleaseRecord,
        mode: GenerationMode,
        (from, to): (Option<u32>, u32),
    ) -> Result<Option<EvolutionOutcome>, SwapError> {
        let standing = standing(to, from);
        if let Standing::Outdated(_) = standing {
            // Its notice says what is in force; an operator decides.
            return Ok(Some(EvolutionOutcome::Waits));
        }
        if !self.grants.missing(&record.component, &record.imports).is_empty() {
            return Ok(Some(EvolutionOutcome::NeedsGrant));
        }
        // Where the state is in its generation already, nothing of an earlier one serves.
        let Standing::Evolves(from) = standing else { return Ok(None) };
        let may_wait = mode == GenerationMode::Minimum && self.can_be_served(&record.component, from)?;
        Ok(may_wait.then_some(EvolutionOutcome::Waits))
    }

    /// Whether a release serves a component, or one is kept that serves this generation.
    fn can_be_served(&self, component: &ComponentId, generation: u32) -> Result<bool, SwapError> {
        if self.seats.current().releases.contains_key(component) {
            return Ok(true);
        }
        let could = |record: &ReleaseRecord| {
            let knows = Descriptor::of(record).is_ok_and(|known| known.generation == generation);
            knows && has_served(record) && self.load(record).is_ok()
        };
        Ok(self.store.releases(Some(component))?.iter().any(could))
    }

    async fn carry_over(
        &self,
        record: &ReleaseRecord,
        mode: GenerationMode,
        evolution: &mut Evolution,
        told: &OnEvolving,
    ) -> EvolutionOutcome {
        let ended = match self.courses.begin(&record.component) {
            Some(_on_course) => self.run_course(record, mode, evolution, told).await,
            None => Err(SwapError::Evolving(record.component.clone()).into()),
        };
        match (ended, mode) {
            (Ok(()), GenerationMode::Check) => EvolutionOutcome::Passes,
            (Ok(()), _) => EvolutionOutcome::Raised,
            (Err(trouble), GenerationMode::Check) => {
                EvolutionOutcome::WouldFail(self.told(&trouble, evolution))
            }
            (Err(trouble), _) => self.give_up(record, evolution, &trouble).await,
        }
    }

    async fn run_course(
        &self,
        record: &ReleaseRecord,
        mode: GenerationMode,
        evolution: &mut Evolution,
        told: &OnEvolving,
    ) -> Result<(), Trouble> {
        let purpose = match mode {
            GenerationMode::Check => Purpose::Rehearse,
            _ => Purpose::Raise { no_return: self.has_no_return(record, evolution).await?, request: None },
        };
        let mut course = Course::begin(self, record, purpose, evolution, told)?;
        let ended = course.run().await;
        evolution.objects = course.progress.done();
        ended
    }

    /// Whether a release, once its state is carried over, could not give it back: nobody is there to say so when a host
    /// starts, so that it serves all the same.
    ///
    /// # Errors
    /// When that cannot be learned now.
    async fn has_no_return(&self, record: &ReleaseRecord, evolution: &Evolution) -> Result<bool, SwapError> {
        match self.demand_way_back(record, evolution).await {
            Ok(()) => Ok(false),
            Err(error @ (SwapError::NoWayBack { .. } | SwapError::Astray { .. })) => {
                if self.seat(&record.component).is_ok() {
                    evolution.record(
                        &*self.journal,
                        Severity::Warn,
                        "generation.no-return",
                        error.to_string(),
                    );
                }
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves everything as it was, and says why. What cannot even be written down is tried again by the next start.
    async fn give_up(
        &self,
        record: &ReleaseRecord,
        evolution: &Evolution,
        trouble: &Trouble,
    ) -> EvolutionOutcome {
        let cause = self.told(trouble, evolution);
        // It may be the disk that failed.
        self.wait_for_store().await;
        let dropped = self.store.drop_shadows(&record.component).map(drop).map_err(SwapError::from);
        let written = self.write_failure(record, evolution, trouble, &cause).await;
        let is_overtaken = matches!(written, Ok(false));
        if !is_overtaken {
            evolution.record(&*self.journal, Severity::Error, GENERATION_FAILED, cause.clone());
        }
        for error in [dropped.err(), written.err()].into_iter().flatten() {
            let event = "generation.failure-unwritten";
            evolution.record(&*self.journal, Severity::Error, event, error.to_string());
        }
        match trouble.is_of_release() {
            _ if is_overtaken => EvolutionOutcome::Overtaken,
            true => EvolutionOutcome::Failed(cause),
            false => EvolutionOutcome::Hindered(cause),
        }
    }

    /// Decides what a failure means, unless somebody has decided anew who serves: then it answers false.
    async fn write_failure(
        &self,
        record: &ReleaseRecord,
        evolution: &Evolution,
        trouble: &Trouble,
        cause: &str,
    ) -> Result<bool, SwapError> {
        let _turn = self.turn.lock().await;
        let Some(record) = self.still_staged(record)? else { return Ok(false) };
        let (is_final, object) = (trouble.is_of_release(), trouble.object());
        self.change(None, |unit| {
            if is_final {
                unit.put_release(ReleaseRecord { state: ReleaseState::Returned, ..record.clone() })?;
            }
            let detail = json!({
                "version": record.version, "digest": record.digest, "object": object,
                "from": evolution.from, "to": evolution.to, "cause": cause, "tried_again": !is_final,
            });
            unit.audit(GENERATION_FAILED, record.component.as_str(), detail)?;
            Ok((Settled::default(), None))
        })
        .await?;
        Ok(true)
    }

    /// What is recorded of a release now, while it is the one that waits for a start.
    fn still_staged(&self, record: &ReleaseRecord) -> Result<Option<ReleaseRecord>, SwapError> {
        let waiting = self.waiting_for_start(&record.component)?;
        Ok(waiting.filter(|waiting| waiting.digest == record.digest))
    }

    fn told(&self, trouble: &Trouble, evolution: &Evolution) -> String {
        match trouble {
            Trouble::Object { object, from, cause, .. } => {
                let name = display_name(&mut self.store.begin(), *object);
                format!(
                    "object `{name}` cannot be carried from generation {from} to {}: {cause}",
                    evolution.to
                )
            }
            Trouble::Overtaken => "somebody decided anew who serves".into(),
            Trouble::Undrained => "messages to it did not end in time".into(),
            Trouble::Overdue(Bound::Held) => format!(
                "what changed meanwhile was not carried over within the {} s for which messages to it are held",
                live::HELD_TIME.as_secs()
            ),
            Trouble::Overdue(Bound::Whole) => "its objects were not carried over in time".into(),
            Trouble::Other(error) if evolution.from == evolution.to => {
                format!("it cannot serve yet: {error}")
            }
            Trouble::Other(error) => {
                let Evolution { from, to, .. } = evolution;
                format!("its state cannot be carried from generation {from} to {to}: {error}")
            }
        }
    }
}

/// One release on its way to serve.
struct Course<'a> {
    swapper: &'a Swapper,
    record: &'a ReleaseRecord,
    /// The generation in force.
    from: u32,
    toward: Toward,
    purpose: Purpose,
    evolver: Evolver,
    progress: Progress,
    toll: Toll,
    /// Until when everything must be carried, if anybody waits for that.
    whole_by: Option<Instant>,
    /// Until when what is carried now must be, while messages are held.
    held_by: Option<Instant>,
}

/// Who gives the seat up, and why.
struct Return {
    carrier: Digest,
    reason: Reason,
    ousted: Option<ReleaseRecord>,
    request: Option<DedupeKey>,
}

/// What a release is to serve for.
enum Purpose {
    /// It was staged. With `no_return`, the seat does not go back to what serves now. `request` asks for it now.
    Raise { no_return: bool, request: Option<DedupeKey> },
    /// Everything is tried as for a staged release, and nothing kept.
    Rehearse,
    /// A release of a later generation, which serves, gives its seat up.
    Return(Box<Return>),
}

impl<'a> Course<'a> {
    /// Whoever begins one is on course; see [`Courses`](crate::courses::Courses).
    fn begin(
        swapper: &'a Swapper,
        record: &'a ReleaseRecord,
        purpose: Purpose,
        evolution: &Evolution,
        told: &OnEvolving,
    ) -> Result<Self, Trouble> {
        // State that is in its generation already has nothing left behind.
        let (from, toward) = (evolution.from, Toward::Up(evolution.to));
        let evolver = Evolver::new(swapper.pure(record)?);
        Self::new(swapper, record, (from, toward), evolver, purpose, told, evolution)
    }

    fn new(
        swapper: &'a Swapper,
        record: &'a ReleaseRecord,
        (from, toward): (u32, Toward),
        evolver: Evolver,
        purpose: Purpose,
        told: &OnEvolving,
        evolution: &Evolution,
    ) -> Result<Self, Trouble> {
        if !matches!(purpose, Purpose::Rehearse) {
            let dropped = swapper.store.drop_shadows(&record.component);
            dropped.map_err(|error| SwapError::Store(error.to_string()))?;
        }
        let total = count(swapper, &record.component, toward)?;
        let progress = Progress::begin(evolution, total, told, &swapper.journal);
        let (toll, whole_by, held_by) = (swapper.traffic.toll(), None, None);
        Ok(Self { swapper, record, from, toward, purpose, evolver, progress, toll, whole_by, held_by })
    }

    async fn run(&mut self) -> Result<(), Trouble> {
        let release = Arc::new(self.swapper.load(self.record)?);
        match self.purpose {
            Purpose::Rehearse => self.rehearse(&release).await,
            _ => self.raise(&release).await,
        }
    }

    async fn raise(&mut self, release: &Arc<Release>) -> Result<(), Trouble> {
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(release).await {
                Err(Trouble::Other(SwapError::Commit(error))) if is_again(&error) => {}
                Err(trouble) => return self.fate(trouble).map(drop),
                Ok(()) => return Ok(()),
            }
        }
        let cause = format!("its objects changed each of {ATTEMPTS_MAX} times");
        Err(Trouble::Other(SwapError::Store(cause)))
    }

    async fn attempt(&mut self, release: &Arc<Release>) -> Result<(), Trouble> {
        self.carry().await?;
        self.put_in_force(release).await
    }

    /// Tries what an attempt does, and what its deciding commit would refuse.
    async fn rehearse(&mut self, release: &Release) -> Result<(), Trouble> {
        self.carry().await?;
        let root = self.carried_root(release).await?;
        let mut unit = self.swapper.store.begin_on_voted();
        if let Some(root) = root {
            root.write(&mut unit, self.toward.generation())?;
        }
        root_object::seat(&mut unit, release).map_err(SwapError::from)?;
        Ok(())
    }

    /// What became of a decision that nobody heard of: made after all, or not, or the same trouble when the store, which
    /// knows, does not take writes yet. Any other trouble is what it is.
    fn fate(&self, trouble: Trouble) -> Result<Swapped, Trouble> {
        let Trouble::Other(SwapError::Commit(CommitError::Unavailable(cause))) = &trouble else {
            return Err(trouble);
        };
        let store = &self.swapper.store;
        if store.read_only_cause().is_some() {
            return Err(trouble);
        }
        let serves = |seat: &SeatRecord| seat.digest == self.record.digest;
        match store.seat(&self.record.component) {
            Ok(seat) if seat.as_ref().is_some_and(serves) => Ok(self.swapper.served(self.record, &self.toll)),
            Ok(_) => Err(SwapError::Store(cause.to_string()).into()),
            Err(_) => Err(trouble),
        }
    }

    /// Carries over what is left behind and has no copy in the generation.
    async fn carry(&mut self) -> Result<(), Trouble> {
        fail::fail_point!("kernel::carrying");
        let (store, component) = (self.swapper.store.clone(), &self.record.component);
        let mut after = None;
        loop {
            let listed = store.unevolved(component, self.toward, after, BATCH).map_err(SwapError::from)?;
            let Some(last) = listed.last() else { return Ok(()) };
            after = Some(last.id);
            self.carry_all(&listed).await?;
        }
    }

    /// Carries objects over. What they become is kept in memory until there is enough of it, so that no unit is open
    /// while a guest runs.
    async fn carry_all<'o>(&mut self, objects: impl IntoIterator<Item = &'o Object>) -> Result<(), Trouble> {
        let (mut carried, mut bytes) = (Carried::new(), 0);
        for object in objects {
            let slots = self.evolved(object).await?;
            bytes += slots.iter().map(|(name, value)| name.len() + value.as_str().len()).sum::<usize>();
            carried.push((object, slots));
            self.progress.advance();
            if bytes >= BATCH_BYTES {
                self.keep_all(std::mem::take(&mut carried)).await?;
                bytes = 0;
            }
        }
        self.keep_all(carried).await?;
        self.progress.tell();
        Ok(())
    }

    async fn keep_all(&self, carried: Carried<'_>) -> Result<(), Trouble> {
        let mut unit = self.swapper.store.begin();
        for (object, slots) in carried {
            unit = self.put(unit, object, slots).await?;
        }
        if unit.is_unwritten() { Ok(()) } else { self.keep(unit).await }
    }

    async fn evolved(&mut self, object: &Object) -> Result<BTreeMap<String, Json>, Trouble> {
        let bound = self.bound();
        let carrying = self.evolver.carry(object, self.toward.generation());
        let carried = match bound {
            None => carrying.await,
            Some((bound, by)) if by <= Instant::now() => return Err(Trouble::Overdue(bound)),
            Some((bound, by)) => {
                tokio::time::timeout_at(by.into(), carrying).await.map_err(|_| Trouble::Overdue(bound))?
            }
        };
        carried.map_err(|refusal| Trouble::of(object, refusal.to_string(), refusal.is_of_release()))
    }

    /// What must be carried first, and until when.
    fn bound(&self) -> Option<(Bound, Instant)> {
        let held = self.held_by.map(|by| (Bound::Held, by));
        let whole = self.whole_by.map(|by| (Bound::Whole, by));
        held.into_iter().chain(whole).min_by_key(|(_, by)| *by)
    }

    /// Adds a copy to a unit; to another one, when the unit is full.
    async fn put(
        &self,
        mut unit: Unit,
        object: &Object,
        slots: BTreeMap<String, Json>,
    ) -> Result<Unit, Trouble> {
        let to = self.toward.generation();
        let full = match unit.put_shadow(object.id, object.position, to, slots.clone()) {
            Err(WriteError::TooLarge(_)) if !unit.is_unwritten() => unit,
            // Gone meanwhile.
            Err(WriteError::Read(ReadError::NoSuchObject(_))) => return Ok(unit),
            put => return refuse(object, put).map(|()| unit),
        };
        self.keep(full).await?;
        let mut unit = self.swapper.store.begin();
        refuse(object, unit.put_shadow(object.id, object.position, to, slots)).map(|()| unit)
    }

    async fn keep(&self, unit: Unit) -> Result<(), Trouble> {
        if matches!(self.purpose, Purpose::Rehearse) {
            return Ok(());
        }
        match decide(&self.swapper.store, unit, Vote::default()).await {
            Ok(_) => Ok(()),
            // Copies are no effect: whether they were kept, nobody needs to know.
            Err(CommitError::Unavailable(cause)) => Err(SwapError::Store(cause.to_string()).into()),
            Err(error) => Err(SwapError::from(error).into()),
        }
    }

    async fn put_in_force(&mut self, release: &Arc<Release>) -> Result<(), Trouble> {
        let (record, turn) = self.turn(release).await?;
        self.decide(record, release, turn).await.map(drop)
    }

    /// The turn to decide, while nobody has decided anew who serves.
    async fn turn(&self, release: &Arc<Release>) -> Result<(ReleaseRecord, Turn<'a>), Trouble> {
        let swapper = self.swapper;
        let still_to_serve = || {
            let root = swapper.changing_root(release)?;
            Ok((self.still_to_serve()?, Vec::from_iter(root)))
        };
        let (still, turn) = swapper.in_turn(still_to_serve).await?;
        Ok((still.ok_or(Trouble::Overtaken)?, turn))
    }

    fn still_to_serve(&self) -> Result<Option<ReleaseRecord>, SwapError> {
        let Purpose::Return(back) = &self.purpose else {
            return self.swapper.still_staged(self.record);
        };
        let seat = self.swapper.store.seat(&self.record.component)?;
        let carries = |seat: SeatRecord| seat.digest == back.carrier;
        let may_return = back.ousted.is_none()
            || self.swapper.on_probation(&self.record.component, back.carrier)?.is_some();
        Ok((may_return && seat.is_some_and(carries)).then(|| self.record.clone()))
    }

    async fn decide(
        &mut self,
        record: ReleaseRecord,
        release: &Arc<Release>,
        turn: Turn<'_>,
    ) -> Result<Swapped, Trouble> {
        let (from, to) = (self.from, self.toward.generation());
        let raise = match from == to {
            false => {
                Some(Raise { from, to, evolver: self.carrier(), root: self.carried_root(release).await? })
            }
            // A script put it in force.
            true => None,
        };
        Ok(self.swapper.activate(self.decision(record, release), raise, turn, &self.toll).await?)
    }

    fn decision(&self, record: ReleaseRecord, release: &Arc<Release>) -> Decision {
        let (reason, ousted, request, no_return) = match &self.purpose {
            Purpose::Return(back) => (back.reason, back.ousted.clone(), back.request, false),
            Purpose::Raise { no_return, request } => (Reason::Awaited, None, *request, *no_return),
            Purpose::Rehearse => (Reason::Awaited, None, None, false),
        };
        Decision {
            release: Arc::clone(release),
            record,
            granting: BTreeSet::new(),
            missing: Vec::new(),
            consumed: None,
            reason,
            ousted,
            no_return,
            lesson: None,
            request,
        }
    }

    /// Whose code carries the state.
    fn carrier(&self) -> Digest {
        match &self.purpose {
            Purpose::Return(back) => back.carrier,
            Purpose::Raise { .. } | Purpose::Rehearse => self.record.digest,
        }
    }

    /// The root object as it will be, when the deciding commit changes its method slots too.
    async fn carried_root(&mut self, release: &Release) -> Result<Option<CarriedRoot>, Trouble> {
        let Some((root, _)) = self.swapper.changing_root(release)? else { return Ok(None) };
        let before = self.swapper.store.begin_on_voted().object(root).map_err(SwapError::from)?;
        let is_to_carry = |object: &Arc<Object>| {
            object.owner == release.component && self.toward.leaves_behind(object.generation)
        };
        let Some(before) = before.filter(is_to_carry) else { return Ok(None) };
        let slots = self.evolved(&before).await?;
        Ok(Some(CarriedRoot { before, slots }))
    }
}

impl Trouble {
    fn of(object: &Object, cause: String, is_of_release: bool) -> Self {
        Self::Object { object: object.id, from: object.generation, cause, is_of_release }
    }

    fn object(&self) -> Option<&ObjectId> {
        match self {
            Self::Object { object, .. } => Some(object),
            Self::Overtaken | Self::Undrained | Self::Overdue(_) | Self::Other(_) => None,
        }
    }

    /// Whether trying again can only help with another release, or other state.
    fn is_of_release(&self) -> bool {
        match self {
            Self::Object { is_of_release, .. } => *is_of_release,
            Self::Overtaken | Self::Undrained | Self::Overdue(_) => false,
            Self::Other(SwapError::RootObject(error)) => error.fault() == Fault::Guest,
            Self::Other(error) => error.is_of_the_bytes(),
        }
    }

    /// Whether the release may serve all the same: only when nobody knows what became of the deciding commit.
    fn effect(&self) -> Effect {
        match self {
            Self::Other(error) => error.effect(),
            _ => Effect::None,
        }
    }
}

impl From<SwapError> for Trouble {
    fn from(error: SwapError) -> Self {
        Self::Other(error)
    }
}

/// A copy that breaks a bound is the release's fault; that the store cannot be read is not.
fn refuse(object: &Object, put: Result<(), WriteError>) -> Result<(), Trouble> {
    put.map_err(|error| match error.fault() {
        Fault::Guest => Trouble::of(object, format!("what it made of it cannot be stored: {error}"), true),
        _ => Trouble::Other(error.into()),
    })
}

/// What else changed meanwhile is looked at again.
fn is_again(error: &CommitError) -> bool {
    matches!(error, CommitError::Conflict(_) | CommitError::Aborted | CommitError::Unevolved { .. })
}

/// Objects of a component that a generation leaves behind.
fn count(swapper: &Swapper, component: &ComponentId, toward: Toward) -> Result<u64, SwapError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let listed = swapper.store.unevolved(component, toward, after, usize::MAX)?;
        let Some(last) = listed.last() else { return Ok(count) };
        after = Some(last.id);
        count += listed.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::root_object::RootObjectError;

    #[test]
    fn what_cannot_be_read_of_a_root_object_is_no_releases_fault() {
        let trouble = |error: RootObjectError| Trouble::Other(error.into());
        let read = |cause: ReadError| trouble(RootObjectError::Write(cause.into()));
        let (oldest, snapshot) = (telos_store::Position::new(2), telos_store::Position::NONE);
        assert!(!read(ReadError::SnapshotTooOld { snapshot, oldest }).is_of_release());
        let (component, selector) = (ComponentId::new("a").unwrap(), "read".into());
        assert!(trouble(RootObjectError::SlotTaken { component, selector }).is_of_release());
    }
}
