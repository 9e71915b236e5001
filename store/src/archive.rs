//! Archiving: all vectors of a collection move into an edition on disk, and searches go on throughout.
//!
//! ```text
//! read      every vector, some at a time                       nobody waits
//! build     an edition beside; validated                       nobody waits; crash: an orphan, deleted at the next start
//! wait      until no snapshot from before its newest vector    a minute at most
//!           is open
//! decide    the row that says which edition serves             one small commit; crash before: an orphan
//! switch    the index rests on it and keeps what changed since under the index's lock
//! collect   CURRENT names it, and editions before it go        when their last reader is gone; crash: done at the next
//!                                                              start
//! ```
//! The database keeps every vector: an edition that is lost, damaged, or of another past costs memory, and whoever meets
//! the damage one search that reads them there. It is given up then, as when an object is forgotten that it has rows of;
//! one that has such rows and is built or waits is deleted.

mod edition;
mod error;
mod given_up;
mod leaving;
mod publication;
mod rows;
mod work;

use std::sync::Arc;

use serde::Serialize;
use telos_archive::{Budget, Verify};

use crate::curator;
use crate::damage;
use crate::error::Failure;
use crate::id::ComponentId;
use crate::shared::{Collection, Shared, read_collections};
use crate::store::Store;
use crate::vectors::Metric;

pub use edition::{ArchiveWork, BuiltAbout, BuiltEdition};
pub use error::ArchiveError;
pub(crate) use error::is_passing;
pub use given_up::GivenUpEdition;
pub(crate) use given_up::Note;
pub(crate) use leaving::{leave, withdraw_unused};
pub(crate) use publication::Publication;
pub(crate) use work::Underway;

/// What archiving did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArchiveReport {
    /// The edition that serves now.
    #[serde(flatten)]
    pub about: BuiltAbout,
    /// How long the switch held up searches and commits, in microseconds.
    pub switch_us: u64,
}

/// One edition, as verification found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EditionCheck {
    /// The component whose collection it is of.
    pub owner: ComponentId,
    /// The collection.
    pub collection: String,
    /// Its number.
    pub edition: u64,
    /// What is wrong; none when every byte is as it was written.
    pub problem: Option<String>,
}

impl Store {
    /// Moves all vectors of a collection into a new edition of the archive: searches then read most of them from disk.
    /// Answers once it serves. Cost: as [`ArchiveWork::build`] and [`BuiltEdition::publish`] say.
    ///
    /// # Errors
    /// [`ArchiveError`]; what served goes on.
    pub fn archive(
        &self,
        owner: &ComponentId,
        collection: &str,
        budget: &Budget,
        progress: &dyn Fn(telos_archive::Progress),
    ) -> Result<ArchiveReport, ArchiveError> {
        self.begin_archive(owner, collection)?.build(budget, progress)?.publish()
    }

    /// Begins to move all vectors of a collection into a new edition, step by step.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchCollection`], [`ArchiveError::NotCosine`], [`ArchiveError::Busy`],
    /// [`ArchiveError::InMemory`], [`ArchiveError::Shelf`], [`ArchiveError::Failed`].
    pub fn begin_archive(&self, owner: &ComponentId, collection: &str) -> Result<ArchiveWork, ArchiveError> {
        ArchiveWork::begin(self, find(self.shared(), owner, collection)?)
    }

    /// Reads every byte of every edition that serves; those that do not, since something is wrong with them, are problems
    /// until their collections are archived again.
    ///
    /// # Errors
    /// [`Failure`] when the database cannot be read.
    pub fn verify_archive(&self) -> Result<Vec<EditionCheck>, Failure> {
        let shared = self.shared();
        let read = || -> Result<_, Failure> { read_collections(&shared.database.read()?) };
        let collections = damage::guard(read).inspect_err(|failure| shared.report(failure))?;
        let mut checks: Vec<_> =
            collections.iter().filter_map(|collection| check(shared, collection)).collect();
        // After them: one that is found damaged may be given up meanwhile.
        let damaged = self.editions_given_up()?.into_iter().filter(|edition| !edition.is_forgetting);
        let of = |check: &EditionCheck| (check.owner.clone(), check.collection.clone());
        let known: Vec<_> = checks.iter().map(of).collect();
        checks.extend(damaged.map(EditionCheck::of).filter(|check| !known.contains(&of(check))));
        Ok(checks)
    }
}

impl EditionCheck {
    fn of(given_up: GivenUpEdition) -> EditionCheck {
        let GivenUpEdition { owner, collection, edition, why, .. } = given_up;
        let problem = format!("it does not serve: {why}; {}", archive_again(&owner, &collection));
        EditionCheck { owner, collection, edition, problem: Some(problem) }
    }
}

/// What puts a collection right.
pub(crate) fn archive_again(owner: &ComponentId, collection: &str) -> String {
    format!("`telos memory archive {owner} {collection}` builds a new one")
}

/// The edition that serves a collection; none without one. Where another takes its place meanwhile, that one.
fn check(shared: &Arc<Shared>, collection: &Collection) -> Option<EditionCheck> {
    let serving = || shared.index.read().edition(&collection.key);
    loop {
        let edition = serving()?;
        let problem = problem_of(shared, collection, edition);
        curator::reader_left(shared);
        // One that does not serve any more may have been deleted under whoever read it.
        if problem.is_none() || serving() == Some(edition) {
            let (owner, name) = (collection.key.owner.clone(), collection.key.name.as_str().to_owned());
            return Some(EditionCheck { owner, collection: name, edition, problem });
        }
    }
}

fn problem_of(shared: &Shared, collection: &Collection, edition: u64) -> Option<String> {
    let why = match shared.shelves.edition(collection.number, edition, Verify::Full) {
        Ok(Some(_)) => return None,
        Ok(None) => "its files are gone".to_owned(),
        Err(cause) => cause.to_string(),
    };
    let Collection { key, .. } = collection;
    Some(format!("{why}; {}", archive_again(&key.owner, key.name.as_str())))
}

fn find(shared: &Shared, owner: &ComponentId, name: &str) -> Result<Collection, ArchiveError> {
    let read = || -> Result<_, Failure> { read_collections(&shared.database.read()?) };
    let collections = damage::guard(read)?;
    let is_it =
        |collection: &Collection| collection.key.owner == *owner && collection.key.name.as_str() == name;
    let found = collections.into_iter().find(is_it);
    let found = found.ok_or_else(|| ArchiveError::NoSuchCollection(owner.clone(), name.into()))?;
    match found.form.metric {
        Metric::Cosine => Ok(found),
        Metric::Euclidean => Err(ArchiveError::NotCosine(name.into())),
    }
}
