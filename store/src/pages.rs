//! Every page of an open store's file, compared with its checksum while commits go on.
//!
//! ```text
//! image    the file as a crash would leave it now              what is overwritten meanwhile is kept, see `image`
//! open     redb opens the image with every page checked        what that writes stays in memory
//! again    where too much was overwritten meanwhile            two times more; then commits wait for whoever asked
//! ```
//! redb trusts the pages that it reads, also when it opens a file that a crash left: it repairs without looking at them.
//! And a page that is written anew gets a checksum that fits whatever it holds. So a start after a crash has all of them
//! looked at once, beside everything else; a start after a good end does not, since that would read the whole file every
//! time. Whoever copies the whole file looks first. What a look found no later one takes back, see `mark`.
//! Never here: what the rows say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::bug;
use crate::damage;
use crate::error::Failure;
use crate::image::Image;
use crate::overlay::Overlay;
use crate::progress::{Meter, Phase, Progress};
use crate::shared::Shared;
use crate::standing::PagesStanding;

/// Looks that may be overtaken by what is written.
const ATTEMPTS: usize = 3;
/// redb's page cache while every page is checked: most are met once, and those that lead to others twice.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// What a look found where it found no damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Whole,
    /// It did not come to an end: too much was written meanwhile, the file was closed, or it was told to stop.
    Unfinished,
}

/// Looks at every page for somebody who waits; what is found is noted. Whoever calls this sees to it that the file is
/// not replaced meanwhile. Commits wait only where they overtook all attempts before.
///
/// # Errors
/// [`Failure::Damaged`] when one is not as it was written, or an earlier look found such a one; whatever else kept it
/// from being told.
pub(crate) fn check(shared: &Shared, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
    shared.mark.check()?;
    let mut meter = Meter::new(progress);
    meter.begin(Phase::Pages, 1);
    let never = Arc::default();
    let mut look = look_often(shared, shared.database.image(&never), &never);
    if let Ok(Look::Unfinished) = look {
        let _turn = shared.turn.lock();
        look = shared.database.image(&never).and_then(look_at);
    }
    note(shared, &look);
    meter.step(1);
    meter.end();
    match look? {
        // A look that began before may have found what was written anew since.
        Look::Whole => shared.mark.check(),
        // Nobody wrote, so the handle was replaced.
        Look::Unfinished => Err(Failure::Reopening),
    }
}

/// The thread that looks once after a start.
#[derive(Default)]
pub(crate) struct StartLook {
    thread: Mutex<Option<JoinHandle<()>>>,
    is_stopping: Arc<AtomicBool>,
}

/// Has every page looked at as the start found it, in a thread of its own: nothing that is written later, the start's own
/// writes included, hides what was damaged before, unless it overtakes the look.
pub(crate) fn begin(shared: &Arc<Shared>, found: Image) {
    shared.stand.note_pages(PagesStanding::Unchecked);
    let (of_thread, image) = (Arc::clone(shared), Ok(found.stopped_by(&shared.start_look.is_stopping)));
    let look = move || {
        if let Err(failure) = bug::guard("the look at every page", || look_after_crash(&of_thread, image)) {
            tracing::error!(%failure, "the next start looks at the pages again");
        }
        of_thread.stand.note_unfinished();
    };
    match std::thread::Builder::new().name("store-pages".into()).spawn(look) {
        Ok(thread) => *shared.start_look.thread.lock() = Some(thread),
        Err(cause) => {
            shared.stand.note_unfinished();
            tracing::warn!(%cause, "no thread could be had to look at the pages; the next start does");
        }
    }
}

impl StartLook {
    /// Ends the look at its next page, and waits for that.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let thread = self.thread.lock().take();
        // The thread itself may be the last to know the store.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn look_after_crash(shared: &Shared, image: Result<Image, Failure>) {
    let look = look_often(shared, image, &shared.start_look.is_stopping);
    note(shared, &look);
    match look {
        Ok(Look::Whole) => {
            tracing::info!("the file was not closed in good order, and every page of it is whole")
        }
        Ok(Look::Unfinished) if shared.start_look.is_stopping.load(Ordering::Acquire) => {}
        Ok(Look::Unfinished) => {
            tracing::warn!(
                "too much is written to look at the pages meanwhile; `telos store verify` does it"
            );
        }
        Err(failure) => tracing::error!(%failure, "the file was not closed in good order"),
    }
}

/// Looks until a look comes to its end, a few times at most; at the first image first.
fn look_often(
    shared: &Shared,
    first: Result<Image, Failure>,
    is_stopping: &Arc<AtomicBool>,
) -> Result<Look, Failure> {
    let mut look = first.and_then(look_at)?;
    for _ in 1..ATTEMPTS {
        if look == Look::Whole || is_stopping.load(Ordering::Acquire) {
            break;
        }
        look = shared.database.image(is_stopping).and_then(look_at)?;
    }
    Ok(look)
}

/// Looks at every page of an image. Cost: reads what is used of it once, what leads to other pages twice.
///
/// # Errors
/// [`Failure::Damaged`] when a page is not as it was written, and what the disk answers.
fn look_at(image: Image) -> Result<Look, Failure> {
    fail::fail_point!("store::pages-overtaken", |_| Ok(Look::Unfinished));
    let is_unfinished = image.lost();
    let opened = damage::guard(|| open_checked(image));
    if is_unfinished() { Ok(Look::Unfinished) } else { opened.map(|()| Look::Whole) }
}

/// Opens an image with every page checked. What that writes stays in memory.
fn open_checked(image: Image) -> Result<(), Failure> {
    let place = Overlay::over(Arc::new(image) as Arc<dyn StorageBackend>)?;
    let mut builder = redb::Builder::new();
    let builder = builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    damage::give_up(builder.create_with_backend(place)?);
    Ok(())
}

fn note(shared: &Shared, look: &Result<Look, Failure>) {
    match look {
        Ok(Look::Whole) => shared.stand.note_pages(PagesStanding::Whole),
        Ok(Look::Unfinished) => {}
        Err(failure) if failure.is_damage() => {
            shared.mark.note(failure, shared.now_ms());
            shared.heed_mark();
        }
        // The disk's, or the file is just being opened again.
        Err(failure) => shared.suspect(failure),
    }
}
