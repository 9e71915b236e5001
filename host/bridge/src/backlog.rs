//! Chunks between a producer and its reader: counted, bounded, and waited for.
//!
//! ```text
//! producer ─ Backlog ─→ queue ─→ peer's acknowledgement        the host's side, per call and per session
//!                                peer ─ Unread ─→ reader       the client's side, per call; PAUSE and RESUME go back
//! ```
//! A chunk at once is taken up to `MOST`, and the one beyond cuts its stream. One that waits for room is taken while
//! the call is below `EASY` and its session below `SESSION_EASY`, and no reader asked for a pause: nothing is cut.
//! Never here: frames, tasks, clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

const MIB: usize = 1024 * 1024;
/// What one call may have on its way, and what may wait for one reader; a single larger chunk goes alone.
const MOST: Load = Load { chunks: 1_024, bytes: 4 * MIB };
/// Below this a call's producer need not wait: twice the window's messages keep the window full.
const EASY: Load = Load { chunks: 128, bytes: MIB };
/// The same for all calls of a session together; half of what the queue cuts streams at (`Limits`).
const SESSION_EASY: Load = Load { chunks: 512, bytes: 2 * MIB };
/// A reader that has so much unread asks for a pause: what is on its way by then still fits below `MOST`.
const PAUSE: Load = Load { chunks: 256, bytes: MIB };
/// And for more, when it has come down to this.
const RESUME: Load = Load { chunks: 64, bytes: MIB / 4 };

/// Chunks and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    chunks: usize,
    bytes: usize,
}

impl Load {
    fn is_below(self, mark: Self) -> bool {
        self.chunks < mark.chunks && self.bytes < mark.bytes
    }

    fn fits(self, bytes: usize) -> bool {
        self.chunks < MOST.chunks && (self.bytes == 0 || self.bytes + bytes <= MOST.bytes)
    }

    fn add(&mut self, bytes: usize) {
        self.chunks += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.chunks -= 1;
        self.bytes -= bytes;
    }
}

/// What all calls of one session have on their way.
#[derive(Debug, Default)]
pub(crate) struct SessionBacklog {
    load: Mutex<Load>,
    /// Something left, or a reader caught up.
    eased: Notify,
}

/// What one call has on its way to its peer.
#[derive(Debug)]
pub(crate) struct Backlog {
    load: Mutex<Load>,
    is_paused: AtomicBool,
    session: Arc<SessionBacklog>,
}

impl Backlog {
    pub(crate) fn new(session: Arc<SessionBacklog>) -> Self {
        Self { load: Mutex::default(), is_paused: AtomicBool::new(false), session }
    }

    /// Counts one chunk in, or refuses it.
    pub(crate) fn admit(&self, bytes: usize) -> bool {
        let mut load = self.load.lock();
        let fits = load.fits(bytes);
        if fits {
            load.add(bytes);
            self.session.load.lock().add(bytes);
        }
        fits
    }

    /// Counts one chunk in, as soon as there is room for it.
    ///
    /// # Cancel safety
    /// Dropping the future counts nothing.
    pub(crate) async fn admit_when_room(&self, bytes: usize) {
        loop {
            let eased = self.session.eased.notified();
            tokio::pin!(eased);
            // Registered before looking, so that no easing in between is missed.
            eased.as_mut().enable();
            if self.admit_at_ease(bytes) {
                return;
            }
            eased.await;
        }
    }

    fn admit_at_ease(&self, bytes: usize) -> bool {
        let (mut own, mut session) = (self.load.lock(), self.session.load.lock());
        let is_easy = own.is_below(EASY) && session.is_below(SESSION_EASY);
        if !is_easy || self.is_paused.load(Ordering::Acquire) {
            return false;
        }
        own.add(bytes);
        session.add(bytes);
        true
    }

    /// One chunk has arrived, or is dropped.
    pub(crate) fn release(&self, bytes: usize) {
        self.load.lock().remove(bytes);
        self.session.load.lock().remove(bytes);
        self.session.eased.notify_waiters();
    }

    /// What the reader asks for.
    pub(crate) fn pace(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Release);
        self.session.eased.notify_waiters();
    }
}

/// What waits for one reader at the client.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// The load, and whether a pause was asked for.
    state: Mutex<(Load, bool)>,
}

impl Unread {
    /// Counts one chunk in, or refuses it.
    pub(crate) fn admit(&self, bytes: usize) -> bool {
        let (load, _) = &mut *self.state.lock();
        let fits = load.fits(bytes);
        if fits {
            load.add(bytes);
        }
        fits
    }

    /// True when it is time to ask for a pause; once, until `release` says otherwise.
    pub(crate) fn wants_pause(&self) -> bool {
        let (load, is_paused) = &mut *self.state.lock();
        let is_behind = !*is_paused && !load.is_below(PAUSE);
        *is_paused |= is_behind;
        is_behind
    }

    /// One chunk was read. True when it is time to ask for more.
    pub(crate) fn release(&self, bytes: usize) -> bool {
        let (load, is_paused) = &mut *self.state.lock();
        load.remove(bytes);
        let caught_up = *is_paused && load.is_below(RESUME);
        *is_paused &= !caught_up;
        caught_up
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn admit_all_at_ease(backlog: &Backlog, bytes: usize) -> usize {
        std::iter::repeat_with(|| backlog.admit_at_ease(bytes)).take_while(|is_admitted| *is_admitted).count()
    }

    #[test]
    fn who_waits_for_room_stays_below_what_is_cut_however_many_they_are() {
        let session = Arc::<SessionBacklog>::default();
        let calls: Vec<Backlog> = (0..20).map(|_| Backlog::new(Arc::clone(&session))).collect();
        let admitted: usize = calls.iter().map(|call| admit_all_at_ease(call, 100)).sum();
        assert_eq!(admitted, SESSION_EASY.chunks);
        let large = Backlog::new(Arc::default());
        assert_eq!(admit_all_at_ease(&large, 64 * 1024), 16, "1 MiB");
    }

    #[test]
    fn who_waits_goes_on_when_something_arrives_or_the_reader_catches_up() {
        let backlog = Backlog::new(Arc::default());
        assert_eq!(admit_all_at_ease(&backlog, 1), EASY.chunks);
        let mut waiting = Box::pin(backlog.admit_when_room(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        backlog.release(1);
        assert!(waiting.as_mut().now_or_never().is_some());
        backlog.release(1);
        backlog.pace(true);
        let mut waiting = Box::pin(backlog.admit_when_room(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        backlog.pace(false);
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_reader_asks_for_a_pause_once_and_for_more_once() {
        let unread = Unread::default();
        let pauses = (0..300).filter(|_| unread.admit(10) && unread.wants_pause()).count();
        assert_eq!(pauses, 1);
        let resumed_at = (1..=300).filter(|_| unread.release(10)).count();
        assert_eq!(resumed_at, 1);
    }
}
