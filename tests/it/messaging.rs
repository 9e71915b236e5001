//! Messages between objects: one tree is one unit of work.

use std::time::Duration;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use telos_kernel::Failure;
use telos_kernel::seams::StreamSink;
use telos_tests::{Sending, TestKernel};

async fn relay_and_counter() -> TestKernel {
    TestKernel::with_guests(&["relay", "counter"]).await
}

fn to_counter(selector: &str) -> Value {
    json!({"to": "counter", "selector": selector})
}

#[tokio::test]
async fn an_awaited_send_joins_the_unit_of_work() {
    let kernel = relay_and_counter().await;
    assert_eq!(kernel.send("relay", "forward", to_counter("increment")).await.unwrap(), 1);
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn a_root_that_fails_takes_the_whole_tree_with_it() {
    let kernel = relay_and_counter().await;
    let refused = kernel.send("relay", "forward_then_fail", to_counter("increment")).await.unwrap_err();
    assert!(matches!(refused, Failure::Refused(_)), "{refused}");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 0);
}

#[tokio::test]
async fn a_nested_trap_discards_only_its_own_writes() {
    let kernel = TestKernel::with_guests(&["relay", "trapper"]).await;
    let outcome =
        kernel.send("relay", "try_forward", json!({"to": "trapper", "selector": "panic"})).await.unwrap();
    assert_eq!(outcome["arm"], "broken");
    assert_eq!(kernel.send("trapper", "read", Value::Null).await.unwrap(), false);
    assert_eq!(
        kernel.send("relay", "attempts", Value::Null).await.unwrap(),
        1,
        "the sender went on and wrote"
    );
}

#[tokio::test]
async fn read_only_is_transitive() {
    let kernel = relay_and_counter().await;
    assert_eq!(kernel.send("relay", "forward_read_only", to_counter("read")).await.unwrap(), 0);
    let refused = kernel.send("relay", "forward_read_only", to_counter("increment")).await.unwrap_err();
    assert!(matches!(refused, Failure::Refused(_)), "{refused}");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 0);
}

#[tokio::test]
async fn recursion_ends_at_its_bound_and_the_sender_goes_on() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    let deepest = kernel.send("relay", "recurse", json!({})).await.unwrap();
    assert_eq!(deepest["depth"], telos_kernel::MESSAGE_DEPTH_MAX);
    assert!(deepest["stopped"].as_str().unwrap().contains("8 deep"), "{deepest}");
}

#[derive(Default)]
struct Pieces(Mutex<Vec<(u32, Value)>>);

impl StreamSink for Pieces {
    fn chunk(&self, attempt: u32, value: Value) {
        self.0.lock().push((attempt, value));
    }

    fn reset(&self, _attempt: u32) {
        self.0.lock().clear();
    }
}

#[tokio::test]
async fn pieces_reach_the_sender_in_order() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    let pieces = Arc::new(Pieces::default());
    let sending = Sending { sink: Some(Arc::<Pieces>::clone(&pieces)), ..Sending::default() };
    let answer = kernel.send_as("relay", "stream", json!({"n": 50}), sending).await.unwrap();
    assert_eq!(answer.value, 50);
    assert_eq!(*pieces.0.lock(), (0..50).map(|number| (1, json!(number))).collect::<Vec<_>>());
}

/// Takes a piece whenever it is let.
struct Slow {
    pieces: Mutex<Vec<Value>>,
    turns: tokio::sync::Semaphore,
}

#[async_trait]
impl StreamSink for Slow {
    fn chunk(&self, _attempt: u32, value: Value) {
        self.pieces.lock().push(value);
    }

    fn reset(&self, _attempt: u32) {}

    async fn chunk_when_room(&self, attempt: u32, value: Value) {
        self.turns.acquire().await.unwrap().forget();
        self.chunk(attempt, value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_reads_slowly_slows_the_message_and_the_deadline_ends_it() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    let slow = Arc::new(Slow { pieces: Mutex::default(), turns: tokio::sync::Semaphore::new(3) });
    let sink: Arc<dyn StreamSink> = Arc::<Slow>::clone(&slow);
    let within = Some(Duration::from_millis(500));
    let sending = Sending { sink: Some(Arc::clone(&sink)), within, ..Sending::default() };
    let late = kernel.send_as("relay", "stream", json!({"n": 5}), sending).await.unwrap_err();
    assert!(matches!(late, Failure::Deadline), "{late}");
    assert_eq!(*slow.pieces.lock(), [0, 1, 2], "it waited for its fourth turn");
    slow.turns.add_permits(5);
    let sending = Sending { sink: Some(sink), ..Sending::default() };
    assert_eq!(kernel.send_as("relay", "stream", json!({"n": 5}), sending).await.unwrap().value, 5);
}

#[tokio::test]
async fn every_object_answers_clone() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.send("counter", "increment", json!({"by": 4})).await.unwrap();
    let copy = kernel.send("counter", "clone", Value::Null).await.unwrap();
    let copy = copy.as_str().unwrap();
    assert_eq!(
        kernel.send(copy, "increment", Value::Null).await.unwrap(),
        5,
        "the copy begins where the source was"
    );
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 4, "and is another object");
}

#[tokio::test]
async fn a_tree_that_is_wide_and_deep_ends_at_its_sends() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    kernel.send("relay", "try_forward", json!({"to": "relay", "selector": "echo"})).await.unwrap();
    let inner = json!({"to": "relay", "selector": "attempts", "n": 4_000});
    let outer = json!({"to": "relay", "selector": "fan_out", "arguments": inner, "n": 3});
    let sending = Sending { within: Some(Duration::from_secs(60)), ..Sending::default() };
    let answer = kernel.send_as("relay", "fan_out", outer, sending).await.unwrap().value;
    assert_eq!((&answer["answered"], &answer["stopped"]), (&json!(3), &Value::Null));
    // Three of the outer one, twice four thousand, and what is left of ten thousand.
    assert_eq!(answer["last"], json!({"answered": 1_997, "last": 1, "stopped": "busy"}));
    assert_eq!(kernel.send("relay", "attempts", Value::Null).await.unwrap(), 1, "the next root counts anew");
}
