//! What people should know of a component besides who serves: why it does not, why a staged release waits or failed,
//! what this start did to its state.
//!
//! Kept in memory, one per component, and replaced by what happens to the component next. A release that failed to
//! evolve is remembered over starts by its state; why is read from its audit row.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use telos_store::{AuditRow, ComponentId, Failure, ReleaseRecord, ReleaseState, Store};

use crate::activation::{PLUGIN_REMOVED, PLUGIN_STAGED};
use crate::decision::Reason;
use crate::swap::{PLUGIN_PARKED, QUARANTINE_LIFTED};

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

    /// Remembers which releases failed to evolve since somebody last decided who serves, as the audit says. Costs one
    /// search of the audit, newest first, until each component that has a returned release is settled, or through the
    /// newest 10,000 rows: what failed longer ago is told by the audit alone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn remember_failures(&self, store: &Store) -> Result<(), Failure> {
        let mut open = returned(store)?;
        let newest = store.audit_between(0, u64::MAX, 1, |_| true)?.first().map_or(0, |row| row.number);
        let floor = newest.saturating_sub(ROWS_SEARCHED_MAX);
        let mut before = newest + 1;
        while !open.is_empty() && before > floor + 1 {
            let after = floor.max(before.saturating_sub(ROWS_PER_READ + 1));
            let is_wanted = |row: &AuditRow| open.contains_key(&row.subject) && settles(row);
            for row in store.audit_between(after, before, usize::MAX, is_wanted)? {
                self.settle(&row, &mut open);
            }
            before = after + 1;
        }
        Ok(())
    }

    /// The newest row that settles a component says all there is to know of it.
    fn settle(&self, row: &AuditRow, open: &mut BTreeMap<String, Vec<ReleaseRecord>>) {
        if let Some(records) = open.remove(&row.subject)
            && let Some(record) = records.first()
            && let Some(notice) = remembered(row, &records)
        {
            self.put(&record.component, notice);
        }
    }
}

/// Rows that a start looks through for failures: some years of decisions, a fraction of a second.
const ROWS_SEARCHED_MAX: u64 = 10_000;
/// Rows of one read, so that few are decoded where the newest say it all.
const ROWS_PER_READ: u64 = 500;

/// Releases that were returned, by their component.
fn returned(store: &Store) -> Result<BTreeMap<String, Vec<ReleaseRecord>>, Failure> {
    let mut returned: BTreeMap<String, Vec<ReleaseRecord>> = BTreeMap::new();
    for record in store.releases(None)? {
        if record.state == ReleaseState::Returned || record.verdict.is_some() {
            returned.entry(record.component.to_string()).or_default().push(record);
        }
    }
    Ok(returned)
}

/// Whether a row says that a component's state was not carried over, or that somebody decided who serves, now or from
/// the next start on.
fn settles(row: &AuditRow) -> bool {
    let waits_for_start = || row.detail.get("from").is_some();
    match row.kind.as_str() {
        GENERATION_FAILED | PLUGIN_REMOVED | PLUGIN_PARKED | QUARANTINE_LIFTED => true,
        PLUGIN_STAGED => waits_for_start(),
        kind => Reason::ALL.iter().any(|reason| reason.kind() == kind),
    }
}

/// What an audit row says of the release that it names; none when it tells of no failure, or when that release is no
/// longer returned.
fn remembered(row: &AuditRow, returned: &[ReleaseRecord]) -> Option<Notice> {
    let of = |digest: &str| {
        let digest = row.detail[digest].as_str()?;
        returned.iter().find(|record| record.digest.to_string() == digest)
    };
    let cause = row.detail["cause"].as_str()?;
    match row.kind.as_str() {
        GENERATION_FAILED => Some(failed(of("digest")?, cause)),
        PLUGIN_PARKED => Some(fallen(of("digest")?, None, cause)),
        kind if kind == Reason::Returned.kind() => {
            Some(fallen(of("previous")?, row.detail["version"].as_str(), cause))
        }
        _ => None,
    }
}

/// A release that lost its seat, to the one of version `to` or to nobody.
pub(crate) fn fallen(record: &ReleaseRecord, to: Option<&str>, cause: &str) -> Notice {
    let ReleaseRecord { component, version, digest, .. } = record;
    let digest: String = digest.to_string().chars().take(8).collect();
    let text = match to {
        Some(to) => format!("{version} gave its seat back to {to}: {cause}"),
        None => format!("{version} is parked, and nobody serves: {cause}"),
    };
    let next = match record.state {
        ReleaseState::Returned => {
            format!("mend {component}, or try again with `telos plugin swap {component} {digest}`")
        }
        _ => format!(
            "mend {component} and install the new build; `telos plugin quarantine lift {component} {digest}` if it was not its fault"
        ),
    };
    Notice { text, next: Some(next), is_trouble: true }
}

/// A release that does not load, and whose seat stays its own because nobody else can carry its component's state back.
pub(crate) fn stranded(record: &ReleaseRecord, cause: &str, why: &str) -> Notice {
    let ReleaseRecord { component, version, .. } = record;
    Notice {
        text: format!("{version} does not serve, and cannot carry its state back: {cause}; {why}"),
        next: Some(format!(
            "start the host again when it loads, or install a release of {component} of the same generation"
        )),
        is_trouble: true,
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

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::{Value, json};
    use telos_store::{Digest, Json, SeatRecord, StoreOptions, Unit, Vote};

    fn within(store: &Store, work: impl FnOnce(&mut Unit)) {
        let mut unit = store.begin();
        work(&mut unit);
        store.decide(unit, Vote::default()).wait().unwrap();
    }

    /// A store with components whose release failed, in this order.
    fn failing(components: &[&str]) -> Store {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let digest = Digest::of(b"bytes");
        store.put_blob(b"bytes").unwrap();
        for name in components {
            let component = ComponentId::new(name).unwrap();
            let record = ReleaseRecord {
                component,
                digest,
                version: "2.0.0".into(),
                descriptor: Json::null(),
                contract: String::new(),
                imports: Vec::new(),
                limits: Json::null(),
                source: String::new(),
                state: ReleaseState::Returned,
                installed_at_ms: 0,
                verdict: None,
            };
            within(&store, |unit| {
                unit.put_release(record).unwrap();
                let detail = json!({"digest": digest, "cause": format!("{name} trapped")});
                unit.audit(GENERATION_FAILED, name, detail).unwrap();
            });
        }
        store
    }

    fn known(store: &Store, component: &str) -> Option<String> {
        let notices = Notices::default();
        notices.remember_failures(store).unwrap();
        notices.of(&ComponentId::new(component).unwrap()).map(|notice| notice.text)
    }

    #[test]
    fn failures_are_remembered_until_somebody_decides_whatever_the_clock_said() {
        let store = failing(&["a", "b", "c"]);
        let seat = SeatRecord {
            component: ComponentId::new("a").unwrap(),
            digest: Digest::of(b"bytes"),
            previous: None,
            returns_to: None,
            swaps: 0,
            since_ms: u64::MAX,
        };
        within(&store, |unit| unit.set_seat(seat).unwrap());
        within(&store, |unit| unit.audit("plugin.swapped", "b", Value::Null).unwrap());
        within(&store, |unit| unit.audit("plugin.staged", "c", json!({"needs": []})).unwrap());
        assert!(known(&store, "a").unwrap().ends_with("a trapped"), "its clock had gone ahead");
        assert_eq!(known(&store, "b"), None);
        assert!(known(&store, "c").is_some(), "what waits for a grant decides nothing");
        within(&store, |unit| unit.audit("plugin.staged", "c", json!({"from": 1, "to": 2})).unwrap());
        assert_eq!(known(&store, "c"), None);
    }

    #[test]
    fn the_search_goes_as_far_as_its_bound() {
        let store = failing(&["a", "b"]);
        // Row 1 is that of `a`, and must be the first that is not searched.
        for rows in [4_000, 4_000, ROWS_SEARCHED_MAX - 8_001] {
            within(&store, |unit| {
                (0..rows).for_each(|_| unit.audit("test", "a", Value::Null).unwrap());
            });
        }
        assert_eq!((known(&store, "a"), known(&store, "b").is_some()), (None, true));
    }
}
