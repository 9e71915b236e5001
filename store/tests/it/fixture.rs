//! Stores, objects and units with everything defaulted that a test does not care about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use telos_store::{
    Commit, CommitError, ComponentId, Json, MemoryBackend, ObjectId, ObjectName, Slot, Store, StoreOptions,
    Unit, Vote,
};

/// A store in memory.
pub(crate) fn scratch() -> Store {
    Store::scratch(StoreOptions::default()).unwrap()
}

/// A store in memory whose clock the test sets.
pub(crate) fn scratch_at(now_ms: u64) -> (Store, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(now_ms));
    let reading = Arc::clone(&now);
    let clock = Arc::new(move || reading.load(Ordering::Relaxed));
    (Store::scratch(StoreOptions { clock, ..StoreOptions::default() }).unwrap(), now)
}

/// A store whose bytes outlive it.
pub(crate) fn over(dir: &tempfile::TempDir, backend: &MemoryBackend) -> Store {
    Store::open_with_backend(dir.path(), backend.clone(), StoreOptions::default()).unwrap()
}

pub(crate) fn operator() -> ComponentId {
    ComponentId::operator()
}

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub(crate) fn number(value: i64) -> Slot {
    Slot::Value(Json::parse(&value.to_string()).unwrap())
}

pub(crate) fn commit(store: &Store, unit: Unit) -> Result<Commit, CommitError> {
    store.decide(unit, Vote::default()).wait()
}

/// Does something in a unit of its own and commits it.
pub(crate) fn within<T>(store: &Store, work: impl FnOnce(&mut Unit) -> T) -> T {
    let mut unit = store.begin();
    let answer = work(&mut unit);
    commit(store, unit).unwrap();
    answer
}

/// A new object with one number in it.
pub(crate) fn object_with(store: &Store, slot: &str, value: i64) -> ObjectId {
    within(store, |unit| {
        let id = unit.create(operator(), 1, vec![]).unwrap();
        unit.set_slot(id, slot, number(value)).unwrap();
        id
    })
}

/// A number slot; none when it is absent.
pub(crate) fn read(unit: &mut Unit, id: ObjectId, slot: &str) -> Option<i64> {
    unit.object(id).unwrap()?.value(slot).and_then(|value| value.to_value().as_i64())
}

pub(crate) fn assert_clean(store: &Store) {
    let report = store.verify_open().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}
