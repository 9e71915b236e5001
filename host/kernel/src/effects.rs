//! The ordered log of effects that cannot be repeated, so that a root that runs again after a conflict asks the same
//! questions and gets the same answers.
//!
//! A replay answers from the log while operation and argument hash match. At the first difference it goes live when
//! nothing was emitted yet; when the sender has already seen pieces of another answer, the root ends in a conflict.

/// What an effect was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A token of a generation, or its end.
    Generate,
    /// Embeddings of texts.
    Embed,
    /// A job of the archive that was begun.
    Archive,
    /// A piece given to the sender.
    Emit,
}

/// One effect and its answer.
#[derive(Clone)]
struct Entry {
    operation: Operation,
    arguments: blake3::Hash,
    answer: String,
}

/// The log of one root, over all its attempts.
#[derive(Default, Clone)]
pub(crate) struct EffectLog {
    entries: Vec<Entry>,
    replayed: usize,
    has_emitted: bool,
    is_diverged: bool,
    /// Of all answers.
    bytes: usize,
    /// There were more than are kept.
    is_cut: bool,
}

/// What the log says to an effect about to happen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It happened in an earlier attempt, with this answer.
    Replay(String),
    /// It has not happened: do it, and `record` the answer.
    Live,
    /// The attempt differs from what the sender saw; the root must end.
    Diverged,
}

/// Effects of one root that are kept, and bytes of their answers; a root that has more is not run again.
const ENTRIES_MAX: usize = 16_384;
const BYTES_MAX: usize = 16 << 20;

impl EffectLog {
    /// What to do about an effect.
    pub(crate) fn ask(&mut self, operation: Operation, arguments: &[u8]) -> Verdict {
        if self.is_diverged {
            return Verdict::Diverged;
        }
        let Some(entry) = self.entries.get(self.replayed) else {
            return Verdict::Live;
        };
        if entry.operation == operation && entry.arguments == blake3::hash(arguments) {
            self.replayed += 1;
            return Verdict::Replay(entry.answer.clone());
        }
        self.diverge()
    }

    /// Adds the answer of a live effect.
    pub(crate) fn record(&mut self, operation: Operation, arguments: &[u8], answer: String) {
        self.has_emitted |= operation == Operation::Emit;
        self.bytes += answer.len();
        self.is_cut |= self.entries.len() >= ENTRIES_MAX || self.bytes > BYTES_MAX;
        if self.is_cut {
            return;
        }
        self.entries.push(Entry { operation, arguments: blake3::hash(arguments), answer });
        self.replayed = self.entries.len();
    }

    /// Starts the next attempt from the top; false when this root cannot be run again.
    pub(crate) fn rewind(&mut self) -> bool {
        self.replayed = 0;
        !self.is_diverged && !self.is_cut
    }

    /// The same answers for a run that nobody sees.
    pub(crate) fn unseen(&self) -> Self {
        Self { replayed: 0, has_emitted: false, is_diverged: false, ..self.clone() }
    }

    /// Whether the attempt differs from what the sender has seen.
    /// Whether the sender has seen a piece of the answer.
    pub(crate) fn has_emitted(&self) -> bool {
        self.has_emitted
    }

    pub(crate) fn is_diverged(&self) -> bool {
        self.is_diverged
    }

    fn diverge(&mut self) -> Verdict {
        if self.has_emitted {
            self.is_diverged = true;
            return Verdict::Diverged;
        }
        self.entries.truncate(self.replayed);
        Verdict::Live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_gets_the_first_ones_answers() {
        let mut log = EffectLog::default();
        assert_eq!(log.ask(Operation::Embed, b"hello"), Verdict::Live);
        log.record(Operation::Embed, b"hello", "[1]".into());
        assert!(log.rewind());
        assert_eq!(log.ask(Operation::Embed, b"hello"), Verdict::Replay("[1]".into()));
        assert_eq!(log.ask(Operation::Embed, b"more"), Verdict::Live);
    }

    #[test]
    fn a_different_question_goes_live_while_nothing_was_emitted() {
        let mut log = EffectLog::default();
        log.record(Operation::Embed, b"a", "1".into());
        log.record(Operation::Embed, b"b", "2".into());
        log.rewind();
        assert_eq!(log.ask(Operation::Embed, b"c"), Verdict::Live);
        log.record(Operation::Embed, b"c", "3".into());
        log.rewind();
        assert_eq!(log.ask(Operation::Embed, b"c"), Verdict::Replay("3".into()));
        assert_eq!(log.ask(Operation::Embed, b"b"), Verdict::Live);
    }

    #[test]
    fn a_root_with_more_effects_than_are_kept_is_not_run_again() {
        let full = |effects: usize, answer: &str| {
            let mut log = EffectLog::default();
            for _ in 0..effects {
                assert_eq!(log.ask(Operation::Emit, b"piece"), Verdict::Live);
                log.record(Operation::Emit, b"piece", answer.into());
            }
            assert!(log.entries.len() <= ENTRIES_MAX);
            !log.rewind()
        };
        assert!(!full(ENTRIES_MAX, "") && full(ENTRIES_MAX + 1, ""));
        assert!(!full(1, &"x".repeat(BYTES_MAX)) && full(2, &"x".repeat(BYTES_MAX)));
    }

    #[test]
    fn a_different_question_after_an_emission_ends_the_root() {
        let mut log = EffectLog::default();
        log.record(Operation::Emit, b"piece", String::new());
        log.record(Operation::Embed, b"a", "1".into());
        log.rewind();
        assert_eq!(log.ask(Operation::Emit, b"piece"), Verdict::Replay(String::new()));
        assert_eq!(log.ask(Operation::Embed, b"z"), Verdict::Diverged);
        assert!(!log.rewind());
    }
}
