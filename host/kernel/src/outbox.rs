//! The outbox's postman: delivers what units posted, each as a root of its own, in order per (source, target).
//!
//! A delivery deletes its row in the same commit as its effects, so a crash repeats an attempt, never an effect. What
//! fails three times becomes a dead letter, with an audit row, and stops nobody else.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use telos_store::{OutboxRow, Store};
use tokio::sync::Notify;

use crate::dispatch::Dispatcher;
use crate::swap::now_ms;

/// Time for one delivery.
const DELIVERY_TIME: Duration = Duration::from_secs(60);
/// Deliveries under way at once.
const DELIVERIES_MAX: usize = 16;
/// Back-off after the first failure; doubles.
const BACK_OFF_MS: u64 = 1_000;
/// Looks this often even when nobody rings, for rows whose back-off is over.
const ROUND: Duration = Duration::from_secs(1);

/// Delivers until the dispatcher is gone.
pub(crate) async fn deliver_posts(store: Store, dispatcher: Weak<Dispatcher>, bell: Arc<Notify>) {
    loop {
        let Some(dispatcher) = dispatcher.upgrade() else {
            return;
        };
        let due = store.outbox_due(now_ms(), DELIVERIES_MAX).unwrap_or_default();
        if due.is_empty() {
            drop(dispatcher);
            let _ = tokio::time::timeout(ROUND, bell.notified()).await;
            continue;
        }
        // `outbox_due` gives only the head of each (source, target), so these may run side by side.
        let deliveries = due.into_iter().map(|row| deliver_one(&store, &dispatcher, row));
        futures::future::join_all(deliveries).await;
    }
}

async fn deliver_one(store: &Store, dispatcher: &Dispatcher, row: OutboxRow) {
    let deadline = Instant::now() + DELIVERY_TIME;
    let (id, attempts) = (row.id, row.attempts);
    if let Err(failure) = dispatcher.deliver_post(id, row.post, deadline).await {
        let not_before = now_ms() + (BACK_OFF_MS << attempts.min(10));
        // When the store cannot take this down, the row is still due and will be tried again.
        let _ = store.fail_post(id, &failure.to_string(), not_before);
    }
}
