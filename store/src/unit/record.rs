//! Posts, audit rows and system records of one unit: everything that commits with its writes and is not an object.

use std::sync::Arc;

use serde::Serialize;

use crate::archive::Publication;
use crate::audit::Fact;
use crate::error::{Overflow, WriteError};
use crate::history::{Forget, Sweep};
use crate::id::{ComponentId, Digest, Position, PostId};
use crate::limit;
use crate::outbox::Post;
use crate::record::{RecordWrite, ReleaseRecord, SeatRecord};

use super::Unit;

impl Unit {
    /// Sends a message after this unit commits. At most 1,000 per unit; 100,000 pending in the store, checked when
    /// the unit votes.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 1,000 posts, 32 hops or the unit's bytes; [`WriteError::Invalid`] selector.
    pub fn post(&mut self, post: Post) -> Result<(), WriteError> {
        post.check()?;
        Ok(self.layers.put_post(post)?)
    }

    /// Takes a post from the outbox in this unit's commit, which conflicts when the post is no longer pending.
    pub fn take_post(&mut self, post: PostId) {
        self.layers.take(post);
    }

    /// Counts a failed delivery in this unit's commit; the third makes it a dead letter, with an audit row.
    /// Nothing happens when the post is no longer pending.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past the unit's bytes. `cause` is shortened to 1,000 characters.
    pub fn fail_post(&mut self, id: PostId, cause: &str, not_before_ms: u64) -> Result<(), WriteError> {
        let cause: String = cause.chars().take(1_000).collect();
        let bytes = cause.len();
        Ok(self.layers.put_record(RecordWrite::FailPost { id, cause, not_before_ms }, bytes)?)
    }

    /// Puts an edition of the archive in force.
    pub(crate) fn publish(&mut self, publication: Arc<Publication>) -> Result<(), WriteError> {
        Ok(self.layers.put_record(RecordWrite::Publish(publication), 64)?)
    }

    /// Lets an edition of the archive serve no more, unless another does already.
    pub(crate) fn withdraw(&mut self, collection: u32, number: u64) -> Result<(), WriteError> {
        Ok(self.layers.put_record(RecordWrite::Withdraw { collection, number }, 64)?)
    }

    /// Writes an audit row: a decision, stated in the commit that decides it.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 4,096 rows, 64 KiB in one row, or the unit's bytes.
    pub fn audit(&mut self, kind: &str, subject: &str, detail: serde_json::Value) -> Result<(), WriteError> {
        let fact = Fact { kind: kind.into(), subject: subject.into(), detail };
        Overflow::check("bytes of one audit row", fact.bytes(), limit::AUDIT_BYTES_MAX)?;
        Ok(self.layers.put_fact(fact)?)
    }

    /// Stores a release, or replaces its record. Its blob must have been put before; else the commit is refused as
    /// [`crate::CommitError::BlobMissing`].
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past the unit's bytes.
    pub fn put_release(&mut self, release: ReleaseRecord) -> Result<(), WriteError> {
        let bytes = json_bytes(&release);
        Ok(self.layers.put_record(RecordWrite::Release(release), bytes)?)
    }

    /// Forgets a release. Its blob is collected once nothing else names it; that no seat needs it is the caller's
    /// business. Nothing happens when there is no such release.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past the unit's records.
    pub fn remove_release(&mut self, component: &ComponentId, digest: Digest) -> Result<(), WriteError> {
        let record = RecordWrite::RemoveRelease { component: component.clone(), digest };
        Ok(self.layers.put_record(record, 96)?)
    }

    /// Sets which release serves a component.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past the unit's bytes.
    pub fn set_seat(&mut self, seat: SeatRecord) -> Result<(), WriteError> {
        let bytes = json_bytes(&seat);
        Ok(self.layers.put_record(RecordWrite::Seat(seat), bytes)?)
    }

    /// Takes a component's seat away. Its releases stay.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past the unit's records.
    pub fn remove_seat(&mut self, component: &ComponentId) -> Result<(), WriteError> {
        Ok(self.layers.put_record(RecordWrite::RemoveSeat(component.clone()), 64)?)
    }

    /// Lets a component use an interface.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 256 bytes of `interface` or `by`.
    pub fn put_grant(
        &mut self,
        component: &ComponentId,
        interface: &str,
        by: &str,
    ) -> Result<(), WriteError> {
        check_word("bytes of an interface", interface)?;
        check_word("bytes of a granter", by)?;
        let (interface, by) = (interface.to_owned(), by.to_owned());
        let grant = RecordWrite::Grant { component: component.clone(), interface, by };
        Ok(self.layers.put_record(grant, 512)?)
    }

    /// No longer lets a component use an interface.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 256 bytes of `interface`.
    pub fn remove_grant(&mut self, component: &ComponentId, interface: &str) -> Result<(), WriteError> {
        check_word("bytes of an interface", interface)?;
        let interface = interface.to_owned();
        Ok(self
            .layers
            .put_record(RecordWrite::RemoveGrant { component: component.clone(), interface }, 320)?)
    }

    /// Remembers that the inbox file at `path` with these bytes was dealt with. What was there before is forgotten: an
    /// earlier file that is copied there again is news.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] past 4 KiB of `path`.
    pub fn mark_consumed(&mut self, path: &str, digest: Digest) -> Result<(), WriteError> {
        Overflow::check("bytes of a path", path.len(), limit::PATH_BYTES_MAX)?;
        let record = RecordWrite::Consumed { path: path.into(), digest };
        Ok(self.layers.put_record(record, path.len() + 32)?)
    }

    /// Raises the history floor in this unit's commit.
    pub(crate) fn raise_history_floor(&mut self, floor: Position) -> Result<(), WriteError> {
        Ok(self.layers.put_record(RecordWrite::RaiseHistoryFloor(floor), 16)?)
    }

    /// Removes what ended at or below the history floor in this unit's commit.
    pub(crate) fn sweep_history(&mut self, sweep: Sweep) -> Result<(), WriteError> {
        let bytes = sweep.bytes();
        Ok(self.layers.put_record(RecordWrite::SweepHistory(sweep), bytes)?)
    }

    /// Removes every row of some objects in this unit's commit.
    pub(crate) fn forget(&mut self, forget: Arc<Forget>) -> Result<(), Overflow> {
        let bytes = forget.bytes();
        self.layers.put_record(RecordWrite::Forget(forget), bytes)
    }

    /// Closes sessions that were idle for 24 hours, at most 256 in this unit's commit.
    pub(crate) fn sweep_sessions(&mut self, now_ms: u64) -> Result<(), WriteError> {
        Ok(self.layers.put_record(RecordWrite::SweepSessions { now_ms }, 0)?)
    }
}

fn check_word(what: &'static str, word: &str) -> Result<(), Overflow> {
    Overflow::check(what, word.len(), limit::NAME_BYTES_MAX)
}

fn json_bytes(record: &impl Serialize) -> usize {
    serde_json::to_vec(record).map_or(limit::UNIT_BYTES_MAX, |bytes| bytes.len())
}
