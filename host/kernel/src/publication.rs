//! Publishing a change of seats: with its vote to roots that may write, with its decision to roots that only read, and
//! taken back when it fails in between.
//!
//! ```text
//! vote     grants and the voted table, before units may begin on the change      taken back when the commit fails
//! decide   the decided table, before snapshots show the change                    final
//! ```
//! Never here: what a change writes, retries.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use telos_store::{Commit, CommitError, ComponentId, OnDecided, Position, Store, Unit, Vote};

use crate::decide::ask;
use crate::grant::Grants;
use crate::lane::Place;
use crate::seat::{Release, SeatTable, Seats};

/// What changes.
pub(crate) enum Change {
    /// A release takes its component's seat, and what it is granted along with it.
    Seat {
        /// The release.
        release: Arc<Release>,
        /// Interfaces granted in the same commit.
        granting: BTreeSet<String>,
    },
    /// A component's seat is gone.
    Vacate(ComponentId),
}

/// One change of seats on its way.
#[derive(Clone)]
pub(crate) struct Publication(Arc<Publishing>);

struct Publishing {
    seats: Arc<Seats>,
    grants: Arc<Grants>,
    change: Change,
    voted: OnceLock<Voted>,
    decided_at: OnceLock<Instant>,
}

/// What the vote published.
struct Voted {
    at: Instant,
    table: Arc<SeatTable>,
    granted: BTreeSet<String>,
}

impl Publication {
    pub(crate) fn new(seats: &Arc<Seats>, grants: &Arc<Grants>, change: Change) -> Self {
        Self(Arc::new(Publishing {
            seats: Arc::clone(seats),
            grants: Arc::clone(grants),
            change,
            voted: OnceLock::new(),
            decided_at: OnceLock::new(),
        }))
    }

    /// Commits the unit that carries the change. Answers the pause as well: the longer of the two moments during which
    /// no root could begin, the one for those that may write and the one for those that only read.
    ///
    /// `place`: in the lane of the root object, passed on when the vote passes.
    ///
    /// # Errors
    /// [`CommitError`]; then nothing of the change is published any more.
    pub(crate) async fn commit(
        self,
        store: &Store,
        unit: Unit,
        place: Option<Place>,
    ) -> Result<(Commit, Duration), CommitError> {
        let (passing, deciding, failing) = (self.clone(), self.clone(), self.clone());
        let on_voted = move |position| {
            passing.pass(position);
            if let Some(place) = place {
                place.pass_on();
            }
        };
        let vote = Vote {
            on_voted: Some(OnDecided::new(on_voted)),
            on_decided: Some(OnDecided::new(move |_| deciding.decide())),
            ..Vote::default()
        };
        let asked = ask(store, unit, vote, move |_| failing.withdraw());
        // Units began on it a moment before: the store has taken the vote.
        let reopened_at = Instant::now();
        let commit = asked.decided().await?;
        Ok((commit, self.pause(reopened_at, &commit)))
    }

    fn pass(&self, position: Position) {
        let Publishing { seats, grants, change, voted, .. } = &*self.0;
        let (at, now) = (Instant::now(), seats.voted());
        let (table, granted) = match change {
            Change::Seat { release, granting } => {
                (now.with(position, Arc::clone(release)), grants.extend(&release.component, granting))
            }
            Change::Vacate(component) => (now.without(position, component), BTreeSet::new()),
        };
        let table = Arc::new(table);
        seats.vote(Arc::clone(&table));
        // A unit passes one vote.
        let _ = voted.set(Voted { at, table, granted });
    }

    fn decide(&self) {
        let Publishing { seats, voted, decided_at, .. } = &*self.0;
        if let Some(voted) = voted.get() {
            let _ = decided_at.set(Instant::now());
            seats.decide(Arc::clone(&voted.table));
        }
    }

    /// Nothing to take back from a change that was refused in its vote.
    fn withdraw(&self) {
        let Publishing { seats, grants, change, voted, .. } = &*self.0;
        if let Some(voted) = voted.get() {
            seats.withdraw();
            if let Change::Seat { release, .. } = change {
                grants.withdraw(&release.component, &voted.granted);
            }
        }
    }

    fn pause(&self, reopened_at: Instant, commit: &Commit) -> Duration {
        let Publishing { voted, decided_at, .. } = &*self.0;
        let for_writers = voted.get().map(|voted| reopened_at.saturating_duration_since(voted.at));
        let for_readers = decided_at.get().map(|at| commit.visible_at.saturating_duration_since(*at));
        for_writers.max(for_readers).unwrap_or_default()
    }
}
