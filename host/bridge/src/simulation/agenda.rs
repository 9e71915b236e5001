//! What is to happen and when, in virtual milliseconds; at the same moment, in the order in which it was planned.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ledger::Token;
use super::network::{Direction, LineId};
use super::trouble::Blow;
use crate::frame::{ToClient, ToHost};
use crate::queue::{CallId, Ticket};
use crate::worker::SlotId;

/// Somebody whose time may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    Host,
    Peer(usize),
}

/// One thing that happens. A `life` or `run` that is over makes it void.
#[derive(Debug, Clone)]
pub(super) enum Event {
    ToHost {
        line: LineId,
        frame: ToHost,
    },
    ToPeer {
        line: LineId,
        frame: ToClient,
    },
    /// An attempt to connect is answered, or not in time.
    ConnectEnds {
        peer: usize,
        attempt: u64,
        is_late: bool,
    },
    PeerLearnsLoss {
        line: LineId,
    },
    HostLearnsLoss {
        line: LineId,
    },
    /// A timer; void when it was set anew.
    WakePeer {
        peer: usize,
        timer: u64,
    },
    WakeHost {
        timer: u64,
    },
    /// The service's next step in a call.
    Serve {
        run: u64,
        call: CallId,
    },
    /// A worker's next step in a job; void when there was another since it was planned.
    Work {
        peer: usize,
        life: u32,
        slot: SlotId,
        step: u64,
    },
    NewCall {
        peer: usize,
    },
    NewOrder {
        peer: usize,
    },
    NewHostOrder,
    GiveUp {
        peer: usize,
        life: u32,
        number: u64,
    },
    GiveUpTicket {
        run: u64,
        ticket: Ticket,
    },
    /// The reader of a stream pauses, or goes on.
    Pace {
        peer: usize,
        life: u32,
        number: u64,
        is_paused: bool,
    },
    StartHost,
    /// The stopped host has waited long enough.
    LeaveHost {
        run: u64,
    },
    /// So has a worker that drains.
    CloseWorker {
        peer: usize,
        life: u32,
    },
    /// A process goes on that stood still; void when another began in its place.
    Resume {
        process: Process,
        pause: u64,
    },
    Strike(Blow),
    /// By now a job whose worker gets nowhere must have been taken from it.
    CheckFenced {
        name: Bytes,
        token: Token,
    },
    /// By now both ends must have left a line that one direction of was cut.
    CheckNoticed {
        line: LineId,
        direction: Direction,
    },
}

/// Virtual time.
#[derive(Debug)]
pub(super) struct Agenda {
    start: Instant,
    now_ms: u64,
    /// How long the machine has slept altogether.
    slept_ms: u64,
    order: u64,
    events: BTreeMap<(u64, u64), Event>,
}

impl Agenda {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), now_ms: 0, slept_ms: 0, order: 0, events: BTreeMap::new() }
    }

    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Time in which the machine was awake.
    pub(super) fn lived_ms(&self) -> u64 {
        self.now_ms - self.slept_ms
    }

    pub(super) fn at(&mut self, at_ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((at_ms.max(self.now_ms), self.order), event);
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    /// Plans a timer. It never goes off at once: whoever sets it was just looking.
    pub(super) fn wake(&mut self, at: Instant, event: Event) {
        let since = at.saturating_duration_since(self.start);
        let at_ms = u64::try_from(since.as_micros().div_ceil(1_000)).unwrap();
        self.at(at_ms.max(self.now_ms + 1), event);
    }

    /// The next event, if it happens before so much of waking life is over; then only time passes.
    pub(super) fn next_until(&mut self, lived_ms: u64) -> Option<Event> {
        let end_ms = lived_ms + self.slept_ms;
        match self.events.first_entry().filter(|entry| entry.key().0 <= end_ms) {
            Some(entry) => {
                self.now_ms = entry.key().0;
                Some(entry.remove())
            }
            None => {
                self.now_ms = end_ms;
                None
            }
        }
    }

    /// The machine sleeps: everything stands still but clocks, so that timers go off when it wakes.
    pub(super) fn sleep(&mut self, ms: u64) {
        self.slept_ms += ms;
        let awake_ms = self.now_ms + ms;
        let shift = |((at_ms, order), event): ((u64, u64), Event)| {
            let is_timer = matches!(event, Event::WakePeer { .. } | Event::WakeHost { .. });
            let at_ms = if is_timer { at_ms.max(awake_ms) } else { at_ms + ms };
            ((at_ms, order), event)
        };
        self.events = std::mem::take(&mut self.events).into_iter().map(shift).collect();
    }
}
