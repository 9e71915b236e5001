//! What must happen at the start and now and then while a host runs: evolved copies become ordinary states, the past is
//! pruned, sessions idle for a day are closed, and blobs that nothing names are deleted.

use std::time::Duration;

use telos_store::Store;

use crate::swap::now_ms;

/// Often enough that history stays near its bound in rows under load; with nothing to prune it costs a few reads.
const INTERVAL: Duration = Duration::from_secs(60);
/// Rounds between two sweeps of sessions and blobs: an hour, far shorter than the day after which a session is idle.
const ROUNDS_PER_SWEEP: u64 = 60;
/// Steps of pruning in one round, so that a round ends: half a million rows. What is left is done a minute later.
const PRUNE_STEPS_MAX: usize = 1_024;
/// Sweeps of one round: a quarter of a million sessions.
const SWEEPS_MAX: usize = 1_024;
/// Evolved copies settled by one commit.
const SETTLED_PER_STEP: usize = 1_000;

/// Keeps up until the runtime stops.
pub(crate) async fn keep_up(store: Store) {
    for round in 0_u64.. {
        let store = store.clone();
        // What fails now is done a round later.
        let _ = tokio::task::spawn_blocking(move || one_round(&store, round)).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

fn one_round(store: &Store, round: u64) {
    while store.settle_generation(SETTLED_PER_STEP).is_ok_and(|settled| settled > 0) {}
    if round.is_multiple_of(ROUNDS_PER_SWEEP) {
        close_idle_sessions(store, now_ms());
        let _ = store.collect_blobs(now_ms());
    }
    for _ in 0..PRUNE_STEPS_MAX {
        match store.prune_history(now_ms()) {
            Ok(pruned) if !pruned.is_done => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Sweeps until none is left. What fails is done an hour later.
fn close_idle_sessions(store: &Store, now_ms: u64) {
    // Bounded, since a session whose row is damaged may be listed however often it is closed.
    for _ in 0..SWEEPS_MAX {
        if !store.idle_sessions(now_ms).is_ok_and(|idle| idle > 0) || store.sweep_sessions(now_ms).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use telos_store::{DedupeKey, SessionId, StoreOptions, Vote, limit};

    use super::*;

    #[test]
    fn one_round_closes_every_idle_session() {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let (now, sessions) = (now_ms(), 2 * limit::SESSIONS_PER_SWEEP_MAX + 1);
        let open = |client: usize| {
            let session = SessionId { client: client as u128, incarnation: now };
            let dedupe = Some(DedupeKey { session, number: 1, acked_through: 0 });
            store.decide(store.begin(), Vote { dedupe, ..Vote::default() })
        };
        let opened: Vec<_> = (0..sessions).map(open).collect();
        assert!(opened.into_iter().map(telos_store::Decided::wait).all(|opened| opened.is_ok()));
        close_idle_sessions(&store, now);
        assert_eq!(store.counts().unwrap().sessions, sessions as u64, "none is idle yet");
        close_idle_sessions(&store, now + 2 * limit::SESSION_IDLE_MS_MAX);
        assert_eq!(store.counts().unwrap().sessions, 0);
    }
}
