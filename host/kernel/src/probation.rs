//! Probation, judged: how long a release is watched, and what burns it.
//!
//! ```text
//! served    long enough and often enough                   it is permanent
//! burnt     by distinct messages within a short time,      the seat returns, or is parked
//!           each of which breaks this release and not
//!           the one that it would return to
//! ```
//! Pure: who watches, and who looks whether the other release survives, are `watch`'s.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use telos_store::{Digest, Json, ObjectId};

/// How long a release is on probation, and what burns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbationTerms {
    /// It serves at least this long. Default 10 min.
    pub time: Duration,
    /// It answers at least this many messages since the host started. Default 200.
    pub messages: u64,
    /// This many distinct messages that it breaks burn it. Default 3.
    pub strikes: usize,
    /// When they come within this time. Default 60 s.
    pub window: Duration,
}

impl Default for ProbationTerms {
    fn default() -> Self {
        Self { time: Duration::from_secs(600), messages: 200, strikes: 3, window: Duration::from_secs(60) }
    }
}

impl ProbationTerms {
    /// Whether a release that has served for so long and answered so many messages is permanent.
    pub(crate) fn are_served(self, served: Duration, answered: u64) -> bool {
        served >= self.time && answered >= self.messages
    }
}

/// The strikes against one release, at most as many as burn it.
#[derive(Default)]
pub(crate) struct Strikes(VecDeque<(Instant, Digest)>);

impl Strikes {
    /// Whether a message counts: one that has struck within the window does not count again.
    pub(crate) fn is_new(&mut self, message: Digest, now: Instant, terms: ProbationTerms) -> bool {
        self.0.retain(|(at, _)| now.saturating_duration_since(*at) < terms.window);
        self.0.iter().all(|(_, struck)| *struck != message)
    }

    /// Counts a message that is new; true when the release is burnt.
    pub(crate) fn count(&mut self, message: Digest, now: Instant, terms: ProbationTerms) -> bool {
        self.0.push_back((now, message));
        self.0.len() >= terms.strikes
    }
}

/// What makes a message distinct: its receiver, its selector and its arguments.
pub(crate) fn fingerprint(receiver: ObjectId, selector: &str, arguments: &Json) -> Digest {
    let text = format!("{receiver} {} {selector} {}", selector.len(), arguments.as_str());
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: ProbationTerms = ProbationTerms {
        time: Duration::from_secs(600),
        messages: 200,
        strikes: 3,
        window: Duration::from_secs(60),
    };

    /// Messages by number at these seconds; whether the last one burns.
    fn burns(messages: &[(u64, u64)]) -> bool {
        let (start, mut strikes, mut is_burnt) = (Instant::now(), Strikes::default(), false);
        for (message, second) in messages {
            let (message, now) = (Digest::of(&message.to_le_bytes()), start + Duration::from_secs(*second));
            is_burnt = strikes.is_new(message, now, TERMS) && strikes.count(message, now, TERMS);
        }
        is_burnt
    }

    #[test]
    fn three_distinct_messages_within_a_minute_burn() {
        assert!(burns(&[(1, 0), (2, 10), (3, 59)]));
        assert!(!burns(&[(1, 0), (2, 10)]));
        assert!(!burns(&[(1, 0), (2, 10), (3, 60)]), "the first is a minute ago");
        assert!(burns(&[(1, 0), (2, 10), (3, 60), (4, 61)]));
    }

    #[test]
    fn a_message_that_is_sent_again_counts_once() {
        assert!(!burns(&[(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)]));
        assert!(burns(&[(1, 0), (1, 1), (2, 3), (3, 4)]));
        assert!(burns(&[(1, 0), (2, 50), (1, 70), (3, 80)]), "long after, it counts anew");
    }

    #[test]
    fn permanent_takes_both_time_and_messages() {
        assert!(TERMS.are_served(Duration::from_secs(600), 200));
        assert!(!TERMS.are_served(Duration::from_secs(599), 10_000));
        assert!(!TERMS.are_served(Duration::from_secs(6_000), 199));
    }

    #[test]
    fn messages_differ_by_receiver_selector_and_arguments() {
        let (one, other) = (ObjectId::from_parts(0, 1), ObjectId::from_parts(0, 2));
        let json = |text: &str| Json::parse(text).unwrap();
        let base = fingerprint(one, "a", &json("1"));
        assert_eq!(base, fingerprint(one, "a", &json("1")));
        for different in [
            fingerprint(other, "a", &json("1")),
            fingerprint(one, "b", &json("1")),
            fingerprint(one, "a", &json("2")),
        ] {
            assert_ne!(base, different);
        }
    }
}
