//! Install, swap, rollback, remove: how a release comes to serve, and how it stops.
//!
//! ```text
//! examine and try      off the serving path        crash after: nothing happened
//! stored requirements  names, slots, grants        crash after: nothing happened
//! decide               one commit: release, seat,  durable      crash after: the new release serves
//!                      root-object slots, audit
//! publish              in that commit's vote for roots that may write, in its finish for those that only read
//! ```
//! One change at a time: a mutex of its own, never held on the serving path. Any failure leaves what served serving.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use telos_store::{
    BlobError, CommitError, ComponentId, Digest, Json, ObjectName, ReadError, ReleaseRecord, ReleaseState,
    SeatRecord, Slot, Store, Vote, WriteError,
};

use crate::activation::{Decision, Reason};
use crate::contract::CONTRACT_VERSION;
use crate::decide::decide;
use crate::descriptor::Descriptor;
use crate::examine::{ExamineError, Examined, Examiner};
use crate::grant::{DEFAULT_GRANTS, Grants, INTERFACES};
use crate::lane::Lanes;
use crate::limits::Limits;
use crate::root_object::RootObjectError;
use crate::seams::JournalSink;
use crate::seat::{Release, SeatTable, Seats};
use crate::trial::{ExampleResult, run_examples};

/// Why a swap did not happen; the release that was serving keeps serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// The file is not a release.
    #[error("{source_name} was refused: {error}")]
    Examine {
        /// Where the bytes came from.
        source_name: String,
        /// Why.
        error: ExamineError,
    },
    /// The component is another one than its manifest says.
    #[error(
        "{source_name} was refused: its manifest says `{manifest}`, the component says `{embedded}`; make them agree"
    )]
    Identity {
        /// Where the bytes came from.
        source_name: String,
        /// The manifest's id.
        manifest: String,
        /// The embedded id.
        embedded: String,
    },
    /// Another file of the same directory holds the same component.
    #[error("{source_name} was refused: {rival} beside it holds `{component}` too; keep one of them")]
    Rival {
        /// Where the bytes came from.
        source_name: String,
        /// The other file.
        rival: String,
        /// The component both hold.
        component: ComponentId,
    },
    /// It broke one of its own promises.
    #[error("{component} {version} fails its own example `{name}` of `{selector}`: it {detail}")]
    Example {
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// The selector concerned.
        selector: String,
        /// The example.
        name: String,
        /// What differed.
        detail: String,
    },
    /// Its root object cannot be made or changed.
    #[error(transparent)]
    RootObject(#[from] RootObjectError),
    /// Carrying stored state to another generation is not part of this swap.
    #[error(
        "{component} serves generation {serving} and {version} wants {wanted}; this host swaps within one generation"
    )]
    Generation {
        /// The component.
        component: ComponentId,
        /// The version that wants another generation.
        version: String,
        /// What serves.
        serving: u32,
        /// What it wants.
        wanted: u32,
    },
    /// No component of this id has a seat or a release.
    #[error("no plugin is called `{0}`; see `telos plugin list`")]
    NoSuchPlugin(String),
    /// No such release is kept.
    #[error("`{component}` has no release `{wanted}`; it has {known}")]
    NoSuchRelease {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// There is nothing to go back to.
    #[error("`{0}` has no earlier release to return to")]
    NothingEarlier(ComponentId),
    /// No such interface.
    #[error("there is no interface `{0}`; there are {known}", known = INTERFACES.join(", "))]
    NoSuchInterface(String),
    /// The store refused or failed.
    #[error("the store did not take it: {0}")]
    Store(String),
}

impl From<CommitError> for SwapError {
    fn from(error: CommitError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<ReadError> for SwapError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<telos_store::Failure> for SwapError {
    fn from(error: telos_store::Failure) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<WriteError> for SwapError {
    fn from(error: WriteError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<BlobError> for SwapError {
    fn from(error: BlobError) -> Self {
        Self::Store(error.to_string())
    }
}

/// What an install asks for besides the bytes.
#[derive(Debug, Clone, Default)]
pub struct InstallRequest {
    /// Where the bytes came from, for people and the record.
    pub source: String,
    /// The id that a manifest claims.
    pub manifest_id: Option<String>,
    /// Limits that a manifest asks for.
    pub limits: Limits,
    /// Interfaces granted along with it, by an operator or by the bundle.
    pub grants: Granting,
    /// The inbox path to mark as consumed in the same commit.
    pub consumed: Option<String>,
    /// Components that other files of the same directory hold, with their paths.
    pub rivals: BTreeMap<String, String>,
}

/// What an install grants.
#[derive(Debug, Clone, Default)]
pub enum Granting {
    /// Nothing beyond what there is.
    #[default]
    Nothing,
    /// Whatever the release imports.
    All,
    /// These.
    These(Vec<String>),
}

/// What became of an install, swap or rollback.
#[derive(Debug, Clone, Serialize)]
pub struct Swapped {
    /// The component.
    pub id: ComponentId,
    /// The release's version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// `serving`, or `staged` while it needs a grant.
    pub state: &'static str,
    /// What an operator must grant before it may serve.
    pub missing_grants: Vec<String>,
    /// The version that served before, if any.
    pub previous: Option<String>,
    /// The commit that decided it.
    pub position: u64,
    /// Microseconds during which no root could begin, table published → position visible: of the two such moments,
    /// one for roots that may write and one for those that only read, the longer.
    pub pause_us: u64,
}

/// A candidate's examination for people, nothing changed.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// All of it would pass.
    pub ok: bool,
    /// The component.
    pub id: ComponentId,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// The contract it was built for.
    pub contract: &'static str,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// What an operator would have to grant.
    pub missing_grants: Vec<String>,
    /// Its selectors.
    pub selectors: Vec<String>,
    /// How its examples went.
    pub examples: Vec<ExampleResult>,
}

/// Changes seats, one change at a time.
pub(crate) struct Swapper {
    pub(crate) store: Store,
    examiner: Examiner,
    pub(crate) seats: Arc<Seats>,
    pub(crate) grants: Arc<Grants>,
    journal: Arc<dyn JournalSink>,
    pub(crate) lanes: Arc<Lanes>,
    turn: tokio::sync::Mutex<()>,
}

impl Swapper {
    pub(crate) fn new(
        store: Store,
        examiner: Examiner,
        seats: Arc<Seats>,
        grants: Arc<Grants>,
        journal: Arc<dyn JournalSink>,
        lanes: Arc<Lanes>,
    ) -> Self {
        Self { store, examiner, seats, grants, journal, lanes, turn: tokio::sync::Mutex::new(()) }
    }

    /// Examines and tries bytes; nothing changes.
    pub(crate) async fn check(
        &self,
        bytes: &[u8],
        source: &str,
        limits: Limits,
    ) -> Result<Checked, SwapError> {
        let examined = self.examine(bytes, source, limits).await?;
        let release = &examined.release;
        let examples = self.try_out(&examined).await?;
        Ok(Checked {
            ok: examples.iter().all(|example| example.passed),
            id: release.component.clone(),
            version: release.version().to_string(),
            digest: release.digest,
            contract: CONTRACT_VERSION,
            imports: release.imports.clone(),
            missing_grants: self.missing(release, &BTreeSet::new())?,
            selectors: release.descriptor.selectors.keys().cloned().collect(),
            examples,
        })
    }

    /// Makes a release of bytes and lets it serve, or stages it when it needs a grant.
    pub(crate) async fn install(&self, bytes: &[u8], request: InstallRequest) -> Result<Swapped, SwapError> {
        let examined = self.examine(bytes, &request.source, request.limits).await?;
        let release = Arc::clone(&examined.release);
        identity_agrees(&release, &request)?;
        stands_alone(&release, &request)?;
        if !self.has_passed(&release)? {
            self.demand_examples(&examined).await?;
        }
        let _turn = self.turn.lock().await;
        self.store.put_blob(bytes)?;
        let granting = self.granting(&release, &request.grants)?;
        let missing = self.missing(&release, &granting)?;
        let record = record(&release, &request.source, &missing)?;
        self.settle(Decision {
            release,
            record,
            granting,
            missing,
            consumed: request.consumed,
            reason: Reason::Installed,
        })
        .await
    }

    /// Lets a kept release serve, by version or by the start of its digest.
    pub(crate) async fn swap_to(&self, component: &ComponentId, wanted: &str) -> Result<Swapped, SwapError> {
        let _turn = self.turn.lock().await;
        let record = self.find_release(component, wanted)?;
        self.activate_or_stage(record, Reason::Swapped).await
    }

    /// Lets the release serve that served before this one.
    pub(crate) async fn rollback(&self, component: &ComponentId) -> Result<Swapped, SwapError> {
        let _turn = self.turn.lock().await;
        let seat = self.seat(component)?;
        let digest = seat.previous.ok_or_else(|| SwapError::NothingEarlier(component.clone()))?;
        let record = self.find_release(component, &digest.to_string())?;
        self.activate_or_stage(record, Reason::RolledBack).await
    }

    /// Takes a component's seat away. Its objects, releases and history stay.
    pub(crate) async fn remove(&self, component: &ComponentId) -> Result<u64, SwapError> {
        let _turn = self.turn.lock().await;
        let seat = self.seat(component)?;
        self.vacate(component, seat.digest).await
    }

    /// Grants interfaces, and lets a release serve that waited for them.
    pub(crate) async fn grant(
        &self,
        component: &ComponentId,
        interfaces: &[String],
    ) -> Result<Option<Swapped>, SwapError> {
        let _turn = self.turn.lock().await;
        let staged = self.staged(component)?;
        let wanted = match interfaces {
            [all] if all == "all" => self.wanted_by(component, staged.as_ref())?,
            listed => listed.to_vec(),
        };
        known_interfaces(&wanted)?;
        let mut unit = self.store.begin();
        for interface in &wanted {
            unit.put_grant(component, interface, "operator")?;
        }
        unit.audit("grant.given", component.as_str(), json!({ "interfaces": wanted }))?;
        decide(&self.store, unit, Vote::default()).await?;
        self.grants.reload(&self.store)?;
        match staged {
            Some(record) if self.grants.missing(component, &record.imports).is_empty() => {
                Ok(Some(self.activate_or_stage(record, Reason::Granted).await?))
            }
            _ => Ok(None),
        }
    }

    /// Takes grants away; from the next host call on, that interface answers `denied`.
    pub(crate) async fn revoke(
        &self,
        component: &ComponentId,
        interfaces: &[String],
    ) -> Result<u64, SwapError> {
        let _turn = self.turn.lock().await;
        self.known(component)?;
        let all: Vec<String> = match interfaces {
            [all] if all == "all" => self.grants.of(component).into_iter().collect(),
            listed => listed.to_vec(),
        };
        known_interfaces(&all)?;
        let mut unit = self.store.begin();
        for interface in &all {
            unit.remove_grant(component, interface)?;
        }
        unit.audit("grant.revoked", component.as_str(), json!({ "interfaces": all }))?;
        let commit = decide(&self.store, unit, Vote::default()).await?;
        self.grants.reload(&self.store)?;
        Ok(commit.position.get())
    }

    /// Writes down that a candidate was refused, so that it is not tried again and everyone can see why.
    pub(crate) async fn refuse(&self, path: &str, digest: Digest, cause: &str) -> Result<(), SwapError> {
        let mut unit = self.store.begin();
        unit.mark_consumed(path, digest)?;
        unit.audit("plugin.refused", path, json!({ "digest": digest, "cause": cause }))?;
        decide(&self.store, unit, Vote::default()).await?;
        Ok(())
    }

    /// Loads what serves according to the store, when the host starts. A seat that cannot be loaded does not stop it.
    pub(crate) fn load_seats(&self) -> Result<Vec<(ComponentId, SwapError)>, SwapError> {
        let mut table = SeatTable { position: self.store.position(), releases: Default::default() };
        let mut unloadable = Vec::new();
        for seat in self.store.seats()? {
            let loaded = self
                .find_release(&seat.component, &seat.digest.to_string())
                .and_then(|record| self.load(&record));
            match loaded {
                Ok(release) => {
                    table.releases.insert(seat.component, Arc::new(release));
                }
                Err(error) => unloadable.push((seat.component, error)),
            }
        }
        self.seats.publish(table);
        Ok(unloadable)
    }

    async fn examine(&self, bytes: &[u8], source: &str, limits: Limits) -> Result<Examined, SwapError> {
        let refused = |error| SwapError::Examine { source_name: source.to_owned(), error };
        self.examiner.examine(bytes, limits).await.map_err(refused)
    }

    async fn try_out(&self, examined: &Examined) -> Result<Vec<ExampleResult>, SwapError> {
        let tried = run_examples(self.examiner.engines(), &examined.on_trial, &self.journal).await;
        tried.map_err(SwapError::Store)
    }

    async fn demand_examples(&self, examined: &Examined) -> Result<(), SwapError> {
        let results = self.try_out(examined).await?;
        match results.into_iter().find(|result| !result.passed) {
            None => Ok(()),
            Some(failed) => Err(SwapError::Example {
                component: examined.release.component.clone(),
                version: examined.release.version().to_string(),
                selector: failed.selector,
                name: failed.name,
                detail: failed.detail,
            }),
        }
    }

    /// Examples pass once per digest and contract version.
    fn has_passed(&self, release: &Release) -> Result<bool, SwapError> {
        let records = self.store.releases(Some(&release.component))?;
        Ok(records
            .iter()
            .any(|record| record.digest == release.digest && record.contract == CONTRACT_VERSION))
    }

    fn granting(&self, release: &Release, asked: &Granting) -> Result<BTreeSet<String>, SwapError> {
        let mut granting = BTreeSet::new();
        if self.store.releases(Some(&release.component))?.is_empty() {
            granting.extend(DEFAULT_GRANTS.iter().map(ToString::to_string));
        }
        match asked {
            Granting::Nothing => {}
            Granting::All => granting.extend(release.imports.iter().cloned()),
            Granting::These(interfaces) => granting.extend(interfaces.iter().cloned()),
        }
        known_interfaces(&granting)?;
        Ok(granting)
    }

    fn missing(&self, release: &Release, granting: &BTreeSet<String>) -> Result<Vec<String>, SwapError> {
        let is_new = self.store.releases(Some(&release.component))?.is_empty();
        let granted = |interface: &String| {
            granting.contains(interface) || (is_new && DEFAULT_GRANTS.contains(&interface.as_str()))
        };
        let missing = self.grants.missing(&release.component, &release.imports);
        Ok(missing.into_iter().filter(|interface| !granted(interface)).collect())
    }

    async fn activate_or_stage(&self, record: ReleaseRecord, reason: Reason) -> Result<Swapped, SwapError> {
        let release = Arc::new(self.load(&record)?);
        let missing = self.grants.missing(&release.component, &release.imports);
        let record = ReleaseRecord { state: state_of(&missing), ..record };
        self.settle(Decision { release, record, granting: BTreeSet::new(), missing, consumed: None, reason })
            .await
    }

    fn load(&self, record: &ReleaseRecord) -> Result<Release, SwapError> {
        let missing =
            || SwapError::Store(format!("the bytes of {} {} are gone", record.component, record.version));
        let bytes = self.store.blob(&record.digest)?.ok_or_else(missing)?;
        let read = |error: serde_json::Error| SwapError::Store(format!("release {}: {error}", record.digest));
        let descriptor: Descriptor = serde_json::from_str(record.descriptor.as_str()).map_err(read)?;
        let limits: Limits = serde_json::from_str(record.limits.as_str()).map_err(read)?;
        let refused = |error| SwapError::Examine { source_name: record.digest.to_string(), error };
        self.examiner.load(&bytes, descriptor, limits).map_err(refused)
    }

    fn find_release(&self, component: &ComponentId, wanted: &str) -> Result<ReleaseRecord, SwapError> {
        let records = self.store.releases(Some(component))?;
        if records.is_empty() {
            return Err(SwapError::NoSuchPlugin(component.to_string()));
        }
        let is_wanted = |record: &&ReleaseRecord| {
            record.version == wanted || (wanted.len() >= 8 && record.digest.to_string().starts_with(wanted))
        };
        let newest = records.iter().filter(is_wanted).max_by_key(|record| record.installed_at_ms);
        newest.cloned().ok_or_else(|| SwapError::NoSuchRelease {
            component: component.clone(),
            wanted: wanted.to_owned(),
            known: records.iter().map(|record| record.version.clone()).collect::<Vec<_>>().join(", "),
        })
    }

    pub(crate) fn seat(&self, component: &ComponentId) -> Result<SeatRecord, SwapError> {
        let seats = self.store.seats()?;
        let found = seats.into_iter().find(|seat| &seat.component == component);
        found.ok_or_else(|| SwapError::NoSuchPlugin(component.to_string()))
    }

    fn known(&self, component: &ComponentId) -> Result<(), SwapError> {
        match self.store.releases(Some(component))?.is_empty() {
            false => Ok(()),
            true => Err(SwapError::NoSuchPlugin(component.to_string())),
        }
    }

    /// The newest release that waits for a grant.
    fn staged(&self, component: &ComponentId) -> Result<Option<ReleaseRecord>, SwapError> {
        self.known(component)?;
        let seated = self.seat(component).ok().map(|seat| seat.digest);
        let records = self.store.releases(Some(component))?;
        let newest = records.into_iter().max_by_key(|record| record.installed_at_ms);
        let waits = |record: &ReleaseRecord| {
            record.state == ReleaseState::NeedsGrant && Some(record.digest) != seated
        };
        Ok(newest.filter(waits))
    }

    fn wanted_by(
        &self,
        component: &ComponentId,
        staged: Option<&ReleaseRecord>,
    ) -> Result<Vec<String>, SwapError> {
        if let Some(record) = staged {
            return Ok(record.imports.clone());
        }
        let table = self.seats.current();
        Ok(table.releases.get(component).map(|release| release.imports.clone()).unwrap_or_default())
    }

    pub(crate) fn serving_version(&self, component: &ComponentId) -> Option<String> {
        self.seats.current().releases.get(component).map(|release| release.version().to_string())
    }
}

fn identity_agrees(release: &Release, request: &InstallRequest) -> Result<(), SwapError> {
    match &request.manifest_id {
        Some(manifest) if manifest != release.component.as_str() => Err(SwapError::Identity {
            source_name: request.source.clone(),
            manifest: manifest.clone(),
            embedded: release.component.to_string(),
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

fn known_interfaces<'a>(interfaces: impl IntoIterator<Item = &'a String>) -> Result<(), SwapError> {
    let unknown = interfaces.into_iter().find(|interface| !INTERFACES.contains(&interface.as_str()));
    unknown.map_or(Ok(()), |interface| Err(SwapError::NoSuchInterface(interface.clone())))
}

fn record(release: &Release, source: &str, missing: &[String]) -> Result<ReleaseRecord, SwapError> {
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
        state: state_of(missing),
        installed_at_ms: now_ms(),
    })
}

fn state_of(missing: &[String]) -> ReleaseState {
    if missing.is_empty() { ReleaseState::Permanent } else { ReleaseState::NeedsGrant }
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
