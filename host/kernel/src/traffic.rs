//! How roots have ended since the host started, and what a change of seats did to them: the journal's account of a swap.
//!
//! ```text
//! answered, failed   a reply, or an error with its effect
//! retried            it ran again, since something it read had changed
//! abandoned          neither: whoever waited for it went away; no swap does that
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use telos_store::{ComponentId, Digest};

use crate::seams::{JournalLine, Severity};

/// The journal's line about a change of seats that was decided.
pub(crate) const SWAP_ACCOUNT: &str = "swap.account";
/// The journal's line about one that held messages up, and was not decided.
const SWAP_GIVEN_UP: &str = "swap.given-up";

/// Counts roots.
#[derive(Default)]
pub(crate) struct Traffic {
    answered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    abandoned: AtomicU64,
}

/// A reading of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
    pub(crate) abandoned: u64,
}

/// A root that waits for its end; dropped before that, it is abandoned.
pub(crate) struct Waiting<'a>(Option<&'a Traffic>);

/// What happened to roots inside when a component was closed for a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// They came to their end.
    pub(crate) drained: usize,
    /// They were ended, as `retired`, with no effect.
    pub(crate) retired: usize,
}

/// What a change of seats has cost messages, over all its attempts.
pub(crate) struct Toll {
    /// Of all roots, when it began.
    before: Reading,
    inside: Drained,
    /// Since when a component is closed for it; none while none is.
    closed_at: Option<Instant>,
    /// The longest that one was before.
    closed: Duration,
}

/// One seat that changed: who has it now, and who had it.
pub(crate) struct Moved {
    pub(crate) component: ComponentId,
    pub(crate) digest: Option<Digest>,
    pub(crate) parent: Option<Digest>,
}

/// What one change of seats did.
pub(crate) struct Account<'a> {
    /// The commit that decided it: the swap's identity, which its audit rows have too.
    pub(crate) position: u64,
    pub(crate) moved: Vec<Moved>,
    /// During its publication.
    pub(crate) pause: Duration,
    pub(crate) toll: &'a Toll,
}

impl Traffic {
    pub(crate) fn read(&self) -> Reading {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reading {
            answered: load(&self.answered),
            failed: load(&self.failed),
            retried: load(&self.retried),
            abandoned: load(&self.abandoned),
        }
    }

    /// The toll of a change that begins now.
    pub(crate) fn toll(&self) -> Toll {
        let (inside, closed) = (Drained::default(), Duration::ZERO);
        Toll { before: self.read(), inside, closed_at: None, closed }
    }

    pub(crate) fn wait(&self) -> Waiting<'_> {
        Waiting(Some(self))
    }

    pub(crate) fn retry(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }
}

impl Waiting<'_> {
    /// It came to its end.
    pub(crate) fn end(mut self, is_answered: bool) {
        if let Some(traffic) = self.0.take() {
            let count = if is_answered { &traffic.answered } else { &traffic.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(traffic) = self.0 {
            traffic.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Toll {
    /// A component is closed from now on.
    pub(crate) fn close(&mut self) {
        self.closed_at = Some(Instant::now());
    }

    /// It is open again.
    pub(crate) fn reopen(&mut self) {
        (self.closed, self.closed_at) = (self.closed(), None);
    }

    /// Adds what became of roots inside.
    pub(crate) fn add(&mut self, inside: Drained) {
        self.inside.drained += inside.drained;
        self.inside.retired += inside.retired;
    }

    /// The longest that a component was closed for it, so far.
    pub(crate) fn closed(&self) -> Duration {
        self.closed_at.map(|at| at.elapsed()).unwrap_or_default().max(self.closed)
    }

    /// The journal's line about a change that was given up; none when it held nobody up.
    pub(crate) fn given_up(&self, component: &ComponentId, now: Reading) -> Option<JournalLine> {
        let held = self.closed();
        let Drained { drained, retired } = self.inside;
        let body = format!(
            "{component} is as before: messages waited {} µs, {retired} of them were ended",
            micros(held)
        );
        let attributes = [
            ("component", json!(component.as_str())),
            ("pause_us", json!(micros(held))),
            ("drained", json!(drained)),
            ("retired", json!(retired)),
            ("retried", json!(self.retried(now))),
            ("lost", json!(self.lost(now))),
        ];
        let line = JournalLine {
            severity: Severity::Warn,
            event: SWAP_GIVEN_UP,
            body,
            trace: None,
            plugin: None,
            attributes: named(attributes),
        };
        (!held.is_zero()).then_some(line)
    }

    fn retried(&self, now: Reading) -> u64 {
        now.retried - self.before.retried
    }

    fn lost(&self, now: Reading) -> u64 {
        now.abandoned - self.before.abandoned
    }
}

impl Account<'_> {
    /// The journal's line. `now` is read when the change is published.
    pub(crate) fn line(&self, now: Reading) -> JournalLine {
        let (retried, lost) = (self.toll.retried(now), self.toll.lost(now));
        // While a component is closed, nobody begins either.
        let pause_us = micros(self.pause.max(self.toll.closed()));
        let Drained { drained, retired } = self.toll.inside;
        let seats: Vec<Value> = self
            .moved
            .iter()
            .map(|Moved { component, digest, parent }| {
                json!({ "component": component.as_str(), "digest": digest, "parent": parent })
            })
            .collect();
        let attributes = [
            ("swap", json!(self.position)),
            ("seats", json!(seats)),
            ("pause_us", json!(pause_us)),
            ("drained", json!(drained)),
            ("retired", json!(retired)),
            ("retried", json!(retried)),
            ("lost", json!(lost)),
        ];
        JournalLine {
            severity: Severity::Info,
            event: SWAP_ACCOUNT,
            body: format!("{}: messages waited {pause_us} µs, {lost} lost", self.told()),
            trace: None,
            plugin: None,
            attributes: named(attributes),
        }
    }

    fn told(&self) -> String {
        let told = |moved: &Moved| match moved.digest {
            Some(digest) => format!("{} is {}", moved.component, short(&digest)),
            None => format!("{} is nobody", moved.component),
        };
        self.moved.iter().map(told).collect::<Vec<_>>().join(", ")
    }
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn named<const N: usize>(attributes: [(&str, Value); N]) -> Map<String, Value> {
    Map::from_iter(attributes.map(|(name, value)| (name.to_owned(), value)))
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_ends_once_and_one_that_is_dropped_before_is_abandoned() {
        let traffic = Traffic::default();
        traffic.wait().end(true);
        traffic.wait().end(false);
        drop(traffic.wait());
        traffic.retry();
        assert_eq!(traffic.read(), Reading { answered: 1, failed: 1, retried: 1, abandoned: 1 });
    }

    /// Of a change that began when five roots had run again and two were abandoned.
    fn toll() -> Toll {
        let before = Reading { retried: 5, abandoned: 2, ..Reading::default() };
        Toll { before, ..Traffic::default().toll() }
    }

    #[test]
    fn a_change_that_is_given_up_says_so_when_it_held_messages_up() {
        let (component, now) =
            (ComponentId::new("a").unwrap(), Reading { retried: 6, abandoned: 2, ..Reading::default() });
        let mut toll = toll();
        assert!(toll.given_up(&component, now).is_none());
        toll.close();
        toll.add(Drained { drained: 3, retired: 2 });
        toll.closed = Duration::from_micros(40);
        toll.reopen();
        let line = toll.given_up(&component, now).unwrap();
        assert_eq!(line.event, SWAP_GIVEN_UP);
        assert!(line.attributes["pause_us"].as_u64().unwrap() >= 40, "the longest");
        let read = |name: &str| line.attributes[name].clone();
        assert_eq!(
            [read("drained"), read("retired"), read("retried"), read("lost")],
            [3, 2, 1, 0].map(Value::from)
        );
    }

    #[test]
    fn an_account_counts_from_its_beginning_on() {
        let component = ComponentId::new("a").unwrap();
        let (digest, parent) = (Some(Digest::of(b"new")), Some(Digest::of(b"old")));
        let mut toll = toll();
        // An attempt that came to nothing, and the one that was decided.
        toll.add(Drained { drained: 1, retired: 1 });
        toll.add(Drained { drained: 2, retired: 0 });
        let (moved, pause) = (vec![Moved { component, digest, parent }], Duration::from_micros(12));
        let account = Account { position: 7, moved, pause, toll: &toll };
        let line = account.line(Reading { retried: 9, abandoned: 2, ..Reading::default() });
        let read = |name: &str| line.attributes[name].clone();
        assert_eq!(
            [read("swap"), read("pause_us"), read("drained"), read("retired"), read("retried"), read("lost")],
            [7, 12, 3, 1, 4, 0].map(Value::from)
        );
        assert_eq!(read("seats")[0]["parent"], json!(parent));
        assert!(line.body.ends_with("messages waited 12 µs, 0 lost"), "{}", line.body);
    }
}
