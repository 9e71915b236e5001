//! What of the host JavaScript reaches: each function of the contract as one that takes and gives texts.

use rquickjs::{Ctx, Exception, Function, Object, Result};
use serde::{Deserialize, Serialize};

use crate::bindings::exports::telos::host::handler::Message;
use crate::bindings::telos::host::{inference, logging, messaging, moment, storage, types, vectors};

/// An object's identity as text: 32 hex digits.
pub(crate) fn told(object: <Message as Receiver>::Object) -> String {
    shown(object)
}

/// The object that the prelude is given.
pub(crate) fn offer<'js>(context: &Ctx<'js>) -> Result<Object<'js>> {
    let host = Object::new(context.clone())?;
    host.set("lookup", Function::new(context.clone(), lookup)?)?;
    host.set("slots", Function::new(context.clone(), slots)?)?;
    host.set("write", Function::new(context.clone(), write)?)?;
    host.set("remove", Function::new(context.clone(), remove)?)?;
    host.set("find", Function::new(context.clone(), find)?)?;
    host.set("log", Function::new(context.clone(), log)?)?;
    host.set("now", Function::new(context.clone(), now)?)?;
    host.set("seed", Function::new(context.clone(), seed)?)?;
    host.set("send", Function::new(context.clone(), send)?)?;
    host.set("post", Function::new(context.clone(), post)?)?;
    host.set("emit", Function::new(context.clone(), emit)?)?;
    host.set("generate", Function::new(context.clone(), generate)?)?;
    host.set("embed", Function::new(context.clone(), embed)?)?;
    host.set("remember", Function::new(context.clone(), remember)?)?;
    host.set("recall", Function::new(context.clone(), recall)?)?;
    host.set("forget", Function::new(context.clone(), forget)?)?;
    Ok(host)
}

/// The type of a message's receiver, which the bindings give two names.
pub(crate) trait Receiver {
    type Object;
}

impl Receiver for Message {
    type Object = types::ObjectId;
}

/// What `generate` takes besides the prompt; the contract's defaults otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    prompt: String,
    #[serde(default)]
    mind: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default = "some_tokens")]
    max_tokens: u32,
    #[serde(default)]
    temperature: f32,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    schema: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Near {
    object: String,
    distance: f32,
    about: serde_json::Value,
}

fn some_tokens() -> u32 {
    256
}

fn lookup(context: Ctx<'_>, object: String, slot: String) -> Result<Option<String>> {
    let object = identity(&context, &object)?;
    let found = storage::lookup(object, &slot).map_err(|error| refused(&context, "read", &error))?;
    Ok(found.filter(|found| !found.is_method).map(|found| found.value))
}

fn slots(context: Ctx<'_>, object: String) -> Result<Vec<String>> {
    let object = identity(&context, &object)?;
    storage::slots(object).map_err(|error| refused(&context, "list slots", &error))
}

fn write(context: Ctx<'_>, object: String, slot: String, value: String) -> Result<()> {
    let object = identity(&context, &object)?;
    let what = format!("write slot `{slot}`");
    storage::write(object, &slot, &value).map_err(|error| refused(&context, &what, &error))
}

fn remove(context: Ctx<'_>, object: String, slot: String) -> Result<bool> {
    let object = identity(&context, &object)?;
    let what = format!("remove slot `{slot}`");
    storage::remove(object, &slot).map_err(|error| refused(&context, &what, &error))
}

fn find(context: Ctx<'_>, name: String) -> Result<Option<String>> {
    let found = storage::find(&name).map_err(|error| refused(&context, "find", &error))?;
    Ok(found.map(shown))
}

fn log(message: String, fields: String) {
    logging::log(logging::Level::Info, &message, &fields);
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn now() -> f64 {
    moment::now() as f64
}

fn seed() -> Vec<u32> {
    let seed = moment::seed();
    // Four words of which not all are 0, as the generator needs.
    let words = [seed, seed.rotate_left(23) ^ 0x9e37_79b9_7f4a_7c15];
    words.iter().flat_map(|word| [low(*word), low(word >> 32)]).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn low(word: u64) -> u32 {
    word as u32
}

fn send(context: Ctx<'_>, to: String, selector: String, arguments: String) -> Result<String> {
    let to = receiver(&context, &to)?;
    messaging::send(to, &selector, &arguments).map_err(|error| refused(&context, "send", &error))
}

fn post(context: Ctx<'_>, to: String, selector: String, arguments: String) -> Result<()> {
    let to = receiver(&context, &to)?;
    messaging::post(to, &selector, &arguments).map_err(|error| refused(&context, "post", &error))
}

fn emit(context: Ctx<'_>, piece: String) -> Result<()> {
    messaging::emit(&piece).map_err(|error| refused(&context, "emit", &error))
}

fn generate(context: Ctx<'_>, asked: String) -> Result<String> {
    let asked: Asked = read(&context, "options of generate", &asked)?;
    let turn = |role, text| inference::Turn { role, text };
    let system = asked.system.map(|text| turn(inference::Role::System, text));
    let request = inference::Request {
        mind: asked.mind,
        turns: system.into_iter().chain([turn(inference::Role::User, asked.prompt)]).collect(),
        max_tokens: asked.max_tokens,
        temperature: asked.temperature,
        seed: asked.seed,
        stop: asked.stop,
        schema: asked.schema.map(|schema| schema.to_string()),
    };
    let told = |error| refused(&context, "generate", &error);
    let generation = inference::generate(&request).map_err(told)?;
    let mut text = String::new();
    while let Some(piece) = generation.next().map_err(told)? {
        text.push_str(&piece);
    }
    Ok(text)
}

fn embed(context: Ctx<'_>, texts: String) -> Result<String> {
    let texts: Vec<String> = read(&context, "texts of embed", &texts)?;
    let vectors = inference::embed(None, &texts).map_err(|error| refused(&context, "embed", &error))?;
    write_json(&context, &vectors)
}

fn remember(
    context: Ctx<'_>,
    collection: String,
    object: String,
    vector: String,
    about: String,
) -> Result<()> {
    let object = identity(&context, &object)?;
    let vector: Vec<f32> = read(&context, "vector", &vector)?;
    vectors::upsert(&collection, object, &vector, &about)
        .map_err(|error| refused(&context, "remember", &error))
}

fn recall(context: Ctx<'_>, collection: String, vector: String, k: u32) -> Result<String> {
    let vector: Vec<f32> = read(&context, "vector", &vector)?;
    let found = vectors::search(&collection, &vector, k, &[], None)
        .map_err(|error| refused(&context, "recall", &error))?;
    let near = |near: vectors::Neighbor| Near {
        object: shown(near.object),
        distance: near.distance,
        about: serde_json::from_str(&near.metadata).unwrap_or_default(),
    };
    write_json(&context, &found.into_iter().map(near).collect::<Vec<_>>())
}

fn forget(context: Ctx<'_>, collection: String, object: String) -> Result<bool> {
    let object = identity(&context, &object)?;
    vectors::remove(&collection, object).map_err(|error| refused(&context, "forget", &error))
}

/// An object by identity or by name.
fn receiver(context: &Ctx<'_>, object: &str) -> Result<types::ObjectId> {
    if let Some(id) = parsed(object) {
        return Ok(id);
    }
    let found = storage::find(object).map_err(|error| refused(context, "find", &error))?;
    found.ok_or_else(|| Exception::throw_type(context, &format!("no object is called `{object}`")))
}

fn identity(context: &Ctx<'_>, object: &str) -> Result<types::ObjectId> {
    let wrong = || format!("`{object}` is no object's identity: 32 hex digits, as telos.find answers them");
    parsed(object).ok_or_else(|| Exception::throw_type(context, &wrong()))
}

fn parsed(object: &str) -> Option<types::ObjectId> {
    let bits = (object.len() == 32).then(|| u128::from_str_radix(object, 16).ok()).flatten()?;
    let (high, low) = (u64::try_from(bits >> 64).ok()?, u64::try_from(bits & u128::from(u64::MAX)).ok()?);
    Some(types::ObjectId { high, low })
}

fn shown(object: types::ObjectId) -> String {
    format!("{:016x}{:016x}", object.high, object.low)
}

fn read<T: serde::de::DeserializeOwned>(context: &Ctx<'_>, what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Exception::throw_type(context, &format!("{what}: {error}")))
}

fn write_json(context: &Ctx<'_>, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Exception::throw_internal(context, &error.to_string()))
}

/// The host's refusal as an exception, thrown where the behaviour called.
fn refused(context: &Ctx<'_>, what: &str, error: &impl std::fmt::Debug) -> rquickjs::Error {
    Exception::throw_message(context, &format!("the host does not {what}: {error:?}"))
}
