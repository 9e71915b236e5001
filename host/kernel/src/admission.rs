//! Who may begin: instances are few, and a component whose state is being carried over is closed for a moment.
//!
//! ```text
//! pass     a root goes in, until its commit is decided,          waits outside, in its place; the deadline is its own
//!          unless what it concerns is closed
//! enter    a root gets room for its instances, of which one     waits, then `busy`
//!          component's have half at most
//! close    those inside finish, those outside wait              until the guard is dropped
//! retire   those inside are ended                               `retired`, nothing of them is kept
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use telos_store::ComponentId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::failure::Failure;

/// Roots that may wait for an instance; the next is told `busy`. Half of them may be one component's.
pub(crate) const ADMISSION_QUEUE_MAX: usize = 256;

/// Roots are admitted up to instances ÷ depth, so that a nested message never waits for an instance.
pub(crate) struct Admission {
    room: Room,
    roots: usize,
    /// Each component's own part, so that one never has it all.
    shares: Mutex<HashMap<ComponentId, Arc<Room>>>,
    gate: Arc<Gate>,
}

/// Room for some roots, and for some more that wait for it.
struct Room {
    permits: Arc<Semaphore>,
    waiting: Semaphore,
    waiting_max: usize,
}

/// A root's room for its instances; it is given back when this is dropped.
pub(crate) struct Admitted {
    _all: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Gate {
    inner: Mutex<Inner>,
    /// Somebody went out, or it was opened.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    closed: Option<Closing>,
    inside: HashMap<Option<ComponentId>, Inside>,
}

/// The roots inside that concern one component, or of which that is not known.
struct Inside {
    roots: usize,
    retired: watch::Sender<bool>,
}

/// What is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closing {
    /// For roots to this component, and those of which nobody knows what they concern.
    Component(ComponentId),
    /// For every root.
    All,
}

impl Closing {
    fn concerns(&self, component: Option<&ComponentId>) -> bool {
        match self {
            Self::All => true,
            Self::Component(closed) => component.is_none_or(|component| component == closed),
        }
    }
}

/// A root inside; it goes out when this is dropped.
pub(crate) struct Passage {
    gate: Arc<Gate>,
    component: Option<ComponentId>,
    retired: watch::Receiver<bool>,
}

/// A closed gate; it opens when this is dropped.
pub(crate) struct ClosedGate(Arc<Gate>);

impl Admission {
    pub(crate) fn new(roots: usize) -> Self {
        Self {
            room: Room::new(roots, ADMISSION_QUEUE_MAX),
            roots,
            shares: Mutex::default(),
            gate: Arc::default(),
        }
    }

    /// Goes in, as soon as what the root concerns is not closed.
    ///
    /// Cancel safety: dropping the future goes nowhere.
    pub(crate) async fn pass(&self, component: Option<ComponentId>) -> Passage {
        loop {
            let changed = self.gate.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(passage) = self.gate.pass(&component) {
                return passage;
            }
            changed.await;
        }
    }

    /// Gets room for the instances of a root, which concerns that component as far as anybody knows.
    pub(crate) async fn enter(&self, component: Option<ComponentId>) -> Result<Admitted, Failure> {
        // First of its share: who waits for that takes no place from others.
        let _share = match component {
            Some(component) => Some(self.share(component).enter().await?),
            None => None,
        };
        Ok(Admitted { _all: self.room.enter().await?, _share })
    }

    fn share(&self, component: ComponentId) -> Arc<Room> {
        let half = || Arc::new(Room::new((self.roots / 2).max(1), ADMISSION_QUEUE_MAX / 2));
        Arc::clone(self.shares.lock().entry(component).or_insert_with(half))
    }

    /// Lets no further root in that it concerns. One at a time: whoever changes seats takes turns.
    pub(crate) fn close(&self, closing: Closing) -> ClosedGate {
        self.gate.inner.lock().closed = Some(closing);
        ClosedGate(Arc::clone(&self.gate))
    }
}

impl Room {
    fn new(roots: usize, waiting_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(roots)), waiting: Semaphore::new(waiting_max), waiting_max }
    }

    async fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || Failure::Busy(format!("{} messages wait for an instance", self.waiting_max));
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| busy())
    }
}

impl ClosedGate {
    /// Waits until everyone inside whom it concerns has gone out; false when that takes longer.
    pub(crate) async fn drained(&self, time: Duration) -> bool {
        let draining = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.0.is_drained() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(time, draining).await.is_ok()
    }

    /// How many are inside whom it concerns.
    pub(crate) fn inside(&self) -> usize {
        let inner = self.0.inner.lock();
        let Some(closing) = &inner.closed else { return 0 };
        let concerned = inner.inside.iter().filter(|(component, _)| closing.concerns(component.as_ref()));
        concerned.map(|(_, inside)| inside.roots).sum()
    }

    /// Ends everyone inside whom it concerns.
    pub(crate) fn retire(&self) {
        let inner = self.0.inner.lock();
        let Some(closing) = &inner.closed else { return };
        for (_, inside) in inner.inside.iter().filter(|(component, _)| closing.concerns(component.as_ref())) {
            inside.retired.send_replace(true);
        }
    }
}

impl Drop for ClosedGate {
    fn drop(&mut self) {
        self.0.inner.lock().closed = None;
        self.0.changed.notify_waiters();
    }
}

impl Passage {
    /// Waits until the root is to end.
    pub(crate) async fn retired(&mut self) {
        if self.retired.wait_for(|is_retired| *is_retired).await.is_err() {
            // The gate is gone, and nobody will say so any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let mut inner = self.gate.inner.lock();
        if let Some(inside) = inner.inside.get_mut(&self.component) {
            inside.roots -= 1;
            if inside.roots == 0 {
                inner.inside.remove(&self.component);
            }
        }
        if inner.closed.is_some() {
            self.gate.changed.notify_waiters();
        }
    }
}

impl Gate {
    fn pass(self: &Arc<Self>, component: &Option<ComponentId>) -> Option<Passage> {
        let mut inner = self.inner.lock();
        if inner.closed.as_ref().is_some_and(|closing| closing.concerns(component.as_ref())) {
            return None;
        }
        let inside = inner
            .inside
            .entry(component.clone())
            .or_insert_with(|| Inside { roots: 0, retired: watch::Sender::new(false) });
        inside.roots += 1;
        let retired = inside.retired.subscribe();
        Some(Passage { gate: Arc::clone(self), component: component.clone(), retired })
    }

    fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        let Some(closing) = &inner.closed else { return true };
        !inner.inside.keys().any(|component| closing.concerns(component.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(id: &str) -> Option<ComponentId> {
        Some(ComponentId::new(id).unwrap())
    }

    fn closing(id: &str) -> Closing {
        Closing::Component(ComponentId::new(id).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);
    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_closed_component_lets_others_pass_and_its_own_wait() {
        let admission = Arc::new(Admission::new(8));
        let inside = admission.pass(component("a")).await;
        let closed = admission.close(closing("a"));
        let _other = admission.pass(component("b")).await;
        for held in [component("a"), None] {
            assert!(tokio::time::timeout(NOW, admission.pass(held)).await.is_err());
        }
        assert!(!closed.drained(NOW).await);
        drop(inside);
        assert!(closed.drained(LONG).await);
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { drop(admission.pass(component("a")).await) }
        });
        tokio::task::yield_now().await;
        drop(closed);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn one_component_leaves_half_of_the_room_to_others() {
        let admission = Arc::new(Admission::new(8));
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(admission.enter(component("a")).await.unwrap());
        }
        for _ in 0..ADMISSION_QUEUE_MAX / 2 {
            let admission = Arc::clone(&admission);
            tokio::spawn(async move { admission.enter(component("a")).await.map(drop) });
        }
        while admission.share(component("a").unwrap()).waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = admission.enter(component("a")).await.err().unwrap();
        assert_eq!(refused.to_string(), "busy: 128 messages wait for an instance");
        for _ in 0..4 {
            inside.push(tokio::time::timeout(LONG, admission.enter(component("b"))).await.unwrap().unwrap());
        }
        assert!(tokio::time::timeout(NOW, admission.enter(None)).await.is_err(), "now it is full");
    }

    #[tokio::test]
    async fn all_closed_waits_for_all_and_retiring_ends_those_inside_only() {
        let admission = Admission::new(8);
        let mut inside = [admission.pass(component("a")).await, admission.pass(component("b")).await];
        let closed = admission.close(Closing::All);
        assert!(tokio::time::timeout(NOW, admission.pass(component("c"))).await.is_err());
        closed.retire();
        for passage in &mut inside {
            tokio::time::timeout(LONG, passage.retired()).await.unwrap();
        }
        assert!(!closed.drained(NOW).await);
        drop(inside);
        assert!(closed.drained(LONG).await);
        drop(closed);
        let mut next = admission.pass(component("a")).await;
        assert!(tokio::time::timeout(NOW, next.retired()).await.is_err(), "it came later");
    }
}
