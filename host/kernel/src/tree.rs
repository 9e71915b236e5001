//! One message tree: the unit of work and everything its messages share.
//!
//! A tree is owned by whoever runs: it moves into an instance, moves on into the message that instance sends, and comes
//! back. So calls in one tree run one after another, and no lock is ever held over a guest call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use telos_store::Unit;

use crate::descriptor::Recording;
use crate::dispatch::Surroundings;
use crate::effects::EffectLog;
use crate::pace::Pace;
use crate::seams::StreamSink;
use crate::seat::{Release, SeatTable};

/// Messages that one root's messages may send and await in all; depth alone would allow any number.
pub(crate) const SENDS_PER_ROOT_MAX: u32 = 10_000;

/// What the messages of one root share.
pub(crate) struct Tree {
    pub(crate) unit: Unit,
    pub(crate) seats: Arc<SeatTable>,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) root: Arc<RootContext>,
    pub(crate) effects: EffectLog,
    pub(crate) answers: Answers,
    /// Messages under way, the running one included.
    pub(crate) depth: u32,
    /// Inside a read-only selector: transitive.
    pub(crate) is_read_only: bool,
    /// Instances started so far in this attempt; seeds each one's randomness.
    pub(crate) instances: u64,
    /// How long the instance lived that ended last: once the tree has run, the root's.
    pub(crate) instance: Duration,
    /// Fuel that messages of this attempt used, of those on the metered engine.
    pub(crate) fuel: u64,
    /// Messages that messages of this attempt sent and awaited.
    pub(crate) sends: u32,
    /// How many posts led here.
    pub(crate) hops: u32,
    /// What messages of this attempt that ended took of the processor, host calls included.
    pub(crate) cpu: Duration,
    /// Releases that broke a message of this attempt, with what they did; each once.
    pub(crate) breakages: Vec<(Arc<Release>, String)>,
}

/// What stays the same over all attempts of a root.
pub(crate) struct RootContext {
    pub(crate) trace: String,
    pub(crate) deadline: Instant,
    pub(crate) clock: RootClock,
    pub(crate) seed: [u8; 32],
    pub(crate) sink: Option<Arc<dyn StreamSink>>,
    pub(crate) attempt: u32,
    /// Of the attempt under way.
    pub(crate) pace: Pace,
}

/// Where answers of the world outside come from.
pub(crate) enum Answers {
    /// From the world, through the effect log.
    Live,
    /// From an example's recordings, in order.
    Recorded(VecDeque<Recording>),
}

impl Tree {
    /// The seed of the next instance's randomness.
    pub(crate) fn next_seed(&mut self) -> [u8; 32] {
        self.instances += 1;
        let mut hasher = blake3::Hasher::new_keyed(&self.root.seed);
        hasher.update(&self.instances.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Counts one more message that is sent and awaited; false at the bound, beyond which a tree that is wide and deep
    /// would hold its receiver's lane until the deadline.
    pub(crate) fn count_send(&mut self) -> bool {
        let may = self.sends < SENDS_PER_ROOT_MAX;
        self.sends += u32::from(may);
        may
    }

    /// The next recorded answer for an operation; none when answers are live, an empty one when none is left.
    pub(crate) fn recorded(&mut self, operation: &str) -> Option<Option<serde_json::Value>> {
        let Answers::Recorded(recordings) = &mut self.answers else {
            return None;
        };
        let index = recordings.iter().position(|recording| recording.operation == operation);
        Some(index.and_then(|index| recordings.remove(index)).map(|recording| recording.answer))
    }
}

/// Time as a root sees it: the wall clock stands still, the monotonic clock counts how often it was asked.
#[derive(Clone)]
pub(crate) struct RootClock {
    wall: Duration,
    ticks: Arc<AtomicU64>,
}

/// How far the monotonic clock moves each time it is read, in nanoseconds.
const TICK_NS: u64 = 1_000;

impl RootClock {
    /// Frozen at this moment.
    pub(crate) fn now() -> Self {
        Self::at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Frozen at a moment.
    pub(crate) fn at(wall: Duration) -> Self {
        Self { wall, ticks: Arc::new(AtomicU64::new(0)) }
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX)
    }
}

impl wasmtime_wasi::HostWallClock for RootClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.wall
    }
}

impl wasmtime_wasi::HostMonotonicClock for RootClock {
    fn resolution(&self) -> u64 {
        TICK_NS
    }

    fn now(&self) -> u64 {
        self.ticks.fetch_add(TICK_NS, Ordering::Relaxed)
    }
}

impl RootContext {
    /// The same root for its next attempt: the same moment and the same chance.
    pub(crate) fn again(&self) -> Self {
        Self {
            trace: self.trace.clone(),
            deadline: self.deadline,
            clock: RootClock::at(self.clock.wall),
            seed: self.seed,
            sink: self.sink.clone(),
            attempt: self.attempt,
            pace: Pace::default(),
        }
    }
}
