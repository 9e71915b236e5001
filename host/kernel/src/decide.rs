//! Asking the store for a decision, and waiting for it without a thread.

use telos_store::{Commit, CommitError, Store, Unit, Vote};
use tokio::sync::oneshot;

/// A unit that has passed its vote, or was refused, and whose decision is on its way.
#[must_use = "a decision is waited for"]
pub(crate) struct Asked(oneshot::Receiver<Result<Commit, CommitError>>);

/// Sends a unit to its decision. When this returns the unit has been voted on, and is not yet durable.
///
/// `on_failed` runs at the failure: before this returns when the unit is refused, and before the store takes writes
/// again when the disk failed below it. It must be quick and must not ask the store for anything.
pub(crate) fn ask(
    store: &Store,
    unit: Unit,
    vote: Vote,
    on_failed: impl FnOnce(&CommitError) + Send + 'static,
) -> Asked {
    let (done, decided) = oneshot::channel();
    store.decide_then(unit, vote, move |outcome| {
        if let Err(error) = &outcome {
            on_failed(error);
        }
        // Whoever no longer waits does not want to know.
        let _ = done.send(outcome);
    });
    Asked(decided)
}

impl Asked {
    /// Waits for the decision.
    ///
    /// # Cancel safety
    /// The decision goes on even when nobody waits for it any more.
    pub(crate) async fn decided(self) -> Result<Commit, CommitError> {
        self.0.await.unwrap_or(Err(CommitError::Closed))
    }
}

/// Commits a unit.
///
/// # Cancel safety
/// Once asked, the decision goes on even when nobody waits for it any more.
pub(crate) async fn decide(store: &Store, unit: Unit, vote: Vote) -> Result<Commit, CommitError> {
    ask(store, unit, vote, |_| {}).decided().await
}
