//! What an operator may do to objects directly: make, look at, set, list. Each is a unit of its own.

use serde::Serialize;
use serde_json::{Map, Value, json};
use telos_store::{
    CommitError, ComponentId, Json, Object, ObjectId, ObjectName, ReadError, Revision, Slot, Store, Unit,
    Vote, WriteError,
};

use crate::decide::decide;
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
    /// Malformed or past a bound.
    #[error("{0}")]
    Invalid(String),
    /// The store refused or failed.
    #[error("the store did not take it: {0}")]
    Store(String),
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

impl From<CommitError> for ObjectError {
    fn from(error: CommitError) -> Self {
        Self::Store(error.to_string())
    }
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
) -> Result<(ObjectId, u64), ObjectError> {
    let name = ObjectName::new(name).map_err(|error| ObjectError::Invalid(error.to_string()))?;
    let mut unit = store.begin();
    if unit.find(&name)?.is_some() {
        return Err(ObjectError::NameTaken(name.to_string()));
    }
    let parents = parents.iter().map(|parent| resolve(&mut unit, parent)).collect::<Result<Vec<_>, _>>()?;
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
    unit.audit("object.new", name.as_str(), json!({ "id": id }))?;
    Ok((id, commit(store, unit).await?))
}

/// Sets or removes a value slot.
pub(crate) async fn set(
    store: &Store,
    target: &str,
    name: &str,
    value: Option<&Value>,
) -> Result<(ObjectId, u64), ObjectError> {
    let mut unit = store.begin();
    let id = resolve(&mut unit, target)?;
    let object = unit.object(id)?.ok_or_else(|| ObjectError::NoSuchObject(target.into()))?;
    if object.slots.get(name).is_some_and(Slot::is_method) {
        return Err(ObjectError::MethodSlot(name.into()));
    }
    match value {
        Some(value) => {
            let value =
                Json::parse(&value.to_string()).map_err(|error| ObjectError::Invalid(error.to_string()))?;
            unit.set_slot(id, name, Slot::Value(value))?;
        }
        None => {
            unit.remove_slot(id, name)?;
        }
    }
    unit.audit("object.set", target, json!({ "id": id, "slot": name, "removed": value.is_none() }))?;
    Ok((id, commit(store, unit).await?))
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
    let unknown = || ObjectError::NoSuchObject(target.to_owned());
    if let Ok(name) = ObjectName::new(target)
        && let Some(id) = unit.find(&name)?
    {
        return Ok(id);
    }
    let id: ObjectId = target.parse().map_err(|_| unknown())?;
    match unit.object(id)? {
        Some(_) => Ok(id),
        None => Err(unknown()),
    }
}

async fn commit(store: &Store, unit: Unit) -> Result<u64, ObjectError> {
    Ok(decide(store, unit, Vote::default()).await?.position.get())
}
