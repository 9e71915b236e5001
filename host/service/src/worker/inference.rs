//! Minds for a host elsewhere.

use std::sync::Arc;

use serde_json::Value;
use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_kernel::seams::{LoadProgress, MindError, Minds, TokenSource};
use tokio::sync::mpsc;

use crate::minding::wire::{Answer, Asked, Generate, Piece};

/// News of loading that wait to be told; more is not news.
const LOADINGS_MAX: usize = 16;

/// Answers `inference` from the minds of this process.
pub(super) struct Inference {
    minds: Arc<dyn Minds>,
}

impl Inference {
    pub(super) fn new(minds: Arc<dyn Minds>) -> Self {
        Self { minds }
    }

    pub(super) fn call(&self, call: Call, reply: Reply) {
        let minds = Arc::clone(&self.minds);
        tokio::spawn(async move {
            let asked = match serde_json::from_value::<Asked>(call.params.clone()) {
                Ok(asked) => asked,
                Err(error) => return reply.finish(Err(misunderstood(&error))),
            };
            let answered = tokio::select! {
                answer = answer(minds.as_ref(), asked, &call, &reply) => Some(answer),
                () = call.cancelled.cancelled() => None,
            };
            match answered {
                Some(answer) => reply.finish(encode(&answer)),
                // Dropping the work has cancelled it at the next token.
                None => reply.give_back("told to stop"),
            }
        });
    }
}

async fn answer(minds: &dyn Minds, asked: Asked, call: &Call, reply: &Reply) -> Answer {
    let answered = match asked {
        Asked::Generate(asked) => generate(minds, asked, call, reply).await,
        Asked::Embed { mind, texts } => minds.embed(mind, texts, call.deadline).await.map(Answer::Embedded),
    };
    answered.unwrap_or_else(|error| Answer::Refused(error.into()))
}

async fn generate(
    minds: &dyn Minds,
    asked: Generate,
    call: &Call,
    reply: &Reply,
) -> Result<Answer, MindError> {
    let (loading, mut loadings) = mpsc::channel(LOADINGS_MAX);
    let progress: LoadProgress = Arc::new(move |mind: &str, fraction: f32| {
        let _ = loading.try_send(Piece::Loading { mind: mind.to_owned(), fraction });
    });
    let mut generating = Box::pin(minds.generate(asked.into(), call.deadline, progress));
    let mut tokens = loop {
        tokio::select! {
            tokens = &mut generating => break tokens?,
            Some(loading) = loadings.recv() => say(reply, &loading).await,
        }
    };
    while let Some(text) = tokens.next().await? {
        say(reply, &Piece::Text(text)).await;
    }
    Ok(usage(tokens.as_ref()))
}

async fn say(reply: &Reply, piece: &Piece) {
    if let Ok(value) = serde_json::to_value(piece) {
        reply.chunk_when_room(1, value).await;
    }
}

fn usage(tokens: &dyn TokenSource) -> Answer {
    match tokens.usage() {
        Some(usage) => usage.into(),
        None => Answer::Refused(MindError::Failed("the mind did not say what it cost".into()).into()),
    }
}

fn encode(answer: &Answer) -> Result<Value, RpcError> {
    serde_json::to_value(answer).map_err(|error| misunderstood(&error))
}

fn misunderstood(error: &serde_json::Error) -> RpcError {
    RpcError::new("invalid-params", Effect::None, format!("this is no order of `inference`: {error}"))
        .with_next("run workers of the host's version")
}
