//! What a draft shows: its own states over those of the base.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use redb::ReadTransaction;

use crate::error::{Failure, ReadError};
use crate::generation;
use crate::id::{ComponentId, ObjectId, ObjectName, Position};
use crate::limit;
use crate::object::Object;
use crate::record::SeatRecord;
use crate::scan::Scan as _;
use crate::store::list_releases;
use crate::tables::{
    self, CHANGES, META, META_OBJECTS, NAMES, NAMES_OF, OBJECTS, OWNED, RELEASES, SEATS, SHADOWS, read_meta,
};
use crate::unit::{list_names, list_names_of, overlay_names};

use super::Draft;

/// An object that a draft made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// As it was; none for one that the draft made.
    pub before: Option<Arc<Object>>,
    /// As the draft leaves it.
    pub after: Arc<Object>,
}

impl Draft {
    /// An object as the draft has it; none when there is no such object.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn object(&self, id: ObjectId) -> Result<Option<Arc<Object>>, Failure> {
        match self.pending.get(&id) {
            Some(pending) => Ok(Some(Arc::clone(&pending.after))),
            None => self.state(id, self.position()),
        }
    }

    /// How many objects the base has.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn count(&self) -> Result<u64, Failure> {
        self.read(|txn| read_meta(&txn.open_table(META)?, META_OBJECTS))
    }

    /// Components that own objects, in order, after one of them; at most `limit`.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn owners(&self, after: Option<&ComponentId>, limit: usize) -> Result<Vec<ComponentId>, Failure> {
        self.read(|txn| {
            let owned = txn.open_table(OWNED)?;
            let mut owners: Vec<ComponentId> = Vec::new();
            let mut from = after.map_or((String::new(), 0), |after| (after.to_string(), u128::MAX));
            while owners.len() < limit {
                // The highest identity of all never is one: it would have to be drawn.
                let mut rows = owned.rows_in((from.0.as_str(), from.1)..)?;
                let Some(row) = rows.next().transpose()? else { break };
                let owner = row.0.value().0.to_owned();
                owners.push(ComponentId::trusted(&owner));
                from = (owner, u128::MAX);
            }
            Ok(owners)
        })
    }

    /// Objects of a component that the base has, by identity after one of them; at most `limit`. What the draft made
    /// is not among them, so a loop that makes objects ends.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn objects_of(
        &self,
        owner: &ComponentId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<ObjectId>, Failure> {
        let first = after.map_or(Bound::Included((owner.as_str(), 0)), |after| {
            Bound::Excluded((owner.as_str(), after.to_bits()))
        });
        let last = Bound::Included((owner.as_str(), u128::MAX));
        self.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            let mut listed = Vec::new();
            for row in txn.open_table(OWNED)?.rows_in::<(&str, u128)>((first, last))? {
                if listed.len() >= limit {
                    break;
                }
                let id = ObjectId::from_bits(row?.0.value().1);
                if tables::read_object_position(&objects, id, self.base)? != Position::NONE {
                    listed.push(id);
                }
            }
            Ok(listed)
        })
    }

    /// The object with this name; none when no object has it.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn find(&self, name: &ObjectName) -> Result<Option<ObjectId>, Failure> {
        match self.names.get(name) {
            Some(own) => Ok(*own),
            None => self.named(name),
        }
    }

    /// Names that start with `prefix` and sort after `after`, in order, at most `limit` (capped at 1,000).
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn names(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(ObjectName, ObjectId)>, Failure> {
        let limit = limit.min(limit::NAMES_PER_LIST_MAX);
        let own = self.names.iter().filter(|(name, _)| {
            let name = name.as_str();
            name.starts_with(prefix) && name > after
        });
        let own: BTreeMap<_, _> = own.map(|(name, id)| (name.clone(), *id)).collect();
        // Own changes hide at most their own number of names.
        let enough = limit + own.len();
        let mut listed =
            self.read(|txn| list_names(&txn.open_table(NAMES)?, prefix, after, enough, self.base))?;
        overlay_names(&mut listed, own);
        Ok(listed.into_iter().take(limit).collect())
    }

    /// An object's names, sorted. Cost: its own names, however many others the draft has changed.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    pub fn names_of(&self, id: ObjectId) -> Result<Vec<ObjectName>, Failure> {
        let mut listed = self.read(|txn| list_names_of(&txn.open_table(NAMES_OF)?, id, self.base))?;
        listed.retain(|name, _| !self.names.contains_key(name));
        let bound = self.bound.get(&id).into_iter().flatten();
        listed.extend(bound.map(|name| (name.clone(), id)));
        Ok(listed.into_keys().collect())
    }

    /// Objects that the draft made or changed, by identity after one of them, at most `limit` and fewer once they are
    /// larger than 8 MiB together. One that was changed and changed back is not among them.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be written or read.
    pub fn changed(&mut self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Changed>, Failure> {
        self.write_pending()?;
        let position = self.position();
        let first = after.map_or(Bound::Included((position.get(), 0)), |after| {
            Bound::Excluded((position.get(), after.to_bits()))
        });
        let ids = self.read(|txn| {
            let changes = txn.open_table(CHANGES)?;
            let rows = changes.rows_in((first, Bound::Included((position.get(), u128::MAX))))?;
            rows.take(limit)
                .map(|row| Ok(ObjectId::from_bits(row?.0.value().1)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let (mut listed, mut bytes) = (Vec::new(), 0);
        for id in ids {
            let (before, after) = (self.original(id)?, self.state(id, position)?);
            let Some(after) = after else { continue };
            bytes += after.bytes() + before.as_ref().map_or(0, |before| before.bytes());
            listed.push(Changed { before, after });
            if bytes >= limit::UNIT_BYTES_MAX {
                break;
            }
        }
        Ok(listed)
    }

    /// Names that the draft gave another object, or none: before and after.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be read.
    #[expect(clippy::type_complexity, reason = "a name with what it stood for and what it stands for")]
    pub fn renamed(&self) -> Result<Vec<(ObjectName, Option<ObjectId>, Option<ObjectId>)>, Failure> {
        let mut renamed = Vec::new();
        for (name, after) in &self.names {
            let before = self.named(name)?;
            if before != *after {
                renamed.push((name.clone(), before, *after));
            }
        }
        Ok(renamed)
    }

    /// The state before the draft.
    pub(super) fn original(&self, id: ObjectId) -> Result<Option<Arc<Object>>, Failure> {
        self.state(id, self.base)
    }

    /// The highest generation of a component that a release of it knows, or that is in force.
    pub(super) fn known_generation(&mut self, component: &ComponentId) -> Result<Option<u32>, Failure> {
        if let Some(known) = self.known.get(component) {
            return Ok(*known);
        }
        let records = self.read(|txn| list_releases(&txn.open_table(RELEASES)?, Some(component)))?;
        let in_releases = records.iter().filter_map(|record| self.generation_of?(record)).max();
        let known = in_releases.max(self.generations.in_force(component, self.base));
        self.known.insert(component.clone(), known);
        Ok(known)
    }

    /// The generation that an object of a component begins in: what the component is being raised to, else what is in
    /// force, else that of the release that serves.
    pub(super) fn generation_for(&mut self, component: &ComponentId) -> Result<u32, Failure> {
        let raised = self.raising.get(component).map(|raising| raising.to);
        let known = raised.or_else(|| self.generations.in_force(component, self.base));
        Ok(known.map_or_else(|| self.serving_generation(component), |known| Ok(Some(known)))?.unwrap_or(1))
    }

    fn serving_generation(&mut self, component: &ComponentId) -> Result<Option<u32>, Failure> {
        if let Some(serving) = self.serving.get(component) {
            return Ok(*serving);
        }
        let serving = self.read_serving_generation(component)?;
        self.serving.insert(component.clone(), serving);
        Ok(serving)
    }

    fn read_serving_generation(&self, component: &ComponentId) -> Result<Option<u32>, Failure> {
        let Some(generation_of) = self.generation_of else { return Ok(None) };
        self.read(|txn| {
            let seats = txn.open_table(SEATS)?;
            let Some(row) = seats.get(component.as_str())? else { return Ok(None) };
            let seat: SeatRecord = tables::decode_json("seats", row.value())?;
            let records = list_releases(&txn.open_table(RELEASES)?, Some(component))?;
            Ok(records.iter().find(|record| record.digest == seat.digest).and_then(generation_of))
        })
    }

    pub(super) fn existing(&self, id: ObjectId) -> Result<Arc<Object>, ReadError> {
        self.object(id)?.ok_or(ReadError::NoSuchObject(id))
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        read(&self.database()?.read()?)
    }

    fn state(&self, id: ObjectId, at: Position) -> Result<Option<Arc<Object>>, Failure> {
        self.read(|txn| {
            let (objects, shadows) = (txn.open_table(OBJECTS)?, txn.open_table(SHADOWS)?);
            Ok(generation::read_state(&objects, &shadows, &self.generations, id, at)?.map(Arc::new))
        })
    }

    /// What a name stands for in the base.
    fn named(&self, name: &ObjectName) -> Result<Option<ObjectId>, Failure> {
        self.read(|txn| Ok(tables::read_name(&txn.open_table(NAMES)?, name, self.base)?.0))
    }
}
