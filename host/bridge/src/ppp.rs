//! Bare Paranoid Pirate: the ZeroMQ guide's clients and workers, in any language and unchanged, against a host's queue,
//! and a worker of ours against the guide's.
//!
//! ```text
//! client  REQ or DEALER ─→ frontend ROUTER ─┬─ one JSON-RPC 2.0 request ─→ the host's Service
//!                                           └─ anything else ─→ Pool ─→ backend ROUTER ─→ worker  DEALER
//!
//! worker to queue   01 READY | 02 HEARTBEAT | token, empty, content 1..          the token is echoed
//! queue to worker   02 HEARTBEAT | token, empty, content 1..
//! ```
//! - The address that a worker is handed is no client's but a token, (run, request, attempt): a reply counts only while
//!   its attempt does, and only from the worker that has it. What comes later, or from before a restart, is dropped.
//! - A worker has one request in hand. While it has, its silence proves nothing, for the guide's worker has one thread:
//!   it has until the request's deadline, or the [`PppConfig::lease`] where one is set. Only its connection's end, or a
//!   new READY, takes the request from it before. Idle, it is gone after `liveness` silent intervals.
//! - A worker that is unknown, because it was given up or the queue is another, is not answered: it hears no heartbeats,
//!   connects anew and says READY, as the specification has it.
//! - Nothing in bare frames tells a failure, so a request that nobody could do is not answered: clients are Lazy Pirates,
//!   who ask again or give up. JSON-RPC requests to the host end in a result or an error.
//!
//! Not promised: that a request is done once (its class is [`crate::Class::Idempotent`]), order, anything across a
//! connection or a restart, and any defence against other programs of this machine that may connect.
//!
//! # Source
//! ZeroMQ RFC 6/PPP; ZeroMQ Guide, chapter 4, Paranoid Pirate and Lazy Pirate patterns.

mod calls;
mod envelope;
mod limits;
mod queue;
mod server;

mod work;
mod worker;

pub use limits::{PppConfig, PppLimits, PppStats};
pub use server::{PppGauge, PppServer, serve_ppp};
pub use work::{PppStanding, PppWorker, PppWorkerConfig};
