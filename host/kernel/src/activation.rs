//! The deciding step of a swap: one commit, one pointer.
//!
//! The commit carries everything the change decides. It is asked for again when somebody else changed the root object
//! meanwhile. Whose turn it is is `turn`'s; how the pointer is published is `publication`'s.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};
use telos_store::{
    CommitError, ComponentId, DedupeKey, Digest, ReleaseRecord, ReleaseState, SeatRecord, Unit,
};

use crate::change::{Settled, change};
use crate::decision::{Decision, Reason, Waits};
use crate::generation::Standing;
use crate::lane::Place;
use crate::publication::{Change, Move, Publication};
use crate::raise::Raise;
use crate::root_object;
use crate::seams::{JournalLine, Severity};
use crate::seat::Release;
use crate::swap::{Leaving, SwapError, Swapped, Swapper, now_ms};
use crate::traffic::{Account, Moved, Toll, micros};
use crate::turn::Turn;

/// How long a change whose fate is unknown waits for the store to come back.
const STORE_BACK_TIME: Duration = Duration::from_secs(60);
const STORE_BACK_POLL: Duration = Duration::from_millis(50);

/// The audit row of a release that waits.
pub(crate) const PLUGIN_STAGED: &str = "plugin.staged";
/// The audit row of a component that nobody serves any more.
pub(crate) const PLUGIN_REMOVED: &str = "plugin.removed";

/// What becomes of a release now. Whether its state is carried over while messages flow is decided before.
#[derive(Clone, Copy)]
enum Way {
    Serve,
    /// It is staged, and who serves does not change.
    Wait(Waits),
}

impl Swapper {
    /// Makes one change of a seat: lets the release serve, or stages it while a grant is missing or its component's
    /// state is of an earlier generation.
    pub(crate) async fn change_seat(
        &self,
        prepare: impl Fn() -> Result<Decision, SwapError>,
    ) -> Result<Swapped, SwapError> {
        let with_root = || {
            let decision = prepare()?;
            self.demand_lifted(&decision.release)?;
            if !matches!(decision.reason, Reason::Returned) {
                self.demand_requirements(&decision.release)?;
            }
            let way = self.way(&decision)?;
            let root = match way {
                Way::Serve => self.changing_root(&decision.release)?,
                Way::Wait(_) => None,
            };
            let taught = decision.lesson.as_ref().map(|lesson| lesson.taught(&decision.release.component));
            let changing = root.into_iter().chain(taught).collect();
            Ok(((decision, way), changing))
        };
        let toll = self.traffic.toll();
        let ((decision, way), turn) = self.in_turn(with_root).await?;
        match way {
            Way::Serve => self.activate(decision, None, turn, &toll).await,
            Way::Wait(waits) => self.stage(decision, waits, turn).await,
        }
    }

    fn way(&self, decision: &Decision) -> Result<Way, SwapError> {
        Ok(match self.standing(&decision.release)? {
            _ if !decision.missing.is_empty() => Way::Wait(Waits::Grants),
            Standing::Evolves(from) => {
                Way::Wait(Waits::Start { from, to: decision.release.descriptor.generation })
            }
            _ => Way::Serve,
        })
    }

    /// Makes a kept release the one that waits for the next start, unless it is that already.
    pub(crate) async fn stage_again(&self, record: &ReleaseRecord) -> Result<(), SwapError> {
        let waits = self.waiting_for_start(&record.component)?;
        if waits.is_some_and(|waits| waits.digest == record.digest) {
            return Ok(());
        }
        let prepare = || self.decision(record.clone(), Reason::Swapped, None);
        self.change_seat(prepare).await.map(drop)
    }

    async fn stage(&self, decision: Decision, waits: Waits, _turn: Turn<'_>) -> Result<Swapped, SwapError> {
        let component = &decision.release.component;
        let previous = self.serving_version(component);
        let (staged, _) = self
            .change(decision.request, |unit| {
                match waits {
                    Waits::Grants => decision.write(unit, ReleaseState::NeedsGrant)?,
                    Waits::Start { .. } => {
                        self.retire_waiting(unit, component)?;
                        decision.write(unit, ReleaseState::Staged)?;
                    }
                }
                unit.audit(PLUGIN_STAGED, component.as_str(), decision.staging(waits))?;
                let change = Change::Grant(component.clone(), decision.granting.clone());
                let staged = decision.staged(waits, previous.clone());
                Ok((staged, Some(self.publication(change, Vec::new()))))
            })
            .await?;
        fail::fail_point!("kernel::staged");
        if matches!(waits, Waits::Start { .. }) {
            self.notices.forget(component);
        }
        Ok(staged)
    }

    /// What waited for the next start does not any more: somebody has decided anew who serves, now or then.
    fn retire_waiting(&self, unit: &mut Unit, component: &ComponentId) -> Result<(), SwapError> {
        match self.waiting_for_start(component)? {
            None => Ok(()),
            Some(record) => Ok(unit.put_release(ReleaseRecord { state: ReleaseState::Retired, ..record })?),
        }
    }

    /// Lets the release serve, in one commit, which also puts its generation in force where its component's state was
    /// carried over.
    pub(crate) async fn activate(
        &self,
        decision: Decision,
        raise: Option<Raise>,
        turn: Turn<'_>,
        toll: &Toll,
    ) -> Result<Swapped, SwapError> {
        let previous = self.serving_version(&decision.release.component);
        let moved = vec![self.moved(&decision.release.component, Some(decision.release.digest))];
        let changes_root = self.changes_root(&decision.release)?;
        let state = self.state_in_the_seat(&decision.release)?;
        decision.release.tally.watch(state == ReleaseState::Probation);
        let (swapped, pause) = self
            .change(decision.request, |unit| {
                if let Some(raise) = &raise {
                    raise.write(unit, &decision.release)?;
                }
                self.write_activation(unit, &decision, state, changes_root)?;
                let swapped = decision.serving(previous.clone());
                let change = Change::Seats(vec![decision.as_move()]);
                Ok((swapped, Some(self.publication(change, turn.places.clone()))))
            })
            .await?;
        fail::fail_point!("kernel::decided");
        self.notices.forget(&swapped.id);
        self.account(swapped.position, moved, pause, toll);
        Ok(Swapped { pause_us: micros(pause.unwrap_or_default()), ..swapped })
    }

    pub(crate) fn publication(&self, change: Change, places: Vec<Place>) -> Publication {
        Publication::new(&self.seats, &self.grants, change, places)
    }

    pub(crate) fn write_activation(
        &self,
        unit: &mut Unit,
        decision: &Decision,
        state: ReleaseState,
        changes_root: bool,
    ) -> Result<(), SwapError> {
        let release = &decision.release;
        self.retire_waiting(unit, &release.component)?;
        decision.write(unit, state)?;
        if changes_root {
            root_object::seat(unit, release)?;
        }
        let serving = self.seat(&release.component).ok();
        let returns_to = match decision.no_return {
            true => None,
            false => self.returns_to(release.digest, state, serving.as_ref())?,
        };
        unit.set_seat(next_seat(release, returns_to, serving.as_ref()))?;
        let mut detail = json!({
            "version": release.version(),
            "digest": release.digest,
            "previous": serving.map(|seat| seat.digest),
        });
        if let Some(verdict) = decision.ousted.as_ref().and_then(|ousted| ousted.verdict.as_ref()) {
            detail["cause"] = verdict.cause.as_str().into();
        }
        Ok(unit.audit(decision.reason.kind(), release.component.as_str(), detail)?)
    }

    /// Takes a component's seat and its root object's method slots away.
    pub(crate) async fn vacate(
        &self,
        component: &ComponentId,
        leaving: Leaving,
        turn: Turn<'_>,
        request: Option<DedupeKey>,
    ) -> Result<u64, SwapError> {
        let (moved, toll) = (vec![self.moved(component, None)], self.traffic.toll());
        let (Settled { position }, pause) = self
            .change(request, |unit| {
                self.write_removal(unit, component, &leaving)?;
                let change = Change::Seats(vec![Move::Vacate(component.clone())]);
                Ok((Settled::default(), Some(self.publication(change, turn.places.clone()))))
            })
            .await?;
        self.notices.forget(component);
        self.account(position, moved, pause, &toll);
        Ok(position)
    }

    pub(crate) fn write_removal(
        &self,
        unit: &mut Unit,
        component: &ComponentId,
        leaving: &Leaving,
    ) -> Result<(), SwapError> {
        self.retire_waiting(unit, component)?;
        unit.remove_seat(component)?;
        root_object::unseat(unit, component)?;
        if let Some(asks) = &leaving.asks {
            unit.put_release(ReleaseRecord { state: ReleaseState::Retired, ..asks.clone() })?;
        }
        Ok(unit.audit(PLUGIN_REMOVED, component.as_str(), json!({ "digest": leaving.digest }))?)
    }

    /// A seat that is about to change.
    pub(crate) fn moved(&self, component: &ComponentId, digest: Option<Digest>) -> Moved {
        let parent = self.seats.current().releases.get(component).map(|release| release.digest);
        Moved { component: component.clone(), digest, parent }
    }

    /// Notes the pause of a publication, and says in the journal what the change did to messages. Without a pause it was
    /// decided before, and has its account.
    pub(crate) fn account(&self, position: u64, moved: Vec<Moved>, pause: Option<Duration>, toll: &Toll) {
        let Some(pause) = pause else { return };
        self.pauses.note(pause);
        let account = Account { position, moved, pause, toll };
        self.journal.record(account.line(self.traffic.read()));
    }

    /// Decides a change of seats or grants; see [`change`].
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        request: Option<DedupeKey>,
        prepare: impl FnMut(&mut Unit) -> Result<(T, Option<Publication>), SwapError>,
    ) -> Result<(T, Option<Duration>), SwapError> {
        let changed = change(&self.store, request, prepare).await;
        if let Err(SwapError::Commit(CommitError::Unavailable(_))) = &changed {
            self.read_again().await;
        }
        changed
    }

    /// Nobody knows whether a change was decided: what serves and what is granted is read from the store again, as
    /// soon as that is back, since the commit may have happened although its finish did not.
    async fn read_again(&self) {
        self.wait_for_store().await;
        if let Err(error) = self.load_seats().and_then(|_| Ok(self.grants.reload(&self.store)?)) {
            self.journal.record(JournalLine {
                severity: Severity::Error,
                event: "plugin.seats-unread",
                body: format!("what serves may not be what is stored: {error}; start the host again"),
                trace: None,
                plugin: None,
                attributes: Map::new(),
            });
        }
    }

    /// Waits, for a minute at most, until the store takes writes again.
    pub(crate) async fn wait_for_store(&self) {
        let deadline = Instant::now() + STORE_BACK_TIME;
        while self.store.read_only_cause().is_some() && Instant::now() < deadline {
            tokio::time::sleep(STORE_BACK_POLL).await;
        }
    }
}

fn next_seat(release: &Release, returns_to: Option<Digest>, serving: Option<&SeatRecord>) -> SeatRecord {
    let previous = match serving {
        Some(seat) if seat.digest == release.digest => seat.previous,
        Some(seat) => Some(seat.digest),
        None => None,
    };
    SeatRecord {
        component: release.component.clone(),
        digest: release.digest,
        previous,
        returns_to,
        swaps: serving.map_or(0, |seat| seat.swaps + 1),
        since_ms: now_ms(),
    }
}
