//! One resident mind: an OS thread, a bounded mailbox, one job at a time.
//!
//! The thread first waits for the minds it replaces to be gone, then loads, then serves until its mailbox closes. Jobs
//! whose asker went away or whose deadline passed are skipped; a running job ends at the next token then. When
//! loading fails, every job in the mailbox gets the reason, and the thread ends.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc as async_mpsc, oneshot, watch};

use crate::engine::{Ending, Engine, Loaded, OnLoading};
use crate::stream::Stream;
use crate::{Finish, GenerateRequest, Mind, MindError, Usage};

/// Address space, not memory: what is never touched is never allocated. C++ parses prompts and grammars recursively.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// How far a mind is on its way into memory.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadProgress {
    /// The mind's catalogue name.
    pub mind: String,
    /// What is being done.
    pub phase: LoadPhase,
    /// How much of the phase is done, 0.0 to 1.0.
    pub fraction: f32,
}

/// A step of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPhase {
    /// Another mind leaves memory first.
    Waiting,
    /// The file is checked against its digest.
    Verifying,
    /// The file is read.
    Loading,
    /// The mind answers.
    Ready,
}

/// News of loading are told in steps of this size, however often the engine has some.
const FRACTION_STEP: f32 = 0.05;

/// Counts what a mind's thread gets done: a piece of loading, a batch of a prompt, a token, an embedded text. Whoever
/// waits for the mind sees by it that the thread gets on, and by its standing still that it does not.
#[derive(Clone, Default)]
pub(crate) struct Steps(Arc<AtomicU64>);

impl Steps {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Work for a mind.
pub(crate) enum Job {
    Generate { request: GenerateRequest, deadline: Instant, events: async_mpsc::Sender<Event> },
    Embed { texts: Vec<String>, deadline: Instant, reply: oneshot::Sender<Result<Vec<Vec<f32>>, MindError>> },
}

/// What happens to a generation, in order: `Accepted`, pieces, `Ended`; or `Failed` at any point.
pub(crate) enum Event {
    Accepted,
    Piece(String),
    Ended(Usage),
    Failed(MindError),
}

impl Job {
    /// Events that one generation sends at most, so that a channel of this size never makes the mind wait.
    pub(crate) fn events_max(request: &GenerateRequest) -> usize {
        request.max_tokens as usize + 4
    }

    fn fail(self, error: MindError) {
        match self {
            Self::Generate { events, .. } => drop(events.try_send(Event::Failed(error))),
            Self::Embed { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// A mind's thread, seen from outside. Dropping it lets the thread finish what is in the mailbox and end.
pub(crate) struct Worker {
    mailbox: mpsc::SyncSender<Job>,
    progress: watch::Receiver<LoadProgress>,
    thread: JoinHandle<()>,
}

/// What a worker needs to begin.
pub(crate) struct Start {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) mind: Mind,
    pub(crate) models_dir: PathBuf,
    pub(crate) mailbox_entries_max: usize,
    /// Minds that have to be gone before this one is loaded.
    pub(crate) after: Vec<Leaving>,
    /// Ends every job at its next token.
    pub(crate) is_closing: Arc<AtomicBool>,
    /// Of this mind.
    pub(crate) steps: Steps,
}

/// A mind on its way out of memory.
pub(crate) struct Leaving(JoinHandle<()>);

/// Why a job was not taken.
pub(crate) enum Refused {
    /// Too many wait.
    Full,
    /// The thread ended; the job comes back.
    Gone(Box<Job>),
}

impl Worker {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(start: Start) -> Result<Self, MindError> {
        let (mailbox, jobs) = mpsc::sync_channel(start.mailbox_entries_max);
        let name = start.mind.name.clone();
        let (sender, progress) =
            watch::channel(LoadProgress { mind: name.clone(), phase: LoadPhase::Waiting, fraction: 0.0 });
        let thread = std::thread::Builder::new()
            .name(format!("mind {name}"))
            .stack_size(STACK_BYTES)
            .spawn(move || run(start, &jobs, sender))
            .map_err(|error| MindError::load(&name, error))?;
        Ok(Self { mailbox, progress, thread })
    }

    pub(crate) fn submit(&self, job: Job) -> Result<(), Refused> {
        self.mailbox.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => Refused::Full,
            mpsc::TrySendError::Disconnected(job) => Refused::Gone(Box::new(job)),
        })
    }

    /// Changes until the mind is ready; closed when the thread ended.
    pub(crate) fn progress(&self) -> watch::Receiver<LoadProgress> {
        self.progress.clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.progress.borrow().phase == LoadPhase::Ready && !self.thread.is_finished()
    }

    /// Whether it waits for minds to be gone before it is loaded.
    pub(crate) fn is_waiting(&self) -> bool {
        self.progress.borrow().phase == LoadPhase::Waiting
    }

    pub(crate) fn into_leaving(self) -> Leaving {
        Leaving(self.thread)
    }
}

impl Leaving {
    /// Blocks until the mind is out of memory.
    pub(crate) fn wait(self) {
        // A panic of that thread was printed by it and seen by its askers.
        drop(self.0.join());
    }
}

fn run(start: Start, jobs: &mpsc::Receiver<Job>, progress: watch::Sender<LoadProgress>) {
    let Start { engine, mind, models_dir, after, is_closing, steps, .. } = start;
    after.into_iter().for_each(Leaving::wait);
    let began = Instant::now();
    let loading = steps.clone();
    let tell: OnLoading = Arc::new(move |phase, fraction| {
        loading.take();
        progress.send_if_modified(|told| {
            let is_news = told.phase != phase || fraction >= told.fraction + FRACTION_STEP;
            if is_news {
                (told.phase, told.fraction) = (phase, fraction);
            }
            is_news
        });
    });
    let outcome = engine.with_loaded(&mind, &models_dir, &tell, &mut |loaded| {
        tracing::info!(mind = %mind.name, took_ms = began.elapsed().as_millis(), "mind loaded");
        tell(LoadPhase::Ready, 1.0);
        jobs.iter().for_each(|job| serve(job, loaded, &is_closing, &steps));
    });
    match outcome {
        Ok(()) => tracing::info!(mind = %mind.name, "mind freed"),
        Err(error) => fail_all(jobs, &error),
    }
}

/// Answers what is waiting; what comes later finds the mailbox closed.
fn fail_all(jobs: &mpsc::Receiver<Job>, error: &MindError) {
    tracing::warn!(%error, "mind not loaded");
    jobs.try_iter().for_each(|job| job.fail(error.clone()));
}

fn serve(job: Job, loaded: &mut dyn Loaded, is_closing: &AtomicBool, steps: &Steps) {
    steps.take();
    match job {
        Job::Generate { request, deadline, events } => {
            let event = match generate(&request, deadline, &events, loaded, is_closing, steps) {
                Ok(usage) => Event::Ended(usage),
                Err(error) => Event::Failed(error),
            };
            drop(events.try_send(event));
        }
        Job::Embed { texts, deadline, reply } => {
            let vectors = embed(&texts, deadline, &reply, loaded, is_closing, steps);
            drop(reply.send(vectors));
        }
    }
}

fn generate(
    request: &GenerateRequest,
    deadline: Instant,
    events: &async_mpsc::Sender<Event>,
    loaded: &mut dyn Loaded,
    is_closing: &AtomicBool,
    steps: &Steps,
) -> Result<Usage, MindError> {
    let is_unwanted =
        || events.is_closed() || is_closing.load(Ordering::Relaxed) || Instant::now() >= deadline;
    if is_unwanted() {
        return Err(MindError::Deadline);
    }
    let mut stream = Stream::new(request.stop.clone());
    let mut is_accepted = false;
    let spent = loaded.generate(request, &mut |token| {
        steps.take();
        if !std::mem::replace(&mut is_accepted, true) {
            drop(events.try_send(Event::Accepted));
        }
        if let Some(piece) = stream.push(token) {
            drop(events.try_send(Event::Piece(piece)));
        }
        if stream.is_stopped() || is_unwanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(piece) = stream.finish() {
        drop(events.try_send(Event::Piece(piece)));
    }
    let finish = match spent.ending {
        Ending::Broken if !stream.is_stopped() => return Err(MindError::Deadline),
        Ending::Length if !stream.is_stopped() => Finish::Length,
        _ => Finish::Stop,
    };
    Ok(Usage { prompt_tokens: spent.prompt_tokens, generated_tokens: spent.generated_tokens, finish })
}

fn embed(
    texts: &[String],
    deadline: Instant,
    reply: &oneshot::Sender<Result<Vec<Vec<f32>>, MindError>>,
    loaded: &mut dyn Loaded,
    is_closing: &AtomicBool,
    steps: &Steps,
) -> Result<Vec<Vec<f32>>, MindError> {
    let mut vectors = Vec::with_capacity(texts.len());
    for text in texts {
        if reply.is_closed() || is_closing.load(Ordering::Relaxed) || Instant::now() >= deadline {
            return Err(MindError::Deadline);
        }
        vectors.push(loaded.embed(text)?);
        steps.take();
    }
    Ok(vectors)
}
