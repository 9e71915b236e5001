//! Install, swap, rollback, remove: how a release comes to serve, and how it stops.
//!
//! ```text
//! examine and try      off the serving path        crash after: nothing happened
//! stored requirements  names, slots, grants        crash after: nothing happened
//! decide               one commit: release, seat,  durable      crash after: the new release serves
//!                      root-object slots, audit
//!                      or: staged, for want of grants, or until the next start carries the state over
//! publish              in that commit's vote for roots that may write, in its finish for those that only read
//! ```
//! One change at a time: a turn of its own, never held on the serving path, nor while a busy object is waited for. Any
//! failure leaves what served serving.

mod candidate;
mod error;
mod grant;
mod kept;
mod probation;
mod quarantine;
mod request;
mod requirement;
mod restart;
mod set;
mod version;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use telos_store::{
    ComponentId, DedupeKey, Digest, Json, ObjectName, ReleaseRecord, ReleaseState, SeatRecord, Slot, Store,
    WriteError,
};

use crate::admission::Admission;
use crate::change::{Settled, remembered};
use crate::contract::CONTRACT_VERSION;
use crate::core_module::{BootError, Image};
use crate::courses::Courses;
use crate::decision::{Decision, Reason};
use crate::descriptor::Descriptor;
use crate::evolution::Evolver;
use crate::examine::Examiner;
use crate::failure::Effect;
use crate::generation::{self, Standing, waits_for_start};
use crate::grant::Grants;
use crate::lane::Lanes;
use crate::lesson::engine_for;
use crate::limits::Limits;
use crate::notice::{Notice, Notices};
use crate::pauses::Pauses;
use crate::pure::Pure;
use crate::root_object;
use crate::sandbox::SandboxSeat;
use crate::seams::JournalSink;
use crate::seat::{Release, SeatTable, Seats};
use crate::shared::Shared;
use crate::traffic::Traffic;

pub use error::SwapError;
pub(crate) use probation::{Earlier, Fall, PLUGIN_PARKED};
pub(crate) use quarantine::QUARANTINE_LIFTED;
pub use quarantine::Quarantined;
pub use request::{Checked, Granting, InstallRequest, Swapped, Swapping};
pub use set::{SET_MEMBERS_MAX, SetApplied, SetMember, SetPlan, SetRequest};

/// What of a component a removal takes away, besides what waits for a start.
pub(crate) struct Leaving {
    /// The release that serves, or else waits.
    pub(crate) digest: Digest,
    /// The release that waits for a grant.
    pub(crate) asks: Option<ReleaseRecord>,
}

/// Changes seats, one change at a time.
pub(crate) struct Swapper {
    pub(crate) store: Store,
    examiner: Examiner,
    sandbox: SandboxSeat,
    pub(crate) seats: Arc<Seats>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) journal: Arc<dyn JournalSink>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) notices: Notices,
    pub(crate) pauses: Pauses,
    pub(crate) courses: Courses,
    /// Whoever has it changes seats and grants; nobody waits for a lane while having it.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Swapper {
    pub(crate) fn new(
        shared: Shared,
        examiner: Examiner,
        sandbox: SandboxSeat,
        grants: Arc<Grants>,
        journal: Arc<dyn JournalSink>,
    ) -> Self {
        let (notices, turn) = (Notices::default(), tokio::sync::Mutex::new(()));
        let (pauses, courses) = (Pauses::default(), Courses::default());
        let Shared { store, seats, lanes, admission, traffic } = shared;
        Self {
            store,
            examiner,
            sandbox,
            seats,
            grants,
            journal,
            lanes,
            admission,
            traffic,
            notices,
            pauses,
            courses,
            turn,
        }
    }

    /// See [`Examiner::boot`].
    pub(crate) async fn boot(&self, module: &str, text: &str) -> Result<(), BootError> {
        self.examiner.boot(module, text).await
    }

    /// See [`Examiner::boot_image`].
    pub(crate) async fn boot_image(&self, module: &[u8], text: &str) -> Result<Image, BootError> {
        self.examiner.boot_image(module, text).await
    }

    /// Releases whose code is loaded.
    pub(crate) fn loaded(&self) -> usize {
        self.examiner.loaded()
    }

    /// Examines and tries bytes as an install would; nothing changes.
    pub(crate) async fn check(&self, bytes: &[u8], install: &InstallRequest) -> Result<Checked, SwapError> {
        let examined = self.examine(bytes, &install.source, install.limits).await?;
        let release = &examined.release;
        manifest_agrees(release, install)?;
        self.demand_lifted(release)?;
        self.demand_later(release, &install.source)?;
        let standing = self.standing(release)?;
        if standing == Standing::Serves {
            // Written into a unit that is thrown away.
            root_object::seat(&mut self.store.begin_on_voted(), release)?;
        }
        let examples = self.try_out(&examined).await?;
        Ok(Checked {
            ok: examples.iter().all(|example| example.passed),
            id: release.component.clone(),
            version: release.version().to_string(),
            digest: release.digest,
            contract: CONTRACT_VERSION,
            imports: release.imports.clone(),
            missing_grants: self.missing(release, &BTreeSet::new())?,
            cause: match standing {
                Standing::Evolves(from) => Some(waits_for_start(from, release.descriptor.generation)),
                _ => None,
            },
            selectors: release.descriptor.selectors.keys().cloned().collect(),
            examples,
        })
    }

    /// Makes a release of bytes and lets it serve, or stages it when it needs a grant or its state a later generation.
    pub(crate) async fn install(
        &self,
        bytes: &[u8],
        install: InstallRequest,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        if let Some(answer) = self.remembered(request)? {
            return Ok(answer);
        }
        let examined = self.examine(bytes, &install.source, install.limits).await?;
        fail::fail_point!("kernel::examined");
        let release = &examined.release;
        manifest_agrees(release, &install)?;
        stands_alone(release, &install)?;
        self.demand_later(release, &install.source)?;
        if install.consumed.is_some() || install.lesson.is_some() {
            self.demand_restart(release)?;
        }
        if !self.has_passed(release)? {
            self.demand_examples(&examined).await?;
            fail::fail_point!("kernel::tried");
        }
        self.demand_place(release, &install)?;
        self.store.put_blob(bytes)?;
        fail::fail_point!("kernel::bytes-kept");
        let decide_install = || {
            let granting = self.granting(release, &install.grants)?;
            let missing = self.missing(release, &granting)?;
            let record = record(release, &install.source)?;
            let (release, consumed) = (Arc::clone(release), install.consumed.clone());
            let reason = Reason::Installed;
            Ok(Decision {
                release,
                record,
                granting,
                missing,
                consumed,
                reason,
                ousted: None,
                no_return: false,
                lesson: install.lesson.clone(),
                request,
            })
        };
        let changed = self.change_seat(decide_install).await;
        if changed.as_ref().is_err_and(|error| error.effect() == Effect::None) {
            self.withdraw(release.digest).await;
        }
        changed
    }

    /// Refuses what cannot serve here before its bytes take room; the deciding commit says the same, and more.
    fn demand_place(&self, release: &Release, install: &InstallRequest) -> Result<(), SwapError> {
        let granting = self.granting(release, &install.grants)?;
        let is_to_serve = self.missing(release, &granting)?.is_empty();
        if self.standing(release)? == Standing::Serves && is_to_serve {
            // Written into a unit that is thrown away.
            root_object::seat(&mut self.store.begin_on_voted(), release)?;
        }
        Ok(())
    }

    /// Takes the bytes of a refused release back. Those that another release names stay; what fails is collected later.
    async fn withdraw(&self, digest: Digest) {
        let store = self.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.withdraw_blob(&digest)).await;
    }

    /// Lets a kept release serve, by version or by the start of its digest.
    pub(crate) async fn swap_to(
        &self,
        component: &ComponentId,
        wanted: &str,
        swapping: Swapping,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        if let Some(answer) = self.remembered(request)? {
            return Ok(answer);
        }
        if let Some(serves) = self.serves_already(component, wanted)? {
            return Ok(serves);
        }
        let record = self.find_release(component, wanted)?;
        if self.evolves_now(&record)? {
            return self.evolve_now(record, swapping, request).await;
        }
        if self.goes_back(&record)? {
            return self.go_back(record, Reason::Swapped, swapping, request).await;
        }
        let decide_swap = || {
            let record = self.find_release(component, wanted)?;
            self.decision(record, Reason::Swapped, request)
        };
        self.change_seat(decide_swap).await
    }

    /// Lets the release serve that served before this one.
    pub(crate) async fn rollback(
        &self,
        component: &ComponentId,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        if let Some(answer) = self.remembered(request)? {
            return Ok(answer);
        }
        let previous = || {
            let previous = self.seat(component)?.previous;
            let digest = previous.ok_or_else(|| SwapError::NothingEarlier(component.clone()))?;
            self.find_release(component, &digest.to_string())
        };
        let record = previous()?;
        if self.evolves_now(&record)? {
            return self.evolve_now(record, Swapping::default(), request).await;
        }
        if self.goes_back(&record)? {
            return self.go_back(record, Reason::RolledBack, Swapping::default(), request).await;
        }
        self.change_seat(|| self.decision(previous()?, Reason::RolledBack, request)).await
    }

    /// Takes a component's seat away, and retires a release that waits for a grant or a start: neither must bring back
    /// what was removed. Its objects, releases and history stay.
    pub(crate) async fn remove(
        &self,
        component: &ComponentId,
        request: Option<DedupeKey>,
    ) -> Result<u64, SwapError> {
        if let Some(Settled { position }) = self.remembered(request)? {
            return Ok(position);
        }
        let prepare = || Ok((self.leaving(component)?, Vec::from_iter(self.root(component)?)));
        let (leaving, turn) = self.in_turn(prepare).await?;
        self.vacate(component, leaving, turn, request).await
    }

    pub(crate) fn leaving(&self, component: &ComponentId) -> Result<Leaving, SwapError> {
        let asks = self.staged(component)?;
        let serves = match self.seat(component) {
            Ok(seat) => Some(seat.digest),
            Err(SwapError::NoSuchPlugin(_)) => None,
            Err(error) => return Err(error),
        };
        let waits = self.waiting_for_start(component)?.map(|record| record.digest);
        let first = serves.or(waits).or(asks.as_ref().map(|record| record.digest));
        let digest = first.ok_or_else(|| SwapError::NoSuchPlugin(component.to_string()))?;
        Ok(Leaving { digest, asks })
    }

    /// Writes down that a candidate was refused, so that everyone can see why. `consumed` are its bytes, when they
    /// themselves are at fault: then they are not tried again.
    pub(crate) async fn refuse(
        &self,
        path: &str,
        consumed: Option<Digest>,
        cause: &str,
    ) -> Result<(), SwapError> {
        self.change(None, |unit| {
            if let Some(digest) = consumed {
                unit.mark_consumed(path, digest)?;
            }
            unit.audit("plugin.refused", path, json!({ "digest": consumed, "cause": cause }))?;
            Ok((Settled::default(), None))
        })
        .await?;
        Ok(())
    }

    /// What an install, swap, rollback, removal, grant or revocation under this number answered when it was decided.
    pub(crate) fn remembered<T: serde::de::DeserializeOwned>(
        &self,
        request: Option<DedupeKey>,
    ) -> Result<Option<T>, SwapError> {
        remembered(&self.store, request)
    }

    /// Loads what serves according to the store, when the host starts. A seat that cannot be loaded, or whose release
    /// does not know its component's state, does not stop it.
    pub(crate) fn load_seats(&self) -> Result<Vec<(ComponentId, SwapError)>, SwapError> {
        let mut table = SeatTable { position: self.store.position(), releases: Default::default() };
        let mut unloadable = Vec::new();
        for seat in self.store.seats()? {
            let record = self.find_release(&seat.component, &seat.digest.to_string());
            if record.as_ref().is_ok_and(is_fallen) {
                continue;
            }
            match record.and_then(|record| self.load_seat(&record)) {
                Ok(release) => {
                    table.releases.insert(seat.component, Arc::new(release));
                }
                Err(error) => {
                    self.notices.put(&seat.component, unloaded(&error));
                    unloadable.push((seat.component, error));
                }
            }
        }
        self.seats.publish(table);
        Ok(unloadable)
    }

    fn load_seat(&self, record: &ReleaseRecord) -> Result<Release, SwapError> {
        let release = self.load(record)?;
        self.standing(&release)?;
        release.tally.watch(record.state == ReleaseState::Probation);
        Ok(release)
    }

    /// Examples pass once per digest and contract version.
    fn has_passed(&self, release: &Release) -> Result<bool, SwapError> {
        let records = self.store.releases(Some(&release.component))?;
        Ok(records
            .iter()
            .any(|record| record.digest == release.digest && record.contract == CONTRACT_VERSION))
    }

    pub(crate) fn decision(
        &self,
        record: ReleaseRecord,
        reason: Reason,
        request: Option<DedupeKey>,
    ) -> Result<Decision, SwapError> {
        let release = Arc::new(self.load(&record)?);
        let missing = self.grants.missing(&release.component, &release.imports);
        let granting = BTreeSet::new();
        Ok(Decision {
            release,
            record,
            granting,
            missing,
            consumed: None,
            reason,
            ousted: None,
            no_return: false,
            lesson: None,
            request,
        })
    }

    pub(crate) fn load(&self, record: &ReleaseRecord) -> Result<Release, SwapError> {
        let bytes = self.bytes(record)?;
        let read = |error: serde_json::Error| SwapError::Store(format!("release {}: {error}", record.digest));
        let descriptor = Descriptor::of(record).map_err(read)?;
        let limits: Limits = serde_json::from_str(record.limits.as_str()).map_err(read)?;
        let refused = |error| SwapError::Examine { source_name: record.digest.to_string(), error };
        self.examiner.load(&bytes, descriptor, limits, engine_for(&record.source)).map_err(refused)
    }

    /// A kept release's `lifecycle`, to be called without reaching anything.
    pub(crate) fn pure(&self, record: &ReleaseRecord) -> Result<Pure, SwapError> {
        let refused = |error| SwapError::Examine { source_name: record.digest.to_string(), error };
        self.examiner.pure(&self.bytes(record)?).map_err(refused)
    }

    /// A kept release as what carries state.
    pub(crate) fn evolver(&self, component: &ComponentId, digest: Digest) -> Result<Evolver, SwapError> {
        Ok(Evolver::new(self.pure(&self.find_release(component, &digest.to_string())?)?))
    }

    /// A kept release's component, as it was installed.
    pub(crate) fn bytes(&self, record: &ReleaseRecord) -> Result<Vec<u8>, SwapError> {
        let missing =
            || SwapError::Store(format!("the bytes of {} {} are gone", record.component, record.version));
        self.store.blob(&record.digest)?.ok_or_else(missing)
    }

    pub(crate) fn seat(&self, component: &ComponentId) -> Result<SeatRecord, SwapError> {
        self.store.seat(component)?.ok_or_else(|| SwapError::NoSuchPlugin(component.to_string()))
    }

    fn known(&self, component: &ComponentId) -> Result<(), SwapError> {
        match self.store.releases(Some(component))?.is_empty() {
            false => Ok(()),
            true => Err(SwapError::NoSuchPlugin(component.to_string())),
        }
    }

    /// The release that waits for the next start: at most one, the newest that was staged for it.
    pub(crate) fn waiting_for_start(
        &self,
        component: &ComponentId,
    ) -> Result<Option<ReleaseRecord>, SwapError> {
        let records = self.store.releases(Some(component))?;
        Ok(records.into_iter().find(|record| record.state == ReleaseState::Staged))
    }

    /// How a release stands to its component's state.
    ///
    /// # Errors
    /// [`SwapError::Outdated`] for one that does not know that state.
    pub(crate) fn standing(&self, release: &Release) -> Result<Standing, SwapError> {
        let known = release.descriptor.generation;
        match generation::standing(known, self.in_force(&release.component)?) {
            Standing::Outdated(in_force) => Err(SwapError::Outdated {
                component: release.component.clone(),
                version: release.version().to_string(),
                known,
                in_force,
                may_go_back: self.may_go_back(release)?,
            }),
            standing => Ok(standing),
        }
    }

    /// Whether a swap to a release of an earlier generation would have the state carried back for it: the release is kept,
    /// and somebody serves who could.
    fn may_go_back(&self, release: &Release) -> Result<bool, SwapError> {
        let is_kept = self.store.release(&release.component, &release.digest)?.is_some();
        let was_raised = self.store.generation(&release.component)?.is_some();
        Ok(is_kept && was_raised && self.seats.current().releases.contains_key(&release.component))
    }

    /// The generation that a component's state is in; none when it has none.
    pub(crate) fn in_force(&self, component: &ComponentId) -> Result<Option<u32>, SwapError> {
        if let Some(raised) = self.store.generation(component)? {
            return Ok(Some(raised.generation));
        }
        let seat = self.store.seat(component)?;
        let records = self.store.releases(Some(component))?;
        generation::never_raised(seat.as_ref(), &records)
            .map_err(|error| SwapError::Store(format!("releases of {component}: {error}")))
    }

    pub(crate) fn serving_version(&self, component: &ComponentId) -> Option<String> {
        self.seats.current().releases.get(component).map(|release| release.version().to_string())
    }
}

/// Whether a release lost its seat to nobody: the seat stays empty until somebody decides.
fn is_fallen(record: &ReleaseRecord) -> bool {
    matches!(record.state, ReleaseState::Parked | ReleaseState::Quarantined | ReleaseState::Returned)
}

fn unloaded(error: &SwapError) -> Notice {
    let otherwise = || "return with `telos plugin rollback`, or install a release that loads".to_owned();
    Notice {
        text: error.to_string(),
        next: Some(error.next_step().unwrap_or_else(otherwise)),
        is_trouble: true,
    }
}

fn manifest_agrees(release: &Release, request: &InstallRequest) -> Result<(), SwapError> {
    let source_name = request.source.clone();
    match (&request.manifest_id, &request.manifest_version) {
        (Some(manifest), _) if manifest != release.component.as_str() => Err(SwapError::Identity {
            source_name,
            manifest: manifest.clone(),
            embedded: release.component.to_string(),
        }),
        (_, Some(manifest)) if *manifest != release.version().to_string() => Err(SwapError::Version {
            source_name,
            manifest: manifest.clone(),
            embedded: release.version().to_string(),
        }),
        _ => Ok(()),
    }
}

fn stands_alone(release: &Release, request: &InstallRequest) -> Result<(), SwapError> {
    match request.rivals.get(release.component.as_str()) {
        Some(rival) => Err(SwapError::Rival {
            source_name: request.source.clone(),
            rival: rival.clone(),
            component: release.component.clone(),
        }),
        None => Ok(()),
    }
}

/// The record of a release that serves; staging says another state.
fn record(release: &Release, source: &str) -> Result<ReleaseRecord, SwapError> {
    let text = |value: Result<Value, serde_json::Error>| {
        let value = value.map_err(|error| SwapError::Store(error.to_string()))?;
        Json::parse(&value.to_string()).map_err(|error| SwapError::Store(error.to_string()))
    };
    Ok(ReleaseRecord {
        component: release.component.clone(),
        digest: release.digest,
        version: release.version().to_string(),
        descriptor: text(serde_json::to_value(&release.descriptor))?,
        contract: CONTRACT_VERSION.to_owned(),
        imports: release.imports.clone(),
        limits: text(serde_json::to_value(release.limits))?,
        source: source.to_owned(),
        state: ReleaseState::Probation,
        installed_at_ms: now_ms(),
        verdict: None,
    })
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a component's root object.
pub(crate) fn root_name(component: &ComponentId) -> Result<ObjectName, WriteError> {
    Ok(ObjectName::new(component.as_str())?)
}

/// Whether a slot is a method of this component.
pub(crate) fn is_method_of(slot: &Slot, component: &ComponentId) -> bool {
    matches!(slot, Slot::Method(method) if &method.component == component)
}
