//! Roots: answers, isolation, order, requests that repeat, failures that say what to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Effect, Failure};
use telos_store::{DedupeKey, SessionId};
use telos_tests::{Sending, TestKernel};

fn request(number: u64) -> DedupeKey {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let incarnation = u64::try_from(now.as_millis()).unwrap();
    DedupeKey { session: SessionId { client: 7, incarnation }, number, acked_through: 0 }
}

#[tokio::test]
async fn a_message_is_answered_and_its_state_survives_a_restart() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    assert_eq!(kernel.send("counter", "increment", json!({"by": 5})).await.unwrap(), 5);
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 5);
    let kernel = kernel.restart();
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_messages_to_one_object_lose_nothing() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter"]).await);
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let kernel = Arc::clone(&kernel);
        sending
            .spawn(async move { kernel.send("counter", "increment", Value::Null).await.unwrap().as_u64() });
    }
    let answers: BTreeSet<_> = sending.join_all().await.into_iter().collect();
    assert_eq!(answers.len(), 100, "every increment saw another count");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 100);
}

#[tokio::test]
async fn a_repeated_request_has_one_effect_and_the_first_answer() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let key = request(1);
    let send = || async {
        let sending = Sending { request: Some(key), ..Sending::default() };
        kernel.send_as("counter", "increment", json!({"by": 3}), sending).await.unwrap()
    };
    let (first, second) = (send().await, send().await);
    assert_eq!((first.value.clone(), first.is_replay), (json!(3), false));
    assert_eq!((second.value, second.is_replay), (json!(3), true));
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 3);
}

#[tokio::test]
async fn an_acknowledged_request_is_never_run_again() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let first = request(1);
    let sent = |key| {
        let sending = Sending { request: Some(key), ..Sending::default() };
        kernel.send_as("counter", "increment", Value::Null, sending)
    };
    sent(first).await.unwrap();
    sent(DedupeKey { number: 2, acked_through: 1, ..first }).await.unwrap();
    let refused = sent(first).await.unwrap_err();
    assert!(matches!(refused, Failure::Session(_)), "{refused}");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 2);
}

/// A day of reads leaves no trace of their session.
#[tokio::test]
async fn a_closed_session_may_read_and_is_told_to_begin_anew_when_it_writes() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let long_ago = SessionId { client: 7, incarnation: 1 };
    let sent = |number, selector| {
        let request = Some(DedupeKey { session: long_ago, number, acked_through: 0 });
        kernel.send_as("counter", selector, Value::Null, Sending { request, ..Sending::default() })
    };
    assert_eq!(sent(1, "read").await.unwrap().value, 0);
    let refused = sent(2, "increment").await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), ("unknown-session", Effect::None));
    assert_eq!(sent(3, "read").await.unwrap().value, 0, "it was not run");
}

#[tokio::test]
async fn an_unknown_object_and_an_unknown_selector_say_what_was_tried() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let refused = kernel.send("nobody", "read", Value::Null).await.unwrap_err();
    assert_eq!(refused.to_string(), "no object is called `nobody`");
    kernel.kernel.new_object("mine", &["counter".to_owned()]).await.unwrap();
    let refused = kernel.send("mine", "fly", Value::Null).await.unwrap_err();
    assert_eq!(refused.to_string(), "`mine` does not understand `fly`; tried mine, counter");
    assert_eq!(refused.effect(), Effect::None);
    assert!(refused.next_step().unwrap().contains("telos object show mine"));
}

#[tokio::test]
async fn bad_arguments_are_named() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let refused = kernel.send("counter", "increment", json!({"by": "three"})).await.unwrap_err();
    assert!(matches!(&refused, Failure::BadArguments(text) if text.contains("three")), "{refused}");
}

#[tokio::test]
async fn a_message_past_its_deadline_has_no_effect() {
    let kernel = TestKernel::with_guests(&["spinner", "counter"]).await;
    let sending = Sending { within: Some(Duration::from_millis(300)), ..Sending::default() };
    let before = kernel.kernel.object("spinner").unwrap();
    let refused = kernel.send_as("spinner", "write_and_spin", Value::Null, sending).await.unwrap_err();
    assert!(matches!(refused, Failure::Deadline), "{refused}");
    assert_eq!(refused.effect(), Effect::None);
    assert_eq!(kernel.kernel.object("spinner").unwrap(), before, "it wrote a slot before it spun");
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn time_stands_still_inside_a_root_and_chance_differs_between_roots() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    let first = kernel.send("relay", "clock", Value::Null).await.unwrap();
    assert_eq!(first["wall_ns"][0], first["wall_ns"][1]);
    let second = kernel.send("relay", "clock", Value::Null).await.unwrap();
    assert_ne!(first["random"], second["random"]);
}
