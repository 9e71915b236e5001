//! The host's minds, and those of its workers: a worker is asked when one offers, and this process when none does.
//!
//! A prompt that a worker died of is never tried in this process: the next worker has it, and after three the caller
//! is told. What has begun to stream does not begin anew, since the guest has heard it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use telos_bridge::{Class, Job, JobEvent, RpcError, Workers};
use telos_kernel::seams::{GenerateRequest, LoadProgress, MindError, MindInfo, Minds, TokenSource, Usage};

use super::wire::{Answer, Asked, Piece, SERVICE};

/// A worker may go so long without a sign of progress: a long prompt is read in less, and a mind loaded.
const LEASE: Duration = Duration::from_secs(60);
/// An order that no worker has begun is looked at so often, in case none offers any more.
const LOOK: Duration = Duration::from_secs(1);

/// Minds in this process, and in workers.
pub(crate) struct SharedMinds {
    pub(crate) own: Arc<dyn Minds>,
    pub(crate) workers: Workers,
}

/// A generation in a worker.
struct Tokens {
    job: Job,
    first: Option<String>,
    usage: Option<Usage>,
}

/// What came of asking the workers.
enum Heard {
    Event(JobEvent),
    /// Nobody has begun it, and nobody offers any more.
    Nobody,
}

#[async_trait]
impl Minds for SharedMinds {
    fn list(&self) -> Vec<MindInfo> {
        self.own.list()
    }

    async fn generate(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        if self.workers.offer(SERVICE)
            && let Some(tokens) = self.generate_elsewhere(request.clone(), deadline, &progress).await?
        {
            return Ok(Box::new(tokens));
        }
        self.own.generate(request, deadline, progress).await
    }

    async fn embed(
        &self,
        mind: Option<String>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        if self.workers.offer(SERVICE)
            && let Some(vectors) = self.embed_elsewhere(mind.clone(), texts.clone(), deadline).await?
        {
            return Ok(vectors);
        }
        self.own.embed(mind, texts, deadline).await
    }
}

impl SharedMinds {
    fn order(&self, asked: &Asked, deadline: Instant) -> Result<Job, MindError> {
        let params = serde_json::to_value(asked).map_err(|error| MindError::Invalid(error.to_string()))?;
        Ok(self.workers.order(SERVICE, Class::Idempotent, deadline, Some(LEASE), &params))
    }

    /// None when no worker has it and none offers.
    async fn generate_elsewhere(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: &LoadProgress,
    ) -> Result<Option<Tokens>, MindError> {
        let mut job = self.order(&Asked::Generate(request.into()), deadline)?;
        let mut has_begun = false;
        loop {
            let event = match self.hear(&mut job, has_begun).await {
                Heard::Event(event) => event,
                Heard::Nobody => return Ok(None),
            };
            has_begun = true;
            let (first, usage) = match read(event)? {
                Some(Said::Piece(Piece::Loading { mind, fraction })) => {
                    progress(&mind, fraction);
                    continue;
                }
                Some(Said::Piece(Piece::Text(text))) => (Some(text), None),
                Some(Said::Usage(usage)) => (None, Some(usage)),
                Some(Said::Vectors(_)) => return Err(confused()),
                None => continue,
            };
            return Ok(Some(Tokens { job, first, usage }));
        }
    }

    async fn embed_elsewhere(
        &self,
        mind: Option<String>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Option<Vec<Vec<f32>>>, MindError> {
        let mut job = self.order(&Asked::Embed { mind, texts }, deadline)?;
        let mut has_begun = false;
        loop {
            let event = match self.hear(&mut job, has_begun).await {
                Heard::Event(event) => event,
                Heard::Nobody => return Ok(None),
            };
            has_begun = true;
            match read(event)? {
                Some(Said::Vectors(vectors)) => return Ok(Some(vectors)),
                Some(Said::Usage(_)) => return Err(confused()),
                Some(Said::Piece(_)) | None => {}
            }
        }
    }

    async fn hear(&self, job: &mut Job, has_begun: bool) -> Heard {
        loop {
            tokio::select! {
                event = job.next() => return Heard::Event(event.unwrap_or_else(|| JobEvent::Done(Err(gone())))),
                () = tokio::time::sleep(LOOK), if !has_begun => {
                    if !self.workers.offer(SERVICE) {
                        return Heard::Nobody;
                    }
                }
            }
        }
    }
}

#[async_trait]
impl TokenSource for Tokens {
    async fn next(&mut self) -> Result<Option<String>, MindError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        while self.usage.is_none() {
            let event = self.job.next().await.unwrap_or_else(|| JobEvent::Done(Err(gone())));
            if event == JobEvent::Reset {
                return Err(MindError::Failed("its worker was lost in the middle of the answer".into()));
            }
            match read(event)? {
                Some(Said::Piece(Piece::Text(text))) => return Ok(Some(text)),
                Some(Said::Usage(usage)) => self.usage = Some(usage),
                Some(Said::Vectors(_)) => return Err(confused()),
                Some(Said::Piece(Piece::Loading { .. })) | None => {}
            }
        }
        Ok(None)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

enum Said {
    Piece(Piece),
    Usage(Usage),
    Vectors(Vec<Vec<f32>>),
}

/// What an event says; none: nothing of interest.
fn read(event: JobEvent) -> Result<Option<Said>, MindError> {
    match event {
        JobEvent::Begun | JobEvent::Reset => Ok(None),
        JobEvent::Piece(value) => Ok(Some(Said::Piece(parse(value)?))),
        JobEvent::Done(Ok(value)) => match parse(value)? {
            Answer::Embedded(vectors) => Ok(Some(Said::Vectors(vectors))),
            Answer::Generated { prompt_tokens, generated_tokens, is_cut } => {
                Ok(Some(Said::Usage(Usage { prompt_tokens, generated_tokens, is_cut })))
            }
            Answer::Refused(refusal) => Err(refusal.into()),
        },
        JobEvent::Done(Err(error)) if error.data.kind == "timeout" => Err(MindError::Deadline),
        JobEvent::Done(Err(error)) => Err(MindError::Failed(error.message)),
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, MindError> {
    serde_json::from_value(value).map_err(|_| confused())
}

fn confused() -> MindError {
    MindError::Failed("a worker answered what it was not asked; run workers of the host's version".into())
}

fn gone() -> RpcError {
    RpcError::new("cut", telos_bridge::Effect::Unknown, "the host stopped")
}
