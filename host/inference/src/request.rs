//! What may be asked of a mind, and the bounds that hold before any engine sees it.

use crate::{MindError, schema};

/// Turns in one request.
pub const TURNS_MAX: usize = 256;
/// Bytes of all turns together; the contract's bound on one JSON value.
pub const PROMPT_BYTES_MAX: usize = 256 * 1024;
/// Tokens that one request may generate.
pub const MAX_TOKENS_MAX: u32 = 4_096;
/// The highest temperature.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// Stop texts in one request.
pub const STOPS_MAX: usize = 8;
/// Bytes of one stop text.
pub const STOP_BYTES_MAX: usize = 256;
/// Texts in one embedding request.
pub const TEXTS_MAX: usize = 64;
/// Bytes of one text to embed.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// What to generate, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// A catalogue name; none for the default text mind.
    pub mind: Option<String>,
    /// The conversation, 1 to [`TURNS_MAX`] turns, [`PROMPT_BYTES_MAX`] in all. Any text: the spelling of a control
    /// token inside it stays text.
    pub turns: Vec<Turn>,
    /// 1 to [`MAX_TOKENS_MAX`].
    pub max_tokens: u32,
    /// 0.0 always takes the likeliest token; at most [`TEMPERATURE_MAX`].
    pub temperature: f32,
    /// Equal requests with equal seeds give equal text on one mind and machine. At temperature 0.0 it does not matter.
    pub seed: u64,
    /// Generation ends before any of these; at most [`STOPS_MAX`], each 1 to [`STOP_BYTES_MAX`] bytes.
    pub stop: Vec<String>,
    /// A JSON Schema that the whole answer satisfies when it ends by itself; see [`crate::request`]'s bounds.
    ///
    /// The subset that bounds the work of the engine: `type`, `properties`, `required`, `additionalProperties: false`,
    /// `items`, `enum`, `const`, `anyOf`, `oneOf`, `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`,
    /// `maximum` and annotations. Anything else is [`MindError::Invalid`], by name. Integer bounds have at most 15
    /// digits; a `minimum` above 99 or a `maximum` below 0 needs the other one too; counts are at most 1,024 each and
    /// 8,192 together; names of properties have 1 to 64 bytes; properties, values of `enum`, arms of `anyOf` and digits
    /// of bounds are at most 256 together.
    pub schema: Option<String>,
}

/// One line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// Who said a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The rules of the conversation.
    System,
    /// The person.
    User,
    /// The mind.
    Assistant,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The mind said it was done, or a stop text came.
    Stop,
    /// `max_tokens` was reached.
    Length,
}

/// What a generation cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, in the mind's own layout.
    pub prompt_tokens: u32,
    /// Tokens generated, those of a stop text included.
    pub generated_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

impl GenerateRequest {
    /// A request with these turns and the usual settings: 256 tokens, temperature 0.0, no stop texts, free text.
    #[must_use]
    pub fn new(turns: Vec<Turn>) -> Self {
        Self { mind: None, turns, max_tokens: 256, temperature: 0.0, seed: 0, stop: vec![], schema: None }
    }

    pub(crate) fn check(&self) -> Result<(), MindError> {
        self.check_turns()?;
        within("max-tokens", self.max_tokens, 1, MAX_TOKENS_MAX)?;
        // The negated range also refuses NaN.
        if !(0.0..=TEMPERATURE_MAX).contains(&self.temperature) {
            return invalid(format!(
                "temperature: {} is not within 0.0 to {TEMPERATURE_MAX}",
                self.temperature
            ));
        }
        self.check_stops()?;
        self.schema.as_deref().map_or(Ok(()), schema::check)
    }

    fn check_turns(&self) -> Result<(), MindError> {
        within("turns", self.turns.len(), 1, TURNS_MAX)?;
        let bytes: usize = self.turns.iter().map(|turn| turn.text.len()).sum();
        within("turns: bytes of text", bytes, 0, PROMPT_BYTES_MAX)
    }

    fn check_stops(&self) -> Result<(), MindError> {
        within("stop: texts", self.stop.len(), 0, STOPS_MAX)?;
        self.stop.iter().try_for_each(|stop| within("stop: bytes of one text", stop.len(), 1, STOP_BYTES_MAX))
    }
}

impl Role {
    /// `system`, `user` or `assistant`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

pub(crate) fn check_texts(texts: &[String]) -> Result<(), MindError> {
    within("texts", texts.len(), 0, TEXTS_MAX)?;
    texts.iter().try_for_each(|text| within("texts: bytes of one", text.len(), 0, TEXT_BYTES_MAX))
}

fn within<N: PartialOrd + std::fmt::Display>(
    what: &str,
    found: N,
    least: N,
    most: N,
) -> Result<(), MindError> {
    if found < least || found > most {
        return invalid(format!("{what}: {found} is not within {least} to {most}"));
    }
    Ok(())
}

fn invalid<T>(message: String) -> Result<T, MindError> {
    Err(MindError::Invalid(message))
}

#[cfg(test)]
mod tests;
