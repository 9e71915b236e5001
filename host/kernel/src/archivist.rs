//! Editions of the archive that components have made: one at a time, each by a thread of its own.
//!
//! ```text
//! building ──▶ built ──▶ publishing ──▶ published
//!     └──────────┴───────────┴─────▶ ended: given up, forgotten, waited too long, failed
//! ```
//! Jobs live as long as the host. What is not in force when it stops is deleted.
//! Never here: how an edition is built and put in force, who may ask for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Map;
use telos_store::{
    ArchiveBudget, ArchiveError, ArchiveProgress, ArchiveWork, BuiltAbout, BuiltEdition, ComponentId, Store,
};
use tokio::sync::oneshot;

use crate::seams::{JournalLine, JournalSink, Severity};

/// How long an edition waits to be put in force.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Between two looks at whether one that waits still may.
const LOOK: Duration = Duration::from_millis(500);
/// Jobs that are remembered.
const JOBS_MAX: usize = 16;

/// Where a job is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// So many steps of so many.
    Building(u64, u64),
    Built(BuiltAbout),
    Publishing(BuiltAbout),
    Published(BuiltAbout),
    /// Why.
    Ended(String),
}

/// Why something was not done about a job.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoSuchJob,
    /// It is elsewhere.
    Unready,
    Archive(ArchiveError),
}

/// See the module.
pub(crate) struct Archivist {
    store: Store,
    journal: Arc<dyn JournalSink>,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    last: u64,
    kept: VecDeque<Job>,
}

/// A job, as those see it who ask about it.
struct Job {
    number: u64,
    owner: ComponentId,
    status: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// What a job is told once its edition waits.
enum Order {
    Validate(oneshot::Sender<Result<BuiltAbout, ArchiveError>>),
    Publish,
    Cancel,
}

impl Archivist {
    pub(crate) fn new(store: Store, journal: Arc<dyn JournalSink>) -> Self {
        Self { store, journal, jobs: Mutex::default() }
    }

    /// Begins a job; its number. Reads the collections that there are.
    pub(crate) fn begin(&self, owner: &ComponentId, collection: &str) -> Result<u64, Refusal> {
        let work = self.store.begin_archive(owner, collection).map_err(Refusal::Archive)?;
        let (stop, status) = (work.stop(), Arc::new(Mutex::new(State::Building(0, 0))));
        let (orders, received) = channel();
        let own = Own {
            owner: owner.clone(),
            collection: collection.to_owned(),
            status: Arc::clone(&status),
            orders: received,
            journal: Arc::clone(&self.journal),
        };
        let spawned = std::thread::Builder::new().name("telos-archive".into()).spawn(|| own.run(work));
        let thread = spawned.map_err(|cause| Refusal::Archive(telos_store::Failure::from(cause).into()))?;
        let mut jobs = self.jobs.lock();
        jobs.last += 1;
        let number = jobs.last;
        jobs.kept.push_back(Job { number, owner: owner.clone(), status, stop, orders, thread });
        if jobs.kept.len() > JOBS_MAX {
            // Only the newest can be under way.
            jobs.kept.pop_front();
        }
        Ok(number)
    }

    pub(crate) fn status(&self, owner: &ComponentId, number: u64) -> Result<State, Refusal> {
        self.with(owner, number, |job| {
            // Asked first: a job says how it ended before it is over.
            let is_over = job.thread.is_finished();
            let state = job.status.lock().clone();
            Ok(if is_over && !state.is_end() { State::Ended(PANICKED.into()) } else { state })
        })
    }

    /// Reads every byte of an edition that waits.
    pub(crate) async fn validate(&self, owner: &ComponentId, number: u64) -> Result<BuiltAbout, Refusal> {
        let (reply, answered) = oneshot::channel();
        self.with(owner, number, |job| match &*job.status.lock() {
            State::Built(_) => {
                job.order(Order::Validate(reply));
                Ok(())
            }
            _ => Err(Refusal::Unready),
        })?;
        // It may have ended before it came to that.
        answered.await.map_err(|_| Refusal::Unready)?.map_err(Refusal::Archive)
    }

    /// Has an edition that waits put in force.
    pub(crate) fn publish(&self, owner: &ComponentId, number: u64) -> Result<(), Refusal> {
        self.with(owner, number, |job| {
            let mut status = job.status.lock();
            match *status {
                State::Built(about) => {
                    *status = State::Publishing(about);
                    job.order(Order::Publish);
                    Ok(())
                }
                State::Publishing(_) | State::Published(_) => Ok(()),
                State::Building(..) | State::Ended(_) => Err(Refusal::Unready),
            }
        })
    }

    /// Gives up what is not in force yet.
    pub(crate) fn cancel(&self, owner: &ComponentId, number: u64) -> Result<(), Refusal> {
        self.with(owner, number, |job| match &*job.status.lock() {
            State::Published(_) => Err(Refusal::Unready),
            _ => {
                job.stop.store(true, Ordering::Release);
                job.order(Order::Cancel);
                Ok(())
            }
        })
    }

    fn with<T>(
        &self,
        owner: &ComponentId,
        number: u64,
        with: impl FnOnce(&Job) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let jobs = self.jobs.lock();
        let job = jobs.kept.iter().find(|job| job.number == number && job.owner == *owner);
        with(job.ok_or(Refusal::NoSuchJob)?)
    }
}

impl Drop for Archivist {
    /// The store is closed by whoever drops it last: not by a job that is still at it.
    fn drop(&mut self) {
        for Job { stop, orders, thread, .. } in self.jobs.get_mut().kept.drain(..) {
            stop.store(true, Ordering::Release);
            drop(orders);
            // One that panicked said so itself.
            let _ = thread.join();
        }
    }
}

impl Job {
    /// One whose thread is gone is over already.
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

/// A job, as its thread has it.
struct Own {
    owner: ComponentId,
    collection: String,
    status: Arc<Mutex<State>>,
    orders: Receiver<Order>,
    journal: Arc<dyn JournalSink>,
}

impl Own {
    fn run(self, work: ArchiveWork) {
        let told = |progress: ArchiveProgress| {
            *self.status.lock() = State::Building(progress.done, progress.of);
        };
        let ended = match work.build(&ArchiveBudget::default(), &told) {
            Ok(built) => self.wait(built),
            Err(error) => Err(error.to_string()),
        };
        match ended {
            Ok(about) => {
                *self.status.lock() = State::Published(about);
                let of = format!("{}/{}", self.owner, self.collection);
                let body = format!("{} vectors of {of} are in edition {}", about.rows, about.edition);
                self.record(Severity::Info, "memory.archived", body);
            }
            Err(why) => {
                self.record(Severity::Warn, "memory.archive-failed", why.clone());
                *self.status.lock() = State::Ended(why);
            }
        }
    }

    /// Waits for what is to become of an edition.
    fn wait(&self, built: BuiltEdition) -> Result<BuiltAbout, String> {
        let (about, until) = (built.about(), Instant::now() + WAIT_MAX);
        *self.status.lock() = State::Built(about);
        loop {
            match self.orders.recv_timeout(LOOK) {
                Ok(Order::Validate(reply)) => drop(reply.send(built.validate())),
                Ok(Order::Publish) => {
                    return built.publish().map(|_| about).map_err(|error| error.to_string());
                }
                Ok(Order::Cancel) => return Err(GIVEN_UP.into()),
                Err(RecvTimeoutError::Disconnected) => return Err("the host stopped".into()),
                Err(RecvTimeoutError::Timeout) if built.is_spoilt() => {
                    return Err(ArchiveError::Forgotten.to_string());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > until => {
                    return Err(format!("nobody put it in force for {} minutes", WAIT_MAX.as_secs() / 60));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn record(&self, severity: Severity, event: &'static str, body: String) {
        let attributes = Map::from_iter([
            ("owner".to_owned(), self.owner.to_string().into()),
            ("collection".to_owned(), self.collection.clone().into()),
        ]);
        let plugin = Some(self.owner.to_string());
        self.journal.record(JournalLine { severity, event, body, trace: None, plugin, attributes });
    }
}

impl State {
    fn is_end(&self) -> bool {
        matches!(self, State::Published(_) | State::Ended(_))
    }
}

const GIVEN_UP: &str = "it was given up";
const PANICKED: &str = "it came to grief; the host's journal may say how";
