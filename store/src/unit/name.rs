//! Names: each stands for one object, an object may have several.

use std::collections::BTreeMap;

use redb::ReadableTable;

use crate::error::{Failure, NameError, ReadError, WriteError};
use crate::id::{ObjectId, ObjectName, Position};
use crate::limit;
use crate::scan::Scan as _;
use crate::tables::{self, NAMES, NAMES_OF};

use super::Unit;

impl Unit {
    /// The object with this name; none when no object has it. Recorded either way.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] when the unit has read more than it may, [`ReadError::Failed`].
    pub fn find(&mut self, name: &ObjectName) -> Result<Option<ObjectId>, ReadError> {
        if let Some(own) = self.layers.name(name) {
            return Ok(own);
        }
        if let Some((seen, _)) = self.seen.names.get(name) {
            return Ok(*seen);
        }
        let at = self.snapshot();
        let found = match self.pending(|order| order.name(name, at)) {
            Some(pending) => pending,
            None => self.shared.read_at(NAMES, at, |names| tables::read_name(names, name, at))?,
        };
        self.seen.record(name.as_str().len())?;
        self.seen.names.insert(name.clone(), found);
        Ok(found.0)
    }

    /// The object that a text addresses, by its id or by a name; none when there is no such object. An id wins: earlier
    /// hosts took names of that form.
    ///
    /// # Errors
    /// As [`Unit::find`].
    pub fn locate(&mut self, target: &str) -> Result<Option<ObjectId>, ReadError> {
        if let Ok(id) = target.parse()
            && self.object(id)?.is_some()
        {
            return Ok(Some(id));
        }
        ObjectName::new(target).map_or(Ok(None), |name| self.find(&name))
    }

    /// Gives an object a name; the same pair again changes nothing.
    ///
    /// # Errors
    /// [`WriteError::NameTaken`] by another object; [`WriteError::Invalid`] for a name that could be an object's id;
    /// [`ReadError::NoSuchObject`].
    pub fn bind(&mut self, name: &ObjectName, id: ObjectId) -> Result<(), WriteError> {
        self.check_exists(id)?;
        match self.find(name)? {
            Some(by) if by == id => Ok(()),
            Some(by) => Err(WriteError::NameTaken { name: name.clone(), by }),
            None if name.as_str().parse::<ObjectId>().is_ok() => {
                Err(NameError::new("name", name.as_str(), "free: 32 hex digits are an object's id").into())
            }
            None => Ok(self.layers.put_name(name.clone(), Some(id))?),
        }
    }

    /// Takes a name away; answers the object that had it.
    ///
    /// # Errors
    /// As [`Unit::find`].
    pub fn unbind(&mut self, name: &ObjectName) -> Result<Option<ObjectId>, WriteError> {
        let Some(id) = self.find(name)? else {
            return Ok(None);
        };
        self.layers.put_name(name.clone(), None)?;
        Ok(Some(id))
    }

    /// Names that start with `prefix` and sort after `after`, in order, at most `limit` (capped at 1,000).
    ///
    /// # Errors
    /// [`ReadError::Failed`].
    pub fn names(
        &mut self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(ObjectName, ObjectId)>, ReadError> {
        let limit = limit.min(limit::NAMES_PER_LIST_MAX);
        let mut own = self.pending(|order| order.names(prefix, after, self.snapshot()));
        own.extend(self.layers.names(|name| name.as_str().starts_with(prefix) && name.as_str() > after));
        // Writes that are not durable hide at most their own number of committed names.
        let (at, enough) = (self.snapshot(), limit + own.len());
        let mut listed =
            self.shared.read_at(NAMES, at, |names| list_names(names, prefix, after, enough, at))?;
        overlay(&mut listed, own);
        Ok(listed.into_iter().take(limit).collect())
    }

    /// The object's names, sorted.
    ///
    /// # Errors
    /// [`ReadError::Failed`].
    pub fn names_of(&mut self, id: ObjectId) -> Result<Vec<ObjectName>, ReadError> {
        let at = self.snapshot();
        let pending = self.pending(|order| order.names("", "", at));
        let mut listed = self.shared.read_at(NAMES_OF, at, |names_of| list_names_of(names_of, id, at))?;
        overlay(&mut listed, pending);
        overlay(&mut listed, self.layers.names(|_| true));
        Ok(listed.into_iter().filter(|(_, of)| *of == id).map(|(name, _)| name).collect())
    }
}

/// Lays what is not in the tables over what is.
pub(crate) fn overlay(
    listed: &mut BTreeMap<ObjectName, ObjectId>,
    own: BTreeMap<ObjectName, Option<ObjectId>>,
) {
    for (name, id) in own {
        match id {
            Some(id) => listed.insert(name, id),
            None => listed.remove(&name),
        };
    }
}

/// Names in the table as of a position, in order.
pub(crate) fn list_names(
    names: &impl ReadableTable<tables::NameKey, Option<u128>>,
    prefix: &str,
    after: &str,
    limit: usize,
    at: Position,
) -> Result<BTreeMap<ObjectName, ObjectId>, Failure> {
    let mut listed = BTreeMap::new();
    let mut current: Option<(ObjectName, Option<u128>)> = None;
    for row in names.rows_in((prefix.max(after), 0)..)? {
        let (key, value) = row?;
        let (name, position) = key.value();
        if !name.starts_with(prefix) || listed.len() >= limit {
            break;
        }
        if name == after || position > at.get() {
            continue;
        }
        match &mut current {
            Some((same, id)) if same.as_str() == name => *id = value.value(),
            _ => keep_bound(&mut listed, current.replace((ObjectName::trusted(name), value.value()))),
        }
    }
    keep_bound(&mut listed, current);
    Ok(listed)
}

fn keep_bound(listed: &mut BTreeMap<ObjectName, ObjectId>, row: Option<(ObjectName, Option<u128>)>) {
    if let Some((name, Some(id))) = row {
        listed.insert(name, ObjectId::from_bits(id));
    }
}

/// An object's names in the table as of a position.
pub(crate) fn list_names_of(
    names_of: &impl ReadableTable<(u128, &'static str, u64), bool>,
    id: ObjectId,
    at: Position,
) -> Result<BTreeMap<ObjectName, ObjectId>, Failure> {
    let mut listed = BTreeMap::new();
    for row in names_of.rows_in((id.to_bits(), "", 0)..)? {
        let (key, is_bound) = row?;
        let (of, name, position) = key.value();
        if of != id.to_bits() {
            break;
        }
        if position > at.get() {
            continue;
        }
        let name = ObjectName::trusted(name);
        if is_bound.value() {
            listed.insert(name, id)
        } else {
            listed.remove(&name)
        };
    }
    Ok(listed)
}
