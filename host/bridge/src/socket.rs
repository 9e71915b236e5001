//! The seam to the wire. Whatever is below runs on the sockets' own thread, see [`crate::io_thread`].
//!
//! ```text
//! socket/zeromq  the `zeromq` crate: always there, and the default
//! socket/omq     the `omq-tokio` crate: with the feature `omq`
//! ```
//! A wire promises little: messages of one connection arrive in order or not at all, a lost connection is told at
//! most once and sometimes only by a failed send, and nothing is sent again. Whatever more there is, the state
//! machines add.

#[cfg(feature = "omq")]
mod omq;
// Not under the crate's own name, which would hide the crate.
#[path = "socket/zeromq.rs"]
mod zeromq_wire;

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::endpoint::Endpoint;
use crate::io_thread;
use crate::queue::Route;

/// Messages read and not yet taken; beyond it the socket is not read, and the kernel's buffers hold the peers back.
const INCOMING_MAX: usize = 32;

/// Who speaks ZeroMQ for us. Either end may choose for itself: the bytes between them are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wire {
    /// The `zeromq` crate. It trusts whoever can connect: a frame that claims to be huge ends the process.
    #[default]
    ZeroMq,
    /// The `omq-tokio` crate, which bounds messages and handshakes. Younger, larger, and without an audit.
    #[cfg(feature = "omq")]
    Omq,
}

impl Wire {
    /// Every wire that is compiled in; the default first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &[
            Self::ZeroMq,
            #[cfg(feature = "omq")]
            Self::Omq,
        ]
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroMq => "zeromq",
            #[cfg(feature = "omq")]
            Self::Omq => "omq",
        })
    }
}

/// What a listening socket heard.
pub(crate) enum Incoming {
    Message { route: Route, frames: Vec<Bytes> },
    Lost { route: Route },
}

/// What a listening socket is told.
pub(crate) enum Outgoing {
    Message { route: Route, frames: Vec<Bytes> },
    Disconnect { route: Route },
}

/// A ROUTER at work; dropping it closes every connection, after what was handed over is written.
pub(crate) struct Listening {
    pub(crate) endpoint: Endpoint,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    /// Unbounded; whoever feeds it counts what is on its way to each peer (`unread`), for what a peer says that it has
    /// read bounds nothing.
    pub(crate) outgoing: mpsc::UnboundedSender<Outgoing>,
    reader: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Binds a ROUTER to `endpoint`, replacing the socket file of a host that died.
pub(crate) async fn listen(wire: Wire, endpoint: &Endpoint) -> io::Result<Listening> {
    let endpoint = endpoint.clone();
    io_thread::run(async move {
        match wire {
            Wire::ZeroMq => zeromq_wire::bind_router(&endpoint).await,
            #[cfg(feature = "omq")]
            Wire::Omq => omq::bind_router(&endpoint).await,
        }
    })
    .await
}

/// A DEALER connected to one host; used until it is lost, then dropped.
pub(crate) struct Line {
    /// Messages in order; closed when the connection is gone.
    pub(crate) incoming: mpsc::Receiver<Vec<Bytes>>,
    /// Unbounded, and bounded by what it is fed: one window and a few control frames.
    pub(crate) outgoing: mpsc::UnboundedSender<Vec<Bytes>>,
    reader: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Connects within `timeout`, trying again while nobody listens.
pub(crate) async fn connect(wire: Wire, endpoint: &Endpoint, timeout: Duration) -> io::Result<Line> {
    let endpoint = endpoint.clone();
    io_thread::run(async move {
        match wire {
            Wire::ZeroMq => zeromq_wire::connect_dealer(&endpoint, timeout).await,
            #[cfg(feature = "omq")]
            Wire::Omq => omq::connect_dealer(&endpoint, timeout).await,
        }
    })
    .await
}
