//! Plain ZeroMQ programs through proxy and guard.

use std::path::PathBuf;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::json;
use telos_bridge::{Endpoint, Role};
use telos_guard::Inspector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerSocket, ReqSocket, RouterSocket, Socket as _, SocketOptions, SocketRecv as _, SocketSend as _,
    ZmqMessage,
};

use crate::fixture::{Peer, Post, SOON, call, calm, eventually};
use crate::stream::{greeting, message, ours, ready};

/// HELLO of the bridge, asking for operator.
pub(crate) fn hello(client: u128) -> Bytes {
    let mut header = BytesMut::new();
    header.put_slice(&[0x11, 3]);
    header.put_u128(client);
    header.put_slice(&[0; 32]);
    header.put_u8(3);
    header.freeze()
}

/// A stream that greets, says HELLO and asks for so many answers of so many bytes, on the host's first channel.
pub(crate) fn opened_with_requests(requests: u64, bytes: usize) -> Vec<u8> {
    let request = |number: u64| {
        let mut header = BytesMut::new();
        header.put_u8(0x13);
        [2, number, 0, number, 0].into_iter().for_each(|field| header.put_u64(field));
        header.put_slice(&[0, 0, 0xff, 0xff, 0, 0, 0, 1]);
        let payload = json!({"jsonrpc": "2.0", "id": number, "method": "big", "params": bytes});
        message(&[&header, payload.to_string().as_bytes()])
    };
    let asked: Vec<u8> = (1..=requests).flat_map(request).collect();
    [greeting(), ready(b""), message(&[&hello(77)]), asked].concat()
}

/// Between a socket and a ROUTER: what the socket says must pass the inspector, and unchanged after READY.
async fn tap(listener: UnixListener, router: PathBuf) -> (usize, usize) {
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut host = UnixStream::connect(router).await.unwrap();
    let (mut from_host, mut to_host) = host.split();
    let (mut from_peer, mut to_peer) = peer.split();
    let mut inspector = Inspector::new();
    let (mut said, mut passed, mut buffer) = (Vec::new(), Vec::new(), vec![0; 4_096]);
    let up = async {
        loop {
            let read = from_peer.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            said.extend_from_slice(&buffer[..read]);
            let before = passed.len();
            inspector.step(&buffer[..read], &mut passed).unwrap();
            to_host.write_all(&passed[before..]).await.unwrap();
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_host, &mut to_peer) => {}
    }
    // Greeting and READY were replaced; the rest is what the socket said.
    let messages = passed.len() - ours().len();
    assert!(said.ends_with(&passed[passed.len() - messages..]));
    (said.len(), messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_real_dealer_sends_passes_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut router = RouterSocket::new();
    router.bind(&format!("ipc://{}", path("router").display())).await.unwrap();
    let tapped = tokio::spawn(tap(UnixListener::bind(path("tap")).unwrap(), path("router")));
    let mut dealer = DealerSocket::new();
    dealer.connect(&format!("ipc://{}", path("tap").display())).await.unwrap();
    let messages: Vec<Vec<Bytes>> =
        [vec![0], vec![255, 256], vec![1; 64], vec![4 << 20], vec![4 << 20; 4], vec![70_000, 0, 3]]
            .into_iter()
            .map(|frames| frames.into_iter().map(|bytes| Bytes::from(vec![7; bytes])).collect())
            .collect();
    for frames in &messages {
        dealer.send(ZmqMessage::try_from(frames.clone()).unwrap()).await.unwrap();
        let heard = tokio::time::timeout(SOON, router.recv()).await.expect("in time").unwrap();
        assert_eq!(heard.into_vec()[1..], frames[..]);
    }
    drop(dealer);
    let (_, passed) = tokio::time::timeout(SOON, tapped).await.expect("the tap ends").unwrap();
    assert!(passed > 20 << 20);
}

async fn dealer(endpoint: &Endpoint, identity: &str) -> DealerSocket {
    let Endpoint::Unix(path) = endpoint else { unreachable!("tests run on Unix") };
    let mut options = SocketOptions::default();
    options.peer_identity(PeerIdentity::try_from(identity.as_bytes().to_vec()).unwrap());
    let mut socket = DealerSocket::with_options(options);
    socket.connect(&format!("ipc://{}", path.display())).await.unwrap();
    socket
}

/// By itself the ROUTER lets the second take the first one's route.
#[tokio::test(flavor = "multi_thread")]
async fn two_peers_with_one_identity_are_two_peers() {
    let post = Post::start(calm()).await;
    let proxy = post.proxy(&post.allow("twins", Role::Client)).await;
    let mut twins = [dealer(proxy.endpoint(), "W1").await, dealer(proxy.endpoint(), "W1").await];
    for (twin, client) in twins.iter_mut().zip([5, 6]) {
        twin.send(hello(client).into()).await.unwrap();
        let welcome = tokio::time::timeout(SOON, twin.recv()).await.expect("in time").unwrap().into_vec();
        assert_eq!((welcome[0][0], *welcome[0].last().unwrap()), (0x21, 1), "a WELCOME, as client");
    }
    assert_eq!(post.server.peers().len(), 2);
    // The first is still there after the second came.
    let mut beat = BytesMut::new();
    beat.put_u8(0x12);
    [1_u64, 0, 0, 0].into_iter().for_each(|field| beat.put_u64(field));
    twins[0].send(beat.freeze().into()).await.unwrap();
    let answer = tokio::time::timeout(SOON, twins[0].recv()).await.expect("in time").unwrap().into_vec();
    assert_eq!(answer[0][0], 0x22, "a HEARTBEAT");
}

/// The bridge does not speak to a REQ, and says so in a whole answer: the way there and back is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_req_reaches_the_router_too() {
    let post = Post::start(calm()).await;
    let proxy = post.proxy(&post.allow("plain", Role::Client)).await;
    let Endpoint::Unix(path) = proxy.endpoint() else { unreachable!("tests run on Unix") };
    let mut socket = ReqSocket::new();
    socket.connect(&format!("ipc://{}", path.display())).await.unwrap();
    socket.send("who is there".into()).await.unwrap();
    let since = std::time::Instant::now();
    while post.server.stats().malformed == 0 {
        assert!(since.elapsed() < SOON);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_several_doors_share_one_host() {
    let post = Post::start(calm()).await;
    let neighbour = post.neighbour().await;
    let mut peers = Vec::new();
    for (name, role) in [("a", Role::Client), ("b", Role::Client), ("c", Role::Worker), ("d", Role::Operator)]
    {
        peers.push(post.client(&post.allow(name, role)).await);
    }
    for round in 0..20 {
        for (index, peer) in peers.iter().enumerate() {
            let said = json!([round, index, "x".repeat(index * 40_000)]);
            assert_eq!(peer.call("echo", said.clone()).await, said);
        }
        assert_eq!(call(&neighbour, "echo", json!(round)).await, json!(round));
    }
    assert_eq!(call(&neighbour, "role", json!(null)).await, json!("operator"));
    assert_eq!(post.server.peers().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_goodbye_of_a_client_that_closes_arrives() {
    let post = Post::start(calm()).await;
    let peer = post.client(&post.allow("polite", Role::Client)).await;
    assert_eq!(peer.call("echo", json!(1)).await, json!(1));
    let Peer { client, proxy } = peer;
    client.close().await;
    proxy.close().await;
    // Otherwise the session would last for three heartbeats of 20 s.
    eventually(|| post.server.peers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_when_the_guard_does() {
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let peer = post.client(&key).await;
    assert_eq!(peer.call("echo", json!(1)).await, json!(1));
    // Every connection is cut, as by a restart of the guard.
    let public = post.keys.revoke("honest").unwrap().public;
    eventually(|| post.refused("revoked") >= 1).await;
    post.keys.allow("honest", public, Role::Client, 2).unwrap();
    assert_eq!(peer.call("echo", json!(2)).await, json!(2));
    assert!(matches!(peer.proxy.endpoint(), Endpoint::Unix(_)));
}
