//! Who changes seats, one at a time. A root object that will change is waited for in its own lane, so that a busy object
//! delays its own swap, up to a bound, and nobody else's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use telos_store::{ComponentId, ObjectId};
use tokio::sync::MutexGuard;

use crate::lane::Place;
use crate::root_object;
use crate::seat::Release;
use crate::swap::{SwapError, Swapper, root_name};

/// How long a change waits for busy root objects before it is refused.
const ROOT_WAIT: Duration = Duration::from_secs(5);

/// The turn to change seats, with a place in the lane of each root object that changes.
pub(crate) struct Turn<'a> {
    _seats: MutexGuard<'a, ()>,
    pub(crate) places: Vec<Place>,
}

/// A root object that will change, and whose.
pub(crate) type ChangingRoot = (ObjectId, ComponentId);

impl Swapper {
    /// Prepares a change while nobody else changes seats or grants. Root objects that will change are waited for
    /// without holding the others up, and then everything is prepared anew.
    pub(crate) async fn in_turn<T>(
        &self,
        prepare: impl Fn() -> Result<(T, Vec<ChangingRoot>), SwapError>,
    ) -> Result<(T, Turn<'_>), SwapError> {
        let mut held: BTreeMap<ObjectId, Place> = BTreeMap::new();
        loop {
            let turn = self.turn.lock().await;
            let (prepared, roots) = prepare()?;
            if roots.iter().all(|(root, _)| held.contains_key(root)) {
                return Ok((prepared, Turn { _seats: turn, places: held.into_values().collect() }));
            }
            drop(turn);
            held = self.root_places(roots).await?;
        }
    }

    /// Places in these objects' lanes, taken in the order of their ids and none kept from before, so that two changes
    /// never wait for each other.
    async fn root_places(&self, roots: Vec<ChangingRoot>) -> Result<BTreeMap<ObjectId, Place>, SwapError> {
        let (mut places, deadline) = (BTreeMap::new(), Instant::now() + ROOT_WAIT);
        for (root, component) in BTreeMap::from_iter(roots) {
            places.insert(root, self.root_place(&component, root, deadline).await?);
        }
        Ok(places)
    }

    /// The root object, when it is there and letting the release serve will change it.
    pub(crate) fn changing_root(&self, release: &Release) -> Result<Option<ChangingRoot>, SwapError> {
        if !self.changes_root(release)? {
            return Ok(None);
        }
        self.root(&release.component)
    }

    pub(crate) fn changes_root(&self, release: &Release) -> Result<bool, SwapError> {
        Ok(!root_object::is_seated(&mut self.store.begin_on_voted(), release)?)
    }

    /// The component's root object, when it is there.
    pub(crate) fn root(&self, component: &ComponentId) -> Result<Option<ChangingRoot>, SwapError> {
        let root = self.store.begin_on_voted().find(&root_name(component)?)?;
        Ok(root.map(|root| (root, component.clone())))
    }

    /// A place in the root object's lane, or a refusal when the lane is full or too slow.
    async fn root_place(
        &self,
        component: &ComponentId,
        root: ObjectId,
        deadline: Instant,
    ) -> Result<Place, SwapError> {
        let entered = tokio::time::timeout_at(deadline.into(), self.lanes.enter(root)).await;
        entered.ok().flatten().ok_or_else(|| SwapError::RootBusy {
            component: component.clone(),
            waited_s: ROOT_WAIT.as_secs(),
        })
    }
}
