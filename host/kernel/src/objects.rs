//! What every object can do whatever its slots: be copied, be named, be looked at. Pure work on a unit.

use std::collections::HashSet;

use telos_store::{ComponentId, ObjectId, ObjectName, ReadError, Slot, Unit, WriteError};

use crate::failure::StoreFailure;

/// A copy for a component, or for the source's own owner when none is given.
///
/// The copy has the source's value slots. It delegates to the source when the source has method slots of its own,
/// so that behaviour stays in one place, else to the source's parents, so that copies of copies do not grow chains.
pub(crate) fn clone_for(
    unit: &mut Unit,
    source: ObjectId,
    owner: Option<ComponentId>,
) -> Result<ObjectId, WriteError> {
    let original = unit.object(source)?.ok_or(ReadError::NoSuchObject(source))?;
    let has_methods = original.slots.values().any(|slot| matches!(slot, Slot::Method(_)));
    let parents = if has_methods { vec![source] } else { original.parents.clone() };
    let owner = owner.unwrap_or_else(|| original.owner.clone());
    let copy = unit.create(owner, original.generation, parents)?;
    for (name, slot) in &original.slots {
        if let Slot::Value(_) = slot {
            unit.set_slot(copy, name, slot.clone())?;
        }
    }
    Ok(copy)
}

/// [`clone_for`] with the failure a message gives.
pub(crate) fn clone_object(
    unit: &mut Unit,
    source: ObjectId,
    owner: Option<ComponentId>,
) -> Result<ObjectId, StoreFailure> {
    clone_for(unit, source, owner).map_err(Into::into)
}

/// The objects a lookup asks, in order, by name where they have one.
pub(crate) fn lookup_path(unit: &mut Unit, receiver: ObjectId) -> Result<Vec<String>, ReadError> {
    Ok(ancestry(unit, receiver)?.into_iter().map(|id| display_name(unit, id)).collect())
}

/// The receiver and its ancestors, parents depth first, left to right, each once.
pub(crate) fn ancestry(unit: &mut Unit, receiver: ObjectId) -> Result<Vec<ObjectId>, ReadError> {
    let (mut path, mut seen, mut pending) = (Vec::new(), HashSet::new(), vec![receiver]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        path.push(id);
        if let Some(object) = unit.object(id)? {
            pending.extend(object.parents.iter().rev());
        }
    }
    Ok(path)
}

/// Whether a component may give this name: its own id, or one below that. Another component's root object needs the
/// name of that component, so nobody else may take it first.
pub(crate) fn is_name_of(name: &ObjectName, component: &ComponentId) -> bool {
    let rest = name.as_str().strip_prefix(component.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The object's first name, or its id.
pub(crate) fn display_name(unit: &mut Unit, id: ObjectId) -> String {
    match unit.names_of(id) {
        Ok(names) => names.first().map_or_else(|| id.to_string(), ToString::to_string),
        Err(_) => id.to_string(),
    }
}
