//! How the store stands with its disk: whether it takes writes, and what the disk did to it so far.
//!
//! ```text
//! a commit fails        read-only, until the database is open again
//! for want of space     open again, but full: until so much room as commits need is there, units that write are
//!                       refused before they are decided, so nobody has to ask whether they were
//! somebody met damage   as before, since the rest may be whole; it is kept until the whole file was looked at
//! ```
//! Only the committer changes whether it takes writes. Never here: what becomes of the units that were being decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::error::Failure;

/// What a store says about its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why the database is closed for writing just now; none while it is open.
    pub read_only: Option<Arc<str>>,
    /// What the disk said when it had no room; none while the store takes writes, and while it is read-only.
    pub full: Option<Arc<str>>,
    /// How often the disk failed it since it was opened.
    pub failures: u64,
    /// What the disk said the last time.
    pub last_failure: Option<Arc<str>>,
    /// What could not be read because it is not as it was written, the last time; the rest of the file is served. None
    /// once a verification of the open store found nothing, unless it is the pages that are damaged.
    pub damage: Option<Arc<str>>,
    /// What is known of the file's pages.
    pub pages: PagesStanding,
}

/// What is known of the pages of a store's file: redb looks at one when it reads it, and does not compare it with its
/// checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagesStanding {
    /// Nothing since it was opened: it had been closed in good order, or nobody was to look.
    #[default]
    Trusted,
    /// It had not been closed in good order, and the look at all of them has not come to its end. Closed like that it is
    /// looked at by the next start.
    Unchecked,
    /// As [`PagesStanding::Unchecked`], and nobody is looking any more: too much was written meanwhile, the disk failed,
    /// or no thread could be had. A verification looks, and so does the next start.
    Unfinished,
    /// All of them were as they had been written when they were last looked at.
    Whole,
    /// Some were not, now or when an earlier process looked; see [`Standing::damage`]. It stays so until a backup is
    /// restored, also over restarts: a page that was written anew since has a checksum that fits whatever it holds. To
    /// live with it, remove the file `damaged` in the store's directory while nobody has the store open.
    Damaged,
}

impl Standing {
    /// Why it refuses to write; none while it does not.
    pub fn trouble(&self) -> Option<&Arc<str>> {
        self.read_only.as_ref().or(self.full.as_ref())
    }
}

/// The standing of one store.
#[derive(Debug, Default)]
pub(crate) struct Stand {
    now: RwLock<Standing>,
    /// How often damage was noted.
    notes: AtomicU64,
}

impl Stand {
    pub(crate) fn now(&self) -> Standing {
        self.now.read().clone()
    }

    pub(crate) fn read_only(&self) -> Option<Arc<str>> {
        self.now.read().read_only.clone()
    }

    pub(crate) fn full(&self) -> Option<Arc<str>> {
        self.now.read().full.clone()
    }

    /// The disk failed; nothing is written until [`Stand::open`].
    pub(crate) fn fail(&self, failure: &Failure) {
        let cause: Arc<str> = failure.to_string().into();
        let mut standing = self.now.write();
        standing.failures += 1;
        standing.last_failure = Some(Arc::clone(&cause));
        standing.read_only = Some(cause);
        standing.full = None;
    }

    /// Something in the file is not as it was written.
    pub(crate) fn note_damage(&self, what: &str) {
        let mut standing = self.now.write();
        self.notes.fetch_add(1, Ordering::AcqRel);
        standing.damage = Some(what.into());
    }

    /// What a look at every page found, or that one has begun. Damage that was found stays.
    pub(crate) fn note_pages(&self, pages: PagesStanding) {
        let mut standing = self.now.write();
        if standing.pages != PagesStanding::Damaged {
            standing.pages = pages;
        }
    }

    /// The look after a start has ended without an end, unless somebody else's has had one.
    pub(crate) fn note_unfinished(&self) {
        let mut standing = self.now.write();
        if standing.pages == PagesStanding::Unchecked {
            standing.pages = PagesStanding::Unfinished;
        }
    }

    /// How often damage was noted so far.
    pub(crate) fn damage_notes(&self) -> u64 {
        self.notes.load(Ordering::Acquire)
    }

    /// The whole file was looked at, and nothing is wrong; damage that was noted after the first `notes` stays,
    /// and so does that of pages.
    pub(crate) fn note_whole(&self, notes: u64) {
        let mut standing = self.now.write();
        if self.damage_notes() == notes && standing.pages != PagesStanding::Damaged {
            standing.damage = None;
        }
    }

    /// The database cannot be opened for writing, for another reason than it was closed for.
    pub(crate) fn stay_read_only(&self, failure: &Failure) {
        self.now.write().read_only = Some(failure.to_string().into());
    }

    /// The database is open again. `full`: it was closed for want of space.
    pub(crate) fn open(&self, full: Option<Arc<str>>) {
        let mut standing = self.now.write();
        standing.full = full;
        standing.read_only = None;
    }
}
