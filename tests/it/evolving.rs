//! State carried over while messages flow: what served serves until the moment that decides, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Failure, Granting, InstallRequest, Limits, SwapError, Swapping};
use telos_store::{ComponentId, ReleaseState};
use telos_tests::{Sending, TestKernel, eventually, guest};

fn counter() -> ComponentId {
    ComponentId::new("counter").unwrap()
}

fn state(kernel: &TestKernel, version: &str) -> ReleaseState {
    let records = kernel.store.releases(Some(&counter())).unwrap();
    records.into_iter().find(|record| record.version == version).unwrap().state
}

async fn serving(kernel: &TestKernel) -> Value {
    kernel.send("counter", "release", Value::Null).await.unwrap()
}

/// Objects that delegate to the counter and have counted to 1.
async fn clones(kernel: &TestKernel, count: usize) -> Vec<String> {
    let mut clones = Vec::new();
    for _ in 0..count {
        let clone = kernel.send("counter", "clone", Value::Null).await.unwrap();
        let clone = clone.as_str().unwrap().to_owned();
        kernel.send(&clone, "increment", Value::Null).await.unwrap();
        clones.push(clone);
    }
    clones
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_carried_over_under_load_and_no_count_is_lost() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter", "relay"]).await);
    let objects = Arc::new(clones(&kernel, 300).await);
    assert_eq!(kernel.install("counter-v3").await.state, "staged");
    let (is_done, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..6_usize)
        .map(|sender| {
            let (kernel, objects) = (Arc::clone(&kernel), Arc::clone(&objects));
            let (is_done, counted) = (Arc::clone(&is_done), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut round = sender;
                while !is_done.load(Ordering::Relaxed) {
                    let object = &objects[round * 7 % objects.len()];
                    let sent = match round % 3 {
                        0 => {
                            let through = json!({"to": object, "selector": "increment"});
                            kernel.send("relay", "forward", through).await
                        }
                        _ => kernel.send(object, "increment", Value::Null).await,
                    };
                    sent.unwrap();
                    counted.fetch_add(1, Ordering::Relaxed);
                    round += 6;
                }
            })
        })
        .collect();
    eventually("messages flow", || counted.load(Ordering::Relaxed) > 50).await;
    let swapped = kernel.kernel.swap("counter", "0.3.0".into()).await.unwrap();
    assert_eq!((swapped.state.as_ref(), swapped.previous.as_deref()), ("serving", Some("0.1.0")));
    let at_swap = counted.load(Ordering::Relaxed);
    eventually("messages flow on", || counted.load(Ordering::Relaxed) > at_swap + 50).await;
    is_done.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(serving(&kernel).await, "0.3.0");
    let mut sum = 0;
    for object in objects.iter() {
        sum += kernel.send(object, "read", Value::Null).await.unwrap().as_u64().unwrap();
    }
    assert_eq!(sum, 300 + counted.load(Ordering::Relaxed));
    let kernel = Arc::into_inner(kernel).unwrap().restart();
    assert_eq!(serving(&kernel).await, "0.3.0");
    assert_eq!(kernel.store.generation(&counter()).unwrap().unwrap().generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_back_somebody_must_say_so() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    clones(&kernel, 2).await;
    kernel.install("counter-v4").await;
    let refused = kernel.kernel.swap("counter", "0.4.0".into()).await.unwrap_err();
    assert!(matches!(refused, SwapError::NoWayBack { from: 1, to: 3, .. }), "{refused}");
    assert!(refused.next_step().unwrap().contains("telos plugin swap counter 0.4.0 --no-return"));
    assert_eq!((serving(&kernel).await, state(&kernel, "0.4.0")), (json!("0.1.0"), ReleaseState::Staged));
    let how = Swapping { no_return: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.4.0".into(), how).await.unwrap();
    assert_eq!(serving(&kernel).await, "0.4.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_over_changes_nothing_and_says_which_object() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let objects = clones(&kernel, 2).await;
    kernel.send(&objects[1], "increment", json!({"by": 902})).await.unwrap();
    kernel.install("misevolver").await;
    let how = Swapping { no_return: true, ..Swapping::default() };
    kernel.send(&objects[0], "increment", json!({"by": 902})).await.unwrap();
    let refused = kernel.kernel.swap_so("counter", "0.5.0".into(), how).await.unwrap_err();
    assert!(matches!(refused, SwapError::NotEvolved { .. }), "{refused}");
    assert!(refused.to_string().contains("cannot be carried from generation 1 to 2"), "{refused}");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.5.0")), (json!("0.1.0"), ReleaseState::Returned));
    assert_eq!(kernel.send(&objects[1], "read", Value::Null).await.unwrap(), 903);
    assert!(kernel.store.generation(&counter()).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_do_not_end_hold_the_change_up_until_it_is_forced() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter"]).await);
    kernel.install("counter-v3").await;
    let request = InstallRequest {
        source: "stumbler.wasm".into(),
        grants: Granting::All,
        limits: Limits { cpu_ms: 60_000, ..Limits::default() },
        ..InstallRequest::default()
    };
    kernel.kernel.install(guest("stumbler"), request).await.unwrap();
    let object = clones(&kernel, 1).await.remove(0);
    let dwelling = {
        let (kernel, object) = (Arc::clone(&kernel), object.clone());
        tokio::spawn(async move {
            let sending = Sending { within: Some(Duration::from_secs(60)), ..Sending::default() };
            kernel.send_as(&object, "dwell", json!({"turns": u64::MAX}), sending).await
        })
    };
    let running = || kernel.kernel.usage()[0]["usage"]["running"] == 1;
    eventually("it dwells", running).await;
    let refused = kernel.kernel.swap("counter", "0.3.0".into()).await.unwrap_err();
    assert!(refused.to_string().contains("messages to it did not end in time"), "{refused}");
    assert!(refused.next_step().unwrap().contains("--force"), "{refused:?}");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.3.0")), (json!("0.6.0"), ReleaseState::Staged));
    let how = Swapping { force: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.3.0".into(), how).await.unwrap();
    assert_eq!(serving(&kernel).await, "0.3.0");
    let ended = dwelling.await.unwrap().unwrap_err();
    assert!(matches!(ended, Failure::Retired), "{ended}");
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 1, "nothing of it is left");
}
