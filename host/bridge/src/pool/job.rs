//! One job: what was ordered, who has it, and what became of its attempts.

use std::time::{Duration, Instant};

use super::{JobId, ServiceName};

/// Whether doing a job twice does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may be done again.
    Idempotent,
    /// It must not.
    Once,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order<P> {
    pub(crate) service: ServiceName,
    pub(crate) class: Class,
    pub(crate) deadline: Instant,
    /// How long a worker may go without a sign of progress; none: until the deadline.
    pub(crate) lease: Option<Duration>,
    pub(crate) payload: P,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End<P> {
    /// Its worker's answer.
    Done(P),
    /// Its worker's error. `is_in_doubt`: an earlier worker, which did not answer, may have done it.
    Failed { payload: P, is_in_doubt: bool },
    /// It must not be done twice, and the worker that may have done it is gone.
    Unknown,
    /// As many attempts as the rules allow went wrong.
    Dead { trials: Vec<(u32, Mishap)>, is_in_doubt: bool },
    /// Its deadline passed.
    TimedOut { was_given: bool },
    /// As much waits as the rules allow.
    Busy,
    /// Whoever ordered it does not want it any more.
    Cancelled { was_given: bool },
}

/// How one attempt went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The worker's session ended: it died, or was not heard for too long.
    Died,
    /// The worker said goodbye with the job in hand.
    Left,
    /// No progress within the lease.
    Wedged,
    /// The worker gave the job back.
    GaveBack { reason: String },
}

impl std::fmt::Display for Mishap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Died => f.write_str("its worker died"),
            Self::Left => f.write_str("its worker left"),
            Self::Wedged => f.write_str("no progress within the lease"),
            Self::GaveBack { reason } => write!(f, "given back: {reason}"),
        }
    }
}

/// One attempt that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial<W> {
    pub(crate) worker: W,
    pub(crate) attempt: u32,
    pub(crate) mishap: Mishap,
}

/// A job that nobody could do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter<W> {
    pub(crate) job: JobId,
    pub(crate) service: ServiceName,
    pub(crate) at: Instant,
    pub(crate) history: Vec<Trial<W>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State<W> {
    Waiting,
    /// `until`: when the lease runs out; never after the deadline.
    Given {
        worker: W,
        until: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Job<W, P> {
    pub(super) order: Order<P>,
    /// Of the last giving; 0 before the first.
    pub(super) attempt: u32,
    pub(super) state: State<W>,
    pub(super) history: Vec<Trial<W>>,
    /// The present attempt has streamed something.
    pub(super) has_chunks: bool,
    /// A worker that did not answer may have done it.
    pub(super) is_in_doubt: bool,
    pub(super) is_paused: bool,
    /// Who gave it back last: while there is another it is not given to that one.
    pub(super) given_back_by: Option<W>,
    /// How often it came back without having been begun.
    pub(super) untaken: u32,
    /// It is given to nobody before.
    pub(super) rests_until: Option<Instant>,
    /// There was a sign of progress, or its worker is new, since the lease was last renewed for a pause.
    pub(super) has_got_on: bool,
}

impl<W: Copy, P> Job<W, P> {
    pub(super) fn new(order: Order<P>) -> Self {
        Self {
            order,
            attempt: 0,
            state: State::Waiting,
            history: Vec::new(),
            has_chunks: false,
            is_in_doubt: false,
            is_paused: false,
            given_back_by: None,
            untaken: 0,
            rests_until: None,
            has_got_on: true,
        }
    }

    /// The next attempt; answers when its lease runs out.
    pub(super) fn give(&mut self, now: Instant, worker: W) -> Instant {
        self.attempt += 1;
        self.has_got_on = true;
        let until = self.lease_until(now);
        self.state = State::Given { worker, until };
        until
    }

    pub(super) fn note_given_back(&mut self, worker: W, was_begun: bool) {
        self.given_back_by = Some(worker);
        self.untaken += u32::from(!was_begun);
    }

    /// Those that were not begun are none.
    pub(super) fn attempts_counted(&self) -> u32 {
        self.attempt - self.untaken
    }

    /// How long it rests when nobody but the worker that gave it back could have it.
    pub(super) fn rest(&self) -> Duration {
        const FIRST: Duration = Duration::from_millis(50);
        const LAST: Duration = Duration::from_secs(1);
        (FIRST * 2_u32.pow((self.attempt - 1).min(8))).min(LAST)
    }

    /// The old and the new end of the lease.
    pub(super) fn renew(&mut self, now: Instant) -> Option<(Instant, Instant)> {
        let new = self.lease_until(now);
        match &mut self.state {
            State::Given { until, .. } => Some((std::mem::replace(until, new), new)),
            State::Waiting => None,
        }
    }

    /// Who has it, when its lease has run out.
    pub(super) fn lease_passed(&self, now: Instant) -> Option<(W, Instant)> {
        match self.state {
            State::Given { worker, until } if now >= until => Some((worker, until)),
            _ => None,
        }
    }

    /// When its lease runs out; none while nobody has it.
    pub(super) fn lease_end(&self) -> Option<Instant> {
        match self.state {
            State::Given { until, .. } => Some(until),
            State::Waiting => None,
        }
    }

    pub(super) fn holder(&self) -> Option<W> {
        match self.state {
            State::Given { worker, .. } => Some(worker),
            State::Waiting => None,
        }
    }

    /// A worker may have done something about it.
    pub(super) fn was_begun(&self) -> bool {
        self.is_in_doubt || self.holder().is_some()
    }

    /// What a worker is told of its lease.
    pub(super) fn lease(&self, now: Instant) -> Duration {
        self.lease_until(now).saturating_duration_since(now)
    }

    /// Moves the lease, or the deadline's entry at `at`, which stays where it is. Answers the entry's new place.
    pub(super) fn forgive(&mut self, at: Instant, absence: Duration) -> Instant {
        let deadline = self.order.deadline;
        match &mut self.state {
            State::Given { until, .. } if *until == at && at < deadline => {
                *until = (at + absence).min(deadline);
                *until
            }
            _ => at,
        }
    }

    fn lease_until(&self, now: Instant) -> Instant {
        let deadline = self.order.deadline;
        self.order.lease.map_or(deadline, |lease| (now + lease).min(deadline))
    }
}
