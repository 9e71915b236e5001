//! Streams: in order, cancellable, bounded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use telos_bridge::{BridgeConfig, CallError, CancelReason, Effect, Event, Stream};

use crate::fixture::{Host, SOON, calm, echo, eventually, within};
use crate::wires::{Wires, on_every_pair};

async fn next(stream: &mut Stream) -> Event {
    tokio::time::timeout(SOON, stream.recv()).await.expect("an event in time").expect("an event")
}

async fn a_stream_is_accepted_then_counts_in_order_then_is_done(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("count", json!(5_000), within(SOON)).await;
    assert_eq!(next(&mut stream).await, Event::Accepted);
    for expected in 0..5_000_u64 {
        assert_eq!(next(&mut stream).await, Event::Chunk { attempt: 1, value: json!(expected) });
    }
    assert_eq!(next(&mut stream).await, Event::Done(Ok(json!(5_000))));
    assert_eq!(stream.recv().await, None);
}

/// It reads nothing until the host waits for it, and then everything: the rest waited at the host, not in memory here.
async fn a_reader_that_is_late_slows_the_host_down_and_misses_nothing(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("count", json!(20_000), within(Duration::from_secs(120))).await;
    let said = || host.deeds.said.load(Ordering::SeqCst);
    let mut before = usize::MAX;
    // Until a hundred round trips find it where it was.
    while before != said() || before == 0 {
        before = said();
        for _ in 0..100 {
            echo(&client, json!(1)).await;
        }
    }
    assert!(before < 1_024, "{before} chunks are under way or unread");
    assert_eq!(next(&mut stream).await, Event::Accepted);
    for expected in 0..20_000_u64 {
        assert_eq!(next(&mut stream).await, Event::Chunk { attempt: 1, value: json!(expected) });
    }
    assert_eq!(next(&mut stream).await, Event::Done(Ok(json!(20_000))));
    assert_eq!(host.server.stats().slow_readers, 0);
}

/// Together they are far beyond what one peer's streams are cut at.
async fn many_streams_of_one_session_share_its_room(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let streams = (0..40).map(|_| async {
        let mut stream = client.stream("count", json!(500), within(Duration::from_secs(120))).await;
        let mut chunks = 0;
        loop {
            match next(&mut stream).await {
                Event::Chunk { .. } => chunks += 1,
                Event::Done(result) => return (chunks, result),
                _ => {}
            }
        }
    });
    for (chunks, result) in futures::future::join_all(streams).await {
        assert_eq!((chunks, result), (500, Ok(json!(500))));
    }
    assert_eq!(host.server.stats().slow_readers, 0);
}

/// A producer that does not wait for room is cut, and its success is no success to a reader who missed chunks.
async fn a_rushed_stream_has_no_hole_that_looks_like_success(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("rush", json!(50_000), within(SOON)).await;
    let mut expected = 0_u64;
    loop {
        match next(&mut stream).await {
            Event::Chunk { value, .. } => assert_eq!(value, json!(expected)),
            Event::Done(Err(error)) => {
                // Cut by the host, which knows that the service was done, or by the client, which does not.
                assert_eq!(error.to_rpc().data.kind, "slow-reader");
                assert_ne!(error.effect(), Effect::None);
                break;
            }
            other => panic!("{other:?}"),
        }
        expected += 1;
    }
    assert!(expected >= 1_000, "what was on its way arrives: {expected}");
}

async fn a_reset_comes_between_the_chunks_of_two_attempts(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("restart", Value::Null, within(SOON)).await;
    let mut events = Vec::new();
    while let Some(event) = stream.recv().await {
        events.push(event);
    }
    let expected = [
        Event::Chunk { attempt: 1, value: json!("void") },
        Event::Reset { attempt: 2 },
        Event::Chunk { attempt: 2, value: json!("kept") },
        Event::Done(Ok(json!("kept"))),
    ];
    assert_eq!(events, expected);
}

async fn a_dropped_stream_frees_its_call(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("flow", Value::Null, within(SOON)).await;
    assert!(matches!(next(&mut stream).await, Event::Chunk { .. }));
    drop(stream);
    eventually(|| host.open() == 0).await;
    assert_eq!(*host.deeds.cancelled.lock(), [CancelReason::Caller]);
    eventually(|| host.server.peers()[0].calls == 0).await;
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

/// The stream is not received, so it overflows on the client's side while other calls go on.
async fn a_stream_nobody_receives_is_cut_and_others_go_on(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let mut stream = client.stream("flood", json!(100_000), within(SOON)).await;
    eventually(|| !host.deeds.cancelled.lock().is_empty()).await;
    assert_eq!(echo(&client, json!(1)).await, json!(1));
    let mut bytes = 0;
    loop {
        match next(&mut stream).await {
            Event::Chunk { value, .. } => bytes += value.as_str().unwrap().len(),
            // Either side may see it first.
            Event::Done(Err(error)) => {
                assert_eq!(error.to_rpc().data.kind, "slow-reader", "{error}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(bytes <= 4 * 1024 * 1024, "{bytes} bytes were kept for it");
}

async fn a_stream_outlives_quiet_times_longer_than_the_liveness(wires: Wires) {
    let host = Host::start(wires, BridgeConfig { heartbeat: Duration::from_millis(500), ..calm() }).await;
    let client = host.client().await;
    let error = client.call("wait", Value::Null, within(Duration::from_millis(3_000))).await.unwrap_err();
    let CallError::Host(error) = error else { panic!("{error:?}") };
    assert_eq!(error.message, "Deadline");
    assert_eq!(host.server.stats().expired, 0);
}

on_every_pair! {
    "current_thread":
        a_rushed_stream_has_no_hole_that_looks_like_success,
        a_reset_comes_between_the_chunks_of_two_attempts,
        a_dropped_stream_frees_its_call,
        a_stream_outlives_quiet_times_longer_than_the_liveness;
    "multi_thread":
        a_stream_is_accepted_then_counts_in_order_then_is_done,
        a_reader_that_is_late_slows_the_host_down_and_misses_nothing,
        many_streams_of_one_session_share_its_room,
        a_stream_nobody_receives_is_cut_and_others_go_on;
}
