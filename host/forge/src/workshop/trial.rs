//! One draft through the gate.

use std::collections::BTreeMap;

use serde_json::Value;
use telos_kernel::{BootError, Kernel, Limits, Recording, SwapError, TrialMessage, Tried};

use crate::assemble::assemble;
use crate::behaviour::Behaviour;
use crate::engine::Engine;
use crate::gate::{Check, Fault, Outcome, Probe, check, judge, probes};
use crate::spec::Spec;
use crate::ticket::Trigger;

/// What came of a trial.
pub(crate) struct Verdict {
    pub(crate) checks: Vec<Check>,
    /// The component, when there is one.
    pub(crate) component: Option<Vec<u8>>,
}

/// Tries a behaviour. An error is this host's, and says nothing of the behaviour.
pub(crate) async fn try_behaviour(
    kernel: &Kernel,
    engine: &Engine,
    behaviour: &Behaviour,
    (spec, trigger, selector): (&Spec, &Trigger, &str),
) -> Result<Verdict, String> {
    let refused = |name: &str, detail: String| {
        Ok(Verdict { checks: vec![check(name.into(), Err(detail))], component: None })
    };
    let component = match assemble(engine, behaviour) {
        Ok(component) => component,
        Err(error) => return refused("it is assembled", error.to_string()),
    };
    let text = serde_json::to_string(behaviour).map_err(|error| error.to_string())?;
    match kernel.boot(engine.name.into(), text).await {
        Ok(()) => {}
        Err(BootError::Hindered(cause)) => return Err(cause),
        Err(error) => return refused("it starts", error.to_string()),
    }
    let probes = probes(spec, trigger);
    let messages = probes.iter().map(message).collect();
    let tried = kernel.try_messages(component.clone(), Limits::default(), selector.into(), messages).await;
    let outcomes: Vec<Outcome> = match tried {
        Ok(tried) => tried.into_iter().map(outcome).collect(),
        Err(SwapError::Examine { error, .. }) if !error.is_of_the_moment() => {
            return refused("it is a component", error.to_string());
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut checks = vec![check("it starts".into(), Ok(()))];
    checks.extend(judge(spec, &probes, &outcomes, &satisfies));
    Ok(Verdict { checks, component: Some(component) })
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
    Outcome { answer, after }
}

fn satisfies(schema: &Value, answer: &Value) -> Result<(), String> {
    let validator =
        jsonschema::validator_for(schema).map_err(|error| format!("its schema is not one: {error}"))?;
    validator.validate(answer).map_err(|error| format!("answered {answer}: {error}"))
}
