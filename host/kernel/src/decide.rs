//! Asking the store's committer for a decision, and waiting for it without a thread.

use telos_store::{Commit, CommitError, Store, Unit, Vote};
use tokio::sync::oneshot;

/// Commits a unit.
///
/// # Cancel safety
/// Once asked, the decision goes on even when nobody waits for it any more.
pub(crate) async fn decide(store: &Store, unit: Unit, vote: Vote) -> Result<Commit, CommitError> {
    let (done, decided) = oneshot::channel();
    store.decide_then(unit, vote, move |outcome| {
        // Whoever no longer waits does not want to know.
        let _ = done.send(outcome);
    });
    decided.await.unwrap_or(Err(CommitError::Closed))
}
