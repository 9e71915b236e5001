//! Seats: which release serves each component, for the whole host behind two pointers.
//!
//! A root captures a table when it is admitted and its whole tree uses it, so no tree ever sees a mixed set. Every
//! table carries the position of the commit that decides it:
//!
//! ```text
//! voted      published in the vote, before units may begin on its position       for roots that may write
//! decided    published in the finish, before its position becomes visible        for roots that only read
//! withdrawn  the commit failed: what is voted for is again what is decided        before anyone can vote anew
//! ```
//! A root whose snapshot is older than its table begins again, so objects and code agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use telos_store::{ComponentId, Digest, Position};

use crate::contract::PersonaPre;
use crate::descriptor::Descriptor;
use crate::instance::MessageState;
use crate::limits::Limits;
use crate::publication::Move;
use crate::tally::Tally;

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
    /// What it has done since it was loaded.
    pub(crate) tally: Tally,
    /// One of the releases whose code is loaded, until it is dropped.
    pub(crate) _loaded: Loaded,
}

/// Counts the releases whose code is loaded.
#[derive(Clone, Default)]
pub(crate) struct Loaded(Arc<()>);

impl Loaded {
    /// How many clones there are besides this one.
    pub(crate) fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
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

    /// This table with some seats moved, all at once.
    pub(crate) fn moved(&self, position: Position, moves: &[Move]) -> Self {
        let mut releases = self.releases.clone();
        for step in moves {
            match step {
                Move::Serve { release, .. } => {
                    releases.insert(release.component.clone(), Arc::clone(release));
                }
                Move::Vacate(component) => {
                    releases.remove(component);
                }
            }
        }
        Self { position, releases }
    }
}

/// The tables that roots begin with. One change at a time: whoever changes them takes turns.
pub(crate) struct Seats {
    voted: ArcSwap<SeatTable>,
    decided: ArcSwap<SeatTable>,
}

impl Seats {
    pub(crate) fn new(table: SeatTable) -> Self {
        let table = Arc::new(table);
        Self { voted: ArcSwap::new(Arc::clone(&table)), decided: ArcSwap::new(table) }
    }

    /// The table of what is decided.
    pub(crate) fn current(&self) -> Arc<SeatTable> {
        self.decided.load_full()
    }

    /// The table of what is voted for.
    pub(crate) fn voted(&self) -> Arc<SeatTable> {
        self.voted.load_full()
    }

    /// Replaces both by what the store says.
    pub(crate) fn publish(&self, table: SeatTable) {
        let table = Arc::new(table);
        self.decided.store(Arc::clone(&table));
        self.voted.store(table);
    }

    /// A change has passed its vote.
    pub(crate) fn vote(&self, table: Arc<SeatTable>) {
        self.voted.store(table);
    }

    /// A change that was voted for is durable.
    pub(crate) fn decide(&self, table: Arc<SeatTable>) {
        self.decided.store(table);
    }

    /// A change that was voted for failed.
    pub(crate) fn withdraw(&self) {
        self.voted.store(self.decided.load_full());
    }
}
