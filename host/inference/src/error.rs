//! Why a mind gave no answer.

/// Whose fault an error is; decides log level, retry and blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A component's: what it asked for cannot be.
    Guest,
    /// This program's or this machine's.
    Host,
    /// An operator's: configuration or a command.
    Operator,
}

/// Why a mind gave no answer. Nothing of it remains: asking again is always safe.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MindError {
    /// The catalogue has no such mind.
    #[error("no mind named `{name}`; `telos model list` names them")]
    NoSuchMind {
        /// What was asked for.
        name: String,
    },
    /// The catalogue has no default for this kind.
    #[error("the catalogue has no default mind for {kind}")]
    NoDefault {
        /// `text` or `embedding`.
        kind: &'static str,
    },
    /// The mind's file is not there.
    #[error("mind `{name}` is not fetched; run `telos model pull {name}`")]
    NotFetched {
        /// The mind's catalogue name.
        name: String,
    },
    /// A text mind was asked to embed, or the reverse.
    #[error("mind `{name}` is for {found}, asked for {wanted}")]
    WrongKind {
        /// The mind's catalogue name.
        name: String,
        /// What it is for.
        found: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
    /// Prompt and answer together do not fit the mind's context.
    #[error(
        "prompt of {prompt_tokens} tokens and {max_tokens} to generate exceed the context of {context}; {fits} fit"
    )]
    ContextExceeded {
        /// Tokens the mind holds.
        context: u32,
        /// Tokens of the prompt in the mind's own layout.
        prompt_tokens: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// The largest `max_tokens` that fits after this prompt; 0 when the prompt alone is too long.
        fits: u32,
    },
    /// An argument is past its bound or malformed; says which.
    #[error("{0}")]
    Invalid(String),
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The mind's mailbox is full; try later.
    #[error("mind `{name}` has {entries} requests waiting, its limit")]
    Busy {
        /// The mind's catalogue name.
        name: String,
        /// Its bound.
        entries: usize,
    },
    /// The mind needs more memory than all minds together may use.
    #[error("mind `{name}` needs {needed} bytes of memory, {allowed} are allowed; raise `memory_bytes_max`")]
    TooLarge {
        /// The mind's catalogue name.
        name: String,
        /// What it needs.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The mind could not be loaded.
    #[error("mind `{name}` did not load: {cause}")]
    Load {
        /// The mind's catalogue name.
        name: String,
        /// What went wrong, and what to do.
        cause: String,
    },
    /// The engine failed in the middle of an answer.
    #[error("mind `{name}` failed: {cause}")]
    Engine {
        /// The mind's catalogue name.
        name: String,
        /// What went wrong.
        cause: String,
    },
}

impl MindError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoSuchMind { .. }
            | Self::WrongKind { .. }
            | Self::ContextExceeded { .. }
            | Self::Invalid(_) => Fault::Guest,
            Self::NoDefault { .. } | Self::NotFetched { .. } | Self::TooLarge { .. } => Fault::Operator,
            Self::Deadline | Self::Busy { .. } | Self::Load { .. } | Self::Engine { .. } => Fault::Host,
        }
    }

    pub(crate) fn engine(name: &str, cause: impl std::fmt::Display) -> Self {
        Self::Engine { name: name.to_owned(), cause: cause.to_string() }
    }

    pub(crate) fn load(name: &str, cause: impl std::fmt::Display) -> Self {
        Self::Load { name: name.to_owned(), cause: cause.to_string() }
    }
}
