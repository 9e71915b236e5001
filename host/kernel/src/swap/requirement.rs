//! Stored requirements: slots of other objects that lead to a component on a condition.

use std::sync::Arc;

use semver::VersionReq;
use telos_store::{MethodOf, MethodSlot};

use super::{SwapError, Swapper};
use crate::objects::display_name;
use crate::seat::Release;

/// Slots that a refusal names.
const SLOTS_TOLD: usize = 5;

impl Swapper {
    /// Refuses a release that slots of stored objects do not take. Looks at every object.
    pub(crate) fn demand_requirements(&self, release: &Arc<Release>) -> Result<(), SwapError> {
        let unmet = self.unmet(release)?;
        if unmet.is_empty() {
            return Ok(());
        }
        Err(SwapError::Unmet {
            component: release.component.clone(),
            version: release.version().to_string(),
            slots: unmet.join(", "),
        })
    }

    /// The first slots that do not take a release, in words.
    pub(crate) fn unmet(&self, release: &Release) -> Result<Vec<String>, SwapError> {
        let is_unmet = |method: &MethodSlot| {
            !VersionReq::parse(&method.requirement).is_ok_and(|wanted| wanted.matches(release.version()))
        };
        let slots = self.store.methods_of(&release.component, SLOTS_TOLD, is_unmet)?;
        let mut unit = self.store.begin();
        let told = |MethodOf { object, name, method }: &MethodOf| {
            let object = display_name(&mut unit, *object);
            format!("slot `{name}` of `{object}` requires {}", method.requirement)
        };
        Ok(slots.iter().map(told).collect())
    }
}
