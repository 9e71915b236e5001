//! Managed generations: the schema of one component's stored state, changed for all its objects by one small commit.
//!
//! ```text
//! shadow    evolved copies beside the rows, in batches     nobody reads them; a write drops its object's copy
//! raise     one commit: in force from its position on      refused while an object has no copy
//! lower     the same, to an earlier generation             the way back of a release that is taken back
//! settle    copies become ordinary rows, step by step      nobody sees a difference
//! drop      a generation that was not reached leaves nothing, also when the process died on the way
//! ```
//! An object's state as of P is its newest row at or below P, unless its owner's generation was raised between
//! that row and P: then it is the copy that this raise put in force, as if the raising commit had written it.
//! A copy belongs to the first raise to its generation after the state that it was made from, so that a generation may
//! be left and come again. Below, a raise is also one that lowers.
//! What is kept in memory is a list of raises per component, changed before their position becomes visible; an
//! object whose owner was not raised since its row costs one look into that list.
//! Never here: how state evolves, who may raise.

mod raise;
mod shadow;
mod toward;

use std::collections::HashMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::id::{ComponentId, Digest, Position};
use crate::scan::Scan as _;
use crate::tables;

pub(crate) use raise::{Raised, Survey, judge, survey, write_raised};
pub(crate) use shadow::{
    drop_leftovers, drop_outdated, drop_shadows, keys_of, list_in_force, list_unevolved, newest_head,
    newest_position, position_over, read_state, settle, write_shadow,
};
pub use toward::Toward;

/// A generation of one component's stored state, in force from the position of its commit on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// The component whose objects it concerns.
    pub component: ComponentId,
    /// The generation.
    pub generation: u32,
    /// Digest of the code that carried the state over.
    pub evolver: Digest,
    /// Since when it is in force, Unix milliseconds.
    pub since_ms: u64,
}

/// Which generations were put in force, and where: what every read and vote looks into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    /// Positions rise.
    raises: HashMap<ComponentId, Vec<(Position, u32)>>,
}

impl Generations {
    /// Every raise in the table.
    pub(crate) fn read(
        table: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    ) -> Result<Generations, Failure> {
        let mut generations = Generations::default();
        for row in table.rows()? {
            let (key, value) = row?;
            let record: GenerationRecord = tables::decode_json("generations", value.value())?;
            generations.raise(record.component, Position::new(key.value().1), record.generation);
        }
        Ok(generations)
    }

    pub(crate) fn raise(&mut self, component: ComponentId, position: Position, generation: u32) {
        self.raises.entry(component).or_default().push((position, generation));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.raises.is_empty()
    }

    /// The generation in force as of a position; none when it was never raised.
    pub(crate) fn in_force(&self, component: &ComponentId, at: Position) -> Option<u32> {
        let raises = self.raises.get(component)?;
        raises.iter().rev().find(|(position, _)| *position <= at).map(|(_, generation)| *generation)
    }

    /// Whether an object may be written in a generation: not below the one in force, nor above one that was lowered to,
    /// since that was left behind.
    pub(crate) fn admits(&self, component: &ComponentId, generation: u32) -> bool {
        let raises = self.raises.get(component).map_or(&[][..], Vec::as_slice);
        match raises {
            [] => true,
            [.., (_, before), (_, last)] if before > last => generation == *last,
            [.., (_, last)] => generation >= *last,
        }
    }

    /// The commit that put a copy in force: of this generation, made from the state of position `base`.
    pub(crate) fn raised_at(
        &self,
        component: &ComponentId,
        generation: u32,
        base: Position,
    ) -> Option<Position> {
        let raises = self.raises.get(component)?;
        let is_first = |(position, raised): &&(Position, u32)| *raised == generation && *position > base;
        raises.iter().find(is_first).map(|(position, _)| *position)
    }

    /// The raises after one position and up to another, newest first. No allocation when there are none. Cost: a look at
    /// each raise that is newer than the first of the two.
    pub(crate) fn between(
        &self,
        component: &ComponentId,
        after: Position,
        at: Position,
    ) -> Vec<(Position, u32)> {
        let Some(raises) = self.raises.get(component) else {
            return Vec::new();
        };
        let newer = raises.iter().rev().take_while(|(position, _)| after < *position);
        newer.filter(|(position, _)| *position <= at).copied().collect()
    }
}
