//! One call, one outcome.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_bridge::{BridgeConfig, CallError, CancelReason, Effect, Role, serve};

use crate::fixture::{Host, SOON, calm, echo, eventually, performer, quick, within};
use crate::wires::{Wires, on_every_pair};

async fn thirty_two_clients_make_a_thousand_calls_each(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let mut clients = Vec::new();
    for index in 0..32_u64 {
        let client = host.client().await;
        clients.push(tokio::spawn(async move {
            for call in 0..1_000_u64 {
                let value = json!({"client": index, "call": call});
                assert_eq!(echo(&client, value.clone()).await, value);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let stats = host.server.stats();
    assert_eq!((stats.dispatched, stats.replies, stats.calls), (32_000, 32_000, 0));
    assert_eq!((stats.repeats, stats.malformed, stats.expired), (0, 0, 0));
}

async fn concurrent_calls_of_one_client_each_get_their_own_answer(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let calls = (0..200_u64).map(|value| {
        let client = client.clone();
        async move { (value, echo(&client, json!(value)).await) }
    });
    for (value, answer) in futures::future::join_all(calls).await {
        assert_eq!(answer, json!(value));
    }
}

async fn the_service_learns_role_and_session_and_the_session_stays(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    assert_eq!(client.role(), Role::Operator);
    assert_eq!(client.call("role", Value::Null, within(SOON)).await.unwrap(), "Operator");
    let first = client.call("session", Value::Null, within(SOON)).await.unwrap();
    let second = client.call("session", Value::Null, within(SOON)).await.unwrap();
    assert_eq!(first, second);
    assert!(first[1].as_u64().unwrap() > 1_600_000_000_000, "an incarnation is wall time: {first}");
}

async fn an_endpoint_grants_no_more_than_its_role(wires: Wires) {
    let host = Host::start(wires, telos_bridge::BridgeConfig { role_max: Role::Client, ..calm() }).await;
    let client = host.client().await;
    assert_eq!(client.role(), Role::Client);
    assert_eq!(client.call("role", Value::Null, within(SOON)).await.unwrap(), "Client");
}

async fn errors_of_the_service_arrive_whole(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let error = client.call("nonsense", Value::Null, within(SOON)).await.unwrap_err();
    let CallError::Host(rpc) = &error else { panic!("{error:?}") };
    assert_eq!((rpc.data.kind.as_str(), rpc.data.effect), ("unknown-method", Effect::None));
    assert_eq!(error.to_string(), "no method nonsense");
}

async fn a_service_that_drops_or_panics_still_answers(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    for method in ["drop", "panic"] {
        let error = client.call(method, Value::Null, within(Duration::from_secs(2))).await.unwrap_err();
        let CallError::Unresolved { cause, .. } = &error else { panic!("{method}: {error:?}") };
        assert_eq!((cause.data.kind.as_str(), error.effect()), ("abandoned", Effect::Unknown), "{method}");
    }
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

async fn an_unknown_effect_is_asked_about_under_the_same_number_until_it_is_known(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    assert_eq!(client.call("doubtful", json!(3), within(SOON)).await.unwrap(), 3);
    assert_eq!(host.server.stats().dispatched, 4);
}

async fn an_effect_unknown_to_the_end_is_told_with_how_to_find_out(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let error = client.call("doubtful", json!(1_000), within(Duration::from_secs(2))).await.unwrap_err();
    let error = error.to_rpc();
    assert_eq!((error.data.kind.as_str(), error.data.effect), ("unresolved", Effect::Unknown));
    assert_eq!(error.data.incident, Some(7));
    assert!(error.data.next.unwrap().contains("look at what it would have changed"));
    assert!(host.deeds.asked.load(std::sync::atomic::Ordering::SeqCst) > 1);
}

async fn a_deadline_cancels_the_call_and_its_own_answer_arrives(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let error = client.call("wait", Value::Null, within(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(error.to_rpc().data.kind, "cancelled");
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::Deadline]);
}

async fn a_service_that_ignores_its_deadline_is_answered_for(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let error = client.call("ignore", Value::Null, within(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!((error.to_rpc().data.kind.as_str(), error.effect()), ("timeout", Effect::Unknown));
    assert_eq!(host.server.stats().overdue, 1);
}

async fn dropping_a_call_cancels_it_at_the_host(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let call =
        tokio::time::timeout(Duration::from_millis(100), client.call("wait", Value::Null, within(SOON)));
    assert!(call.await.is_err());
    eventually(|| host.open() == 0).await;
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::Caller]);
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

async fn closing_a_client_cancels_its_calls_at_once(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("wait", Value::Null, within(SOON)).await;
    eventually(|| host.open() == 1).await;
    client.close().await;
    let telos_bridge::Event::Done(Err(error)) = stream.recv().await.unwrap() else { panic!("no end") };
    assert_eq!(error, CallError::Closed { effect: Effect::Unknown });
    eventually(|| host.open() == 0 && host.server.peers().is_empty()).await;
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::ClientGone]);
}

async fn a_stopping_host_ends_what_it_has_begun_and_frees_the_endpoint(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let waiting = tokio::spawn(async move { client.call("gate", Value::Null, within(SOON)).await });
    eventually(|| host.open() == 1).await;
    let (path, deeds) = (host.socket_path(), Arc::clone(&host.deeds));
    let stopping = tokio::spawn(host.server.shutdown());
    deeds.gate.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap(), "through");
    stopping.await.unwrap();
    assert!(!path.exists());
}

/// What comes while it stops, and what it could not end in time, is the next host's: nobody is told of the change.
async fn a_stopping_host_leaves_the_rest_to_the_next(wires: Wires) {
    let host = Host::start(wires, BridgeConfig { drain: Duration::from_millis(500), ..quick() }).await;
    let (early, late) = (host.client().await, host.client().await);
    let unfinished = tokio::spawn(async move { early.call("gate", Value::Null, within(SOON)).await });
    eventually(|| host.open() == 1).await;
    let (endpoint, deeds) = (host.server.endpoint().clone(), Arc::clone(&host.deeds));
    let stopping = tokio::spawn(host.server.shutdown());
    let refused = tokio::spawn(async move { echo(&late, json!("late")).await });
    stopping.await.unwrap();

    let next = serve(endpoint, performer(&deeds), wires.serving(quick())).await.unwrap();
    assert_eq!(refused.await.unwrap(), "late");
    eventually(|| next.peers().iter().any(|peer| peer.calls == 1)).await;
    // The first host's, whose answer reaches nobody, and the next one's.
    deeds.gate.notify_one();
    deeds.gate.notify_one();
    assert_eq!(unfinished.await.unwrap().unwrap(), "through");
    next.shutdown().await;
}

on_every_pair! {
    "current_thread":
        the_service_learns_role_and_session_and_the_session_stays,
        an_endpoint_grants_no_more_than_its_role,
        errors_of_the_service_arrive_whole,
        a_service_that_drops_or_panics_still_answers,
        an_unknown_effect_is_asked_about_under_the_same_number_until_it_is_known,
        an_effect_unknown_to_the_end_is_told_with_how_to_find_out,
        a_deadline_cancels_the_call_and_its_own_answer_arrives,
        a_service_that_ignores_its_deadline_is_answered_for,
        dropping_a_call_cancels_it_at_the_host,
        closing_a_client_cancels_its_calls_at_once,
        a_stopping_host_ends_what_it_has_begun_and_frees_the_endpoint;
    "multi_thread":
        thirty_two_clients_make_a_thousand_calls_each,
        concurrent_calls_of_one_client_each_get_their_own_answer,
        a_stopping_host_leaves_the_rest_to_the_next;
}
