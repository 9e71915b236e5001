//! Peers that mean harm. Goal: each is refused for its reason, counted, and honest ones are served meanwhile.
//! Method: a real bridge behind a real guard; hostile bytes come through an honest tunnel, or to the bare port.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use telos_bridge::Role;
use telos_guard::{DialError, GuardLimits, PrivateKey, Remote, greet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{Post, RawPeer, SOON, calm, eventually, relay};
use crate::stream::{cases, message_bomb};

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_stream_is_cut_off_for_its_reason_and_honest_peers_are_served() {
    let post = Post::start(calm()).await;
    let honest = post.client(&post.allow("honest", Role::Operator)).await;
    let proxy = post.proxy(&post.allow("hostile", Role::Client)).await;
    let bomb = ("message-bomb".to_owned(), message_bomb(), Some("message-bytes"));
    for (name, stream, refused) in cases().into_iter().chain([bomb]) {
        let Some(reason) = refused else { continue };
        let before = post.refused(reason);
        let mut peer = RawPeer::connect(&proxy).await;
        peer.send(&stream).await;
        peer.read_to_the_end().await;
        eventually(|| post.refused(reason) == before + 1).await;
        assert_eq!(honest.call("echo", json!(name)).await, json!(name));
    }
    eventually(|| post.guard.stats().connections == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_port_is_no_handshake() {
    let post = Post::start(calm()).await;
    let honest = post.client(&post.allow("honest", Role::Client)).await;
    let bytes = prop::collection::vec(any::<u8>(), 48..400);
    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let mut stream = TcpStream::connect(post.port()).await.unwrap();
        let garbage = bytes.new_tree(&mut runner).unwrap().current();
        let _ = stream.write_all(&garbage).await;
        let mut answer = Vec::new();
        // What is left unread at the other end makes the end a reset.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("hung up");
        assert_eq!(answer, b"", "who does not know the host's key is told nothing");
        assert_eq!(honest.call("echo", json!(round)).await, json!(round));
    }
    eventually(|| post.refused("handshake") == 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_on_the_list_is_told_so_and_gets_no_byte_through() {
    let post = Post::start(calm()).await;
    let stranger = PrivateKey::generate().unwrap();
    let refused = greet(post.guard.remote(), &stranger).await.unwrap_err();
    assert!(matches!(&refused, DialError::Refused { name, .. } if name == "unknown-key"), "{refused}");
    let proxy = post.proxy(&stranger).await;
    let mut peer = RawPeer::connect(&proxy).await;
    assert_eq!(peer.read_to_the_end().await, 0);
    eventually(|| post.refused("unknown-key") == 2).await;
    assert_eq!(post.guard.stats().admitted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expects_another_host_s_key_is_hung_up_on_without_a_word() {
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let elsewhere = PrivateKey::generate().unwrap().public();
    let remote = Remote::new(post.guard.remote().address(), elsewhere).unwrap();
    let error = greet(&remote, &key).await.unwrap_err();
    assert!(matches!(error, DialError::HungUp { .. }), "{error}");
    eventually(|| post.refused("handshake") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_grants_no_more_than_its_role_whatever_is_asked() {
    let post = Post::start(calm()).await;
    for (name, role) in [("c", Role::Client), ("w", Role::Worker), ("o", Role::Operator)] {
        let key = post.allow(name, role);
        assert_eq!(greet(post.guard.remote(), &key).await.unwrap(), role);
        let peer = post.client(&key).await;
        assert_eq!(peer.client.role(), role, "asked for operator");
        assert_eq!(peer.call("role", json!(null)).await, json!(role.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_out_at_once_and_the_others_stay() {
    let post = Post::start(calm()).await;
    let honest = post.client(&post.allow("honest", Role::Client)).await;
    let key = post.allow("revoked", Role::Operator);
    let revoked = post.client(&key).await;
    assert_eq!(revoked.call("echo", json!(1)).await, json!(1));
    post.keys.revoke("revoked").unwrap();
    let refused = greet(post.guard.remote(), &key).await.unwrap_err();
    assert!(matches!(&refused, DialError::Refused { name, .. } if name == "unknown-key"), "{refused}");
    eventually(|| post.refused("revoked") >= 1).await;
    assert_eq!(honest.call("echo", json!(1)).await, json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_role_is_changed_comes_in_again_with_the_new_one() {
    let post = Post::start(calm()).await;
    let key = post.allow("somebody", Role::Operator);
    let peer = post.client(&key).await;
    assert_eq!(peer.call("role", json!(null)).await, json!("operator"));
    let public = post.keys.revoke("somebody").unwrap().public;
    post.keys.allow("somebody", public, Role::Client, 2).unwrap();
    eventually(|| post.refused("revoked") >= 1).await;
    // The client finds its way back by itself.
    assert_eq!(peer.call("role", json!(null)).await, json!("client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_read_lets_nobody_in_and_cuts_nobody_off() {
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let honest = post.client(&key).await;
    std::fs::write(post.path("keys/allowed.toml"), "[[key").unwrap();
    let refused = greet(post.guard.remote(), &key).await.unwrap_err();
    assert!(matches!(&refused, DialError::Refused { name, .. } if name == "no-list"), "{refused}");
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    assert_eq!(honest.call("echo", json!(1)).await, json!(1));
    assert_eq!(post.refused("revoked"), 0);
}

/// Greeting, READY and proofs are not worth anything a second time: each handshake is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_connection_cannot_be_played_again() {
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let (told, recorded) = tokio::sync::oneshot::channel();
    let remote = relay(&post.guard, async move |mut peer, mut guard| {
        let mut said = [0; 112];
        peer.read_exact(&mut said[..48]).await.unwrap();
        guard.write_all(&said[..48]).await.unwrap();
        let mut answer = [0; 48];
        guard.read_exact(&mut answer).await.unwrap();
        peer.write_all(&answer).await.unwrap();
        peer.read_exact(&mut said[48..]).await.unwrap();
        guard.write_all(&said[48..]).await.unwrap();
        told.send(said).unwrap();
        let _ = tokio::io::copy_bidirectional(&mut peer, &mut guard).await;
    })
    .await;
    assert_eq!(greet(&remote, &key).await.unwrap(), Role::Client);
    let mut again = TcpStream::connect(post.port()).await.unwrap();
    again.write_all(&recorded.await.unwrap()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, again.read_to_end(&mut answer)).await.expect("hung up");
    assert!(answer.len() <= 48, "no more than the second message of a handshake");
    eventually(|| post.refused("handshake") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_changed_on_the_way_ends_the_connection() {
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let remote = relay(&post.guard, async |peer, guard| {
        let (mut from_peer, mut to_peer) = peer.into_split();
        let (mut from_guard, mut to_guard) = guard.into_split();
        let down = tokio::spawn(async move { tokio::io::copy(&mut from_guard, &mut to_peer).await });
        for message in [&mut [0; 64][..48], &mut [0; 64]] {
            from_peer.read_exact(message).await.unwrap();
            to_guard.write_all(message).await.unwrap();
        }
        let mut record = [0; 40];
        from_peer.read_exact(&mut record).await.unwrap();
        record[20] ^= 1;
        to_guard.write_all(&record).await.unwrap();
        let _ = tokio::io::copy(&mut from_peer, &mut to_guard).await;
        down.abort();
    })
    .await;
    let proxy = telos_guard::Proxy::private(remote, key, None).await.unwrap();
    let mut peer = RawPeer::connect(&proxy).await;
    peer.send(&crate::stream::greeting()).await;
    peer.read_to_the_end().await;
    eventually(|| post.refused("record") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promised_bytes_of_unfinished_messages_are_bounded_over_all_peers() {
    let post = Post::start(GuardLimits { unfinished_bytes_max: 5 << 20, ..calm() }).await;
    let honest = post.client(&post.allow("honest", Role::Client)).await;
    let proxy = post.proxy(&post.allow("hostile", Role::Client)).await;
    let begun =
        [crate::stream::greeting(), crate::stream::ready(b""), crate::stream::header(1, 3 << 20)].concat();
    let (mut one, mut two) = (RawPeer::connect(&proxy).await, RawPeer::connect(&proxy).await);
    one.send(&begun).await;
    two.send(&begun).await;
    tokio::select! {
        _ = one.read_to_the_end() => {}
        _ = two.read_to_the_end() => {}
    }
    eventually(|| post.refused("room") == 1).await;
    assert_eq!(honest.call("echo", json!(1)).await, json!(1));
    drop((one, two));
    eventually(|| post.guard.stats().connections == 1).await;
    // What was promised is given back.
    let mut three = RawPeer::connect(&proxy).await;
    three.send(&begun).await;
    assert_eq!(honest.call("echo", json!("x".repeat(1 << 20))).await.as_str().unwrap().len(), 1 << 20);
    assert_eq!(post.refused("room"), 1);
}
