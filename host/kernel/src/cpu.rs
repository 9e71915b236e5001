//! Guest CPU of one message: what the processor spends in the guest. Host calls, waits, yields, and the time for which
//! other threads have the processor do not count.
//!
//! ```text
//! until an epoch ends inside the guest   the wall clock between crossings     no system call; never more than an epoch
//! from then on                           the thread's own CPU clock           one system call a crossing
//! ```
//! Nearly every message ends before an epoch has passed, and for those the wall clock is close enough. On a machine
//! where others want the processor the two differ by as much as they like, so whoever goes on is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use wasmtime::CallHook;

use crate::engine::EPOCH;

/// Counts one message's guest CPU.
pub(crate) struct CpuAccount {
    allowed: Duration,
    used: Duration,
    entered: Option<Mark>,
    is_measured: bool,
    is_exceeded: bool,
    /// The CPU clock of whichever thread took the guest up again after it yielded, in nanoseconds.
    resumed: Arc<AtomicU64>,
}

/// When the guest was entered.
#[derive(Clone, Copy)]
enum Mark {
    Wall(Instant),
    Thread(Duration),
    /// As the thread says that took it up again.
    Resumed,
}

impl CpuAccount {
    pub(crate) fn new(allowed: Duration) -> Self {
        Self {
            allowed,
            used: Duration::ZERO,
            entered: None,
            is_measured: false,
            is_exceeded: false,
            resumed: Arc::default(),
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
        self.is_exceeded = self.used > self.allowed;
        if self.is_exceeded {
            return None;
        }
        self.is_measured = true;
        self.entered = Some(Mark::Resumed);
        let resumed = Arc::clone(&self.resumed);
        Some(async move {
            tokio::task::yield_now().await;
            resumed.store(nanoseconds(thread_clock()), Ordering::Relaxed);
        })
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }

    pub(crate) fn used(&self) -> Duration {
        self.used
    }

    fn enter(&mut self) {
        self.entered =
            Some(if self.is_measured { Mark::Thread(thread_clock()) } else { Mark::Wall(Instant::now()) });
    }

    fn leave(&mut self) {
        let since = |entered: Duration| thread_clock().saturating_sub(entered);
        self.used += match self.entered.take() {
            None => Duration::ZERO,
            Some(Mark::Wall(entered)) => entered.elapsed().min(EPOCH),
            Some(Mark::Thread(entered)) => since(entered),
            Some(Mark::Resumed) => since(Duration::from_nanos(self.resumed.load(Ordering::Relaxed))),
        };
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

    /// Keeps this thread's processor busy.
    fn burn(time: Duration) {
        let start = thread_clock();
        while thread_clock().saturating_sub(start) < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn waits_do_not_count_and_work_does() {
        let mut cpu = CpuAccount::new(Duration::from_millis(50));
        cpu.cross(CallHook::CallingWasm);
        std::thread::sleep(Duration::from_millis(100));
        let going_on = cpu.yield_or_end().unwrap();
        assert!(cpu.used() <= EPOCH, "{:?}", cpu.used());
        going_on.await;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(60));
            cpu.cross(CallHook::CallingHost);
            burn(Duration::from_millis(60));
            cpu.cross(CallHook::ReturningFromHost);
            cpu.yield_or_end().unwrap().await;
        }
        burn(Duration::from_millis(60));
        assert!(cpu.yield_or_end().is_none());
        assert!(cpu.is_exceeded());
    }
}
