//! Who changes seats, one at a time. A root object that will change is waited for in its own lane, so that a busy object
//! delays its own swap, up to a bound, and nobody else's.

use std::time::Duration;

use telos_store::{ComponentId, ObjectId};
use tokio::sync::MutexGuard;

use crate::lane::Place;
use crate::root_object;
use crate::seat::Release;
use crate::swap::{SwapError, Swapper, root_name};

/// How long a change waits for a busy root object before it is refused.
const ROOT_WAIT: Duration = Duration::from_secs(5);

/// The turn to change seats, with a place in the root object's lane where that object changes.
pub(crate) struct Turn<'a> {
    _seats: MutexGuard<'a, ()>,
    pub(crate) place: Option<Place>,
}

impl Swapper {
    /// Prepares a change while nobody else changes seats or grants. A root object that will change is waited for
    /// without holding the others up, and then everything is prepared anew.
    pub(crate) async fn in_turn<T>(
        &self,
        component: &ComponentId,
        prepare: impl Fn() -> Result<(T, Option<ObjectId>), SwapError>,
    ) -> Result<(T, Turn<'_>), SwapError> {
        let mut place = None;
        loop {
            let turn = self.turn.lock().await;
            match prepare()? {
                (_, Some(root)) if place.is_none() => {
                    drop(turn);
                    place = Some(self.root_place(component, root).await?);
                }
                (prepared, _) => return Ok((prepared, Turn { _seats: turn, place })),
            }
        }
    }

    /// The root object, when it is there and letting the release serve will change it.
    pub(crate) fn changing_root(&self, release: &Release) -> Result<Option<ObjectId>, SwapError> {
        if !self.changes_root(release)? {
            return Ok(None);
        }
        self.root(&release.component)
    }

    pub(crate) fn changes_root(&self, release: &Release) -> Result<bool, SwapError> {
        Ok(!root_object::is_seated(&mut self.store.begin_on_voted(), release)?)
    }

    /// The component's root object, when it is there.
    pub(crate) fn root(&self, component: &ComponentId) -> Result<Option<ObjectId>, SwapError> {
        Ok(self.store.begin_on_voted().find(&root_name(component)?)?)
    }

    /// A place in the root object's lane, or a refusal when the lane is full or too slow.
    async fn root_place(&self, component: &ComponentId, root: ObjectId) -> Result<Place, SwapError> {
        let entered = tokio::time::timeout(ROOT_WAIT, self.lanes.enter(root)).await;
        entered.ok().flatten().ok_or_else(|| SwapError::RootBusy {
            component: component.clone(),
            waited_s: ROOT_WAIT.as_secs(),
        })
    }
}
