//! State carried back while messages flow, for a seat that goes to a release of an earlier generation.
//!
//! ```text
//! carry      copies of every object by the serving release's `devolve`, while it serves    crash after: dropped
//! close      as in `live`
//! delta      copies of what changed since
//! decide     one commit: generation, release, seat, audit                                  crash after: the earlier
//!                                                                                          release serves
//! give up    copies dropped; the release that could not carry its state back serves on
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use telos_store::{ComponentId, DedupeKey, ReleaseRecord, Toward};

use super::evolver::Evolver;
use super::live::UNKNOWN_NEXT;
use super::{Bound, Course, Evolution, OnEvolving, Purpose, Return, Trouble};
use crate::decision::Reason;
use crate::descriptor::Descriptor;
use crate::failure::Effect;
use crate::notice::GENERATION_FAILED;
use crate::seams::Severity;
use crate::swap::{SwapError, Swapped, Swapper, Swapping};

/// Who gives its seat to whom, and why.
pub(crate) struct Back {
    /// The release of an earlier generation, which is to serve.
    pub(crate) record: ReleaseRecord,
    /// The release that serves, and carries its state back.
    pub(crate) carrier: ReleaseRecord,
    pub(crate) reason: Reason,
    /// The carrier as it is to be recorded, when it loses its seat for a fault.
    pub(crate) ousted: Option<ReleaseRecord>,
    /// Messages that do not end in time are ended.
    pub(crate) force: bool,
    pub(crate) request: Option<DedupeKey>,
}

/// How long a seat that returns by itself may take to carry its state back.
const RETURN_TIME: Duration = Duration::from_secs(300);

/// Why state was not carried back.
pub(crate) enum NotBack {
    /// Somebody decided anew who serves.
    Overtaken,
    /// Another change carries the component's state.
    Evolving,
    /// The release that is to carry it cannot, or needs too long: why.
    NoWay(String),
    /// Something else was in the way: what, and whether the earlier release may serve all the same.
    Hindered(String, Effect),
}

impl Swapper {
    /// Carries a component's state back and lets the earlier release serve. For a seat that returns by itself, it waits
    /// for another change that carries the state, and takes five minutes at most.
    ///
    /// # Errors
    /// [`NotBack`]; unless its effect is unknown, nothing has changed then, and the carrier serves on.
    pub(crate) async fn carry_back(&self, back: Back) -> Result<Swapped, NotBack> {
        let (component, told) = (back.record.component.clone(), Evolution::back(&back.record, &back.carrier));
        let whole_by = back.ousted.is_some().then(|| Instant::now() + return_time());
        let on_course = match whole_by {
            Some(by) => self.courses.begin_by(&component, by).await,
            None => self.courses.begin(&component),
        };
        let Some(_on_course) = on_course else { return Err(NotBack::Evolving) };
        let ended = self.course_back(back, whole_by).await;
        let trouble = match ended {
            Ok(swapped) => return Ok(swapped),
            Err(trouble) => trouble,
        };
        let cause = self.told(&trouble, &told);
        self.wait_for_store().await;
        // What cannot be dropped now, the next course drops.
        let _ = self.store.drop_shadows(&component);
        told.record(&*self.journal, Severity::Error, GENERATION_FAILED, cause.clone());
        Err(match trouble {
            Trouble::Overtaken => NotBack::Overtaken,
            Trouble::Overdue(Bound::Whole) => NotBack::NoWay(cause),
            trouble if trouble.is_of_release() => NotBack::NoWay(cause),
            trouble => NotBack::Hindered(cause, trouble.effect()),
        })
    }

    /// Lets a kept release of an earlier generation serve, because an operator wants it to.
    ///
    /// # Errors
    /// [`SwapError::Outdated`] when nobody serves that could carry the state back, [`SwapError::NotEvolved`] when that
    /// failed.
    pub(crate) async fn go_back(
        &self,
        record: ReleaseRecord,
        reason: Reason,
        swapping: Swapping,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        let release = Arc::new(self.load(&record)?);
        self.demand_lifted(&release)?;
        self.demand_requirements(&release)?;
        let Some(carrier) = self.carrier(&record.component)? else {
            return self.standing(&release).and(Err(SwapError::NoSuchPlugin(record.component.to_string())));
        };
        let (wanted, carrying) = (record.clone(), carrier.version.clone());
        let back = Back { record, carrier, reason, ousted: None, force: swapping.force, request };
        self.carry_back(back).await.map_err(|not_back| not_back.into_error(&wanted, &carrying))
    }

    /// Whether a release is of an earlier generation than its component's state, and has what it needs to serve.
    pub(crate) fn goes_back(&self, record: &ReleaseRecord) -> Result<bool, SwapError> {
        // What was never raised is as the release that serves made it, and nothing was carried that could go back.
        let Some(raised) = self.store.generation(&record.component)? else { return Ok(false) };
        let has_grants = self.grants.missing(&record.component, &record.imports).is_empty();
        Ok(known(record)? < raised.generation && has_grants)
    }

    /// The release that serves a component.
    fn carrier(&self, component: &ComponentId) -> Result<Option<ReleaseRecord>, SwapError> {
        let table = self.seats.current();
        let serving = table.releases.get(component).map(|release| release.digest);
        Ok(serving.map(|digest| self.store.release(component, &digest)).transpose()?.flatten())
    }

    async fn course_back(&self, back: Back, whole_by: Option<Instant>) -> Result<Swapped, Trouble> {
        let evolution = Evolution::back(&back.record, &back.carrier);
        let (from, to) = (evolution.from, evolution.to);
        let toward = Toward::between(from, to).ok_or(Trouble::Overtaken)?;
        let told: OnEvolving = Arc::new(|_| {});
        let evolver = Evolver::new(self.pure(&back.carrier)?);
        let Back { reason, ousted, request, .. } = back;
        let purpose =
            Purpose::Return(Box::new(Return { carrier: back.carrier.digest, reason, ousted, request }));
        let mut course =
            Course::new(self, &back.record, (from, toward), evolver, purpose, &told, &evolution)?;
        course.whole_by = whole_by;
        course.run_live(back.force).await
    }
}

impl NotBack {
    /// What is said of it to whoever asked for the release; `carrier` is the version that serves on.
    pub(crate) fn into_error(self, wanted: &ReleaseRecord, carrier: &str) -> SwapError {
        let ReleaseRecord { component, version, .. } = wanted.clone();
        let mut effect = Effect::None;
        let (cause, next) = match self {
            Self::Evolving => return SwapError::Evolving(component),
            Self::Overtaken => {
                ("somebody decided anew who serves".into(), format!("see `telos plugin info {component}`"))
            }
            Self::NoWay(cause) => (
                cause,
                format!(
                    "let a release of {component} serve whose `devolve` knows the way; {carrier} serves on, and the \
                     earlier state comes back only with a backup, by `telos store restore`"
                ),
            ),
            Self::Hindered(cause, Effect::Unknown) => {
                effect = Effect::Unknown;
                (cause, UNKNOWN_NEXT.into())
            }
            Self::Hindered(cause, _) => (
                cause,
                format!(
                    "ask again when it has less to do, or end its messages with `telos plugin swap {component} \
                     {version} --force`"
                ),
            ),
        };
        SwapError::NotEvolved { component, version, cause, next, effect }
    }
}

/// The generation that a release knows.
pub(super) fn known(record: &ReleaseRecord) -> Result<u32, SwapError> {
    Ok(descriptor(record)?.generation)
}

/// What a release says of itself.
pub(super) fn descriptor(record: &ReleaseRecord) -> Result<Descriptor, SwapError> {
    let unread = |error| SwapError::Store(format!("release {}: {error}", record.digest));
    Descriptor::of(record).map_err(unread)
}

fn return_time() -> Duration {
    fail::fail_point!("kernel::return-time", |_| Duration::ZERO);
    RETURN_TIME
}

impl Evolution {
    /// Of a release that gets the seat back from one of a later generation.
    fn back(record: &ReleaseRecord, carrier: &ReleaseRecord) -> Self {
        let generation = |record| known(record).unwrap_or_default();
        Self { from: generation(carrier), to: generation(record), ..Self::of(record) }
    }
}
