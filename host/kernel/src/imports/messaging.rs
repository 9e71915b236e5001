//! `messaging`: awaited sends inside the tree, posts after its commit, pieces for whoever waits.

use serde_json::Value;
use telos_store::{Json, Post, ReadError, WriteError};

use crate::contract::{messaging, types};
use crate::deliver::{Message, deliver};
use crate::effects::{Operation, Verdict};
use crate::failure::Failure;
use crate::instance::MessageState;
use crate::tree::SENDS_PER_ROOT_MAX;

/// A post that a post caused that a post caused … at most this often.
pub(crate) const HOPS_MAX: u32 = 32;

/// Most bytes of one piece.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;

type Answer<T> = wasmtime::Result<Result<T, messaging::Error>>;

impl messaging::Host for MessageState {
    async fn send(
        &mut self,
        receiver: types::ObjectId,
        selector: String,
        arguments: String,
    ) -> Answer<String> {
        if !self.is_granted("messaging")? {
            return Ok(Err(messaging::Error::Denied));
        }
        let arguments = match Json::parse(&arguments) {
            Ok(arguments) => arguments,
            Err(error) => return Ok(Err(messaging::Error::Invalid(error.to_string()))),
        };
        if !self.tree()?.count_send() {
            return Ok(Err(messaging::Error::Busy(format!(
                "{SENDS_PER_ROOT_MAX} messages were sent and awaited in one message's tree, the most there may be"
            ))));
        }
        if let Some(recorded) = self.tree()?.recorded("send") {
            return Ok(recorded.map(|answer| answer.to_string()).ok_or_else(|| {
                messaging::Error::Refused("the example has no recording for this send".into())
            }));
        }
        let message = Message { receiver: receiver.into(), selector, arguments };
        let tree = self.take_tree()?;
        let before = tree.cpu;
        let (tree, outcome) = deliver(tree, message).await;
        self.cpu.leave_out(tree.cpu.saturating_sub(before));
        self.return_tree(tree);
        if let Err(failure @ Failure::NotUnderstood { miss, .. }) = &outcome {
            let forge = &self.tree()?.surroundings.forge.0;
            // Somebody teaches it: the whole root is over, and begins again on what there is then.
            if forge.as_ref().is_some_and(|forge| forge.takes(miss.prototype, &miss.selector)) {
                return self.end(failure.clone());
            }
        }
        Ok(outcome.map(|answer| answer.as_str().to_owned()).map_err(nested_failure))
    }

    async fn post(&mut self, receiver: types::ObjectId, selector: String, arguments: String) -> Answer<()> {
        if !self.is_granted("messaging")? {
            return Ok(Err(messaging::Error::Denied));
        }
        if self.tree()?.is_read_only {
            self.note_read_only_write("(post)");
            return Ok(Err(messaging::Error::ReadOnly));
        }
        let arguments = match Json::parse(&arguments) {
            Ok(arguments) => arguments,
            Err(error) => return Ok(Err(messaging::Error::Invalid(error.to_string()))),
        };
        let source = self.receiver;
        let tree = self.tree()?;
        if tree.hops >= HOPS_MAX {
            return Ok(Err(messaging::Error::Busy(format!(
                "{HOPS_MAX} posts led here, the most there may be"
            ))));
        }
        let post = Post {
            source,
            target: receiver.into(),
            selector,
            arguments,
            hops: tree.hops + 1,
            trace: tree.root.trace.clone(),
        };
        match tree.unit.post(post) {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(self.post_refusal(error)?)),
        }
    }

    async fn emit(&mut self, chunk: String) -> Answer<()> {
        if !self.is_granted("messaging")? {
            return Ok(Err(messaging::Error::Denied));
        }
        if chunk.len() > CHUNK_BYTES_MAX {
            let refusal = format!("a piece of {} bytes; at most {CHUNK_BYTES_MAX}", chunk.len());
            return Ok(Err(messaging::Error::Invalid(refusal)));
        }
        let value: Value = match serde_json::from_str(&chunk) {
            Ok(value) => value,
            Err(error) => return Ok(Err(messaging::Error::Invalid(error.to_string()))),
        };
        let tree = self.tree()?;
        let Some(sink) = tree.root.sink.clone() else {
            return Ok(Ok(()));
        };
        match tree.effects.ask(Operation::Emit, chunk.as_bytes()) {
            Verdict::Diverged => self.end(Failure::Conflict { attempts: 0 }),
            verdict => {
                if verdict == Verdict::Live {
                    tree.effects.record(Operation::Emit, chunk.as_bytes(), String::new());
                }
                // A sender that reads slowly slows the message down, up to the deadline that ends the whole tree.
                let attempt = tree.root.attempt;
                sink.chunk_when_room(attempt, value).await;
                Ok(Ok(()))
            }
        }
    }
}

impl MessageState {
    /// Ends the message here: the guest traps, and the sender gets `failure` rather than blame for the guest.
    pub(crate) fn end<T>(&mut self, failure: Failure) -> wasmtime::Result<T> {
        let text = failure.to_string();
        self.ended = Some(failure);
        Err(wasmtime::Error::msg(text))
    }

    fn post_refusal(&mut self, error: WriteError) -> wasmtime::Result<messaging::Error> {
        Ok(match error {
            WriteError::Read(ReadError::NoSuchObject(_)) => messaging::Error::NoSuchObject,
            WriteError::Invalid(error) => messaging::Error::Invalid(error.to_string()),
            WriteError::TooLarge(error) | WriteError::Read(ReadError::TooLarge(error)) => {
                messaging::Error::Busy(error.to_string())
            }
            other => messaging::Error::Failed(self.host_incident("messaging", &other.to_string())?),
        })
    }
}

fn nested_failure(failure: Failure) -> messaging::Error {
    let text = failure.to_string();
    match failure {
        Failure::NoSuchObject(_) => messaging::Error::NoSuchObject,
        Failure::NotUnderstood { .. } => messaging::Error::NotUnderstood(text),
        Failure::NotServing { .. } | Failure::Requirement { .. } => messaging::Error::NotUnderstood(text),
        Failure::BadArguments(text) => messaging::Error::Invalid(text),
        Failure::Refused(text) => messaging::Error::Refused(text),
        Failure::Broken { incident, .. } => messaging::Error::Broken(incident),
        Failure::Busy(text) | Failure::Full(text) | Failure::NoRoom(text) => messaging::Error::Busy(text),
        Failure::Deadline => messaging::Error::Deadline,
        Failure::ReadOnly(_) => messaging::Error::ReadOnly,
        Failure::Host { incident, .. } => messaging::Error::Failed(incident),
        Failure::Conflict { .. }
        | Failure::Retired
        | Failure::Session(_)
        | Failure::AnswerForgotten
        | Failure::UnknownSession
        | Failure::Unavailable(_) => messaging::Error::Busy(text),
    }
}
