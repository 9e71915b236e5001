//! The seam to whatever answers calls: [`Service`], the [`Call`] it gets and the [`Reply`] it owes.
//!
//! A reply is owed exactly once. A [`Reply`] dropped unfinished, by a panic or a mistake, answers for itself.
//! Nothing here blocks: what the service says goes to the queue's mailbox, and its chunks are
//! counted until the peer has them.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backlog::Backlog;
use crate::frame::MESSAGE_PAYLOAD_MAX;
use crate::queue::{CallId, Outcome, Output};
use crate::rpc::{self, Effect, RpcError};

/// Who has to act on an error: it decides log level, retry and blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A component.
    Guest,
    /// This program or this machine.
    Host,
    /// Whoever configured it.
    Operator,
    /// The other end of the connection.
    Peer,
}

/// What a peer may ask for; the service checks it, the bridge only tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sends messages to objects.
    Client,
    /// Takes work: see [`crate::Worker`].
    Worker,
    /// Also administers plugins, grants, the forge and the store.
    Operator,
}

impl Role {
    /// From the least to the most.
    pub const ALL: [Self; 3] = [Self::Client, Self::Worker, Self::Operator];

    /// The role's name, as `FromStr` reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no role; there are client, worker and operator")]
pub struct UnknownRole {
    found: String,
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| UnknownRole { found: text.to_owned() })
    }
}

/// One client's session: what a service keeps its memory of effects by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Random, chosen by the client.
    pub client: u128,
    /// Milliseconds of the host's wall clock when the session began; kept across reconnects and host restarts.
    pub incarnation: u64,
}

/// Answers calls.
pub trait Service: Send + Sync + 'static {
    /// Takes one call and returns at once: the work belongs on a task of its own. A panic here is caught and
    /// answered as an internal error.
    fn call(&self, call: Call, reply: Reply);
}

/// One request, as the service sees it.
#[derive(Debug)]
pub struct Call {
    /// Whose it is.
    pub session: SessionId,
    /// What the peer may do.
    pub role: Role,
    /// Rising within the session; the same number is the same request, however often it comes.
    pub number: u64,
    /// The client has the replies of every number up to this one and will not ask for them again.
    pub acked_through: u64,
    /// When the caller stops waiting. At this instant [`Call::cancelled`] fires.
    pub deadline: Instant,
    /// What is asked.
    pub method: String,
    /// `null` when the request had none.
    pub params: Value,
    /// Fires when nobody wants the answer any more. A reply is still owed, and a result is still delivered where
    /// somebody listens: cancelling asks, it does not undo.
    pub cancelled: CancelToken,
}

/// Why a call was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The caller dropped its stream or said so.
    Caller,
    /// The client missed three heartbeats, or left.
    ClientGone,
    /// The deadline passed.
    Deadline,
    /// The peer reads its chunks too slowly.
    SlowReader,
    /// A chunk was larger than a message may be.
    TooLarge,
    /// The host stops serving and has waited for this call as long as it does: the answer reaches nobody, and the
    /// client asks the next host.
    Shutdown,
}

/// Fires once, with a reason; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    fired: CancellationToken,
    reason: Arc<Mutex<Option<CancelReason>>>,
}

impl CancelToken {
    /// A token that has not fired; also for tests of services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it fired.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.fired.is_cancelled()
    }

    /// Why it fired; `None` before.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        *self.reason.lock()
    }

    /// Waits until it fires; at once when it has.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn cancelled(&self) {
        self.fired.cancelled().await;
    }

    /// Fires it; only the first reason counts.
    pub fn cancel(&self, reason: CancelReason) {
        self.reason.lock().get_or_insert(reason);
        self.fired.cancel();
    }
}

/// A chunk's bytes, counted until the last copy is gone: acknowledged, or dropped with its session.
struct Counted {
    payload: Bytes,
    backlog: Arc<Backlog>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backlog.release(self.payload.len());
    }
}

/// What a service said about one call, on its way to the queue.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) call: CallId,
    pub(crate) output: Output,
}

/// The answer owed to one call. Nothing here blocks, and it may move between tasks.
#[derive(Debug)]
pub struct Reply {
    call: CallId,
    number: u64,
    queue: mpsc::UnboundedSender<Said>,
    cancelled: CancelToken,
    backlog: Arc<Backlog>,
    next_index: AtomicU64,
    is_finished: bool,
}

impl Reply {
    pub(crate) fn new(
        call: CallId,
        number: u64,
        queue: mpsc::UnboundedSender<Said>,
        cancelled: CancelToken,
        backlog: Arc<Backlog>,
    ) -> Self {
        let next_index = AtomicU64::new(0);
        Self { call, number, queue, cancelled, backlog, next_index, is_finished: false }
    }

    /// Tells the caller that the request is admitted: from here on it ends in a result, or an error that names
    /// its effect.
    pub fn accepted(&self) {
        self.say(Output::Accepted);
    }

    /// Streams one provisional value of `attempt` at once. Dropped silently once the call is cancelled.
    ///
    /// At most 1,024 chunks and 4 MiB of a call are on their way to the peer's acknowledgement, and of all its calls
    /// what [`crate::Limits`] allows. One more cuts the stream: the call is cancelled and ends in an error of kind
    /// `slow-reader`, even if the service succeeds, because the reader has missed something; its effect is then
    /// `committed`. Who has more to say than that uses [`Reply::chunk_when_room`].
    pub fn chunk(&self, attempt: u32, value: Value) {
        if self.cancelled.is_cancelled() {
            return;
        }
        let (index, payload) = self.encode(attempt, &value);
        if payload.len() > MESSAGE_PAYLOAD_MAX {
            self.say(Output::Refused(CancelReason::TooLarge));
        } else if self.backlog.admit(payload.len()) {
            self.say_chunk(attempt, index, payload);
        } else {
            self.say(Output::Refused(CancelReason::SlowReader));
        }
    }

    /// The same at the reader's pace: waits while more than a few chunks are on their way or unread, so that a stream
    /// of chunks up to 1 MiB is never cut. False when the call was cancelled first, and the value was dropped.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready streams nothing.
    pub async fn chunk_when_room(&self, attempt: u32, value: Value) -> bool {
        let (index, payload) = self.encode(attempt, &value);
        if payload.len() > MESSAGE_PAYLOAD_MAX {
            self.say(Output::Refused(CancelReason::TooLarge));
            return false;
        }
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return false,
            () = self.backlog.admit_when_room(payload.len()) => {}
        }
        self.say_chunk(attempt, index, payload);
        true
    }

    fn encode(&self, attempt: u32, value: &Value) -> (u64, Bytes) {
        let index = self.next_index.fetch_add(1, Ordering::AcqRel);
        (index, rpc::encode_chunk(self.number, attempt, index, value))
    }

    /// `payload` was admitted.
    fn say_chunk(&self, attempt: u32, index: u64, payload: Bytes) {
        let payload = Bytes::from_owner(Counted { payload, backlog: Arc::clone(&self.backlog) });
        self.say(Output::Chunk { attempt, index, payload });
    }

    /// Says that the work goes on, so that a lease is not run out: a worker that says so is never taken for stuck.
    pub fn progress(&self) {
        self.say(Output::Progress);
    }

    /// Gives the call back untouched, or undone, so that another worker may have it. In a host's own service, where
    /// there is no other, it ends in an error of kind `gave-back` without effect.
    pub fn give_back(mut self, reason: impl Into<String>) {
        self.is_finished = true;
        self.say(Output::GaveBack { reason: reason.into() });
    }

    /// Declares every chunk so far void; `attempt` is the one that follows.
    pub fn reset(&self, attempt: u32) {
        self.next_index.store(0, Ordering::Release);
        self.say(Output::Reset { attempt });
    }

    /// Ends the call. A result too large for one message becomes an error of kind `too-large` whose effect is
    /// `committed`, because the service is done.
    pub fn finish(mut self, result: Result<Value, RpcError>) {
        self.is_finished = true;
        let outcome = encode_outcome(self.number, &result);
        self.say(Output::Finished(outcome));
    }

    fn say(&self, output: Output) {
        // A closed mailbox means that the server is gone, and its peers with it.
        let _ = self.queue.send(Said { call: self.call, output });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let error =
            RpcError::new("abandoned", Effect::Unknown, "the service dropped the call without an answer")
                .with_code(rpc::code::INTERNAL);
        let outcome = encode_outcome(self.number, &Err(error));
        self.say(Output::Finished(outcome));
    }
}

fn encode_outcome(number: u64, result: &Result<Value, RpcError>) -> Outcome {
    let outcome = match result {
        Ok(value) => Outcome { failed: None, payload: rpc::encode_result(number, value) },
        Err(error) => Outcome::error(number, error),
    };
    if outcome.payload.len() <= MESSAGE_PAYLOAD_MAX {
        return outcome;
    }
    Outcome::error(number, &too_large(outcome.failed.unwrap_or(Effect::Committed), &outcome.payload))
}

fn too_large(effect: Effect, payload: &Bytes) -> RpcError {
    let message =
        format!("the answer has {} bytes; at most {MESSAGE_PAYLOAD_MAX} fit in a message", payload.len());
    RpcError::new("too-large", effect, message).with_next("ask for less at a time, or stream it in chunks")
}
