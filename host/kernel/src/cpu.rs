//! CPU of one message: what the processor spends in the guest, and what it spends in the host for the guest's calls.
//! Waits, yields, messages it sends, and the time for which other threads have the processor count as neither.
//!
//! ```text
//! guest   until an epoch ends inside it    the wall clock between crossings     no system call; never more than an epoch
//!         from then on                     the thread's own CPU clock           one system call a crossing
//! host    all that polling it takes, without the guest                          two system calls a poll
//! ```
//! Nearly every message ends before an epoch has passed, and for those the wall clock is close enough. On a machine
//! where others want the processor the two differ by as much as they like, so whoever goes on is measured.
//!
//! Host calls are cheap one by one: without the second account a guest could keep a thread until its deadline and spend
//! next to nothing itself.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use wasmtime::CallHook;

use crate::engine::EPOCH;
use crate::pace::{LONG, Pace};

/// Counts one message's CPU.
pub(crate) struct CpuAccount {
    allowed: Duration,
    used: Duration,
    /// Of that, what the thread's CPU clock tells: none of it is others' time.
    measured: Duration,
    entered: Option<Mark>,
    is_measured: bool,
    exceeded: Option<Exceeded>,
    polls: Polls,
    pace: Pace,
    /// What polling it took that was other messages'.
    others: Duration,
}

/// Which account of a message is overdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The guest's own.
    Guest,
    /// The host's, for the guest's calls.
    Host,
}

/// When the guest was entered.
#[derive(Clone, Copy)]
enum Mark {
    Wall(Instant),
    Thread(Duration),
    /// With the poll that took it up again.
    Polled,
}

impl CpuAccount {
    /// Each of both accounts has as much as is allowed.
    pub(crate) fn new(allowed: Duration, pace: Pace) -> Self {
        Self {
            allowed,
            used: Duration::ZERO,
            measured: Duration::ZERO,
            entered: None,
            is_measured: false,
            exceeded: None,
            polls: Polls::default(),
            pace,
            others: Duration::ZERO,
        }
    }

    /// Takes note of a crossing between host and guest.
    pub(crate) fn cross(&mut self, hook: CallHook) {
        match hook {
            CallHook::CallingWasm | CallHook::ReturningFromHost => self.enter(),
            CallHook::CallingHost | CallHook::ReturningFromWasm => self.leave(),
        }
    }

    /// Takes note of an epoch that ended inside the guest: what to do before it goes on; none when it may not.
    pub(crate) fn yield_or_end(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.leave();
        self.exceeded = self.overdrawn();
        if self.exceeded.is_some() {
            return None;
        }
        if self.measured >= LONG {
            self.pace.is_now_long();
        }
        self.pace.note_yield();
        self.is_measured = true;
        self.entered = Some(Mark::Polled);
        Some(tokio::task::yield_now())
    }

    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded
    }

    /// In the guest.
    pub(crate) fn used(&self) -> Duration {
        self.used
    }

    /// In the guest, as far as that was measured: nothing of a message that ended soon.
    pub(crate) fn measured(&self) -> Duration {
        self.measured
    }

    /// In the host, for the guest's calls.
    pub(crate) fn used_by_host(&self) -> Duration {
        self.polls.spent().saturating_sub(self.used).saturating_sub(self.others)
    }

    /// What polling the message takes must be measured with these.
    pub(crate) fn polls(&self) -> Polls {
        self.polls.clone()
    }

    /// Takes note of what other messages took while this one was polled.
    pub(crate) fn leave_out(&mut self, others: Duration) {
        self.others += others;
    }

    fn overdrawn(&self) -> Option<Exceeded> {
        if self.used > self.allowed {
            return Some(Exceeded::Guest);
        }
        (self.used_by_host() > self.allowed).then_some(Exceeded::Host)
    }

    fn enter(&mut self) {
        self.entered =
            Some(if self.is_measured { Mark::Thread(thread_clock()) } else { Mark::Wall(Instant::now()) });
    }

    fn leave(&mut self) {
        let measured = match self.entered.take() {
            None => return,
            Some(Mark::Wall(entered)) => {
                self.used += entered.elapsed().min(EPOCH);
                return;
            }
            Some(Mark::Thread(entered)) => thread_clock().saturating_sub(entered),
            Some(Mark::Polled) => self.polls.running(),
        };
        self.used += measured;
        self.measured += measured;
    }
}

/// What polling a message takes of the processor, whichever threads do it.
#[derive(Clone, Default)]
pub(crate) struct Polls(Arc<PollClock>);

#[derive(Default)]
struct PollClock {
    /// The polling thread's CPU clock when the poll under way began, in nanoseconds; 0 between polls.
    began: AtomicU64,
    /// Of the polls that ended, in nanoseconds.
    ended: AtomicU64,
}

impl Polls {
    /// Does `work` and measures it.
    pub(crate) async fn measure<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            self.begin();
            let polled = work.as_mut().poll(context);
            self.end();
            polled
        })
        .await
    }

    /// Of all polls, the one under way included; that one is this thread's.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.ended.load(Ordering::Relaxed)) + self.running()
    }

    fn running(&self) -> Duration {
        match self.0.began.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => thread_clock().saturating_sub(Duration::from_nanos(began)),
        }
    }

    fn begin(&self) {
        self.0.began.store(nanoseconds(thread_clock()).max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.ended.fetch_add(nanoseconds(self.running()), Ordering::Relaxed);
        self.0.began.store(0, Ordering::Relaxed);
    }
}

/// What this thread has had of the processor. It means nothing on another thread.
fn thread_clock() -> Duration {
    ThreadTime::now().as_duration()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(60);

    /// Keeps this thread's processor busy.
    fn burn(time: Duration) {
        let start = thread_clock();
        while thread_clock().saturating_sub(start) < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn waits_do_not_count_and_work_does() {
        let mut cpu = CpuAccount::new(Duration::from_millis(50), Pace::default());
        let polls = cpu.polls();
        let message = async {
            cpu.cross(CallHook::CallingWasm);
            std::thread::sleep(Duration::from_millis(100));
            let going_on = cpu.yield_or_end().unwrap();
            assert!(cpu.used() <= EPOCH, "{:?}", cpu.used());
            going_on.await;
            for _ in 0..3 {
                std::thread::sleep(SHORT);
                cpu.cross(CallHook::CallingHost);
                tokio::time::sleep(SHORT).await;
                cpu.cross(CallHook::ReturningFromHost);
                cpu.yield_or_end().unwrap().await;
            }
            burn(SHORT);
            assert!(cpu.yield_or_end().is_none());
        };
        polls.measure(message).await;
        assert_eq!(cpu.exceeded(), Some(Exceeded::Guest));
    }

    #[tokio::test]
    async fn the_hosts_work_for_a_guest_counts_apart_and_that_for_others_does_not() {
        let mut cpu = CpuAccount::new(Duration::from_millis(50), Pace::default());
        let polls = cpu.polls();
        let message = async {
            cpu.cross(CallHook::CallingWasm);
            cpu.cross(CallHook::CallingHost);
            burn(SHORT);
            cpu.leave_out(SHORT);
            cpu.cross(CallHook::ReturningFromHost);
            cpu.yield_or_end().unwrap().await;
            cpu.cross(CallHook::CallingHost);
            burn(SHORT);
            cpu.cross(CallHook::ReturningFromHost);
            assert!(cpu.yield_or_end().is_none());
        };
        polls.measure(message).await;
        assert_eq!(cpu.exceeded(), Some(Exceeded::Host));
        assert!(cpu.used() < SHORT && cpu.used_by_host() >= SHORT, "{:?}", cpu.used_by_host());
    }
}
