//! `object.forget`: objects go for good, their rows in one commit and their bytes with the rewrite that follows.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Effect, Reply, RpcError};
use telos_kernel::ObjectError;
use telos_store::{Children, ObjectId, ObjectName, Store};

use super::{Methods, object_error, read_error};
use crate::outcome;

/// Who forgets, for the audit row.
const BY: &str = "operator";
/// Rows told that still name an object; more are only counted.
const TRACES_TOLD: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    objects: Vec<String>,
    /// Without it nothing is forgotten, and the answer says what would be.
    #[serde(default)]
    yes: bool,
    /// Whoever delegates to one of them gets a state without it; else that is a refusal.
    #[serde(default)]
    detach: bool,
    /// Whether the file is left as it is, old bytes in free pages included.
    #[serde(default)]
    no_rewrite: bool,
}

impl Methods {
    pub(super) async fn object_forget(&self, reply: &Arc<Reply>, asked: Forget) -> Result<Value, RpcError> {
        let ids = self.forgettable(&asked.objects)?;
        if !asked.yes {
            let would = ids.iter().map(|id| self.would_forget(*id)).collect::<Result<Vec<_>, _>>()?;
            return Ok(json!({ "forgotten": null, "would_forget": would }));
        }
        let children = if asked.detach { Children::Detach } else { Children::Refuse };
        let going = ids.clone();
        let forget = move |store: &Store| outcome::forgotten(store.forget(&going, BY, children));
        let forgotten = self.whole_store(reply, move |store, _| forget(store)).await?;
        let rewritten = match asked.no_rewrite {
            true => Value::Null,
            false => self.store_rewrite(reply).await.map_err(rewrite_due)?,
        };
        let (count, traces) = self.traces(ids).await?;
        Ok(json!({
            "forgotten": forgotten,
            "rewritten": rewritten,
            "traces_left": count,
            "traces": traces,
        }))
    }

    /// The objects; refuses what a serving component stands on.
    fn forgettable(&self, targets: &[String]) -> Result<Vec<ObjectId>, RpcError> {
        let resolve = |target: &String| self.kernel.resolve(target).map_err(object_error);
        let ids = targets.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        let mut unit = self.store.begin();
        for seat in self.store.seats().map_err(read_error)? {
            let component = seat.component.to_string();
            let Ok(name) = ObjectName::new(&component) else { continue };
            let root = unit.find(&name).map_err(read_error)?;
            if root.is_some_and(|root| ids.contains(&root)) {
                let message = format!("`{component}` is the root object of a plugin that serves");
                let next = format!("`telos plugin remove {component}` first");
                return Err(RpcError::new("refused", Effect::None, message).with_next(next));
            }
        }
        Ok(ids)
    }

    fn would_forget(&self, id: ObjectId) -> Result<Value, RpcError> {
        let mut unit = self.store.begin();
        let names = unit.names_of(id).map_err(read_error)?;
        let object = unit.object(id).map_err(read_error)?;
        let object = object.ok_or_else(|| object_error(ObjectError::NoSuchObject(id.to_string())))?;
        Ok(json!({
            "id": id,
            "names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "owner": object.owner,
            "revisions": object.revision.get(),
        }))
    }

    /// How many rows still name one of the objects, and the first of them. Each object costs one reading of the store.
    async fn traces(&self, ids: Vec<ObjectId>) -> Result<(usize, Value), RpcError> {
        let store = self.store.clone();
        let search = move || {
            let (mut count, mut told) = (0, Vec::new());
            for id in ids {
                let traces = store.traces_of(id).map_err(read_error)?;
                count += traces.len();
                told.extend(traces.into_iter().take(TRACES_TOLD.saturating_sub(told.len())));
            }
            Ok((count, json!(told)))
        };
        let lost =
            |error: tokio::task::JoinError| RpcError::new("host", Effect::Committed, error.to_string());
        tokio::task::spawn_blocking(search).await.map_err(lost)?
    }
}

fn rewrite_due(mut error: RpcError) -> RpcError {
    error.message =
        format!("the objects are forgotten, their bytes may still be in the file: {}", error.message);
    error.data.effect = Effect::Committed;
    error.with_next("`telos store rewrite`")
}
