//! The change of a generation, as the commit that lets its release serve writes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use telos_store::{CommitError, Contested, Digest, Json, Object, Unit};

use crate::seat::Release;
use crate::swap::SwapError;

/// A generation that is put in force in the commit that lets its release serve, an earlier one where the seat goes back.
/// Every other object has its copy.
pub(crate) struct Raise {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Whose code carried the state.
    pub(crate) evolver: Digest,
    pub(crate) root: Option<CarriedRoot>,
}

/// A root object whose method slots change in that commit, so that the commit carries its state over too.
pub(crate) struct CarriedRoot {
    pub(crate) before: Arc<Object>,
    /// Its value slots in the new generation.
    pub(crate) slots: BTreeMap<String, Json>,
}

impl Raise {
    pub(crate) fn write(&self, unit: &mut Unit, release: &Release) -> Result<(), SwapError> {
        if let Some(root) = &self.root {
            root.write(unit, self.to)?;
        }
        Ok(unit.raise_generation(&release.component, self.from, self.to, self.evolver)?)
    }
}

impl CarriedRoot {
    /// A conflict when the object is not as it was carried over.
    pub(crate) fn write(&self, unit: &mut Unit, generation: u32) -> Result<(), SwapError> {
        let id = self.before.id;
        let now = unit.object(id)?;
        let is_same =
            |now: &Arc<Object>| now.slots == self.before.slots && now.generation == self.before.generation;
        if !now.as_ref().is_some_and(is_same) {
            return Err(CommitError::Conflict(Contested::Object(id)).into());
        }
        Ok(unit.evolve(id, generation, self.slots.clone())?)
    }
}
