//! What each component stores: bytes of the states of objects that it owns, past ones included, and of names below its
//! id. Vectors have quotas of their own.
//!
//! ```text
//! write    every row of `objects` and `names` comes and goes by `Tables::put_state`, `take_state`, `put_name`, `take_name`
//! count    one sum for each component that a group touches, in the meta table, in the same commit     durable
//! vote     what is durable, and what was voted for and is not    refused past the bound               memory
//! ```
//! The past counts, since it takes the same room: else one component could fill the database with what it replaces. So
//! only pruning and forgetting give room back, and what a swap carries over is counted, and never refused.

use std::collections::{BTreeMap, HashMap, VecDeque};

use redb::ReadableTable;

use crate::error::{CommitError, Failure};
use crate::id::{ComponentId, Position};
use crate::record::RecordWrite;
use crate::scan::Scan as _;
use crate::tables::{self, ObjectKey, Tables};
use crate::unit::Layer;

/// What the database keeps for a state beside its row: keys, the entry of what it replaced, its place in tables.
const STATE_BYTES_BESIDE: u64 = 128;
/// The same for a binding of a name, which stands in three tables.
const NAME_BYTES_BESIDE: u64 = 128;

/// Of the meta table: one row for each component that stores something.
const META_STORED: &str = "stored/";
/// After every such row.
const META_STORED_END: &str = "stored0";

/// Bytes by component that a unit adds.
pub(crate) type Asked = BTreeMap<ComponentId, u64>;

/// Bytes by component that a group of units added or gave back.
pub(crate) type Grown = BTreeMap<String, i64>;

/// What every component stores, those voted for and not yet durable included.
#[derive(Debug, Default)]
pub(crate) struct StoredBytes {
    durable: HashMap<ComponentId, u64>,
    pending: HashMap<ComponentId, u64>,
    /// What each pending unit asked for, oldest first.
    votes: VecDeque<(Position, Asked)>,
}

impl StoredBytes {
    /// What the database says is stored. Cost: a row for each component.
    pub(crate) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<StoredBytes, Failure> {
        let mut durable = HashMap::new();
        for row in meta.rows_in(META_STORED..META_STORED_END)? {
            let (key, bytes) = row?;
            let component = key.value().strip_prefix(META_STORED).unwrap_or_default();
            durable.insert(ComponentId::trusted(component), bytes.value());
        }
        Ok(StoredBytes { durable, ..StoredBytes::default() })
    }

    /// Bytes that a component stores once everything pending is durable.
    pub(crate) fn of(&self, component: &ComponentId) -> u64 {
        let of = |bytes: &HashMap<ComponentId, u64>| bytes.get(component).copied().unwrap_or_default();
        of(&self.durable) + of(&self.pending)
    }

    /// What is durable, by component; those that store nothing left out.
    pub(crate) fn durable(&self) -> BTreeMap<String, u64> {
        let stored = self.durable.iter().filter(|(_, bytes)| **bytes > 0);
        stored.map(|(component, bytes)| (component.as_str().to_owned(), *bytes)).collect()
    }

    /// Who stores most, and how much.
    pub(crate) fn fullest(&self) -> Option<(ComponentId, u64)> {
        let fullest = self.durable.keys().max_by_key(|component| self.of(component));
        fullest.map(|component| (component.clone(), self.of(component)))
    }

    /// Whether a unit fits.
    ///
    /// # Errors
    /// [`CommitError::StorageFull`].
    pub(crate) fn check(&self, asked: &Asked, allowed: u64) -> Result<(), CommitError> {
        for (component, bytes) in asked {
            let found = self.of(component).saturating_add(*bytes);
            if found > allowed {
                return Err(CommitError::StorageFull { owner: component.clone(), found, allowed });
            }
        }
        Ok(())
    }

    /// Counts a unit that was voted for.
    pub(crate) fn add(&mut self, position: Position, asked: Asked) {
        if asked.is_empty() {
            return;
        }
        for (component, bytes) in &asked {
            *self.pending.entry(component.clone()).or_default() += bytes;
        }
        self.votes.push_back((position, asked));
    }

    /// What was voted for through a position is durable, and this is what it came to.
    pub(crate) fn settle(&mut self, through: Position, grown: &Grown) {
        while self.votes.front().is_some_and(|(position, _)| *position <= through) {
            let Some((_, asked)) = self.votes.pop_front() else { break };
            for (component, bytes) in asked {
                if let Some(pending) = self.pending.get_mut(&component) {
                    *pending = pending.saturating_sub(bytes);
                }
            }
        }
        if self.votes.is_empty() {
            self.pending.clear();
        }
        for (component, bytes) in grown {
            let component = ComponentId::trusted(component);
            let stored = self.durable.entry(component).or_default();
            *stored = stored.saturating_add_signed(*bytes);
        }
    }

    /// Nothing of what was voted for will be decided.
    pub(crate) fn without_pending(self) -> StoredBytes {
        StoredBytes { durable: self.durable, ..StoredBytes::default() }
    }
}

/// What a unit asks for: all that it writes, since what it replaces stays as its past. Nothing for one that changes who
/// serves: a swap is the way to a build that stores less.
pub(crate) fn asked(writes: &Layer) -> Asked {
    let mut asked = Asked::new();
    if writes.records.iter().any(|record| matches!(record, RecordWrite::Seat(_) | RecordWrite::RemoveSeat(_)))
    {
        return asked;
    }
    for object in writes.objects.values() {
        add(&mut asked, &object.owner, state_bytes(tables::encoded_len(object)));
    }
    for name in writes.names.iter().filter(|(_, id)| id.is_some()).map(|(name, _)| name.as_str()) {
        add(&mut asked, &ComponentId::trusted(namer(name)), name_bytes(name));
    }
    asked
}

/// Adds what a row of `objects` counts for, for whoever recomputes the sums.
pub(crate) fn count_state(sums: &mut BTreeMap<String, u64>, row: &[u8]) -> Result<(), Failure> {
    let (owner, bytes) = of_row(row)?;
    *sums.entry(owner).or_default() += bytes;
    Ok(())
}

/// The same of a row of `names`.
pub(crate) fn count_name(sums: &mut BTreeMap<String, u64>, name: &str) {
    *sums.entry(namer(name).to_owned()).or_default() += name_bytes(name);
}

/// Writes the sums down, for a layout that had none.
pub(crate) fn write_sums(tables: &mut Tables<'_>, sums: &BTreeMap<String, u64>) -> Result<(), Failure> {
    for (component, bytes) in sums {
        tables.meta.open()?.insert(key(component).as_str(), *bytes)?;
    }
    Ok(())
}

impl Tables<'_> {
    /// Puts a state of an object; whether no row was there.
    pub(crate) fn put_state(&mut self, key: ObjectKey, row: &[u8]) -> Result<bool, Failure> {
        let replaced =
            self.objects.open()?.insert(key, row)?.map(|replaced| of_row(replaced.value())).transpose()?;
        let (owner, bytes) = of_row(row)?;
        self.grow(&owner, bytes.cast_signed());
        if let Some((owner, bytes)) = &replaced {
            self.grow(owner, -bytes.cast_signed());
        }
        Ok(replaced.is_none())
    }

    /// Takes a state away; whether it was there.
    pub(crate) fn take_state(&mut self, key: ObjectKey) -> Result<bool, Failure> {
        let taken = self.objects.open()?.remove(key)?.map(|taken| of_row(taken.value())).transpose()?;
        if let Some((owner, bytes)) = &taken {
            self.grow(owner, -bytes.cast_signed());
        }
        Ok(taken.is_some())
    }

    /// Counts a state that was taken away otherwise.
    pub(crate) fn note_taken_state(&mut self, owner: &str, row_bytes: usize) {
        self.grow(owner, -state_bytes(row_bytes).cast_signed());
    }

    /// Puts what a name stands for from a position on.
    pub(crate) fn put_name(&mut self, name: &str, position: u64, id: Option<u128>) -> Result<(), Failure> {
        if self.names.open()?.insert((name, position), id)?.is_none() {
            self.grow(namer(name), name_bytes(name).cast_signed());
        }
        Ok(())
    }

    /// Takes a row of a name away; what it said.
    pub(crate) fn take_name(&mut self, name: &str, position: u64) -> Result<Option<Option<u128>>, Failure> {
        let taken = self.names.open()?.remove((name, position))?.map(|row| row.value());
        if taken.is_some() {
            self.grow(namer(name), -name_bytes(name).cast_signed());
        }
        Ok(taken)
    }

    /// Writes down what was counted since this was last done, before the commit; answers it.
    pub(crate) fn count_stored(&mut self) -> Result<Grown, Failure> {
        let grown = std::mem::take(&mut self.grown);
        for (component, bytes) in grown.iter().filter(|(_, bytes)| **bytes != 0) {
            let key = key(component);
            let meta = self.meta.open()?;
            match tables::read_meta(meta, &key)?.saturating_add_signed(*bytes) {
                0 => drop(meta.remove(key.as_str())?),
                sum => drop(meta.insert(key.as_str(), sum)?),
            }
        }
        Ok(grown)
    }

    fn grow(&mut self, component: &str, bytes: i64) {
        match self.grown.get_mut(component) {
            Some(sum) => *sum += bytes,
            None => drop(self.grown.insert(component.to_owned(), bytes)),
        }
    }
}

fn of_row(row: &[u8]) -> Result<(String, u64), Failure> {
    Ok((tables::decode_owner(row)?.to_owned(), state_bytes(row.len())))
}

fn key(component: &str) -> String {
    format!("{META_STORED}{component}")
}

fn state_bytes(row_bytes: usize) -> u64 {
    row_bytes as u64 + STATE_BYTES_BESIDE
}

fn name_bytes(name: &str) -> u64 {
    3 * name.len() as u64 + NAME_BYTES_BESIDE
}

/// Who gives such names: components name below their own id, and other names are operators', counted by their beginning
/// as if it were one.
fn namer(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn add(asked: &mut Asked, component: &ComponentId, bytes: u64) {
    match asked.get_mut(component) {
        Some(sum) => *sum += bytes,
        None => drop(asked.insert(component.clone(), bytes)),
    }
}
