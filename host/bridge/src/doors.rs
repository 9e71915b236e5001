//! The places at which one host listens, each with the most that whoever comes in there may do.
//!
//! A connection's route begins with the number of its door, so that routes of two sockets are never the same, and an
//! answer leaves by the door through which its question came. What a peer asks for is cut to what its door allows
//! before the queue hears of it.

use std::io;
use std::task::Poll;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::endpoint::Endpoint;
use crate::frame::ToHost;
use crate::queue::Route;
use crate::service::Role;
use crate::socket::{self, Incoming, Listening, Outgoing, Wire};
use crate::token::Token;

/// A private place at which a host listens besides its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// A socket file; whoever can open it may come in, without a token.
    pub endpoint: Endpoint,
    /// The most that a peer is granted there.
    pub role_max: Role,
}

/// Doors that are open; never empty.
pub(crate) struct Doors {
    open: Vec<OpenDoor>,
    /// Whose turn it is to be heard first.
    next: usize,
    /// Put into the greetings of those who come in by a socket file.
    token: Option<Token>,
}

struct OpenDoor {
    listening: Listening,
    role_max: Role,
}

impl Doors {
    /// Opens all of them, in order; what cannot be opened closes the others again. At most 256.
    pub(crate) async fn open(
        wire: Wire,
        doors: &[Door],
        token: Option<Token>,
    ) -> Result<Self, (Endpoint, io::Error)> {
        let mut open = Vec::new();
        for Door { endpoint, role_max } in doors {
            let listening =
                socket::listen(wire, endpoint).await.map_err(|cause| (endpoint.clone(), cause))?;
            open.push(OpenDoor { listening, role_max: *role_max });
        }
        Ok(Self { open, next: 0, token })
    }

    /// Where they are; ports are resolved.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.open.iter().map(|door| door.listening.endpoint.clone()).collect()
    }

    /// The next thing that any of them heard, each in its turn; `None` when all are closed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        let (number, incoming) = std::future::poll_fn(|context| {
            let mut are_closed = true;
            for step in 0..self.open.len() {
                let number = (self.next + step) % self.open.len();
                match self.open[number].listening.incoming.poll_recv(context) {
                    Poll::Ready(Some(incoming)) => return Poll::Ready(Some((number, incoming))),
                    Poll::Ready(None) => {}
                    Poll::Pending => are_closed = false,
                }
            }
            if are_closed { Poll::Ready(None) } else { Poll::Pending }
        })
        .await?;
        self.next = number + 1;
        Some(match incoming {
            Incoming::Message { route, frames } => {
                Incoming::Message { route: through(number, &route), frames }
            }
            Incoming::Lost { route } => Incoming::Lost { route: through(number, &route) },
        })
    }

    /// Sends by the door that the route names.
    pub(crate) fn send(&self, outgoing: Outgoing) {
        let (Outgoing::Message { route, .. } | Outgoing::Disconnect { route }) = &outgoing;
        let Some(door) = route.first().and_then(|number| self.open.get(usize::from(*number))) else {
            return;
        };
        // A door that is closed has lost its peers.
        let _ = door.listening.outgoing.send(match outgoing {
            Outgoing::Message { route, frames } => Outgoing::Message { route: route.slice(1..), frames },
            Outgoing::Disconnect { route } => Outgoing::Disconnect { route: route.slice(1..) },
        });
    }

    /// What a peer that says this may mean by it, at the door through which it came.
    pub(crate) fn bound(&self, route: &Route, frame: ToHost) -> ToHost {
        let ToHost::Hello(mut hello) = frame else { return frame };
        let Some(door) = route.first().and_then(|number| self.open.get(usize::from(*number))) else {
            return ToHost::Hello(hello);
        };
        hello.role = hello.role.min(door.role_max);
        if let (Endpoint::Unix(_), Some(token)) = (&door.listening.endpoint, &self.token) {
            hello.token = Some(*token.as_bytes());
        }
        ToHost::Hello(hello)
    }
}

fn through(number: usize, route: &Route) -> Route {
    let mut prefixed = BytesMut::with_capacity(1 + route.len());
    prefixed.put_u8(u8::try_from(number).unwrap_or(u8::MAX));
    prefixed.put_slice(route);
    Bytes::from(prefixed)
}
