//! Peers that are hostile below our frames: streams that a test writes byte by byte.
//!
//! What a wire does about them is its own, so each is told here in a test of its own. What only ends a process is
//! tried in one of its own, and the rest of what the `zeromq` crate does not stand is left out: noise after a
//! greeting, since any eight bytes of it may be a length, and a handshake that never ends, since it waits for ever.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use serde_json::{Value, json};
use telos_bridge::{CancelReason, Endpoint, serve};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::fixture::{Host, SOON, calm, echo, eventually, performer};
use crate::hostile::{hello, request};
use crate::restart::{HOST_DIRECTORY, HostProcess};
use crate::wires::{Wires, on_every_wire};

/// More than any machine's memory, and more than its addresses.
const CLAIMS: [u64; 2] = [1 << 38, 1 << 47];

/// A stream to a host, and what ZMTP 3.0 says on it.
pub(crate) struct Raw<S = UnixStream>(pub(crate) S);

impl Raw {
    async fn connect(path: &Path) -> Self {
        Self(UnixStream::connect(path).await.unwrap())
    }

    /// A DEALER past the handshake, under a routing identity that it chooses; empty for none.
    pub(crate) async fn shake_hands(path: &Path, identity: &str) -> Self {
        let mut raw = Self::connect(path).await;
        raw.greet(identity).await;
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// The handshake of a DEALER.
    pub(crate) async fn greet(&mut self, identity: &str) {
        self.write(&greeting()).await;
        self.write(&ready(identity)).await;
        self.read(64).await.expect("a greeting");
        let (flags, _) = self.read_frame().await.expect("a READY");
        assert_eq!(flags, 4);
    }

    /// A host that hangs up meanwhile is what some tests are about.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    pub(crate) async fn send(&mut self, frames: &[bytes::Bytes]) {
        let mut message = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            let more = u8::from(index + 1 < frames.len());
            message.push(2 | more);
            message.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            message.extend_from_slice(frame);
        }
        self.write(&message).await;
    }

    /// The channel of the WELCOME.
    pub(crate) async fn say_hello(&mut self, client: u128) -> u64 {
        self.send(&hello(client)).await;
        let (_, welcome) = self.read_frame().await.expect("a WELCOME");
        u64::from_be_bytes(welcome[18..26].try_into().unwrap())
    }

    /// Flags and content of the next frame; `None` when the host hung up.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let flags = self.read(1).await?[0];
        let length = if flags & 2 == 0 {
            u64::from(self.read(1).await?[0])
        } else {
            u64::from_be_bytes(self.read(8).await?.try_into().unwrap())
        };
        let content = self.read(usize::try_from(length).unwrap()).await?;
        Some((flags, content))
    }

    /// `None` when the host hung up.
    async fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = tokio::time::timeout(SOON, self.0.read_exact(&mut bytes)).await;
        read.expect("bytes or an end in time").ok().map(|_| bytes)
    }

    /// The whole rest, until the host hangs up.
    async fn is_hung_up_on(&mut self) {
        while self.read(1).await.is_some() {}
    }
}

pub(crate) fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

fn ready(identity: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", "DEALER"), ("Identity", identity)] {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    [&[4, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

fn claim(length: u64) -> Vec<u8> {
    [&[2], &length.to_be_bytes()[..]].concat()
}

/// The stream itself is not read, not even by a library: what the kernel's buffers do not take waits at the host.
async fn a_stream_that_is_never_read_is_cut_and_disturbs_nobody(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let good = host.client().await;
    let mut slow = Raw::shake_hands(&host.socket_path(), "").await;
    let channel = slow.say_hello(7).await;
    slow.send(&request(channel, 1, 1, "flood", &json!(50_000))).await;
    while host.deeds.cancelled.lock().is_empty() {
        assert_eq!(echo(&good, json!(1)).await, json!(1));
    }
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::SlowReader]);
}

/// Half a handshake, over and over: nobody waits behind it.
async fn streams_that_stop_in_the_middle_disturb_nobody(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let (greeting, ready) = (greeting(), ready(""));
    let mut open = Vec::new();
    for said in [&greeting[..0], &greeting[..1], &greeting[..11], &greeting[..]] {
        let mut raw = Raw::connect(&host.socket_path()).await;
        raw.write(said).await;
        open.push(raw);
    }
    let mut raw = Raw::connect(&host.socket_path()).await;
    raw.write(&[&greeting[..], &ready[..ready.len() - 1]].concat()).await;
    open.push(raw);
    let client = host.client().await;
    assert_eq!(echo(&client, json!(1)).await, json!(1));
    drop(open);
    assert_eq!(echo(&client, json!(2)).await, json!(2));
}

on_every_wire! {
    "multi_thread":
        a_stream_that_is_never_read_is_cut_and_disturbs_nobody,
        streams_that_stop_in_the_middle_disturb_nobody;
}

/// Goal: know that whoever can connect to a `zeromq` host can end it.
/// Method: the host is a process of its own; one stream greets it and claims a length.
#[tokio::test]
async fn a_claimed_length_ends_a_zeromq_host() {
    if let Some(dir) = std::env::var_os(HOST_DIRECTORY) {
        let endpoint = Endpoint::Unix(Path::new(&dir).join("host.sock"));
        let _server = serve(endpoint, performer(&std::sync::Arc::default()), calm()).await.unwrap();
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.sock");
    let mut host = HostProcess::start("below::a_claimed_length_ends_a_zeromq_host", dir.path());
    eventually(|| std::os::unix::net::UnixStream::connect(&path).is_ok()).await;
    let mut raw = Raw::connect(&path).await;
    raw.write(&greeting()).await;
    // Some systems promise the smaller one's memory.
    raw.write(&claim(CLAIMS[1])).await;
    raw.is_hung_up_on().await;
    assert_eq!(host.0.wait().unwrap().signal(), Some(6), "it aborts");
}

/// The answer for one goes to the other, who has not even said HELLO.
#[tokio::test(flavor = "multi_thread")]
async fn a_zeromq_host_lets_a_routing_identity_be_taken_over() {
    let host = Host::start(Wires::ZEROMQ, calm()).await;
    let mut first = Raw::shake_hands(&host.socket_path(), "W1").await;
    let channel = first.say_hello(9).await;
    first.send(&request(channel, 1, 1, "gate", &Value::Null)).await;
    eventually(|| host.open() == 1).await;
    let mut second = Raw::shake_hands(&host.socket_path(), "W1").await;
    host.deeds.gate.notify_one();
    let (_, header) = second.read_frame().await.expect("an answer");
    let (_, answer) = second.read_frame().await.expect("its payload");
    assert_eq!(header[0], 0x26, "a RESULT");
    assert!(String::from_utf8(answer).unwrap().contains("through"));
}

#[cfg(feature = "omq")]
mod on_omq {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_claimed_length_ends_its_own_connection_only() {
        let host = Host::start(Wires::OMQ, calm()).await;
        let good = host.client().await;
        for length in CLAIMS.into_iter().chain([17 * 1024 * 1024, u64::MAX]) {
            let mut early = Raw::connect(&host.socket_path()).await;
            early.write(&greeting()).await;
            early.write(&claim(length)).await;
            early.is_hung_up_on().await;
            let mut late = Raw::shake_hands(&host.socket_path(), "").await;
            late.write(&claim(length)).await;
            late.is_hung_up_on().await;
            assert_eq!(echo(&good, json!(length)).await, json!(length));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_peer_that_brings_a_routing_identity_is_hung_up_on() {
        let host = Host::start(Wires::OMQ, calm()).await;
        let good = host.client().await;
        for _ in 0..2 {
            let mut named = Raw::connect(&host.socket_path()).await;
            named.write(&[&greeting()[..], &ready("W1")].concat()).await;
            named.send(&hello(9)).await;
            named.is_hung_up_on().await;
        }
        assert_eq!(echo(&good, json!(1)).await, json!(1));
        assert_eq!(host.server.peers().len(), 1, "its HELLO was not heard");
    }

    /// An identity as the host makes them up, of the first connection that there is.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_identity_that_the_host_made_up_cannot_be_claimed() {
        let host = Host::start(Wires::OMQ, calm()).await;
        let good = host.client().await;
        let mut thief = Raw::connect(&host.socket_path()).await;
        thief.write(&greeting()).await;
        thief.write(&ready("\0\0\0\0\0\0\0\0\0")).await;
        thief.is_hung_up_on().await;
        assert_eq!(echo(&good, json!(1)).await, json!(1));
    }

    /// As many silent streams as may be pending, and one more: then they have their time, and are gone.
    #[tokio::test(flavor = "multi_thread")]
    async fn handshakes_that_never_end_are_ended() {
        let host = Host::start(Wires::OMQ, calm()).await;
        let good = host.client().await;
        let mut silent = Vec::new();
        for _ in 0..65 {
            silent.push(Raw::connect(&host.socket_path()).await);
        }
        assert_eq!(echo(&good, json!(1)).await, json!(1));
        for raw in &mut silent {
            raw.is_hung_up_on().await;
        }
        tokio::time::timeout(Duration::from_secs(5), host.client()).await.expect("room again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn noise_after_the_greeting_disturbs_nobody() {
        let host = Host::start(Wires::OMQ, calm()).await;
        let good = host.client().await;
        let noise = prop::collection::vec(any::<u8>(), 1..200);
        let mut runner = TestRunner::deterministic();
        for round in 0..100 {
            let mut early = Raw::connect(&host.socket_path()).await;
            early.write(&greeting()).await;
            early.write(&noise.new_tree(&mut runner).unwrap().current()).await;
            let mut late = Raw::shake_hands(&host.socket_path(), "").await;
            late.write(&noise.new_tree(&mut runner).unwrap().current()).await;
            assert_eq!(echo(&good, json!(round)).await, json!(round));
        }
        eventually(|| host.server.peers().len() == 1).await;
    }
}
