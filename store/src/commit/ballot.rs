//! The vote: all that can refuse a unit, checked before it writes anything.

use redb::ReadableTable;

use crate::error::{CommitError, Contested, Failure, Overflow};
use crate::generation::{self, Generations};
use crate::id::Position;
use crate::limit;
use crate::session::{self, DedupeKey};
use crate::tables::{self, Tables};

use super::Ballot;

/// Judges a ballot against the tables as its group left them so far. The outer error is the disk's.
pub(super) fn vote(
    tables: &Tables<'_>,
    ballot: &Ballot,
    generations: &Generations,
    pending: usize,
    now_ms: u64,
) -> Result<Result<(), CommitError>, Failure> {
    // A resent request is answered as decided before anything else is judged: its reads have long changed.
    if let Some(key) = &ballot.vote.dedupe
        && let Err(refused) = judge(tables, key, now_ms)?.into_result(key)
    {
        return Ok(Err(refused));
    }
    if let Err(refused) = check_bounds(ballot, pending) {
        return Ok(Err(refused));
    }
    let contested = match contested_read(tables, ballot, generations)? {
        None => contested_write(tables, ballot)?,
        contested => contested,
    };
    Ok(contested.map_or(Ok(()), |contested| Err(CommitError::Conflict(contested))))
}

/// What the tables know about a request.
pub(crate) fn judge(tables: &Tables<'_>, key: &DedupeKey, now_ms: u64) -> Result<session::Dedupe, Failure> {
    let row = tables::read_session(&tables.sessions, key.session)?;
    let decided = tables::read_decided(&tables.dedupe, key)?;
    let rows = tables::count_rows_above(&tables.dedupe, key, row)?;
    Ok(session::judge(key, row, decided, rows, now_ms))
}

fn check_bounds(ballot: &Ballot, pending: usize) -> Result<(), CommitError> {
    let bytes = ballot.writes.bytes + ballot.vote.outcome.len();
    Overflow::check("bytes written by one unit", bytes, limit::UNIT_BYTES_MAX)?;
    let posts = ballot.writes.posts.len();
    if posts > 0 && pending + posts > limit::POSTS_PENDING_MAX {
        return Err(CommitError::OutboxFull { pending, allowed: limit::POSTS_PENDING_MAX });
    }
    Ok(())
}

/// The first thing read that is no longer so.
fn contested_read(
    tables: &Tables<'_>,
    ballot: &Ballot,
    generations: &Generations,
) -> Result<Option<Contested>, Failure> {
    const NEWEST: Position = Position::new(u64::MAX);
    for (id, seen) in &ballot.seen.objects {
        let seen = seen.as_ref().map_or(Position::NONE, |object| object.position);
        if generation::newest_position(tables, generations, *id)? != seen {
            return Ok(Some(Contested::Object(*id)));
        }
    }
    for (name, (_, seen)) in &ballot.seen.names {
        if tables::read_name(&tables.names, name, NEWEST)?.1 != *seen {
            return Ok(Some(Contested::Name(name.clone())));
        }
    }
    for ((collection, object), seen) in &ballot.seen.vectors {
        let number = tables::read_collection(&tables.collections, collection)?.map(|(number, _)| number);
        let added = match number {
            None => Position::NONE,
            Some(number) => tables::read_vector_position(&tables.vectors, (number, object.to_bits()))?,
        };
        if added != *seen {
            return Ok(Some(Contested::Vector { collection: collection.name.clone(), object: *object }));
        }
    }
    Ok(None)
}

/// The first write that no longer fits.
fn contested_write(tables: &Tables<'_>, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
    for ((collection, _), vector) in &ballot.writes.vectors {
        let dim = tables::read_collection(&tables.collections, collection)?.map(|(_, dim)| dim);
        let is_other =
            |vector: &crate::vectors::Vector| dim.is_some_and(|dim| dim != vector.components.len());
        if vector.as_ref().is_some_and(is_other) {
            return Ok(Some(Contested::Collection(collection.name.clone())));
        }
    }
    for post in &ballot.writes.taken {
        if tables.outbox.get(tables::post_key(*post))?.is_none() {
            return Ok(Some(Contested::Post(*post)));
        }
    }
    Ok(None)
}
