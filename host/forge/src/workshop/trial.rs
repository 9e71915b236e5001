//! One draft through the gate, in the layer that it asks for.

use std::collections::BTreeMap;

use serde_json::Value;
use telos_kernel::{Kernel, Recording, TrialMessage, TrialOrder, Tried, Tryout};

use crate::assemble::assemble;
use crate::behaviour::Behaviour;
use crate::engine::Engine;
use crate::gate::{Check, Fault, Outcome, Probe, check, judge, probes};
use crate::layer::{Isolation, Layer};
use crate::spec::Spec;
use crate::ticket::Trigger;

/// A process that was ended from outside is replaced once: nobody's work is lost for that.
const PROCESSES: usize = 2;

/// What came of a trial.
pub(crate) struct Verdict {
    pub(crate) checks: Vec<Check>,
    /// The component, when there is one.
    pub(crate) component: Option<Vec<u8>>,
    /// Where it was tried; none when it did not come to that.
    pub(crate) layer: Option<Layer>,
}

/// What it is tried with.
pub(crate) struct Means<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) engine: &'a Engine,
    pub(crate) isolation: Option<&'a dyn Isolation>,
}

/// Tries a behaviour. An error is this host's, and says nothing of the behaviour.
pub(crate) async fn try_behaviour(
    means: Means<'_>,
    behaviour: &Behaviour,
    (spec, trigger, selector): (&Spec, &Trigger, &str),
) -> Result<Verdict, String> {
    let refused = |layer, name: &str, detail: String| {
        Ok(Verdict { checks: vec![check(name.into(), Err(detail))], component: None, layer })
    };
    let component = match assemble(means.engine, behaviour) {
        Ok(component) => component,
        Err(error) => return refused(None, "it is assembled", error.to_string()),
    };
    let probes = probes(spec, trigger);
    let order = TrialOrder {
        module: means.engine.name.into(),
        text: serde_json::to_string(behaviour).map_err(|error| error.to_string())?,
        component,
        selector: selector.into(),
        messages: probes.iter().map(message).collect(),
    };
    let asks_for_more = !behaviour.uses.is_empty();
    let (tryout, layer) = match means.isolation.filter(|_| asks_for_more) {
        Some(isolation) => apart(means.kernel, isolation, &order).await?,
        None => {
            let layer = if asks_for_more { Layer::Shared } else { Layer::Restricted };
            (means.kernel.try_out(order.clone()).await, layer)
        }
    };
    let layer = Some(layer);
    let outcomes: Vec<Outcome> = match tryout {
        Tryout::Tried(tried) if tried.len() == probes.len() => tried.into_iter().map(outcome).collect(),
        Tryout::Tried(tried) => {
            let detail = format!("{} answers to {} messages", tried.len(), probes.len());
            return refused(layer, "it answers each message once", detail);
        }
        Tryout::NotStarting(cause) => return refused(layer, "it starts", cause),
        Tryout::NoComponent(cause) => return refused(layer, "it is a component", cause),
        Tryout::Exceeded(cause) => return refused(layer, "it keeps within its process", cause),
        Tryout::Hindered(cause) => return Err(cause),
    };
    let mut checks = vec![check("it starts".into(), Ok(()))];
    checks.extend(judge(spec, &probes, &outcomes, &satisfies));
    Ok(Verdict { checks, component: Some(order.component), layer })
}

/// In a process of its own, and in another one where the first was hindered.
async fn apart(
    kernel: &Kernel,
    isolation: &dyn Isolation,
    order: &TrialOrder,
) -> Result<(Tryout, Layer), String> {
    let code = kernel.module_code(order.module.clone()).await?;
    let mut told = String::new();
    for _ in 0..PROCESSES {
        match isolation.try_out(order, &code).await {
            (Tryout::Hindered(cause), _) => told = cause,
            (tryout, confinement) => return Ok((tryout, Layer::Isolated { confinement })),
        }
    }
    Err(told)
}

fn message(probe: &Probe) -> TrialMessage {
    let recording = |(operation, answer): &(String, Value)| Recording {
        operation: operation.clone(),
        answer: answer.clone(),
    };
    TrialMessage {
        before: probe.before.clone(),
        arguments: probe.arguments.clone(),
        recordings: probe.recordings.iter().map(recording).collect(),
    }
}

fn outcome(tried: Tried) -> Outcome {
    let after: BTreeMap<String, Value> = tried.after;
    let answer =
        tried.outcome.map_err(|failure| Fault { is_refusal: failure.is_refusal, text: failure.text });
    Outcome { answer, after, fuel: tried.fuel }
}

fn satisfies(schema: &Value, answer: &Value) -> Result<(), String> {
    let validator =
        jsonschema::validator_for(schema).map_err(|error| format!("its schema is not one: {error}"))?;
    validator.validate(answer).map_err(|error| format!("answered {answer}: {error}"))
}
