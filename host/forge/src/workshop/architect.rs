//! The architect: the plugin that says what a behaviour is to do, and writes it. Prompts and minds are its business.
//!
//! ```text
//! specify   {selector, arguments, object}                                   what is asked; sees no source
//! write     {selector, arguments, object, spec, attempt, faults}            source; sees no examples but the spec's
//! ```

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use telos_kernel::{Kernel, Root};
use telos_store::Json;

use crate::spec::Spec;
use crate::ticket::Ticket;

/// The object that is asked.
pub(crate) const ARCHITECT: &str = "architect";
/// Time for one answer: a mind may be loaded first.
const ANSWER_TIME: Duration = Duration::from_secs(180);

/// What the architect writes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Draft {
    /// One ES module.
    pub(crate) source: String,
    /// Interfaces that it uses besides storage and logging.
    #[serde(default)]
    pub(crate) uses: Vec<String>,
    /// What the mind was asked.
    #[serde(default)]
    pub(crate) prompt: Value,
    /// Which mind was asked.
    #[serde(default)]
    pub(crate) mind: String,
    /// With which seed.
    #[serde(default)]
    pub(crate) seed: u64,
}

/// Asks what a ticket's behaviour is to do.
pub(crate) async fn specify(kernel: &Kernel, ticket: &Ticket) -> Result<Spec, String> {
    let answer = ask(kernel, "specify", &about(ticket)).await?;
    let spec: Spec =
        serde_json::from_value(answer).map_err(|error| format!("the architect's `specify`: {error}"))?;
    spec.check().map_err(|problem| format!("the architect's `specify`: {problem}"))?;
    Ok(spec)
}

/// Asks for source, with what was wrong with the best attempt so far.
pub(crate) async fn write(kernel: &Kernel, ticket: &Ticket) -> Result<Draft, String> {
    let mut about = about(ticket);
    about["spec"] = json!(ticket.spec);
    about["attempt"] = json!(ticket.attempts.len() + 1);
    if let Some(best) = ticket.best() {
        about["previous"] = json!({ "source": best.source, "faults": best.faults() });
    }
    let answer = ask(kernel, "write", &about).await?;
    serde_json::from_value(answer).map_err(|error| format!("the architect's `write`: {error}"))
}

fn about(ticket: &Ticket) -> Value {
    json!({
        "selector": ticket.selector,
        "arguments": ticket.trigger.arguments,
        "object": { "name": ticket.prototype_name, "slots": object_of(&ticket.trigger.slots) },
    })
}

fn object_of(slots: &[(String, Value)]) -> Value {
    Value::Object(slots.iter().cloned().collect())
}

async fn ask(kernel: &Kernel, selector: &str, arguments: &Value) -> Result<Value, String> {
    let arguments = Json::from_value(arguments).map_err(|error| format!("the request: {error}"))?;
    let root = Root {
        receiver: ARCHITECT.into(),
        selector: selector.into(),
        arguments,
        deadline: Instant::now() + ANSWER_TIME,
        request: None,
        sink: None,
    };
    let answer = kernel.send(root).await.map_err(|failure| {
        format!("the architect did not answer: {failure}; see `telos plugin info {ARCHITECT}`")
    })?;
    Ok(answer.value)
}
