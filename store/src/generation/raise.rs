//! The deciding commit of a raise: small, whatever the number of objects.

use std::sync::Arc;

use redb::ReadableTable;
use serde_json::json;

use crate::audit::{self, Fact};
use crate::error::{CommitError, Contested, Failure};
use crate::id::{ComponentId, Digest, ObjectId, Position};
use crate::record::RecordWrite;
use crate::tables::{self, Tables};
use crate::unit::Layer;

use super::shadow::{is_shadow_of, newest_head};
use super::{GenerationRecord, Generations};

/// A raise that may be decided.
#[derive(Debug)]
pub(crate) struct Raised {
    component: ComponentId,
    from: u32,
    to: u32,
    evolver: Digest,
    /// The component's objects, and those of them that the raise carries over.
    objects: u64,
    evolved: u64,
}

/// Judges what a unit writes against the generations in force, and the raises among it. The outer error is the disk's.
///
/// Cost: nothing while no generation was ever raised; a raise looks at every object of its component once.
pub(crate) fn judge(
    tables: &Tables<'_>,
    writes: &Layer,
    generations: &Generations,
) -> Result<Result<Vec<Raised>, CommitError>, Failure> {
    let mut raises = Vec::new();
    for record in &writes.records {
        let RecordWrite::RaiseGeneration { component, from, to, evolver } = record else { continue };
        match judge_raise(tables, writes, generations, (component, *from, *to, *evolver))? {
            Ok(raised) => raises.push(raised),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(judge_objects(writes, generations, &raises).map(|()| raises))
}

/// Puts the judged raises in force from `position` on.
pub(crate) fn write_raised(
    tables: &mut Tables<'_>,
    raises: &[Raised],
    (position, at_ms): (Position, u64),
    generations: &mut Arc<Generations>,
) -> Result<(), Failure> {
    for raise in raises {
        let Raised { component, from, to, evolver, objects, evolved } = raise;
        let record = GenerationRecord {
            component: component.clone(),
            generation: *to,
            evolver: *evolver,
            since_ms: at_ms,
        };
        let row = tables::encode_json("generations", &record)?;
        tables.generations.insert((component.as_str(), position.get()), row.as_slice())?;
        let detail =
            json!({ "from": from, "to": to, "evolver": evolver, "objects": objects, "evolved": evolved });
        let fact = Fact { kind: "generation.raised".into(), subject: component.to_string(), detail };
        audit::write(tables, &fact, position, at_ms)?;
        Arc::make_mut(generations).raise(component.clone(), position, *to);
        fail::fail_point!("store::generation-raised");
    }
    Ok(())
}

fn judge_raise(
    tables: &Tables<'_>,
    writes: &Layer,
    generations: &Generations,
    (component, from, to, evolver): (&ComponentId, u32, u32, Digest),
) -> Result<Result<Raised, CommitError>, Failure> {
    let in_force = generations.in_force(component, Position::new(u64::MAX));
    if in_force.is_some_and(|in_force| in_force != from) {
        return Ok(Err(CommitError::Conflict(Contested::Generation(component.clone()))));
    }
    let mut raised = Raised { component: component.clone(), from, to, evolver, objects: 0, evolved: 0 };
    for row in tables.owned.range((component.as_str(), 0)..=(component.as_str(), u128::MAX))? {
        let id = ObjectId::from_bits(row?.0.value().1);
        raised.objects += 1;
        // What the unit writes itself is judged by what it writes.
        if writes.objects.contains_key(&id) {
            continue;
        }
        if is_shadow_of(&tables.shadows, (id.to_bits(), to), component)? {
            raised.evolved += 1;
        } else if newest_head(tables, generations, id)?.is_some_and(|(_, generation)| generation < to) {
            return Ok(Err(CommitError::Unevolved { component: component.clone(), object: id }));
        }
    }
    Ok(Ok(raised))
}

/// Nothing is written in a generation below the one that is, or will be, in force.
fn judge_objects(writes: &Layer, generations: &Generations, raises: &[Raised]) -> Result<(), CommitError> {
    if generations.is_empty() && raises.is_empty() {
        return Ok(());
    }
    for object in writes.objects.values() {
        let owner = &object.owner;
        let raised = raises.iter().rfind(|raise| raise.component == *owner);
        if raised.is_some_and(|raise| object.generation < raise.to) {
            return Err(CommitError::Unevolved { component: owner.clone(), object: object.id });
        }
        let in_force = generations.in_force(owner, Position::new(u64::MAX));
        if in_force.is_some_and(|in_force| object.generation < in_force) {
            return Err(CommitError::Conflict(Contested::Generation(owner.clone())));
        }
    }
    Ok(())
}
