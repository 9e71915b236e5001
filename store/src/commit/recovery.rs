//! After an I/O error: the database is closed and opened again, with growing delays, read-only meanwhile.
//!
//! redb refuses further work on a handle that failed. Whether the failed group was decided is known only from the
//! reopened database, so memory is read again from there.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::error::{CommitError, Failure};
use crate::shared::Loaded;

use super::{Committer, Group, Job};

impl Committer {
    /// Tells everyone in the group that nobody knows, and reopens.
    ///
    /// A ballot that was refused for what its group had written before it is told the same: that may not stand.
    pub(super) fn recover(&self, group: Group, failure: &Failure) {
        self.close_for_writing(failure);
        for (ballot, _) in group.answers {
            ballot.answer(Err(CommitError::Unavailable(failure.clone())));
        }
        self.reopen();
    }

    /// A reader met a failure; nothing to do when the handle was replaced since.
    pub(super) fn reopen_if_broken(&self, failure: &Failure) {
        if self.shared.database.write().and_then(|txn| Ok(txn.abort()?)).is_err() {
            self.close_for_writing(failure);
            self.reopen();
        }
    }

    fn close_for_writing(&self, failure: &Failure) {
        tracing::error!(%failure, "the object store failed and is being reopened, read-only meanwhile");
        *self.shared.read_only.write() = Some(failure.to_string().into());
    }

    fn reopen(&self) {
        let mut delay = self.shared.options.reopen_first;
        loop {
            fail::fail_point!("store::reopen-before-open");
            match self.shared.database.reopen().and_then(|()| Loaded::read(&self.shared.database)) {
                Ok(loaded) => {
                    fail::fail_point!("store::reopen-before-install");
                    self.shared.install(loaded);
                    *self.shared.read_only.write() = None;
                    tracing::info!(position = %self.shared.position(), "the object store is open again");
                    return;
                }
                Err(failure) => tracing::error!(%failure, ?delay, "the object store did not reopen"),
            }
            if !self.refuse_for(delay) {
                return;
            }
            delay = (delay * 2).min(self.shared.options.reopen_longest);
        }
    }

    /// Refuses what arrives meanwhile; false when the last handle is gone.
    fn refuse_for(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            match self.queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Job::Decide(ballot)) => {
                    let cause = self.shared.read_only.read().clone().unwrap_or_default();
                    ballot.answer(Err(CommitError::ReadOnlyStore { cause }));
                }
                Ok(Job::Reopen(_)) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
