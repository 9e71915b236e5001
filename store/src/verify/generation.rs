//! Generations and shadows: the states that raises put in force stand among the rows as if they had been written.

use std::collections::{BTreeMap, HashMap};

use crate::error::Failure;
use crate::generation::{GenerationRecord, Generations};
use crate::id::{ObjectId, Position};
use crate::object::Object;
use crate::scan::Scan as _;
use crate::tables::{self, ShadowKey};

use super::check::Check;

/// What is known of objects' states while their rows are walked in order.
#[derive(Default)]
pub(super) struct States {
    generations: Generations,
    /// States of shadows in force, by object and position, with their key and the state they were made from.
    in_force: BTreeMap<(u128, u64), (ShadowKey, Position, Object)>,
    /// Each object's newest state so far: position, revision, generation.
    newest: HashMap<u128, (Position, u64, u32)>,
}

impl States {
    /// The revision that the object's next state must have. What the first state replaced may have been pruned: then
    /// it has become so at or below the history floor.
    pub(super) fn revision_after(&mut self, object: &Object, floor: Position) -> u64 {
        let state = (object.position, object.revision.get(), object.generation);
        let before = self.newest.insert(object.id.to_bits(), state);
        let first = if object.position <= floor { object.revision.get().max(1) } else { 1 };
        before.map_or(first, |(_, revision, _)| revision + 1)
    }
}

impl Check<'_> {
    /// The raises, and the shadows that they put in force.
    pub(super) fn generations(&mut self) -> Result<(), Failure> {
        for row in self.txn.open_table(tables::GENERATIONS)?.rows()? {
            let (key, value) = row?;
            let (component, position) = key.value();
            self.report.rows += 1;
            self.decided(&format!("generation of {component}"), Position::new(position));
            match tables::decode_json::<GenerationRecord>("generations", value.value()) {
                Ok(record) => self.generation(component, Position::new(position), record),
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        for row in self.txn.open_table(tables::SHADOWS)?.rows()? {
            let (key, value) = row?;
            let (id, generation) = key.value();
            let (base, bytes) = value.value();
            let (owner, _) = tables::decode_object_head(bytes)?;
            if let Some(position) = self.states.generations.raised_at(&owner, generation, Position::new(base))
            {
                let state = tables::decode_object(ObjectId::from_bits(id), position, bytes)?;
                let shadow = (key.value(), Position::new(base), state);
                self.states.in_force.insert((id, position.get()), shadow);
            }
        }
        Ok(())
    }

    fn generation(&mut self, component: &str, position: Position, record: GenerationRecord) {
        let generations = &mut self.states.generations;
        let before = generations.in_force(&record.component, position).unwrap_or(0);
        if record.component.as_str() != component || record.generation == before {
            let what = format!("generation of {component} at {position}: {record:?} after {before}");
            return self.report.problem(what);
        }
        generations.raise(record.component, position, record.generation);
    }

    /// Looks at the states that raises put in force between two rows, the later of which may be another object's.
    pub(super) fn states_between(&mut self, before: Option<&Object>, next: Option<&Object>) {
        let Some(before) = before else { return };
        let id = before.id.to_bits();
        let until = next.filter(|next| next.id == before.id).map_or(u64::MAX, |next| next.position.get());
        let between = self.states.in_force.range((id, before.position.get())..(id, until));
        let keys: Vec<_> = between.map(|(key, _)| *key).collect();
        for key in keys {
            let Some((shadow, base, state)) = self.states.in_force.remove(&key) else { continue };
            self.shadow(shadow, base, &state);
            self.object(&state);
        }
        if until == u64::MAX {
            self.is_in_force(before);
        }
    }

    /// The object's newest state is in a generation of its owner that was not left behind.
    fn is_in_force(&mut self, row: &Object) {
        let in_force = self.states.generations.in_force(&row.owner, Position::new(u64::MAX)).unwrap_or(0);
        let newest = self.states.newest.get(&row.id.to_bits()).map_or(row.generation, |newest| newest.2);
        if !self.states.generations.admits(&row.owner, newest) {
            let what = format!("object {}: generation {newest}, {in_force} is in force", row.id);
            self.report.problem(what);
        }
    }

    /// What is left: shadows that are not in force belong to their object's newest state, or to the one that a raise has
    /// replaced by another shadow since; and no other is over.
    pub(super) fn shadows(&mut self) -> Result<(), Failure> {
        for (id, position) in std::mem::take(&mut self.states.in_force).into_keys() {
            self.report.problem(format!("shadow of {id:032x}: nothing before {position}"));
        }
        for row in self.txn.open_table(tables::SHADOWS)?.rows()? {
            let (key, value) = row?;
            let (id, generation) = key.value();
            let (base, bytes) = value.value();
            self.report.rows += 1;
            let state = tables::decode_object(ObjectId::from_bits(id), Position::NONE, bytes)?;
            let base = Position::new(base);
            let is_in_force = self.states.generations.raised_at(&state.owner, generation, base).is_some();
            if !is_in_force && !self.is_overtaken(base, &state) {
                self.shadow(key.value(), base, &state);
            }
        }
        Ok(())
    }

    /// Whether the newest state of a shadow's object was put in force by a raise after the shadow was made.
    fn is_overtaken(&self, base: Position, shadow: &Object) -> bool {
        let newest = self.states.newest.get(&shadow.id.to_bits());
        newest.is_some_and(|(position, ..)| {
            let since = self.states.generations.between(&shadow.owner, base, *position);
            since.first().is_some_and(|(raised_at, _)| raised_at == position)
        })
    }

    /// A shadow, when its object's newest state is the one that it must have been made from.
    fn shadow(&mut self, (id, key): ShadowKey, base: Position, state: &Object) {
        let Some((position, revision, generation)) = self.states.newest.get(&id).copied() else {
            return self.report.problem(format!("shadow of {id:032x}: the object does not exist"));
        };
        let is_next = state.generation == key && generation != key && state.revision.get() == revision + 1;
        if base != position || !is_next {
            let found = (base, state.revision, state.generation);
            let what =
                format!("shadow of {id:032x} in generation {key}: {found:?} after {position}, {revision}");
            self.report.problem(what);
        }
    }
}
