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

use telos_store::{Commit, ComponentId, OnDecided, Position, Vote};

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

    /// The vote that publishes the change. `place`: in the lane of the root object, passed on when the vote passes.
    ///
    /// What passed and is not decided is withdrawn when the store lets go of the vote, which is before it takes writes
    /// again; one that was refused has published nothing.
    pub(crate) fn vote(&self, place: Option<Place>) -> Vote {
        let (passing, deciding) = (self.clone(), Deciding(self.clone()));
        let on_voted = move |position| {
            passing.pass(position);
            if let Some(place) = place {
                place.pass_on();
            }
        };
        Vote {
            on_voted: Some(OnDecided::new(on_voted)),
            on_decided: Some(OnDecided::new(move |_| deciding.decide())),
            ..Vote::default()
        }
    }

    /// How long no root could begin: the longer of two moments, the one for roots that may write and the one for those
    /// that only read. `asked_at`: when the store had taken the vote; units began on it before that.
    pub(crate) fn pause(&self, asked_at: Instant, commit: &Commit) -> Duration {
        let voted = self.0.voted.get().map(|voted| asked_at.saturating_duration_since(voted.at));
        let decided = self.0.decided_at.get().map(|at| commit.visible_at.saturating_duration_since(*at));
        voted.max(decided).unwrap_or_default()
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

    fn withdraw(&self) {
        let Publishing { seats, grants, change, voted, .. } = &*self.0;
        if let Some(voted) = voted.get() {
            seats.withdraw();
            if let Change::Seat { release, .. } = change {
                grants.withdraw(&release.component, &voted.granted);
            }
        }
    }
}

/// A change on its way to its decision.
struct Deciding(Publication);

impl Deciding {
    fn decide(self) {
        let Publishing { seats, voted, decided_at, .. } = &*self.0.0;
        if let Some(voted) = voted.get() {
            let _ = decided_at.set(Instant::now());
            seats.decide(Arc::clone(&voted.table));
        }
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        if self.0.0.decided_at.get().is_none() {
            self.0.withdraw();
        }
    }
}
