//! The deciding step of a swap: one commit, one pointer.
//!
//! The commit carries everything the change decides. It is asked for again when somebody else changed the root object
//! meanwhile; a change of that object waits its turn in the object's own lane, so that a busy object delays its own
//! swap, up to a bound, and nobody else's. How the pointer is published is `publication`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};
use telos_store::{
    CommitError, ComponentId, DedupeKey, ObjectId, ReleaseRecord, ReleaseState, SeatRecord, Unit,
};
use tokio::sync::MutexGuard;

use crate::change::{Settled, change};
use crate::lane::Place;
use crate::publication::{Change, Publication};
use crate::root_object;
use crate::seams::{JournalLine, Severity};
use crate::seat::Release;
use crate::swap::{Leaving, SwapError, Swapped, Swapper, now_ms, root_name};

/// How long a change waits for a busy root object before it is refused.
const ROOT_WAIT: Duration = Duration::from_secs(5);

/// How long a change whose fate is unknown waits for the store to come back.
const STORE_BACK_TIME: Duration = Duration::from_secs(60);
const STORE_BACK_POLL: Duration = Duration::from_millis(50);

/// Why a release comes to serve: the audit row's kind.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// New bytes.
    Installed,
    /// An operator chose it.
    Swapped,
    /// An operator went back.
    RolledBack,
    /// It got the grant it waited for.
    Granted,
}

impl Reason {
    fn kind(self) -> &'static str {
        match self {
            Self::Installed => "plugin.installed",
            Self::Swapped => "plugin.swapped",
            Self::RolledBack => "plugin.rolled-back",
            Self::Granted => "plugin.activated",
        }
    }
}

/// Everything one change of a seat decides.
pub(crate) struct Decision {
    pub(crate) release: Arc<Release>,
    pub(crate) record: ReleaseRecord,
    pub(crate) granting: BTreeSet<String>,
    /// What an operator must grant first; then the release is staged and nothing else changes.
    pub(crate) missing: Vec<String>,
    pub(crate) consumed: Option<String>,
    pub(crate) reason: Reason,
    /// Who asked, and under which number.
    pub(crate) request: Option<DedupeKey>,
}

/// The turn to change seats, with a place in the root object's lane where that object changes.
pub(crate) struct Turn<'a> {
    _seats: MutexGuard<'a, ()>,
    place: Option<Place>,
}

impl Decision {
    fn write(&self, unit: &mut Unit) -> Result<(), SwapError> {
        for interface in &self.granting {
            unit.put_grant(&self.release.component, interface, "operator")?;
        }
        if let Some(path) = &self.consumed {
            unit.mark_consumed(path, self.release.digest)?;
        }
        Ok(unit.put_release(self.record.clone())?)
    }

    fn swapped(&self, state: &'static str, previous: Option<String>) -> Swapped {
        Swapped {
            id: self.release.component.clone(),
            version: self.release.version().to_string(),
            digest: self.release.digest,
            state: state.into(),
            missing_grants: self.missing.clone(),
            previous,
            position: 0,
            pause_us: 0,
            is_unchanged: false,
        }
    }
}

impl Swapper {
    /// Makes one change of a seat: lets the release serve, or stages it while a grant is missing.
    pub(crate) async fn change_seat(
        &self,
        component: &ComponentId,
        prepare: impl Fn() -> Result<Decision, SwapError>,
    ) -> Result<Swapped, SwapError> {
        let with_root = || {
            let decision = prepare()?;
            let root = self.changing_root(&decision)?;
            Ok((decision, root))
        };
        let (decision, turn) = self.in_turn(component, with_root).await?;
        self.settle(decision, turn).await
    }

    /// Prepares a change while nobody else changes seats or grants. A root object that will change is waited for
    /// without holding the others up, and then everything is prepared anew.
    pub(crate) async fn in_turn<T>(
        &self,
        component: &ComponentId,
        prepare: impl Fn() -> Result<(T, Option<ObjectId>), SwapError>,
    ) -> Result<(T, Turn<'_>), SwapError> {
        let mut place = None;
        loop {
            let turn = self.turn.lock().await;
            match prepare()? {
                (_, Some(root)) if place.is_none() => {
                    drop(turn);
                    place = Some(self.root_place(component, root).await?);
                }
                (prepared, _) => return Ok((prepared, Turn { _seats: turn, place })),
            }
        }
    }

    async fn settle(&self, decision: Decision, turn: Turn<'_>) -> Result<Swapped, SwapError> {
        match decision.missing.is_empty() {
            true => self.activate(decision, turn).await,
            false => self.stage(decision).await,
        }
    }

    async fn stage(&self, decision: Decision) -> Result<Swapped, SwapError> {
        let release = &decision.release;
        let previous = self.serving_version(&release.component);
        let (staged, _) = self
            .change(decision.request, |unit| {
                decision.write(unit)?;
                let detail =
                    json!({ "version": release.version(), "digest": release.digest, "needs": decision.missing });
                unit.audit("plugin.staged", release.component.as_str(), detail)?;
                let change = Change::Grant(release.component.clone(), decision.granting.clone());
                let staged = decision.swapped("staged", previous.clone());
                Ok((staged, Some(self.publication(change, None))))
            })
            .await?;
        Ok(staged)
    }

    async fn activate(&self, decision: Decision, turn: Turn<'_>) -> Result<Swapped, SwapError> {
        self.same_generation(&decision.release)?;
        let previous = self.serving_version(&decision.release.component);
        let changes_root = self.changes_root(&decision.release)?;
        let (swapped, pause) = self
            .change(decision.request, |unit| {
                self.write_activation(unit, &decision, changes_root)?;
                let (release, granting) = (Arc::clone(&decision.release), decision.granting.clone());
                let change = Change::Seat { release, granting };
                let swapped = decision.swapped("serving", previous.clone());
                Ok((swapped, Some(self.publication(change, turn.place.clone()))))
            })
            .await?;
        Ok(Swapped { pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX), ..swapped })
    }

    pub(crate) fn publication(&self, change: Change, place: Option<Place>) -> Publication {
        Publication::new(&self.seats, &self.grants, change, place)
    }

    fn write_activation(
        &self,
        unit: &mut Unit,
        decision: &Decision,
        changes_root: bool,
    ) -> Result<(), SwapError> {
        let release = &decision.release;
        decision.write(unit)?;
        if changes_root {
            root_object::seat(unit, release)?;
        }
        let serving = self.seat(&release.component).ok();
        unit.set_seat(next_seat(release, serving.as_ref()))?;
        let detail = json!({
            "version": release.version(),
            "digest": release.digest,
            "previous": serving.map(|seat| seat.digest),
        });
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
        let (Settled { position }, _) = self
            .change(request, |unit| {
                unit.remove_seat(component)?;
                root_object::unseat(unit, component)?;
                if let Some(waits) = &leaving.waits {
                    unit.put_release(ReleaseRecord { state: ReleaseState::Retired, ..waits.clone() })?;
                }
                let digest = leaving.serves.or(leaving.waits.as_ref().map(|waits| waits.digest));
                unit.audit("plugin.removed", component.as_str(), json!({ "digest": digest }))?;
                let change = Change::Vacate(component.clone());
                Ok((Settled::default(), Some(self.publication(change, turn.place.clone()))))
            })
            .await?;
        Ok(position)
    }

    /// Decides a change of seats or grants; see [`change`].
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        request: Option<DedupeKey>,
        prepare: impl FnMut(&mut Unit) -> Result<(T, Option<Publication>), SwapError>,
    ) -> Result<(T, Duration), SwapError> {
        let changed = change(&self.store, request, prepare).await;
        if let Err(SwapError::Commit(CommitError::Unavailable(_))) = &changed {
            self.read_again().await;
        }
        changed
    }

    /// Nobody knows whether a change was decided: what serves and what is granted is read from the store again, as
    /// soon as that is back, since the commit may have happened although its finish did not.
    async fn read_again(&self) {
        let deadline = Instant::now() + STORE_BACK_TIME;
        while self.store.read_only_cause().is_some() && Instant::now() < deadline {
            tokio::time::sleep(STORE_BACK_POLL).await;
        }
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

    /// The root object, when it is there and letting the release serve will change it.
    fn changing_root(&self, decision: &Decision) -> Result<Option<ObjectId>, SwapError> {
        if !decision.missing.is_empty() || !self.changes_root(&decision.release)? {
            return Ok(None);
        }
        self.root(&decision.release.component)
    }

    fn changes_root(&self, release: &Release) -> Result<bool, SwapError> {
        Ok(!root_object::is_seated(&mut self.store.begin_on_voted(), release)?)
    }

    /// The component's root object, when it is there.
    pub(crate) fn root(&self, component: &ComponentId) -> Result<Option<ObjectId>, SwapError> {
        Ok(self.store.begin_on_voted().find(&root_name(component)?)?)
    }

    /// A place in the root object's lane, or a refusal when the lane is full or too slow.
    async fn root_place(&self, component: &ComponentId, root: ObjectId) -> Result<Place, SwapError> {
        let entered = tokio::time::timeout(ROOT_WAIT, self.lanes.enter(root)).await;
        entered.ok().flatten().ok_or_else(|| SwapError::RootBusy {
            component: component.clone(),
            waited_s: ROOT_WAIT.as_secs(),
        })
    }

    pub(crate) fn same_generation(&self, release: &Release) -> Result<(), SwapError> {
        let table = self.seats.current();
        let Some(serving) = table.releases.get(&release.component) else {
            return Ok(());
        };
        let (serving, wanted) = (serving.descriptor.generation, release.descriptor.generation);
        if serving == wanted {
            return Ok(());
        }
        Err(SwapError::Generation {
            component: release.component.clone(),
            version: release.version().to_string(),
            serving,
            wanted,
        })
    }
}

fn next_seat(release: &Release, serving: Option<&SeatRecord>) -> SeatRecord {
    let previous = match serving {
        Some(seat) if seat.digest == release.digest => seat.previous,
        Some(seat) => Some(seat.digest),
        None => None,
    };
    SeatRecord {
        component: release.component.clone(),
        digest: release.digest,
        previous,
        swaps: serving.map_or(0, |seat| seat.swaps + 1),
        since_ms: now_ms(),
    }
}
