//! What one change of a seat decides, and what is said of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use telos_store::{DedupeKey, ReleaseRecord, ReleaseState, Unit};

use crate::generation::{next_of_waiting, waits_for_start};
use crate::lesson::Lesson;
use crate::publication::Move;
use crate::seat::Release;
use crate::swap::{SwapError, Swapped};

/// Why a release comes to serve: the audit row's kind.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// New bytes.
    Installed,
    /// An operator chose it.
    Swapped,
    /// An operator went back.
    RolledBack,
    /// It got what it waited for: a grant, or a start that carried its component's state over.
    Awaited,
    /// The release on probation was burnt, or does not load any more.
    Returned,
}

impl Reason {
    pub(crate) const ALL: [Self; 5] =
        [Self::Installed, Self::Swapped, Self::RolledBack, Self::Awaited, Self::Returned];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Installed => "plugin.installed",
            Self::Swapped => "plugin.swapped",
            Self::RolledBack => "plugin.rolled-back",
            Self::Awaited => "plugin.activated",
            Self::Returned => "plugin.returned",
        }
    }
}

/// Everything one change of a seat decides.
pub(crate) struct Decision {
    pub(crate) release: Arc<Release>,
    pub(crate) record: ReleaseRecord,
    pub(crate) granting: BTreeSet<String>,
    /// What an operator must grant first.
    pub(crate) missing: Vec<String>,
    pub(crate) consumed: Option<String>,
    pub(crate) reason: Reason,
    /// The release that loses the seat, with the verdict against it; none unless the seat returns.
    pub(crate) ousted: Option<ReleaseRecord>,
    /// The seat does not return from the release to what serves now, whatever it breaks.
    pub(crate) no_return: bool,
    /// What an object is taught in the same commit.
    pub(crate) lesson: Option<Lesson>,
    /// Who asked, and under which number.
    pub(crate) request: Option<DedupeKey>,
}

/// What a staged release waits for.
#[derive(Clone, Copy)]
pub(crate) enum Waits {
    Grants,
    /// Its component's state is of an earlier generation than its own.
    Start {
        from: u32,
        to: u32,
    },
}

impl Decision {
    pub(crate) fn write(&self, unit: &mut Unit, state: ReleaseState) -> Result<(), SwapError> {
        for interface in &self.granting {
            unit.put_grant(&self.release.component, interface, "operator")?;
        }
        if let Some(path) = &self.consumed {
            unit.mark_consumed(path, self.release.digest)?;
        }
        if let Some(ousted) = &self.ousted {
            unit.put_release(ousted.clone())?;
        }
        unit.put_release(ReleaseRecord { state, ..self.record.clone() })?;
        match &self.lesson {
            Some(lesson) if state != ReleaseState::NeedsGrant && state != ReleaseState::Staged => {
                lesson.write(unit, &self.release)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn as_move(&self) -> Move {
        Move::Serve { release: Arc::clone(&self.release), granting: self.granting.clone() }
    }

    pub(crate) fn serving(&self, previous: Option<String>) -> Swapped {
        Swapped {
            id: self.release.component.clone(),
            version: self.release.version().to_string(),
            digest: self.release.digest,
            state: "serving".into(),
            missing_grants: self.missing.clone(),
            cause: None,
            next: None,
            previous,
            position: 0,
            pause_us: 0,
            is_unchanged: false,
        }
    }

    pub(crate) fn staged(&self, waits: Waits, previous: Option<String>) -> Swapped {
        let (cause, next) = match waits {
            // What is missing says it.
            Waits::Grants => (None, None),
            Waits::Start { from, to } => {
                let next = next_of_waiting(&self.release.component, &self.release.version().to_string());
                (Some(waits_for_start(from, to)), Some(next))
            }
        };
        Swapped { state: "staged".into(), cause, next, ..self.serving(previous) }
    }

    pub(crate) fn staging(&self, waits: Waits) -> Value {
        let (version, digest) = (self.release.version(), self.release.digest);
        match waits {
            Waits::Grants => json!({ "version": version, "digest": digest, "needs": self.missing }),
            Waits::Start { from, to } => {
                json!({ "version": version, "digest": digest, "from": from, "to": to })
            }
        }
    }
}
