//! Peers that do not speak our protocol, through a raw DEALER.

use std::path::Path;
use std::time::Duration;

use ::zeromq::{DealerSocket, Socket as _, SocketRecv as _, SocketSend as _, ZmqMessage};
use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::fixture::{Host, SOON, calm, echo, eventually, quick};
use crate::wires::{Wires, on_every_wire};

pub(crate) struct RawPeer(DealerSocket);

impl RawPeer {
    pub(crate) async fn connect(path: &Path) -> Self {
        let mut socket = DealerSocket::new();
        socket.connect(&format!("ipc://{}", path.display())).await.unwrap();
        Self(socket)
    }

    pub(crate) async fn send(&mut self, frames: Vec<Bytes>) {
        self.0.send(ZmqMessage::try_from(frames).unwrap()).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, frames: Vec<Bytes>) -> bool {
        self.0.send(ZmqMessage::try_from(frames).unwrap()).await.is_ok()
    }

    pub(crate) async fn read(&mut self) -> Vec<Bytes> {
        tokio::time::timeout(SOON, self.0.recv()).await.expect("a message in time").unwrap().into_vec()
    }

    /// False when the connection is gone.
    pub(crate) async fn try_read(&mut self) -> bool {
        self.0.recv().await.is_ok()
    }

    /// The channel of the WELCOME that must come next.
    pub(crate) async fn read_channel(&mut self) -> u64 {
        let welcome = self.read().await;
        assert_eq!(welcome[0][0], 0x21, "not a WELCOME");
        u64::from_be_bytes(welcome[0][18..26].try_into().unwrap())
    }
}

pub(crate) fn hello(client: u128) -> Vec<Bytes> {
    let mut header = BytesMut::new();
    header.put_slice(&[0x11, 3]);
    header.put_u128(client);
    header.put_slice(&[0; 32]);
    header.put_u8(3);
    vec![header.freeze()]
}

pub(crate) fn heartbeat(channel: u64, beat: u64) -> Vec<Bytes> {
    let mut header = BytesMut::new();
    header.put_u8(0x12);
    [channel, 0, 0, beat].into_iter().for_each(|field| header.put_u64(field));
    vec![header.freeze()]
}

pub(crate) fn request(channel: u64, serial: u64, number: u64, method: &str, params: &Value) -> Vec<Bytes> {
    request_after(channel, serial, number, 0, method, params)
}

/// The same from one that says that it has had the messages up to `received`.
pub(crate) fn request_after(
    channel: u64,
    serial: u64,
    number: u64,
    received: u64,
    method: &str,
    params: &Value,
) -> Vec<Bytes> {
    let mut header = BytesMut::new();
    header.put_u8(0x13);
    [channel, serial, received, number, 0].into_iter().for_each(|field| header.put_u64(field));
    header.put_u32(60_000);
    header.put_u32(1);
    let payload = json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params});
    vec![header.freeze(), Bytes::from(payload.to_string())]
}

/// A peer on a thread of its own, as another process would be: only the host's own locks are tried here.
fn send_apart(path: &Path, messages: Vec<Vec<Bytes>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut raw = RawPeer::connect(path).await;
        for message in messages {
            // After eight offences the host hangs up, which is fair.
            if !raw.try_send(message).await {
                break;
            }
        }
        // What was handed over is written while this waits, at the latest until the host hangs up.
        let until_hung_up = async { while raw.0.recv().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(100), until_hung_up).await;
    });
}

async fn garbage_does_not_disturb_the_host(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let good = host.client().await;
    let frames = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..70);
    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let mut message = || frames.new_tree(&mut runner).unwrap().current();
        let messages = (0..12).map(|_| message().into_iter().map(Bytes::from).collect()).collect();
        let path = host.socket_path();
        tokio::task::spawn_blocking(move || send_apart(&path, messages)).await.unwrap();
        assert_eq!(echo(&good, json!(round)).await, json!(round));
    }
    eventually(|| host.server.stats().malformed >= 100).await;
    assert_eq!(host.server.peers().len(), 1);
}

async fn a_stranger_is_told_to_say_hello_and_then_hung_up_on(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    for _ in 0..8 {
        raw.send(heartbeat(1, 0)).await;
        assert_eq!(raw.read().await[0][..], [0x29, 1]);
    }
    raw.send(heartbeat(1, 0)).await;
    let mut is_hung_up = false;
    for _ in 0..1_000 {
        is_hung_up = !raw.try_send(heartbeat(1, 0)).await;
        if is_hung_up {
            break;
        }
        // Receiving is what notices the end of the connection.
        let _ = tokio::time::timeout(Duration::from_millis(5), raw.0.recv()).await;
    }
    assert!(is_hung_up);
}

async fn a_request_that_is_not_json_rpc_is_answered_as_such(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(hello(9)).await;
    let channel = raw.read_channel().await;
    for (serial, (payload, code)) in (1..).zip([
        ("{", -32_700),
        ("[]", -32_600),
        (r#"{"jsonrpc":"2.0","id":99,"method":"echo"}"#, -32_600),
    ]) {
        let mut frames = request(channel, serial, serial, "echo", &Value::Null);
        frames[1] = Bytes::from_static(payload.as_bytes());
        raw.send(frames).await;
        let answer = raw.read().await;
        assert_eq!(answer[0][0], 0x27);
        let error: Value = serde_json::from_slice(&answer[1]).unwrap();
        assert_eq!(error["error"]["code"], code, "{payload}");
        assert_eq!(error["error"]["data"]["effect"], "none");
    }
}

/// A plain Lazy Pirate that knows nothing of channels beyond their fields: it asks again with a new serial, and the
/// answer comes from the queue's memory.
async fn a_repeated_number_is_answered_from_memory(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(hello(9)).await;
    let channel = raw.read_channel().await;
    let mut answers = Vec::new();
    for serial in 1..=3 {
        raw.send(request(channel, serial, 1, "echo", &json!("once"))).await;
        answers.push(raw.read().await[1].clone());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let stats = host.server.stats();
    assert_eq!((stats.dispatched, stats.repeats), (1, 2));
}

async fn a_client_that_falls_silent_expires_and_its_call_is_cancelled(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(hello(9)).await;
    let channel = raw.read_channel().await;
    raw.send(request(channel, 1, 1, "wait", &Value::Null)).await;
    eventually(|| host.open() == 1).await;
    let silent_since = std::time::Instant::now();
    eventually(|| host.open() == 0).await;
    assert!(silent_since.elapsed() >= Duration::from_millis(500), "three intervals of 200 ms");
    assert_eq!(*host.deeds.cancelled.lock(), [telos_bridge::CancelReason::ClientGone]);
    assert_eq!((host.server.stats().expired, host.server.peers().len()), (1, 0));
    // The call is over for the bridge before what it answered is thrown away.
    eventually(|| host.server.stats().dropped_replies == 1).await;
}

on_every_wire! {
    "current_thread":
        a_stranger_is_told_to_say_hello_and_then_hung_up_on,
        a_request_that_is_not_json_rpc_is_answered_as_such,
        a_repeated_number_is_answered_from_memory,
        a_client_that_falls_silent_expires_and_its_call_is_cancelled;
    "multi_thread":
        garbage_does_not_disturb_the_host;
}
