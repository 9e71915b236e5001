//! What happens among the peers that a person may want to know; each becomes a line in the journal.

use std::fmt;
use std::time::Duration;

use crate::service::{Role, SessionId};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A peer came.
    Came {
        /// Its session.
        session: SessionId,
        /// What it may do.
        role: Role,
    },
    /// A peer came back on another connection, and its session goes on.
    Returned {
        /// Its session.
        session: SessionId,
    },
    /// A peer said goodbye.
    Left {
        /// Its session.
        session: SessionId,
    },
    /// A peer was given up: its calls were cancelled, what it was owed was dropped, its jobs go to others.
    Expired {
        /// Its session.
        session: SessionId,
        /// How long nothing was heard of it.
        silent: Duration,
        /// It was heard, and did not read what it was sent.
        is_slow: bool,
    },
    /// Another connection claimed the session of a peer that is there, and was refused.
    Twin {
        /// The session.
        session: SessionId,
    },
    /// A worker offers services.
    Ready {
        /// Its session.
        session: SessionId,
        /// What it offers.
        services: Vec<String>,
        /// How many jobs it takes at once.
        credit: u16,
    },
    /// A worker takes no more jobs, and ends those that it has.
    Draining {
        /// Its session.
        session: SessionId,
    },
    /// A worker beat and got nowhere, and did not stop when it was told to: its session was ended.
    Dismissed {
        /// Its session.
        session: SessionId,
    },
    /// Nobody could do a job: so many workers died of it, got nowhere with it, or gave it back.
    DeadLetter {
        /// Which service it asked for.
        service: String,
        /// What became of each attempt.
        history: Vec<String>,
    },
}

impl Notice {
    /// A stable name, as `bridge.peer-expired`.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::Came { .. } => "bridge.peer-came",
            Self::Returned { .. } => "bridge.peer-returned",
            Self::Left { .. } => "bridge.peer-left",
            Self::Expired { .. } => "bridge.peer-expired",
            Self::Twin { .. } => "bridge.twin-refused",
            Self::Ready { .. } => "bridge.worker-ready",
            Self::Draining { .. } => "bridge.worker-draining",
            Self::Dismissed { .. } => "bridge.worker-dismissed",
            Self::DeadLetter { .. } => "bridge.dead-letter",
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::Came { .. }
                | Self::Returned { .. }
                | Self::Left { .. }
                | Self::Ready { .. }
                | Self::Draining { .. }
        )
    }

    /// Whether it happens all the time, with every command that somebody runs.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::Came { .. } | Self::Left { .. })
    }

    /// Whose it is; none for a job.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Came { session, .. }
            | Self::Returned { session }
            | Self::Left { session }
            | Self::Expired { session, .. }
            | Self::Twin { session }
            | Self::Ready { session, .. }
            | Self::Draining { session }
            | Self::Dismissed { session } => Some(*session),
            Self::DeadLetter { .. } => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came { role, .. } => write!(f, "a peer came as {}", role.as_str()),
            Self::Returned { .. } => f.write_str("a peer came back on another connection"),
            Self::Left { .. } => f.write_str("a peer said goodbye"),
            Self::Expired { is_slow: true, .. } => {
                f.write_str("a peer that does not read what it is sent was given up")
            }
            Self::Expired { silent, .. } => {
                write!(f, "a peer was silent for {} ms and was given up", silent.as_millis())
            }
            Self::Twin { .. } => {
                f.write_str("another connection claimed a session that is there, and was refused")
            }
            Self::Ready { services, credit, .. } => {
                write!(f, "a worker offers {}, {credit} at once", services.join(", "))
            }
            Self::Draining { .. } => f.write_str("a worker takes no more jobs"),
            Self::Dismissed { .. } => f.write_str(
                "a worker got nowhere with a job, and did not stop when it was told to: it was dismissed",
            ),
            Self::DeadLetter { service, history } => {
                write!(f, "nobody could do a job for `{service}`: {}", history.join("; "))
            }
        }
    }
}
