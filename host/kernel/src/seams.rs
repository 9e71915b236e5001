//! The small traits through which the kernel knows the rest of the host, so that it is tested without any of it.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Map, Value};

/// How urgent a journal line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Per frame.
    Trace,
    /// Per request.
    Debug,
    /// Start, swap, stop.
    Info,
    /// Degraded, still serving.
    Warn,
    /// Someone must act.
    Error,
}

/// One line for the journal.
#[derive(Debug, Clone)]
pub struct JournalLine {
    /// How urgent.
    pub severity: Severity,
    /// What happened, dotted: `plugin.log`, `message.broken`.
    pub event: &'static str,
    /// For people.
    pub body: String,
    /// The trace it belongs to; 32 hex digits.
    pub trace: Option<String>,
    /// The plugin whose line it is; each has its own budget.
    pub plugin: Option<String>,
    /// Details.
    pub attributes: Map<String, Value>,
}

/// Where lines go. Never blocks; may drop and count.
pub trait JournalSink: Send + Sync {
    /// Takes one line.
    fn record(&self, line: JournalLine);
    /// A number that both an error and its journal line carry; never given twice.
    fn next_incident(&self) -> u64;
}

/// A journal that nobody reads.
pub(crate) struct Unheard;

impl JournalSink for Unheard {
    fn record(&self, _: JournalLine) {}

    fn next_incident(&self) -> u64 {
        0
    }
}

/// The sender of a root listens to its provisional answers here. Calls must not block.
#[async_trait]
pub trait StreamSink: Send + Sync {
    /// A piece of the answer; `attempt` counts from 1.
    fn chunk(&self, attempt: u32, value: Value);
    /// The same at the sender's pace: waits while it is too far behind. Dropping the future gives it nothing.
    async fn chunk_when_room(&self, attempt: u32, value: Value) {
        self.chunk(attempt, value);
    }
    /// Everything of earlier attempts is void.
    fn reset(&self, attempt: u32);
}

/// A mind, as the catalogue lists it.
#[derive(Debug, Clone)]
pub struct MindInfo {
    /// Catalogue name.
    pub name: String,
    /// Embedding mind, not text.
    pub is_embedding: bool,
    /// Tokens of context.
    pub context: u32,
    /// Length of its embeddings; 0 for text minds.
    pub dimension: u32,
    /// Answers when no mind is named.
    pub is_default: bool,
    /// On this machine.
    pub is_fetched: bool,
}

/// Who said a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Standing instructions.
    System,
    /// The person.
    User,
    /// The mind.
    Assistant,
}

/// What to generate, and how; see `wit/inference.wit`.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// Catalogue name; none asks for the default.
    pub mind: Option<String>,
    /// The conversation.
    pub turns: Vec<(Speaker, String)>,
    /// At most this many tokens.
    pub max_tokens: u32,
    /// 0.0 takes the likeliest token.
    pub temperature: f32,
    /// Same seed, same text.
    pub seed: u64,
    /// Ends before any of these.
    pub stop: Vec<String>,
    /// JSON Schema of the answer.
    pub schema: Option<Value>,
}

/// What a generation cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub generated_tokens: u32,
    /// `max_tokens` ended it.
    pub is_cut: bool,
}

/// Why a mind did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MindError {
    /// Not in the catalogue, or not on this machine; says what to do.
    #[error("{0}")]
    NoSuchMind(String),
    /// Prompt and answer do not fit.
    #[error("prompt and answer exceed the mind's context; {fits} tokens fit")]
    ContextExceeded {
        /// How many fit.
        fits: u32,
    },
    /// An argument is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The deadline passed.
    #[error("the deadline passed while the mind was at work")]
    Deadline,
    /// The mind failed.
    #[error("{0}")]
    Failed(String),
}

/// Tells whoever waits how far a mind's loading is, from 0.0 to 1.0.
pub type LoadProgress = Arc<dyn Fn(&str, f32) + Send + Sync>;

/// The minds of this host.
#[async_trait]
pub trait Minds: Send + Sync {
    /// The catalogue, by name.
    fn list(&self) -> Vec<MindInfo>;
    /// Starts a generation; dropping it cancels at the next token.
    async fn generate(
        &self,
        request: GenerateRequest,
        deadline: Instant,
        progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError>;
    /// One unit vector per text.
    async fn embed(
        &self,
        mind: Option<String>,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError>;
}

/// A generation under way.
#[async_trait]
pub trait TokenSource: Send {
    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<String>, MindError>;
    /// What it cost; none before the end.
    fn usage(&self) -> Option<Usage>;
}

/// A host without minds: every request is refused with a sentence.
pub struct NoMinds;

#[async_trait]
impl Minds for NoMinds {
    fn list(&self) -> Vec<MindInfo> {
        Vec::new()
    }

    async fn generate(
        &self,
        _request: GenerateRequest,
        _deadline: Instant,
        _progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        Err(no_minds())
    }

    async fn embed(
        &self,
        _mind: Option<String>,
        _texts: Vec<String>,
        _deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        Err(no_minds())
    }
}

fn no_minds() -> MindError {
    MindError::NoSuchMind("this host was started without minds; see `telos model list`".into())
}
