//! What an operator may do to objects directly: make, look at, set, unname, list. Each is a unit of its own.

use serde::Serialize;
use serde_json::{Map, Value, json};
use telos_store::{
    CommitError, ComponentId, DedupeKey, Json, Object, ObjectId, ObjectName, Position, ReadError, Revision,
    Slot, Store, Unit, WriteError,
};

use crate::change::{self, Settled, change, remembered};
use crate::failure::Effect;
use crate::objects;
use crate::seat::Seats;

/// Why an operation on objects did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No object of this name or id.
    #[error("no object is called `{0}`; see `telos object list`")]
    NoSuchObject(String),
    /// The name is in use.
    #[error("the name `{0}` is taken; choose another or see `telos object show {0}`")]
    NameTaken(String),
    /// The slot holds a method.
    #[error("slot `{0}` is a method slot; behaviour changes by plugin swap, not by `object set`")]
    MethodSlot(String),
    /// The name is that of a root object that serves.
    #[error("`{0}` names the root object of a plugin that serves; `telos plugin remove {0}` first")]
    RootName(String),
    /// Malformed or past a bound.
    #[error("{0}")]
    Invalid(String),
    /// The commit was refused, or nobody knows.
    #[error("the store did not take it: {0}")]
    Commit(#[from] CommitError),
    /// The store could not be read; nothing was changed.
    #[error("the store did not take it: {0}")]
    Store(String),
}

impl ObjectError {
    /// Whether what was asked for may have happened.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Commit(error) => change::effect(error),
            _ => Effect::None,
        }
    }

    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Commit(error) => change::kind(error),
            _ => "refused",
        }
    }

    /// What to do next, when there is something better than reading the message.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Commit(error) => change::next_step(error).map(Into::into),
            _ => None,
        }
    }
}

impl From<ReadError> for ObjectError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoSuchObject(id) => Self::NoSuchObject(id.to_string()),
            other => Self::Store(other.to_string()),
        }
    }
}

impl From<WriteError> for ObjectError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Read(error) => error.into(),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<telos_store::Failure> for ObjectError {
    fn from(error: telos_store::Failure) -> Self {
        Self::Store(error.to_string())
    }
}

/// An object that was changed, and where that was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    pub(crate) id: ObjectId,
    pub(crate) position: u64,
}

/// An object in a listing.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// One of its names.
    pub name: String,
    /// Its id.
    pub id: ObjectId,
    /// Its owner.
    pub owner: ComponentId,
    /// Its revision.
    pub revision: u64,
}

/// Lists named objects in name order.
pub(crate) fn list(
    store: &Store,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Listed>, ObjectError> {
    let mut unit = store.begin();
    let mut listed = Vec::new();
    for (name, id) in unit.names(prefix, after, limit)? {
        if let Some(object) = unit.object(id)? {
            listed.push(Listed {
                name: name.to_string(),
                id,
                owner: object.owner.clone(),
                revision: object.revision.get(),
            });
        }
    }
    Ok(listed)
}

/// Everything about one object, as JSON for people and programs.
pub(crate) fn show(store: &Store, seats: &Seats, target: &str) -> Result<Value, ObjectError> {
    let mut unit = store.begin();
    let id = resolve(&mut unit, target)?;
    let object = unit.object(id)?.ok_or_else(|| ObjectError::NoSuchObject(target.into()))?;
    let parents = object.parents.clone();
    let parents = parents
        .into_iter()
        .map(|parent| Ok(json!({ "id": parent, "names": names(&mut unit, parent)? })))
        .collect::<Result<Vec<_>, ObjectError>>()?;
    Ok(json!({
        "id": id,
        "names": names(&mut unit, id)?,
        "owner": object.owner,
        "generation": object.generation,
        "revision": object.revision.get(),
        "position": object.position.get(),
        "parents": parents,
        "slots": object.slots.iter().map(slot).collect::<Vec<_>>(),
        "understands": understands(&mut unit, seats, id)?,
    }))
}

/// Makes a named object. Its owner is its first parent's owner, so that the parent's behaviour keeps its state.
pub(crate) async fn new(
    store: &Store,
    name: &str,
    parents: &[String],
    request: Option<DedupeKey>,
) -> Result<Changed, ObjectError> {
    let name = object_name(name)?;
    let position = settle(store, request, |unit| {
        if unit.find(&name)?.is_some() {
            return Err(ObjectError::NameTaken(name.to_string()));
        }
        let parents = parents.iter().map(|parent| resolve(unit, parent)).collect::<Result<Vec<_>, _>>()?;
        let (owner, generation) = match parents.first() {
            Some(parent) => {
                let parent =
                    unit.object(*parent)?.ok_or_else(|| ObjectError::NoSuchObject(parent.to_string()))?;
                (parent.owner.clone(), parent.generation)
            }
            None => (ComponentId::operator(), 1),
        };
        let id = unit.create(owner, generation, parents)?;
        unit.bind(&name, id)?;
        Ok(unit.audit("object.new", name.as_str(), json!({ "id": id }))?)
    })
    .await?;
    changed(store, name.as_str(), position, position)
}

/// Sets or removes a value slot.
pub(crate) async fn set(
    store: &Store,
    target: &str,
    name: &str,
    value: Option<&Value>,
    request: Option<DedupeKey>,
) -> Result<Changed, ObjectError> {
    let value = value.map(|value| Json::parse(&value.to_string())).transpose();
    let value = value.map_err(|error| {
        ObjectError::Invalid(format!("the value of `{name}` has {error}; spread it over slots"))
    })?;
    let position = settle(store, request, |unit| {
        let id = resolve(unit, target)?;
        let object = unit.object(id)?.ok_or_else(|| ObjectError::NoSuchObject(target.into()))?;
        if object.slots.get(name).is_some_and(Slot::is_method) {
            return Err(ObjectError::MethodSlot(name.into()));
        }
        match &value {
            Some(value) => unit.set_slot(id, name, Slot::Value(value.clone()))?,
            None => drop(unit.remove_slot(id, name)?),
        }
        let detail = json!({ "id": id, "slot": name, "removed": value.is_none() });
        Ok(unit.audit("object.set", target, detail)?)
    })
    .await?;
    changed(store, target, position, position)
}

/// Takes a name away; the object stays, under its id and its other names. The name of a root object whose component
/// serves stays with it, since that object is found by it.
pub(crate) async fn unname(
    store: &Store,
    name: &str,
    request: Option<DedupeKey>,
) -> Result<Changed, ObjectError> {
    let name = object_name(name)?;
    let position = settle(store, request, |unit| {
        let id = unit.find(&name)?.ok_or_else(|| ObjectError::NoSuchObject(name.to_string()))?;
        let object = unit.object(id)?.ok_or_else(|| ObjectError::NoSuchObject(name.to_string()))?;
        let is_root = object.owner.as_str() == name.as_str();
        if is_root && store.seat(&object.owner)?.is_some() {
            return Err(ObjectError::RootName(name.to_string()));
        }
        unit.unbind(&name)?;
        Ok(unit.audit("object.unnamed", name.as_str(), json!({ "id": id, "owner": object.owner }))?)
    })
    .await?;
    changed(store, name.as_str(), position.saturating_sub(1), position)
}

/// Decides a change, and answers where.
async fn settle(
    store: &Store,
    request: Option<DedupeKey>,
    mut write: impl FnMut(&mut Unit) -> Result<(), ObjectError>,
) -> Result<u64, ObjectError> {
    if let Some(Settled { position }) = remembered::<_, ObjectError>(store, request)? {
        return Ok(position);
    }
    let (settled, _) = change(store, request, |unit| {
        write(unit)?;
        Ok::<_, ObjectError>((Settled::default(), None))
    })
    .await?;
    Ok(settled.position)
}

/// The object that a decided change was about: the one that was addressed, then. One that was forgotten since is
/// not named again.
fn changed(store: &Store, target: &str, then: u64, position: u64) -> Result<Changed, ObjectError> {
    let id = store.locate_at(target, Position::new(then))?.or_else(|| target.parse().ok());
    let position_then = Position::new(position);
    let forgotten = CommitError::DuplicateRequest { outcome: Vec::new(), position: position_then };
    Ok(Changed { id: id.ok_or(forgotten)?, position })
}

fn object_name(name: &str) -> Result<ObjectName, ObjectError> {
    ObjectName::new(name).map_err(|error| ObjectError::Invalid(error.to_string()))
}

/// The kept states of an object, newest first; with `before` only those with a smaller revision.
pub(crate) fn history(
    store: &Store,
    target: &str,
    before: Option<Revision>,
    limit: usize,
) -> Result<Vec<Value>, ObjectError> {
    let id = resolve(&mut store.begin(), target)?;
    let states = store.object_history(id, before, limit).map_err(ReadError::from)?;
    Ok(states.iter().map(|state| revision(state)).collect())
}

fn revision(state: &Object) -> Value {
    json!({
        "revision": state.revision.get(),
        "position": state.position.get(),
        "owner": state.owner,
        "slots": state.slots.iter().map(|(name, slot)| (name.clone(), text(slot))).collect::<Map<_, _>>(),
    })
}

fn text(slot: &Slot) -> Value {
    match slot {
        Slot::Value(value) => value.to_value(),
        Slot::Method(method) => Value::from(method.to_string()),
    }
}

fn slot((name, slot): (&String, &Slot)) -> Value {
    match slot {
        Slot::Value(value) => json!({ "name": name, "value": value.to_value() }),
        Slot::Method(method) => json!({ "name": name, "method": method.to_string() }),
    }
}

/// Every selector that a message to this object would find, nearest holder first.
fn understands(unit: &mut Unit, seats: &Seats, id: ObjectId) -> Result<Vec<Value>, ObjectError> {
    let table = seats.current();
    let mut found: Map<String, Value> = Map::new();
    for holder in objects::ancestry(unit, id)? {
        let Some(object) = unit.object(holder)? else { continue };
        let holder = objects::display_name(unit, holder);
        for (name, slot) in &object.slots {
            let Slot::Method(method) = slot else { continue };
            let spec = table
                .releases
                .get(&method.component)
                .and_then(|release| release.descriptor.selectors.get(&method.selector));
            found.entry(name.clone()).or_insert_with(|| {
                json!({
                    "selector": name,
                    "summary": spec.map(|spec| spec.summary.clone()),
                    "read_only": spec.map(|spec| spec.read_only),
                    "holder": holder,
                })
            });
        }
    }
    Ok(found.into_iter().map(|(_, value)| value).collect())
}

fn names(unit: &mut Unit, id: ObjectId) -> Result<Vec<String>, ObjectError> {
    Ok(unit.names_of(id)?.into_iter().map(|name| name.to_string()).collect())
}

/// The object behind a name or an id.
pub(crate) fn resolve(unit: &mut Unit, target: &str) -> Result<ObjectId, ObjectError> {
    unit.locate(target)?.ok_or_else(|| ObjectError::NoSuchObject(target.to_owned()))
}
