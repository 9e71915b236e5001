//! Lanes: roots that write run one at a time per receiver, first in, first out.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use telos_store::ObjectId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Roots that may wait or run in one lane; the next is told `busy`.
pub const LANE_ENTRIES_MAX: usize = 256;

/// Every lane in use. An unused lane takes no memory.
#[derive(Default)]
pub(crate) struct Lanes(Arc<Mutex<HashMap<ObjectId, Lane>>>);

struct Lane {
    turn: Arc<Semaphore>,
    entries: usize,
}

/// A place in a lane: given up by dropping it.
pub(crate) struct Place {
    lanes: Arc<Mutex<HashMap<ObjectId, Lane>>>,
    receiver: ObjectId,
    turn: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// Waits for this receiver's lane; none when the lane is full.
    ///
    /// Cancel safety: dropping the future gives the place up.
    pub(crate) async fn enter(&self, receiver: ObjectId) -> Option<Place> {
        let (mut place, turn) = self.line_up(receiver)?;
        place.turn = turn.acquire_owned().await.ok();
        Some(place)
    }

    fn line_up(&self, receiver: ObjectId) -> Option<(Place, Arc<Semaphore>)> {
        let mut lanes = self.0.lock();
        let lane =
            lanes.entry(receiver).or_insert_with(|| Lane { turn: Arc::new(Semaphore::new(1)), entries: 0 });
        if lane.entries >= LANE_ENTRIES_MAX {
            return None;
        }
        lane.entries += 1;
        let turn = Arc::clone(&lane.turn);
        Some((Place { lanes: Arc::clone(&self.0), receiver, turn: None }, turn))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turn.take();
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get_mut(&self.receiver) {
            lane.entries -= 1;
            if lane.entries == 0 {
                lanes.remove(&self.receiver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_serves_in_order_and_forgets_itself() {
        let lanes = Arc::new(Lanes::default());
        let receiver = ObjectId::random();
        let first = lanes.enter(receiver).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..8 {
            let (lanes, order) = (Arc::clone(&lanes), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let _place = lanes.enter(receiver).await;
                order.lock().push(number);
            }));
            tokio::task::yield_now().await;
        }
        assert!(order.lock().is_empty(), "nobody passes whoever is in the lane");
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>());
        assert!(lanes.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_full_lane_says_so() {
        let lanes = Lanes::default();
        let receiver = ObjectId::random();
        let places: Vec<_> = (0..LANE_ENTRIES_MAX).map(|_| lanes.line_up(receiver).unwrap().0).collect();
        assert!(lanes.enter(receiver).await.is_none());
        drop(places);
        assert!(lanes.enter(receiver).await.is_some());
    }
}
