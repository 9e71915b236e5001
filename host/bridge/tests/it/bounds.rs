//! What happens at the bounds: sizes, windows, crowds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, CallError, CancelReason, Client, ClientConfig, ConnectError, Effect, Limits,
};

use crate::below::Raw;
use crate::fixture::{Host, SOON, calm, echo, eventually, quick, within};
use crate::hostile::{RawPeer, heartbeat, hello, request, request_after};
use crate::wires::{Wires, on_every_wire};

async fn a_result_of_fifteen_mib_arrives_and_a_larger_one_is_refused_kindly(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let big = client.call("big", json!(15 * 1024 * 1024), within(SOON)).await.unwrap();
    assert_eq!(big.as_str().unwrap().len(), 15 * 1024 * 1024);
    let error = client.call("big", json!(17 * 1024 * 1024), within(SOON)).await.unwrap_err().to_rpc();
    assert_eq!((error.data.kind.as_str(), error.data.effect), ("too-large", Effect::Committed));
    assert!(error.message.contains("at most"), "{}", error.message);
    assert!(error.data.next.is_some());
}

async fn a_request_too_large_never_leaves(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let error = client.call("echo", json!("z".repeat(17 * 1024 * 1024)), within(SOON)).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

async fn a_session_with_too_many_calls_is_told_busy(wires: Wires) {
    let limits = Limits { session_calls_max: 3, ..Limits::default() };
    let host = Host::start(wires, BridgeConfig { limits, ..calm() }).await;
    let client = host.client().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.stream("wait", Value::Null, within(SOON)).await);
    }
    eventually(|| host.open() == 3).await;
    let error = client.call("echo", Value::Null, within(SOON)).await.unwrap_err().to_rpc();
    assert_eq!((error.data.kind.as_str(), error.data.effect), ("busy", Effect::None));
    drop(held);
    eventually(|| host.open() == 0).await;
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

async fn a_full_host_lets_nobody_in_and_those_inside_go_on(wires: Wires) {
    let limits = Limits { sessions_max: 1, ..Limits::default() };
    let host = Host::start(wires, BridgeConfig { limits, ..calm() }).await;
    let client = host.client().await;
    let config = ClientConfig { connect_timeout: Duration::from_millis(500), ..ClientConfig::default() };
    let config = wires.calling(config);
    let refused = Client::connect(host.server.endpoint().clone(), config).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("1 clients are connected"), "{refused}");
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

/// A raw peer that greets, asks for a flood and never reads: the host holds one window and one stream buffer for it,
/// cuts the stream, and serves the others meanwhile.
async fn a_peer_that_never_reads_costs_a_window_and_a_buffer(wires: Wires) {
    // It does not beat either, and must not be found dead before it is found slow.
    let host = Host::start(wires, calm()).await;
    let good = host.client().await;
    let mut slow = RawPeer::connect(&host.socket_path()).await;
    slow.send(hello(7)).await;
    let channel = slow.read_channel().await;
    slow.send(request(channel, 1, 1, "flood", &json!(50_000))).await;
    let mut most = 0;
    while host.deeds.cancelled.lock().is_empty() {
        let peers = host.server.peers();
        let peer = peers.iter().find(|peer| peer.session.client == 7);
        most = most.max(peer.map_or(0, |peer| peer.unacked_bytes + peer.waiting_bytes));
        assert_eq!(echo(&good, json!(1)).await, json!(1));
    }
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::SlowReader]);
    assert_eq!(host.server.stats().slow_readers, 1);
    assert!(most <= 4 * 1024 * 1024, "{most} bytes were held");
}

/// It beats but reads nothing, so its heartbeats fall behind ours.
async fn a_peer_that_beats_without_reading_is_dropped(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let mut slow = RawPeer::connect(&host.socket_path()).await;
    slow.send(hello(7)).await;
    let channel = slow.read_channel().await;
    // Being dropped in the middle of it is what this is about.
    let since = Instant::now();
    while !host.server.peers().is_empty() {
        assert!(since.elapsed() < SOON, "it is kept");
        slow.try_send(heartbeat(channel, 0)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(host.server.stats().expired, 1);
}

/// It claims to have read what it was never sent, or guesses what it must have been sent; the ZeroMQ crate stops serving
/// everybody where 100,000 messages wait for one peer.
async fn a_peer_that_lies_about_what_it_read_is_dropped_and_others_are_served(wires: Wires) {
    let host = Host::start(wires, BridgeConfig { heartbeat: Duration::from_secs(60), ..calm() }).await;
    let good = host.client().await;
    let mut liar = Raw::shake_hands(&host.socket_path(), "").await;
    let channel = liar.say_hello(7).await;
    for _ in 0..100_000 / 8 {
        liar.send(&heartbeat(channel, u64::MAX)).await;
    }
    eventually(|| host.server.stats().malformed >= 8).await;
    assert_eq!(echo(&good, json!(1)).await, json!(1));

    let mut guesser = Raw::shake_hands(&host.socket_path(), "").await;
    let channel = guesser.say_hello(8).await;
    let is_there = || host.server.peers().iter().any(|peer| peer.session.client == 8);
    let before = host.server.stats().replies;
    for number in 1..=96 {
        // What it had so far, it says, was the reply to each of the requests before.
        let frames = request_after(channel, number, number, number - 1, "big", &json!(1024 * 1024));
        guesser.send(&frames).await;
        eventually(|| !is_there() || host.server.stats().replies >= before + number).await;
        if !is_there() {
            break;
        }
    }
    eventually(|| !is_there()).await;
    assert_eq!(echo(&good, json!(2)).await, json!(2));
    assert!(host.server.stats().replies < before + 80, "{:?}", host.server.stats());
}

async fn an_oversize_message_is_refused_in_words(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(vec![Bytes::from(vec![0x12; 5 * 1024 * 1024])]).await;
    let refusal = raw.read().await;
    assert_eq!(refusal[0][..], [0x29, 6]);
    let error: Value = serde_json::from_slice(&refusal[1]).unwrap();
    assert_eq!(error["error"]["data"]["kind"], "too-large");
    assert!(error["error"]["message"].as_str().unwrap().contains("at most 4194304"), "{error}");
}

on_every_wire! {
    "current_thread":
        a_request_too_large_never_leaves,
        a_session_with_too_many_calls_is_told_busy,
        a_full_host_lets_nobody_in_and_those_inside_go_on,
        an_oversize_message_is_refused_in_words;
    "multi_thread":
        a_result_of_fifteen_mib_arrives_and_a_larger_one_is_refused_kindly,
        a_peer_that_never_reads_costs_a_window_and_a_buffer,
        a_peer_that_beats_without_reading_is_dropped,
        a_peer_that_lies_about_what_it_read_is_dropped_and_others_are_served;
}
