//! Workers in the queue: their sessions speak, the pool decides, and what it decides goes out.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Notice, Queue, WorkerInfo};
use crate::frame::{HostBody, JobBody, WorkerBody, WorkerReport};
use crate::pool::{JobId, PoolAction, Report, Size};
use crate::rpc;
use crate::service::{CancelReason, Role};

impl Size for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Queue {
    pub(super) fn hear_worker(&mut self, now: Instant, client: u128, body: WorkerBody) {
        let Some(session) = self.sessions.get(&client) else {
            return;
        };
        if session.role != Role::Worker {
            return self.refuse_role(client);
        }
        let id = session.id;
        match body {
            WorkerBody::Ready { credit, services } => {
                self.pool.declare(now, client, &services, credit);
                if let Some(services) = self.offers_anew(client, credit) {
                    self.note(Notice::Ready { session: id, services, credit });
                }
            }
            WorkerBody::Drain => {
                self.pool.drain(client);
                self.note(Notice::Draining { session: id });
            }
            WorkerBody::Report { job, attempt, report } => {
                self.pool.hear(now, client, JobId(job), attempt, read(report));
            }
        }
        self.perform_pool();
    }

    pub(super) fn describe_worker(&self, client: u128, now: Instant) -> Option<WorkerInfo> {
        let (services, credit, in_hand, state) = self.pool.worker(client)?;
        let services = services.iter().map(|service| service.to_string()).collect();
        Some(WorkerInfo { services, credit, in_hand, leases: self.pool.leases(client, now), state })
    }

    /// Does what the pool decided, and what it decides because of that.
    pub(super) fn perform_pool(&mut self) {
        loop {
            let actions = self.pool.take_actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.perform_one(action));
        }
    }

    fn perform_one(&mut self, action: PoolAction<u128, Bytes>) {
        match action {
            PoolAction::Give { worker, job, attempt, service, lease, remaining, payload } => {
                self.accept_order(job);
                let (remaining_ms, lease_ms) = (to_ms(remaining), to_ms(lease));
                let body = JobBody::Job { job: job.0, attempt, remaining_ms, lease_ms, service, payload };
                self.push(worker, HostBody::Work(body));
                self.flush(worker);
            }
            PoolAction::Recall { worker, job, attempt } => {
                self.push(worker, HostBody::Work(JobBody::Recall { job: job.0, attempt }));
                self.flush(worker);
            }
            PoolAction::Pace { worker, job, attempt, is_paused } => {
                self.withdraw_pace(worker, job, attempt);
                self.push(worker, HostBody::Work(JobBody::Pace { job: job.0, attempt, is_paused }));
                self.flush(worker);
            }
            PoolAction::Dismiss { worker } => {
                if let Some(session) = self.sessions.get(&worker) {
                    let session = session.id;
                    self.note(Notice::Dismissed { session });
                }
                self.end_session(worker, CancelReason::ClientGone);
            }
            PoolAction::Streamed { job, attempt, index, payload } => {
                self.stream_to_orderer(job, attempt, index, payload);
            }
            PoolAction::Restarted { job, attempt } => self.reset_orderer(job, attempt),
            PoolAction::Ended { job, end } => self.end_order(job, end),
        }
    }

    /// Only the last word counts, and a reader may change its mind as often as it likes.
    fn withdraw_pace(&mut self, worker: u128, id: JobId, of: u32) {
        if let Some(session) = self.sessions.get_mut(&worker) {
            session.sender.withdraw(|body| {
                matches!(body, HostBody::Work(JobBody::Pace { job, attempt, .. }) if (*job, *attempt) == (id.0, of))
            });
        }
    }

    /// What a worker offers, when that is another thing than it was.
    fn offers_anew(&mut self, client: u128, credit: u16) -> Option<Vec<String>> {
        let (services, ..) = self.pool.worker(client)?;
        let services = services.iter().map(|service| service.to_string()).collect();
        let session = self.sessions.get_mut(&client)?;
        let offer = (services, credit);
        let is_news = session.offer.as_ref().is_none_or(|old| old.0 != offer.0);
        session.offer = Some(offer.clone());
        is_news.then_some(offer.0)
    }

    pub(super) fn note(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

fn read(report: WorkerReport) -> Report<Bytes> {
    match report {
        WorkerReport::Progress => Report::Progress,
        WorkerReport::Piece { index, payload } => Report::Chunk { index, payload },
        WorkerReport::Done { payload } => Report::Done(payload),
        WorkerReport::Failed { payload } => Report::Failed(payload),
        WorkerReport::GaveBack { payload } => {
            Report::GaveBack { reason: rpc::decode_reason(&payload), was_begun: !rpc::is_not_taken(&payload) }
        }
    }
}

fn to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
