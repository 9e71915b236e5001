//! Grants: which component may use which interface. Rows in the store, checked at every host call through one pointer,
//! so that a grant or a revocation counts from the next message on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use telos_store::{ComponentId, Failure, Store};

use crate::contract::FREE_INTERFACES;

/// Every interface an operator can grant.
pub const INTERFACES: &[&str] = &["logging", "storage", "vectors", "archive", "inference", "messaging"];

/// What a component gets when it is first installed: its lines in the journal, its own objects, its receiver.
pub const DEFAULT_GRANTS: &[&str] = &["logging", "storage"];

type Table = BTreeMap<ComponentId, BTreeSet<String>>;

/// The live grants of this host.
pub(crate) struct Grants(ArcSwap<Table>);

impl Grants {
    pub(crate) fn load(store: &Store) -> Result<Self, Failure> {
        Ok(Self(ArcSwap::from_pointee(read(store)?)))
    }

    /// Reads the rows again, when nobody knows what a commit changed.
    pub(crate) fn reload(&self, store: &Store) -> Result<(), Failure> {
        self.0.store(Arc::new(read(store)?));
        Ok(())
    }

    /// Adds what a commit grants that has just passed its vote; answers what was not granted before.
    pub(crate) fn extend(&self, component: &ComponentId, interfaces: &BTreeSet<String>) -> BTreeSet<String> {
        let mut table = Table::clone(&self.0.load());
        let granted = table.entry(component.clone()).or_default();
        let added = interfaces.difference(granted).cloned().collect();
        granted.extend(interfaces.iter().cloned());
        self.0.store(Arc::new(table));
        added
    }

    /// Takes away what a commit revokes that has just passed its vote, or granted and failed after it; answers what was
    /// granted until now.
    pub(crate) fn retract(&self, component: &ComponentId, interfaces: &BTreeSet<String>) -> BTreeSet<String> {
        let mut table = Table::clone(&self.0.load());
        let granted = table.entry(component.clone()).or_default();
        let taken = granted.intersection(interfaces).cloned().collect();
        granted.retain(|interface| !interfaces.contains(interface));
        self.0.store(Arc::new(table));
        taken
    }

    /// Grants for trials: everything, since every answer there is a recording or scratch.
    pub(crate) fn everything(component: &ComponentId) -> Self {
        let all = INTERFACES.iter().map(ToString::to_string).collect();
        Self(ArcSwap::from_pointee(Table::from([(component.clone(), all)])))
    }

    pub(crate) fn allows(&self, component: &ComponentId, interface: &str) -> bool {
        self.0.load().get(component).is_some_and(|granted| granted.contains(interface))
    }

    pub(crate) fn of(&self, component: &ComponentId) -> BTreeSet<String> {
        self.0.load().get(component).cloned().unwrap_or_default()
    }

    /// What a release imports and its component was not granted, sorted.
    pub(crate) fn missing(&self, component: &ComponentId, imports: &[String]) -> Vec<String> {
        let granted = self.of(component);
        let needs =
            |import: &&String| !FREE_INTERFACES.contains(&import.as_str()) && !granted.contains(*import);
        imports.iter().filter(needs).cloned().collect()
    }
}

fn read(store: &Store) -> Result<Table, Failure> {
    let mut table = Table::new();
    for grant in store.all_grants()? {
        table.entry(grant.component).or_default().insert(grant.interface);
    }
    Ok(table)
}
