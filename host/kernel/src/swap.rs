//! Install, swap, rollback, remove: how a release comes to serve, and how it stops.
//!
//! ```text
//! examine and try      off the serving path        crash after: nothing happened
//! stored requirements  names, slots, grants        crash after: nothing happened
//! decide               one commit: release, seat,  durable      crash after: the new release serves
//!                      root-object slots, audit
//! publish              in that commit's vote for roots that may write, in its finish for those that only read
//! ```
//! One change at a time: a turn of its own, never held on the serving path, nor while a busy object is waited for. Any
//! failure leaves what served serving.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telos_store::{
    BlobError, CommitError, ComponentId, DedupeKey, Digest, Json, ObjectName, ReadError, ReleaseRecord,
    ReleaseState, SeatRecord, Slot, Store, WriteError, told,
};

use crate::activation::{Decision, Reason};
use crate::change::{self, Settled, remembered};
use crate::contract::CONTRACT_VERSION;
use crate::descriptor::Descriptor;
use crate::examine::{ExamineError, Examined, Examiner};
use crate::failure::{Effect, FREE_SPACE};
use crate::grant::{DEFAULT_GRANTS, Grants, INTERFACES};
use crate::lane::Lanes;
use crate::limits::Limits;
use crate::publication::Change;
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
    /// Another change came first.
    #[error("no release of `{0}` waits for a grant any more")]
    NothingWaits(ComponentId),
    /// No such interface.
    #[error("there is no interface `{0}`; there are {known}", known = INTERFACES.join(", "))]
    NoSuchInterface(String),
    /// The root object had too much to do for too long.
    #[error(
        "`{component}` was not changed: its root object is busy; in {waited_s} s it was not this change's turn"
    )]
    RootBusy {
        /// The component.
        component: ComponentId,
        /// How long a change waits; one that finds the object's lane full does not.
        waited_s: u64,
    },
    /// The grant was given; the release that waited for it could not begin to serve.
    #[error("the grant was given, but {component} {version} does not serve yet: {cause}")]
    GrantedOnly {
        /// The component.
        component: ComponentId,
        /// The release that waits.
        version: String,
        /// Why.
        #[source]
        cause: Box<SwapError>,
    },
    /// The commit was refused, or nobody knows.
    #[error("the store did not take it: {0}")]
    Commit(#[from] CommitError),
    /// The store could not be read, or did not take the bytes; nothing was changed.
    #[error("the store did not take it: {0}")]
    Store(String),
    /// The device that the store is on has no room for the bytes; nothing was changed.
    #[error("there is no room for it: {0}")]
    NoRoom(String),
    /// The change ended before it could say how.
    #[error("the change was cut short: {0}")]
    CutShort(String),
}

impl SwapError {
    /// Whether what was asked for may have happened.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Commit(error) => change::effect(error),
            Self::GrantedOnly { .. } => Effect::Committed,
            Self::CutShort(_) => Effect::Unknown,
            _ => Effect::None,
        }
    }

    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Commit(error) => change::kind(error),
            Self::RootBusy { .. } => "busy",
            Self::GrantedOnly { cause, .. } => cause.kind(),
            Self::NoRoom(_) => "no-room",
            _ => "refused",
        }
    }

    /// What to do next, when there is something better than reading the message.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Commit(error) => change::next_step(error).map(Into::into),
            Self::RootBusy { component, .. } => Some(format!(
                "ask again when it has less to do; `telos plugin revoke {component} --all` does not wait"
            )),
            Self::GrantedOnly { component, version, .. } => {
                Some(format!("`telos plugin swap {component} {version}` lets it serve"))
            }
            Self::NoRoom(_) => Some(FREE_SPACE.into()),
            Self::CutShort(_) => Some("look whether it happened, with `telos audit`".into()),
            _ => None,
        }
    }

    /// Whether this host refuses these bytes for ever, whatever else changes: only then need nobody try them again.
    pub fn is_of_the_bytes(&self) -> bool {
        match self {
            Self::Examine { error, .. } => error.is_of_the_bytes(),
            Self::Example { .. } => true,
            _ => false,
        }
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
        if error.is_no_room() { Self::NoRoom(told(&error)) } else { Self::Store(told(&error)) }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// The component.
    pub id: ComponentId,
    /// The release's version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// `serving`, or `staged` while it needs a grant.
    pub state: Cow<'static, str>,
    /// What an operator must grant before it may serve.
    pub missing_grants: Vec<String>,
    /// The version that served before, if any.
    pub previous: Option<String>,
    /// The commit that decided it.
    pub position: u64,
    /// Microseconds during which no root could begin, table published → position visible: of the two such moments,
    /// one for roots that may write and one for those that only read, the longer. 0 in a later answer to the same
    /// request.
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
    pub(crate) journal: Arc<dyn JournalSink>,
    pub(crate) lanes: Arc<Lanes>,
    /// Whoever has it changes seats and grants; nobody waits for a lane while having it.
    pub(crate) turn: tokio::sync::Mutex<()>,
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
        let release = &examined.release;
        identity_agrees(release, &install)?;
        stands_alone(release, &install)?;
        if !self.has_passed(release)? {
            self.demand_examples(&examined).await?;
        }
        self.store.put_blob(bytes)?;
        let decide_install = || {
            let granting = self.granting(release, &install.grants)?;
            let missing = self.missing(release, &granting)?;
            let record = record(release, &install.source, &missing)?;
            let (release, consumed) = (Arc::clone(release), install.consumed.clone());
            let reason = Reason::Installed;
            Ok(Decision { release, record, granting, missing, consumed, reason, request })
        };
        self.change_seat(&release.component, decide_install).await
    }

    /// Lets a kept release serve, by version or by the start of its digest.
    pub(crate) async fn swap_to(
        &self,
        component: &ComponentId,
        wanted: &str,
        request: Option<DedupeKey>,
    ) -> Result<Swapped, SwapError> {
        if let Some(answer) = self.remembered(request)? {
            return Ok(answer);
        }
        let decide_swap = || {
            let record = self.find_release(component, wanted)?;
            self.decision(record, Reason::Swapped, request)
        };
        self.change_seat(component, decide_swap).await
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
        let decide_rollback = || {
            let previous = self.seat(component)?.previous;
            let digest = previous.ok_or_else(|| SwapError::NothingEarlier(component.clone()))?;
            let record = self.find_release(component, &digest.to_string())?;
            self.decision(record, Reason::RolledBack, request)
        };
        self.change_seat(component, decide_rollback).await
    }

    /// Takes a component's seat away. Its objects, releases and history stay.
    pub(crate) async fn remove(
        &self,
        component: &ComponentId,
        request: Option<DedupeKey>,
    ) -> Result<u64, SwapError> {
        if let Some(Settled { position }) = self.remembered(request)? {
            return Ok(position);
        }
        let prepare = || Ok((self.seat(component)?, self.root(component)?));
        let (seat, turn) = self.in_turn(component, prepare).await?;
        self.vacate(component, seat.digest, turn, request).await
    }

    /// Grants interfaces, and lets a release serve that waited for them.
    ///
    /// Two commits, so that a grant never waits for a busy object. The request's number belongs to the first; the
    /// second says where things shall stand, so doing it again changes nothing.
    pub(crate) async fn grant(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<Option<Swapped>, SwapError> {
        if self.remembered::<Settled>(request)?.is_none() {
            self.give(component, interfaces, request).await?;
        }
        let Some(staged) = self.staged(component)? else {
            return Ok(None);
        };
        if !self.grants.missing(component, &staged.imports).is_empty() {
            return Ok(None);
        }
        let decide_activation = || {
            let waits = self.staged(component)?.ok_or_else(|| SwapError::NothingWaits(component.clone()))?;
            self.decision(waits, Reason::Granted, None)
        };
        let activated = self.change_seat(component, decide_activation).await;
        activated.map(Some).map_err(|cause| SwapError::GrantedOnly {
            component: component.clone(),
            version: staged.version.clone(),
            cause: Box::new(cause),
        })
    }

    async fn give(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<(), SwapError> {
        let _turn = self.turn.lock().await;
        let staged = self.staged(component)?;
        let wanted: BTreeSet<String> = match interfaces {
            [all] if all == "all" => self.wanted_by(component, staged.as_ref())?.into_iter().collect(),
            listed => listed.iter().cloned().collect(),
        };
        known_interfaces(&wanted)?;
        self.change(request, |unit| {
            for interface in &wanted {
                unit.put_grant(component, interface, "operator")?;
            }
            unit.audit("grant.given", component.as_str(), json!({ "interfaces": wanted }))?;
            let change = Change::Grant(component.clone(), wanted.clone());
            Ok((Settled::default(), Some(self.publication(change, None))))
        })
        .await?;
        Ok(())
    }

    /// Takes grants away; from the next host call on, that interface answers `denied`.
    pub(crate) async fn revoke(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<u64, SwapError> {
        if let Some(Settled { position }) = self.remembered(request)? {
            return Ok(position);
        }
        let _turn = self.turn.lock().await;
        self.known(component)?;
        let all: BTreeSet<String> = match interfaces {
            [all] if all == "all" => self.grants.of(component),
            listed => listed.iter().cloned().collect(),
        };
        known_interfaces(&all)?;
        let (Settled { position }, _) = self
            .change(request, |unit| {
                for interface in &all {
                    unit.remove_grant(component, interface)?;
                }
                unit.audit("grant.revoked", component.as_str(), json!({ "interfaces": all }))?;
                let change = Change::Revoke(component.clone(), all.clone());
                Ok((Settled::default(), Some(self.publication(change, None))))
            })
            .await?;
        Ok(position)
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

    fn decision(
        &self,
        record: ReleaseRecord,
        reason: Reason,
        request: Option<DedupeKey>,
    ) -> Result<Decision, SwapError> {
        let release = Arc::new(self.load(&record)?);
        let missing = self.grants.missing(&release.component, &release.imports);
        let record = ReleaseRecord { state: state_of(&missing), ..record };
        let granting = BTreeSet::new();
        Ok(Decision { release, record, granting, missing, consumed: None, reason, request })
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn bytes_that_are_not_taken_name_the_file_and_the_cause() {
        let error = |kind: io::ErrorKind| {
            let file = BlobError::File { path: "/h/store/blobs/f4/02".into(), cause: kind.into() };
            SwapError::from(file)
        };
        let (full, broken) = (error(io::ErrorKind::StorageFull), error(io::ErrorKind::PermissionDenied));
        assert_eq!((full.kind(), full.effect()), ("no-room", Effect::None));
        assert!(full.next_step().is_some_and(|next| next.contains("free some space")));
        assert_eq!(broken.kind(), "refused");
        for (error, cause) in [(full, "no storage space"), (broken, "permission denied")] {
            let told = error.to_string();
            assert!(told.contains("/h/store/blobs/f4/02: ") && told.contains(cause), "{told}");
        }
    }
}
