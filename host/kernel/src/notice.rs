//! What people should know of a component besides who serves: why it does not, why a staged release waits or failed,
//! what this start did to its state.
//!
//! Kept in memory, one per component, and replaced by what happens to the component next. A release that failed to
//! evolve is remembered over starts by its state; why is read from its audit row.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use telos_store::{AuditRow, ComponentId, Failure, ReleaseRecord, ReleaseState, Store};

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

    /// Remembers which releases failed to evolve since somebody last decided who serves, as the audit says. Costs a search
    /// of the audit for each component that has a returned release.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn remember_failures(&self, store: &Store) -> Result<(), Failure> {
        let seats = store.seats()?;
        let mut returned: BTreeMap<ComponentId, Vec<ReleaseRecord>> = BTreeMap::new();
        for record in store.releases(None)? {
            if record.state == ReleaseState::Returned {
                returned.entry(record.component.clone()).or_default().push(record);
            }
        }
        for (component, records) in returned {
            let is_failure =
                |row: &AuditRow| row.kind == GENERATION_FAILED && row.subject == component.as_str();
            let rows = store.audit_between(0, u64::MAX, 1, is_failure)?;
            let seat = seats.iter().find(|seat| seat.component == component);
            if let Some(row) = rows.first().filter(|row| seat.is_none_or(|seat| seat.since_ms <= row.at_ms))
                && let Some(notice) = remembered(row, &records)
            {
                self.put(&component, notice);
            }
        }
        Ok(())
    }
}

/// What an audit row says of the release that it names; none when that one is no longer returned.
fn remembered(row: &AuditRow, returned: &[ReleaseRecord]) -> Option<Notice> {
    let digest = row.detail["digest"].as_str()?;
    let record = returned.iter().find(|record| record.digest.to_string() == digest)?;
    Some(failed(record, row.detail["cause"].as_str()?))
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
