//! States that were decided lately: whoever reads or votes on a busy object need not ask the tables.
//!
//! ```text
//! remember   a state leaves the order because it is durable          it replaces the one before it
//! forget     all of them, when states change otherwise than by        the tables are asked again
//!            being written: raises, copies, forgetting, failures
//! age        the younger half is full                                 the older half is dropped
//! ```
//! Every state here is the newest durable one of its object, whatever the generations in force say.
//! Never here: redb, what is not durable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::ObjectId;
use crate::limit;
use crate::object::Object;

/// At most twice [`limit::RECENT_HALF_BYTES_MAX`], and one object more in each half.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<ObjectId, Arc<Object>>,
    young_bytes: usize,
    /// Where the younger half has the object too, this one's state is out of date.
    old: HashMap<ObjectId, Arc<Object>>,
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
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Forgets all of them.
    pub(super) fn forget(&mut self) {
        *self = Recent::default();
    }
}

fn taken_by(state: &Object) -> usize {
    state.bytes() + limit::RECENT_STATE_BYTES + state.slots.len() * limit::RECENT_SLOT_BYTES
}
