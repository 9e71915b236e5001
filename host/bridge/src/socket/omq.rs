//! The wire of the `omq-tokio` crate, and the only file that names it.
//!
//! A peer's route is the identity that the ROUTER made up for its connection, so it is never used again; a peer that
//! brings an identity of its own is hung up on, because the crate lets whoever claims one take it over. Nobody waits
//! for a peer that does not read: where its queue of [`SEND_MESSAGES_MAX`] is full, it is hung up on, too. Sending and
//! receiving may be cancelled here.
//!
//! The crate dials again by itself. A [`Line`] is one connection, so when it is lost the crate is told to stop, and
//! nothing more is sent. What it had read and not handed on when the connection ended may be lost with it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use omq_tokio::endpoint::Host;
use omq_tokio::{
    Endpoint as Address, Error, Identity, IdentitySocket, Message, MonitorEvent, MonitorRecvError,
    MonitorStream, Options, Payload, ReconnectPolicy, Socket, SocketType,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{INCOMING_MAX, Incoming, Line, Listening, Outgoing};
use crate::endpoint::Endpoint;
use crate::frame::{FRAMES_MAX, MESSAGE_BYTES_MAX};
use crate::os;
use crate::queue::Route;

/// The crate also counts a slot for each frame. A larger message ends its connection, before memory is reserved for it.
const MESSAGE_MAX: usize = MESSAGE_BYTES_MAX + FRAMES_MAX * size_of::<Payload>();
/// Four windows: one is under way at most, and acknowledgements are few beside it.
const SEND_MESSAGES_MAX: u32 = 256;
/// The crate's least; it counts messages and not bytes. A ROUTER's connection holds 256 more, whatever is set here.
const RECEIVE_MESSAGES_MAX: u32 = 16;
/// From the first byte to READY. Peers are on this machine; a slow one is not an honest one.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections that are not READY yet; more are closed as they come, and honest ones come again.
const HANDSHAKES_MAX: usize = 64;
/// Events between two looks at them. One that is missed costs its peer no more than the queue's liveness.
const EVENTS_MAX: usize = 1_024;
/// Between two attempts to dial, and before the first one after a loss: long enough for a busy machine to forbid it.
const DIAL_PAUSE: Duration = Duration::from_millis(250);
/// How long what was handed over is written after the end, to peers that read.
const LINGER: Duration = Duration::from_secs(2);

/// Binds a ROUTER to `endpoint`.
pub(super) async fn bind_router(endpoint: &Endpoint) -> io::Result<Listening> {
    let socket = open(SocketType::Router)?;
    let monitor = socket.monitor();
    let address = bind(&socket, endpoint).await?;
    let endpoint = match &address {
        Address::Tcp { host: Host::Ip(ip), port } => Endpoint::Tcp(SocketAddr::new(*ip, *port)),
        _ => endpoint.clone(),
    };
    let socket = socket.identity_routing().map_err(explain)?;
    let (incoming_in, incoming) = mpsc::channel(INCOMING_MAX);
    let (outgoing, outgoing_out) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read_router(socket.clone(), monitor, incoming_in.clone())).abort_handle();
    tokio::spawn(write_router(socket, address, outgoing_out, incoming_in));
    Ok(Listening { endpoint, incoming, outgoing, reader })
}

/// The crate removes whatever file is there, so look first; and its file is everyone's, within a private directory.
async fn bind(socket: &Socket, endpoint: &Endpoint) -> io::Result<Address> {
    if let Endpoint::Unix(path) = endpoint {
        os::clear_socket_file(path)?;
    }
    let address = socket.bind(spell(endpoint)?).await.map_err(explain)?;
    if let Endpoint::Unix(path) = endpoint {
        os::protect_socket_file(path)?;
    }
    Ok(address)
}

async fn read_router(socket: IdentitySocket, mut monitor: MonitorStream, incoming: mpsc::Sender<Incoming>) {
    loop {
        let is_heard = tokio::select! {
            heard = socket.recv_from() => match heard {
                Ok((peer, message)) => take(&socket, &peer, message, &incoming).await,
                Err(Error::Closed) => return,
                Err(_) => true,
            },
            event = monitor.recv() => match event {
                Ok(event) => take_event(&socket, event, &incoming).await,
                Err(MonitorRecvError::Closed) => return,
                Err(missed) => {
                    tracing::debug!(%missed, "bridge.wire_events_missed");
                    true
                }
            },
        };
        if !is_heard {
            return;
        }
    }
}

/// False when nobody listens any more; so are the two below.
async fn take(
    socket: &IdentitySocket,
    peer: &Identity,
    message: Message,
    incoming: &mpsc::Sender<Incoming>,
) -> bool {
    if peer.peer_info().peer_identity.is_some() {
        hang_up(socket, peer.peer_info().connection_id).await;
        return true;
    }
    incoming.send(Incoming::Message { route: peer.to_bytes(), frames: open_message(message) }).await.is_ok()
}

async fn take_event(socket: &IdentitySocket, event: MonitorEvent, incoming: &mpsc::Sender<Incoming>) -> bool {
    match event {
        MonitorEvent::HandshakeSucceeded { peer, .. } if peer.peer_identity.is_some() => {
            hang_up(socket, peer.connection_id).await;
            true
        }
        MonitorEvent::Disconnected { peer, .. } => {
            take_rest(socket, incoming).await
                && incoming.send(Incoming::Lost { route: route_of(peer.connection_id) }).await.is_ok()
        }
        _ => true,
    }
}

/// What a peer said before it went is told before that it went.
async fn take_rest(socket: &IdentitySocket, incoming: &mpsc::Sender<Incoming>) -> bool {
    for _ in 0..RECEIVE_MESSAGES_MAX {
        let Ok((peer, message)) = socket.try_recv_from() else {
            return true;
        };
        if !take(socket, &peer, message, incoming).await {
            return false;
        }
    }
    true
}

async fn write_router(
    socket: IdentitySocket,
    address: Address,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    incoming: mpsc::Sender<Incoming>,
) {
    while let Some(order) = outgoing.recv().await {
        match order {
            Outgoing::Message { route, frames } => {
                if socket.try_send_to(&route, Message::multipart(frames)).is_err() {
                    // It is gone, or does not read.
                    disconnect(&socket, &route).await;
                    // The reader may be waiting for room that only the queue's task makes; do not wait for it here.
                    let _ = incoming.try_send(Incoming::Lost { route });
                }
            }
            Outgoing::Disconnect { route } => disconnect(&socket, &route).await,
        }
    }
    // First, so that the next host may come while this one's last words are written.
    let _ = socket.unbind(address).await;
    let _ = socket.into_inner().close_with_linger(Some(LINGER)).await;
}

async fn disconnect(socket: &IdentitySocket, route: &Route) {
    if let Some(connection) = connection_of(route) {
        hang_up(socket, connection).await;
    }
}

/// What is queued for the peer is lost.
async fn hang_up(socket: &IdentitySocket, connection: u64) {
    // The one error is that it is gone.
    let _ = socket.disconnect_peer(connection).await;
}

/// The identity that the crate makes up: a zero, which no peer may claim, and the connection's number.
fn route_of(connection: u64) -> Route {
    let mut route = [0; 9];
    route[1..].copy_from_slice(&connection.to_be_bytes());
    Route::copy_from_slice(&route)
}

fn connection_of(route: &Route) -> Option<u64> {
    let number = route.strip_prefix(&[0])?.try_into().ok()?;
    Some(u64::from_be_bytes(number))
}

/// Connects a DEALER within `timeout`, trying again while nobody listens.
pub(super) async fn connect_dealer(endpoint: &Endpoint, timeout: Duration) -> io::Result<Line> {
    let socket = open(SocketType::Dealer)?;
    let monitor = socket.monitor();
    let address = spell(endpoint)?;
    socket.connect(address.clone()).await.map_err(explain)?;
    socket.wait_connected(1, timeout).await.map_err(explain)?;
    let (incoming_in, incoming) = mpsc::channel(INCOMING_MAX);
    let (outgoing, outgoing_out) = mpsc::unbounded_channel();
    let lost = CancellationToken::new();
    tokio::spawn(watch_dealer(socket.clone(), address, monitor, lost.clone()));
    let reader = tokio::spawn(read_dealer(socket.clone(), lost.clone(), incoming_in)).abort_handle();
    tokio::spawn(write_dealer(socket, lost, outgoing_out));
    Ok(Line { incoming, outgoing, reader })
}

/// Waits for the end of the connection, or until it cannot tell any more.
async fn watch_dealer(socket: Socket, address: Address, mut monitor: MonitorStream, lost: CancellationToken) {
    while let Ok(event) = monitor.recv().await {
        if matches!(event, MonitorEvent::Disconnected { .. } | MonitorEvent::Closed) {
            break;
        }
    }
    lost.cancel();
    // Before it dials again. The one error is that it does not mean to.
    let _ = socket.disconnect(address).await;
}

/// Reads to its end what the crate kept of a lost connection; receiving alone may pause with messages at hand.
async fn read_dealer(socket: Socket, lost: CancellationToken, incoming: mpsc::Sender<Vec<Bytes>>) {
    loop {
        let message = tokio::select! {
            biased;
            message = socket.recv() => message,
            () = lost.cancelled() => socket.try_recv(),
        };
        let Ok(message) = message else { return };
        if incoming.send(open_message(message)).await.is_err() {
            return;
        }
    }
}

/// After a loss the reader has the socket to itself, until it has handed on what came before.
async fn write_dealer(
    socket: Socket,
    lost: CancellationToken,
    mut outgoing: mpsc::UnboundedReceiver<Vec<Bytes>>,
) {
    let write = async {
        while let Some(frames) = outgoing.recv().await {
            if socket.send(Message::multipart(frames)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = lost.cancelled() => {}
        () = write => {
            let _ = socket.close_with_linger(Some(LINGER)).await;
        }
    }
}

fn open(kind: SocketType) -> io::Result<Socket> {
    let options = Options {
        max_message_size: Some(MESSAGE_MAX),
        send_hwm: SEND_MESSAGES_MAX,
        recv_hwm: RECEIVE_MESSAGES_MAX,
        handshake_timeout: Some(HANDSHAKE_MAX),
        max_pending_handshakes: HANDSHAKES_MAX,
        monitor_capacity: EVENTS_MAX,
        reconnect: ReconnectPolicy::Fixed(DIAL_PAUSE),
        router_mandatory: true,
        // Whoever drops a socket without closing it means that what is queued is void.
        linger: Some(Duration::ZERO),
        ..Options::default()
    };
    Socket::try_new(kind, options).map_err(explain)
}

fn open_message(mut message: Message) -> Vec<Bytes> {
    std::iter::from_fn(|| message.pop_front()).collect()
}

fn spell(endpoint: &Endpoint) -> io::Result<Address> {
    match endpoint {
        Endpoint::Tcp(address) => Ok(Address::Tcp { host: Host::Ip(address.ip()), port: address.port() }),
        #[cfg(unix)]
        Endpoint::Unix(path) => Ok(Address::Ipc(omq_tokio::IpcPath::Filesystem(path.clone()))),
        #[cfg(not(unix))]
        Endpoint::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn explain(error: Error) -> io::Error {
    match error {
        Error::Io(cause) => cause,
        Error::Timeout => io::Error::from(io::ErrorKind::TimedOut),
        other => io::Error::other(other),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::socket::{Wire, connect};

    const READY: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER";

    /// The host says more than the line holds unread, and goes: the line ends after what the crate kept of that, and
    /// nobody dials.
    #[tokio::test]
    async fn a_lost_line_is_not_dialled_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let connecting =
            tokio::spawn(async move { connect(Wire::Omq, &Endpoint::Unix(path), HANDSHAKE_MAX).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 64];
        stream.read_exact(&mut greeting).await.unwrap();
        greeting[32] = 0;
        stream.write_all(&[&greeting[..], READY].concat()).await.unwrap();
        let mut line = connecting.await.unwrap().unwrap();
        for _ in 0..INCOMING_MAX + 10 {
            stream.write_all(b"\0\x02hi").await.unwrap();
        }
        line.outgoing.send(vec![Bytes::from_static(b"once")]).unwrap();
        while stream.read_u8().await.unwrap() != b'e' {}
        drop(stream);

        let again = tokio::time::timeout(DIAL_PAUSE * 4, listener.accept()).await;
        assert!(again.is_err(), "it was dialled again");
        while let Some(frames) = line.incoming.recv().await {
            assert_eq!(frames, ["hi"]);
        }
    }
}
