//! What peers may make the host hold, and what an operator sees of them.

use std::time::Duration;

use bytes::Bytes;

use crate::pool::{Lease, Pool, PoolRules, WorkerState};
use crate::service::{Role, SessionId};

/// A worker that was told to stop has so many heartbeats to do so, within these bounds: what it runs may look at its
/// token rarely.
const FENCE_HEARTBEATS: u32 = 30;
const FENCE_LEAST: Duration = Duration::from_secs(1);
const FENCE_MOST: Duration = Duration::from_secs(30);

/// What the host holds for its peers at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions alive at once; a client beyond it takes the place of one whose connection is gone, or is refused and comes
    /// back later. 1,024.
    pub sessions_max: usize,
    /// Calls with the service at once, over all sessions; beyond it `busy`. 4,096.
    pub calls_max: usize,
    /// The same for one session. 256.
    pub session_calls_max: usize,
    /// Bytes of the requests of all calls that are open, over all sessions; beyond it `busy`. 256 MiB.
    pub call_bytes_max: usize,
    /// The same for one session. 32 MiB, which is two of the largest.
    pub session_call_bytes_max: usize,
    /// Messages that wait for one peer's window before its streams are cut with `slow-reader`. 1,024.
    pub stream_messages_max: usize,
    /// Bytes of the same. 4 MiB.
    pub stream_bytes_max: usize,
    /// Bytes that wait for one peer, replies included, before the peer is dropped like a dead one. 32 MiB.
    pub reply_bytes_max: usize,
    /// Finished replies remembered per session, for repeats. 64.
    pub finished_max: usize,
    /// Bytes of the same. 4 MiB.
    pub finished_bytes_max: usize,
    /// Orders that wait for a worker, all services together; beyond it `busy`. 1,024.
    pub orders_waiting_max: usize,
    /// Bytes of the same. 64 MiB.
    pub orders_waiting_bytes_max: usize,
    /// Attempts at an order before it is a dead letter. 3.
    pub attempts_max: u32,
    /// Orders that one worker may have at once, whatever it asks for. 64.
    pub worker_credit_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            sessions_max: 1_024,
            calls_max: 4_096,
            session_calls_max: 256,
            call_bytes_max: 256 * MIB,
            session_call_bytes_max: 32 * MIB,
            stream_messages_max: 1_024,
            stream_bytes_max: 4 * MIB,
            reply_bytes_max: 32 * MIB,
            finished_max: 64,
            finished_bytes_max: 4 * MIB,
            orders_waiting_max: 1_024,
            orders_waiting_bytes_max: 64 * MIB,
            attempts_max: 3,
            worker_credit_max: 64,
        }
    }
}

impl Limits {
    pub(super) fn pool_rules(&self, heartbeat: Duration) -> PoolRules {
        PoolRules {
            lease_min: 2 * heartbeat,
            fence_patience: (FENCE_HEARTBEATS * heartbeat).clamp(FENCE_LEAST, FENCE_MOST),
            attempts_max: self.attempts_max,
            waiting_max: self.orders_waiting_max,
            waiting_bytes_max: self.orders_waiting_bytes_max,
            credit_max: self.worker_credit_max,
            ..PoolRules::default()
        }
    }
}

/// One client that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its session.
    pub session: SessionId,
    /// What it may do.
    pub role: Role,
    /// Its calls with the service.
    pub calls: usize,
    /// Messages sent to it and not acknowledged; at most 64.
    pub unacked_messages: usize,
    /// Their bytes; at most 4 MiB, or one larger message.
    pub unacked_bytes: usize,
    /// Messages that wait for it to acknowledge.
    pub waiting_messages: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// How long nothing was heard from it.
    pub silent: Duration,
    /// What it offers, when it is a worker.
    pub worker: Option<WorkerInfo>,
}

/// A worker's side of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// What it does.
    pub services: Vec<String>,
    /// How many jobs it takes at once.
    pub credit: u16,
    /// How many it has, those included that it was told to stop and has not yet stopped.
    pub in_hand: usize,
    /// The leases on the jobs that it is to answer.
    pub leases: Vec<Lease>,
    /// How it stands.
    pub state: WorkerState,
}

/// Counters since the host began to serve, except those that say that they are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions alive, now.
    pub sessions: usize,
    /// Calls with the service, now.
    pub calls: usize,
    /// Calls handed to the service.
    pub dispatched: u64,
    /// Requests that joined a running call or were answered from memory.
    pub repeats: u64,
    /// Replies delivered.
    pub replies: u64,
    /// Replies that nobody waited for any more.
    pub dropped_replies: u64,
    /// Sessions that missed their heartbeats or did not read.
    pub expired: u64,
    /// Streams cut because the peer read too slowly.
    pub slow_readers: u64,
    /// Messages that were not understood or too large.
    pub malformed: u64,
    /// HELLOs refused: token, protocol, or no room.
    pub refused: u64,
    /// Calls answered for the service, one heartbeat after their deadline.
    pub overdue: u64,
    /// Sessions that came back on another connection.
    pub reconnects: u64,
    /// Workers alive, now.
    pub workers: usize,
    /// Orders that wait for a worker, now.
    pub orders_waiting: usize,
    /// Orders that workers have, now.
    pub orders_in_hand: usize,
    /// Orders given to a worker, every attempt counted.
    pub given: u64,
    /// Those that were not the first attempt.
    pub redispatched: u64,
    /// What workers said of an attempt that was void, and was dropped.
    pub fenced: u64,
    /// Workers that beat, got nowhere and did not stop.
    pub dismissed: u64,
    /// Orders that nobody could do.
    pub dead_letters: u64,
}

impl Stats {
    pub(super) fn with_pool(self, pool: &Pool<u128, Bytes>) -> Self {
        let counted = pool.stats();
        Self {
            workers: pool.workers_count(),
            orders_waiting: pool.waiting_count(),
            orders_in_hand: pool.in_hand_count(),
            given: counted.given,
            redispatched: counted.redispatched,
            fenced: counted.fenced,
            dismissed: counted.dismissed,
            dead_letters: counted.dead_letters,
            ..self
        }
    }
}
