//! `object.*`: messages to objects, and an operator's hands on them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, Reply, Role, RpcError};
use telos_kernel::Root;
use telos_kernel::seams::StreamSink;
use telos_store::limit::HISTORY_ROWS_MAX;
use telos_store::{Json, Revision};

use super::{Methods, dedupe_key, invalid, message_error, object_error, params};
use crate::turnstile::Turn;

/// Most rows of one answer.
const LIMIT_MAX: usize = 1_000;
const LIMIT: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    object: String,
    selector: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Show {
    object: String,
    as_of: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    #[serde(default)]
    parents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    object: String,
    slot: String,
    value: Option<Value>,
    #[serde(default)]
    remove: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unname {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    object: String,
    before: Option<u64>,
    limit: Option<usize>,
}

/// Pieces of an answer on their way to the caller.
struct ReplySink(Arc<Reply>);

#[async_trait]
impl StreamSink for ReplySink {
    fn chunk(&self, attempt: u32, value: Value) {
        self.0.chunk(attempt, value);
    }

    async fn chunk_when_room(&self, attempt: u32, value: Value) {
        // False says that the call was cancelled, and whoever cancelled it stops the message.
        self.0.chunk_when_room(attempt, value).await;
    }

    fn reset(&self, attempt: u32) {
        self.0.reset(attempt);
    }
}

impl Methods {
    /// Writes of one session to one receiver run in the order in which they came: `turn` keeps it until the kernel has
    /// given the message its place.
    pub(super) async fn object_send(
        &self,
        call: &Call,
        turn: Option<Turn>,
        reply: &Arc<Reply>,
    ) -> Result<Value, RpcError> {
        let send: Send = params(call)?;
        let arguments = Json::parse(&send.arguments.to_string()).map_err(|error| {
            invalid(format!("the arguments of `{}` have {error}", send.selector))
                .with_next("send it in smaller pieces")
        })?;
        let root = Root {
            receiver: send.object,
            selector: send.selector,
            arguments,
            deadline: call.deadline,
            request: Some(dedupe_key(call)),
            sink: Some(Arc::new(ReplySink(Arc::clone(reply)))),
        };
        let lined_up = match turn {
            Some(mut turn) => {
                turn.come().await;
                self.kernel.line_up(root)
            }
            None => self.kernel.line_up(root),
        };
        let answer = lined_up.answer().await.map_err(|failure| message_error(&failure))?;
        Ok(json!({
            "value": answer.value,
            "position": answer.position.map(|position| position.get()),
            "replayed": answer.is_replay,
        }))
    }

    pub(super) fn object_list(&self, list: List) -> Result<Value, RpcError> {
        let limit = list.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        let objects = self.kernel.objects(&list.prefix, &list.after, limit).map_err(object_error)?;
        Ok(json!({ "objects": objects }))
    }

    /// The past is for operators, as histories are.
    pub(super) fn object_show(&self, call: &Call) -> Result<Value, RpcError> {
        let Show { object, as_of } = params(call)?;
        match as_of {
            None => self.kernel.object(&object).map_err(object_error),
            Some(_) if call.role != Role::Operator => {
                Err(super::denied("the past of objects is for operators"))
            }
            Some(as_of) => self.object_as_of(&object, &as_of),
        }
    }

    pub(super) async fn object_new(&self, call: &Call) -> Result<Value, RpcError> {
        let new: New = params(call)?;
        let made = self.deciding(call).new_object(&new.name, &new.parents).await;
        let (id, position) = made.map_err(object_error)?;
        Ok(json!({ "id": id, "name": new.name, "position": position }))
    }

    pub(super) async fn object_set(&self, call: &Call) -> Result<Value, RpcError> {
        let set: Set = params(call)?;
        let value = match (&set.value, set.remove) {
            (Some(_), true) => return Err(invalid("give a value or `remove`, not both")),
            (None, false) => Some(&Value::Null),
            (value, _) => value.as_ref(),
        };
        let done = self.deciding(call).set_slot(&set.object, &set.slot, value).await;
        let (id, position) = done.map_err(object_error)?;
        Ok(json!({ "id": id, "position": position }))
    }

    pub(super) async fn object_unname(&self, call: &Call) -> Result<Value, RpcError> {
        let unname: Unname = params(call)?;
        let unnamed = self.deciding(call).unname(&unname.name).await;
        let (id, position) = unnamed.map_err(object_error)?;
        Ok(json!({ "id": id, "name": unname.name, "position": position }))
    }

    pub(super) fn object_history(&self, history: History) -> Result<Value, RpcError> {
        let limit = history.limit.unwrap_or(HISTORY_ROWS_MAX).clamp(1, HISTORY_ROWS_MAX);
        let before = history.before.map(Revision::new);
        let page = self.kernel.object_history(&history.object, before, limit);
        let revisions = page.map_err(object_error)?;
        // A short page is the last one; a full one may be, and then the next is empty.
        let last = revisions.last().filter(|_| revisions.len() == limit);
        let next_before = last.map(|revision| revision["revision"].clone());
        Ok(json!({ "revisions": revisions, "next_before": next_before }))
    }
}
