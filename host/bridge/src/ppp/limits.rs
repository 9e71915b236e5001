//! How bare Paranoid Pirate is served, what its peers may make us hold, and what an operator sees of it.

use std::time::Duration;

use super::server::PppGauge;
use crate::endpoint::Endpoint;
use crate::pool::PoolRules;

/// How a pair of bare endpoints serves.
///
/// Bare frames have no place for a token: whoever can connect to the frontend may ask what a client may, and whoever can
/// connect to the backend is given requests. On TCP that is every user of this machine.
#[derive(Debug, Clone)]
pub struct PppConfig {
    /// Where clients connect.
    pub frontend: Endpoint,
    /// Where workers connect.
    pub backend: Endpoint,
    /// Both sides beat this often; from 10 ms to 60 s. Workers are told elsewhere, and must keep to it. 1 s.
    pub heartbeat: Duration,
    /// So many missed beats, and an idle worker is gone; from 1 to 1,000. 3.
    pub liveness: u32,
    /// How long a request may take, all attempts together; from 10 ms to a day. 60 s.
    pub deadline: Duration,
    /// How long one worker may have a request before another is given it too. None: until the deadline, for nothing in
    /// bare frames tells a worker that works from one that hangs. Set it where the longest honest job is known.
    pub lease: Option<Duration>,
    /// How long [`crate::PppServer::shutdown`] waits for what is under way. 5 s.
    pub drain: Duration,
    /// What peers may make us hold.
    pub limits: PppLimits,
    /// Through which its counters are read.
    pub gauge: PppGauge,
}

impl PppConfig {
    /// The defaults, at these endpoints.
    #[must_use]
    pub fn new(frontend: Endpoint, backend: Endpoint) -> Self {
        Self {
            frontend,
            backend,
            heartbeat: Duration::from_secs(1),
            liveness: 3,
            deadline: Duration::from_secs(60),
            lease: None,
            drain: Duration::from_secs(5),
            limits: PppLimits::default(),
            gauge: PppGauge::default(),
        }
    }
}

/// What bare peers may make the host hold. A message is bounded as a native one: [`crate::FRAMES_MAX`],
/// [`crate::FRAME_BYTES_MAX`], [`crate::MESSAGE_BYTES_MAX`]; beyond that it is dropped and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PppLimits {
    /// Clients that have said something and are connected; one more is hung up on. 1,024.
    pub clients_max: usize,
    /// Requests of one client that are under way; one more is dropped, or `busy`. 64.
    pub client_requests_max: usize,
    /// Bytes of replies on their way to one client; at more it is hung up on. 16 MiB, or one larger reply. The same
    /// bound holds for requests on their way to one worker.
    pub client_unread_bytes_max: usize,
    /// Frames of the same. 1,024.
    pub client_unread_frames_max: usize,
    /// Workers; one more is hung up on. 1,024.
    pub workers_max: usize,
    /// Requests that wait for a worker; one more is dropped. 1,024.
    pub waiting_max: usize,
    /// Bytes of the same. 64 MiB.
    pub waiting_bytes_max: usize,
    /// JSON-RPC requests with the host at once; one more is `busy`. 1,024.
    pub calls_max: usize,
    /// Workers that may die of a request before it is given up. 3.
    pub attempts_max: u32,
}

impl Default for PppLimits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            clients_max: 1_024,
            client_requests_max: 64,
            client_unread_bytes_max: 16 * MIB,
            client_unread_frames_max: 1_024,
            workers_max: 1_024,
            waiting_max: 1_024,
            waiting_bytes_max: 64 * MIB,
            calls_max: 1_024,
            attempts_max: 3,
        }
    }
}

impl PppLimits {
    /// A bare worker cannot be told to stop; it has a lease more to come back.
    pub(super) fn pool_rules(&self, lease: Option<Duration>) -> PoolRules {
        const LEAST: Duration = Duration::from_secs(1);
        const MOST: Duration = Duration::from_secs(30);
        PoolRules {
            fence_patience: lease.unwrap_or(MOST).clamp(LEAST, MOST),
            attempts_max: self.attempts_max,
            waiting_max: self.waiting_max,
            waiting_bytes_max: self.waiting_bytes_max,
            credit_max: 1,
            services_max: 1,
            ..PoolRules::default()
        }
    }
}

/// Counters since it began to serve, except the first five, which are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PppStats {
    /// Clients that have said something and are connected.
    pub clients: usize,
    /// Workers.
    pub workers: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Requests that workers have.
    pub in_hand: usize,
    /// JSON-RPC requests with the host.
    pub calls: usize,
    /// Requests for workers taken.
    pub requests: u64,
    /// JSON-RPC requests handed to the host.
    pub dispatched: u64,
    /// JSON-RPC requests that joined a running one.
    pub repeats: u64,
    /// Replies sent to clients, the host's included.
    pub replies: u64,
    /// Replies whose client was gone.
    pub unwanted: u64,
    /// Requests given to a worker, every attempt counted.
    pub given: u64,
    /// Those that were not the first attempt.
    pub redispatched: u64,
    /// Replies of an attempt that was void, or of nobody known: dropped.
    pub fenced: u64,
    /// Requests that ended without a reply: deadline, attempts, no room.
    pub unanswered: u64,
    /// Messages dropped and peers hung up on for want of room.
    pub refused: u64,
    /// Messages that were not understood or too large.
    pub malformed: u64,
    /// Heartbeats of workers that are not known: ignored, so that they say READY.
    pub strangers: u64,
    /// Idle workers that missed their heartbeats.
    pub expired: u64,
    /// Workers that had a request beyond its deadline and did not come back.
    pub dismissed: u64,
    /// Clients and workers that did not read.
    pub slow_readers: u64,
}
