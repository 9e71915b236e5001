//! Why a message has no answer: whose fault, what effect, what to do next.

use crate::miss::Miss;
use telos_store::{CommitError, ReadError, WriteError};

/// What to do when the database is past its quota.
pub(crate) const FREE_ROOM: &str = "free room with `telos object forget` and `telos store rewrite`, keep less of the past with `telos up --history-days`, or raise the quota that it names: `telos up --database-mib`, `--storage-owner-mib`, `--vector-owner-mib` or `--vector-mib`";

/// What to do when the device that the store is on is full.
pub(crate) const FREE_SPACE: &str =
    "free some space on that device and ask again; `telos doctor` says when the store takes writes";

/// Whose doing a failure is. Decides log level, retry and blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The component that ran.
    Guest,
    /// This host.
    Host,
    /// Whoever configures it.
    Operator,
    /// Whoever sent the message.
    Peer,
}

/// Whether an effect of a failed message may exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It happened; only the answer is missing.
    Committed,
    /// Not known; send again under the same number to learn it, not under a new one.
    Unknown,
}

/// How a component failed a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Breakage {
    /// It trapped or panicked.
    #[error("trapped: {0}")]
    Trap(String),
    /// It failed, and said how.
    #[error("failed: {0}")]
    Told(String),
    /// It used more CPU than one message may.
    #[error("used more than its {allowed_ms} ms of CPU")]
    Cpu {
        /// The limit.
        allowed_ms: u32,
    },
    /// Its calls took more of the host's CPU than one message's may.
    #[error("used more than {allowed_ms} ms of the host's CPU with its calls")]
    HostCpu {
        /// The limit.
        allowed_ms: u32,
    },
    /// It asked for more memory than one message may.
    #[error("asked for more than its {allowed_mib} MiB of memory")]
    Memory {
        /// The limit.
        allowed_mib: u32,
    },
    /// It broke the persistence covenant.
    #[error("covenant violation: slot `{slot}` in selector `{selector}`: {cause}")]
    Covenant {
        /// The slot concerned.
        slot: String,
        /// The selector that ran.
        selector: String,
        /// Why it could not be kept.
        cause: String,
    },
    /// It answered with something that is not JSON.
    #[error("answered with what is not JSON: {0}")]
    Answer(String),
    /// Its descriptor promises a selector that its handler does not know.
    #[error("its descriptor promises selector `{0}`, its handler does not know it")]
    Selector(String),
}

fn told(ticket: &Option<u64>) -> String {
    ticket.map(|ticket| format!("; ticket {ticket} was opened for it")).unwrap_or_default()
}

/// Why a message has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No object has this name or identity.
    #[error("no object is called `{0}`")]
    NoSuchObject(String),
    /// Neither the receiver nor an ancestor has the selector.
    #[error("`{receiver}` does not understand `{selector}`; tried {tried}{}", told(.ticket))]
    NotUnderstood {
        /// The receiver, as it was named.
        receiver: String,
        /// The selector sent.
        selector: String,
        /// The objects asked, in order.
        tried: String,
        /// Under which number behaviour for it is being made; none where nobody makes any.
        ticket: Option<u64>,
        /// What whoever makes it must know.
        miss: Box<Miss>,
    },
    /// The method's component has no release that serves.
    #[error("`{component}`, whose method answers `{selector}`, has no release that serves")]
    NotServing {
        /// The component the slot names.
        component: String,
        /// The selector sent.
        selector: String,
    },
    /// The serving release does not satisfy the slot's requirement.
    #[error("`{component}` serves {serving}, but the slot for `{selector}` requires {requirement}")]
    Requirement {
        /// The component the slot names.
        component: String,
        /// The version that serves.
        serving: String,
        /// The slot's requirement.
        requirement: String,
        /// The selector sent.
        selector: String,
    },
    /// The arguments do not fit.
    #[error("bad arguments: {0}")]
    BadArguments(String),
    /// The receiver declined.
    #[error("refused: {0}")]
    Refused(String),
    /// The component failed.
    #[error("`{component}` {version} {breakage} (incident {incident})")]
    Broken {
        /// Whose fault.
        component: String,
        /// Its version.
        version: String,
        /// What it did.
        breakage: Box<Breakage>,
        /// The number in the journal.
        incident: u64,
    },
    /// A bound was reached; names it.
    #[error("busy: {0}")]
    Busy(String),
    /// The store has no room for what the message wrote.
    #[error("full: {0}")]
    Full(String),
    /// The device that the store is on has no room.
    #[error("{0}")]
    NoRoom(String),
    /// It was ended so that its component could change.
    #[error("it was ended so that a plugin could be changed at once")]
    Retired,
    /// The deadline passed first.
    #[error("the deadline passed before an answer was decided")]
    Deadline,
    /// A message that writes came from a read-only selector.
    #[error("`{0}` writes, and was sent from a read-only selector")]
    ReadOnly(String),
    /// Other messages kept changing what this one read.
    #[error("gave up after {attempts} attempts, because other messages kept changing what this one reads")]
    Conflict {
        /// How many times it ran.
        attempts: u32,
    },
    /// This session's number was acknowledged or is out of the window.
    #[error("{0}")]
    Session(String),
    /// The request was done, and its answer was forgotten since, with an object that it concerned.
    #[error("this request was done, and its answer was forgotten with an object that it was about")]
    AnswerForgotten,
    /// The session was closed, and what writes needs one.
    #[error("this session was closed after 24 h without a write")]
    UnknownSession,
    /// The store cannot say whether this request took effect.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The host failed.
    #[error("the host failed: {cause} (incident {incident})")]
    Host {
        /// What failed.
        cause: String,
        /// The number in the journal.
        incident: u64,
    },
}

impl Failure {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchObject(_) => "no-such-object",
            Self::NotUnderstood { .. } => "not-understood",
            Self::NotServing { .. } => "not-serving",
            Self::Requirement { .. } => "requirement",
            Self::BadArguments(_) => "bad-arguments",
            Self::Refused(_) => "refused",
            Self::Broken { .. } => "broken",
            Self::Busy(_) => "busy",
            Self::Full(_) => "full",
            Self::NoRoom(_) => "no-room",
            Self::Retired => "retired",
            Self::Deadline => "deadline",
            Self::ReadOnly(_) => "read-only",
            Self::Conflict { .. } => "conflict",
            Self::Session(_) => "session",
            Self::AnswerForgotten => "answer-forgotten",
            Self::UnknownSession => "unknown-session",
            Self::Unavailable(_) => "unavailable",
            Self::Host { .. } => "host",
        }
    }

    /// Whose doing.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Broken { .. } => Fault::Guest,
            Self::NotServing { .. } | Self::Requirement { .. } | Self::Full(_) | Self::NoRoom(_) => {
                Fault::Operator
            }
            Self::Unavailable(_) | Self::Host { .. } | Self::Retired => Fault::Host,
            _ => Fault::Peer,
        }
    }

    /// Whether an effect may exist.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Unavailable(_) => Effect::Unknown,
            Self::AnswerForgotten => Effect::Committed,
            _ => Effect::None,
        }
    }

    /// What to do next, when there is something better than reading the message.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchObject(_) => "see `telos object list`".into(),
            Self::NotUnderstood { ticket: Some(ticket), .. } => {
                format!("see `telos forge show {ticket}`, and send it again when that serves")
            }
            Self::NotUnderstood { receiver, .. } => {
                format!("see `telos object show {receiver}` for what it understands")
            }
            Self::NotServing { component, .. } | Self::Requirement { component, .. } => {
                format!("see `telos plugin info {component}`")
            }
            Self::Busy(_) | Self::Conflict { .. } | Self::Retired => "send it again in a moment".into(),
            // The bridge's client does so by itself, and says this when it gives up.
            Self::Unavailable(_) => {
                "ask again under the same number; or look at the receiver with `telos object show` before you send \
                 it anew, which may do it twice"
                    .into()
            }
            Self::Full(_) => FREE_ROOM.into(),
            Self::NoRoom(_) => FREE_SPACE.into(),
            Self::Deadline => "send it again with a longer `--deadline-ms`".into(),
            Self::Session(_) | Self::UnknownSession => "open a new session and send it again".into(),
            Self::AnswerForgotten => "nothing is to be done again; `telos audit` says what was forgotten".into(),
            // The incident number says where to look.
            Self::Broken { .. } | Self::Host { .. } => return None,
            Self::BadArguments(_) | Self::Refused(_) | Self::ReadOnly(_) => return None,
        })
    }

    /// The incident number, when the journal knows more.
    pub fn incident(&self) -> Option<u64> {
        match self {
            Self::Broken { incident, .. } | Self::Host { incident, .. } => Some(*incident),
            _ => None,
        }
    }
}

/// What a store error means to a message: the few that are the sender's, the rest the host's.
pub(crate) enum StoreFailure {
    /// Known to the sender.
    Failure(Failure),
    /// To be written to the journal under an incident.
    Host(String),
}

impl From<ReadError> for StoreFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoSuchObject(id) => Self::Failure(Failure::NoSuchObject(id.to_string())),
            // The objects are the senders', and so is what the message read before.
            ReadError::TooLarge(overflow) => Self::Failure(Failure::Refused(overflow.to_string())),
            // It ran for more than a minute while the past below it was pruned.
            ReadError::SnapshotTooOld { .. } => Self::Failure(Failure::Busy(error.to_string())),
            other => Self::Host(other.to_string()),
        }
    }
}

impl From<telos_store::Failure> for StoreFailure {
    fn from(error: telos_store::Failure) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<WriteError> for StoreFailure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Read(read) => read.into(),
            other => Self::Failure(Failure::Refused(other.to_string())),
        }
    }
}

impl From<CommitError> for StoreFailure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Deadline => Self::Failure(Failure::Deadline),
            CommitError::DatabaseFull { bytes, allowed } => {
                Self::Failure(Failure::Full(format!("the database takes {bytes} bytes of its {allowed}")))
            }
            CommitError::NoRoom { .. } => Self::Failure(Failure::NoRoom(error.to_string())),
            CommitError::StorageFull { .. } | CommitError::VectorsFull { .. } => {
                Self::Failure(Failure::Full(error.to_string()))
            }
            CommitError::TooOld { .. } => Self::Failure(Failure::Session(error.to_string())),
            CommitError::UnknownSession => Self::Failure(Failure::UnknownSession),
            CommitError::OutboxFull { .. }
            | CommitError::SessionFull { .. }
            | CommitError::BlobMissing(_)
            | CommitError::Busy { .. }
            | CommitError::ReadOnlyStore { .. }
            | CommitError::Closed => Self::Failure(Failure::Busy(error.to_string())),
            CommitError::Unavailable { .. } => Self::Failure(Failure::Unavailable(error.to_string())),
            CommitError::TooLarge { .. } => Self::Failure(Failure::Refused(error.to_string())),
            other => Self::Host(other.to_string()),
        }
    }
}
