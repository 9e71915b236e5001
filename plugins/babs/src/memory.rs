//! Turns as objects, found by order and by meaning.
//!
//! A turn is an object of its own with the slots of [`Turn`]; its vector is that of what was said. The vector's
//! metadata repeats both texts, cut short, so that recalling reads no object, and says whether a question was asked:
//! a question is nearest to itself and tells nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use telos_sdk::prelude::*;
use telos_sdk::storage::StorageError;
use telos_sdk::vectors::{Collection, Neighbor, VectorError};

use crate::prompt::clip;

const COLLECTION: &str = "turns";
/// Turns farther than this in meaning are not recalled. On all-MiniLM-L6-v2, seven questions were 0.34 to 0.66 from the
/// fact that answers them; of six unrelated pairs five were 0.84 to 0.96 apart, and a greeting 0.64 from a question.
const DISTANCE_MAX: f32 = 0.7;
/// Newest turns kept in order; older ones are found by meaning only.
const RECENT_MAX: usize = 64;
/// Characters of each text in a vector's metadata, of which the host takes 4 KiB.
const METADATA_CHARS: usize = 400;

/// One turn: what was said, and what Babs answered.
#[derive(Serialize)]
pub(crate) struct Turn {
    pub(crate) object: Object,
    pub(crate) number: u64,
    pub(crate) said: String,
    pub(crate) answered: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) when_ms: u64,
}

/// A turn found by meaning; its texts are cut to 400 characters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Recalled {
    pub(crate) object: Object,
    /// Cosine distance of what was said to what was asked for.
    pub(crate) distance: f32,
    pub(crate) said: String,
    pub(crate) answered: String,
}

#[derive(Deserialize)]
struct Texts {
    said: String,
    answered: String,
}

/// Which turns to recall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    /// Turns in which something was told, not asked.
    Told,
}

/// The at most `k` turns of this conversation that are near enough, nearest first.
pub(crate) fn recall(
    this: &Receiver,
    vector: &[f32],
    k: u32,
    kind: Kind,
) -> Result<Vec<Recalled>, VectorError> {
    let turns = Collection::named(COLLECTION);
    let mut search = turns.nearest(k).matching("conversation", this.object().to_string());
    if kind == Kind::Told {
        search = search.matching("is_question", false);
    }
    match search.find(vector) {
        Ok(neighbors) => Ok(near(neighbors)),
        Err(VectorError::NoSuchCollection) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The newest `n` turns, oldest first.
pub(crate) fn recent(this: &Receiver, n: usize) -> Result<Vec<Turn>, StorageError> {
    let recent = this.slot::<Vec<Object>>("recent")?;
    recent.iter().skip(recent.len().saturating_sub(n)).map(|turn| read(*turn)).collect()
}

/// Stores a turn with its vector, as the conversation's newest.
pub(crate) fn remember(this: &Receiver, said: &str, answered: &str, vector: &[f32]) -> Result<(), Failure> {
    let mut count = this.slot::<u64>("count")?;
    *count += 1;
    let turn = Object::create(&[])?;
    turn.write("number", &*count)?;
    turn.write("said", said)?;
    turn.write("answered", answered)?;
    turn.write("when_ms", &now_ms())?;
    let mut recent = this.slot::<Vec<Object>>("recent")?;
    recent.push(turn);
    let old = recent.len().saturating_sub(RECENT_MAX);
    recent.drain(..old);
    let metadata = json!({
        "conversation": this.object(),
        "said": clip(said, METADATA_CHARS),
        "answered": clip(answered, METADATA_CHARS),
        "is_question": said.ends_with('?'),
    });
    Ok(Collection::named(COLLECTION).upsert(turn, vector, &metadata)?)
}

fn read(turn: Object) -> Result<Turn, StorageError> {
    Ok(Turn {
        object: turn,
        number: turn.read("number")?.unwrap_or_default(),
        said: turn.read("said")?.unwrap_or_default(),
        answered: turn.read("answered")?.unwrap_or_default(),
        when_ms: turn.read("when_ms")?.unwrap_or_default(),
    })
}

fn near(neighbors: Vec<Neighbor>) -> Vec<Recalled> {
    neighbors.into_iter().filter(|hit| hit.distance <= DISTANCE_MAX).filter_map(recalled).collect()
}

/// None when the metadata is not a turn's.
fn recalled(hit: Neighbor) -> Option<Recalled> {
    let Texts { said, answered } = Texts::deserialize(hit.metadata).ok()?;
    Some(Recalled { object: hit.object, distance: hit.distance, said, answered })
}

/// The time at which the host admitted the message.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(distance: f32, metadata: Value) -> Neighbor {
        let object = "0123456789abcdef0123456789abcdef".parse().unwrap();
        Neighbor { object, distance, metadata }
    }

    #[test]
    fn only_near_turns_are_recalled_in_order() {
        let texts = |said: &str| json!({"conversation": "x", "said": said, "answered": "yes"});
        let hits = vec![hit(0.1, texts("a")), hit(DISTANCE_MAX, texts("b")), hit(0.71, texts("c"))];
        let said: Vec<_> = near(hits).into_iter().map(|turn| turn.said).collect();
        assert_eq!(said, ["a", "b"]);
    }

    #[test]
    fn metadata_of_something_else_is_skipped() {
        assert_eq!(near(vec![hit(0.1, json!({"said": 1})), hit(0.1, json!(null))]), []);
    }
}
