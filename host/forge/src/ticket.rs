//! A ticket: behaviour that is missing, from the message that missed it to the release that has it, or does not.
//!
//! ```text
//! open ─→ proposed ─→ serving        what passed its trial serves by itself, or when somebody approves it
//!   │        └──────→ rejected
//!   └─────────────→ failed           every attempt failed, or there is nobody to write it
//! serving ─→ retired                 somebody took it away
//! ```
//! A ticket is its prototype's and selector's: whoever else sends that message joins it. Everything that was tried is
//! kept with it. Pure; who keeps tickets, writes and tries is others'.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gate::Check;
use crate::layer::Layer;
use crate::spec::Spec;

/// Attempts at one behaviour: the first, and three repairs.
pub const ATTEMPTS_MAX: usize = 4;

/// Where a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketState {
    /// Behaviour for it is being written and tried.
    Open,
    /// An attempt passed, and waits for somebody's word.
    Proposed,
    /// An attempt serves.
    Serving,
    /// No attempt passed.
    Failed,
    /// Somebody declined what was proposed.
    Rejected,
    /// It served, and somebody took it away.
    Retired,
}

/// What use was made of behaviour, as of the last look that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Messages that its release had answered since it was loaded.
    pub answered: u64,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// The message that opened it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// The receiver, 32 hex digits.
    pub receiver: String,
    /// Its arguments.
    pub arguments: Value,
    /// The receiver's value slots, its own and those that it delegates to, when it came.
    pub slots: Vec<(String, Value)>,
}

/// One ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its number; counts from 1.
    pub number: u64,
    /// The object that is to understand, 32 hex digits.
    pub prototype: String,
    /// Its name, where it has one.
    pub prototype_name: String,
    /// The message.
    pub selector: String,
    /// The component that its behaviour is of.
    pub component: String,
    /// Where it is.
    pub state: TicketState,
    /// Why it is there, in a sentence; empty while nothing is to be said.
    pub cause: String,
    /// When it was opened, Unix milliseconds.
    pub opened_at_ms: u64,
    /// When it came to where it is.
    pub since_ms: u64,
    /// What opened it.
    pub trigger: Trigger,
    /// What is asked of its behaviour; none before somebody said so.
    pub spec: Option<Spec>,
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
    /// The attempt that serves, or is proposed.
    pub chosen: Option<usize>,
    /// Who let it serve: `auto`, or `operator`.
    pub approved_by: Option<String>,
    /// What use was made of it; none before it was used.
    #[serde(default)]
    pub used: Option<Usage>,
    /// It was not used for so long that somebody might retire it.
    #[serde(default)]
    pub retirement_proposed: bool,
}

/// One attempt at a behaviour, and what became of it. Only the host writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its source.
    pub source: String,
    /// Interfaces that it uses besides storage and logging.
    pub uses: Vec<String>,
    /// What its writer was asked, in full.
    pub prompt: Value,
    /// Which mind wrote it; empty when a person did.
    pub mind: String,
    /// With which seed.
    pub seed: u64,
    /// blake3 of the source, hex.
    pub source_hash: String,
    /// The engine that it is for.
    pub engine: String,
    /// Digest of its component; none when it has none.
    pub digest: Option<String>,
    /// Version of its component.
    pub version: String,
    /// Where it was tried; none when it did not come to that, and in records of before there were layers.
    #[serde(default)]
    pub layer: Option<Layer>,
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// Time from asking its writer to the verdict, in milliseconds.
    pub elapsed_ms: u64,
}

impl Attempt {
    /// Whether nothing was found.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// How far it came: checks that passed, of those that were made.
    pub fn score(&self) -> (usize, usize) {
        (self.checks.iter().filter(|check| check.passed).count(), self.checks.len())
    }

    /// What its writer is told: every check that failed, a line each.
    pub fn faults(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("\n")
    }
}

impl Ticket {
    /// The attempt to build on: the one with the most checks passed, the latest of those.
    pub fn best(&self) -> Option<&Attempt> {
        self.attempts.iter().max_by_key(|attempt| attempt.score().0)
    }

    /// Whether another attempt may be made.
    pub fn may_try(&self) -> bool {
        self.state == TicketState::Open && self.attempts.len() < ATTEMPTS_MAX
    }

    /// Whether it is over, so that nobody waits for it.
    pub fn is_settled(&self) -> bool {
        self.state != TicketState::Open
    }

    /// Takes an attempt in, and says where that leads.
    pub fn take(&mut self, attempt: Attempt, now_ms: u64) {
        let (number, passed) = (self.attempts.len(), attempt.passed());
        self.attempts.push(attempt);
        if passed {
            self.chosen = Some(number);
            self.turn(TicketState::Proposed, format!("attempt {} passed its trial", number + 1), now_ms);
        } else if self.attempts.len() >= ATTEMPTS_MAX {
            let (passed, of) = self.best().map(Attempt::score).unwrap_or_default();
            let cause =
                format!("none of {ATTEMPTS_MAX} attempts passed; the best passed {passed} of {of} checks");
            self.turn(TicketState::Failed, cause, now_ms);
        }
    }

    /// Notes how many messages the release has answered since it was loaded. True when there is something to keep: not
    /// more than once in a thirtieth of `unused`, and when retirement is proposed, or not any more.
    pub(crate) fn note_use(&mut self, answered: u64, now_ms: u64, unused: Duration) -> bool {
        let unused_ms = u64::try_from(unused.as_millis()).unwrap_or(u64::MAX);
        let last = self.used.unwrap_or(Usage { answered: 0, at_ms: self.since_ms });
        let idle_ms = now_ms.saturating_sub(last.at_ms);
        // A host that began anew counts from nothing.
        let is_used = answered > 0 && answered != last.answered;
        if is_used {
            let is_due = idle_ms >= unused_ms / 30 || self.used.is_none() || self.retirement_proposed;
            if is_due {
                self.used = Some(Usage { answered, at_ms: now_ms });
                if self.retirement_proposed {
                    (self.retirement_proposed, self.cause) = (false, String::new());
                }
            }
            return is_due;
        }
        if idle_ms < unused_ms || self.retirement_proposed {
            return false;
        }
        self.retirement_proposed = true;
        self.cause = format!(
            "no message for `{}` in {} days; `telos forge retire {}` takes it away",
            self.selector,
            unused.as_secs() / (24 * 3_600),
            self.number
        );
        true
    }

    /// Comes to another state.
    pub fn turn(&mut self, state: TicketState, cause: String, now_ms: u64) {
        (self.state, self.cause, self.since_ms) = (state, cause, now_ms);
    }
}

/// The component that behaviour of a prototype for a selector is of: the same for the same pair, always.
pub fn component_of(prototype: &str, selector: &str) -> String {
    let word: String = selector
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .take(32)
        .collect();
    let hash = blake3::hash(format!("{prototype} {selector}").as_bytes()).to_hex();
    format!("forged-{}-{}", word.trim_matches('-'), &hash[..8]).replace("--", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            number: 1,
            prototype: "0".repeat(32),
            prototype_name: "list".into(),
            selector: "sum".into(),
            component: component_of("list", "sum"),
            state: TicketState::Open,
            cause: String::new(),
            opened_at_ms: 1,
            since_ms: 1,
            trigger: Trigger { receiver: "0".repeat(32), arguments: Value::Null, slots: Vec::new() },
            spec: None,
            attempts: Vec::new(),
            chosen: None,
            approved_by: None,
            used: None,
            retirement_proposed: false,
        }
    }

    fn attempt(passed: &[bool]) -> Attempt {
        let check =
            |passed: &bool| Check { name: "it".into(), passed: *passed, detail: "so".into(), fuel: None };
        Attempt {
            source: String::new(),
            uses: Vec::new(),
            prompt: Value::Null,
            mind: String::new(),
            seed: 0,
            source_hash: String::new(),
            engine: String::new(),
            digest: None,
            version: "1.0.0".into(),
            layer: Some(Layer::Restricted),
            checks: passed.iter().map(check).collect(),
            elapsed_ms: 0,
        }
    }

    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    const THIRTY_DAYS: Duration = Duration::from_secs(30 * 24 * 3_600);

    #[test]
    fn what_nobody_uses_for_thirty_days_is_proposed_once_and_not_when_it_is_used_again() {
        let mut ticket = ticket();
        ticket.turn(TicketState::Serving, String::new(), 0);
        assert!(ticket.note_use(5, DAY_MS, THIRTY_DAYS), "the first use is kept");
        assert!(!ticket.note_use(9, DAY_MS + 1, THIRTY_DAYS), "and the next ones once a day");
        assert!(ticket.note_use(9, 2 * DAY_MS, THIRTY_DAYS));
        assert!(!ticket.note_use(9, 31 * DAY_MS, THIRTY_DAYS));
        assert!(ticket.note_use(0, 32 * DAY_MS, THIRTY_DAYS), "also where a host began anew");
        assert!(ticket.retirement_proposed && ticket.cause.contains("in 30 days"), "{}", ticket.cause);
        assert!(!ticket.note_use(0, 40 * DAY_MS, THIRTY_DAYS), "once");
        assert!(ticket.note_use(1, 40 * DAY_MS, THIRTY_DAYS));
        assert!(!ticket.retirement_proposed && ticket.cause.is_empty());
    }

    #[test]
    fn a_ticket_is_proposed_by_the_first_attempt_that_passes() {
        let mut ticket = ticket();
        ticket.take(attempt(&[true, false]), 2);
        assert!(ticket.may_try() && ticket.state == TicketState::Open);
        ticket.take(attempt(&[true, true]), 3);
        assert_eq!((ticket.state, ticket.chosen, ticket.since_ms), (TicketState::Proposed, Some(1), 3));
        assert!(!ticket.may_try());
    }

    #[test]
    fn a_ticket_fails_after_its_last_attempt_and_keeps_the_best() {
        let mut ticket = ticket();
        for passed in [&[true, false][..], &[true, true, false], &[false], &[]] {
            assert!(ticket.may_try());
            ticket.take(attempt(passed), 2);
        }
        assert_eq!(ticket.state, TicketState::Failed);
        assert_eq!(ticket.best().unwrap().score(), (2, 3));
        assert!(ticket.cause.contains("the best passed 2 of 3"), "{}", ticket.cause);
    }

    #[test]
    fn a_record_of_before_there_were_layers_is_read() {
        let mut record = serde_json::to_value(attempt(&[true])).unwrap();
        assert_eq!(record["layer"], serde_json::json!({"name": "restricted"}));
        record.as_object_mut().unwrap().remove("layer");
        let read: Attempt = serde_json::from_value(record).unwrap();
        assert_eq!(read.layer, None);
    }

    #[test]
    fn components_are_named_after_what_they_are_for() {
        let name = component_of("list", "sumOf_numbers!");
        assert!(name.starts_with("forged-sumof-numbers-"), "{name}");
        assert_eq!(name, component_of("list", "sumOf_numbers!"));
        assert_ne!(name, component_of("list", "sumOf_numbers?"));
        assert!(component_of("list", "!!!").starts_with("forged-"));
        assert!(name.len() <= 64);
    }
}
