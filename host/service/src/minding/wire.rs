//! What a host and a worker that has minds say to each other: the parameters, pieces and answers of `inference`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use telos_kernel::seams::{GenerateRequest, MindError, Speaker, Usage};

/// The service that a worker with minds offers.
pub(crate) const SERVICE: &str = "inference";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Asked {
    Generate(Generate),
    Embed { mind: Option<String>, texts: Vec<String> },
}

/// See [`GenerateRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generate {
    mind: Option<String>,
    turns: Vec<(Voice, String)>,
    max_tokens: u32,
    temperature: f32,
    seed: u64,
    stop: Vec<String>,
    schema: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Voice {
    System,
    User,
    Assistant,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Piece {
    /// The mind is on its way into memory; from 0.0 to 1.0.
    Loading {
        mind: String,
        fraction: f32,
    },
    Text(String),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Generated { prompt_tokens: u32, generated_tokens: u32, is_cut: bool },
    Embedded(Vec<Vec<f32>>),
    Refused(Refusal),
}

/// See [`MindError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Refusal {
    NoSuchMind(String),
    ContextExceeded { fits: u32 },
    Invalid(String),
    Deadline,
    Failed(String),
}

impl Generate {
    /// Which mind is asked; none: the default.
    pub(crate) fn mind(&self) -> Option<&str> {
        self.mind.as_deref()
    }
}

impl From<GenerateRequest> for Generate {
    fn from(request: GenerateRequest) -> Self {
        let GenerateRequest { mind, turns, max_tokens, temperature, seed, stop, schema } = request;
        let turns = turns.into_iter().map(|(speaker, text)| (speaker.into(), text)).collect();
        Self { mind, turns, max_tokens, temperature, seed, stop, schema }
    }
}

impl From<Generate> for GenerateRequest {
    fn from(asked: Generate) -> Self {
        let Generate { mind, turns, max_tokens, temperature, seed, stop, schema } = asked;
        let turns = turns.into_iter().map(|(voice, text)| (voice.into(), text)).collect();
        Self { mind, turns, max_tokens, temperature, seed, stop, schema }
    }
}

impl From<Speaker> for Voice {
    fn from(speaker: Speaker) -> Self {
        match speaker {
            Speaker::System => Self::System,
            Speaker::User => Self::User,
            Speaker::Assistant => Self::Assistant,
        }
    }
}

impl From<Voice> for Speaker {
    fn from(voice: Voice) -> Self {
        match voice {
            Voice::System => Self::System,
            Voice::User => Self::User,
            Voice::Assistant => Self::Assistant,
        }
    }
}

impl From<Usage> for Answer {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, generated_tokens, is_cut } = usage;
        Self::Generated { prompt_tokens, generated_tokens, is_cut }
    }
}

impl From<MindError> for Refusal {
    fn from(error: MindError) -> Self {
        match error {
            MindError::NoSuchMind(text) => Self::NoSuchMind(text),
            MindError::ContextExceeded { fits } => Self::ContextExceeded { fits },
            MindError::Invalid(text) => Self::Invalid(text),
            MindError::Deadline => Self::Deadline,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<Refusal> for MindError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchMind(text) => Self::NoSuchMind(text),
            Refusal::ContextExceeded { fits } => Self::ContextExceeded { fits },
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::Deadline => Self::Deadline,
            Refusal::Failed(text) => Self::Failed(text),
        }
    }
}
