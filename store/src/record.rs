//! System records: what the host knows about components. Rows are JSON, so that an operator's tool can show them.

use serde::{Deserialize, Serialize};

use crate::id::{ComponentId, Digest};
use crate::json::Json;

/// One release: an immutable build of one component. Keyed by component and digest; its bytes are a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// The component.
    pub component: ComponentId,
    /// The digest of its bytes, under which the blob is stored.
    pub digest: Digest,
    /// Its semver version.
    pub version: String,
    /// What it said about itself, stored once and never asked again.
    pub descriptor: Json,
    /// The contract version it was built for.
    pub contract: String,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// The limits it runs under.
    pub limits: Json,
    /// Where it came from, for people.
    pub source: String,
    /// Where it is in its life.
    pub state: ReleaseState,
    /// When it was installed, Unix milliseconds.
    pub installed_at_ms: u64,
    /// What was found against it while it was on probation; it outlives a lifted quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// Why a release lost its seat while it was on probation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The reason, in a sentence without its full stop.
    pub cause: String,
    /// When it was decided, Unix milliseconds.
    pub at_ms: u64,
}

/// Where a release is in its life. The store keeps it; the kernel decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// Installed, not serving: waits for the next start, which carries its component's state over.
    Staged,
    /// Installed, waiting for a grant.
    NeedsGrant,
    /// Serving, on probation.
    Probation,
    /// Served its probation.
    Permanent,
    /// Gave the seat back without being burnt, or could not carry its component's state over, or its quarantine was
    /// lifted.
    Returned,
    /// Burnt its probation and could not give the seat back: nobody serves until somebody decides.
    Parked,
    /// Burnt its probation and gave the seat back; serves no more until its quarantine is lifted.
    Quarantined,
    /// Replaced by a later release, or removed.
    Retired,
}

/// The place of one component: which release serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRecord {
    /// The component.
    pub component: ComponentId,
    /// The release that serves.
    pub digest: Digest,
    /// The release that served before.
    pub previous: Option<Digest>,
    /// The last permanent release, to which the seat returns while this one is on probation; none once it is permanent
    /// itself, or when there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_to: Option<Digest>,
    /// How often the seat changed.
    pub swaps: u64,
    /// Since when this release serves, Unix milliseconds.
    pub since_ms: u64,
}

/// One interface that one component may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The component.
    pub component: ComponentId,
    /// The interface.
    pub interface: String,
    /// Who granted it.
    pub by: String,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
}

/// One change to system records, written with the unit that holds it.
#[derive(Clone, Debug)]
pub(crate) enum RecordWrite {
    Release(ReleaseRecord),
    RemoveRelease { component: ComponentId, digest: Digest },
    Seat(SeatRecord),
    RemoveSeat(ComponentId),
    Grant { component: ComponentId, interface: String, by: String },
    RemoveGrant { component: ComponentId, interface: String },
    Consumed { path: String, digest: Digest },
    FailPost { id: crate::id::PostId, cause: String, not_before_ms: u64 },
    SweepSessions { now_ms: u64 },
    RaiseHistoryFloor(crate::id::Position),
    SweepHistory(crate::history::Sweep),
    Forget(std::sync::Arc<crate::history::Forget>),
    Shadow { base: crate::id::Position, state: Box<crate::object::Object> },
    RaiseGeneration { component: ComponentId, from: u32, to: u32, evolver: Digest },
    SettleShadows { keys: Vec<crate::tables::ShadowKey> },
    Publish(std::sync::Arc<crate::archive::Publication>),
    Withdraw { collection: u32, number: u64 },
    DropShadows { keys: Vec<crate::tables::ShadowKey> },
}
