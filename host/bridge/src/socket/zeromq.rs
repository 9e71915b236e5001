//! The wire of the `zeromq` crate, and the only file that names it.
//!
//! One task owns each half of a socket; a send is awaited to its end, never inside a `select!` or a time-out, because
//! cancelling one corrupts the socket. A DEALER never reconnects by itself, so a [`Line`] is used until it is lost and
//! then dropped. The crate's own queues are not bounded in bytes, and at 100,000 messages for one peer nobody is served
//! any more: what is on its way to each peer is counted above (`unread`), and stays far below. It trusts the length that a frame
//! claims, before any handshake: whoever can connect can end the process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, MultiPeerBackend, RouterRecvHalf, RouterSendHalf,
    RouterSocket, Socket as _, SocketEvent, SocketOptions, SocketRecv as _, SocketSend as _, ZmqError,
    ZmqMessage,
};

use super::{INCOMING_MAX, Incoming, Line, Listening, Outgoing};
use crate::endpoint::Endpoint;
use crate::os;
use crate::queue::Route;

type Monitor = futures::channel::mpsc::Receiver<SocketEvent>;

/// Binds a ROUTER to `endpoint`.
pub(super) async fn bind_router(endpoint: &Endpoint) -> io::Result<Listening> {
    let mut socket = RouterSocket::new();
    let monitor = socket.monitor();
    let bound = match endpoint {
        Endpoint::Unix(path) => {
            let listener = os::bind_socket_file(path)?;
            socket.bind_listener(listener).await.map_err(io::Error::other)?;
            endpoint.clone()
        }
        Endpoint::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            socket.bind_listener(listener).await.map_err(io::Error::other)?;
            Endpoint::Tcp(address)
        }
    };
    let backend = socket.backend();
    let (send_half, receive_half) = socket.split();
    let (incoming_in, incoming) = mpsc::channel(INCOMING_MAX);
    let (outgoing, outgoing_out) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read_router(receive_half, monitor, incoming_in.clone())).abort_handle();
    tokio::spawn(write_router(send_half, backend, outgoing_out, incoming_in));
    Ok(Listening { endpoint: bound, incoming, outgoing, reader })
}

async fn read_router(mut socket: RouterRecvHalf, mut monitor: Monitor, incoming: mpsc::Sender<Incoming>) {
    loop {
        // Receiving is safe to cancel in this crate; sending is not.
        let heard = tokio::select! {
            message = socket.recv() => match message {
                Ok(message) => open_envelope(message),
                Err(_) => continue,
            },
            Some(event) = monitor.next() => match event {
                SocketEvent::Disconnected(peer) => Some(Incoming::Lost { route: peer.into() }),
                _ => None,
            },
        };
        let Some(heard) = heard else { continue };
        if incoming.send(heard).await.is_err() {
            return;
        }
    }
}

fn open_envelope(message: ZmqMessage) -> Option<Incoming> {
    let mut frames = message.into_vecdeque();
    let route = frames.pop_front()?;
    Some(Incoming::Message { route, frames: frames.into() })
}

async fn write_router(
    mut socket: RouterSendHalf,
    backend: Arc<dyn MultiPeerBackend>,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    incoming: mpsc::Sender<Incoming>,
) {
    while let Some(order) = outgoing.recv().await {
        match order {
            Outgoing::Message { route, frames } => {
                if socket.send(seal_envelope(&route, frames)).await.is_err() {
                    // The reader may be waiting for room that only the queue's task makes; do not wait for it here.
                    let _ = incoming.try_send(Incoming::Lost { route });
                }
            }
            Outgoing::Disconnect { route } => {
                if let Ok(peer) = PeerIdentity::try_from(route) {
                    backend.peer_disconnected(&peer);
                }
            }
        }
    }
    backend.shutdown();
}

fn seal_envelope(route: &Route, frames: Vec<Bytes>) -> ZmqMessage {
    let mut message = ZmqMessage::from(route.clone());
    frames.into_iter().for_each(|frame| message.push_back(frame));
    message
}

/// Connects a DEALER within `timeout`, trying again while nobody listens.
pub(super) async fn connect_dealer(endpoint: &Endpoint, timeout: Duration) -> io::Result<Line> {
    let mut options = SocketOptions::default();
    options.connect_timeout(timeout);
    let mut socket = DealerSocket::with_options(options);
    let monitor = socket.monitor();
    socket.connect(&spell(endpoint)?).await.map_err(explain)?;
    let (send_half, receive_half) = socket.split();
    let (incoming_in, incoming) = mpsc::channel(INCOMING_MAX);
    let (outgoing, outgoing_out) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read_dealer(receive_half, monitor, incoming_in)).abort_handle();
    tokio::spawn(write_dealer(send_half, outgoing_out, reader.clone()));
    Ok(Line { incoming, outgoing, reader })
}

async fn read_dealer(mut socket: DealerRecvHalf, mut monitor: Monitor, incoming: mpsc::Sender<Vec<Bytes>>) {
    loop {
        let message = tokio::select! {
            // What arrived before the connection ended is read first.
            biased;
            message = socket.recv() => message,
            event = monitor.next() => match event {
                Some(SocketEvent::Disconnected(_)) | None => return,
                Some(_) => continue,
            },
        };
        let Ok(message) = message else { return };
        if incoming.send(message.into_vec()).await.is_err() {
            return;
        }
    }
}

/// A failed send ends the reader, and with it the line.
async fn write_dealer(
    mut socket: DealerSendHalf,
    mut outgoing: mpsc::UnboundedReceiver<Vec<Bytes>>,
    reader: AbortHandle,
) {
    while let Some(frames) = outgoing.recv().await {
        let Ok(message) = ZmqMessage::try_from(frames) else {
            continue;
        };
        if socket.send(message).await.is_err() {
            return reader.abort();
        }
    }
}

fn spell(endpoint: &Endpoint) -> io::Result<String> {
    match endpoint {
        Endpoint::Tcp(address) => Ok(format!("tcp://{address}")),
        Endpoint::Unix(path) => {
            let path = path.to_str().ok_or_else(|| io::Error::other("the socket's path is not UTF-8"))?;
            Ok(format!("ipc://{path}"))
        }
    }
}

fn explain(error: ZmqError) -> io::Error {
    match error {
        ZmqError::Network(cause) => cause,
        ZmqError::ConnectTimeout(_) => io::Error::from(io::ErrorKind::TimedOut),
        other => io::Error::other(other),
    }
}
