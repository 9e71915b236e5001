//! A lesson: behaviour that an object gets in the commit that lets its release serve.

use telos_store::{ComponentId, Json, MethodSlot, ObjectId, Slot, Unit};

use crate::code::EngineKind;
use crate::seat::Release;
use crate::swap::SwapError;

/// What the source of a release begins with that somebody forged. Nothing served before it where it is the first: then
/// whatever breaks it counts against it on probation, since its message was merely not understood before.
pub const FORGED: &str = "forge ticket ";

/// The engine that a release of this source serves on: nobody read what was forged, so its work is counted.
pub(crate) fn engine_for(source: &str) -> EngineKind {
    if source.starts_with(FORGED) { EngineKind::Metered } else { EngineKind::Serving }
}

/// What else is decided with a release that somebody forged.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// The object that is to understand.
    pub prototype: ObjectId,
    /// The message that it is to understand; the release has it under the same name.
    pub selector: String,
    /// Where it came from: value slots of the object that keeps its record.
    pub record: Vec<(ObjectId, String, Json)>,
}

impl Lesson {
    pub(crate) fn write(&self, unit: &mut Unit, release: &Release) -> Result<(), SwapError> {
        let slot = Slot::Method(MethodSlot {
            component: release.component.clone(),
            requirement: format!("^{}", release.version().major),
            selector: self.selector.clone(),
        });
        unit.set_slot(self.prototype, &self.selector, slot)?;
        for (object, slot, value) in &self.record {
            unit.set_slot(*object, slot, Slot::Value(value.clone()))?;
        }
        Ok(())
    }

    /// The object whose slots change, and for whose release.
    pub(crate) fn taught(&self, component: &ComponentId) -> (ObjectId, ComponentId) {
        (self.prototype, component.clone())
    }
}
