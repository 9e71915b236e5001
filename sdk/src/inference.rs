//! Minds: text, token by token or whole, and embeddings.
//!
//! The host records every answer, so a message that is run again asks the same question and gets the same text.

use serde_json::Value;

use crate::bindings::telos::host::inference as host;

pub use crate::bindings::telos::host::inference::{Finish, Mind, Usage};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// Not granted.
    #[error("inference: not granted; an operator can: `telos plugin grant`")]
    Denied,
    /// No such mind, or it is not fetched; names the command that fetches it.
    #[error("inference: no such mind: {0}")]
    NoSuchMind(String),
    /// Prompt and `max_tokens` exceed the mind's context; the number of tokens that fit is given.
    #[error("inference: only {0} tokens fit the mind's context")]
    ContextExceeded(u32),
    /// An argument is malformed; says which.
    #[error("inference: {0}")]
    Invalid(String),
    /// The message's deadline ran out.
    #[error("inference: the deadline ran out")]
    Budget,
    /// The component's own budget is used up: so many milliseconds, and asking again may succeed.
    #[error("inference: this plugin's budget of minds is used up; ask again in {0} ms")]
    Busy(u32),
    /// The host failed; the journal has the cause under this number.
    #[error("inference: the host failed; its journal says why under incident {0}")]
    Failed(u64),
}

/// A conversation to be continued: build it, then [`generate`](Prompt::generate).
#[derive(Debug, Clone)]
#[must_use]
pub struct Prompt(host::Request);

/// Text as it is generated: an iterator of pieces, each whole UTF-8. Dropping it cancels at the next token.
#[derive(Debug)]
pub struct Generation(host::Generation);

impl Default for Prompt {
    fn default() -> Self {
        Self::new()
    }
}

impl Prompt {
    /// An empty conversation with the default mind: at most 512 tokens, temperature 0.0, seed 0.
    pub fn new() -> Self {
        Self(host::Request {
            mind: None,
            turns: Vec::new(),
            max_tokens: 512,
            temperature: 0.0,
            seed: 0,
            stop: Vec::new(),
            schema: None,
        })
    }

    /// What the mind is told about its task.
    pub fn system(self, text: impl Into<String>) -> Self {
        self.turn(host::Role::System, text.into())
    }

    /// What the person said.
    pub fn user(self, text: impl Into<String>) -> Self {
        self.turn(host::Role::User, text.into())
    }

    /// What the mind said before.
    pub fn assistant(self, text: impl Into<String>) -> Self {
        self.turn(host::Role::Assistant, text.into())
    }

    /// Another mind than the default, by its catalogue name.
    pub fn mind(mut self, name: impl Into<String>) -> Self {
        self.0.mind = Some(name.into());
        self
    }

    /// At most this many tokens, 1 to 4,096.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.0.max_tokens = tokens;
        self
    }

    /// 0.0 always takes the likeliest token; typical 0.7; at most 2.0.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.0.temperature = temperature;
        self
    }

    /// The same conversation with the same seed gives the same text on the same mind and machine.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Ends before this text; at most 8 of them.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.0.stop.push(text.into());
        self
    }

    /// A JSON Schema the answer must satisfy.
    pub fn schema(mut self, schema: &Value) -> Self {
        self.0.schema = Some(schema.to_string());
        self
    }

    /// Starts the generation, loading the mind first when needed.
    ///
    /// # Errors
    /// As [`InferenceError`] says.
    pub fn generate(self) -> Result<Generation, InferenceError> {
        Ok(Generation(host::generate(&self.0)?))
    }

    fn turn(mut self, role: host::Role, text: String) -> Self {
        self.0.turns.push(host::Turn { role, text });
        self
    }
}

impl Generation {
    /// The rest of the text, whole.
    ///
    /// # Errors
    /// The first error; what came before it is lost, so iterate to keep it.
    pub fn text(self) -> Result<String, InferenceError> {
        self.collect()
    }

    /// What it cost; none before the end.
    pub fn usage(&self) -> Option<Usage> {
        self.0.usage()
    }
}

impl Iterator for Generation {
    type Item = Result<String, InferenceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map_err(InferenceError::from).transpose()
    }
}

/// One vector per text, each of the mind's dimension and length 1.0. At most 64 texts of 8 KiB.
///
/// `mind`: a catalogue name; none for the default mind for embeddings.
///
/// # Errors
/// As [`InferenceError`] says.
pub fn embed(mind: Option<&str>, texts: &[String]) -> Result<Vec<Vec<f32>>, InferenceError> {
    Ok(host::embed(mind, texts)?)
}

/// The catalogue, by name.
///
/// # Errors
/// [`InferenceError::Denied`], [`InferenceError::Failed`].
pub fn minds() -> Result<Vec<Mind>, InferenceError> {
    Ok(host::minds()?)
}

impl From<host::Error> for InferenceError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied => Self::Denied,
            host::Error::NoSuchMind(cause) => Self::NoSuchMind(cause),
            host::Error::ContextExceeded(tokens) => Self::ContextExceeded(tokens),
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::Budget => Self::Budget,
            host::Error::Busy(wait_ms) => Self::Busy(wait_ms),
            host::Error::Failed(incident) => Self::Failed(incident),
        }
    }
}
