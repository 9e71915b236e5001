//! Generations that a draft puts in force: a component's state goes to another generation as a whole, or not at all.
//!
//! ```text
//! note     an object was put in a later generation      from here on its component is being raised
//! judge    every object of the component is in it       when the draft is sealed; else it is refused
//! write    the raise and its audit row                  in the draft's one commit
//! ```
//! From there on no release of an earlier generation serves before the state is carried back for it, as after any other
//! raise.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Failure;
use crate::generation::{self, Raised};
use crate::id::{ComponentId, Digest, ObjectId};
use crate::scan::Scan as _;
use crate::tables::{OBJECTS, OWNED, SHADOWS, Tables};

use super::{Draft, DraftError};

/// A generation that a draft put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DraftRaise {
    /// The component whose objects it concerns.
    pub component: ComponentId,
    /// The lowest one that any of the objects was in.
    pub from: u32,
    /// The one that all of them are in.
    pub to: u32,
    /// How many objects there are, those that the draft made among them.
    pub objects: u64,
}

/// Between which generations a component is being raised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raising {
    from: u32,
    pub(super) to: u32,
}

impl Draft {
    /// An object goes to a later generation.
    pub(super) fn note_raise(&mut self, component: &ComponentId, from: u32, to: u32) {
        let raising = self.raising.entry(component.clone()).or_insert(Raising { from, to });
        *raising = Raising { from: raising.from.min(from), to: raising.to.max(to) };
    }

    /// What the draft raises, by component. Everything it changed is in the copy. Cost: a look at every object of the
    /// components that it raises.
    ///
    /// # Errors
    /// [`DraftError::LeftBehind`] when an object is not in the generation that others were put in.
    pub(super) fn judge_raises(&self) -> Result<Vec<DraftRaise>, DraftError> {
        self.raising.iter().map(|(component, raising)| self.judge_raise(component, *raising)).collect()
    }

    /// Puts in force what was judged, in the transaction that makes the draft a commit.
    pub(super) fn write_raises(
        &mut self,
        tables: &mut Tables<'_>,
        raises: &[DraftRaise],
        evolver: Digest,
    ) -> Result<(), Failure> {
        let raised: Vec<Raised> = raises
            .iter()
            .map(|raise| {
                Raised::whole(raise.component.clone(), (raise.from, raise.to), evolver, raise.objects)
            })
            .collect();
        let at = (self.position(), self.at_ms);
        generation::write_raised(tables, &raised, at, &mut self.generations)
    }

    fn judge_raise(
        &self,
        component: &ComponentId,
        Raising { from, to }: Raising,
    ) -> Result<DraftRaise, DraftError> {
        let (mut objects, mut behind, mut first) = (0, 0, None);
        self.each_generation(component, |object, found| {
            objects += 1;
            if found != to {
                behind += 1;
                first.get_or_insert((object, found));
            }
        })?;
        let component = component.clone();
        match first {
            None => Ok(DraftRaise { component, from, to, objects }),
            Some((object, found)) => {
                Err(DraftError::LeftBehind { component, object, found, wanted: to, behind, objects })
            }
        }
    }

    /// Every object of a component, and the generation that the copy has it in.
    fn each_generation(
        &self,
        component: &ComponentId,
        mut see: impl FnMut(ObjectId, u32),
    ) -> Result<(), Failure> {
        let all = (component.as_str(), 0)..=(component.as_str(), u128::MAX);
        let generations = Arc::clone(&self.generations);
        self.read(|txn| {
            let (objects, shadows) = (txn.open_table(OBJECTS)?, txn.open_table(SHADOWS)?);
            for row in txn.open_table(OWNED)?.rows_in(all)? {
                let id = ObjectId::from_bits(row?.0.value().1);
                if let Some((_, found)) = generation::newest_head(&objects, &shadows, &generations, id)? {
                    see(id, found);
                }
            }
            Ok(())
        })
    }
}
