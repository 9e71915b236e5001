//! What every object can do whatever its slots: be copied, be named, be looked at. Pure work on a unit.

use std::collections::HashSet;

use telos_store::{ComponentId, ObjectId, ObjectName, ReadError, Slot, Unit, WriteError};

use crate::failure::StoreFailure;

/// A copy for a component and the generation it makes objects in, or for the source's own owner when none is given.
///
/// The copy has the source's value slots. It delegates to the source when the source has method slots of its own,
/// so that behaviour stays in one place, else to the source's parents, so that copies of copies do not grow chains.
///
/// A copy for the source's owner is in the source's generation, since it is the same state. For anybody else it is in
/// the new owner's: what shape its values have there is the new owner's concern, and so is carrying them on.
pub(crate) fn clone_for(
    unit: &mut Unit,
    source: ObjectId,
    owner: Option<(ComponentId, u32)>,
) -> Result<ObjectId, WriteError> {
    let original = unit.object(source)?.ok_or(ReadError::NoSuchObject(source))?;
    let has_methods = original.slots.values().any(|slot| matches!(slot, Slot::Method(_)));
    let parents = if has_methods { vec![source] } else { original.parents.clone() };
    let (owner, generation) = match owner {
        Some((owner, generation)) if owner != original.owner => (owner, generation),
        _ => (original.owner.clone(), original.generation),
    };
    let copy = unit.create(owner, generation, parents)?;
    for (name, slot) in &original.slots {
        if let Slot::Value(_) = slot {
            unit.set_slot(copy, name, slot.clone())?;
        }
    }
    Ok(copy)
}

/// [`clone_for`] for the source's own owner, with the failure a message gives.
pub(crate) fn clone_object(unit: &mut Unit, source: ObjectId) -> Result<ObjectId, StoreFailure> {
    clone_for(unit, source, None).map_err(Into::into)
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

#[cfg(test)]
mod tests {
    use super::*;

    use telos_store::{Digest, Json, Store, StoreOptions, Vote};

    fn component(id: &str) -> ComponentId {
        ComponentId::new(id).unwrap()
    }

    #[test]
    fn a_copy_is_in_its_owners_generation() {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let (ours, other) = (component("ours"), component("other"));
        let mut unit = store.begin();
        let source = unit.create(ours.clone(), 3, vec![]).unwrap();
        unit.set_slot(source, "n", Slot::Value(Json::parse("1").unwrap())).unwrap();
        let mut copied = |owner: Option<(ComponentId, u32)>| {
            let copy = clone_for(&mut unit, source, owner).unwrap();
            let copy = unit.object(copy).unwrap().unwrap();
            assert_eq!(copy.value("n").unwrap().as_str(), "1");
            (copy.owner.clone(), copy.generation)
        };
        assert_eq!(copied(None), (ours.clone(), 3));
        assert_eq!(copied(Some((ours.clone(), 4))), (ours.clone(), 3), "the same state");
        assert_eq!(copied(Some((other.clone(), 7))), (other.clone(), 7));
    }

    #[test]
    fn a_copy_of_an_object_in_a_lower_generation_is_made_where_the_new_owners_was_raised() {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let (ours, other) = (component("ours"), component("other"));
        let mut unit = store.begin();
        unit.raise_generation(&other, 1, 2, Digest::of(b"evolver")).unwrap();
        let source = unit.create(ours, 1, vec![]).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        let mut unit = store.begin();
        let copy = clone_for(&mut unit, source, Some((other, 2))).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        assert_eq!(store.begin().object(copy).unwrap().unwrap().generation, 2);
    }
}
