//! What must happen at the start and now and then while a host runs: sessions idle for a day are closed.

use std::time::Duration;

use telos_store::Store;

use crate::swap::now_ms;

/// Far shorter than the day after which a session is idle.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Keeps up until the runtime stops.
pub(crate) async fn keep_up(store: Store) {
    loop {
        let store = store.clone();
        let _ = tokio::task::spawn_blocking(move || close_idle_sessions(&store, now_ms())).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Sweeps until none is left, however many idle since the last time. What fails is done an hour later.
fn close_idle_sessions(store: &Store, now_ms: u64) {
    while store.idle_sessions(now_ms).is_ok_and(|idle| idle > 0) && store.sweep_sessions(now_ms).is_ok() {}
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
