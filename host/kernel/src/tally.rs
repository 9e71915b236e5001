//! What a release has done since this host loaded it: counted where messages end, read by whoever judges or shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::pace::LONG;

/// What one message took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// In the guest.
    pub(crate) cpu: Duration,
    /// Of that, what was measured once it went on for more than an epoch.
    pub(crate) measured_cpu: Duration,
    /// From instantiation to the end of its instance, host calls and waits included.
    pub(crate) elapsed: Duration,
    /// Linear memory at its largest.
    pub(crate) memory_bytes: usize,
}

/// The counts of one loaded release. Costs a few relaxed atomics and one short lock a message.
pub(crate) struct Tally {
    answered: AtomicU64,
    broken: AtomicU64,
    running: AtomicU64,
    in_hand: AtomicU64,
    cpu_us: AtomicU64,
    memory_bytes_max: AtomicU64,
    latency: Mutex<Latency>,
    loaded_at: Instant,
    /// Microseconds after it was loaded.
    computes_until_us: AtomicU64,
    is_watched: AtomicBool,
}

/// Times of the newest messages: of this period and the one before it.
struct Latency {
    now: Histogram<u32>,
    before: Histogram<u32>,
    since: Instant,
}

/// After a message that computed for long its release counts as computing for so many times as long, a second at most:
/// for as long as it keeps a tenth of a processor busy.
const COMPUTING_TIMES: u32 = 10;
const COMPUTING_LONGEST: Duration = Duration::from_secs(1);

/// Percentiles are over the newest one to two of these.
const LATENCY_PERIOD: Duration = Duration::from_secs(30);
/// The longest time that is told apart, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// A reading of a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Instances that run a message.
    pub running: u64,
    /// Messages from outside that were taken in and not answered: they wait for their turn, run, or are being decided.
    pub in_hand: u64,
    /// Messages that it did not break, answered or declined.
    pub answered: u64,
    /// Messages that it broke.
    pub broken: u64,
    /// Guest CPU of all its messages, in microseconds.
    pub cpu_us: u64,
    /// The largest linear memory of one message, in bytes.
    pub memory_bytes_max: u64,
    /// The median time of a message in the last minute, in microseconds; 0 without one.
    pub p50_us: u64,
    /// Of a hundred messages in the last minute, all but one took at most this, in microseconds.
    pub p99_us: u64,
}

impl Tally {
    /// A message begins; it is under way until the guard is dropped.
    pub(crate) fn begin(&self) -> impl Drop + '_ {
        self.running.fetch_add(1, Ordering::Relaxed);
        RunningMessage(&self.running)
    }

    /// A message from outside is taken in.
    pub(crate) fn take_in(&self) {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
    }

    /// A message that was taken in is answered or given up.
    pub(crate) fn let_go(&self) {
        self.in_hand.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a message took that has ended.
    pub(crate) fn spend(&self, spent: Spent) {
        self.cpu_us.fetch_add(micros(spent.cpu), Ordering::Relaxed);
        self.memory_bytes_max.fetch_max(spent.memory_bytes as u64, Ordering::Relaxed);
        let now = Instant::now();
        self.latency.lock().record(spent.elapsed, now);
        if spent.measured_cpu >= LONG {
            let until = now - self.loaded_at + (spent.measured_cpu * COMPUTING_TIMES).min(COMPUTING_LONGEST);
            self.computes_until_us.fetch_max(micros(until), Ordering::Relaxed);
        }
    }

    /// Whether its messages computed for long of late, so that those to come take turns from their beginning: else
    /// whoever sends many gets an epoch for each before it is seen that they are long.
    pub(crate) fn computes(&self) -> bool {
        let until_us = self.computes_until_us.load(Ordering::Relaxed);
        until_us > 0 && micros(self.loaded_at.elapsed()) < until_us
    }

    /// A message ended that it did not break, answered or declined.
    pub(crate) fn count_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A message ended that it broke.
    pub(crate) fn count_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that it did not break.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Everything counted.
    pub(crate) fn usage(&self) -> Usage {
        let (p50_us, p99_us) = self.latency.lock().percentiles(Instant::now());
        Usage {
            running: self.running.load(Ordering::Relaxed),
            in_hand: self.in_hand.load(Ordering::Relaxed),
            answered: self.answered(),
            broken: self.broken.load(Ordering::Relaxed),
            cpu_us: self.cpu_us.load(Ordering::Relaxed),
            memory_bytes_max: self.memory_bytes_max.load(Ordering::Relaxed),
            p50_us,
            p99_us,
        }
    }

    /// Whether it is on probation, so that what it breaks is looked into.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }
}

impl Default for Tally {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            answered: zero(),
            broken: zero(),
            running: zero(),
            in_hand: zero(),
            cpu_us: zero(),
            memory_bytes_max: zero(),
            latency: Mutex::new(Latency { now: times(), before: times(), since: Instant::now() }),
            loaded_at: Instant::now(),
            computes_until_us: zero(),
            is_watched: AtomicBool::new(false),
        }
    }
}

struct RunningMessage<'a>(&'a AtomicU64);

impl Drop for RunningMessage<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Latency {
    fn record(&mut self, elapsed: Duration, now: Instant) {
        self.turn(now);
        // It grows, so that it takes whatever is under the bound.
        let _ = self.now.record(micros(elapsed).min(LATENCY_US_MAX));
    }

    fn percentiles(&mut self, now: Instant) -> (u64, u64) {
        self.turn(now);
        let mut both = self.before.clone();
        // It grows to take the other's.
        let _ = both.add(&self.now);
        (both.value_at_quantile(0.5), both.value_at_quantile(0.99))
    }

    fn turn(&mut self, now: Instant) {
        for _ in 0..2 {
            if now.saturating_duration_since(self.since) >= LATENCY_PERIOD {
                std::mem::swap(&mut self.now, &mut self.before);
                self.now.reset();
                self.since += LATENCY_PERIOD;
            }
        }
        if now.saturating_duration_since(self.since) >= LATENCY_PERIOD {
            self.since = now;
        }
    }
}

/// Times to two digits: 1 KiB, and half of one more each time that the longest doubles, to 13 KiB.
fn times() -> Histogram<u32> {
    match Histogram::new(2) {
        Ok(times) => times,
        Err(_) => unreachable!("two digits are what a histogram takes"),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_minute_and_not_of_before() {
        let start = Instant::now();
        let mut latency = Latency { now: times(), before: times(), since: start };
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for _ in 0..99 {
            latency.record(Duration::from_micros(100), at(1));
        }
        latency.record(Duration::from_millis(5), at(2));
        let (p50, p99) = latency.percentiles(at(3));
        assert!((98..=102).contains(&p50) && (98..=102).contains(&p99), "{p50} {p99}");
        latency.record(Duration::from_millis(5), at(31));
        let (_, p99) = latency.percentiles(at(32));
        assert!((4_900..=5_100).contains(&p99), "{p99}");
        assert_eq!(latency.percentiles(at(300)), (0, 0));
        latency.record(Duration::from_micros(7), at(301));
        assert_eq!(latency.percentiles(at(302)), (7, 7));
    }

    #[test]
    fn what_is_under_way_is_counted_while_it_is() {
        let tally = Tally::default();
        {
            let _one = tally.begin();
            let _other = tally.begin();
            assert_eq!(tally.usage().running, 2);
        }
        tally.spend(spent(2, 9));
        tally.spend(spent(1, 4));
        let usage = tally.usage();
        assert_eq!((usage.running, usage.cpu_us, usage.memory_bytes_max), (0, 3_000, 9));
    }

    #[test]
    fn who_computed_for_long_counts_as_computing_and_who_is_often_brief_does_not() {
        let tally = Tally::default();
        for _ in 0..1_000 {
            tally.spend(spent(2, 1));
        }
        assert!(!tally.computes());
        tally.spend(spent(60_000, 1));
        assert!(tally.computes());
        let until_us = tally.computes_until_us.load(Ordering::Relaxed);
        assert!(until_us <= micros(tally.loaded_at.elapsed() + COMPUTING_LONGEST), "{until_us}");
    }

    fn spent(cpu_ms: u64, memory_bytes: usize) -> Spent {
        let cpu = Duration::from_millis(cpu_ms);
        Spent { cpu, measured_cpu: cpu, elapsed: Duration::from_millis(3), memory_bytes }
    }
}
