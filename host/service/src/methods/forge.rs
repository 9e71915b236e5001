//! `forge.*`: behaviour that is made for messages which nobody understands.

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Effect, RpcError};
use telos_forge::{Policy, Spec, Ticket, WorkshopError};
use telos_kernel::SwapError;

use super::{Methods, invalid, read_error, swap_error};

/// One ticket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbered {
    ticket: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    ticket: u64,
    /// Of the component that somebody looked at.
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rejection {
    ticket: u64,
    #[serde(default)]
    why: String,
}

/// Source to try.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Try {
    source: String,
    selector: String,
    spec: Value,
    #[serde(default)]
    uses: Vec<String>,
}

/// What is to be done about misses, of an object or else of the home.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    policy: Option<String>,
}

impl Methods {
    pub(super) fn forge_history(&self) -> Value {
        let brief = |ticket: &Ticket| {
            json!({
                "ticket": ticket.number,
                "prototype": ticket.prototype_name,
                "selector": ticket.selector,
                "state": ticket.state,
                "attempts": ticket.attempts.len(),
                "component": ticket.component,
                "since_ms": ticket.since_ms,
                "cause": ticket.cause,
            })
        };
        json!({ "tickets": self.workshop.tickets().iter().map(brief).collect::<Vec<_>>() })
    }

    pub(super) fn forge_show(&self, asked: Numbered) -> Result<Value, RpcError> {
        let ticket = self.workshop.ticket(asked.ticket).map_err(workshop_error)?;
        let mut shown = json!(ticket);
        let passed = |attempt: &telos_forge::Attempt| attempt.passed();
        shown["passed"] = json!(ticket.attempts.iter().map(passed).collect::<Vec<_>>());
        Ok(shown)
    }

    pub(super) async fn forge_approve(&self, asked: Approval) -> Result<Value, RpcError> {
        let approved = self.workshop.approve(asked.ticket, asked.digest.as_deref());
        let swapped = approved.await.map_err(workshop_error)?;
        Ok(json!(swapped))
    }

    pub(super) fn forge_reject(&self, asked: Rejection) -> Result<Value, RpcError> {
        let why = if asked.why.is_empty() { "by an operator" } else { &asked.why };
        Ok(json!(self.workshop.reject(asked.ticket, why).map_err(workshop_error)?))
    }

    pub(super) async fn forge_retire(&self, asked: Numbered) -> Result<Value, RpcError> {
        Ok(json!(self.workshop.retire(asked.ticket).await.map_err(workshop_error)?))
    }

    pub(super) fn forge_reopen(&self, asked: Numbered) -> Result<Value, RpcError> {
        Ok(json!(self.workshop.reopen(asked.ticket).map_err(workshop_error)?))
    }

    pub(super) async fn forge_try(&self, asked: Try) -> Result<Value, RpcError> {
        let spec: Spec = serde_json::from_value(asked.spec).map_err(|error| {
            invalid(format!("the examples do not fit: {error}; see `telos forge try --help`"))
        })?;
        let tried = self.workshop.try_source(&asked.source, asked.uses, &spec, &asked.selector);
        let tried = tried.await.map_err(workshop_error)?;
        let mut shown = json!(tried);
        shown["passed"] = json!(tried.passed());
        Ok(shown)
    }

    pub(super) fn forge_policy(&self, wanted: Wanted) -> Result<Value, RpcError> {
        let object = match &wanted.object {
            None => None,
            Some(name) => {
                let located = self.store.begin().locate(name).map_err(read_error)?;
                Some(located.ok_or_else(|| invalid(format!("no object is called `{name}`")))?)
            }
        };
        if let Some(policy) = wanted.policy {
            let policy: Policy = policy.parse().map_err(|error: String| invalid(error))?;
            self.workshop.set_policy(object, policy).map_err(|error| workshop_error(error.into()))?;
        }
        let (home, objects) = self.workshop.policies();
        let objects: serde_json::Map<String, Value> =
            objects.into_iter().map(|(object, policy)| (object.to_string(), json!(policy))).collect();
        Ok(json!({ "home": home, "objects": objects }))
    }
}

fn workshop_error(error: WorkshopError) -> RpcError {
    let (kind, next) = match &error {
        WorkshopError::Swap(_) => return swap_cause(error),
        WorkshopError::NoSuchTicket(_) => ("no-such-ticket", Some("see `telos forge history`")),
        WorkshopError::Unfit { .. } => ("refused", Some("see `telos forge show TICKET`")),
        WorkshopError::Keep(_) => ("store", None),
        _ => ("refused", None),
    };
    let told = RpcError::new(kind, Effect::None, error.to_string());
    match next {
        Some(next) => told.with_next(next),
        None => told,
    }
}

fn swap_cause(error: WorkshopError) -> RpcError {
    match error {
        WorkshopError::Swap(error) => swap_error(error),
        other => swap_error(SwapError::CutShort(other.to_string())),
    }
}
