//! State carried over while messages flow, for a release that an operator lets serve now.
//!
//! ```text
//! way back   some of the objects there and back again             nothing happened
//! stage      one commit, as an install makes it                   crash after: the next start carries the state over
//! carry      copies of every object, while the old release serves crash after: the same
//! close      no further root to the component goes in; those      nothing decided yet; past the deadline it opens
//!            inside finish, within a deadline, or are ended       again, and the old release serves on
//! delta      copies of what changed since, within a deadline      the same
//! decide     one commit: generation, release, seat, audit         crash after: the release serves
//! ```
//! Trees of other components may write the component's objects as well. Where they keep changing what was carried over,
//! the next attempts close every root out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telos_store::{ComponentId, DedupeKey, ReleaseRecord, ReleaseState, Toward};

use super::back::{descriptor, known};
use super::evolver::{Refusal, WayBack, Ways};
use super::{
    ATTEMPTS_MAX, Bound, Course, Evolution, EvolutionOutcome, Evolver, OnEvolving, Purpose, Trouble, is_again,
};
use crate::admission::{ClosedGate, Closing};
use crate::failure::Effect;
use crate::generation::{GenerationMode, Standing};
use crate::seat::Release;
use crate::swap::{SwapError, Swapped, Swapper, Swapping};
use crate::traffic::{Drained, micros};
use crate::turn::Turn;

/// How long roots inside may take to finish before the change is given up.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long roots that are ended take to be gone.
const RETIRE_TIME: Duration = Duration::from_secs(5);
/// How long messages are held, up to the deciding commit: as long as draining may take, and as much again for the delta.
pub(super) const HELD_TIME: Duration = Duration::from_secs(20);
/// Objects that are carried there and back before a release with a way back may serve.
const WAY_BACK_OBJECTS: usize = 256;
/// What to do when nobody knows what became of the commit that decides.
pub(super) const UNKNOWN_NEXT: &str = "look whether it happened, with `telos audit`, before asking again";
/// Passes over what changed while the old release serves, and what one may leave to the closed moment.
const PASSES_MAX: usize = 4;
const DELTA_OBJECTS: u64 = 64;

impl Swapper {
    /// Lets a kept release of a later generation serve now; `stage` makes it the one that waits, which a crash leaves
    /// to the next start. The request's number belongs to the commit that decides: asked again before it, the rest is
    /// done.
    ///
    /// # Errors
    /// [`SwapError::NoWayBack`], [`SwapError::Astray`], [`SwapError::Evolving`]; [`SwapError::NotEvolved`], whose effect
    /// says whether the old release serves on.
    pub(crate) async fn evolve_now(
        &self,
        record: ReleaseRecord,
        swapping: Swapping,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        let on_course = self.courses.begin(&record.component);
        let _on_course = on_course.ok_or_else(|| SwapError::Evolving(record.component.clone()))?;
        let mut evolution = Evolution::of(&record);
        self.look_at(&record, GenerationMode::Evolve, &mut evolution)?;
        self.demand_requirements(&Arc::new(self.load(&record)?))?;
        if !swapping.no_return {
            self.demand_way_back(&record, &evolution).await?;
            fail::fail_point!("kernel::way-back-tried");
        }
        self.stage_again(&record).await?;
        let record = self.waiting_for_start(&record.component)?.unwrap_or(record);
        let ended = self.carry_over_now(&record, &mut evolution, swapping, request).await;
        match ended {
            Ok(swapped) => Ok(swapped),
            Err(trouble) => {
                evolution.outcome = self.give_up(&record, &evolution, &trouble).await;
                let next = self.told_next(&record, &evolution, &trouble);
                if let Some(notice) = evolution.notice(&record) {
                    self.notices.put(&record.component, notice);
                }
                let (effect, cause) = (trouble.effect(), evolution.outcome.cause());
                let ReleaseRecord { component, version, .. } = record;
                Err(SwapError::NotEvolved { component, version, cause, next, effect })
            }
        }
    }

    async fn carry_over_now(
        &self,
        record: &ReleaseRecord,
        evolution: &mut Evolution,
        Swapping { force, no_return }: Swapping,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, Trouble> {
        let told: OnEvolving = Arc::new(|_| {});
        let purpose = Purpose::Raise { no_return, request };
        let mut course = Course::begin(self, record, purpose, evolution, &told)?;
        let ended = course.run_live(force).await;
        evolution.objects = course.progress.done();
        ended
    }

    fn told_next(&self, record: &ReleaseRecord, evolution: &Evolution, trouble: &Trouble) -> String {
        let ReleaseRecord { component, version, .. } = record;
        match &evolution.outcome {
            _ if trouble.effect() == Effect::Unknown => UNKNOWN_NEXT.into(),
            _ if matches!(trouble, Trouble::Overdue(Bound::Held)) => {
                "ask again when less of its state changes; \
                 the next start carries it over before messages are let in"
                    .into()
            }
            EvolutionOutcome::Failed(_) => {
                format!("mend {component} and give the new build a later version; the old release serves on")
            }
            EvolutionOutcome::Overtaken => format!("see `telos plugin info {component}`"),
            _ => format!(
                "ask again when it has less to do, or end its messages with `telos plugin swap {component} {version} \
                 --force`; the next start carries its state over otherwise"
            ),
        }
    }

    /// Refuses a release that cannot give its component's state back: as it was, and to every generation that its seat may
    /// have to go back to. Carries some of the objects there and back.
    ///
    /// # Errors
    /// [`SwapError::NoWayBack`], [`SwapError::Astray`]; [`SwapError::WayUntried`] when this machine is at fault.
    pub(super) async fn demand_way_back(
        &self,
        record: &ReleaseRecord,
        evolution: &Evolution,
    ) -> Result<(), SwapError> {
        let (component, to) = (&record.component, evolution.to);
        let evolver = Evolver::new(self.pure(record)?);
        let mut ways = Ways { to, back_to: self.ways_back(record, evolution)?, methods: BTreeSet::new() };
        let objects = self.store.unevolved(component, Toward::Up(to), None, WAY_BACK_OBJECTS)?;
        let root = self.root(component)?.map(|(root, _)| root);
        for object in &objects {
            ways.methods = match root == Some(object.id) {
                true => selectors(record)?,
                false => BTreeSet::new(),
            };
            let object_told = super::display_name(&mut self.store.begin(), object.id);
            judge_way(record, &object_told, evolver.way_back(object, &ways).await)?;
        }
        if objects.is_empty() {
            // Objects that are made from now on will have to go back as well.
            judge_way(record, "of no slots", evolver.knows_way_back(&ways).await)?;
        }
        Ok(())
    }

    /// The generations that a release's seat may have to go back to: the one in force, to which an operator goes back, and
    /// that of the release to which the seat returns by itself. None where there is nothing to go back to.
    fn ways_back(&self, record: &ReleaseRecord, evolution: &Evolution) -> Result<BTreeSet<u32>, SwapError> {
        let Some(seat) = self.store.seat(&record.component)? else { return Ok(BTreeSet::new()) };
        let returns_to = self.returns_to(record.digest, ReleaseState::Probation, Some(&seat))?;
        let returns_to =
            returns_to.map(|digest| self.store.release(&record.component, &digest)).transpose()?;
        let returns_to = returns_to.flatten().map(|record| known(&record)).transpose()?;
        let back_to = returns_to.into_iter().chain([evolution.from]);
        Ok(back_to.filter(|generation| *generation < evolution.to).collect())
    }

    /// Whether a release is of a later generation than its component's state, and has what it needs to serve now.
    pub(crate) fn evolves_now(&self, record: &ReleaseRecord) -> Result<bool, SwapError> {
        let standing = crate::generation::standing(known(record)?, self.in_force(&record.component)?);
        let has_grants = self.grants.missing(&record.component, &record.imports).is_empty();
        Ok(matches!(standing, Standing::Evolves(_)) && has_grants)
    }
}

impl Course<'_> {
    /// Carries everything while the old release serves, and then decides while messages are held.
    pub(super) async fn run_live(&mut self, force: bool) -> Result<Swapped, Trouble> {
        let ended = self.run_attempts(force).await;
        if ended.is_err()
            && let Some(line) = self.toll.given_up(&self.record.component, self.swapper.traffic.read())
        {
            self.swapper.journal.record(line);
        }
        ended
    }

    async fn run_attempts(&mut self, force: bool) -> Result<Swapped, Trouble> {
        let release = Arc::new(self.swapper.load(self.record)?);
        for _ in 0..PASSES_MAX {
            let before = self.progress.done();
            self.carry().await?;
            if self.progress.done() - before <= DELTA_OBJECTS {
                break;
            }
        }
        for attempt in 0..ATTEMPTS_MAX {
            match self.attempt_closed(&release, closing(&self.record.component, attempt), force).await {
                Err(Trouble::Other(SwapError::Commit(error))) if is_again(&error) => {}
                Err(trouble) => return self.fate(trouble),
                Ok(swapped) => return Ok(swapped),
            }
        }
        let cause = format!("its objects changed each of {ATTEMPTS_MAX} times");
        Err(Trouble::Other(SwapError::Store(cause)))
    }

    async fn attempt_closed(
        &mut self,
        release: &Arc<Release>,
        closing: Closing,
        force: bool,
    ) -> Result<Swapped, Trouble> {
        let (record, turn) = self.turn(release).await?;
        if !self.is_fall() {
            self.swapper.demand_lifted(release)?;
            self.swapper.demand_requirements(release)?;
        }
        let closed = self.swapper.admission.close(closing);
        self.toll.close();
        self.held_by = Some(Instant::now() + held_time());
        let ended = self.decide_closed(&closed, force, (record, release, turn)).await;
        drop(closed);
        self.toll.reopen();
        self.held_by = None;
        Ok(Swapped { pause_us: micros(self.toll.closed()), ..ended? })
    }

    async fn decide_closed(
        &mut self,
        closed: &ClosedGate,
        force: bool,
        (record, release, turn): (ReleaseRecord, &Arc<Release>, Turn<'_>),
    ) -> Result<Swapped, Trouble> {
        fail::fail_point!("kernel::closed");
        let inside = drain(closed, force).await;
        self.toll.add(inside);
        if closed.inside() > 0 {
            return Err(Trouble::Undrained);
        }
        fail::fail_point!("kernel::drained");
        self.carry().await?;
        fail::fail_point!("kernel::delta-carried");
        self.decide(record, release, turn).await
    }

    /// Whether the seat returns by itself.
    fn is_fall(&self) -> bool {
        matches!(&self.purpose, Purpose::Return(back) if back.ousted.is_some())
    }
}

/// Waits until everyone inside is out, or time is up. With `force`, those who are not in time are ended. What became of
/// those that are out.
async fn drain(closed: &ClosedGate, force: bool) -> Drained {
    let inside = closed.inside();
    if closed.drained(DRAIN_TIME).await {
        return Drained { drained: inside, retired: 0 };
    }
    let late = closed.inside();
    let drained = inside.saturating_sub(late);
    if !force {
        return Drained { drained, retired: 0 };
    }
    closed.retire();
    closed.drained(RETIRE_TIME).await;
    Drained { drained, retired: late.saturating_sub(closed.inside()) }
}

fn held_time() -> Duration {
    fail::fail_point!("kernel::held-time", |_| Duration::from_millis(100));
    HELD_TIME
}

/// What trying a way back means for a release.
fn judge_way(record: &ReleaseRecord, object: &str, way: Result<WayBack, Refusal>) -> Result<(), SwapError> {
    let (component, version, object) = (record.component.clone(), record.version.clone(), object.to_owned());
    match way {
        Ok(WayBack::Leads) => Ok(()),
        Ok(WayBack::Unknown { from, to }) => Err(SwapError::NoWayBack { component, version, from, to }),
        Ok(WayBack::Astray(cause)) => Err(SwapError::Astray { component, version, object, cause }),
        Err(refusal) if refusal.is_of_release() => {
            Err(SwapError::Astray { component, version, object, cause: refusal.to_string() })
        }
        Err(refusal) => Err(SwapError::WayUntried { component, version, object, cause: refusal.to_string() }),
    }
}

fn selectors(record: &ReleaseRecord) -> Result<BTreeSet<String>, SwapError> {
    Ok(descriptor(record)?.selectors.into_keys().collect())
}

fn closing(component: &ComponentId, attempt: u32) -> Closing {
    match attempt {
        0 | 1 => Closing::Component(component.clone()),
        _ => Closing::All,
    }
}
