//! Publishing a change of seats or grants: with its vote to roots that may write, with its decision to roots that only read, and
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
    /// Who serves: one seat, or several at once.
    Seats(Vec<Move>),
    /// A component may use more.
    Grant(ComponentId, BTreeSet<String>),
    /// A component may use less.
    Revoke(ComponentId, BTreeSet<String>),
}

/// What becomes of one component's seat.
#[derive(Clone)]
pub(crate) enum Move {
    /// A release takes it, and what it is granted along with it.
    Serve {
        /// The release.
        release: Arc<Release>,
        /// Interfaces granted in the same commit.
        granting: BTreeSet<String>,
    },
    /// It is gone.
    Vacate(ComponentId),
}

/// One change of seats or grants on its way.
#[derive(Clone)]
pub(crate) struct Publication(Arc<Publishing>);

struct Publishing {
    seats: Arc<Seats>,
    grants: Arc<Grants>,
    change: Change,
    /// In the lanes of root objects, passed on when the vote passes.
    places: Vec<Place>,
    voted: OnceLock<Voted>,
    decided_at: OnceLock<Instant>,
}

/// What the vote published.
struct Voted {
    at: Instant,
    /// None when no seat changes.
    table: Option<Arc<SeatTable>>,
    /// Of each component, what was not granted before, or was until now.
    moved: Vec<(ComponentId, BTreeSet<String>)>,
}

impl Publication {
    /// `places`: in the lanes of root objects that change.
    pub(crate) fn new(seats: &Arc<Seats>, grants: &Arc<Grants>, change: Change, places: Vec<Place>) -> Self {
        Self(Arc::new(Publishing {
            seats: Arc::clone(seats),
            grants: Arc::clone(grants),
            change,
            places,
            voted: OnceLock::new(),
            decided_at: OnceLock::new(),
        }))
    }

    /// Commits the unit that carries the change. Answers the pause as well: the longer of the two moments during which
    /// no root could begin, the one for those that may write and the one for those that only read.
    ///
    /// # Errors
    /// [`CommitError`]; then nothing of the change is published any more.
    pub(crate) async fn commit(
        self,
        store: &Store,
        unit: Unit,
        vote: Vote,
    ) -> Result<(Commit, Duration), CommitError> {
        let (passing, deciding, failing) = (self.clone(), self.clone(), self.clone());
        let vote = Vote {
            on_voted: Some(OnDecided::new(move |position| passing.pass(position))),
            on_decided: Some(OnDecided::new(move |_| deciding.decide())),
            ..vote
        };
        let asked = ask(store, unit, vote, move |_| failing.withdraw());
        // Units began on it a moment before: the store has taken the vote.
        let reopened_at = Instant::now();
        let commit = asked.decided().await?;
        Ok((commit, self.pause(reopened_at, &commit)))
    }

    fn pass(&self, position: Position) {
        let Publishing { seats, grants, change, places, voted, .. } = &*self.0;
        fail::fail_point!("kernel::voting");
        let (at, now) = (Instant::now(), seats.voted());
        let moved = |component: &ComponentId, moved| vec![(component.clone(), moved)];
        let (table, moved) = match change {
            Change::Seats(moves) => (Some(Arc::new(now.moved(position, moves))), grant_along(grants, moves)),
            Change::Grant(component, interfaces) => {
                (None, moved(component, grants.extend(component, interfaces)))
            }
            Change::Revoke(component, interfaces) => {
                (None, moved(component, grants.retract(component, interfaces)))
            }
        };
        if let Some(table) = &table {
            seats.vote(Arc::clone(table));
        }
        // A unit passes one vote.
        let _ = voted.set(Voted { at, table, moved });
        places.iter().for_each(Place::pass_on);
        fail::fail_point!("kernel::voted");
    }

    fn decide(&self) {
        let Publishing { seats, voted, decided_at, .. } = &*self.0;
        if let Some(table) = voted.get().and_then(|voted| voted.table.as_ref()) {
            let _ = decided_at.set(Instant::now());
            seats.decide(Arc::clone(table));
            fail::fail_point!("kernel::published");
        }
    }

    /// Nothing to take back from a change that was refused in its vote.
    fn withdraw(&self) {
        let Publishing { seats, grants, change, voted, .. } = &*self.0;
        let Some(voted) = voted.get() else { return };
        if voted.table.is_some() {
            seats.withdraw();
        }
        for (component, moved) in &voted.moved {
            match change {
                Change::Seats(_) | Change::Grant(..) => drop(grants.retract(component, moved)),
                Change::Revoke(..) => drop(grants.extend(component, moved)),
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

/// Grants what releases are granted along with their seats; answers what was not granted before.
fn grant_along(grants: &Grants, moves: &[Move]) -> Vec<(ComponentId, BTreeSet<String>)> {
    let granted = |step: &Move| match step {
        Move::Serve { release, granting } => {
            Some((release.component.clone(), grants.extend(&release.component, granting)))
        }
        Move::Vacate(_) => None,
    };
    moves.iter().filter_map(granted).collect()
}
