//! How a release stands that was taken in some time ago: it serves, it waits, or it is only kept.

use telos_store::{ComponentId, Digest, ReleaseState};

use crate::descriptor::Descriptor;
use crate::generation::waits_for_start;
use crate::swap::{SwapError, Swapper};

/// How a release stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseStanding {
    /// It serves.
    Serves,
    /// It serves as soon as these interfaces are granted. None: they are, and a swap lets it serve.
    NeedsGrants(Vec<String>),
    /// It serves from the next start on, for this reason.
    WaitsForStart(String),
    /// It is kept, and this version serves instead; none when its component was removed.
    Kept(Option<String>),
}

impl Swapper {
    /// The version of a kept release, and how it stands; none when there is no such release. A few point reads.
    pub(crate) fn release_standing(
        &self,
        component: &ComponentId,
        digest: Digest,
    ) -> Result<Option<(String, ReleaseStanding)>, SwapError> {
        let Some(record) = self.store.release(component, &digest)? else {
            return Ok(None);
        };
        let standing = if self.seat(component).is_ok_and(|seat| seat.digest == digest) {
            ReleaseStanding::Serves
        } else if record.state == ReleaseState::Staged {
            let unread = |error| SwapError::Store(format!("release {digest}: {error}"));
            let to = Descriptor::of(&record).map_err(unread)?.generation;
            ReleaseStanding::WaitsForStart(waits_for_start(self.in_force(component)?.unwrap_or_default(), to))
        } else if self.staged(component)?.is_some_and(|waits| waits.digest == digest) {
            ReleaseStanding::NeedsGrants(self.grants.missing(component, &record.imports))
        } else {
            ReleaseStanding::Kept(self.serving_version(component))
        };
        Ok(Some((record.version, standing)))
    }
}
