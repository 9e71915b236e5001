//! What must happen now and then while a host runs: sessions idle for a day are closed.

use std::time::Duration;

use telos_store::Store;

use crate::swap::now_ms;

/// Far shorter than the day after which a session is idle.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Keeps up until the runtime stops.
pub(crate) async fn keep_up(store: Store) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let store = store.clone();
        // What fails now is done an hour later.
        let _ = tokio::task::spawn_blocking(move || store.sweep_sessions(now_ms())).await;
    }
}
