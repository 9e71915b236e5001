//! A component's root object: named after it, owned by it, one method slot per selector. Activation makes it, later
//! swaps add and remove only those slots; everything else in it belongs to the plugin.

use telos_store::{ComponentId, Fault, MethodSlot, ObjectId, ReadError, Slot, Unit, WriteError};

use crate::seat::Release;
use crate::swap::{is_method_of, root_name};

/// Why the root object cannot be made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootObjectError {
    /// The name is another owner's.
    #[error(
        "the name `{component}` belongs to an object of `{owner}`; `telos object unname {component}` frees it"
    )]
    NameTaken {
        /// The component that needs the name.
        component: ComponentId,
        /// Who has it.
        owner: ComponentId,
    },
    /// A selector would hide stored data.
    #[error(
        "selector `{selector}` of `{component}` has the name of a value slot that its object keeps; rename one of them"
    )]
    SlotTaken {
        /// The component.
        component: ComponentId,
        /// The selector.
        selector: String,
    },
    /// The store refused.
    #[error("the root object cannot be changed: {0}")]
    Write(#[from] WriteError),
}

impl RootObjectError {
    /// Who can do something about it. What stands in a release's way is that release's.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NameTaken { .. } | Self::SlotTaken { .. } => Fault::Guest,
            Self::Write(error) => error.fault(),
        }
    }
}

impl From<ReadError> for RootObjectError {
    fn from(error: ReadError) -> Self {
        Self::Write(error.into())
    }
}

/// Whether the root object already has exactly the release's method slots, so that seating it changes nothing.
pub(crate) fn is_seated(unit: &mut Unit, release: &Release) -> Result<bool, RootObjectError> {
    let Some(root) = unit.find(&root_name(&release.component)?)? else {
        return Ok(false);
    };
    let object = unit.object(root)?.ok_or(ReadError::NoSuchObject(root))?;
    let wanted = &release.descriptor.selectors;
    let has = |selector: &String| object.slots.get(selector) == Some(&method(&release.component, selector));
    let is_stale =
        |(name, slot): (&String, &Slot)| is_method_of(slot, &release.component) && !wanted.contains_key(name);
    Ok(object.owner == release.component && wanted.keys().all(has) && !object.slots.iter().any(is_stale))
}

/// Makes or updates the root object for a release that is about to serve.
pub(crate) fn seat(unit: &mut Unit, release: &Release) -> Result<ObjectId, RootObjectError> {
    let root = find_or_create(unit, release)?;
    remove_stale(unit, root, &release.component, |selector| {
        release.descriptor.selectors.contains_key(selector)
    })?;
    for selector in release.descriptor.selectors.keys() {
        let slot = method(&release.component, selector);
        let present = unit.object(root)?.and_then(|object| object.slots.get(selector).cloned());
        match present {
            Some(Slot::Value(_)) => {
                return Err(RootObjectError::SlotTaken {
                    component: release.component.clone(),
                    selector: selector.clone(),
                });
            }
            Some(present) if present == slot => {}
            _ => unit.set_slot(root, selector, slot)?,
        }
    }
    Ok(root)
}

/// Takes a component's method slots out of its root object; its data stays.
pub(crate) fn unseat(unit: &mut Unit, component: &ComponentId) -> Result<(), RootObjectError> {
    match unit.find(&root_name(component)?)? {
        Some(root) => remove_stale(unit, root, component, |_| false),
        None => Ok(()),
    }
}

fn find_or_create(unit: &mut Unit, release: &Release) -> Result<ObjectId, RootObjectError> {
    let name = root_name(&release.component)?;
    let Some(root) = unit.find(&name)? else {
        let root = unit.create(release.component.clone(), release.descriptor.generation, Vec::new())?;
        unit.bind(&name, root)?;
        return Ok(root);
    };
    let object = unit.object(root)?.ok_or(ReadError::NoSuchObject(root))?;
    if object.owner == release.component {
        return Ok(root);
    }
    Err(RootObjectError::NameTaken { component: release.component.clone(), owner: object.owner.clone() })
}

fn remove_stale(
    unit: &mut Unit,
    root: ObjectId,
    component: &ComponentId,
    is_kept: impl Fn(&str) -> bool,
) -> Result<(), RootObjectError> {
    let object = unit.object(root)?.ok_or(ReadError::NoSuchObject(root))?;
    for (name, slot) in &object.slots {
        if is_method_of(slot, component) && !is_kept(name) {
            unit.remove_slot(root, name)?;
        }
    }
    Ok(())
}

fn method(component: &ComponentId, selector: &str) -> Slot {
    // The host keeps these slots in step with the seat itself, so they require nothing.
    Slot::Method(MethodSlot {
        component: component.clone(),
        requirement: "*".into(),
        selector: selector.to_owned(),
    })
}
