//! Messages to other objects: send and wait, post for later, emit a piece of the answer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::telos::host::messaging as host;
use crate::object::Object;

/// Why a message has no answer. None of these discards the sender's own writes: it may go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Not granted.
    #[error("messaging: not granted")]
    Denied,
    /// No object has this identity.
    #[error("messaging: no object has this identity")]
    NoSuchObject,
    /// Neither the receiver nor any ancestor has the selector; says what was tried.
    #[error("not understood: {0}")]
    NotUnderstood(String),
    /// The receiver refused, in its own words.
    #[error("refused: {0}")]
    Refused(String),
    /// The receiver trapped, ran out of budget or broke the covenant.
    #[error("the receiver broke; the host's journal says why under incident {0}")]
    Broken(u64),
    /// A bound was reached; names it.
    #[error("busy: {0}")]
    Busy(String),
    /// The root's deadline has passed.
    #[error("the deadline has passed")]
    Deadline,
    /// The receiver writes, but this message came from a read-only selector.
    #[error("the receiver writes, but the message came from a read-only selector")]
    ReadOnly,
    /// The arguments are not one JSON value, or too large; says which.
    #[error("messaging: {0}")]
    Invalid(String),
    /// The host failed; the journal has the cause under this number.
    #[error("messaging: the host failed; its journal says why under incident {0}")]
    Failed(u64),
    /// The answer is not of the type asked for. The receiver's writes stand.
    #[error("the answer to `{selector}` does not fit its type: {cause}")]
    Mismatch {
        /// The message.
        selector: String,
        /// The parser's words.
        cause: String,
    },
}

/// Gives the caller that opened the root a provisional piece of the answer, at most 64 KiB.
///
/// Without a listening caller it does nothing; only the final answer is authoritative.
///
/// # Errors
/// [`SendError::Busy`] past the bound, [`SendError::Denied`].
pub fn emit<T: Serialize + ?Sized>(chunk: &T) -> Result<(), SendError> {
    Ok(host::emit(&spell(chunk)?)?)
}

impl Object {
    /// Sends a message and waits for its answer, inside this unit of work.
    ///
    /// A guard's changes are seen by the receiver once its scope has ended or [`write`](crate::Slot::write) was
    /// called. When the receiver fails, only its own writes are discarded.
    ///
    /// # Errors
    /// As [`SendError`] says; the sender may go on after any of them.
    pub fn send<A, R>(self, selector: &str, arguments: &A) -> Result<R, SendError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let answer = host::send(self.into(), selector, &spell(arguments)?)?;
        serde_json::from_str(&answer)
            .map_err(|cause| SendError::Mismatch { selector: selector.to_owned(), cause: cause.to_string() })
    }

    /// Sends a message after this unit commits, as a root of its own: in effect once, in order per receiver.
    ///
    /// # Errors
    /// [`SendError::Busy`] at 1,000 posts per unit or 100,000 pending, and the host's other errors.
    pub fn post<A: Serialize + ?Sized>(self, selector: &str, arguments: &A) -> Result<(), SendError> {
        Ok(host::post(self.into(), selector, &spell(arguments)?)?)
    }
}

impl From<host::Error> for SendError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied => Self::Denied,
            host::Error::NoSuchObject => Self::NoSuchObject,
            host::Error::NotUnderstood(tried) => Self::NotUnderstood(tried),
            host::Error::Refused(cause) => Self::Refused(cause),
            host::Error::Broken(incident) => Self::Broken(incident),
            host::Error::Busy(bound) => Self::Busy(bound),
            host::Error::Deadline => Self::Deadline,
            host::Error::ReadOnly => Self::ReadOnly,
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::Failed(incident) => Self::Failed(incident),
        }
    }
}

fn spell<T: Serialize + ?Sized>(value: &T) -> Result<String, SendError> {
    serde_json::to_string(value).map_err(|cause| SendError::Invalid(format!("not JSON: {cause}")))
}
