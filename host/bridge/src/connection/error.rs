//! Why a client does not connect, and why a call does not succeed.

use std::io;
use std::time::Duration;

use crate::endpoint::{Endpoint, EndpointError};
use crate::rpc::{Effect, RpcError};
use crate::service::Fault;
use crate::token::TokenError;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint is not one we connect to.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody listens.
    #[error("no host answers at {endpoint}; start one with `telos up`")]
    NoHost {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// We may not connect.
    #[error("not allowed to connect to {endpoint}; the host belongs to another user")]
    NotAllowed {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Somebody listens and does not greet.
    #[error(
        "the host at {endpoint} has not answered for {waited:?}; it may be stuck: see `telos journal tail`"
    )]
    Silent {
        /// Where.
        endpoint: Endpoint,
        /// How long we waited.
        waited: Duration,
    },
    /// The system refused the thread of the sockets.
    #[error("the thread of the sockets cannot start: {0}")]
    Thread(#[source] io::Error),
    /// The host refuses us, and says why.
    #[error("the host at {endpoint} refuses us: {cause}")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// What it said.
        #[source]
        cause: RpcError,
    },
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl ConnectError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Endpoint(cause) => cause.fault(),
            Self::Token(cause) => cause.fault(),
            Self::NoHost { .. } | Self::NotAllowed { .. } => Fault::Operator,
            Self::Silent { .. } | Self::Thread(_) => Fault::Host,
            Self::Refused { .. } => Fault::Peer,
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The host's own error.
    #[error("{0}")]
    Host(RpcError),
    /// Nobody could tell whether it happened, though the host was asked again under the same number.
    #[error("whether it happened is not known, after asking {asks} more times: {cause}")]
    Unresolved {
        /// How often.
        asks: u32,
        /// The error that began it.
        #[source]
        cause: RpcError,
    },
    /// No answer by the deadline and two heartbeats.
    #[error("no answer by the deadline; effect: {effect}")]
    Timeout {
        /// `None` when the request never left.
        effect: Effect,
    },
    /// Nothing was heard of any host for as long as the client waits for one.
    #[error("no host has answered for {} s; effect: {effect}", waited.as_secs())]
    Silent {
        /// Since its last sign of life.
        waited: Duration,
        /// `None` when the request never left.
        effect: Effect,
    },
    /// The session was closed, here or because the host refused it.
    #[error("the session was closed; effect: {effect}")]
    Closed {
        /// `None` when the request never left.
        effect: Effect,
    },
    /// Too many calls of this client are open.
    #[error("1,024 calls or 64 MiB of requests are open; wait for some to end")]
    Crowded,
    /// The request does not fit in a message.
    #[error("the request has {found} bytes; at most {allowed} fit in a message")]
    TooLarge {
        /// How large it is.
        found: usize,
        /// How large it may be.
        allowed: usize,
    },
    /// This stream was not received as fast as the host sent.
    #[error("the stream was read too slowly; the call was cancelled")]
    SlowReader,
    /// The host's answer is not JSON-RPC of this call.
    #[error("the host's answer is not understood; is it of the same version?")]
    Malformed,
}

impl CallError {
    /// Whether what was asked for happened.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Host(error) => error.data.effect,
            Self::Timeout { effect } | Self::Silent { effect, .. } | Self::Closed { effect } => *effect,
            Self::Crowded | Self::TooLarge { .. } => Effect::None,
            Self::Unresolved { .. } | Self::SlowReader | Self::Malformed => Effect::Unknown,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Host(_) | Self::Malformed => Fault::Peer,
            Self::Unresolved { .. } | Self::Timeout { .. } | Self::Silent { .. } | Self::Closed { .. } => {
                Fault::Host
            }
            Self::Crowded | Self::TooLarge { .. } | Self::SlowReader => Fault::Operator,
        }
    }

    /// The same as a JSON-RPC error, so that a program prints one shape whatever failed.
    #[must_use]
    pub fn to_rpc(&self) -> RpcError {
        let (kind, next) = match self {
            Self::Host(error) => return error.clone(),
            Self::Unresolved { .. } => ("unresolved", LOOK_FIRST),
            Self::Timeout { effect: Effect::Unknown } => ("timeout", LOOK_FIRST),
            Self::Timeout { .. } => ("timeout", "is the host up? see `telos doctor`; or allow more time"),
            Self::Silent { effect: Effect::Unknown, .. } => ("silent", LOOK_FIRST),
            Self::Silent { .. } => {
                ("silent", "`telos doctor` says whether a host runs, `telos up` starts one")
            }
            Self::Closed { .. } => ("closed", "connect again"),
            Self::Crowded => ("busy", "wait for an answer, then send it again"),
            Self::TooLarge { .. } => ("too-large", "send it in smaller pieces"),
            Self::SlowReader => ("slow-reader", "read it faster, or ask for less"),
            Self::Malformed => ("malformed", "use a client and a host of the same version"),
        };
        let mut error = RpcError::new(kind, self.effect(), self.to_string()).with_next(next);
        if let Self::Unresolved { cause, .. } = self {
            error.data.incident = cause.data.incident;
        }
        error
    }
}

/// How to find out what nobody could tell. Sending anew is no way to: a new call is a second effect if there was one.
const LOOK_FIRST: &str = "when the host is up (`telos doctor`), look at what it would have changed, also with `telos audit`, \
     before you send it anew";
