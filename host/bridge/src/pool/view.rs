//! What a pool shows of itself; nothing here changes it.

use std::time::{Duration, Instant};

use super::job::Job;
use super::worker::{Slot, WorkerState};
use super::{DeadLetter, JobId, Pool, PoolStats, ServiceName, Size};

/// One lease: a job that a worker is to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job's number.
    pub job: u64,
    /// How often it was given, this time included.
    pub attempt: u32,
    /// The service it is for.
    pub service: String,
    /// How long until it runs out, unless the worker gets on.
    pub remaining: Duration,
}

impl<W: Ord + Copy, P: Clone + Size> Pool<W, P> {
    /// Whether a live worker offers the service, with room or without.
    pub(crate) fn offers(&self, service: &str) -> bool {
        self.workers.values().any(|worker| worker.is_serving() && worker.offers(service))
    }

    /// A worker's services, credit, jobs in hand, and standing.
    pub(crate) fn worker(&self, id: W) -> Option<(&[ServiceName], u16, usize, WorkerState)> {
        let worker = self.workers.get(&id)?;
        Some((&worker.services, worker.credit, worker.slots.len(), worker.state()))
    }

    /// Who has the present attempt of a job.
    pub(crate) fn holder(&self, job: JobId) -> Option<W> {
        self.jobs.get(&job).and_then(Job::holder)
    }

    /// Jobs of which a worker has the present attempt.
    pub(crate) fn held_by(&self, id: W) -> impl Iterator<Item = JobId> {
        let slots = self.workers.get(&id).into_iter().flat_map(|worker| &worker.slots);
        slots.filter(|(_, slot)| matches!(slot, Slot::Held)).map(|((job, _), _)| *job)
    }

    /// The leases on a worker's jobs: which job and attempt, of which service, and how long it still has.
    pub(crate) fn leases(&self, id: W, now: Instant) -> Vec<Lease> {
        let lease = |job: JobId| {
            let held = self.jobs.get(&job)?;
            let remaining = held.lease_end()?.saturating_duration_since(now);
            Some(Lease {
                job: job.0,
                attempt: held.attempt,
                service: held.order.service.to_string(),
                remaining,
            })
        };
        self.held_by(id).filter_map(lease).collect()
    }

    pub(crate) fn workers_count(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    pub(crate) fn in_hand_count(&self) -> usize {
        self.jobs.len() - self.waiting_count
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.stats
    }

    /// The newest dead letters, oldest first.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter<W>> {
        self.dead_letters.iter()
    }
}
