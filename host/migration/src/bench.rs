//! What a script may do, whatever its language: read any object, change data, parents, names and generations, make
//! objects. Never methods, owners, vectors or anything that is not an object.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use telos_store::{ComponentId, Draft, Json, Object, ObjectId, ObjectName, ReadError};

use crate::error::{Refused, ValueError};
use crate::report::{Printed, cut};

/// Objects listed at a time while a script walks them.
const PAGE: usize = 256;

/// A draft being worked on, and what the script said.
pub(crate) struct Bench {
    /// None once the run is over: then whatever the script still asks is refused.
    draft: Option<Draft>,
    /// The object that the script is at: the last one that it asked for or changed.
    at: Option<ObjectId>,
    /// How often it came to another object than before.
    came_to: u64,
    printed: Printed,
    printed_max: usize,
}

/// The bench, as the script's thread and whoever waits for it have it.
pub(crate) type Shared = Arc<Mutex<Bench>>;

/// How far a walk over objects is.
pub(crate) struct Walk {
    /// All that were not walked yet; the first one is being walked.
    owners: VecDeque<ComponentId>,
    /// More owners follow these; none: of one owner only.
    is_of_all: bool,
    after: Option<ObjectId>,
    page: VecDeque<ObjectId>,
}

/// How far a walk over names is.
pub(crate) struct NameWalk {
    prefix: String,
    after: String,
    page: VecDeque<(ObjectName, ObjectId)>,
}

impl Bench {
    pub(crate) fn new(draft: Draft, printed_max: usize) -> Bench {
        Bench { draft: Some(draft), at: None, came_to: 0, printed: Printed::default(), printed_max }
    }

    /// Ends the run: the draft, and what was printed.
    pub(crate) fn close(&mut self) -> (Option<Draft>, Printed) {
        (self.draft.take(), std::mem::take(&mut self.printed))
    }

    pub(crate) fn at(&self) -> Option<ObjectId> {
        self.at
    }

    /// How far the script is: how often it came to another object.
    pub(crate) fn came_to(&self) -> u64 {
        self.came_to
    }

    /// The object with this identity, which the script is at from here on.
    pub(crate) fn get(&mut self, id: &str) -> Result<ObjectId, Refused> {
        let id: ObjectId = id.parse()?;
        self.existing(id)?;
        Ok(id)
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<Option<ObjectId>, Refused> {
        let name = ObjectName::new(name)?;
        let found = self.draft()?.find(&name)?;
        found.into_iter().for_each(|id| self.come_to(id));
        Ok(found)
    }

    pub(crate) fn object(&mut self, id: ObjectId) -> Result<Arc<Object>, Refused> {
        self.existing(id)
    }

    pub(crate) fn value(&mut self, id: ObjectId, slot: &str) -> Result<Option<Value>, Refused> {
        Ok(self.existing(id)?.value(slot).map(Json::to_value))
    }

    pub(crate) fn set(&mut self, id: ObjectId, slot: &str, value: &Value) -> Result<(), Refused> {
        self.come_to(id);
        let wrong = |why: ValueError| Refused::Value { slot: cut(slot), why };
        let value = Json::parse(&value.to_string()).map_err(|cause| wrong(cause.into()))?;
        Ok(self.draft()?.set_value(id, slot, value)?)
    }

    pub(crate) fn remove(&mut self, id: ObjectId, slot: &str) -> Result<bool, Refused> {
        self.come_to(id);
        Ok(self.draft()?.remove_value(id, slot)?)
    }

    pub(crate) fn rename_slot(&mut self, id: ObjectId, from: &str, to: &str) -> Result<(), Refused> {
        let object = self.existing(id)?;
        let Some(value) = object.value(from) else {
            return Err(Refused::NoSuchSlot { object: id, slot: cut(from) });
        };
        if object.slots.contains_key(to) {
            return Err(Refused::SlotTaken { object: id, slot: cut(to) });
        }
        let draft = self.draft()?;
        draft.set_value(id, to, value.clone())?;
        draft.remove_value(id, from)?;
        Ok(())
    }

    pub(crate) fn set_parents(&mut self, id: ObjectId, parents: Vec<ObjectId>) -> Result<(), Refused> {
        self.come_to(id);
        Ok(self.draft()?.set_parents(id, parents)?)
    }

    pub(crate) fn set_generation(&mut self, id: ObjectId, generation: i64) -> Result<(), Refused> {
        self.come_to(id);
        let found = u32::try_from(generation).ok().filter(|generation| *generation > 0);
        let found = found.ok_or_else(|| Refused::NoGeneration(generation.to_string()))?;
        Ok(self.draft()?.set_generation(id, found)?)
    }

    pub(crate) fn create(&mut self, owner: &str) -> Result<ObjectId, Refused> {
        let owner = ComponentId::new(owner)?;
        let draft = self.draft()?;
        if owner != ComponentId::operator() && !draft.is_owner(&owner)? {
            return Err(Refused::NoSuchOwner(owner.to_string()));
        }
        let id = draft.create(owner)?;
        self.come_to(id);
        Ok(id)
    }

    pub(crate) fn names_of(&mut self, id: ObjectId) -> Result<Vec<ObjectName>, Refused> {
        Ok(self.draft()?.names_of(id)?)
    }

    pub(crate) fn bind(&mut self, name: &str, id: ObjectId) -> Result<(), Refused> {
        self.come_to(id);
        let name = self.free_name(name)?;
        Ok(self.draft()?.bind(&name, id)?)
    }

    pub(crate) fn unbind(&mut self, name: &str) -> Result<Option<ObjectId>, Refused> {
        let name = self.free_name(name)?;
        Ok(self.draft()?.unbind(&name)?)
    }

    /// All components that own objects.
    pub(crate) fn owners(&mut self) -> Result<Vec<ComponentId>, Refused> {
        let draft = self.draft()?;
        let mut owners = Vec::new();
        loop {
            let more = draft.owners(owners.last(), PAGE)?;
            if more.is_empty() {
                return Ok(owners);
            }
            owners.extend(more);
        }
    }

    /// A walk over the objects of one component, or of all: those that there were before the script began.
    pub(crate) fn walk(&mut self, owner: Option<&str>) -> Result<Walk, Refused> {
        let owners = match owner {
            Some(owner) => VecDeque::from([ComponentId::new(owner)?]),
            None => self.draft()?.owners(None, PAGE)?.into(),
        };
        Ok(Walk { owners, is_of_all: owner.is_none(), after: None, page: VecDeque::new() })
    }

    /// The next object of a walk, which the script is at from here on.
    pub(crate) fn next(&mut self, walk: &mut Walk) -> Result<Option<ObjectId>, Refused> {
        while walk.page.is_empty() {
            let Some(owner) = walk.owners.front().cloned() else { return Ok(None) };
            let draft = self.draft()?;
            walk.page = draft.objects_of(&owner, walk.after, PAGE)?.into();
            walk.after = walk.page.back().copied();
            if walk.page.is_empty() {
                walk.owners.pop_front();
                if walk.is_of_all && walk.owners.is_empty() {
                    walk.owners = draft.owners(Some(&owner), PAGE)?.into();
                }
            }
        }
        let next = walk.page.pop_front();
        next.into_iter().for_each(|id| self.come_to(id));
        Ok(next)
    }

    pub(crate) fn walk_names(prefix: &str) -> NameWalk {
        NameWalk { prefix: prefix.into(), after: String::new(), page: VecDeque::new() }
    }

    /// The next name of a walk, in order.
    pub(crate) fn next_name(
        &mut self,
        walk: &mut NameWalk,
    ) -> Result<Option<(ObjectName, ObjectId)>, Refused> {
        if walk.page.is_empty() {
            walk.page = self.draft()?.names(&walk.prefix, &walk.after, PAGE)?.into();
        }
        let next = walk.page.pop_front();
        if let Some((name, id)) = &next {
            walk.after = name.to_string();
            self.come_to(*id);
        }
        Ok(next)
    }

    /// Keeps a line for whoever reads the report; past the bound it is only counted.
    pub(crate) fn print(&mut self, line: &str) {
        if self.printed.lines.len() >= self.printed_max {
            self.printed.left_off += 1;
            return;
        }
        self.printed.lines.push(cut(line));
    }

    /// A name that a script may give and take.
    fn free_name(&mut self, name: &str) -> Result<ObjectName, Refused> {
        let name = ObjectName::new(name)?;
        match self.draft()?.names_root(&name)? {
            true => Err(Refused::RootName(name.to_string())),
            false => Ok(name),
        }
    }

    fn come_to(&mut self, id: ObjectId) {
        self.came_to += u64::from(self.at != Some(id));
        self.at = Some(id);
    }

    fn existing(&mut self, id: ObjectId) -> Result<Arc<Object>, Refused> {
        self.come_to(id);
        let found = self.draft()?.object(id)?;
        found.ok_or_else(|| ReadError::NoSuchObject(id).into())
    }

    fn draft(&mut self) -> Result<&mut Draft, Refused> {
        self.draft.as_mut().ok_or(Refused::Over)
    }
}
