//! Posts: delivered after their unit, once, in order, and independently of each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_kernel::LANE_ENTRIES_MAX;
use telos_tests::{ScriptedMinds, TestKernel, eventually};
use tokio::sync::Semaphore;

async fn relay_and_counter() -> TestKernel {
    TestKernel::with_guests(&["relay", "counter"]).await
}

fn to_counter(selector: &str) -> Value {
    json!({"to": "counter", "selector": selector})
}

async fn wait_for_count(kernel: &TestKernel, wanted: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let count = kernel.send("counter", "read", Value::Null).await.unwrap();
        if count == wanted || Instant::now() > deadline {
            assert_eq!(count, wanted);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_delivered_after_the_commit_and_once() {
    let kernel = relay_and_counter().await;
    for _ in 0..10 {
        kernel.send("relay", "post_to", to_counter("increment")).await.unwrap();
    }
    wait_for_count(&kernel, 10).await;
    assert!(kernel.store.outbox_due(u64::MAX, 10).unwrap().is_empty());
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_of_a_unit_that_fails_is_never_delivered() {
    let kernel = relay_and_counter().await;
    kernel.send("relay", "post_then_fail", to_counter("increment")).await.unwrap_err();
    kernel.send("relay", "post_to", to_counter("increment")).await.unwrap();
    wait_for_count(&kernel, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_keeps_failing_becomes_a_dead_letter() {
    let kernel = TestKernel::with_guests(&["relay", "trapper"]).await;
    kernel.send("relay", "post_to", json!({"to": "trapper", "selector": "panic"})).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while kernel.store.dead_letters(10).unwrap().is_empty() {
        assert!(Instant::now() < deadline, "no dead letter");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let letter = kernel.store.dead_letters(10).unwrap().remove(0);
    assert_eq!(letter.attempts, 3);
    assert!(letter.cause.contains("the trapper panics on purpose"), "{}", letter.cause);
}

/// A mind that thinks until it is let go, and kernels whose overreacher waits for it.
async fn slow_thinkers(guests: &[&str]) -> (TestKernel, Arc<ScriptedMinds>, Arc<Semaphore>) {
    let go = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go);
    let minds = ScriptedMinds::new(move |_| {
        let held = Arc::clone(&held);
        async move {
            let _go = held.acquire().await;
            Ok(())
        }
    });
    let kernel = TestKernel::with_minds(Arc::<ScriptedMinds>::clone(&minds));
    for guest in guests {
        kernel.install(guest).await;
    }
    (kernel, minds, go)
}

fn to_thinker() -> Value {
    json!({"to": "overreacher", "selector": "think", "arguments": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_post_stops_no_other_post() {
    let (kernel, minds, go) = slow_thinkers(&["relay", "counter", "overreacher"]).await;
    kernel.send("relay", "post_to", to_thinker()).await.unwrap();
    eventually("the slow post is under way", || minds.texts() == 1).await;
    for _ in 0..40 {
        kernel.send("relay", "post_to", to_counter("increment")).await.unwrap();
    }
    wait_for_count(&kernel, 40).await;
    go.add_permits(1);
    eventually("every post was delivered", || kernel.store.outbox_due(u64::MAX, 10).unwrap().is_empty())
        .await;
    assert!(kernel.store.dead_letters(10).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_panics_fails_and_the_postman_lives() {
    let minds = ScriptedMinds::new(|_| async { panic!("the mind panics on purpose") });
    let kernel = TestKernel::with_minds(minds);
    for guest in ["relay", "counter", "overreacher"] {
        kernel.install(guest).await;
    }
    kernel.send("relay", "post_to", to_thinker()).await.unwrap();
    eventually("a delivery panicked", || !kernel.journal.lines("message.host-failed").is_empty()).await;
    kernel.send("relay", "post_to", to_counter("increment")).await.unwrap();
    wait_for_count(&kernel, 1).await;
    eventually("the post is a dead letter", || !kernel.store.dead_letters(10).unwrap().is_empty()).await;
    let letter = kernel.store.dead_letters(10).unwrap().remove(0);
    assert!(letter.attempts == 3 && letter.cause.contains("panic"), "{letter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_finds_no_room_rests_and_loses_no_attempt() {
    let (kernel, minds, go) = slow_thinkers(&["relay", "overreacher"]).await;
    let mut waiting: Vec<_> =
        (0..LANE_ENTRIES_MAX).map(|_| kernel.line_up("overreacher", "think", json!({}))).collect();
    let first = tokio::spawn(waiting.remove(0).answer());
    eventually("the lane's first one thinks", || minds.texts() == 1).await;
    kernel.send("relay", "post_to", to_thinker()).await.unwrap();
    eventually("the post was turned away more often than it may fail", || {
        kernel.journal.lines("post.turned-away").len() > 3
    })
    .await;
    assert_eq!(kernel.store.outbox_due(u64::MAX, 10).unwrap()[0].attempts, 0);
    drop(waiting);
    go.add_permits(2);
    first.await.unwrap().unwrap();
    eventually("the post was delivered", || kernel.store.outbox_due(u64::MAX, 10).unwrap().is_empty()).await;
    assert_eq!((minds.texts(), kernel.store.dead_letters(10).unwrap().len()), (2, 0));
}

#[tokio::test]
async fn a_post_with_a_malformed_selector_is_invalid() {
    let kernel = relay_and_counter().await;
    let posted = |selector: &str| kernel.send("relay", "try_post", to_counter(selector));
    assert_eq!(posted("").await.unwrap(), "invalid");
    assert_eq!(posted("increment").await.unwrap(), "posted");
}
