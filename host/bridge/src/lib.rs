//! The bridge: how a client and the host talk, and what each may rely on.
//!
//! A host [`serve`]s one [`Endpoint`]; a [`Client`] connects and calls. Underneath is a ZeroMQ ROUTER with
//! DEALERs, which by itself promises little: it never reconnects, never bounds and never tells. So two pure
//! state machines, one per side, hold every promise, and a thin shell performs what they decide.
//!
//! ```text
//! frame    bytes <-> frames; total and bounded                                     pure
//! channel  serials, acknowledgements, windows; what was sent arrives once, in order  pure
//! client   Lazy Pirate: numbers, heartbeats, back-off, resend under the same number  pure
//! queue    sessions, presence, calls in flight, finished replies                     pure
//! backlog  chunks on their way and unread, and who waits for room
//! socket   the seam to the wire; the crates that speak ZeroMQ are named below it only
//! doors    several sockets as one, each with the most that its peers may do
//! server, connection   one task each: socket and clock in, actions out
//! ppp      bare Paranoid Pirate beside it, for programs that speak nothing else
//! ```
//!
//! Promises. A call ends in exactly one outcome, by its deadline plus two heartbeats. A number is handed to the
//! service again only when the queue has no answer to it (a host restart, a client that was away for three
//! heartbeats, or an answer whose effect was unknown, which the client does not settle for while time is left): a
//! service whose effects must not repeat keeps them by (session, number). Chunks of one call arrive in order; after a
//! [`Event::Reset`] those before it are void. A host that stops answers what it has begun, up to
//! [`BridgeConfig::drain`]; the rest the clients take to the next host, as after a crash. No peer makes the host hold more than
//! [`Limits`] allows; at a limit the documentation of its field says what happens. Dead peers are gone after three
//! missed heartbeats.
//!
//! Not promised: order between calls of different sessions; memory of anything after a host restart; defence
//! against hostile peers below our frames, since the default [`Wire`] trusts a frame's claimed length. So an endpoint
//! is a Unix socket in a private directory, or loopback TCP with a token. The wire behind the feature `omq` does not
//! trust it, and either end may choose either. Before an open port stands the guard, which
//! leads each peer to the [`Door`] of its role.

mod backlog;
mod endpoint;
mod frame;
mod rpc;
mod service;

mod channel;
mod client;
mod link;
mod pool;
mod queue;
mod worker;

mod connection;
mod doors;
mod io_thread;
mod ppp;
mod server;
mod socket;
mod unread;
mod waits;
mod work;
mod workers;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use connection::{
    CallError, CallOptions, Client, ClientConfig, ConnectError, Event, OrderOptions, Stream,
};
pub use doors::Door;
pub use endpoint::{Endpoint, EndpointError};
pub use frame::{FRAME_BYTES_MAX, FRAMES_MAX, FrameError, MESSAGE_BYTES_MAX};
pub use pool::{Class, Lease, WorkerState};
pub use ppp::{
    PppConfig, PppGauge, PppLimits, PppServer, PppStanding, PppStats, PppWorker, PppWorkerConfig, serve_ppp,
};
pub use queue::{Limits, Notice, PeerInfo, Stats, WorkerInfo};
pub use rpc::{Effect, ErrorData, RpcError};
pub use server::{BridgeConfig, BridgeError, Server, Watcher, serve};
pub use service::{Call, CancelReason, CancelToken, Fault, Reply, Role, Service, SessionId, UnknownRole};
pub use socket::Wire;
pub use token::{Token, TokenError};

pub use work::{Standing, Worker, WorkerConfig, WorkerError};
pub use workers::{Job, JobEvent, Workers};

mod token;

#[cfg(test)]
mod simulation;
