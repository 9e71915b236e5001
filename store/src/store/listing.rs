//! What the store answers outside units: system records, audit, outbox, sessions and counts.

use std::ops::RangeInclusive;

use redb::{ReadableTable, ReadableTableMetadata};
use serde::Serialize;

use crate::audit::AuditRow;
use crate::commit::{Commit, Vote};
use crate::error::{CommitError, Failure};
use crate::id::{ComponentId, Digest, Position, PostId};
use crate::limit;
use crate::object::MethodSlot;
use crate::outbox::{DeadLetter, OutboxRow};
use crate::record::{GrantRecord, ReleaseRecord, SeatRecord};
use crate::requirements::{self, MethodOf};
use crate::scan::Scan as _;
use crate::session::{self, Dedupe, DedupeKey};
use crate::tables::{
    self, AUDIT, BLOBS, COLLECTIONS, CONSUMED, DEAD_LETTERS, DEDUPE, DigestKey, GRANTS, META, META_OBJECTS,
    NAMES, OBJECTS, OUTBOX, REDO, RELEASES, SEATS, SESSIONS, VECTORS,
};
use crate::vectors::CollectionShape;

use super::Store;

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The newest decided position.
    pub position: Position,
    /// Objects.
    pub objects: u64,
    /// States of objects, old ones included.
    pub object_rows: u64,
    /// Bindings and unbindings of names, old ones included.
    pub name_rows: u64,
    /// Vectors of all collections.
    pub vectors: u64,
    /// Changes of vectors kept for index followers.
    pub redo_rows: u64,
    /// Posts waiting for delivery.
    pub posts_pending: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Audit rows.
    pub audit_rows: u64,
    /// Blobs that rows name.
    pub blobs: u64,
    /// Bytes of all blobs on disk, those that no row names included.
    pub blob_bytes: u64,
    /// Units open in this process.
    pub units_open: u64,
}

/// What a store takes of the disk and of memory, against what it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes of the database file, free pages included.
    pub database_bytes: u64,
    /// Its quota.
    pub database_bytes_max: u64,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Their quota.
    pub blob_bytes_max: u64,
    /// Bytes of all vectors, counted as [`crate::StoreOptions::vector_bytes_per_owner_max`] says, those voted for included.
    pub vector_bytes: u64,
    /// Their quota.
    pub vector_bytes_max: u64,
    /// Blobs collected since the store was opened.
    pub blobs_collected: u64,
}

/// The bounds of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OwnerBounds {
    /// Bytes of states and names.
    pub stored_bytes: u64,
    /// Bytes of vectors.
    pub vector_bytes: u64,
    /// Posts waiting for delivery.
    pub posts_pending: usize,
}

impl Store {
    /// Bytes of one owner's vectors, counted as [`crate::StoreOptions::vector_bytes_per_owner_max`] says, those voted for included.
    /// Costs nothing.
    pub fn vector_bytes(&self, owner: &ComponentId) -> u64 {
        self.shared().order.read().room().of(owner)
    }

    /// Bytes that one component stores, counted as [`crate::StoreOptions::stored_bytes_per_owner_max`] says, those voted
    /// for included. Costs nothing.
    pub fn stored_bytes(&self, owner: &ComponentId) -> u64 {
        self.shared().order.read().stored.of(owner)
    }

    /// The component that stores most, and how many bytes. Cost: a look at each component.
    pub fn stores_most(&self) -> Option<(ComponentId, u64)> {
        self.shared().order.read().stored.fullest()
    }

    /// Posts of one component's objects that wait for delivery, those voted for included. Costs nothing.
    pub fn posts_pending(&self, owner: &ComponentId) -> usize {
        let shared = self.shared();
        let order = shared.order.read();
        let durable = shared.outbox.lock().pending_of(owner);
        order.posts_of_after(owner, durable)
    }

    /// The most that one component may have of storage, of vectors, and of posts that wait.
    pub fn owner_bounds(&self) -> OwnerBounds {
        let options = &self.shared().options;
        OwnerBounds {
            stored_bytes: options.stored_bytes_per_owner_max,
            vector_bytes: options.vector_bytes_per_owner_max,
            posts_pending: limit::POSTS_PENDING_PER_OWNER_MAX,
        }
    }

    /// What the store takes of the disk, and vectors of memory. Costs nothing.
    pub fn usage(&self) -> Usage {
        let shared = self.shared();
        Usage {
            database_bytes: shared.database.bytes(),
            database_bytes_max: shared.options.database_bytes_max,
            blob_bytes: shared.blobs.bytes(),
            blob_bytes_max: shared.options.blob_bytes_max,
            vector_bytes: shared.order.read().room().total(),
            vector_bytes_max: shared.options.vector_bytes_max,
            blobs_collected: shared.blobs.collected(),
        }
    }

    /// Releases, of one component or of all, by component and digest.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn releases(&self, component: Option<&ComponentId>) -> Result<Vec<ReleaseRecord>, Failure> {
        self.shared().read(RELEASES, |releases| list_releases(releases, component))
    }

    /// One release; none when it was never stored.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn release(
        &self,
        component: &ComponentId,
        digest: &Digest,
    ) -> Result<Option<ReleaseRecord>, Failure> {
        let key = (component.as_str(), digest.as_bytes());
        self.shared().read(RELEASES, |releases| {
            releases.get(key)?.map(|row| tables::decode_json("releases", row.value())).transpose()
        })
    }

    /// The first `limit` method slots that lead to a component and of which `is_wanted`. Cost: reads every object, in
    /// pieces, so that what is written meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn methods_of(
        &self,
        component: &ComponentId,
        limit: usize,
        is_wanted: impl Fn(&MethodSlot) -> bool,
    ) -> Result<Vec<MethodOf>, Failure> {
        requirements::list_methods(self.shared(), component, limit, &is_wanted)
    }

    /// All seats, by component.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn seats(&self) -> Result<Vec<SeatRecord>, Failure> {
        self.shared().read(SEATS, |seats| {
            seats.rows()?.map(|row| tables::decode_json("seats", row?.1.value())).collect()
        })
    }

    /// One component's seat; none when it has none. A point read.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn seat(&self, component: &ComponentId) -> Result<Option<SeatRecord>, Failure> {
        self.shared().read(SEATS, |seats| {
            seats.get(component.as_str())?.map(|row| tables::decode_json("seats", row.value())).transpose()
        })
    }

    /// Names of a component's vector collections, in order.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn collections(&self, owner: &ComponentId) -> Result<Vec<String>, Failure> {
        self.shared().read(COLLECTIONS, |collections| {
            let mut listed = Vec::new();
            for row in collections.rows_in((owner.as_str(), "")..)? {
                let (key, _) = row?;
                if key.value().0 != owner.as_str() {
                    break;
                }
                listed.push(key.value().1.to_owned());
            }
            Ok(listed)
        })
    }

    /// Every vector collection and how its index stands just now, by owner and name. Cost: a look at each row in memory.
    pub fn collection_shapes(&self) -> Vec<CollectionShape> {
        self.shared().index.read().shapes()
    }

    /// A component's grants, by interface.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn grants(&self, component: &ComponentId) -> Result<Vec<GrantRecord>, Failure> {
        self.shared().read(GRANTS, |grants| {
            let mut listed = Vec::new();
            for row in grants.rows_in((component.as_str(), "")..)? {
                let (key, value) = row?;
                if key.value().0 != component.as_str() {
                    break;
                }
                listed.push(tables::decode_json("grants", value.value())?);
            }
            Ok(listed)
        })
    }

    /// Every grant, by component and interface.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn all_grants(&self) -> Result<Vec<GrantRecord>, Failure> {
        self.shared().read(GRANTS, |grants| {
            grants.rows()?.map(|row| tables::decode_json("grants", row?.1.value())).collect()
        })
    }

    /// Whether the inbox file at `path` was last dealt with when it had these bytes.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn is_consumed(&self, path: &str, digest: &Digest) -> Result<bool, Failure> {
        let key = (path, digest.as_bytes());
        self.shared().read(CONSUMED, |consumed| Ok(consumed.get(key)?.is_some()))
    }

    /// Audit rows with a number above `number`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn audit_after(&self, number: u64, limit: usize) -> Result<Vec<AuditRow>, Failure> {
        self.shared().read(AUDIT, |audit| {
            let rows = audit.rows_in(number.saturating_add(1)..)?.take(limit);
            rows.map(|row| tables::decode_json("audit", row?.1.value())).collect()
        })
    }

    /// The newest audit rows between two numbers, both excluded, that are wanted: newest first, at most `limit` rows
    /// and 4 MiB of them, whichever comes first. Who wants more asks again below the last one. Cost: one row decoded at
    /// a time, down from `before`, until there are enough.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn audit_between(
        &self,
        after: u64,
        before: u64,
        limit: usize,
        is_wanted: impl Fn(&AuditRow) -> bool,
    ) -> Result<Vec<AuditRow>, Failure> {
        self.shared().read(AUDIT, |audit| {
            let (mut wanted, mut bytes) = (Vec::new(), 0);
            for row in audit.rows_in(after.saturating_add(1)..before)?.rev() {
                if wanted.len() >= limit || bytes >= limit::AUDIT_READ_BYTES_MAX {
                    break;
                }
                let (_, stored) = row?;
                let row: AuditRow = tables::decode_json("audit", stored.value())?;
                if is_wanted(&row) {
                    bytes += stored.value().len();
                    wanted.push(row);
                }
            }
            Ok(wanted)
        })
    }

    /// Posts that may be delivered now, longest due first, at most `limit`: the oldest of each (source, target)
    /// only, so that delivering these keeps every order. A post stays due until it is taken or fails; who delivers
    /// several at a time remembers which are under way.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn outbox_due(&self, now_ms: u64, limit: usize) -> Result<Vec<OutboxRow>, Failure> {
        let due = self.shared().outbox.lock().due(now_ms, limit);
        self.shared().read(OUTBOX, |outbox| {
            // A post that was taken in between is no longer there.
            due.iter().filter_map(|id| tables::read_post(outbox, *id).transpose()).collect()
        })
    }

    /// When the next post is due, Unix milliseconds; none when none is pending.
    pub fn outbox_next_due_ms(&self) -> Option<u64> {
        self.shared().outbox.lock().next_due_ms()
    }

    /// Counts a failed delivery and waits until that is decided; see [`crate::Unit::fail_post`].
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn fail_post(&self, id: PostId, cause: &str, not_before_ms: u64) -> Result<Commit, CommitError> {
        let mut unit = self.begin();
        // One shortened cause is far within the bounds of a unit.
        let _ = unit.fail_post(id, cause, not_before_ms);
        self.decide(unit, Vote::default()).wait()
    }

    /// The newest dead letters, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        self.shared().read(DEAD_LETTERS, |letters| {
            let rows = letters.rows()?.rev().take(limit);
            rows.map(|row| tables::decode("dead_letters", row?.1.value())).collect()
        })
    }

    /// What is known about a request. Only a decision with the key settles it: two may both hear `Fresh`.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn dedupe_lookup(&self, key: &DedupeKey) -> Result<Dedupe, Failure> {
        let row = self.shared().read(SESSIONS, |sessions| tables::read_session(sessions, key.session))?;
        let (decided, rows) = self.shared().read(DEDUPE, |dedupe| {
            Ok((tables::read_decided(dedupe, key)?, tables::count_rows_above(dedupe, key, row)?))
        })?;
        Ok(session::judge(key, row, decided, rows, self.shared().now_ms()))
    }

    /// How many sessions the next sweep would close, at most 256; 0 when none was idle for 24 hours.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn idle_sessions(&self, now_ms: u64) -> Result<usize, Failure> {
        self.shared().read(SESSIONS, |sessions| Ok(tables::read_idle_sessions(sessions, now_ms)?.len()))
    }

    /// Closes sessions that were idle for 24 hours, at most 256 per call.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn sweep_sessions(&self, now_ms: u64) -> Result<Commit, CommitError> {
        let mut unit = self.begin();
        // One record of no bytes is far within the bounds of a unit.
        let _ = unit.sweep_sessions(now_ms);
        self.decide(unit, Vote::default()).wait()
    }

    /// How much the store holds.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn counts(&self) -> Result<Counts, Failure> {
        let shared = self.shared();
        Ok(Counts {
            position: self.position(),
            objects: shared.read(META, |meta| tables::read_meta(meta, META_OBJECTS))?,
            object_rows: shared.read(OBJECTS, |table| Ok(table.len()?))?,
            name_rows: shared.read(NAMES, |table| Ok(table.len()?))?,
            vectors: shared.read(VECTORS, |table| Ok(table.len()?))?,
            redo_rows: shared.read(REDO, |table| Ok(table.len()?))?,
            posts_pending: shared.read(OUTBOX, |table| Ok(table.len()?))?,
            dead_letters: shared.read(DEAD_LETTERS, |table| Ok(table.len()?))?,
            sessions: shared.read(SESSIONS, |table| Ok(table.len()?))?,
            audit_rows: shared.read(AUDIT, |table| Ok(table.len()?))?,
            blobs: shared.read(BLOBS, |table| Ok(table.len()?))?,
            blob_bytes: shared.blobs.bytes(),
            units_open: shared.pins.len() as u64,
        })
    }
}

/// Releases in the table, of one component or of all.
pub(crate) fn list_releases(
    releases: &impl ReadableTable<DigestKey, &'static [u8]>,
    component: Option<&ComponentId>,
) -> Result<Vec<ReleaseRecord>, Failure> {
    let rows = match component {
        Some(component) => releases.rows_in(all_digests(component.as_str()))?,
        None => releases.rows()?,
    };
    rows.map(|row| tables::decode_json("releases", row?.1.value())).collect()
}

fn all_digests(component: &str) -> RangeInclusive<(&str, &'static [u8; 32])> {
    (component, &[0; 32])..=(component, &[255; 32])
}
