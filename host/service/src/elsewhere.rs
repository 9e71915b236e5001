//! Work for workers: an order of this host's, and whether anybody still has it or will.
//!
//! ```text
//! ordered ─→ heard ─→ … ─→ its one outcome
//!    └ looked at every LOOK: nobody offers it, nobody has it in hand
//!        for ALONE_MAX, and the host has no workers of its own:      it may do it itself
//!        for STARTING_MAX, while its own workers are started again:  refused
//!        for ALONE_MAX, when they are not started any more:          refused
//! ```
//! What the workers of a host's own do, the host never does: what ended one of them would end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_bridge::{Class, Job, JobEvent, PeerInfo, RpcError, Stats, Workers};
use telos_journal::{Line, Severity};

use crate::checks::Check;
use crate::crew::{Child, CrewStanding};

/// An order is looked at so often.
const LOOK: Duration = Duration::from_millis(500);
/// An order is nobody's after so long without a worker: one that only connects anew is back by then.
const ALONE_MAX: Duration = Duration::from_secs(1);
/// The host's own workers are waited for so long: all the restarts that they get take a part of it.
const STARTING_MAX: Duration = Duration::from_secs(20);

/// Takes a line for the journal.
pub(crate) type OnLine = Arc<dyn Fn(&Line) + Send + Sync>;

/// The workers of a host, as its own parts order of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Elsewhere(Arc<Inner>);

struct Inner {
    workers: Workers,
    crew: CrewStanding,
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
    Nobody(Absence),
}

/// Why nobody does an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// There is no worker, and the host has none of its own.
    Nobody,
    /// The host's own are not there, and are being started again.
    Starting,
    /// The host's own are not started any more.
    GivenUp,
}

impl Absence {
    /// Why it is not done, for a person; none where the host may do it itself.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::Starting => Some("the host's workers are being started again; try again in a moment"),
            Self::GivenUp => Some(
                "the host's workers ended too often, and it does not do their work itself; `telos journal tail` says \
                 how they ended; start one with `telos worker`, or the host again",
            ),
        }
    }
}

impl Elsewhere {
    pub(crate) fn new(workers: &Workers, crew: &CrewStanding, told: OnLine) -> Self {
        let (workers, crew) = (workers.clone(), crew.clone());
        Self(Arc::new(Inner { workers, crew, told, timed_out: AtomicU64::new(0) }))
    }

    /// Whether a worker is to be asked: one offers, or the service is that of the host's own. Before the host serves
    /// none can come, so it does itself what its start needs.
    pub(crate) fn takes(&self, service: &str) -> bool {
        let Inner { workers, crew, .. } = self.0.as_ref();
        workers.offer(service) || (crew.does(service) && workers.presence().is_some())
    }

    fn absence(&self, service: &str) -> Absence {
        match &self.0.crew {
            crew if !crew.does(service) => Absence::Nobody,
            crew if crew.is_given_up() => Absence::GivenUp,
            _ => Absence::Starting,
        }
    }

    /// How the workers are; none where there are none and none are wanted.
    pub(crate) fn check(&self) -> Option<Check> {
        let children = self.0.crew.children();
        let (peers, _) = self.0.workers.presence()?;
        let connected = peers.iter().filter(|peer| peer.worker.is_some()).count();
        let given_up = children.iter().filter_map(|child| match child {
            Child::GivenUp(how) => Some(how.as_str()),
            Child::Wanted => None,
        });
        let given_up: Vec<&str> = given_up.collect();
        if children.is_empty() && connected == 0 {
            return None;
        }
        Some(told_check(connected, children.len(), &given_up))
    }

    /// Who is there now, and what happened so far; none before the host serves.
    pub(crate) fn presence(&self) -> Option<(Vec<PeerInfo>, Stats)> {
        self.0.workers.presence()
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
                    if let Some(absence) = self.look(Instant::now()) {
                        return Heard::Nobody(absence);
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

    /// Whether nobody will do it.
    fn look(&mut self, now: Instant) -> Option<Absence> {
        if self.elsewhere.is_attended(self.service) {
            self.alone_since = None;
            return None;
        }
        let alone = now.saturating_duration_since(*self.alone_since.get_or_insert(now));
        let absence = self.elsewhere.absence(self.service);
        let bound = if absence == Absence::Starting { STARTING_MAX } else { ALONE_MAX };
        (alone >= bound).then_some(absence)
    }
}

/// `wanted`: how many the host starts, those included that it has given up and how they ended.
fn told_check(connected: usize, wanted: usize, given_up: &[&str]) -> Check {
    let counted = match (wanted, given_up.len()) {
        (0, _) => return Check::ok("workers", format!("{connected} connected")),
        (_, 0) => format!("{connected} connected, of {wanted} that this host starts"),
        (_, lost) => {
            format!("{connected} connected; of {wanted} that this host starts, {lost} ended too often")
        }
    };
    match given_up.last() {
        None => Check::ok("workers", counted),
        Some(how) => {
            let refused = if connected == 0 { ": minds and trials are refused" } else { "" };
            let next =
                "`telos journal tail` says how they ended; start one with `telos worker`, or the host again";
            Check::degraded("workers", format!("{counted} ({how}){refused}"), next)
        }
    }
}

/// What became of an order that was not answered by its deadline.
fn out_of_time(begun: u32) -> String {
    match begun {
        0 => "no worker was free for it by its deadline".to_owned(),
        1 => "its worker had not answered by its deadline".to_owned(),
        more => format!("it was given to workers {more} times, and none had answered by its deadline"),
    }
}

fn gone() -> RpcError {
    RpcError::new("cut", telos_bridge::Effect::Unknown, "the host stopped")
}

#[cfg(test)]
pub(crate) mod tests;
