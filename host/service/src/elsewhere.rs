//! Work for workers: an order of this host's, and whether anybody still has it or will.
//!
//! ```text
//! ordered ─→ heard ─→ … ─→ its one outcome
//!    └ looked at every LOOK: nobody offers it, nobody has it in hand, for ALONE_MAX: nobody will
//! ```
//! What follows from that is for whoever ordered to decide: a trial or a prompt in this process, or a refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_bridge::{Class, Job, JobEvent, PeerInfo, RpcError, Workers};
use telos_journal::{Line, Severity};

/// An order is looked at so often.
const LOOK: Duration = Duration::from_millis(500);
/// An order is nobody's after so long without a worker: one that only connects anew is back by then.
const ALONE_MAX: Duration = Duration::from_secs(1);

/// Takes a line for the journal.
pub(crate) type OnLine = Arc<dyn Fn(&Line) + Send + Sync>;

/// The workers of a host, as its own parts order of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Elsewhere(Arc<Inner>);

struct Inner {
    workers: Workers,
    told: OnLine,
    timed_out: AtomicU64,
}

/// An order, watched. Dropping it cancels it.
pub(crate) struct Errand {
    elsewhere: Elsewhere,
    service: &'static str,
    job: Job,
    begun: u32,
    alone_since: Option<Instant>,
}

/// What is heard of it.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(JobEvent),
    /// Nobody offers its service any more, and nobody has it in hand.
    Nobody,
}

impl Elsewhere {
    pub(crate) fn new(workers: &Workers, told: OnLine) -> Self {
        Self(Arc::new(Inner { workers: workers.clone(), told, timed_out: AtomicU64::new(0) }))
    }

    /// Whether a worker is to be asked.
    pub(crate) fn takes(&self, service: &str) -> bool {
        self.0.workers.offer(service)
    }

    /// Orders of this host that no worker answered by their deadline, so far.
    pub(crate) fn timed_out(&self) -> u64 {
        self.0.timed_out.load(Ordering::Relaxed)
    }

    /// Orders what changes nothing, so that another worker may have it.
    pub(crate) fn order(
        &self,
        service: &'static str,
        deadline: Instant,
        lease: Option<Duration>,
        params: &Value,
    ) -> Errand {
        let job = self.0.workers.order(service, Class::Idempotent, deadline, lease, params);
        Errand { elsewhere: self.clone(), service, job, begun: 0, alone_since: None }
    }

    /// Whether a worker offers the service, or has something in hand and once offered it.
    fn is_attended(&self, service: &str) -> bool {
        let has_work = |peer: &PeerInfo| {
            let worker = peer.worker.as_ref();
            worker.is_some_and(|worker| worker.in_hand > 0 && worker.services.iter().any(|s| s == service))
        };
        let workers = &self.0.workers;
        workers.offer(service) || workers.presence().is_some_and(|(peers, _)| peers.iter().any(has_work))
    }

    fn note_timeout(&self, service: &str, begun: u32, cause: &str) {
        self.0.timed_out.fetch_add(1, Ordering::Relaxed);
        let line = Line::new(Severity::Warn, "worker.order-timed-out", format!("`{service}`: {cause}"));
        (self.0.told)(&line.with("service", service).with("attempts", begun));
    }
}

impl Errand {
    /// The next thing that happens.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                // What has happened comes before a look at who is there.
                biased;
                event = self.job.next() => return Heard::Event(self.take(event)),
                () = tokio::time::sleep(LOOK) => {
                    if self.is_nobodys(Instant::now()) {
                        return Heard::Nobody;
                    }
                }
            }
        }
    }

    /// How often a worker was given it.
    pub(crate) fn begun(&self) -> u32 {
        self.begun
    }

    fn take(&mut self, event: Option<JobEvent>) -> JobEvent {
        self.alone_since = None;
        match event {
            Some(JobEvent::Begun) => {
                self.begun = self.begun.saturating_add(1);
                JobEvent::Begun
            }
            Some(JobEvent::Done(Err(error))) if error.data.kind == "timeout" => {
                let error = RpcError { message: out_of_time(self.begun), ..error };
                self.elsewhere.note_timeout(self.service, self.begun, &error.message);
                JobEvent::Done(Err(error))
            }
            Some(event) => event,
            None => JobEvent::Done(Err(gone())),
        }
    }

    fn is_nobodys(&mut self, now: Instant) -> bool {
        if self.elsewhere.is_attended(self.service) {
            self.alone_since = None;
            return false;
        }
        now.saturating_duration_since(*self.alone_since.get_or_insert(now)) >= ALONE_MAX
    }
}

/// What became of an order that was not answered by its deadline.
fn out_of_time(begun: u32) -> String {
    match begun {
        0 => "no worker was free for it by its deadline".to_owned(),
        1 => "its worker had not answered by its deadline".to_owned(),
        more => format!("{more} workers had it, one after another, and none had answered by its deadline"),
    }
}

fn gone() -> RpcError {
    RpcError::new("cut", telos_bridge::Effect::Unknown, "the host stopped")
}

#[cfg(test)]
pub(crate) mod tests;
