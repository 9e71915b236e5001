//! Method slots as whoever exchanges releases sees them: which objects lead to a component, and on which condition.

use std::ops::Bound;
use std::sync::Arc;

use crate::error::Failure;
use crate::generation::read_state;
use crate::id::{ComponentId, ObjectId};
use crate::object::{MethodSlot, Object, Slot};
use crate::scan::Scan as _;
use crate::shared::Shared;
use crate::tables::{OBJECTS, OWNED, SHADOWS};

/// Objects of one read, so that no snapshot of the database is held for long.
const OBJECTS_PER_READ: usize = 1_000;

/// One method slot of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodOf {
    /// The object.
    pub object: ObjectId,
    /// The slot's name.
    pub name: String,
    /// Where it leads.
    pub method: MethodSlot,
}

/// The first `limit` method slots that lead to `component` and of which `is_wanted`; looks at every object.
pub(crate) fn list_methods(
    shared: &Shared,
    component: &ComponentId,
    limit: usize,
    is_wanted: &dyn Fn(&MethodSlot) -> bool,
) -> Result<Vec<MethodOf>, Failure> {
    let is_wanted = |method: &MethodSlot| &method.component == component && is_wanted(method);
    let (mut found, mut after) = (Vec::new(), None);
    while found.len() < limit {
        let (more, last) = look_through(shared, after.as_ref(), &is_wanted)?;
        found.extend(more);
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// An owner and an object of it.
type OwnedKey = (String, u128);

/// The wanted method slots of some objects, in the order of their owners; and the last one's key, none at the end.
fn look_through(
    shared: &Shared,
    after: Option<&OwnedKey>,
    is_wanted: &dyn Fn(&MethodSlot) -> bool,
) -> Result<(Vec<MethodOf>, Option<OwnedKey>), Failure> {
    let at = shared.position();
    let generations = Arc::clone(&shared.generations.read());
    let first = after.map_or(Bound::Unbounded, |(owner, id)| Bound::Excluded((owner.as_str(), *id)));
    shared.read_rows(|txn| {
        let (objects, shadows) = (txn.open_table(OBJECTS)?, txn.open_table(SHADOWS)?);
        let (mut found, mut last) = (Vec::new(), None);
        let owned = txn.open_table(OWNED)?;
        for (number, row) in owned.rows_in::<(&str, u128)>((first, Bound::Unbounded))?.enumerate() {
            if number == OBJECTS_PER_READ {
                return Ok((found, last));
            }
            let key = row?.0;
            let (owner, bits) = key.value();
            last = Some((owner.to_owned(), bits));
            let id = ObjectId::from_bits(bits);
            if let Some(object) = read_state(&objects, &shadows, &generations, id, at)? {
                found.extend(wanted(&object, is_wanted));
            }
        }
        Ok((found, None))
    })
}

fn wanted(object: &Object, is_wanted: &dyn Fn(&MethodSlot) -> bool) -> Vec<MethodOf> {
    let of = |(name, slot): (&String, &Slot)| match slot {
        Slot::Method(method) if is_wanted(method) => {
            Some(MethodOf { object: object.id, name: name.clone(), method: method.clone() })
        }
        _ => None,
    };
    object.slots.iter().filter_map(of).collect()
}
