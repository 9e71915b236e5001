//! Editions that were given up, for whoever runs the host: which, and why, until the collection is archived again.
//!
//! ```text
//! note     why an edition does not serve      memory, where it is found out: at a start, or by a search
//! audit    `memory.edition-given-up`          in the commit after which no row names it; once for each edition
//! list     rows whose edition does not serve  why is from the note, or from the audit when another start had it
//! ```
//! One that may be whole is noted and not audited: another start may read it.

use serde::Serialize;
use serde_json::json;

use crate::damage;
use crate::error::{Failure, WriteError};
use crate::id::ComponentId;
use crate::shared::{Collection, Shared, read_collections};
use crate::store::Store;
use crate::tables::{EDITIONS, GIVEN_UP};
use crate::unit::Unit;

/// The kind of the rows about editions that were given up; the subject is `owner/collection`.
const KIND: &str = "memory.edition-given-up";
const UNKNOWN: &str = "it was given up before this start";

/// An edition that a collection does not rest on any more, or not this time: its vectors are in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GivenUpEdition {
    /// The component whose collection it is of.
    pub owner: ComponentId,
    /// The collection.
    pub collection: String,
    /// Its number.
    pub edition: u64,
    /// What was found.
    pub why: String,
    /// It had a vector of what was forgotten, and nothing is wrong with it besides.
    pub is_forgetting: bool,
}

/// Why an edition does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) edition: u64,
    pub(crate) why: String,
    pub(crate) is_forgetting: bool,
}

impl Note {
    pub(crate) fn damaged(edition: u64, why: String) -> Note {
        Note { edition, why, is_forgetting: false }
    }

    pub(crate) fn forgotten(edition: u64) -> Note {
        Note { edition, why: "it had rows of an object that was forgotten".into(), is_forgetting: true }
    }
}

impl Store {
    /// Editions that do not serve although their collections were archived; each until its collection is archived again.
    /// Cost: a row for each collection; once for each edition that an earlier start gave up, a look through the audit.
    ///
    /// # Errors
    /// [`Failure`] when the database cannot be read.
    pub fn editions_given_up(&self) -> Result<Vec<GivenUpEdition>, Failure> {
        let shared = self.shared();
        let read = || -> Result<_, Failure> { read_collections(&shared.database.read()?) };
        let collections = damage::guard(read).inspect_err(|failure| shared.report(failure))?;
        let mut given_up = Vec::new();
        for Collection { key, number, .. } in collections {
            let row = shared.read(EDITIONS, |editions| Ok(editions.get(number)?.map(|row| row.value())))?;
            let Some((edition, base)) = row else { continue };
            if shared.index.read().edition(&key) == Some(edition) {
                continue;
            }
            let noted = shared.shelves.note_of(number).filter(|note| note.edition == edition);
            let note = match noted {
                Some(note) => note,
                None if base == GIVEN_UP => {
                    let subject = format!("{}/{}", key.owner, key.name);
                    let note = self.note_in_audit(&subject, edition)?;
                    shared.shelves.note(number, note.clone());
                    note
                }
                // It is about to serve.
                None => continue,
            };
            let (owner, collection) = (key.owner, key.name.as_str().to_owned());
            let Note { edition, why, is_forgetting } = note;
            given_up.push(GivenUpEdition { owner, collection, edition, why, is_forgetting });
        }
        Ok(given_up)
    }

    fn note_in_audit(&self, subject: &str, edition: u64) -> Result<Note, Failure> {
        let rows = self.audit_between(0, u64::MAX, 1, |row| {
            row.kind == KIND && row.subject == subject && row.detail["edition"] == edition
        })?;
        let detail = rows.first().map(|row| &row.detail);
        let why = detail.and_then(|detail| detail["why"].as_str()).unwrap_or(UNKNOWN).to_owned();
        let is_forgetting = detail.is_some_and(|detail| detail["is_forgetting"] == true);
        Ok(Note { edition, why, is_forgetting })
    }
}

/// Has a unit say that an edition was given up, and why.
pub(super) fn audit(
    unit: &mut Unit,
    shared: &Shared,
    collection: &Collection,
    edition: u64,
) -> Result<(), WriteError> {
    let Collection { key, number, .. } = collection;
    let noted = shared.shelves.note_of(*number).filter(|note| note.edition == edition);
    let Note { why, is_forgetting, .. } = noted.unwrap_or_else(|| Note::damaged(edition, UNKNOWN.into()));
    let detail = json!({
        "owner": key.owner,
        "collection": key.name.as_str(),
        "edition": edition,
        "why": why,
        "is_forgetting": is_forgetting,
    });
    unit.audit(KIND, &format!("{}/{}", key.owner, key.name), detail)
}
