//! States that were decided lately: whoever reads or votes on a busy object need not ask the tables.
//!
//! ```text
//! remember   a state leaves the order because it is durable          it replaces the one before it
//! forget     all of them, when states change otherwise than by        the tables are asked again
//!            being written: raises, copies, forgetting, failures
//! age        the younger half is full                                 the older half is given to whoever settles
//! ```
//! What is remembered no longer is dropped outside the order's lock: freeing thousands of states takes as long as many
//! votes.
//! Every state here is the newest durable one of its object, whatever the generations in force say.
//! Never here: redb, what is not durable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::ObjectId;
use crate::limit;
use crate::object::Object;

/// States by their objects.
pub(crate) type Half = HashMap<ObjectId, Arc<Object>>;

/// At most twice [`limit::RECENT_HALF_BYTES_MAX`], and one object more in each half; besides what is to be dropped.
#[derive(Default)]
pub(super) struct Recent {
    young: Half,
    young_bytes: usize,
    /// Where the younger half has the object too, this one's state is out of date.
    old: Half,
    /// Remembered no longer.
    aged: Vec<Half>,
}

impl Recent {
    /// The newest durable state of an object, if it is remembered.
    pub(super) fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    /// Takes a state that became durable.
    pub(super) fn remember(&mut self, state: Arc<Object>) {
        self.young_bytes += taken_by(&state);
        if let Some(replaced) = self.young.insert(state.id, state) {
            self.young_bytes -= taken_by(&replaced);
        }
        if self.young_bytes > limit::RECENT_HALF_BYTES_MAX {
            self.aged.push(std::mem::replace(&mut self.old, std::mem::take(&mut self.young)));
            self.young_bytes = 0;
        }
    }

    /// Forgets all of them.
    pub(super) fn forget(&mut self) {
        self.aged.extend([std::mem::take(&mut self.young), std::mem::take(&mut self.old)]);
        self.young_bytes = 0;
    }

    /// What is to be dropped once the order's lock is free.
    pub(super) fn take_aged(&mut self) -> Vec<Half> {
        std::mem::take(&mut self.aged)
    }
}

fn taken_by(state: &Object) -> usize {
    state.bytes() + limit::RECENT_STATE_BYTES + state.slots.len() * limit::RECENT_SLOT_BYTES
}
