//! The outbox's postman: delivers what units posted, each as a root of its own, in order per (source, target).
//!
//! ```text
//! due → under way ─→ delivered      the row is deleted in the commit of its effects: a crash repeats an attempt, no effect
//!                 ├→ failed         counted, and due again after a back-off; the third makes it a dead letter
//!                 └→ turned away    the host had no room or no disk: it rests, and nothing is counted
//! ```
//! Deliveries are independent of each other: a slow one holds up its own (source, target), one that panics only fails.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::Map;
use telos_store::{OutboxRow, PostId, Store, Vote};
use tokio::sync::Notify;
use tokio::task::{self, JoinError, JoinSet};

use crate::decide::decide;
use crate::dispatch::Dispatcher;
use crate::failure::{Failure, StoreFailure};
use crate::seams::Severity;
use crate::swap::now_ms;

/// Time for one delivery.
const DELIVERY_TIME: Duration = Duration::from_secs(60);
/// Deliveries under way at once; more wait.
const DELIVERIES_MAX: usize = 16;
/// Back-off after the first failure; doubles.
const BACK_OFF_MS: u64 = 1_000;
/// Rest after the host turned a delivery away for the first time; doubles.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest rest.
const REST_LONGEST: Duration = Duration::from_secs(10);
/// Posts that rest at once; with as many no further one is begun until one of them was delivered.
const RESTS_MAX: usize = 1_024;
/// Looks this often even when nobody rings, for rows whose back-off is over.
const ROUND: Duration = Duration::from_secs(1);

/// Delivers until the dispatcher is gone.
pub(crate) async fn deliver_posts(store: Store, dispatcher: Weak<Dispatcher>, bell: Arc<Notify>) {
    let mut postman =
        Postman { store, round: Round::default(), deliveries: JoinSet::new(), posts: HashMap::new() };
    loop {
        // Not held while waiting, so that the dispatcher can go.
        let Some(dispatcher) = dispatcher.upgrade() else {
            return;
        };
        postman.begin_due(&dispatcher);
        drop(dispatcher);
        postman.wait(&bell).await;
    }
}

struct Postman {
    store: Store,
    round: Round,
    deliveries: JoinSet<Fate>,
    /// Whose each of the deliveries is, also of one that dies.
    posts: HashMap<task::Id, PostId>,
}

/// What became of a delivery.
enum Fate {
    /// The row is gone, or has one more attempt.
    Settled,
    /// The host turned it away.
    TurnedAway,
}

/// What is under way and what rests.
#[derive(Default)]
struct Round {
    under_way: HashSet<PostId>,
    resting: HashMap<PostId, Rest>,
}

struct Rest {
    until: Instant,
    length: Duration,
}

impl Postman {
    fn begin_due(&mut self, dispatcher: &Arc<Dispatcher>) {
        // The store gives the head of each (source, target) only, and goes on giving those that are under way or rest.
        let due = self.store.outbox_due(now_ms(), DELIVERIES_MAX + self.round.resting.len());
        for row in due.unwrap_or_default() {
            if self.round.begins(row.id, Instant::now()) {
                let id = row.id;
                let delivery = deliver(self.store.clone(), Arc::clone(dispatcher), row);
                self.posts.insert(self.deliveries.spawn(delivery).id(), id);
            }
        }
    }

    /// Waits until a delivery ended, somebody rang, or a back-off may be over.
    async fn wait(&mut self, bell: &Notify) {
        let pause = self.round.pause(Instant::now());
        tokio::select! {
            Some(ended) = self.deliveries.join_next_with_id() => self.end(ended),
            () = bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        while let Some(ended) = self.deliveries.try_join_next_with_id() {
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Result<(task::Id, Fate), JoinError>) {
        // One that died before its fate was written down is still due.
        let (task, fate) = ended.unwrap_or_else(|error| (error.id(), Fate::TurnedAway));
        if let Some(id) = self.posts.remove(&task) {
            self.round.end(id, fate, Instant::now());
        }
    }
}

impl Round {
    /// Whether a post that is due is to be delivered now; then it is under way.
    fn begins(&mut self, id: PostId, now: Instant) -> bool {
        let rests = self.resting.get(&id).is_some_and(|rest| rest.until > now);
        let has_room = self.under_way.len() < DELIVERIES_MAX
            && (self.resting.contains_key(&id) || self.resting.len() + self.under_way.len() < RESTS_MAX);
        !rests && has_room && self.under_way.insert(id)
    }

    fn end(&mut self, id: PostId, fate: Fate, now: Instant) {
        self.under_way.remove(&id);
        match fate {
            Fate::Settled => {
                self.resting.remove(&id);
            }
            Fate::TurnedAway => {
                let length =
                    self.resting.get(&id).map_or(REST_FIRST, |rest| rest.length * 2).min(REST_LONGEST);
                self.resting.insert(id, Rest { until: now + length, length });
            }
        }
    }

    fn pause(&self, now: Instant) -> Duration {
        let rests = self.resting.iter().filter(|(id, _)| !self.under_way.contains(id));
        let soonest = rests.map(|(_, rest)| rest.until.saturating_duration_since(now)).min();
        soonest.map_or(ROUND, |soonest| soonest.clamp(REST_FIRST / 10, ROUND))
    }
}

async fn deliver(store: Store, dispatcher: Arc<Dispatcher>, row: OutboxRow) -> Fate {
    let (id, attempts, trace) = (row.id, row.attempts, row.post.trace.clone());
    let deadline = Instant::now() + DELIVERY_TIME;
    let delivering = Arc::clone(&dispatcher);
    // A task of its own, so that its panic is its own.
    let delivered = tokio::spawn(async move { delivering.deliver_post(id, row.post, deadline).await }).await;
    let failure = match delivered {
        Ok(Ok(_)) => return Fate::Settled,
        Ok(Err(failure)) => failure,
        Err(panicked) => dispatcher.failure(StoreFailure::Host(panicked.to_string())),
    };
    if is_turned_away(&failure) {
        dispatcher.note(Severity::Debug, "post.turned-away", failure.to_string(), Some(trace), Map::new());
        return Fate::TurnedAway;
    }
    count_failure(&store, id, attempts, &failure).await
}

/// The host had no room or no disk: not the message's doing, so it costs no attempt.
fn is_turned_away(failure: &Failure) -> bool {
    matches!(failure, Failure::Busy(_) | Failure::NoRoom(_) | Failure::Unavailable(_))
}

async fn count_failure(store: &Store, id: PostId, attempts: u32, failure: &Failure) -> Fate {
    let not_before = now_ms() + (BACK_OFF_MS << attempts.min(10));
    let mut unit = store.begin();
    // One shortened cause is far within the bounds of a unit.
    let _ = unit.fail_post(id, &failure.to_string(), not_before);
    match decide(store, unit, Vote::default()).await {
        Ok(_) => Fate::Settled,
        // Still due, and not to be tried again at once.
        Err(_) => Fate::TurnedAway,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telos_store::Position;

    fn post(index: u32) -> PostId {
        PostId { position: Position::new(1), index }
    }

    #[test]
    fn a_post_is_under_way_once_and_sixteen_are_at_once() {
        let (mut round, now) = (Round::default(), Instant::now());
        assert!(round.begins(post(0), now) && !round.begins(post(0), now));
        assert_eq!((1..100).filter(|index| round.begins(post(*index), now)).count(), DELIVERIES_MAX - 1);
        round.end(post(3), Fate::Settled, now);
        assert!(round.begins(post(200), now) && !round.begins(post(201), now));
    }

    #[test]
    fn what_was_turned_away_rests_longer_each_time_and_holds_up_nobody_else() {
        let (mut round, mut now) = (Round::default(), Instant::now());
        for length in [REST_FIRST, REST_FIRST * 2, REST_FIRST * 4] {
            assert!(round.begins(post(0), now));
            round.end(post(0), Fate::TurnedAway, now);
            assert!(!round.begins(post(0), now) && round.begins(post(1), now));
            round.end(post(1), Fate::Settled, now);
            assert_eq!(round.pause(now), length);
            now += length;
        }
        assert!(round.begins(post(0), now));
        round.end(post(0), Fate::Settled, now);
        assert!(round.resting.is_empty());
    }

    #[test]
    fn with_as_many_at_rest_as_may_be_only_those_are_tried_again() {
        let (mut round, now) = (Round::default(), Instant::now());
        for index in 0..u32::try_from(RESTS_MAX).unwrap() {
            assert!(round.begins(post(index), now));
            round.end(post(index), Fate::TurnedAway, now);
        }
        let later = now + REST_LONGEST;
        assert!(!round.begins(post(5_000), later) && round.begins(post(7), later));
    }
}
