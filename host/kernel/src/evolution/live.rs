//! State carried over while messages flow, for a release that an operator lets serve now.
//!
//! ```text
//! way back   some of the objects there and back again             nothing happened
//! stage      one commit, as an install makes it                   crash after: the next start carries the state over
//! carry      copies of every object, while the old release serves crash after: the same
//! close      no further root to the component goes in; those      nothing decided yet; past the deadline it opens
//!            inside finish, within a deadline, or are ended       again, and the old release serves on
//! delta      copies of what changed since
//! decide     one commit: generation, release, seat, audit         crash after: the release serves
//! ```
//! Trees of other components may write the component's objects as well. Where they keep changing what was carried over,
//! the next attempts close every root out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use telos_store::{ComponentId, DedupeKey, ReleaseRecord, Toward};

use super::evolver::WayBack;
use super::{ATTEMPTS_MAX, Course, Evolution, EvolutionOutcome, OnEvolving, Purpose, Trouble, is_again};
use crate::admission::{ClosedGate, Closing};
use crate::descriptor::Descriptor;
use crate::generation::{GenerationMode, Standing};
use crate::seat::Release;
use crate::swap::{SwapError, Swapped, Swapper, Swapping};
use crate::traffic::Drained;

/// How long roots inside may take to finish before the change is given up.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long roots that are ended take to be gone.
const RETIRE_TIME: Duration = Duration::from_secs(5);
/// Objects that are carried there and back before a release with a way back may serve.
const WAY_BACK_OBJECTS: usize = 256;
/// Passes over what changed while the old release serves, and what one may leave to the closed moment.
const PASSES_MAX: usize = 4;
const DELTA_OBJECTS: u64 = 64;

impl Swapper {
    /// Lets a kept release of a later generation serve now; `stage` makes it the one that waits, which a crash leaves
    /// to the next start.
    ///
    /// # Errors
    /// [`SwapError::NoWayBack`], [`SwapError::Astray`], [`SwapError::NotEvolved`]; the old release serves on.
    pub(crate) async fn evolve_now(
        &self,
        record: ReleaseRecord,
        swapping: Swapping,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        let mut evolution = Evolution::of(&record);
        self.look_at(&record, GenerationMode::Evolve, &mut evolution)?;
        self.demand_requirements(&Arc::new(self.load(&record)?))?;
        if !swapping.no_return {
            self.demand_way_back(&record, &evolution).await?;
            fail::fail_point!("kernel::way-back-tried");
        }
        self.stage_again(&record, request).await?;
        let record = self.waiting_for_start(&record.component)?.unwrap_or(record);
        let ended = self.carry_over_now(&record, &mut evolution, swapping).await;
        match ended {
            Ok(swapped) => Ok(swapped),
            Err(trouble) => {
                evolution.outcome = self.give_up(&record, &evolution, &trouble).await;
                let next = self.told_next(&record, &evolution);
                if let Some(notice) = evolution.notice(&record) {
                    self.notices.put(&record.component, notice);
                }
                let ReleaseRecord { component, version, .. } = record;
                Err(SwapError::NotEvolved { component, version, cause: evolution.outcome.cause(), next })
            }
        }
    }

    async fn carry_over_now(
        &self,
        record: &ReleaseRecord,
        evolution: &mut Evolution,
        Swapping { force, no_return }: Swapping,
    ) -> Result<Swapped, Trouble> {
        let told: OnEvolving = Arc::new(|_| {});
        let mut course = Course::begin(self, record, GenerationMode::Evolve, evolution, &told).await?;
        course.purpose = Purpose::Raise { no_return };
        let ended = course.run_live(force).await;
        evolution.objects = course.progress.done();
        ended
    }

    fn told_next(&self, record: &ReleaseRecord, evolution: &Evolution) -> String {
        let ReleaseRecord { component, version, .. } = record;
        match &evolution.outcome {
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

    /// Refuses a release that cannot give its component's state back as it was.
    pub(super) async fn demand_way_back(
        &self,
        record: &ReleaseRecord,
        evolution: &Evolution,
    ) -> Result<(), SwapError> {
        let ReleaseRecord { component, version, .. } = record;
        let evolver = super::Evolver::new(self.pure(record)?);
        let objects = self.store.unevolved(component, Toward::Up(evolution.to), None, WAY_BACK_OBJECTS)?;
        for object in &objects {
            let way = evolver.way_back(object, evolution.to).await;
            let refused = |cause: String| SwapError::Astray {
                component: component.clone(),
                version: version.clone(),
                object: super::display_name(&mut self.store.begin(), object.id),
                cause,
            };
            match way {
                Ok(WayBack::Leads) => {}
                Ok(WayBack::Unknown) => {
                    return Err(SwapError::NoWayBack {
                        component: component.clone(),
                        version: version.clone(),
                        from: evolution.from,
                        to: evolution.to,
                    });
                }
                Ok(WayBack::Astray(cause)) => return Err(refused(cause)),
                Err(refusal) => return Err(refused(refusal.to_string())),
            }
        }
        Ok(())
    }

    /// Whether a release is of a later generation than its component's state, and has what it needs to serve now.
    pub(crate) fn evolves_now(&self, record: &ReleaseRecord) -> Result<bool, SwapError> {
        let unread = |error| SwapError::Store(format!("release {}: {error}", record.digest));
        let to = Descriptor::of(record).map_err(unread)?.generation;
        let standing = crate::generation::standing(to, self.in_force(&record.component)?);
        let has_grants = self.grants.missing(&record.component, &record.imports).is_empty();
        Ok(matches!(standing, Standing::Evolves(_)) && has_grants)
    }
}

impl Course<'_> {
    pub(super) async fn run_live(&mut self, force: bool) -> Result<Swapped, Trouble> {
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
                ended => return ended,
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
        let (record, mut turn) = self.turn(release).await?;
        let (closed, closed_at) = (self.swapper.admission.close(closing), Instant::now());
        fail::fail_point!("kernel::closed");
        turn.closed_at = Some(closed_at);
        turn.inside = drain(&closed, force).await?;
        fail::fail_point!("kernel::drained");
        self.carry().await?;
        fail::fail_point!("kernel::delta-carried");
        let swapped = self.decide(record, release, turn).await?;
        drop(closed);
        let pause_us = u64::try_from(closed_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Swapped { pause_us, ..swapped })
    }
}

/// Waits until everyone inside is out. With `force`, those who are not in time are ended.
async fn drain(closed: &ClosedGate, force: bool) -> Result<Drained, Trouble> {
    let inside = closed.inside();
    if closed.drained(DRAIN_TIME).await {
        return Ok(Drained { drained: inside, retired: 0 });
    }
    let retired = closed.inside();
    if force {
        closed.retire();
    }
    match force && closed.drained(RETIRE_TIME).await {
        true => Ok(Drained { drained: inside.saturating_sub(retired), retired }),
        false => Err(Trouble::Undrained),
    }
}

fn closing(component: &ComponentId, attempt: u32) -> Closing {
    match attempt {
        0 | 1 => Closing::Component(component.clone()),
        _ => Closing::All,
    }
}
