//! Who computes for long takes turns with others who do, so that a short message always finds a thread.
//!
//! ```text
//! short   has computed for less than two epochs         polled whenever it can go on
//! long    from then on, until its root ends; from its   polled in its turn, an epoch at a time; turns are fewer than
//!         beginning where its component's were          threads
//!         long just before (`tally`)
//! ```
//! Without turns, as many spinners as somebody sends each have a thread for an epoch before a short message gets one.
//! Whoever yields hands its turn on once everyone who was ready has been polled. Nobody holds one while it waits, so
//! whoever awaits another message holds nobody up.
//!
//! What counts is the guest's own CPU: a message that waits for a turn conflicts with others more easily, so it must have
//! taken some.
//!
//! Never here: how long a message may compute at all (`cpu`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::engine::EPOCH;

/// Guest CPU from which on a message is long, besides its first epoch, in which it is not measured.
pub(crate) const LONG: Duration = EPOCH;

/// The turns of one runtime's threads.
#[derive(Clone)]
pub(crate) struct Pacer(Arc<Semaphore>);

/// A turn.
pub(crate) struct Turn(OwnedSemaphorePermit);

/// What one root's guests tell whoever polls it.
#[derive(Clone, Default)]
pub(crate) struct Pace(Arc<Told>);

#[derive(Default)]
struct Told {
    is_long: AtomicBool,
    yields: AtomicBool,
}

type Asking = BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>;

impl Pacer {
    /// For so many threads; 0 for one a processor. One thread is left to those who are short; of one alone, every
    /// other turn is theirs.
    pub(crate) fn for_threads(threads: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads };
        Self(Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))))
    }

    /// Waits for a turn to begin with, for a root that is expected to be long: before it reads anything, since whoever
    /// waits afterwards is overtaken by what others write.
    ///
    /// Cancel safety: dropping the future gives its place up.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.0).acquire_owned().await.ok().map(Turn)
    }

    /// Does a root's work, in turns from when it is long. Turns go round in the order in which they were asked for.
    ///
    /// Cancel safety: dropping the future gives back its turn and its place among those who wait for one.
    pub(crate) async fn run<T>(&self, pace: Pace, first: Option<Turn>, work: impl Future<Output = T>) -> T {
        let (mut work, mut asking, mut kept) = (pin!(work), None, None);
        let mut first = first.map(|turn| turn.0);
        std::future::poll_fn(|context| {
            drop(kept.take());
            let turn = match (first.take(), pace.is_long()) {
                (Some(turn), _) => Some(turn),
                (None, true) => ready!(self.poll_turn(&mut asking, context)),
                (None, false) => None,
            };
            let polled = work.as_mut().poll(context);
            kept = turn.filter(|_| pace.yields() && polled.is_pending());
            polled
        })
        .await
    }

    /// None of a semaphore that is closed, which this one never is.
    fn poll_turn(
        &self,
        asking: &mut Option<Asking>,
        context: &mut Context<'_>,
    ) -> Poll<Option<OwnedSemaphorePermit>> {
        if asking.is_none()
            && let Ok(turn) = Arc::clone(&self.0).try_acquire_owned()
        {
            return Poll::Ready(Some(turn));
        }
        let ask = || Arc::clone(&self.0).acquire_owned().boxed();
        let turn = ready!(asking.get_or_insert_with(ask).as_mut().poll(context));
        *asking = None;
        Poll::Ready(turn.ok())
    }
}

impl Pace {
    /// From now on it takes turns.
    pub(crate) fn is_now_long(&self) {
        self.0.is_long.store(true, Ordering::Relaxed);
    }

    /// It could go on at once, and lets others go first.
    pub(crate) fn note_yield(&self) {
        self.0.yields.store(true, Ordering::Relaxed);
    }

    fn is_long(&self) -> bool {
        self.0.is_long.load(Ordering::Relaxed)
    }

    fn yields(&self) -> bool {
        self.0.yields.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::task::yield_now;

    use super::*;

    fn long() -> Pace {
        let pace = Pace::default();
        pace.is_now_long();
        pace
    }

    #[tokio::test]
    async fn long_ones_go_on_one_after_another_and_short_ones_at_once() {
        let (pacer, polls) = (Pacer::for_threads(1), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            let (pacer, polls, pace) = (pacer.clone(), Arc::clone(&polls), long());
            let told = pace.clone();
            let spin = async move {
                loop {
                    polls.fetch_add(1, Ordering::Relaxed);
                    told.note_yield();
                    yield_now().await;
                }
            };
            tokio::spawn(async move { pacer.run::<()>(pace, None, spin).await });
        }
        let short = async {
            for _ in 0..100 {
                yield_now().await;
            }
        };
        pacer.run(Pace::default(), None, short).await;
        let polls = polls.load(Ordering::Relaxed);
        assert!((20..=110).contains(&polls), "one of the ten at a time: {polls}");
    }

    #[tokio::test]
    async fn who_waits_holds_no_turn() {
        let pacer = Pacer::for_threads(1);
        let (told, tell) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn({
            let pacer = pacer.clone();
            async move { pacer.run(long(), None, tell).await }
        });
        yield_now().await;
        let first = pacer.turn().await;
        pacer.run(long(), first, yield_now()).await;
        told.send(7).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 7);
    }
}
