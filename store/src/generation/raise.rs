//! The deciding commit of a raise: small, whatever the number of objects.
//!
//! ```text
//! survey   looks at every object of the component            no lock; many votes may pass meanwhile
//! judge    in the vote: nothing of it was written since      under the order's lock; else it looks again
//! write    the raise and its audit row                       with everything else of its unit
//! ```

use std::sync::Arc;

use redb::ReadTransaction;
use serde_json::json;

use crate::audit::{self, Fact};
use crate::error::{CommitError, Contested, Failure};
use crate::id::{ComponentId, Digest, ObjectId, Position};
use crate::order::Order;
use crate::record::RecordWrite;
use crate::scan::Scan as _;
use crate::shared::Shared;
use crate::tables::{self, META, META_POSITION, OBJECTS, OWNED, SHADOWS, Tables};
use crate::unit::Layer;

use super::shadow::{newest_head, shadow_of};
use super::{GenerationRecord, Generations, Toward};

/// After every commit.
const NEWEST: Position = Position::new(u64::MAX);

/// A raise that may be decided.
#[derive(Debug)]
pub(crate) struct Raised {
    component: ComponentId,
    from: u32,
    to: u32,
    evolver: Digest,
    found: Found,
}

impl Raised {
    /// A raise of state that was written in its new generation already, all of it.
    pub(crate) fn whole(
        component: ComponentId,
        (from, to): (u32, u32),
        evolver: Digest,
        objects: u64,
    ) -> Raised {
        Raised { component, from, to, evolver, found: Found { objects, evolved: objects } }
    }

    fn toward(&self) -> Toward {
        Toward::between(self.from, self.to).unwrap_or(Toward::Up(self.to))
    }
}

/// How many objects a component has, and how many of them a raise carries over.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    objects: u64,
    evolved: u64,
}

/// What was found of a unit's raises, in their order, before it voted.
pub(crate) struct Survey {
    /// Everything through here was looked at.
    at: Position,
    era: u64,
    found: Vec<Result<Found, ObjectId>>,
}

/// Looks at the objects of the components that a unit raises; none when it raises nothing, or they cannot be read
/// now: then the vote looks.
pub(crate) fn survey(shared: &Shared, writes: &Layer) -> Option<Survey> {
    raises(writes).next()?;
    // The position comes first: the tables then show it and perhaps more.
    let (at, era) = (shared.position(), shared.order.read().era());
    let generations = Arc::clone(&shared.generations.read());
    let look_at_all = |txn: &ReadTransaction| {
        let looks = raises(writes).map(|raise| look(txn, None, &generations, writes, &raise));
        looks.collect::<Result<Vec<_>, _>>()
    };
    let found = shared.read_rows(look_at_all).ok()?;
    Some(Survey { at, era, found })
}

/// Judges what a unit writes against the generations in force, and the raises among it. The caller holds the order's
/// lock. The outer error is the disk's.
pub(crate) fn judge<'txn>(
    order: &Order,
    writes: &Layer,
    survey: Option<&Survey>,
    txn: impl Fn() -> Result<&'txn ReadTransaction, Failure>,
) -> Result<Result<Vec<Raised>, CommitError>, Failure> {
    let mut raised = Vec::new();
    for (index, raise) in raises(writes).enumerate() {
        let (component, from, to, evolver) = raise;
        let contested = || CommitError::Conflict(Contested::Generation(component.clone()));
        if order.generations().in_force(component, NEWEST).is_some_and(|in_force| in_force != from) {
            return Ok(Err(contested()));
        }
        let surveyed = survey.filter(|survey| survey.is_still_so(order, component));
        let found = match surveyed.and_then(|survey| survey.found.get(index)) {
            Some(found) => *found,
            None if has_pending_copies(order, txn()?)? => return Ok(Err(contested())),
            None => look(txn()?, Some(order), order.generations(), writes, &raise)?,
        };
        match found {
            Ok(found) => raised.push(Raised { component: component.clone(), from, to, evolver, found }),
            Err(object) => {
                return Ok(Err(CommitError::Unevolved { component: component.clone(), object }));
            }
        }
    }
    Ok(judge_objects(writes, order.generations(), &raised).map(|()| raised))
}

/// Puts the judged raises in force from `position` on.
pub(crate) fn write_raised(
    tables: &mut Tables<'_>,
    raises: &[Raised],
    (position, at_ms): (Position, u64),
    generations: &mut Arc<Generations>,
) -> Result<(), Failure> {
    for raise in raises {
        let Raised { component, from, to, evolver, found } = raise;
        let record = GenerationRecord {
            component: component.clone(),
            generation: *to,
            evolver: *evolver,
            since_ms: at_ms,
        };
        let row = tables::encode_json("generations", &record)?;
        tables.generations.open()?.insert((component.as_str(), position.get()), row.as_slice())?;
        let detail = json!({
            "from": from, "to": to, "evolver": evolver, "objects": found.objects, "evolved": found.evolved,
        });
        let kind = if from < to { "generation.raised" } else { "generation.lowered" };
        let fact = Fact { kind: kind.into(), subject: component.to_string(), detail };
        audit::write(tables, &fact, position, at_ms)?;
        Arc::make_mut(generations).raise(component.clone(), position, *to);
        fail::fail_point!("store::generation-raised");
    }
    Ok(())
}

impl Survey {
    /// Nothing that it found can have changed.
    fn is_still_so(&self, order: &Order, component: &ComponentId) -> bool {
        self.era == order.era() && order.touched(component) <= self.at
    }
}

/// Component, from, to, evolver.
type Raise<'a> = (&'a ComponentId, u32, u32, Digest);

fn raises(writes: &Layer) -> impl Iterator<Item = Raise<'_>> {
    writes.records.iter().filter_map(|record| match record {
        RecordWrite::RaiseGeneration { component, from, to, evolver } => {
            Some((component, *from, *to, *evolver))
        }
        _ => None,
    })
}

/// Copies that are not in the tables yet, or still are: nobody can say now what the raise would find.
fn has_pending_copies(order: &Order, txn: &ReadTransaction) -> Result<bool, Failure> {
    let durable = tables::read_meta(&txn.open_table(META)?, META_POSITION)?;
    Ok(order.copied() > Position::new(durable))
}

/// The component's objects, or the first that a raise would leave behind. What the unit writes itself is judged by
/// what it writes.
fn look(
    txn: &ReadTransaction,
    order: Option<&Order>,
    generations: &Generations,
    writes: &Layer,
    (component, from, to, _): &Raise<'_>,
) -> Result<Result<Found, ObjectId>, Failure> {
    let toward = Toward::between(*from, *to).unwrap_or(Toward::Up(*to));
    let (objects, shadows) = (txn.open_table(OBJECTS)?, txn.open_table(SHADOWS)?);
    // A pending state has a copy when it is durable already and only has not left the order.
    for state in order.into_iter().flat_map(|order| order.objects_of(component)) {
        let is_judged = writes.objects.contains_key(&state.id) || !toward.leaves_behind(state.generation);
        let has_copy = || {
            Ok::<_, Failure>(
                shadow_of(&shadows, (state.id.to_bits(), *to), component)? == Some(state.position),
            )
        };
        if !is_judged && !has_copy()? {
            return Ok(Err(state.id));
        }
    }
    let mut found = Found::default();
    for row in txn.open_table(OWNED)?.rows_in((component.as_str(), 0)..=(component.as_str(), u128::MAX))? {
        let id = ObjectId::from_bits(row?.0.value().1);
        found.objects += 1;
        let is_pending = order.is_some_and(|order| order.object(id, NEWEST).is_some());
        if writes.objects.contains_key(&id) {
            continue;
        }
        let base = shadow_of(&shadows, (id.to_bits(), *to), component)?;
        let head = || newest_head(&objects, &shadows, generations, id);
        // A raise since then may have put another copy in the place of what this one was made from.
        let is_newest = |base: &Position| {
            let is_last = generations.between(component, *base, NEWEST).is_empty();
            Ok::<_, Failure>(is_last || head()?.is_some_and(|(position, _)| position == *base))
        };
        if base.as_ref().map_or(Ok(false), is_newest)? {
            found.evolved += 1;
        } else if !is_pending && head()?.is_some_and(|(_, generation)| toward.leaves_behind(generation)) {
            return Ok(Err(id));
        }
    }
    Ok(Ok(found))
}

/// Nothing is written in a generation that is, or will be, left behind.
fn judge_objects(writes: &Layer, generations: &Generations, raises: &[Raised]) -> Result<(), CommitError> {
    if generations.is_empty() && raises.is_empty() {
        return Ok(());
    }
    for object in writes.objects.values() {
        let owner = &object.owner;
        let raised = raises.iter().rfind(|raise| raise.component == *owner);
        if let Some(raise) = raised {
            // What is lowered to is the one generation that is written then.
            let is_below = raise.to < raise.from && object.generation < raise.to;
            if is_below || raise.toward().leaves_behind(object.generation) {
                return Err(CommitError::Unevolved { component: owner.clone(), object: object.id });
            }
            continue;
        }
        if !generations.admits(owner, object.generation) {
            return Err(CommitError::Conflict(Contested::Generation(owner.clone())));
        }
    }
    Ok(())
}
