//! One change that somebody asks for directly, not through a message: decided at most once, whatever happens.
//!
//! ```text
//! remembered   the request was decided before       its answer again, nothing runs
//! prepare      a unit, and what will be answered    run anew when others changed what it read
//! decide       the unit, the request's number and the answer in one commit
//! ```
//! The answer is stored without its position, which the commit adds; so the first answer and every later one are read
//! from the same bytes. It names no object: what is forgotten must not live on in answers.
//!
//! Never here: who may ask, what a change is about.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use telos_store::{CommitError, DedupeKey, Position, Store, Unit, Vote};

use crate::decide::decide;
use crate::failure::{Effect, FREE_ROOM, FREE_SPACE};
use crate::publication::Publication;

/// Attempts of one change before it gives up. Whoever waits for a lane first can only lose to nested messages.
const ATTEMPTS_MAX: u32 = 64;

/// What became of a change that has nothing to tell but where it was decided.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) position: u64,
}

/// Decides what `prepare` writes into a fresh unit, and answers what it said, with the commit's position, and the pause
/// that its publication made; none when the request had been decided before.
///
/// # Errors
/// Whatever `prepare` refuses; a [`CommitError`] says by its effect whether the change may have happened.
pub(crate) async fn change<T, E>(
    store: &Store,
    request: Option<DedupeKey>,
    mut prepare: impl FnMut(&mut Unit) -> Result<(T, Option<Publication>), E>,
) -> Result<(T, Duration), E>
where
    T: Serialize + DeserializeOwned,
    E: From<CommitError>,
{
    let mut attempt = 1;
    loop {
        // On what is voted for, so that a busy object does not refuse every attempt.
        let mut unit = store.begin_on_voted();
        let (answer, publication) = prepare(&mut unit)?;
        let (outcome, is_published) = (keep(&answer), publication.is_some());
        let vote = Vote { dedupe: request, outcome: outcome.clone(), ..Vote::default() };
        let decided = match publication {
            Some(publication) => publication.commit(store, unit, vote).await,
            None => decide(store, unit, vote).await.map(|commit| (commit, Duration::ZERO)),
        };
        match decided {
            Ok((commit, pause)) => return Ok((recall(outcome, commit.position)?, pause)),
            Err(CommitError::DuplicateRequest { outcome, position }) => {
                return Ok((recall(outcome, position)?, Duration::ZERO));
            }
            Err(CommitError::Conflict(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
            // What was published in its vote has passed its place in the lane on, so it is not tried again.
            Err(CommitError::Aborted) if attempt < ATTEMPTS_MAX && !is_published => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a request was answered when it was decided; none for one that was not, or that has no number.
///
/// # Errors
/// A [`CommitError`] when the number may not be decided any more, the store's when it cannot be read.
pub(crate) fn remembered<T, E>(store: &Store, request: Option<DedupeKey>) -> Result<Option<T>, E>
where
    T: DeserializeOwned,
    E: From<CommitError> + From<telos_store::Failure>,
{
    let Some(key) = request else {
        return Ok(None);
    };
    match store.dedupe_lookup(&key)?.into_result(&key) {
        Ok(()) => Ok(None),
        Err(CommitError::DuplicateRequest { outcome, position }) => Ok(Some(recall(outcome, position)?)),
        Err(error) => Err(error.into()),
    }
}

fn keep(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_default()
}

/// The answer kept with a decision. One that is not of its kind is told as what it is: decided, with no answer left.
fn recall<T: DeserializeOwned>(outcome: Vec<u8>, position: Position) -> Result<T, CommitError> {
    let mut answer: Value = serde_json::from_slice(&outcome).unwrap_or_default();
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("position".into(), position.get().into());
    }
    serde_json::from_value(answer).map_err(|_| CommitError::DuplicateRequest { outcome, position })
}

/// Whether a change that failed so may have happened.
pub(crate) fn effect(error: &CommitError) -> Effect {
    match error.effect() {
        telos_store::Effect::None => Effect::None,
        telos_store::Effect::Committed => Effect::Committed,
        telos_store::Effect::Unknown => Effect::Unknown,
    }
}

/// The stable word for programs, the same that messages use.
pub(crate) fn kind(error: &CommitError) -> &'static str {
    match error {
        CommitError::Conflict(_) | CommitError::Aborted => "conflict",
        CommitError::Unavailable(_) => "unavailable",
        CommitError::Deadline => "deadline",
        CommitError::TooOld { .. } | CommitError::UnknownSession => "session",
        CommitError::DatabaseFull { .. }
        | CommitError::StorageFull { .. }
        | CommitError::VectorsFull { .. } => "full",
        CommitError::NoRoom { .. } => "no-room",
        CommitError::OutboxFull { .. } => "busy",
        CommitError::Busy { .. } | CommitError::SessionFull { .. } | CommitError::BlobMissing(_) => "busy",
        CommitError::ReadOnlyStore { .. } | CommitError::Closed => "busy",
        _ => "refused",
    }
}

/// What to do next, when there is something better than reading the message.
pub(crate) fn next_step(error: &CommitError) -> Option<&'static str> {
    match kind(error) {
        "conflict" | "busy" => Some("ask again in a moment"),
        "unavailable" => Some("look whether it happened, with `telos audit`, before asking again"),
        "session" => Some("open a new session and ask again"),
        "full" => Some(FREE_ROOM),
        "no-room" => Some(FREE_SPACE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde::Deserialize;
    use telos_store::{ComponentId, SessionId, StoreOptions};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Counted {
        tries: u32,
        position: u64,
    }

    fn key(number: u64) -> Option<DedupeKey> {
        let incarnation = u64::MAX / 2;
        Some(DedupeKey { session: SessionId { client: 1, incarnation }, number, acked_through: 0 })
    }

    #[tokio::test]
    async fn a_resent_request_is_answered_from_its_decision() {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let mut tries = 0;
        let mut ask = async || {
            change::<Counted, CommitError>(&store, key(1), |unit| {
                tries += 1;
                unit.audit("counted", "test", Value::Null).unwrap();
                Ok((Counted { tries, position: 0 }, None))
            })
            .await
            .unwrap()
            .0
        };
        let first = ask().await;
        assert_eq!(first, Counted { tries: 1, position: 1 });
        assert_eq!(ask().await, first);
        assert_eq!(store.audit_after(0, 10).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_change_that_loses_is_prepared_again_on_what_won() {
        let store = Store::scratch(StoreOptions::default()).unwrap();
        let mut unit = store.begin();
        let id = unit.create(ComponentId::operator(), 1, vec![]).unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
        let mut tries = 0;
        let (counted, _) = change::<Counted, CommitError>(&store, None, |unit| {
            tries += 1;
            unit.set_owner_generation(id, ComponentId::operator(), 2).unwrap();
            if tries == 1 {
                let mut rival = store.begin();
                rival.set_owner_generation(id, ComponentId::operator(), 3).unwrap();
                store.decide(rival, Vote::default()).wait().unwrap();
            }
            Ok((Counted { tries, position: 0 }, None))
        })
        .await
        .unwrap();
        assert_eq!(counted.tries, 2);
    }
}
