//! The host's minds, and those of its workers: a worker is asked when one offers, and this process when none does and
//! the host has no workers of its own.
//!
//! A prompt that a worker had when it died is never tried in this process: the next worker has it, and after three, or
//! when there is no other, the caller is told. What has begun to stream does not begin anew, since the guest has heard
//! it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use telos_bridge::JobEvent;
use telos_kernel::seams::{GenerateRequest, LoadProgress, MindError, MindInfo, Minds, TokenSource, Usage};

use super::wire::{Answer, Asked, Piece, SERVICE};
use crate::elsewhere::{Elsewhere, Errand, Heard};

/// A worker may go so long without a sign of progress: a long prompt is read in less, and a mind loaded.
const LEASE: Duration = Duration::from_secs(60);

/// Minds in this process, and in workers.
pub(crate) struct SharedMinds {
    pub(crate) own: Arc<dyn Minds>,
    pub(crate) elsewhere: Elsewhere,
}

/// A generation in a worker.
struct Tokens {
    errand: Errand,
    first: Option<String>,
    usage: Option<Usage>,
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
        if self.elsewhere.takes(SERVICE)
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
        if self.elsewhere.takes(SERVICE)
            && let Some(vectors) = self.embed_elsewhere(mind.clone(), texts.clone(), deadline).await?
        {
            return Ok(vectors);
        }
        self.own.embed(mind, texts, deadline).await
    }
}

impl SharedMinds {
    fn order(&self, asked: &Asked, deadline: Instant) -> Result<Errand, MindError> {
        let params = serde_json::to_value(asked).map_err(|error| MindError::Invalid(error.to_string()))?;
        Ok(self.elsewhere.order(SERVICE, deadline, Some(LEASE), &params))
    }

    /// None when no worker has had it and none offers any more.
    async fn generate_elsewhere(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: &LoadProgress,
    ) -> Result<Option<Tokens>, MindError> {
        let mut errand = self.order(&Asked::Generate(request.into()), deadline)?;
        loop {
            let Some(event) = next(&mut errand).await? else { return Ok(None) };
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
            return Ok(Some(Tokens { errand, first, usage }));
        }
    }

    async fn embed_elsewhere(
        &self,
        mind: Option<String>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Option<Vec<Vec<f32>>>, MindError> {
        let mut errand = self.order(&Asked::Embed { mind, texts }, deadline)?;
        loop {
            let Some(event) = next(&mut errand).await? else { return Ok(None) };
            match read(event)? {
                Some(Said::Vectors(vectors)) => return Ok(Some(vectors)),
                Some(Said::Usage(_)) => return Err(confused()),
                Some(Said::Piece(_)) | None => {}
            }
        }
    }
}

/// None when nobody has had it and nobody will: then this process may do it.
async fn next(errand: &mut Errand) -> Result<Option<JobEvent>, MindError> {
    match errand.hear().await {
        Heard::Event(event) => Ok(Some(event)),
        Heard::Nobody(absence) => match absence.refusal() {
            Some(refusal) => Err(MindError::Failed(refusal.into())),
            None if errand.begun() == 0 => Ok(None),
            None => Err(lost()),
        },
    }
}

#[async_trait]
impl TokenSource for Tokens {
    async fn next(&mut self) -> Result<Option<String>, MindError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        while self.usage.is_none() {
            let event = next(&mut self.errand).await?.unwrap_or(JobEvent::Reset);
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

fn lost() -> MindError {
    let cause = "its worker was lost, and no other offers to do it; what a worker may have died of is not tried by the \
                 host itself: ask again, or start a worker with `telos worker`";
    MindError::Failed(cause.into())
}

#[cfg(test)]
mod tests;
