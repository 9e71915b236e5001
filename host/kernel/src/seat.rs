//! Seats: which release serves each component, for the whole host behind one pointer.
//!
//! A root captures the table when it is admitted and its whole tree uses it, so no tree ever sees a mixed set. Every
//! table carries the position of the commit that decided it, and is published inside that commit's finish, before the
//! position becomes visible: a root whose snapshot is older than its table begins again, so objects and code agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use telos_store::{ComponentId, Digest, Position};

use crate::contract::PersonaPre;
use crate::descriptor::Descriptor;
use crate::instance::MessageState;
use crate::limits::Limits;

/// One immutable release, linked and ready to serve.
pub struct Release {
    /// The component it is a release of.
    pub component: ComponentId,
    /// blake3 of the component's bytes.
    pub digest: Digest,
    /// What it says of itself.
    pub descriptor: Descriptor,
    /// Contract interfaces it imports, sorted.
    pub imports: Vec<String>,
    /// What one message may use.
    pub limits: Limits,
    pub(crate) pre: PersonaPre<MessageState>,
}

impl Release {
    /// Its semantic version.
    pub fn version(&self) -> &semver::Version {
        &self.descriptor.version
    }
}

/// Who serves, as of one commit.
pub struct SeatTable {
    /// The commit that decided this table.
    pub position: Position,
    /// The serving release of each component.
    pub releases: BTreeMap<ComponentId, Arc<Release>>,
}

impl SeatTable {
    /// This table with one seat changed.
    pub(crate) fn with(&self, position: Position, release: Arc<Release>) -> Self {
        let mut releases = self.releases.clone();
        releases.insert(release.component.clone(), release);
        Self { position, releases }
    }

    /// This table with one seat gone.
    pub(crate) fn without(&self, position: Position, component: &ComponentId) -> Self {
        let mut releases = self.releases.clone();
        releases.remove(component);
        Self { position, releases }
    }
}

/// The current table.
pub(crate) struct Seats(ArcSwap<SeatTable>);

impl Seats {
    pub(crate) fn new(table: SeatTable) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    pub(crate) fn current(&self) -> Arc<SeatTable> {
        self.0.load_full()
    }

    pub(crate) fn publish(&self, table: SeatTable) {
        self.0.store(Arc::new(table));
    }
}
