//! Trials: a release's own examples, run on scratch storage with recorded answers, before it may serve.
//!
//! Nothing a trial does is ever committed: every example gets a fresh unit on an empty store in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use telos_store::{Json, MethodSlot, Object, ObjectId, Position, ReadError, Slot, Store, WriteError};

use crate::allowance::Allowances;
use crate::budget::InferenceTerms;
use crate::deliver::{Message, deliver_root};
use crate::descriptor::{Example, Expectation, Recording};
use crate::dispatch::Surroundings;
use crate::effects::EffectLog;
use crate::engine::Engines;
use crate::failure::{Failure, Fault};
use crate::grant::Grants;
use crate::miss::ForgeSeat;
use crate::pace::Pace;
use crate::seams::{JournalSink, NoMinds, Unheard};
use crate::seat::{Release, SeatTable};
use crate::tree::{Answers, RootClock, RootContext, Tree};
use crate::tryout;

/// Time for one example.
const EXAMPLE_TIME: Duration = Duration::from_secs(10);

/// All examples of a release together may take as much of the processor as so many messages. Each has a limit of its
/// own, but there is no end to how many somebody can write down.
const EXAMPLES_CPU: u32 = 30;

/// The moment every example happens at: 2026-01-01T00:00:00Z.
const EXAMPLE_WALL: Duration = Duration::from_secs(1_767_225_600);

/// How one example went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// The selector it is an example of.
    pub selector: String,
    /// Its name.
    pub name: String,
    /// It went as promised.
    pub passed: bool,
    /// What differed; empty when it passed.
    pub detail: String,
}

/// A message to a release on scratch storage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TrialMessage {
    /// Slots of the receiver before, by name.
    pub before: Vec<(String, Value)>,
    /// The arguments.
    pub arguments: Value,
    /// What the host answers to `generate`, `embed`, `send` and `recall`, in their order.
    pub recordings: Vec<Recording>,
}

/// How a message on scratch storage ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The answer, or why there is none.
    pub outcome: Result<Value, TriedFailure>,
    /// The receiver's value slots afterwards; as before when there is no answer.
    pub after: BTreeMap<String, Value>,
    /// Time it took on this machine, in microseconds.
    pub elapsed_us: u64,
    /// Work of its instance in wasmtime's units of fuel, about one an instruction; starting included.
    pub fuel: u64,
}

/// Why a message on scratch storage has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedFailure {
    /// The release declined, in its own words; else it failed.
    pub is_refusal: bool,
    /// In words.
    pub text: String,
}

/// Sends messages to a release that was linked for the metered engine, each on storage of its own.
///
/// An error is this host's, and says nothing of the release.
pub(crate) async fn try_messages(
    engines: &Engines,
    scratch: Store,
    release: &Arc<Release>,
    selector: &str,
    messages: &[TrialMessage],
) -> Result<Vec<Tried>, String> {
    let journal: Arc<dyn JournalSink> = Arc::new(Unheard);
    let room = Room::new(engines, scratch, release, &journal);
    let _running = engines.running();
    let mut tried = Vec::new();
    for message in messages {
        let start = Instant::now();
        let (mut tree, receiver, outcome) = room.send(selector, message).await.map_err(Missed::into_text)?;
        if let Err(failure) = &outcome
            && (failure.fault() == Fault::Host || matches!(failure, Failure::Deadline))
        {
            return Err(failure.to_string());
        }
        let object = tree.unit.object(receiver).map_err(|error| error.to_string())?;
        tried.push(Tried {
            outcome: outcome.map(|answer| answer.to_value()).map_err(|failure| TriedFailure {
                is_refusal: matches!(failure, Failure::Refused(_) | Failure::BadArguments(_)),
                text: told(&failure),
            }),
            after: object.map(|object| values(&object)).unwrap_or_default(),
            elapsed_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
            fuel: tree.fuel,
        });
    }
    Ok(tried)
}

/// A failure without the number under which the journal would have it, which differs each time.
fn told(failure: &Failure) -> String {
    match failure {
        Failure::Broken { breakage, .. } => format!("it {breakage}"),
        failure => failure.to_string(),
    }
}

fn values(object: &Object) -> BTreeMap<String, Value> {
    let value = |(name, slot): (&String, &Slot)| match slot {
        Slot::Value(value) => Some((name.clone(), value.to_value())),
        Slot::Method(_) => None,
    };
    object.slots.iter().filter_map(value).collect()
}

/// Why an example did not end as promised.
enum Missed {
    /// The release does something else.
    Promise(String),
    /// This host could not run it; another try may go otherwise.
    Host(String),
}

/// Runs every example of a release that was linked for the metered engine.
///
/// An error is this host's, and says nothing of the release.
pub(crate) async fn run_examples(
    engines: &Engines,
    release: &Arc<Release>,
    journal: &Arc<dyn JournalSink>,
) -> Result<Vec<ExampleResult>, String> {
    let room = Room::new(engines, tryout::scratch()?, release, journal);
    let _running = engines.running();
    let mut results = Vec::new();
    for (selector, spec) in &release.descriptor.selectors {
        for example in &spec.examples {
            let run = async {
                within_cpu(release)?;
                run_example(&room, selector, example).await
            };
            let detail = match run.await {
                Ok(()) => None,
                Err(Missed::Promise(detail)) => Some(detail),
                Err(Missed::Host(cause)) => return Err(cause),
            };
            results.push(ExampleResult {
                selector: selector.clone(),
                name: example.name.clone(),
                passed: detail.is_none(),
                detail: detail.unwrap_or_default(),
            });
        }
    }
    Ok(results)
}

/// The examples before this one left something for it.
fn within_cpu(release: &Release) -> Result<(), Missed> {
    let allowed = release.limits.cpu() * EXAMPLES_CPU;
    if Duration::from_micros(release.tally.usage().cpu_us) <= allowed {
        return Ok(());
    }
    Err(Missed::Promise(format!("was not run: those before it used up the {allowed:?} of CPU that all have")))
}

/// An empty store in memory, and a release on it.
struct Room {
    scratch: Store,
    surroundings: Arc<Surroundings>,
    release: Arc<Release>,
}

impl Room {
    fn new(
        engines: &Engines,
        scratch: Store,
        release: &Arc<Release>,
        journal: &Arc<dyn JournalSink>,
    ) -> Self {
        let surroundings = Arc::new(Surroundings {
            pacer: engines.pacer.clone(),
            grants: Arc::new(Grants::everything(&release.component)),
            journal: Arc::clone(journal),
            minds: Arc::new(NoMinds),
            allowances: Allowances::new(InferenceTerms::default()),
            archivist: None,
            forge: ForgeSeat::default(),
        });
        Self { scratch, surroundings, release: Arc::clone(release) }
    }

    async fn send(
        &self,
        selector: &str,
        message: &TrialMessage,
    ) -> Result<(Box<Tree>, ObjectId, Result<Json, Failure>), Missed> {
        let (tree, receiver) = scratch_tree(self, selector, message)?;
        let arguments = Json::parse(&message.arguments.to_string()).map_err(promise)?;
        let message = Message { receiver, selector: selector.to_owned(), arguments };
        let delivered = tokio::time::timeout(EXAMPLE_TIME, deliver_root(tree, message, None)).await;
        // Computing is bounded by fuel; the clock only tells that this machine had no time for it.
        let out_of_time =
            |_| Missed::Host(format!("an example took longer than {EXAMPLE_TIME:?} on this machine"));
        let (tree, outcome) = delivered.map_err(out_of_time)?;
        Ok((tree, receiver, outcome))
    }
}

async fn run_example(room: &Room, selector: &str, example: &Example) -> Result<(), Missed> {
    let Example { before, arguments, recordings, .. } = example.clone();
    let message = TrialMessage { before, arguments, recordings };
    let (mut tree, receiver, outcome) = room.send(selector, &message).await?;
    judge(&example.expect, &outcome)?;
    if outcome.is_ok() {
        compare_slots(&mut tree, receiver, &example.after)?;
    }
    Ok(())
}

impl Missed {
    fn into_text(self) -> String {
        let (Self::Promise(text) | Self::Host(text)) = self;
        text
    }
}

/// What stands in the way is the example's own.
fn promise(error: impl std::fmt::Display) -> Missed {
    Missed::Promise(error.to_string())
}

fn written(error: WriteError) -> Missed {
    match error {
        WriteError::Read(ReadError::Failed(failure)) => host(failure),
        other => promise(other),
    }
}

/// This host failed.
fn host(error: impl std::fmt::Display) -> Missed {
    Missed::Host(error.to_string())
}

fn scratch_tree(
    room: &Room,
    selector: &str,
    message: &TrialMessage,
) -> Result<(Box<Tree>, ObjectId), Missed> {
    let Room { scratch, surroundings, release } = room;
    let mut unit = scratch.begin();
    let generation = release.descriptor.generation;
    let receiver = unit.create(release.component.clone(), generation, Vec::new()).map_err(written)?;
    let method = MethodSlot {
        component: release.component.clone(),
        requirement: "*".into(),
        selector: selector.to_owned(),
    };
    unit.set_slot(receiver, selector, Slot::Method(method)).map_err(written)?;
    for (name, value) in &message.before {
        let value = Json::parse(&value.to_string()).map_err(promise)?;
        unit.set_slot(receiver, name, Slot::Value(value)).map_err(written)?;
    }
    let releases = BTreeMap::from([(release.component.clone(), Arc::clone(release))]);
    let tree = Tree {
        unit,
        seats: Arc::new(SeatTable { position: Position::default(), releases }),
        surroundings: Arc::clone(surroundings),
        root: Arc::new(RootContext {
            trace: format!("{:032x}", 0),
            deadline: Instant::now() + EXAMPLE_TIME,
            clock: RootClock::at(EXAMPLE_WALL),
            seed: [7; 32],
            sink: None,
            attempt: 1,
            pace: Pace::default(),
        }),
        effects: EffectLog::default(),
        answers: Answers::Recorded(VecDeque::from(message.recordings.clone())),
        depth: 0,
        is_read_only: false,
        instances: 0,
        instance: Duration::ZERO,
        fuel: 0,
        sends: 0,
        hops: 0,
        cpu: Duration::ZERO,
        breakages: Vec::new(),
    };
    Ok((Box::new(tree), receiver))
}

fn judge(expect: &Expectation, outcome: &Result<Json, Failure>) -> Result<(), Missed> {
    match outcome {
        Err(failure) if failure.fault() == Fault::Host => Err(host(failure)),
        Err(Failure::Deadline) => Err(host(Failure::Deadline)),
        _ => compare_answer(expect, outcome).map_err(Missed::Promise),
    }
}

fn compare_answer(expect: &Expectation, outcome: &Result<Json, Failure>) -> Result<(), String> {
    match (expect, outcome) {
        (Expectation::Refusal, Err(Failure::Refused(_) | Failure::BadArguments(_))) => Ok(()),
        (Expectation::Refusal, Ok(answer)) => Err(format!("answered {answer} instead of refusing")),
        (_, Err(failure)) => Err(failure.to_string()),
        (Expectation::Value(wanted), Ok(answer)) if &answer.to_value() == wanted => Ok(()),
        (Expectation::Value(wanted), Ok(answer)) => Err(format!("answered {answer} instead of {wanted}")),
        (Expectation::Schema(schema), Ok(answer)) => satisfies(schema, &answer.to_value()),
    }
}

fn satisfies(schema: &Value, answer: &Value) -> Result<(), String> {
    if let Some(reference) = reference(schema) {
        return Err(format!(
            "its schema has a `{reference}`; the schema of an example says everything in place"
        ));
    }
    let validator =
        jsonschema::validator_for(schema).map_err(|error| format!("its schema is not one: {error}"))?;
    validator.validate(answer).map_err(|error| format!("answered {answer}: {error}"))
}

/// The first reference in a schema. One that is followed twice by each of forty definitions is never done with, and this
/// is the host's own time.
fn reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Array(parts) => parts.iter().find_map(reference),
        Value::Object(parts) => parts.iter().find_map(|(name, part)| match name.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" => Some(name.as_str()),
            _ => reference(part),
        }),
        _ => None,
    }
}

fn compare_slots(tree: &mut Tree, receiver: ObjectId, after: &[(String, Value)]) -> Result<(), Missed> {
    let object = tree.unit.object(receiver).map_err(host)?.ok_or_else(|| promise("lost its receiver"))?;
    for (name, wanted) in after {
        match object.slots.get(name) {
            Some(Slot::Value(value)) if &value.to_value() == wanted => {}
            Some(Slot::Value(value)) => {
                return Err(Missed::Promise(format!("left slot `{name}` at {value} instead of {wanted}")));
            }
            _ => return Err(Missed::Promise(format!("left no slot `{name}`; it should be {wanted}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_everything_in_place() {
        let schema = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let whole = schema(r#"{"type": "array", "items": {"type": "integer"}}"#);
        assert!(satisfies(&whole, &Value::from(vec![1, 2])).is_ok());
        assert!(satisfies(&whole, &Value::from(1)).is_err());
        let endless = schema(r##"{"anyOf": [{"type": "integer"}, {"$ref": "#"}]}"##);
        assert!(satisfies(&endless, &Value::from(1)).unwrap_err().contains("`$ref`"));
    }

    #[test]
    fn the_want_of_a_host_breaks_no_promise() {
        let (host, guest) = (
            Failure::Host { cause: "no memory for an instance".into(), incident: 1 },
            Failure::Refused("it is odd".into()),
        );
        assert!(matches!(judge(&Expectation::Refusal, &Err(host)), Err(Missed::Host(_))));
        assert!(matches!(judge(&Expectation::Refusal, &Err(Failure::Deadline)), Err(Missed::Host(_))));
        assert!(judge(&Expectation::Refusal, &Err(guest.clone())).is_ok());
        let wanted = Expectation::Value(Value::from(2));
        assert!(matches!(judge(&wanted, &Err(guest)), Err(Missed::Promise(_))));
        assert!(matches!(judge(&wanted, &Ok(Json::parse("3").unwrap())), Err(Missed::Promise(_))));
        assert!(judge(&wanted, &Ok(Json::parse("2").unwrap())).is_ok());
    }
}
