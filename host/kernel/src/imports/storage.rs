//! `storage`: objects made of slots, inside the message's unit of work.
//!
//! Reads are anyone's. Writes need a receiver or an object of the running component, and a selector that is not
//! read-only; a write from a read-only selector is noted as a covenant violation, which fails the message.

use serde_json::Value;
use telos_store::{Json, Object, ObjectId, ObjectName, ReadError, Slot, WriteError};

use crate::contract::storage::{self, Error, Found, Named, Past};
use crate::contract::types;
use crate::instance::MessageState;
use crate::objects;
use crate::seams::{JournalLine, Severity};

/// Most names one call answers.
const NAMES_MAX: u32 = 1_000;
/// Most states one call answers.
const HISTORY_MAX: u32 = 100;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl storage::Host for MessageState {
    async fn create(&mut self, parents: Vec<types::ObjectId>) -> Answer<types::ObjectId> {
        if let Err(refusal) = self.may_write("(new object)")? {
            return Ok(Err(refusal));
        }
        let (owner, generation) = (self.release.component.clone(), self.release.descriptor.generation);
        let parents = parents.into_iter().map(ObjectId::from).collect();
        let made = self.tree()?.unit.create(owner, generation, parents);
        self.wrote(made.map(Into::into))
    }

    async fn clone(&mut self, source: types::ObjectId) -> Answer<types::ObjectId> {
        if let Err(refusal) = self.may_write("(new object)")? {
            return Ok(Err(refusal));
        }
        let owner = (self.release.component.clone(), self.release.descriptor.generation);
        let copied = objects::clone_for(&mut self.tree()?.unit, source.into(), Some(owner));
        self.wrote(copied.map(Into::into))
    }

    async fn find(&mut self, name: String) -> Answer<Option<types::ObjectId>> {
        let Some(name) = self.readable_name(&name)? else {
            return self.refuse_name(&name);
        };
        let found = self.tree()?.unit.find(&name);
        self.read_out(found.map(|id| id.map(Into::into)))
    }

    async fn bind(&mut self, name: String, object: types::ObjectId) -> Answer<()> {
        if let Err(refusal) = self.may_write("(name)")? {
            return Ok(Err(refusal));
        }
        let parsed = match ObjectName::new(&name) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(Error::Invalid(error.to_string()))),
        };
        if !objects::is_name_of(&parsed, &self.release.component) {
            return Ok(Err(Error::Denied));
        }
        if let Err(refusal) = self.owned(object.into())? {
            return Ok(Err(refusal));
        }
        match self.tree()?.unit.find(&parsed) {
            Ok(Some(holder)) if holder != object.into() => return Ok(Err(Error::NameTaken)),
            Ok(Some(_)) => return Ok(Ok(())),
            Ok(None) => {}
            Err(error) => return self.read_out(Err(error)),
        }
        let bound = self.tree()?.unit.bind(&parsed, object.into());
        self.wrote(bound)
    }

    async fn names(&mut self, prefix: String, after: String, limit: u32) -> Answer<Vec<Named>> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        let limit = limit.min(NAMES_MAX) as usize;
        let names = self.tree()?.unit.names(&prefix, &after, limit);
        let named =
            |(name, object): (ObjectName, ObjectId)| Named { name: name.to_string(), object: object.into() };
        self.read_out(names.map(|names| names.into_iter().map(named).collect()))
    }

    async fn read(&mut self, object: types::ObjectId, slot: String) -> Answer<Option<String>> {
        let value = |object: &Object| match object.slots.get(&slot) {
            Some(Slot::Value(value)) => Some(value.as_str().to_owned()),
            _ => None,
        };
        self.of_object(object, value)
    }

    async fn lookup(&mut self, object: types::ObjectId, slot: String) -> Answer<Option<Found>> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        let id = ObjectId::from(object);
        let found = match self.tree()?.unit.lookup(id, &slot) {
            Ok(found) => found,
            Err(error) => return self.read_out(Err(error)),
        };
        if let Some(found) = found {
            return Ok(Ok(Some(found_slot(found.holder, &found.slot))));
        }
        let default = self.declared_default(id, &slot)?;
        Ok(Ok(default.map(|value| Found { value: value.to_string(), holder: object, is_method: false })))
    }

    async fn write(&mut self, object: types::ObjectId, slot: String, value: String) -> Answer<()> {
        let id = ObjectId::from(object);
        if let Err(refusal) = self.writable(id, &slot)? {
            return Ok(Err(refusal));
        }
        let value = match Json::parse(&value) {
            Ok(value) => value,
            Err(error) => return Ok(Err(Error::Invalid(error.to_string()))),
        };
        let written = self.tree()?.unit.set_slot(id, &slot, Slot::Value(value));
        self.wrote(written)
    }

    async fn remove(&mut self, object: types::ObjectId, slot: String) -> Answer<bool> {
        let id = ObjectId::from(object);
        if let Err(refusal) = self.writable(id, &slot)? {
            return Ok(Err(refusal));
        }
        let removed = self.tree()?.unit.remove_slot(id, &slot);
        self.wrote(removed)
    }

    async fn slots(&mut self, object: types::ObjectId) -> Answer<Vec<String>> {
        self.of_object(object, |object| {
            let is_value = |(_, slot): &(&String, &Slot)| matches!(slot, Slot::Value(_));
            object.slots.iter().filter(is_value).map(|(name, _)| name.clone()).collect()
        })
    }

    async fn parents(&mut self, object: types::ObjectId) -> Answer<Vec<types::ObjectId>> {
        self.of_object(object, |object| object.parents.iter().copied().map(Into::into).collect())
    }

    async fn set_parents(&mut self, object: types::ObjectId, parents: Vec<types::ObjectId>) -> Answer<()> {
        if let Err(refusal) = self.may_write("(parents)")? {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = self.owned(object.into())? {
            return Ok(Err(refusal));
        }
        let parents = parents.into_iter().map(ObjectId::from).collect();
        let written = self.tree()?.unit.set_parents(object.into(), parents);
        self.wrote(written)
    }

    async fn history(&mut self, object: types::ObjectId, slot: String, limit: u32) -> Answer<Vec<Past>> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        let limit = limit.min(HISTORY_MAX) as usize;
        let history = self.tree()?.unit.history(object.into(), limit);
        self.read_out(history.map(|states| states.iter().map(|state| past(state, &slot)).collect()))
    }
}

fn found_slot(holder: ObjectId, slot: &Slot) -> Found {
    match slot {
        Slot::Value(value) => {
            Found { value: value.as_str().to_owned(), holder: holder.into(), is_method: false }
        }
        Slot::Method(method) => Found {
            value: Value::from(method.to_string()).to_string(),
            holder: holder.into(),
            is_method: true,
        },
    }
}

fn past(state: &Object, slot: &str) -> Past {
    let value = match state.slots.get(slot) {
        Some(Slot::Value(value)) => Some(value.as_str().to_owned()),
        _ => None,
    };
    Past { revision: state.revision.get(), position: state.position.get(), value }
}

impl MessageState {
    fn readable_name(&mut self, name: &str) -> wasmtime::Result<Option<ObjectName>> {
        Ok(if self.is_granted("storage")? { ObjectName::new(name).ok() } else { None })
    }

    fn refuse_name<T>(&mut self, name: &str) -> Answer<T> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        Ok(Err(Error::Invalid(match ObjectName::new(name) {
            Err(error) => error.to_string(),
            Ok(_) => name.to_owned(),
        })))
    }

    fn of_object<T>(&mut self, object: types::ObjectId, read: impl FnOnce(&Object) -> T) -> Answer<T> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        let id = ObjectId::from(object);
        match self.tree()?.unit.object(id) {
            Ok(Some(object)) => Ok(Ok(read(&object))),
            Ok(None) => Ok(Err(Error::NoSuchObject)),
            Err(error) => self.read_out(Err(error)),
        }
    }

    /// Whether the running message may write at all. `slot` names what it tried, for the covenant.
    pub(crate) fn may_write(&mut self, slot: &str) -> wasmtime::Result<Result<(), Error>> {
        if !self.is_granted("storage")? {
            return Ok(Err(Error::Denied));
        }
        if self.tree()?.is_read_only {
            self.note_read_only_write(slot);
            return Ok(Err(Error::ReadOnly));
        }
        Ok(Ok(()))
    }

    fn writable(&mut self, object: ObjectId, slot: &str) -> wasmtime::Result<Result<(), Error>> {
        if let Err(refusal) = self.may_write(slot)? {
            return Ok(Err(refusal));
        }
        let is_receiver = object == self.receiver;
        let component = self.release.component.clone();
        Ok(match self.tree()?.unit.object(object) {
            Ok(None) => Err(Error::NoSuchObject),
            Ok(Some(found)) if matches!(found.slots.get(slot), Some(Slot::Method(_))) => Err(Error::Denied),
            Ok(Some(found)) if is_receiver || found.owner == component => Ok(()),
            Ok(Some(_)) => Err(Error::Denied),
            Err(error) => return self.read_out(Err(error)),
        })
    }

    fn owned(&mut self, object: ObjectId) -> wasmtime::Result<Result<(), Error>> {
        let component = self.release.component.clone();
        Ok(match self.tree()?.unit.object(object) {
            Ok(None) => Err(Error::NoSuchObject),
            Ok(Some(found)) if found.owner == component => Ok(()),
            Ok(Some(_)) => Err(Error::Denied),
            Err(error) => return self.read_out(Err(error)),
        })
    }

    /// What the running component, or else the object's owner, declares for a slot that no object has.
    fn declared_default(&mut self, object: ObjectId, slot: &str) -> wasmtime::Result<Option<Value>> {
        let own = self.release.descriptor.slots.get(slot).and_then(|spec| spec.default.clone());
        if own.is_some() {
            return Ok(own);
        }
        let tree = self.tree()?;
        let Ok(Some(found)) = tree.unit.object(object) else {
            return Ok(None);
        };
        let owner = tree.seats.releases.get(&found.owner);
        Ok(owner.and_then(|release| release.descriptor.slots.get(slot)).and_then(|spec| spec.default.clone()))
    }

    fn read_out<T>(&mut self, outcome: Result<T, ReadError>) -> Answer<T> {
        Ok(match outcome {
            Ok(value) => Ok(value),
            Err(ReadError::NoSuchObject(_)) => Err(Error::NoSuchObject),
            Err(ReadError::TooLarge(overflow)) => Err(Error::TooLarge(overflow.to_string())),
            Err(ReadError::SnapshotTooOld { .. }) => Err(Error::SnapshotTooOld),
            Err(other) => Err(Error::Failed(self.host_incident("storage", &other.to_string())?)),
        })
    }

    fn wrote<T>(&mut self, outcome: Result<T, WriteError>) -> Answer<T> {
        match outcome {
            Ok(value) => Ok(Ok(value)),
            Err(WriteError::Read(error)) => self.read_out(Err(error)),
            Err(WriteError::TooLarge(error)) => Ok(Err(Error::TooLarge(error.to_string()))),
            Err(WriteError::NameTaken { .. }) => Ok(Err(Error::NameTaken)),
            Err(error) => Ok(Err(Error::Invalid(error.to_string()))),
        }
    }

    /// Writes a failure of the host to the journal and gives the guest its number. The line counts against the plugin's
    /// own rate, since it is the plugin that makes the calls.
    pub(crate) fn host_incident(&mut self, interface: &'static str, cause: &str) -> wasmtime::Result<u64> {
        let component = self.release.component.to_string();
        let tree = self.tree()?;
        let incident = tree.surroundings.journal.next_incident();
        let attributes = serde_json::Map::from_iter([
            ("incident".into(), Value::from(incident)),
            ("interface".into(), interface.into()),
        ]);
        tree.surroundings.journal.record(JournalLine {
            severity: Severity::Error,
            event: "hostcall.failed",
            body: cause.to_owned(),
            trace: Some(tree.root.trace.clone()),
            plugin: Some(component),
            attributes,
        });
        Ok(incident)
    }
}
