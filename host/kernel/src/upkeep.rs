//! What must happen now and then while a host runs: sessions idle for a day are closed, and the past is pruned.

use std::time::Duration;

use telos_store::Store;

use crate::swap::now_ms;

/// Often enough that history stays near its bound in rows under load; with nothing to prune it costs a few reads.
const INTERVAL: Duration = Duration::from_secs(60);
/// Rounds between two sweeps of sessions: an hour, far shorter than the day after which a session is idle.
const ROUNDS_PER_SWEEP: u64 = 60;
/// Steps of pruning in one round, so that a round ends: half a million rows. What is left is done a minute later.
const PRUNE_STEPS_MAX: usize = 1_024;

/// Keeps up until the runtime stops.
pub(crate) async fn keep_up(store: Store) {
    for round in 1_u64.. {
        tokio::time::sleep(INTERVAL).await;
        let store = store.clone();
        // What fails now is done a round later.
        let _ = tokio::task::spawn_blocking(move || one_round(&store, round)).await;
    }
}

fn one_round(store: &Store, round: u64) {
    if round.is_multiple_of(ROUNDS_PER_SWEEP) {
        let _ = store.sweep_sessions(now_ms());
    }
    for _ in 0..PRUNE_STEPS_MAX {
        match store.prune_history(now_ms()) {
            Ok(pruned) if !pruned.is_done => {}
            Ok(_) | Err(_) => return,
        }
    }
}
