//! The deciding step of a swap: one commit, one pointer.
//!
//! The commit carries everything the change decides. It is asked for again when somebody else changed the root object
//! meanwhile; a change of that object waits its turn in the object's own lane, so that a busy object delays a swap but
//! cannot starve it. How the pointer is published is `publication`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use telos_store::{Commit, CommitError, ComponentId, Digest, ReleaseRecord, SeatRecord, Unit, Vote};

use crate::decide::decide;
use crate::lane::Place;
use crate::publication::{Change, Publication};
use crate::root_object;
use crate::seat::Release;
use crate::swap::{SwapError, Swapped, Swapper, now_ms, root_name};

/// Attempts of one change before it gives up; in its lane it can only lose to nested messages.
const ATTEMPTS_MAX: u32 = 64;

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

    fn swapped(
        &self,
        state: &'static str,
        previous: Option<String>,
        commit: Commit,
        pause: Duration,
    ) -> Swapped {
        Swapped {
            id: self.release.component.clone(),
            version: self.release.version().to_string(),
            digest: self.release.digest,
            state,
            missing_grants: self.missing.clone(),
            previous,
            position: commit.position.get(),
            pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl Swapper {
    /// Lets the release serve, or stages it while a grant is missing.
    pub(crate) async fn settle(&self, decision: Decision) -> Result<Swapped, SwapError> {
        if decision.missing.is_empty() { self.activate(decision).await } else { self.stage(decision).await }
    }

    async fn stage(&self, decision: Decision) -> Result<Swapped, SwapError> {
        let release = &decision.release;
        let mut unit = self.store.begin();
        decision.write(&mut unit)?;
        let detail =
            json!({ "version": release.version(), "digest": release.digest, "needs": decision.missing });
        unit.audit("plugin.staged", release.component.as_str(), detail)?;
        let commit = decide(&self.store, unit, Vote::default()).await?;
        self.grants.reload(&self.store)?;
        let previous = self.serving_version(&release.component);
        Ok(decision.swapped("staged", previous, commit, Duration::ZERO))
    }

    async fn activate(&self, decision: Decision) -> Result<Swapped, SwapError> {
        self.same_generation(&decision.release)?;
        let previous = self.serving_version(&decision.release.component);
        let changes_root = !root_object::is_seated(&mut self.store.begin_on_voted(), &decision.release)?;
        let place = self.root_place(&decision.release.component, changes_root).await?;
        let mut attempt = 1;
        loop {
            match self.try_activate(&decision, changes_root, place.clone()).await? {
                Ok((commit, pause)) => return Ok(decision.swapped("serving", previous, commit, pause)),
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(self.give_up(error).await),
            }
        }
    }

    /// On what is voted for, since the last message in the lane may not be durable yet.
    async fn try_activate(
        &self,
        decision: &Decision,
        changes_root: bool,
        place: Option<Place>,
    ) -> Result<Result<(Commit, Duration), CommitError>, SwapError> {
        let release = &decision.release;
        let mut unit = self.store.begin_on_voted();
        decision.write(&mut unit)?;
        if changes_root {
            root_object::seat(&mut unit, release)?;
        }
        let serving = self.seat(&release.component).ok();
        unit.set_seat(next_seat(release, serving.as_ref()))?;
        let detail = json!({
            "version": release.version(),
            "digest": release.digest,
            "previous": serving.map(|seat| seat.digest),
        });
        unit.audit(decision.reason.kind(), release.component.as_str(), detail)?;
        let change = Change::Seat { release: Arc::clone(release), granting: decision.granting.clone() };
        let publication = Publication::new(&self.seats, &self.grants, change);
        Ok(publication.commit(&self.store, unit, place).await)
    }

    /// Takes a component's seat and its root object's method slots away.
    pub(crate) async fn vacate(&self, component: &ComponentId, digest: Digest) -> Result<u64, SwapError> {
        let place = self.root_place(component, true).await?;
        let mut attempt = 1;
        loop {
            let mut unit = self.store.begin_on_voted();
            unit.remove_seat(component)?;
            root_object::unseat(&mut unit, component)?;
            unit.audit("plugin.removed", component.as_str(), json!({ "digest": digest }))?;
            let publication = Publication::new(&self.seats, &self.grants, Change::Vacate(component.clone()));
            match publication.commit(&self.store, unit, place.clone()).await {
                Ok((commit, _)) => return Ok(commit.position.get()),
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(self.give_up(error).await),
            }
        }
    }

    /// The change failed. When nobody knows whether it was decided, what serves is read from the store again, as soon
    /// as that is back: the commit may have happened although its finish did not.
    async fn give_up(&self, error: CommitError) -> SwapError {
        if !matches!(error, CommitError::Unavailable(_)) {
            return error.into();
        }
        let deadline = Instant::now() + STORE_BACK_TIME;
        while self.store.read_only_cause().is_some() && Instant::now() < deadline {
            tokio::time::sleep(STORE_BACK_POLL).await;
        }
        match self.load_seats().and_then(|_| Ok(self.grants.reload(&self.store)?)) {
            Ok(()) => error.into(),
            Err(reload) => reload,
        }
    }

    /// A place in the root object's lane, when that object is there and will change.
    async fn root_place(
        &self,
        component: &ComponentId,
        changes_root: bool,
    ) -> Result<Option<Place>, SwapError> {
        let root = self.store.begin_on_voted().find(&root_name(component)?)?;
        match root {
            Some(root) if changes_root => Ok(self.lanes.enter(root).await),
            _ => Ok(None),
        }
    }

    fn same_generation(&self, release: &Release) -> Result<(), SwapError> {
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
