//! Editions of the archive that components have made: one at a time, each by a thread of its own.
//!
//! ```text
//! building ──▶ built ──▶ publishing ──▶ published
//!     └──────────┴───────────┴─────▶ ended: given up, forgotten, waited too long, failed
//! ```
//! Jobs live as long as the host, and no longer than their component may archive. What is not in force by then is
//! deleted.
//! Never here: how an edition is built and put in force, who may ask for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Map;
use telos_store::{
    ArchiveBudget, ArchiveError, ArchiveProgress, ArchiveWork, BuiltAbout, BuiltEdition, ComponentId, Fault,
    Store,
};
use tokio::sync::oneshot;

use crate::seams::{JournalLine, JournalSink, Severity};
use crate::swap::now_ms;

/// How long an edition waits to be put in force.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Between two looks at whether one that waits still may.
const LOOK: Duration = Duration::from_millis(500);
/// Jobs of one component that are remembered.
const JOBS_PER_OWNER_MAX: usize = 16;
/// Jobs of all that are remembered.
const JOBS_MAX: usize = 1_024;

/// Where a job is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// So many steps of so many.
    Building(u64, u64),
    Built(BuiltAbout),
    Publishing(BuiltAbout),
    Published(BuiltAbout),
    /// Why, in words that are the guest's business.
    Ended(String),
}

/// Why something was not done about a job.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoSuchJob,
    /// It is elsewhere.
    Unready,
    /// It does what was asked for already, for somebody else.
    Busy,
    Archive(ArchiveError),
}

/// Whether a component may archive now: it serves, and has the grant.
pub(crate) type MayArchive = Arc<dyn Fn(&ComponentId) -> bool + Send + Sync>;

/// See the module.
pub(crate) struct Archivist {
    store: Store,
    journal: Arc<dyn JournalSink>,
    may: MayArchive,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    last: u64,
    /// Oldest first. Only the newest can be under way.
    kept: VecDeque<Job>,
}

/// A job, as those see it who ask about it.
struct Job {
    number: u64,
    owner: ComponentId,
    collection: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

/// What a job's thread is woken for while its edition waits.
enum Order {
    Validate(oneshot::Sender<Result<BuiltAbout, ArchiveError>>),
    /// Its state, or that it is to stop, says what.
    Look,
}

impl Archivist {
    pub(crate) fn new(store: Store, journal: Arc<dyn JournalSink>, may: MayArchive) -> Self {
        Self { store, journal, may, jobs: Mutex::default() }
    }

    /// Begins a job, or answers the one that this component has under way for this collection; its number. Reads the
    /// collections that there are.
    pub(crate) fn begin(&self, owner: &ComponentId, collection: &str) -> Result<u64, Refusal> {
        let mut jobs = self.jobs.lock();
        let is_same = |job: &&Job| job.owner == *owner && job.collection == collection && job.waits();
        if let Some(job) = jobs.kept.back().filter(is_same) {
            return Ok(job.number);
        }
        let work = self.store.begin_archive(owner, collection).map_err(Refusal::Archive)?;
        let job = self.start(jobs.next_number(), (owner, collection), work)?;
        Ok(jobs.keep(job))
    }

    pub(crate) fn state(&self, owner: &ComponentId, number: u64) -> Result<State, Refusal> {
        self.with(owner, number, |job| Ok(job.state()))
    }

    /// Reads every byte of an edition that waits.
    pub(crate) async fn validate(&self, owner: &ComponentId, number: u64) -> Result<BuiltAbout, Refusal> {
        let (reply, answered) = oneshot::channel();
        self.with(owner, number, |job| match job.state() {
            State::Built(_) => job.orders.try_send(Order::Validate(reply)).map_err(|_| Refusal::Busy),
            _ => Err(Refusal::Unready),
        })?;
        // It may have ended before it came to that.
        answered.await.map_err(|_| Refusal::Unready)?.map_err(Refusal::Archive)
    }

    /// Has an edition that waits put in force.
    pub(crate) fn publish(&self, owner: &ComponentId, number: u64) -> Result<(), Refusal> {
        self.with(owner, number, |job| {
            let mut state = job.state.lock();
            match *state {
                State::Built(about) => {
                    *state = State::Publishing(about);
                    job.wake();
                    Ok(())
                }
                State::Publishing(_) | State::Published(_) => Ok(()),
                State::Building(..) | State::Ended(_) => Err(Refusal::Unready),
            }
        })
    }

    /// Gives up what is neither in force nor about to be.
    pub(crate) fn cancel(&self, owner: &ComponentId, number: u64) -> Result<(), Refusal> {
        self.with(owner, number, |job| match &*job.state.lock() {
            State::Publishing(_) | State::Published(_) => Err(Refusal::Unready),
            State::Building(..) | State::Built(_) | State::Ended(_) => {
                job.end();
                Ok(())
            }
        })
    }

    fn start(
        &self,
        number: u64,
        (owner, collection): (&ComponentId, &str),
        work: ArchiveWork,
    ) -> Result<Job, Refusal> {
        let (stop, state) = (work.stop(), Arc::new(Mutex::new(State::Building(0, 0))));
        let (orders, received) = sync_channel(1);
        let (owner, collection) = (owner.clone(), collection.to_owned());
        let own = Own {
            owner: owner.clone(),
            collection: collection.clone(),
            state: Arc::clone(&state),
            stop: Arc::clone(&stop),
            orders: received,
            journal: Arc::clone(&self.journal),
            may: Arc::clone(&self.may),
        };
        let spawned = std::thread::Builder::new().name("telos-archive".into()).spawn(|| own.run(work));
        let thread = spawned.map_err(|cause| Refusal::Archive(telos_store::Failure::from(cause).into()))?;
        Ok(Job { number, owner, collection, state, stop, orders, thread })
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
        let jobs = std::mem::take(&mut self.jobs.get_mut().kept);
        jobs.iter().for_each(Job::end);
        for Job { orders, thread, .. } in jobs {
            drop(orders);
            // One that panicked said so itself.
            let _ = thread.join();
        }
    }
}

impl Jobs {
    /// Never that of another host's life: a component may keep it longer than this one lives.
    fn next_number(&mut self) -> u64 {
        self.last = now_ms().max(self.last + 1);
        self.last
    }

    fn keep(&mut self, job: Job) -> u64 {
        let (number, owner) = (job.number, job.owner.clone());
        self.kept.push_back(job);
        let mut of_owner = self.kept.iter().enumerate().filter(|(_, job)| job.owner == owner);
        let oldest = of_owner.next().map(|(place, _)| place);
        if 1 + of_owner.count() > JOBS_PER_OWNER_MAX {
            oldest.and_then(|place| self.kept.remove(place));
        }
        if self.kept.len() > JOBS_MAX {
            self.kept.pop_front();
        }
        number
    }
}

impl Job {
    fn state(&self) -> State {
        // Asked first: a job says how it ended before it is over.
        let is_over = self.thread.is_finished();
        let state = self.state.lock().clone();
        if is_over && !state.is_end() { State::Ended(PANICKED.into()) } else { state }
    }

    /// Nothing was decided about it.
    fn waits(&self) -> bool {
        matches!(self.state(), State::Building(..) | State::Built(_))
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Where an order waits it wakes too.
        let _ = self.orders.try_send(Order::Look);
    }
}

/// A job, as its thread has it.
struct Own {
    owner: ComponentId,
    collection: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    orders: Receiver<Order>,
    journal: Arc<dyn JournalSink>,
    may: MayArchive,
}

impl Own {
    fn run(self, work: ArchiveWork) {
        let told = |progress: ArchiveProgress| {
            *self.state.lock() = State::Building(progress.done, progress.of);
            if !(self.may)(&self.owner) {
                self.stop.store(true, Ordering::Release);
            }
        };
        let ended = match work.build(&ArchiveBudget::default(), &told) {
            Ok(built) => self.wait(built),
            Err(error) => Err(self.why(&error)),
        };
        match ended {
            Ok(about) => {
                let body =
                    format!("{} vectors of {} are in edition {}", about.rows, self.of(), about.edition);
                self.record(Severity::Info, "memory.archived", body, None);
                *self.state.lock() = State::Published(about);
            }
            Err(why) => {
                let body = format!("{} was not archived: {why}", self.of());
                self.record(Severity::Info, "memory.archive-ended", body, None);
                *self.state.lock() = State::Ended(why);
            }
        }
    }

    /// Waits for what is to become of an edition.
    fn wait(&self, built: BuiltEdition) -> Result<BuiltAbout, String> {
        let (about, until) = (built.about(), Instant::now() + WAIT_MAX);
        *self.state.lock() = State::Built(about);
        loop {
            if let State::Publishing(_) = *self.state.lock() {
                break;
            }
            if let Some(why) = self.is_over(&built, until) {
                return Err(why);
            }
            match self.orders.recv_timeout(LOOK) {
                // Whoever asked may have gone.
                Ok(Order::Validate(reply)) if !reply.is_closed() => drop(reply.send(built.validate())),
                Err(RecvTimeoutError::Disconnected) => return Err("the host stopped".into()),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        built.publish().map(|_| about).map_err(|error| self.why(&error))
    }

    /// Why it waits no longer.
    fn is_over(&self, built: &BuiltEdition, until: Instant) -> Option<String> {
        // First, since forgetting tells it to stop too.
        if built.is_spoilt() {
            return Some(ArchiveError::Forgotten.to_string());
        }
        if self.stop.load(Ordering::Acquire) {
            return Some("it was given up".into());
        }
        if !(self.may)(&self.owner) {
            return Some("its component may not archive any more".into());
        }
        let is_late = Instant::now() > until;
        is_late.then(|| format!("nobody put it in force for {} minutes", WAIT_MAX.as_secs() / 60))
    }

    /// What a guest may know of an error; the rest is in the journal.
    fn why(&self, error: &ArchiveError) -> String {
        if error.fault() == Fault::Operator {
            return error.to_string();
        }
        let incident = self.journal.next_incident();
        let body = format!("{} was not archived: {error}", self.of());
        self.record(Severity::Error, "memory.archive-failed", body, Some(incident));
        format!("the host failed; its journal says why under incident {incident}")
    }

    fn of(&self) -> String {
        format!("{}/{}", self.owner, self.collection)
    }

    fn record(&self, severity: Severity, event: &'static str, body: String, incident: Option<u64>) {
        let mut attributes = Map::from_iter([
            ("owner".to_owned(), self.owner.to_string().into()),
            ("collection".to_owned(), self.collection.clone().into()),
        ]);
        attributes.extend(incident.map(|incident| ("incident".to_owned(), incident.into())));
        let plugin = Some(self.owner.to_string());
        self.journal.record(JournalLine { severity, event, body, trace: None, plugin, attributes });
    }
}

impl State {
    fn is_end(&self) -> bool {
        matches!(self, State::Published(_) | State::Ended(_))
    }
}

const PANICKED: &str = "it came to grief; the host's journal may say how";

#[cfg(test)]
mod tests {
    use telos_store::{Json, StoreOptions, Vote};

    use super::*;

    struct Silent;

    impl JournalSink for Silent {
        fn record(&self, _: JournalLine) {}

        fn next_incident(&self) -> u64 {
            1
        }
    }

    fn component(name: &str) -> ComponentId {
        ComponentId::new(name).unwrap()
    }

    /// Two components with a collection of the same name each.
    fn archivist(dir: &std::path::Path) -> Archivist {
        let store = Store::open(dir, StoreOptions::default()).unwrap();
        let mut unit = store.begin();
        for owner in ["one", "other"].map(component) {
            let id = unit.create(owner.clone(), 1, Vec::new()).unwrap();
            unit.upsert_vector(&owner, "notes", id, vec![1.0, 0.0], Json::parse("{}").unwrap()).unwrap();
        }
        store.decide(unit, Vote::default()).wait().unwrap();
        Archivist::new(store, Arc::new(Silent), Arc::new(|_| true))
    }

    fn await_built(archivist: &Archivist, owner: &ComponentId, job: u64) -> BuiltAbout {
        loop {
            match archivist.state(owner, job).unwrap() {
                State::Built(about) => return about,
                State::Building(..) => std::thread::sleep(Duration::from_millis(1)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_job_is_its_components_alone() {
        let dir = tempfile::tempdir().unwrap();
        let archivist = archivist(dir.path());
        let (one, other) = (component("one"), component("other"));
        let job = archivist.begin(&one, "notes").unwrap();
        await_built(&archivist, &one, job);
        assert!(matches!(archivist.state(&other, job), Err(Refusal::NoSuchJob)));
        assert!(matches!(archivist.publish(&other, job), Err(Refusal::NoSuchJob)));
        assert!(matches!(archivist.cancel(&other, job), Err(Refusal::NoSuchJob)));
        let busy = archivist.begin(&other, "notes");
        assert!(matches!(busy, Err(Refusal::Archive(ArchiveError::Busy(..)))), "{busy:?}");
        archivist.publish(&one, job).unwrap();
        assert!(matches!(archivist.cancel(&one, job), Err(Refusal::Unready)), "it was to be put in force");
        while !archivist.state(&one, job).unwrap().is_end() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(archivist.state(&one, job), Ok(State::Published(_))));
    }

    #[test]
    fn each_component_has_as_many_jobs_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let archivist = archivist(dir.path());
        let (one, other) = (component("one"), component("other"));
        let kept = archivist.begin(&one, "notes").unwrap();
        end(&archivist, &one, kept);
        let first = archivist.begin(&other, "notes").unwrap();
        end(&archivist, &other, first);
        for _ in 0..JOBS_PER_OWNER_MAX {
            let job = archivist.begin(&other, "notes").unwrap();
            end(&archivist, &other, job);
        }
        assert!(matches!(archivist.state(&other, first), Err(Refusal::NoSuchJob)));
        assert!(matches!(archivist.state(&one, kept), Ok(State::Ended(_))));
    }

    fn end(archivist: &Archivist, owner: &ComponentId, job: u64) {
        archivist.cancel(owner, job).unwrap();
        while !archivist.jobs.lock().kept.back().is_some_and(|job| job.thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn an_edition_that_is_validated_again_and_again_waits_no_longer_than_others() {
        let dir = tempfile::tempdir().unwrap();
        let archivist = Arc::new(archivist(dir.path()));
        let one = component("one");
        let job = archivist.begin(&one, "notes").unwrap();
        let about = await_built(&archivist, &one, job);
        assert_eq!(archivist.validate(&one, job).await.unwrap(), about);
        let asking = tokio::spawn({
            let (archivist, one) = (Arc::clone(&archivist), one.clone());
            async move { while archivist.validate(&one, job).await.is_ok() {} }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        archivist.cancel(&one, job).unwrap();
        asking.await.unwrap();
        while !archivist.state(&one, job).unwrap().is_end() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
