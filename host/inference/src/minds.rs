//! The facade: minds that load when they are first asked, answer within a deadline, and leave when memory is needed.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::Engine;
use crate::request;
use crate::residency::{Admission, Residency};
use crate::worker::{Event, Job, LoadPhase, LoadProgress, Refused, Start, Steps, Worker};
use crate::{Catalogue, GenerateRequest, Kind, Mind, MindError, Usage, fetch};

/// Limits of all minds together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MindsConfig {
    /// Bytes that resident minds may use together, by the catalogue's account. Default 2 GiB: room for a small text
    /// mind and an embedding mind beside everything else on a laptop with 8 GiB.
    pub memory_bytes_max: u64,
    /// Requests that wait for one mind; the next one is refused as busy. Default 32: at a second each, what a person
    /// still waits for.
    pub mailbox_entries_max: NonZeroUsize,
}

/// A mind as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MindInfo {
    /// Catalogue name.
    pub name: String,
    /// `text` or `embedding`.
    pub kind: &'static str,
    /// Tokens of context.
    pub context: u32,
    /// Length of its embeddings; 0 for text minds.
    pub dimension: u32,
    /// Whether requests that name no mind get this one.
    pub is_default: bool,
    /// Whether its file is there.
    pub is_fetched: bool,
    /// Whether its file was found to be another one; known only once it was to be loaded.
    pub is_damaged: bool,
    /// Whether it is in memory and answers at once.
    pub is_resident: bool,
}

/// All minds of one host. Dropping it ends what runs at the next token and waits for the threads.
pub struct Minds {
    models_dir: PathBuf,
    catalogue: Catalogue,
    engine: Arc<dyn Engine>,
    config: MindsConfig,
    memory: Mutex<Memory>,
    /// By the mind's name; every mind of the catalogue has some.
    steps: HashMap<String, Steps>,
    is_closing: Arc<AtomicBool>,
}

struct Memory {
    residency: Residency,
    workers: HashMap<String, Worker>,
}

/// A generation under way. Dropping it cancels at the next token.
pub struct Generation {
    mind: String,
    events: mpsc::Receiver<Event>,
    deadline: Instant,
    usage: Option<Usage>,
}

impl Default for MindsConfig {
    fn default() -> Self {
        const MAILBOX_ENTRIES: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
        Self { memory_bytes_max: 2 << 30, mailbox_entries_max: MAILBOX_ENTRIES }
    }
}

impl Minds {
    /// Minds of this catalogue whose files are in `models_dir`. Cheap: nothing is read or loaded.
    #[must_use]
    pub fn open(
        models_dir: &Path,
        catalogue: Catalogue,
        engine: Arc<dyn Engine>,
        config: MindsConfig,
    ) -> Self {
        let memory = Memory { residency: Residency::new(config.memory_bytes_max), workers: HashMap::new() };
        let steps = catalogue.minds().iter().map(|mind| (mind.name.clone(), Steps::default())).collect();
        Self {
            models_dir: models_dir.to_owned(),
            catalogue,
            engine,
            config,
            memory: Mutex::new(memory),
            steps,
            is_closing: Arc::default(),
        }
    }

    /// Every mind of the catalogue, in its order.
    #[must_use]
    pub fn list(&self) -> Vec<MindInfo> {
        self.catalogue.minds().iter().map(|mind| self.info(mind)).collect()
    }

    /// Why none of them answers; none where they do.
    #[must_use]
    pub fn absence(&self) -> Option<&'static str> {
        self.engine.absence()
    }

    /// Starts a generation; answers when the mind accepted it. Loads the mind first when it is not resident, and
    /// reports that to `progress`. A mind serves one request at a time, so this also waits for the ones before.
    ///
    /// # Errors
    /// Any [`MindError`]; [`MindError::Deadline`] covers waiting, loading and generating together.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request.
    pub async fn generate(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: impl Fn(LoadProgress) + Send,
    ) -> Result<Generation, MindError> {
        request.check()?;
        let mind = self.catalogue.resolve(request.mind.as_deref(), Kind::Text)?;
        let (sender, events) = mpsc::channel(Job::events_max(&request));
        let loading = self.submit(mind, Job::Generate { request, deadline, events: sender })?;
        let mut generation = Generation { mind: mind.name.clone(), events, deadline, usage: None };
        report(loading, deadline, progress).await?;
        generation.accepted().await?;
        Ok(generation)
    }

    /// One vector per text, in order, each of the mind's dimension and length 1.0; text beyond the mind's context is
    /// cut off. At most [`request::TEXTS_MAX`] texts of [`request::TEXT_BYTES_MAX`].
    ///
    /// # Errors
    /// Any [`MindError`] but `ContextExceeded`.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request.
    pub async fn embed(
        &self,
        mind: Option<&str>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        request::check_texts(&texts)?;
        let mind = self.catalogue.resolve(mind, Kind::Embedding)?;
        let (reply, vectors) = oneshot::channel();
        self.submit(mind, Job::Embed { texts, deadline, reply })?;
        within(deadline, vectors).await?.unwrap_or_else(|_| Err(ended(&mind.name)))
    }

    /// Changes whenever the mind gets on, whoever's request that is for: with a piece of loading, a batch of a prompt, a
    /// token, an embedded text. It stands still while the mind has nothing to do, or hangs. A mind that waits for others
    /// to leave memory gets on as they do.
    #[must_use]
    pub fn steps(&self, mind: Option<&str>, kind: Kind) -> u64 {
        let Ok(mind) = self.catalogue.resolve(mind, kind) else { return 0 };
        let waits = self.memory.lock().workers.get(&mind.name).is_some_and(Worker::is_waiting);
        let counted = self.steps.iter().filter(|(name, _)| waits || **name == mind.name);
        counted.map(|(_, steps)| steps.count()).fold(0, u64::wrapping_add)
    }

    fn info(&self, mind: &Mind) -> MindInfo {
        MindInfo {
            name: mind.name.clone(),
            kind: mind.kind.as_str(),
            context: mind.context,
            dimension: mind.dimension,
            is_default: mind.is_default,
            is_fetched: self.engine.is_fetched(mind, &self.models_dir),
            is_damaged: fetch::is_damaged(mind, &self.models_dir),
            is_resident: self.memory.lock().is_ready(&mind.name),
        }
    }

    /// Hands the job to the mind's thread, starting it when it is not there; answers the state of loading.
    fn submit(&self, mind: &Mind, job: Job) -> Result<watch::Receiver<LoadProgress>, MindError> {
        if !self.engine.is_fetched(mind, &self.models_dir) {
            return Err(MindError::NotFetched { name: mind.name.clone() });
        }
        let mut memory = self.memory.lock();
        match self.worker(&mut memory, mind)?.submit(job) {
            Ok(()) => Ok(memory.workers[&mind.name].progress()),
            Err(Refused::Full) => {
                let entries = self.config.mailbox_entries_max.get();
                Err(MindError::Busy { name: mind.name.clone(), entries })
            }
            // Its load failed or it panicked since: once more from the start.
            Err(Refused::Gone(job)) => {
                memory.remove(&mind.name);
                let worker = self.worker(&mut memory, mind)?;
                worker.submit(*job).map_err(|_| ended(&mind.name))?;
                Ok(worker.progress())
            }
        }
    }

    fn worker<'a>(&self, memory: &'a mut Memory, mind: &Mind) -> Result<&'a Worker, MindError> {
        if let Admission::Load { evict } = memory.residency.admit(mind)? {
            let worker = self.start(memory, mind, &evict);
            let worker = worker.inspect_err(|_| memory.residency.forget(&mind.name))?;
            memory.workers.insert(mind.name.clone(), worker);
        }
        Ok(&memory.workers[&mind.name])
    }

    fn start(&self, memory: &mut Memory, mind: &Mind, evict: &[String]) -> Result<Worker, MindError> {
        let leaving = evict.iter().filter_map(|name| memory.workers.remove(name));
        Worker::start(Start {
            engine: Arc::clone(&self.engine),
            mind: mind.clone(),
            models_dir: self.models_dir.clone(),
            mailbox_entries_max: self.config.mailbox_entries_max.get(),
            after: leaving.map(Worker::into_leaving).collect(),
            is_closing: Arc::clone(&self.is_closing),
            steps: self.steps.get(&mind.name).cloned().unwrap_or_default(),
        })
    }
}

impl Drop for Minds {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        let leaving: Vec<_> =
            self.memory.get_mut().workers.drain().map(|(_, worker)| worker.into_leaving()).collect();
        leaving.into_iter().for_each(crate::worker::Leaving::wait);
    }
}

impl Memory {
    fn is_ready(&self, name: &str) -> bool {
        self.workers.get(name).is_some_and(Worker::is_ready)
    }

    fn remove(&mut self, name: &str) {
        self.residency.forget(name);
        self.workers.remove(name);
    }
}

impl Generation {
    /// The next piece of text, waiting for it; none at the end, and ever after. Whole UTF-8, never empty, never a part
    /// of a stop text.
    ///
    /// # Errors
    /// [`MindError::Deadline`], [`MindError::Engine`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<String>, MindError> {
        if self.usage.is_some() {
            return Ok(None);
        }
        match self.event().await? {
            Event::Piece(piece) => Ok(Some(piece)),
            Event::Ended(usage) => {
                self.usage = Some(usage);
                Ok(None)
            }
            Event::Failed(error) => Err(error),
            Event::Accepted => Err(ended(&self.mind)),
        }
    }

    /// What it cost; none before the end.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The catalogue name of the mind that answers.
    #[must_use]
    pub fn mind(&self) -> &str {
        &self.mind
    }

    async fn accepted(&mut self) -> Result<(), MindError> {
        match self.event().await? {
            Event::Accepted => Ok(()),
            Event::Failed(error) => Err(error),
            Event::Piece(_) | Event::Ended(_) => Err(ended(&self.mind)),
        }
    }

    async fn event(&mut self) -> Result<Event, MindError> {
        within(self.deadline, self.events.recv()).await?.ok_or_else(|| ended(&self.mind))
    }
}

/// Tells the state of loading until the mind is ready; returns early when its thread ended, whose reason the job has.
async fn report(
    mut loading: watch::Receiver<LoadProgress>,
    deadline: Instant,
    progress: impl Fn(LoadProgress) + Send,
) -> Result<(), MindError> {
    if loading.borrow_and_update().phase == LoadPhase::Ready {
        return Ok(());
    }
    loading.mark_changed();
    while within(deadline, loading.changed()).await?.is_ok() {
        let state = loading.borrow_and_update().clone();
        let is_ready = state.phase == LoadPhase::Ready;
        progress(state);
        if is_ready {
            break;
        }
    }
    Ok(())
}

async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, MindError> {
    tokio::time::timeout_at(deadline.into(), future).await.map_err(|_| MindError::Deadline)
}

fn ended(mind: &str) -> MindError {
    MindError::engine(mind, "its thread ended; ask again")
}

#[cfg(test)]
mod tests;
