//! Shadow rows: the evolved copy of one object's state, beside the row it was made from.
//!
//! While it is not in force, a shadow always belongs to the newest state of its object: a write drops
//! it in the same commit, and one that was made from an older state is not taken. So at the raise every shadow
//! is right, and what has none must be evolved again.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use redb::{AccessGuard, ReadableTable, ReadableTableMetadata};

use crate::database::Database;
use crate::error::Failure;
use crate::id::{ComponentId, ObjectId, Position};
use crate::limit;
use crate::object::Object;
use crate::scan::Scan as _;
use crate::shared::Shared;
use crate::tables::{
    self, META_OBJECT_ROWS, OBJECTS, OWNED, ObjectKey, SHADOWS, ShadowKey, ShadowRow, Tables,
};

use super::{Generations, Toward};

/// After every commit.
const NEWEST: Position = Position::new(u64::MAX);

impl Shared {
    /// The state of an object as of a position, in the generation in force there.
    pub(crate) fn read_object(&self, id: ObjectId, at: Position) -> Result<Option<Object>, Failure> {
        self.read_rows(|txn| {
            let Some(row) = tables::read_object(&txn.open_table(OBJECTS)?, id, at)? else {
                return Ok(None);
            };
            let generations = self.generations_at(at);
            let raises = generations.between(&row.owner, row.position, at);
            if raises.is_empty() {
                return Ok(Some(row));
            }
            Ok(Some(raised(&txn.open_table(SHADOWS)?, &generations, &row, &raises)?.unwrap_or(row)))
        })
    }

    /// The states of an object as of a position, newest first.
    pub(crate) fn read_history(
        &self,
        id: ObjectId,
        at: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Object>>, Failure> {
        self.read_rows(|txn| {
            let mut states = tables::read_history(&txn.open_table(OBJECTS)?, id, at, limit)?;
            let generations = self.generations_at(at);
            if !generations.is_empty() {
                let shadows = states_in_force(&txn.open_table(SHADOWS)?, &generations, id, at)?;
                states.extend(shadows.into_iter().map(Arc::new));
                states.sort_by_key(|state| std::cmp::Reverse(state.position));
                states.truncate(limit);
            }
            Ok(states)
        })
    }

    /// The state as of a position that replaces one which is, or will be, in the tables.
    pub(crate) fn raised_over(&self, state: Arc<Object>, at: Position) -> Result<Arc<Object>, Failure> {
        let generations = self.generations_at(at);
        let raises = generations.between(&state.owner, state.position, at);
        if raises.is_empty() {
            return Ok(state);
        }
        let raised = self.read(SHADOWS, |shadows| raised(shadows, &generations, &state, &raises))?;
        Ok(raised.map_or(state, Arc::new))
    }

    /// The raises that a snapshot may see, and perhaps later ones.
    pub(crate) fn generations_at(&self, at: Position) -> Arc<Generations> {
        if at <= self.position() {
            return Arc::clone(&self.generations.read());
        }
        Arc::clone(self.order.read().generations())
    }
}

/// The commit that made the newest state of an object, as the tables have it; [`Position::NONE`] when there is none.
pub(crate) fn newest_position(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    id: ObjectId,
) -> Result<Position, Failure> {
    if generations.is_empty() {
        return tables::read_object_position(objects, id, NEWEST);
    }
    Ok(newest_head(objects, shadows, generations, id)?.map_or(Position::NONE, |head| head.0))
}

/// The commit that made the newest state of an object whose newest row is, or will be, this state.
pub(crate) fn position_over(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    state: &Object,
) -> Result<Position, Failure> {
    let head = (state.position, state.owner.clone(), state.generation);
    Ok(head_over(shadows, generations, state.id, head)?.0)
}

/// Position and generation of the newest state of an object.
pub(crate) fn newest_head(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    id: ObjectId,
) -> Result<Option<(Position, u32)>, Failure> {
    let head = tables::read_object_head(objects, id, NEWEST)?;
    head.map(|head| head_over(shadows, generations, id, head)).transpose()
}

/// Position and generation of what the newest raise after a row put in its place, or of the row.
fn head_over(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    id: ObjectId,
    (position, owner, generation): (Position, ComponentId, u32),
) -> Result<(Position, u32), Failure> {
    for (raise, raised) in generations.between(&owner, position, NEWEST) {
        let base = shadow_of(shadows, (id.to_bits(), raised), &owner)?;
        if base.is_some_and(|base| generations.raised_at(&owner, raised, base) == Some(raise)) {
            return Ok((raise, raised));
        }
    }
    Ok((position, generation))
}

/// Writes a shadow made from the state of position `base`; not when the object has changed since.
pub(crate) fn write_shadow(
    tables: &mut Tables<'_>,
    generations: &Generations,
    base: Position,
    shadow: &Object,
) -> Result<(), Failure> {
    fail::fail_point!("store::shadow-written");
    if newest_position(tables.objects.open()?, tables.shadows.open()?, generations, shadow.id)? != base
        || generations.raised_at(&shadow.owner, shadow.generation, base).is_some()
    {
        return Ok(());
    }
    let key = (shadow.id.to_bits(), shadow.generation);
    // What is in force already under the same number, a former owner's perhaps, still is part of its history.
    settle(tables, generations, key)?;
    tables.shadows.open()?.insert(key, (base.get(), tables::encode_object(shadow)?.as_slice()))?;
    Ok(())
}

/// Drops what was made from the state that a write replaces. What is in force is settled: it is the state that the write
/// replaces, or one before that, and history lists what replaced what.
pub(crate) fn drop_outdated(
    tables: &mut Tables<'_>,
    generations: &Generations,
    id: ObjectId,
) -> Result<(), Failure> {
    let shadows = tables.shadows.open()?;
    if shadows.is_empty()? {
        return Ok(());
    }
    let keys = shadow_keys(shadows, id)?;
    keys.iter().try_for_each(|key| settle(tables, generations, *key))?;
    drop_shadows(tables, generations, &keys)
}

/// Deletes those of the shadows that are not in force.
pub(crate) fn drop_shadows(
    tables: &mut Tables<'_>,
    generations: &Generations,
    keys: &[ShadowKey],
) -> Result<(), Failure> {
    for key in keys {
        if position_in_force(tables.shadows.open()?, generations, *key)?.is_none() {
            tables.shadows.open()?.remove(*key)?;
        }
    }
    Ok(())
}

/// Makes a shadow in force an ordinary row, and before it those of its object that it replaced; nothing happens when it
/// is not in force or not there.
pub(crate) fn settle(
    tables: &mut Tables<'_>,
    generations: &Generations,
    key: ShadowKey,
) -> Result<(), Failure> {
    let Some(last) = position_in_force(tables.shadows.open()?, generations, key)? else {
        return Ok(());
    };
    let mut through = Vec::new();
    for key in shadow_keys(tables.shadows.open()?, ObjectId::from_bits(key.0))? {
        let position = position_in_force(tables.shadows.open()?, generations, key)?;
        through.extend(position.filter(|position| *position <= last).map(|position| (position, key)));
    }
    through.sort_unstable();
    through.into_iter().try_for_each(|(position, key)| settle_one(tables, position, key))
}

fn settle_one(tables: &mut Tables<'_>, position: Position, key: ShadowKey) -> Result<(), Failure> {
    let taken = tables.shadows.open()?.remove(key)?;
    let taken = taken.map(|shadow| (shadow.value().0, shadow.value().1.to_owned()));
    if let Some((base, state)) = taken {
        tables.put_state((key.0, position.get()), &state)?;
        tables.changes.open()?.insert((position.get(), key.0), base)?;
    }
    tables::add_to_meta(tables, META_OBJECT_ROWS, 1)?;
    fail::fail_point!("store::shadow-settled");
    Ok(())
}

/// Shadows in force, at most `limit`.
pub(crate) fn list_in_force(shared: &Shared, limit: usize) -> Result<Vec<ShadowKey>, Failure> {
    let generations = Arc::clone(&shared.generations.read());
    list(shared, limit, |owner, generation, base| generations.raised_at(owner, generation, base).is_some())
}

/// Shadows of a component that are not in force, at most `limit`.
pub(crate) fn keys_of(
    shared: &Shared,
    component: &ComponentId,
    limit: usize,
) -> Result<Vec<ShadowKey>, Failure> {
    let generations = Arc::clone(&shared.generations.read());
    list(shared, limit, |owner, generation, base| {
        owner == component && generations.raised_at(owner, generation, base).is_none()
    })
}

/// Objects of a component whose newest state is left behind and has no copy in the generation, in order of their
/// identities after `after`, as of a position.
pub(crate) fn list_unevolved(
    shared: &Shared,
    component: &ComponentId,
    toward: Toward,
    after: Option<ObjectId>,
    limit: usize,
) -> Result<Vec<Object>, Failure> {
    let at = shared.position();
    let generations = Arc::clone(&shared.generations.read());
    let first = after.map_or(Bound::Included((component.as_str(), 0)), |after| {
        Bound::Excluded((component.as_str(), after.to_bits()))
    });
    shared.read_rows(|txn| {
        let (objects, shadows) = (txn.open_table(OBJECTS)?, txn.open_table(SHADOWS)?);
        let (mut listed, mut bytes) = (Vec::new(), 0);
        let last = Bound::Included((component.as_str(), u128::MAX));
        for row in txn.open_table(OWNED)?.rows_in::<(&str, u128)>((first, last))? {
            let id = ObjectId::from_bits(row?.0.value().1);
            let Some(object) = read_state(&objects, &shadows, &generations, id, at)? else { continue };
            let is_left = object.owner == *component && toward.leaves_behind(object.generation);
            if is_left && made_from(&shadows, id, toward.generation())? != Some(object.position) {
                bytes += object.bytes();
                listed.push(object);
            }
            if listed.len() >= limit || bytes >= limit::SHADOW_BATCH_BYTES_MAX {
                break;
            }
        }
        Ok(listed)
    })
}

/// Deletes, before anybody else uses the database, every shadow of a generation that was not reached.
pub(crate) fn drop_leftovers(database: &Database, generations: &Generations) -> Result<(), Failure> {
    let leftovers = {
        let shadows = database.read()?.open_table(SHADOWS)?;
        let mut keys = Vec::new();
        for row in shadows.rows()? {
            let (key, value) = row?;
            let (base, bytes) = value.value();
            let (owner, generation) = tables::decode_object_head(bytes)?;
            if generations.raised_at(&owner, generation, Position::new(base)).is_none() {
                keys.push(key.value());
            }
        }
        keys
    };
    for step in leftovers.chunks(limit::SHADOWS_PER_STEP_MAX) {
        let txn = database.write()?;
        drop_shadows(&mut Tables::of(&txn), generations, step)?;
        fail::fail_point!("store::leftovers-dropped");
        txn.commit()?;
    }
    Ok(())
}

/// The state of an object as of a position, in the generation in force there.
pub(crate) fn read_state(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    id: ObjectId,
    at: Position,
) -> Result<Option<Object>, Failure> {
    let Some(row) = tables::read_object(objects, id, at)? else {
        return Ok(None);
    };
    let raises = generations.between(&row.owner, row.position, at);
    Ok(Some(raised(shadows, generations, &row, &raises)?.unwrap_or(row)))
}

/// The state that the newest of these raises put in force in place of this row.
fn raised(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    row: &Object,
    raises: &[(Position, u32)],
) -> Result<Option<Object>, Failure> {
    for (position, generation) in raises {
        let Some(shadow) = shadows.get((row.id.to_bits(), *generation))? else { continue };
        // A later owner, or a later raise, may have a generation of the same number.
        if raise_of(generations, shadow.value())? != Some(*position) {
            continue;
        }
        let shadow = tables::decode_object(row.id, *position, shadow.value().1)?;
        if shadow.owner == row.owner {
            return Ok(Some(shadow));
        }
    }
    Ok(None)
}

/// The position of the state that this owner's shadow was made from; none when there is no such shadow.
pub(super) fn shadow_of(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    key: ShadowKey,
    owner: &ComponentId,
) -> Result<Option<Position>, Failure> {
    let Some(shadow) = shadows.get(key)? else { return Ok(None) };
    let (base, bytes) = shadow.value();
    let is_own = tables::decode_object_head(bytes)?.0 == *owner;
    Ok(is_own.then_some(Position::new(base)))
}

/// The position of the state that a shadow was made from.
fn made_from(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    id: ObjectId,
    generation: u32,
) -> Result<Option<Position>, Failure> {
    Ok(shadows.get((id.to_bits(), generation))?.map(|row| Position::new(row.value().0)))
}

fn states_in_force(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    id: ObjectId,
    at: Position,
) -> Result<Vec<Object>, Failure> {
    let mut states = Vec::new();
    for row in shadows.rows_in(all_of(id))? {
        let (_, value) = row?;
        if let Some(position) = raise_of(generations, value.value())?
            && position <= at
        {
            states.push(tables::decode_object(id, position, value.value().1)?);
        }
    }
    Ok(states)
}

fn position_in_force(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    generations: &Generations,
    key: ShadowKey,
) -> Result<Option<Position>, Failure> {
    let row: Option<AccessGuard<'_, ShadowRow>> = shadows.get(key)?;
    row.map_or(Ok(None), |row| raise_of(generations, row.value()))
}

/// The commit that put a shadow in force.
fn raise_of(generations: &Generations, (base, bytes): (u64, &[u8])) -> Result<Option<Position>, Failure> {
    let (owner, generation) = tables::decode_object_head(bytes)?;
    Ok(generations.raised_at(&owner, generation, Position::new(base)))
}

fn shadow_keys(
    shadows: &impl ReadableTable<ShadowKey, ShadowRow>,
    id: ObjectId,
) -> Result<Vec<ShadowKey>, Failure> {
    shadows.rows_in(all_of(id))?.map(|row| Ok(row?.0.value())).collect()
}

fn all_of(id: ObjectId) -> RangeInclusive<ShadowKey> {
    (id.to_bits(), 0)..=(id.to_bits(), u32::MAX)
}

fn list(
    shared: &Shared,
    limit: usize,
    passes: impl Fn(&ComponentId, u32, Position) -> bool,
) -> Result<Vec<ShadowKey>, Failure> {
    shared.read(SHADOWS, |shadows| {
        let mut keys = Vec::new();
        for row in shadows.rows()? {
            let (key, value) = row?;
            let (base, bytes) = value.value();
            let (owner, generation) = tables::decode_object_head(bytes)?;
            if passes(&owner, generation, Position::new(base)) {
                keys.push(key.value());
            }
            if keys.len() >= limit {
                break;
            }
        }
        Ok(keys)
    })
}
