//! How a release stands that was taken in some time ago: it serves, it waits, or it is only kept.

use telos_store::{ComponentId, Digest};

use crate::swap::{SwapError, Swapper};

/// How a release stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It serves.
    Serves,
    /// It serves as soon as these interfaces are granted. None: they are, and a swap lets it serve.
    Waits(Vec<String>),
    /// It is kept, and this version serves instead; none when its component was removed.
    Kept(Option<String>),
}

impl Swapper {
    /// The version of a kept release, and how it stands; none when there is no such release. A few point reads.
    pub(crate) fn standing(
        &self,
        component: &ComponentId,
        digest: Digest,
    ) -> Result<Option<(String, Standing)>, SwapError> {
        let Some(record) = self.store.release(component, &digest)? else {
            return Ok(None);
        };
        let standing = match self.seat(component) {
            Ok(seat) if seat.digest == digest => Standing::Serves,
            _ if self.staged(component)?.is_some_and(|waits| waits.digest == digest) => {
                Standing::Waits(self.grants.missing(component, &record.imports))
            }
            _ => Standing::Kept(self.serving_version(component)),
        };
        Ok(Some((record.version, standing)))
    }
}
