//! A message that nobody understands, and who may do something about it.
//!
//! ```text
//! missed     neither the receiver nor an ancestor has the selector: the root is over, and nothing of it is kept
//! told       whoever forges hears of it, outside of any unit
//! again      the root is dispatched from the start, once, on what is there by then
//! ```
//! Where behaviour for it would go is the prototype: the nearest object, from the receiver up, that has methods of its
//! own, since clones of it would understand the message then too; where none has, the receiver itself.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use telos_store::{Json, ObjectId, ReadError, Slot, Unit};

use crate::objects;

/// A message that was not understood.
#[derive(Debug, Clone)]
pub struct Miss {
    /// The object that it was for.
    pub receiver: ObjectId,
    /// The object that behaviour for it would belong to.
    pub prototype: ObjectId,
    /// The selector.
    pub selector: String,
    /// The arguments.
    pub arguments: Json,
    /// Pieces of an answer were given already, so that the root cannot begin again.
    pub has_emitted: bool,
}

/// What becomes of a message that was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forged {
    /// Nobody does anything.
    Nothing,
    /// Somebody will, under this number.
    Ticket(u64),
    /// Its prototype understands it now.
    Now(u64),
}

/// Does something about messages that nobody understands.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Whether a miss of this selector by this prototype is taken. Asked for each miss within a message, which is then
    /// over; must not block.
    fn takes(&self, prototype: ObjectId, selector: &str) -> bool;

    /// Hears of a root that ended for a miss. `until` is when its sender stops waiting; none for one that does not wait.
    async fn missed(&self, miss: Miss, until: Option<Instant>) -> Forged;
}

/// A host's forge, if it has one.
#[derive(Clone, Default)]
pub struct ForgeSeat(pub Option<Arc<dyn Forge>>);

impl fmt::Debug for ForgeSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForgeSeat").field(&self.0.is_some()).finish()
    }
}

/// Where behaviour for a receiver would go.
pub(crate) fn prototype_of(unit: &mut Unit, receiver: ObjectId) -> Result<ObjectId, ReadError> {
    for id in objects::ancestry(unit, receiver)? {
        let has_methods = unit.object(id)?.is_some_and(|object| object.slots.values().any(Slot::is_method));
        if has_methods {
            return Ok(id);
        }
    }
    Ok(receiver)
}
