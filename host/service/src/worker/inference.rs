//! Minds for a host elsewhere.
//!
//! A mind has one request at a time, and a worker more: whoever waits behind another, for a long prompt, for a mind to
//! load or for a batch of texts says that it gets on as long as the mind's thread does, and no longer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_inference::{Kind, Minds};
use telos_kernel::seams::{LoadProgress, MindError, Minds as _, TokenSource};
use tokio::sync::mpsc;

use crate::minding::KernelMinds;
use crate::minding::wire::{Answer, Asked, Generate, Piece};

/// The mind's steps are looked at so often; the worker says less than that.
const LOOK: Duration = Duration::from_millis(500);

/// News of loading that wait to be told; more is not news.
const LOADINGS_MAX: usize = 16;

/// Answers `inference` from the minds of this process.
pub(super) struct Inference {
    minds: Arc<KernelMinds>,
}

impl Inference {
    pub(super) fn new(minds: Minds) -> Self {
        Self { minds: Arc::new(KernelMinds(Arc::new(minds))) }
    }

    pub(super) fn call(&self, call: Call, reply: Reply) {
        let minds = Arc::clone(&self.minds);
        tokio::spawn(async move {
            let asked = match serde_json::from_value::<Asked>(call.params.clone()) {
                Ok(asked) => asked,
                Err(error) => return reply.finish(Err(misunderstood(&error))),
            };
            let (mind, kind) = wanted(&asked);
            let answered = tokio::select! {
                answer = answer(&minds, asked, &call, &reply) => Some(answer),
                never = tell_steps(&minds.0, mind.as_deref(), kind, &reply) => match never {},
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

fn wanted(asked: &Asked) -> (Option<String>, Kind) {
    match asked {
        Asked::Generate(asked) => (asked.mind().map(ToOwned::to_owned), Kind::Text),
        Asked::Embed { mind, .. } => (mind.clone(), Kind::Embedding),
    }
}

/// By what the mind has done, never by time alone: a mind that hangs loses its lease.
async fn tell_steps(minds: &Minds, mind: Option<&str>, kind: Kind, reply: &Reply) -> Infallible {
    let mut seen = minds.steps(mind, kind);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = minds.steps(mind, kind);
        if now != seen {
            seen = now;
            reply.progress();
        }
    }
}

async fn answer(minds: &KernelMinds, asked: Asked, call: &Call, reply: &Reply) -> Answer {
    let answered = match asked {
        Asked::Generate(asked) => generate(minds, asked, call, reply).await,
        Asked::Embed { mind, texts } => minds.embed(mind, texts, call.deadline).await.map(Answer::Embedded),
    };
    answered.unwrap_or_else(|error| Answer::Refused(error.into()))
}

async fn generate(
    minds: &KernelMinds,
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

#[cfg(test)]
mod tests;
