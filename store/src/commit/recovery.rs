//! After an I/O error: the database is closed and opened again, with growing delays, read-only meanwhile.
//!
//! redb refuses further work on a handle that failed. Whether the failed group was decided is known only from the
//! reopened database, so memory is read again from there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::curator;
use crate::damage;
use crate::error::{CommitError, Failure};
use crate::limit;
use crate::shared::Loaded;

use super::{Ballot, Committer, Group, Job, Task};

impl Committer {
    /// Tells everyone in the group that nobody knows, everyone behind it that nothing happened, and reopens.
    pub(super) fn recover(&self, group: Group, failure: &Failure) {
        if failure.is_damage() {
            self.shared.stand.note_damage(&failure.to_string());
        }
        self.close_for_writing(failure);
        for ballot in group.ballots {
            let error = match ballot.task {
                Task::Write(_) => CommitError::Unavailable(failure.clone()),
                Task::Answer(_) => ballot.unanswered(failure),
            };
            ballot.answer(Err(error));
        }
        self.abort_waiting(failure);
        self.reopen(failure);
    }

    /// A reader met a failure; nothing to do when the handle was replaced since, or when the page that it met is
    /// damaged and the rest is not.
    pub(super) fn reopen_if_broken(&self, failure: &Failure) {
        self.shared.is_reopen_asked.store(false, Ordering::Release);
        let begin = || -> Result<(), Failure> { Ok(self.shared.database.write()?.abort()?) };
        let is_broken = || damage::guard(begin).is_err();
        if !self.is_parked.get() && is_broken() {
            self.restart(failure);
        }
    }

    /// A panic ended a job half-way. Whom it concerned has heard: a ballot answers when it is dropped.
    pub(super) fn restart(&self, failure: &Failure) {
        self.close_for_writing(failure);
        self.abort_waiting(failure);
        self.reopen(failure);
    }

    /// From here on no unit passes its vote, and none that began on what was voted for ever will.
    fn close_for_writing(&self, failure: &Failure) {
        tracing::error!(%failure, "the object store failed and is being reopened, read-only meanwhile");
        let mut order = self.shared.order.write();
        self.shared.stand.fail(failure);
        order.end_era(self.shared.position());
        order.set_generations(Arc::clone(&self.shared.generations.read()));
        order.set_room(self.shared.index.read().room());
        self.shared.voted.store(self.shared.decided.load(Ordering::Acquire), Ordering::Release);
    }

    /// What was voted for on top of a group that failed was never written.
    fn abort_waiting(&self, failure: &Failure) {
        while let Ok(job) = self.queue.try_recv() {
            if let Job::Decide(ballot) = job {
                let error = match ballot.task {
                    Task::Write(_) => CommitError::Aborted,
                    Task::Answer(_) => ballot.unanswered(failure),
                };
                ballot.answer(Err(error));
            }
        }
    }

    /// Where the file is damaged or not to be read, no other handle is better: the store stays read-only until it is
    /// opened anew.
    fn reopen(&self, failure: &Failure) {
        let is_checked = matches!(failure, Failure::Damaged { .. });
        let mut delay = self.shared.options.reopen_first;
        loop {
            fail::fail_point!("store::reopen-before-open");
            match damage::guard(|| self.open_again(is_checked)) {
                Ok(loaded) => {
                    fail::fail_point!("store::reopen-before-install");
                    self.shared.install(loaded);
                    curator::wake(&self.shared);
                    self.shared.stand.open(failure.is_no_room().then(|| failure.to_string().into()));
                    tracing::info!(position = %self.shared.position(), "the object store is open again");
                    return;
                }
                Err(failure) if failure.is_lasting() => {
                    tracing::error!(%failure, "the object store stays read-only");
                    self.shared.stand.stay_read_only(&failure);
                    return self.is_parked.set(true);
                }
                Err(failure) => tracing::error!(%failure, ?delay, "the object store did not reopen"),
            }
            if !self.rest(delay) {
                return;
            }
            delay = (delay * 2).min(self.shared.options.reopen_longest);
        }
    }

    /// The store takes writes again once so much room is there as some commits need: one commit that just fits would
    /// leave the next one's effect unknown.
    pub(super) fn look_for_room(&self) {
        match self.shared.database.try_room(limit::ROOM_BYTES) {
            Ok(()) => {
                tracing::info!("there is room for the object store again");
                self.shared.stand.open(None);
            }
            Err(cause) => tracing::debug!(%cause, "there is still no room for the object store"),
        }
    }

    fn open_again(&self, is_checked: bool) -> Result<Loaded, Failure> {
        let database = &self.shared.database;
        database.reopen(is_checked)?;
        let loaded = damage::guard(|| {
            Loaded::read(database, &self.shared.options, &self.shared.segments, &self.shared.shelves)
        })
        .inspect_err(|_| database.refuse())?;
        database.accept()?;
        Ok(loaded)
    }

    /// Waits; false when the last handle is gone. Nothing but requests to reopen can arrive meanwhile.
    fn rest(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            match self.queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => self.shared.is_reopen_asked.store(false, Ordering::Release),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

impl Ballot {
    /// What a ballot is told that only waited: a reader did nothing, but the decision that a resent request was to hear
    /// of may have failed.
    fn unanswered(&self, failure: &Failure) -> CommitError {
        match &self.task {
            Task::Answer(answer) if answer.is_err() => CommitError::Unavailable(failure.clone()),
            _ => CommitError::Aborted,
        }
    }
}
