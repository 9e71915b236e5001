//! The vote: all that can refuse a unit, judged against what is decided and what was voted for before it.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use redb::ReadTransaction;

use crate::error::{CommitError, Contested, Failure, Overflow};
use crate::generation::{self, Raised};
use crate::id::{ComponentId, Digest, ObjectId, Position};
use crate::limit;
use crate::order::{Known, KnownSession, Order};
use crate::record::RecordWrite;
use crate::session::{self, DedupeKey, SessionId, SessionRow};
use crate::shared::Shared;
use crate::tables::{self, BLOBS, COLLECTIONS, DEDUPE, NAMES, OBJECTS, OUTBOX, SESSIONS, SHADOWS, VECTORS};

use super::{Ballot, room};

const NEWEST: Position = Position::new(u64::MAX);

/// Judges a ballot. The caller holds the order's lock, so nothing leaves the order while the tables are read.
///
/// Answers the raises among its writes. The outer error is the disk's: then nothing happened.
pub(super) fn vote(
    shared: &Shared,
    order: &mut Order,
    ballot: &Ballot,
    now_ms: u64,
) -> Result<Result<Vec<Raised>, CommitError>, Failure> {
    let _steady = shared.database.steady();
    if let Some(key) = &ballot.vote.dedupe {
        learn_session(shared, order, key.session)?;
    }
    let order = &*order;
    let voter = Voter { txn: OnceCell::new(), shared, order };
    // A resent request is answered as decided before anything else is judged: its reads have long changed.
    if let Some(key) = &ballot.vote.dedupe
        && let Err(refused) = voter.judge(key, now_ms)?.into_result(key)
    {
        return Ok(Err(refused));
    }
    if let Err(refused) = voter.check_bounds(ballot) {
        return Ok(Err(refused));
    }
    if let Some(contested) = voter.contested(ballot)? {
        return Ok(Err(CommitError::Conflict(contested)));
    }
    if let Err(refused) = room::vote(shared, order, ballot, |digest| voter.is_named(digest))? {
        return Ok(Err(refused));
    }
    generation::judge(order, &ballot.writes, ballot.survey.as_ref(), || voter.tables())
}

/// Reads a session from the tables unless the order knows it.
fn learn_session(shared: &Shared, order: &mut Order, session: SessionId) -> Result<(), Failure> {
    if order.session(session).is_some() {
        return Ok(());
    }
    let txn = shared.database.read()?;
    let Some(row) = tables::read_session(&txn.open_table(SESSIONS)?, session)? else {
        order.learn_session(session, None);
        return Ok(());
    };
    let numbers = tables::read_decided_numbers(&txn.open_table(DEDUPE)?, session)?;
    order.learn_session(
        session,
        Some(KnownSession { acked_through: row.acked_through, last_ms: row.last_ms, numbers }),
    );
    Ok(())
}

/// What a vote looks at: the order first, the tables second.
struct Voter<'a> {
    /// Begun when something is first read: most votes read nothing.
    txn: OnceCell<ReadTransaction>,
    shared: &'a Shared,
    order: &'a Order,
}

impl Voter<'_> {
    fn tables(&self) -> Result<&ReadTransaction, Failure> {
        if let Some(txn) = self.txn.get() {
            return Ok(txn);
        }
        let txn = self.shared.database.read()?;
        Ok(self.txn.get_or_init(|| txn))
    }

    /// What is known about a request.
    fn judge(&self, key: &DedupeKey, now_ms: u64) -> Result<session::Dedupe, Failure> {
        // Of a sweep under way, which may be ahead of this clock: what it closes is closed.
        let now_ms = now_ms.max(self.order.sweeping_ms());
        let Some(known) = self.order.session(key.session) else {
            return Ok(session::judge(key, None, None, 0, now_ms));
        };
        let is_decided = known.numbers.contains(&key.number);
        let decided = if is_decided { self.decided(key)? } else { None };
        // A sweep has just removed the session, and the order is about to hear so.
        if is_decided && decided.is_none() {
            return Ok(session::Dedupe::UnknownSession);
        }
        let KnownSession { acked_through, last_ms, .. } = *known;
        let row = SessionRow { acked_through, last_ms, ..SessionRow::default() };
        let rows = known.count_above(session::watermark(key, Some(row)));
        Ok(session::judge(key, Some(row), decided, rows, now_ms))
    }

    /// The decision of a request, pending or stored.
    fn decided(&self, key: &DedupeKey) -> Result<Option<(Position, Vec<u8>)>, Failure> {
        match self.order.decided(key) {
            Some(pending) => Ok(Some(pending)),
            None => tables::read_decided(&self.tables()?.open_table(DEDUPE)?, key),
        }
    }

    /// Whether a durable row names a blob.
    fn is_named(&self, digest: &Digest) -> Result<bool, Failure> {
        Ok(self.tables()?.open_table(BLOBS)?.get(digest.as_bytes())?.is_some())
    }

    fn check_bounds(&self, ballot: &Ballot) -> Result<(), CommitError> {
        let bytes = ballot.writes.bytes + ballot.vote.outcome.len();
        Overflow::check("bytes written by one unit", bytes, limit::UNIT_BYTES_MAX)?;
        self.check_collections(ballot)?;
        self.check_posts(ballot)
    }

    /// Whether the outbox has room, for all and for whoever sends.
    fn check_posts(&self, ballot: &Ballot) -> Result<(), CommitError> {
        let posts = &ballot.writes.posts;
        if posts.is_empty() {
            return Ok(());
        }
        let pending = self.order.posts_after(self.shared.outbox.lock().pending());
        let full = |owner, pending, allowed| Err(CommitError::OutboxFull { owner, pending, allowed });
        if pending + posts.len() > limit::POSTS_PENDING_MAX {
            return full(None, pending, limit::POSTS_PENDING_MAX);
        }
        for (owner, more) in &ballot.posters {
            let durable = self.shared.outbox.lock().pending_of(owner);
            let pending = self.order.posts_of_after(owner, durable);
            if pending + more > limit::POSTS_PENDING_PER_OWNER_MAX {
                return full(Some(owner.clone()), pending, limit::POSTS_PENDING_PER_OWNER_MAX);
            }
        }
        Ok(())
    }

    /// Whether each owner's collections are few enough, those that were voted for before it included.
    fn check_collections(&self, ballot: &Ballot) -> Result<(), CommitError> {
        let made = &ballot.writes.collections;
        if made.is_empty() {
            return Ok(());
        }
        let index = self.shared.index.read();
        let owners: BTreeSet<&ComponentId> = made.keys().map(|key| &key.owner).collect();
        for owner in owners {
            // What is in the index already is not yet out of the order.
            let mut beside: BTreeSet<_> =
                self.order.collections_of(owner).filter(|key| index.form(key).is_none()).collect();
            let before = beside.len();
            beside.extend(made.keys().filter(|key| key.owner == *owner && index.form(key).is_none()));
            if beside.len() > before {
                let found = index.collections_of(owner) + beside.len();
                Overflow::check("collections of one owner", found, limit::COLLECTIONS_PER_OWNER_MAX)?;
            }
        }
        Ok(())
    }

    /// The first thing read or written that is no longer as the unit saw it.
    fn contested(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        // Nothing was voted for since the unit began: all it read is still so.
        let is_newest = ballot.snapshot == self.order.position();
        let contested = match is_newest {
            true => None,
            false => self.contested_read(ballot)?,
        };
        match contested {
            None => self.contested_write(ballot),
            contested => Ok(contested),
        }
    }

    fn contested_read(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        if let Some(contested) = self.contested_object(ballot)? {
            return Ok(Some(contested));
        }
        if let Some(contested) = self.contested_name(ballot)? {
            return Ok(Some(contested));
        }
        self.contested_vector(ballot)
    }

    fn contested_object(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        if ballot.seen.objects.is_empty() && ballot.seen.existing.is_empty() {
            return Ok(None);
        }
        for (id, seen) in &ballot.seen.objects {
            let seen = seen.as_ref().map_or(Position::NONE, |object| object.position);
            if self.object_head(*id)? != seen {
                return Ok(Some(Contested::Object(*id)));
            }
        }
        for id in &ballot.seen.existing {
            if self.object_head(*id)? == Position::NONE {
                return Ok(Some(Contested::Object(*id)));
            }
        }
        Ok(None)
    }

    /// The commit that made, or will have made, an object's newest state.
    fn object_head(&self, id: ObjectId) -> Result<Position, Failure> {
        let generations = self.order.generations();
        let pending = match self.order.state(id, NEWEST) {
            Some(Known::Durable(state)) => return Ok(state.position),
            Some(Known::Pending(state)) => Some(state),
            None => None,
        };
        if generations.is_empty() {
            return match pending {
                Some(state) => Ok(state.position),
                None => tables::read_object_position(&self.tables()?.open_table(OBJECTS)?, id, NEWEST),
            };
        }
        let (objects, shadows) = (self.tables()?.open_table(OBJECTS)?, self.tables()?.open_table(SHADOWS)?);
        match pending {
            Some(state) => generation::position_over(&shadows, generations, state),
            None => generation::newest_position(&objects, &shadows, generations, id),
        }
    }

    fn contested_name(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        if ballot.seen.names.is_empty() {
            return Ok(None);
        }
        let names = self.tables()?.open_table(NAMES)?;
        // What a name stood for counts too: forgetting an object changes a row without moving it.
        for (name, seen) in &ballot.seen.names {
            let newest = match self.order.name(name, NEWEST) {
                Some(pending) => pending,
                None => tables::read_name(&names, name, NEWEST)?,
            };
            if newest != *seen {
                return Ok(Some(Contested::Name(name.clone())));
            }
        }
        Ok(None)
    }

    fn contested_vector(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        if ballot.seen.vectors.is_empty() {
            return Ok(None);
        }
        let (collections, vectors) =
            (self.tables()?.open_table(COLLECTIONS)?, self.tables()?.open_table(VECTORS)?);
        for ((collection, object), seen) in &ballot.seen.vectors {
            let number = tables::read_collection(&collections, collection)?.map(|(number, _)| number);
            let added = match (self.order.vector(collection, *object, NEWEST), number) {
                (Some(pending), _) => pending,
                (None, None) => Position::NONE,
                (None, Some(number)) => tables::read_vector_position(&vectors, (number, object.to_bits()))?,
            };
            if added != *seen {
                return Ok(Some(Contested::Vector { collection: collection.name.clone(), object: *object }));
            }
        }
        Ok(None)
    }

    /// The first write that no longer fits.
    fn contested_write(&self, ballot: &Ballot) -> Result<Option<Contested>, Failure> {
        for (collection, form) in &ballot.writes.collections {
            let decided = self.shared.index.read().form(collection);
            let known = decided.or_else(|| self.order.form(collection));
            if known.is_some_and(|known| known != *form) {
                return Ok(Some(Contested::Collection(collection.name.clone())));
            }
        }
        for record in &ballot.writes.records {
            if let RecordWrite::Forget(forget) = record
                && let Some(child) = forget.contested(self.tables()?)?
            {
                return Ok(Some(Contested::Object(child)));
            }
        }
        if ballot.writes.taken.is_empty() {
            return Ok(None);
        }
        let outbox = self.tables()?.open_table(OUTBOX)?;
        for post in &ballot.writes.taken {
            if self.order.is_touched(*post) || outbox.get(tables::post_key(*post))?.is_none() {
                return Ok(Some(Contested::Post(*post)));
            }
        }
        Ok(None)
    }
}
