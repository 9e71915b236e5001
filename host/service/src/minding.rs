//! The minds of `telos-inference` as the kernel sees them.

pub(crate) mod shared;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use telos_inference::{self as inference, Minds};
use telos_kernel::seams::{
    self, GenerateRequest, LoadProgress, MindError, MindInfo, Speaker, TokenSource, Usage,
};

/// Gives a guest the host's minds.
pub struct KernelMinds(pub Arc<Minds>);

struct Tokens(inference::Generation);

#[async_trait]
impl seams::Minds for KernelMinds {
    fn list(&self) -> Vec<MindInfo> {
        self.0.list().into_iter().map(info).collect()
    }

    async fn generate(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        let generation = self.0.generate(asked(request), deadline, told(progress)).await.map_err(error)?;
        Ok(Box::new(Tokens(generation)))
    }

    async fn embed(
        &self,
        mind: Option<String>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        self.0.embed(mind.as_deref(), texts, deadline).await.map_err(error)
    }
}

#[async_trait]
impl TokenSource for Tokens {
    async fn next(&mut self) -> Result<Option<String>, MindError> {
        self.0.next().await.map_err(error)
    }

    fn usage(&self) -> Option<Usage> {
        self.0.usage().map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens,
            generated_tokens: usage.generated_tokens,
            is_cut: usage.finish == inference::Finish::Length,
        })
    }
}

fn info(mind: inference::MindInfo) -> MindInfo {
    MindInfo {
        is_embedding: mind.kind == "embedding",
        name: mind.name,
        context: mind.context,
        dimension: mind.dimension,
        is_default: mind.is_default,
        is_fetched: mind.is_fetched,
    }
}

fn asked(request: GenerateRequest) -> inference::GenerateRequest {
    inference::GenerateRequest {
        mind: request.mind,
        turns: request.turns.into_iter().map(turn).collect(),
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        seed: request.seed,
        stop: request.stop,
        schema: request.schema.map(|schema| schema.to_string()),
    }
}

fn turn((speaker, text): (Speaker, String)) -> inference::Turn {
    let role = match speaker {
        Speaker::System => inference::Role::System,
        Speaker::User => inference::Role::User,
        Speaker::Assistant => inference::Role::Assistant,
    };
    inference::Turn { role, text }
}

fn told(progress: LoadProgress) -> impl Fn(inference::LoadProgress) + Send {
    move |loading| progress(&loading.mind, loading.fraction)
}

fn error(error: inference::MindError) -> MindError {
    let text = error.to_string();
    match error {
        inference::MindError::ContextExceeded { fits, .. } => MindError::ContextExceeded { fits },
        inference::MindError::Deadline => MindError::Deadline,
        // Whoever asked can do nothing about it but tell: it names the file, and what replaces it.
        inference::MindError::Load { .. } => MindError::NoSuchMind(text),
        _ => match error.fault() {
            inference::Fault::Guest if matches!(error, inference::MindError::Invalid(_)) => {
                MindError::Invalid(text)
            }
            inference::Fault::Guest | inference::Fault::Operator => MindError::NoSuchMind(text),
            inference::Fault::Host => MindError::Failed(text),
        },
    }
}
