//! How roots have ended since the host started, and what a change of seats did to them: the journal's account of a swap.
//!
//! ```text
//! answered, failed   a reply, or an error with its effect
//! retried            it ran again, since something it read had changed
//! abandoned          neither: whoever waited for it went away; no swap does that
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use telos_store::{ComponentId, Digest};

use crate::seams::{JournalLine, Severity};

/// The journal's line about a change of seats that was decided.
pub(crate) const SWAP_ACCOUNT: &str = "swap.account";

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

/// One seat that changed: who has it now, and who had it.
pub(crate) struct Moved {
    pub(crate) component: ComponentId,
    pub(crate) digest: Option<Digest>,
    pub(crate) parent: Option<Digest>,
}

/// What one change of seats did.
pub(crate) struct Account {
    /// The commit that decided it: the swap's identity, which its audit rows have too.
    pub(crate) position: u64,
    pub(crate) moved: Vec<Moved>,
    pub(crate) pause: Duration,
    pub(crate) inside: Drained,
    /// Of all roots, from its beginning on.
    pub(crate) before: Reading,
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

impl Account {
    /// The journal's line. `now` is read when the change is published.
    pub(crate) fn line(&self, now: Reading) -> JournalLine {
        let (retried, lost) = (now.retried - self.before.retried, now.abandoned - self.before.abandoned);
        let pause_us = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        let Drained { drained, retired } = self.inside;
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
            attributes: Map::from_iter(attributes.map(|(name, value)| (name.to_owned(), value))),
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

    #[test]
    fn an_account_counts_from_its_beginning_on() {
        let component = ComponentId::new("a").unwrap();
        let (digest, parent) = (Some(Digest::of(b"new")), Some(Digest::of(b"old")));
        let account = Account {
            position: 7,
            moved: vec![Moved { component, digest, parent }],
            pause: Duration::from_micros(12),
            inside: Drained { drained: 3, retired: 1 },
            before: Reading { retried: 5, abandoned: 2, ..Reading::default() },
        };
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
