//! Roots that run again because somebody else changed what they read: effects are not repeated, answers are not mixed.
//! Method: a mind that changes the root's receiver while it thinks, and a listener that does so at every piece.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde_json::{Value, json};
use telos_kernel::seams::{MindError, StreamSink};
use telos_kernel::{ATTEMPTS_MAX, Failure, Fault};
use telos_store::{Json, ObjectName, Slot, Store, Vote};
use telos_tests::{PIECES, ScriptedMinds, Sending, TestKernel};

/// Changes the persona's object behind its back, as an operator would.
fn disturb(store: &Store, value: u64) {
    let mut unit = store.begin();
    let babs = unit.find(&ObjectName::new("babs").unwrap()).unwrap().unwrap();
    unit.set_slot(babs, "noise", Slot::Value(Json::from_value(&value.into()).unwrap())).unwrap();
    store.decide(unit, Vote::default()).wait().unwrap();
}

/// What the sender hears, and what happens when it hears a piece.
struct Listener {
    heard: Mutex<Vec<(u32, Value)>>,
    resets: Mutex<Vec<u32>>,
    on_piece: Box<dyn Fn(u32) + Send + Sync>,
}

impl Listener {
    fn new(on_piece: impl Fn(u32) + Send + Sync + 'static) -> Arc<Self> {
        let on_piece = Box::new(on_piece);
        Arc::new(Self { heard: Mutex::default(), resets: Mutex::default(), on_piece })
    }
}

impl StreamSink for Listener {
    fn chunk(&self, attempt: u32, value: Value) {
        self.heard.lock().push((attempt, value));
        (self.on_piece)(attempt);
    }

    fn reset(&self, attempt: u32) {
        self.resets.lock().push(attempt);
    }
}

fn pieces(attempt: u32) -> Vec<(u32, Value)> {
    PIECES.iter().map(|piece| (attempt, json!({ "token": piece }))).collect()
}

async fn say(kernel: &TestKernel, listener: &Arc<Listener>) -> Result<telos_kernel::Answer, Failure> {
    let sending = Sending { sink: Some(Arc::<Listener>::clone(listener)), ..Sending::default() };
    kernel.send_as("babs", "say", json!({"text": "Hello."}), sending).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_conflicts_while_it_generates_runs_again_from_its_effect_log() {
    let store = Arc::new(OnceLock::<Store>::new());
    let disturbed = Arc::clone(&store);
    let minds = ScriptedMinds::new(move |_| {
        let disturbed = Arc::clone(&disturbed);
        async move {
            if let Some(store) = disturbed.get() {
                disturb(store, 1);
            }
            Ok::<(), MindError>(())
        }
    });
    let kernel = TestKernel::with_minds(Arc::<ScriptedMinds>::clone(&minds));
    kernel.install("babs").await;
    store.set(kernel.store.clone()).ok().unwrap();
    let listener = Listener::new(|_| {});
    let answer = say(&kernel, &listener).await.unwrap();
    assert_eq!(answer.value["text"], PIECES.concat());
    assert_eq!((minds.texts(), minds.embeddings()), (1, 1), "the second attempt asks nobody");
    assert_eq!(*listener.resets.lock(), [2], "the first attempt's pieces were declared void");
    assert_eq!(*listener.heard.lock(), [pieces(1), pieces(2)].concat());
    assert_eq!(kernel.kernel.dispatch_stats().retried, 1);
    assert_eq!(kernel.send("babs", "turns", json!({})).await.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_conflicts_at_every_attempt_ends_in_a_conflict_without_effect() {
    let minds = ScriptedMinds::new(|_| async { Ok(()) });
    let kernel = TestKernel::with_minds(Arc::<ScriptedMinds>::clone(&minds));
    kernel.install("babs").await;
    let store = kernel.store.clone();
    let listener = Listener::new(move |attempt| disturb(&store, attempt.into()));
    let failure = say(&kernel, &listener).await.unwrap_err();
    assert!(matches!(failure, Failure::Conflict { attempts: ATTEMPTS_MAX }), "{failure}");
    assert_eq!((failure.effect(), failure.fault()), (telos_kernel::Effect::None, Fault::Peer));
    assert_eq!(minds.texts(), 1);
    assert_eq!(*listener.resets.lock(), (2..=ATTEMPTS_MAX).collect::<Vec<_>>());
    assert_eq!(*listener.heard.lock(), (1..=ATTEMPTS_MAX).flat_map(pieces).collect::<Vec<_>>());
    assert_eq!(kernel.send("babs", "turns", json!({})).await.unwrap(), json!([]));
}

/// Roots in the lane of an object come one after another, so that one from elsewhere would lose to each of them.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_a_busy_object_from_elsewhere_gets_through() {
    const MESSAGES: u64 = 150;
    let kernel = Arc::new(TestKernel::with_guests(&["counter", "relay"]).await);
    let send = |through_relay: bool| {
        let kernel = Arc::clone(&kernel);
        tokio::spawn(async move {
            for _ in 0..MESSAGES {
                let forward = json!({"to": "counter", "selector": "increment"});
                let sent = match through_relay {
                    true => kernel.send("relay", "forward", forward).await,
                    false => kernel.send("counter", "increment", Value::Null).await,
                };
                sent.unwrap();
            }
        })
    };
    let senders: Vec<_> = (0..8).map(|sender| send(sender < 2)).collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 8 * MESSAGES);
}
