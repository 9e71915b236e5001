//! Why a unit did not commit, and what it lost to.

use std::path::Path;
use std::sync::Arc;

use crate::id::{ComponentId, Digest, ObjectId, ObjectName, Position, PostId};

use super::{Effect, Failure, Fault, Overflow};

/// What another unit decided first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Contested {
    /// An object that the unit read.
    #[error("object {0}")]
    Object(ObjectId),
    /// A name that the unit read.
    #[error("name {0}")]
    Name(ObjectName),
    /// A vector whose presence the unit read.
    #[error("vector of object {object} in collection {collection}")]
    Vector {
        /// The collection.
        collection: ObjectName,
        /// The object.
        object: ObjectId,
    },
    /// A collection that was made with another dimension meanwhile.
    #[error("the dimension of collection {0}")]
    Collection(ObjectName),
    /// A post that is no longer pending.
    #[error("post {0}")]
    Post(PostId),
    /// A component's generation, raised meanwhile.
    #[error("the generation of {0}")]
    Generation(ComponentId),
}

/// Why a unit did not commit, or why nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Something the unit read has changed since; run it again on a fresh snapshot.
    #[error("{0} changed since it was read")]
    Conflict(Contested),
    /// A generation is to be raised, and this object has no state in it; evolve it and decide again.
    #[error("object {object} of {component} is not evolved yet")]
    Unevolved {
        /// The component.
        component: ComponentId,
        /// The first such object.
        object: ObjectId,
    },
    /// What the unit was built on failed to become durable; run it again.
    #[error("a commit that this one was built on failed; run it again")]
    Aborted,
    /// The deadline passed before the decision.
    #[error("the deadline passed before the decision")]
    Deadline,
    /// This request was decided before; here is what it answered then.
    #[error("this request was decided at position {position}")]
    DuplicateRequest {
        /// The outcome stored with the first decision.
        outcome: Vec<u8>,
        /// The first decision.
        position: Position,
    },
    /// The request's number is at or below what its client has acknowledged.
    #[error("request {number} is at or below the acknowledged {acked_through}")]
    TooOld {
        /// The request's number.
        number: u64,
        /// The session's watermark.
        acked_through: u64,
    },
    /// The session has too many requests that its client has not acknowledged.
    #[error("the session has {allowed} unacknowledged requests; acknowledge some")]
    SessionFull {
        /// The bound.
        allowed: u32,
    },
    /// The session was closed after a day without a request.
    #[error("the session is closed; open a new one")]
    UnknownSession,
    /// Too many posts are waiting for delivery.
    #[error(
        "{pending} posts{} are pending, {allowed} allowed; post again once some are delivered",
        owner.as_ref().map_or_else(String::new, |owner| format!(" of {owner}"))
    )]
    OutboxFull {
        /// Whose objects sent them; none when it is everybody's together.
        owner: Option<ComponentId>,
        /// Posts waiting now.
        pending: usize,
        /// The bound.
        allowed: usize,
    },
    /// The unit wrote more than it may.
    #[error(transparent)]
    TooLarge(#[from] Overflow),
    /// The database file is past its quota. Reads, removals and forgetting go on.
    #[error(
        "the database takes {bytes} bytes, {allowed} allowed; forget history and rewrite the file, or raise \
         database_bytes_max"
    )]
    DatabaseFull {
        /// Bytes of the file.
        bytes: u64,
        /// The quota.
        allowed: u64,
    },
    /// What the component stores, with what the unit adds, would take more than it may.
    #[error(
        "{owner} would store {found} bytes, {allowed} allowed, its past included; forget objects of it, keep less history, \
         or raise stored_bytes_per_owner_max"
    )]
    StorageFull {
        /// Whose.
        owner: ComponentId,
        /// Bytes with the unit's.
        found: u64,
        /// The bound.
        allowed: u64,
    },
    /// The unit's vectors, with those that are there, would take more than they may. Removals go on.
    #[error(
        "vectors of {} would take {found} bytes, {allowed} allowed; remove some, or forget the objects they belong \
         to, or raise {}",
        owner.as_ref().map_or("all components", |owner| owner.as_str()),
        if owner.is_some() { "the quota of one owner" } else { "the quota of all" }
    )]
    VectorsFull {
        /// Whose; none when it is all components' together.
        owner: Option<ComponentId>,
        /// Bytes with the unit's, components and metadata.
        found: u64,
        /// The bound.
        allowed: u64,
    },
    /// The unit names a blob that is not stored, or no longer; put it again and run the unit again.
    #[error("blob {0} is not stored; put it again")]
    BlobMissing(Digest),
    /// Too many units wait for the committer.
    #[error("{allowed} units wait for the committer; try again")]
    Busy {
        /// The bound.
        allowed: usize,
    },
    /// The disk failed while the unit was being decided.
    #[error("the commit failed half-way, and whether it took effect is unknown: {0}")]
    Unavailable(#[source] Failure),
    /// The store is closed for writing while it recovers from a disk failure.
    #[error("the object store is read-only: {cause}")]
    ReadOnlyStore {
        /// The failure that closed it.
        cause: Arc<str>,
    },
    /// The device that the store is on has no room. Reads go on, and writes as soon as there is room again.
    #[error("no room is left on the device that {} is on: {cause}", dir.display())]
    NoRoom {
        /// The store's directory.
        dir: Arc<Path>,
        /// What the disk said.
        cause: Arc<str>,
    },
    /// The store was closed before the unit was decided.
    #[error("the object store is closed")]
    Closed,
}

impl CommitError {
    /// Whose fault it was. A conflict is nobody's: it counts as the host's, which retries.
    pub fn fault(&self) -> Fault {
        match self {
            CommitError::TooLarge(_)
            | CommitError::StorageFull { .. }
            | CommitError::OutboxFull { owner: Some(_), .. }
            | CommitError::VectorsFull { owner: Some(_), .. } => Fault::Guest,
            CommitError::DatabaseFull { .. }
            | CommitError::VectorsFull { .. }
            | CommitError::NoRoom { .. } => Fault::Operator,
            CommitError::Deadline
            | CommitError::DuplicateRequest { .. }
            | CommitError::TooOld { .. }
            | CommitError::SessionFull { .. }
            | CommitError::UnknownSession => Fault::Peer,
            _ => Fault::Host,
        }
    }

    /// Whether the effect of the request may exist.
    pub fn effect(&self) -> Effect {
        match self {
            CommitError::DuplicateRequest { .. } => Effect::Committed,
            CommitError::Unavailable(_) | CommitError::TooOld { .. } => Effect::Unknown,
            _ => Effect::None,
        }
    }
}
