//! What a host's error means for the call it answers: its end, or only "not now".
//!
//! A number may be asked again as often as one likes: the host keeps its effects by session and number. So an error
//! that cannot tell the effect is not passed on while there is time to ask again.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::link::Backoff;
use crate::rpc::{self, Effect};

/// Times that one number is asked again because nobody could tell its effect; then its caller is told so.
const ASKS_MAX: u32 = 32;
/// The first pause before that: a store that reopens after a failed write needs some tens of milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest, so that a host that took longer is found out soon after.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell it: asking again would not be answered otherwise.
    Final,
    /// Nobody can tell its effect, now or ever.
    Unknowable,
    /// Ask the same host again under the same number.
    AskAgain,
    /// The host is stopping: the next one is asked.
    NextHost(Effect),
    /// The host closed the session, and the call was never handed to it before: it belongs in a new one.
    NewSession,
}

/// What the client knows about a call that ended in an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    /// The last attempt.
    pub(super) attempt: u32,
    /// An earlier answer could not tell the effect.
    pub(super) is_in_doubt: bool,
    /// A worker's, of whom nobody can ask what became of it.
    pub(super) is_order: bool,
}

/// Judges the error that answers `number`.
pub(super) fn judge(number: u64, payload: &[u8], past: Past) -> Verdict {
    let Past { attempt, is_in_doubt, is_order } = past;
    let Some(error) = rpc::decode_error(Some(number), payload) else {
        return Verdict::Final;
    };
    match (error.data.kind.as_str(), error.data.effect) {
        ("closing", effect) => Verdict::NextHost(effect),
        _ if is_order => Verdict::Final,
        ("unknown-session", _) if attempt > 1 => Verdict::Unknowable,
        ("unknown-session", Effect::None) => Verdict::NewSession,
        // They answer for the time, the reader or the number itself, which another try does not change.
        ("timeout" | "slow-reader" | "too-large" | "too-old", _) => Verdict::Final,
        // Said without a look at what became of the earlier tries.
        ("busy", _) if is_in_doubt => Verdict::AskAgain,
        (_, Effect::Unknown) => Verdict::AskAgain,
        _ => Verdict::Final,
    }
}

/// A call whose effect nobody could tell so far.
#[derive(Debug)]
pub(super) struct Doubt {
    /// The error that began it.
    pub(super) cause: Bytes,
    /// How often it was asked again.
    pub(super) asks: u32,
    backoff: Backoff,
}

impl Doubt {
    /// `seed` is the jitter.
    pub(super) fn new(cause: Bytes, seed: u128) -> Self {
        Self { cause, asks: 0, backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX, seed) }
    }

    /// When to ask again; `None` when that would be too often, or too late to be answered.
    pub(super) fn next_ask(&mut self, now: Instant, deadline: Instant) -> Option<Instant> {
        let at = now + self.backoff.next_pause();
        if self.asks >= ASKS_MAX || at >= deadline {
            return None;
        }
        self.asks += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::RpcError;

    #[track_caller]
    fn check(kind: &str, effect: Effect, attempt: u32, is_in_doubt: bool, expected: Verdict) {
        let payload = rpc::encode_error(Some(7), &RpcError::new(kind, effect, "it says"));
        let past = Past { attempt, is_in_doubt, is_order: false };
        assert_eq!(judge(7, &payload, past), expected, "{kind}, {effect}");
    }

    #[test]
    fn only_what_another_try_can_settle_is_tried_again() {
        check("unavailable", Effect::Unknown, 1, false, Verdict::AskAgain);
        check("abandoned", Effect::Unknown, 3, true, Verdict::AskAgain);
        check("refused", Effect::None, 2, true, Verdict::Final);
        check("busy", Effect::None, 1, false, Verdict::Final);
        check("busy", Effect::None, 2, true, Verdict::AskAgain);
        check("busy", Effect::Unknown, 2, false, Verdict::AskAgain);
        check("slow-reader", Effect::Unknown, 1, false, Verdict::Final);
        check("timeout", Effect::Unknown, 1, false, Verdict::Final);
        check("closing", Effect::None, 1, false, Verdict::NextHost(Effect::None));
        check("closing", Effect::Unknown, 2, false, Verdict::NextHost(Effect::Unknown));
        assert_eq!(
            judge(7, b"{", Past { attempt: 1, is_in_doubt: false, is_order: false }),
            Verdict::Final,
            "not understood"
        );
    }

    #[test]
    fn only_a_call_never_handed_over_before_may_go_into_a_new_session() {
        check("unknown-session", Effect::None, 1, false, Verdict::NewSession);
        check("unknown-session", Effect::None, 2, false, Verdict::Unknowable);
    }

    #[test]
    fn asking_again_ends_at_its_bound_and_at_the_deadline() {
        let (now, mut asks) = (Instant::now(), 0);
        let mut doubt = Doubt::new(Bytes::new(), 1);
        while doubt.next_ask(now, now + Duration::from_secs(3_600)).is_some() {
            asks += 1;
        }
        assert_eq!(asks, ASKS_MAX);
        let mut doubt = Doubt::new(Bytes::new(), 1);
        assert_eq!(doubt.next_ask(now, now + PAUSE_MIN / 2), None);
    }
}
