//! What people should know of a component besides who serves: why it does not, why a staged release waits or failed,
//! what this start did to its state.
//!
//! Kept in memory, one per component, and replaced by what happens to the component next. A release that failed to
//! evolve is remembered over starts by its state; why is read from its audit row.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use telos_store::{ComponentId, Failure, ReleaseRecord, ReleaseState, Store};

/// The audit row of a state that was not carried over.
pub(crate) const GENERATION_FAILED: &str = "generation.failed";

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// A sentence without its full stop.
    pub(crate) text: String,
    /// What to do, when there is something.
    pub(crate) next: Option<String>,
    /// Somebody should act.
    pub(crate) is_trouble: bool,
}

/// The notices of this host.
#[derive(Default)]
pub(crate) struct Notices(Mutex<BTreeMap<ComponentId, Notice>>);

impl Notices {
    pub(crate) fn put(&self, component: &ComponentId, notice: Notice) {
        self.0.lock().insert(component.clone(), notice);
    }

    /// What was known has been replaced.
    pub(crate) fn forget(&self, component: &ComponentId) {
        self.0.lock().remove(component);
    }

    pub(crate) fn of(&self, component: &ComponentId) -> Option<Notice> {
        self.0.lock().get(component).cloned()
    }

    /// Remembers why the newest releases of components failed to evolve, as their audit rows say. Costs a search of the
    /// audit for each component whose newest release did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn remember_failures(&self, store: &Store) -> Result<(), Failure> {
        let mut newest: BTreeMap<ComponentId, ReleaseRecord> = BTreeMap::new();
        for record in store.releases(None)? {
            let known = newest.get(&record.component);
            if known.is_none_or(|known| known.installed_at_ms <= record.installed_at_ms) {
                newest.insert(record.component.clone(), record);
            }
        }
        for record in newest.into_values().filter(|record| record.state == ReleaseState::Returned) {
            let digest = record.digest.to_string();
            let rows = store.audit_between(0, u64::MAX, 1, |row| {
                row.kind == GENERATION_FAILED
                    && row.subject == record.component.as_str()
                    && row.detail["digest"] == digest.as_str()
            })?;
            if let Some(cause) = rows.first().and_then(|row| row.detail["cause"].as_str()) {
                self.put(&record.component, failed(&record, cause));
            }
        }
        Ok(())
    }
}

/// A release that could not carry its component's state over.
pub(crate) fn failed(record: &ReleaseRecord, cause: &str) -> Notice {
    let ReleaseRecord { component, version, .. } = record;
    Notice {
        text: format!("{version} does not serve: {cause}"),
        next: Some(format!(
            "mend {component} and drop the new file in; `telos plugin swap {component} {version}` lets the next start \
             try this one again"
        )),
        is_trouble: true,
    }
}
