//! Lanes: roots that write run one at a time per receiver, first in, first out.
//!
//! ```text
//! line up    the place is taken, in the order of arrival        at once, without waiting
//! turn       it is the lowest place that waits                  the root runs
//! pass on    its unit has passed its vote                       the next one begins on what it wrote
//! again      what it was built on failed                        its old place: before everyone who came later
//! ```
//! Never here: who needs a lane, units of work.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use telos_store::ObjectId;
use tokio::sync::Notify;

/// Roots that may wait or run in one lane; the next is told `busy`. Those that line up again are not counted: they
/// are among the units that the store lets wait.
pub const LANE_ENTRIES_MAX: usize = 256;

/// Every lane in use. An unused lane takes no memory.
#[derive(Default)]
pub(crate) struct Lanes(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    lanes: HashMap<ObjectId, Lane>,
    /// Numbers rise over all lanes, so that a lane that was forgotten keeps its order.
    last: u64,
}

#[derive(Default)]
struct Lane {
    turn: Option<u64>,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A place in a lane. Clones are the same place; it is given up when the last is dropped.
#[derive(Clone)]
pub(crate) struct Place(Arc<Ticket>);

struct Ticket {
    board: Arc<Mutex<Board>>,
    receiver: ObjectId,
    number: u64,
    called: Arc<Notify>,
}

impl Lanes {
    /// Takes the next place in this receiver's lane; none when the lane is full.
    pub(crate) fn line_up(&self, receiver: ObjectId) -> Option<Place> {
        let mut board = self.0.lock();
        let entries = board.lanes.get(&receiver).map_or(0, Lane::len);
        if entries >= LANE_ENTRIES_MAX {
            return None;
        }
        board.last += 1;
        let ticket =
            Ticket { board: Arc::clone(&self.0), receiver, number: board.last, called: Arc::default() };
        ticket.wait_in(&mut board);
        drop(board);
        Some(Place(Arc::new(ticket)))
    }

    /// Waits for this receiver's lane; none when the lane is full.
    ///
    /// Cancel safety: dropping the future gives the place up.
    pub(crate) async fn enter(&self, receiver: ObjectId) -> Option<Place> {
        let place = self.line_up(receiver)?;
        place.turn().await;
        Some(place)
    }
}

impl Place {
    /// Waits until it is this place's turn.
    ///
    /// Cancel safety: the place is kept.
    pub(crate) async fn turn(&self) {
        while !self.has_turn() {
            self.0.called.notified().await;
        }
    }

    /// Whether it is this place's turn. A place that has it, but sees one line up again that came before, lets that
    /// one go first.
    pub(crate) fn has_turn(&self) -> bool {
        let mut board = self.0.board.lock();
        let lane = board.lanes.entry(self.0.receiver).or_default();
        let is_first = lane.waiting.first_key_value().is_none_or(|(first, _)| *first > self.0.number);
        if lane.turn == Some(self.0.number) && is_first {
            return true;
        }
        self.0.wait_in(&mut board)
    }

    /// Lets the next one go; this one may still line up again.
    pub(crate) fn pass_on(&self) {
        self.0.leave();
    }

    /// Takes the old place again, before everyone who came later.
    pub(crate) fn line_up_again(&self) {
        self.0.wait_in(&mut self.0.board.lock());
    }
}

impl Ticket {
    /// Waits from now on; true when it need not.
    fn wait_in(&self, board: &mut Board) -> bool {
        let lane = board.lanes.entry(self.receiver).or_default();
        lane.turn.take_if(|turn| *turn == self.number);
        lane.waiting.insert(self.number, Arc::clone(&self.called));
        lane.call_next();
        lane.turn == Some(self.number)
    }

    fn leave(&self) {
        let mut board = self.board.lock();
        let Some(lane) = board.lanes.get_mut(&self.receiver) else {
            return;
        };
        lane.turn.take_if(|turn| *turn == self.number);
        lane.waiting.remove(&self.number);
        lane.call_next();
        if lane.len() == 0 {
            board.lanes.remove(&self.receiver);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Lane {
    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.turn.is_some())
    }

    fn call_next(&mut self) {
        if self.turn.is_none()
            && let Some((number, called)) = self.waiting.pop_first()
        {
            self.turn = Some(number);
            called.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_serves_in_the_order_of_arrival_and_forgets_itself() {
        let lanes = Lanes::default();
        let receiver = ObjectId::random();
        let places: Vec<Place> = (0..8).map(|_| lanes.line_up(receiver).unwrap()).collect();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        // Whoever came last asks for its turn first.
        for (number, place) in places.into_iter().enumerate().rev() {
            let order = Arc::clone(&order);
            waiting.spawn(async move {
                place.turn().await;
                order.lock().push(number);
            });
        }
        waiting.join_all().await;
        assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>());
        assert!(lanes.0.lock().lanes.is_empty());
    }

    #[test]
    fn whoever_passed_on_and_lines_up_again_goes_before_those_who_came_later() {
        let lanes = Lanes::default();
        let receiver = ObjectId::random();
        let [first, second, third] = [(); 3].map(|()| lanes.line_up(receiver).unwrap());
        first.pass_on();
        second.pass_on();
        assert!(third.has_turn());
        second.line_up_again();
        first.line_up_again();
        assert!(!third.has_turn(), "it lets those go that came before");
        assert!(first.has_turn() && !second.has_turn());
        drop(first);
        assert!(second.has_turn());
        drop(second);
        assert!(third.has_turn());
        drop(third);
        assert!(lanes.0.lock().lanes.is_empty());
    }

    #[test]
    fn a_place_that_is_dropped_while_it_waits_stops_nobody() {
        let lanes = Lanes::default();
        let receiver = ObjectId::random();
        let [first, second, third] = [(); 3].map(|()| lanes.line_up(receiver).unwrap());
        drop(second);
        drop(first);
        assert!(third.has_turn());
    }

    #[tokio::test]
    async fn a_full_lane_says_so() {
        let lanes = Lanes::default();
        let receiver = ObjectId::random();
        let places: Vec<_> = (0..LANE_ENTRIES_MAX).map(|_| lanes.line_up(receiver).unwrap()).collect();
        assert!(lanes.enter(receiver).await.is_none());
        drop(places);
        assert!(lanes.enter(receiver).await.is_some());
    }
}
