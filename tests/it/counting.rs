//! What tests of a component's state share: the counter, whose releases keep their count in different ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_store::{ComponentId, Json, ReleaseState, Slot, Vote};
use telos_tests::{TestKernel, eventually};

pub(crate) fn counter() -> ComponentId {
    ComponentId::new("counter").unwrap()
}

/// Where a release of the counter is.
pub(crate) fn state(kernel: &TestKernel, version: &str) -> ReleaseState {
    let records = kernel.store.releases(Some(&counter())).unwrap();
    records.into_iter().find(|record| record.version == version).unwrap().state
}

/// The version that answers.
pub(crate) async fn serving(kernel: &TestKernel) -> Value {
    kernel.send("counter", "release", Value::Null).await.unwrap()
}

/// Objects that delegate to the counter and have counted to 1.
pub(crate) async fn clones(kernel: &TestKernel, count: usize) -> Vec<String> {
    let mut clones = Vec::new();
    for _ in 0..count {
        let clone = kernel.send("counter", "clone", Value::Null).await.unwrap();
        let clone = clone.as_str().unwrap().to_owned();
        kernel.send(&clone, "increment", Value::Null).await.unwrap();
        clones.push(clone);
    }
    clones
}

pub(crate) fn number(number: u64) -> Json {
    Json::from_value(&json!(number)).unwrap()
}

/// Sets a slot of an object as no message does.
pub(crate) fn set(kernel: &TestKernel, object: &str, slot: &str, value: u64) {
    let mut unit = kernel.store.begin();
    let id = unit.locate(object).unwrap().unwrap();
    unit.set_slot(id, slot, Slot::Value(number(value))).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
}

/// A failpoint at which whoever comes by is held.
pub(crate) struct Held {
    point: &'static str,
    has_come: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

impl Held {
    pub(crate) fn at(point: &'static str) -> Self {
        let (has_come, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (comes, ends) = (Arc::clone(&has_come), Arc::clone(&is_over));
        let hold = move || {
            comes.store(true, Ordering::SeqCst);
            while !ends.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        fail::cfg_callback(point, hold).unwrap();
        Self { point, has_come, is_over }
    }

    /// Waits until somebody is held.
    pub(crate) async fn reached(&self) {
        eventually(&format!("somebody comes to {}", self.point), || self.has_come.load(Ordering::SeqCst))
            .await;
    }
}

/// Lets everybody go.
impl Drop for Held {
    fn drop(&mut self) {
        fail::remove(self.point);
        self.is_over.store(true, Ordering::SeqCst);
    }
}
