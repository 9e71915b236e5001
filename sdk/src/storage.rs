//! Objects made of slots: make, name, read, write and look up.
//!
//! A slot of the receiver is best read through [`Receiver::slot`](crate::Receiver::slot), which writes back what
//! changed. The methods here answer plain copies and write at once; all of it becomes visible when the root commits.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::telos::host::storage as host;
use crate::bindings::telos::host::types::ObjectId;
use crate::object::Object;
use crate::state::Shelf;

/// Why a storage call changed and returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Not granted, or the object is another owner's, or the name another component's.
    #[error("storage: not granted, or the object or name belongs to another component")]
    Denied,
    /// No object has this identity at this snapshot.
    #[error("storage: no object has this identity")]
    NoSuchObject,
    /// A write while serving a read-only selector.
    #[error("storage: a read-only selector cannot write")]
    ReadOnly,
    /// A name or value is not well formed; says which.
    #[error("storage: {0}")]
    Invalid(String),
    /// Past a bound; names it.
    #[error("storage: too large: {0}")]
    TooLarge(String),
    /// The name stands for another object.
    #[error("storage: the name is taken by another object")]
    NameTaken,
    /// The snapshot is older than the host keeps.
    #[error("storage: the snapshot is too old; send the message again")]
    SnapshotTooOld,
    /// The host failed; the journal has the cause under this number.
    #[error("storage: the host failed; its journal says why under incident {0}")]
    Failed(u64),
    /// The slot's value and the plugin's type do not fit each other.
    #[error("slot `{slot}` does not fit its type: {cause}")]
    Mismatch {
        /// The slot.
        slot: String,
        /// The parser's words.
        cause: String,
    },
    /// The slot is a method: behaviour is not data.
    #[error("slot `{0}` is a method; send it as a message")]
    Method(String),
    /// Another guard of this message has the slot.
    #[error("slot `{0}` is held by another guard of this message; end that guard's scope first")]
    Held(String),
    /// Something else wrote the slot while a guard had it: writing now would lose that update.
    #[error(
        "slot `{0}` was written by something else while its guard was changed; end the guard's scope, or call write(), before sending"
    )]
    ChangedMeanwhile(String),
}

/// A slot found by delegation.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The value, or for a method slot `component@requirement#selector` as a JSON string.
    pub value: Value,
    /// The object that has it: the one asked, or an ancestor.
    pub holder: Object,
    /// Whether it is a method slot.
    pub is_method: bool,
}

/// One earlier state of a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The object's revision that held it, from 1.
    pub revision: u64,
    /// The position of the commit that made it.
    pub position: u64,
    /// The value; none when the slot did not exist.
    pub value: Option<Value>,
}

/// Names that start with `prefix` and sort after `after`, with their objects, in order; at most `limit` and 1,000.
///
/// # Errors
/// [`StorageError::Denied`], [`StorageError::SnapshotTooOld`], [`StorageError::Failed`].
pub fn names(prefix: &str, after: &str, limit: u32) -> Result<Vec<(String, Object)>, StorageError> {
    let named = host::names(prefix, after, limit)?;
    Ok(named.into_iter().map(|named| (named.name, named.object.into())).collect())
}

impl Object {
    /// Makes an empty object that this component owns; lookup goes on at `parents`, in order.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] for a parent that does not exist, and the host's other errors.
    pub fn create(parents: &[Self]) -> Result<Self, StorageError> {
        Ok(host::create(&ids(parents))?.into())
    }

    /// Makes an object with this one's value slots, owned by this component, with the same behaviour.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn clone_object(self) -> Result<Self, StorageError> {
        Ok(host::clone(self.into())?.into())
    }

    /// The object with this name; none when there is none.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a malformed name, and the host's other errors.
    pub fn find(name: &str) -> Result<Option<Self>, StorageError> {
        Ok(host::find(name)?.map(Self::from))
    }

    /// Gives this object, which the component owns, a name; the same pair again changes nothing.
    ///
    /// The name is the component's own id, or below it: `counter` may give `counter` and `counter/today`.
    ///
    /// # Errors
    /// [`StorageError::Denied`] for any other name, [`StorageError::NameTaken`] when it stands for another object, and the host's other errors.
    pub fn bind(self, name: &str) -> Result<(), StorageError> {
        Ok(host::bind(name, self.into())?)
    }

    /// The object's own value; none when it has no such value slot. Does not follow parents.
    ///
    /// # Errors
    /// [`StorageError::Mismatch`] when the value is no `T`, and the host's errors.
    pub fn read<T: DeserializeOwned>(self, slot: &str) -> Result<Option<T>, StorageError> {
        host::read(self.into(), slot)?.map(|text| parse(slot, &text)).transpose()
    }

    /// The slot as a message would find it: own, then parents depth first, then the declared default.
    ///
    /// # Errors
    /// The host's errors.
    pub fn lookup(self, slot: &str) -> Result<Option<Found>, StorageError> {
        let Some(found) = host::lookup(self.into(), slot)? else {
            return Ok(None);
        };
        let value = parse(slot, &found.value)?;
        Ok(Some(Found { value, holder: found.holder.into(), is_method: found.is_method }))
    }

    /// Sets an own value slot. While a guard holds that slot changed, the guard's write will be refused.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] from a read-only selector, [`StorageError::Denied`] for another owner's object, and
    /// the host's other errors.
    pub fn write<T: Serialize + ?Sized>(self, slot: &str, value: &T) -> Result<(), StorageError> {
        let text = serde_json::to_string(value).map_err(|cause| StorageError::mismatch(slot, &cause))?;
        Ok(host::write(self.into(), slot, &text)?)
    }

    /// Removes an own value slot; answers whether it was there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn remove(self, slot: &str) -> Result<bool, StorageError> {
        Ok(host::remove(self.into(), slot)?)
    }

    /// Names of the object's own value slots, sorted.
    ///
    /// # Errors
    /// The host's errors.
    pub fn slots(self) -> Result<Vec<String>, StorageError> {
        Ok(host::slots(self.into())?)
    }

    /// The object's parents, in lookup order.
    ///
    /// # Errors
    /// The host's errors.
    pub fn parents(self) -> Result<Vec<Self>, StorageError> {
        Ok(host::parents(self.into())?.into_iter().map(Self::from).collect())
    }

    /// Replaces the parents of an object that this component owns.
    ///
    /// # Errors
    /// As [`create`](Self::create), and [`StorageError::Denied`] for another owner's object.
    pub fn set_parents(self, parents: &[Self]) -> Result<(), StorageError> {
        Ok(host::set_parents(self.into(), &ids(parents))?)
    }

    /// The newest `limit` states of an own slot (at most 100), newest first, this message's own write excluded.
    ///
    /// # Errors
    /// The host's errors.
    pub fn history(self, slot: &str, limit: u32) -> Result<Vec<Past>, StorageError> {
        host::history(self.into(), slot, limit)?.into_iter().map(|past| state(slot, past)).collect()
    }
}

impl StorageError {
    pub(crate) fn mismatch(slot: &str, cause: &serde_json::Error) -> Self {
        Self::Mismatch { slot: slot.to_owned(), cause: cause.to_string() }
    }
}

impl From<host::Error> for StorageError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied => Self::Denied,
            host::Error::NoSuchObject => Self::NoSuchObject,
            host::Error::ReadOnly => Self::ReadOnly,
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::TooLarge(bound) => Self::TooLarge(bound),
            host::Error::NameTaken => Self::NameTaken,
            host::Error::SnapshotTooOld => Self::SnapshotTooOld,
            host::Error::Failed(incident) => Self::Failed(incident),
        }
    }
}

/// The host's storage under state guards.
pub(crate) struct Host;

impl Shelf for Host {
    fn lookup(&self, object: Object, slot: &str) -> Result<Option<String>, StorageError> {
        match host::lookup(object.into(), slot)? {
            Some(found) if found.is_method => Err(StorageError::Method(slot.to_owned())),
            found => Ok(found.map(|found| found.value)),
        }
    }

    fn write(&self, object: Object, slot: &str, value: &str) -> Result<(), StorageError> {
        Ok(host::write(object.into(), slot, value)?)
    }
}

fn ids(objects: &[Object]) -> Vec<ObjectId> {
    objects.iter().copied().map(ObjectId::from).collect()
}

fn parse<T: DeserializeOwned>(slot: &str, text: &str) -> Result<T, StorageError> {
    serde_json::from_str(text).map_err(|cause| StorageError::mismatch(slot, &cause))
}

fn state(slot: &str, past: host::Past) -> Result<Past, StorageError> {
    let value = past.value.map(|text| parse(slot, &text)).transpose()?;
    Ok(Past { revision: past.revision, position: past.position, value })
}
