//! What one component may have, so that the others have theirs: storage, and minds.

use std::sync::Arc;

use serde_json::{Value, json};
use telos_kernel::{Failure, InferenceTerms};
use telos_store::{ComponentId, StoreOptions};
use telos_tests::{ScriptedMinds, TestKernel, eventually};
use tokio::sync::Semaphore;

fn budgets(kernel: &TestKernel, id: &str) -> Value {
    kernel.kernel.plugin(id).unwrap()["budgets"].clone()
}

#[tokio::test]
async fn a_plugin_that_fills_its_storage_is_refused_by_name_and_others_write_on() {
    let bounded = StoreOptions { stored_bytes_per_owner_max: 4_000, ..StoreOptions::default() };
    let kernel = TestKernel::with_options(bounded);
    kernel.install("counter").await;
    kernel.install("relay").await;
    let mut answered = 0;
    let failure = loop {
        match kernel.send("counter", "increment", Value::Null).await {
            Ok(count) => answered = count.as_u64().unwrap(),
            Err(failure) => break failure,
        }
    };
    assert!(matches!(failure, Failure::Full(_)) && answered > 2, "{answered}: {failure}");
    let text = failure.to_string();
    assert!(text.contains("counter would store") && text.contains("4000 allowed"), "{text}");
    assert!(failure.next_step().unwrap().contains("--storage-owner-mib"));
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), answered);
    kernel.send("relay", "try_forward", json!({"to": "relay", "selector": "echo"})).await.unwrap();

    let told = budgets(&kernel, "counter");
    let stored = kernel.store.stored_bytes(&ComponentId::new("counter").unwrap());
    assert_eq!((&told["stored_bytes"], &told["stored_bytes_max"]), (&json!(stored), &json!(4_000)));
    // What stores less can take its place.
    kernel.install("counter-v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_so_many_requests_to_minds_at_once_and_gets_their_places_back() {
    let go = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go);
    let minds = ScriptedMinds::new(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let terms = InferenceTerms { requests_max: 2, ..InferenceTerms::default() };
    let kernel = Arc::new(TestKernel::with_minds_on_terms(Arc::<ScriptedMinds>::clone(&minds), terms));
    kernel.install("overreacher").await;
    let receivers = [
        kernel.send("overreacher", "clone", Value::Null).await.unwrap(),
        kernel.send("overreacher", "clone", Value::Null).await.unwrap(),
        kernel.send("overreacher", "clone", Value::Null).await.unwrap(),
    ];
    let think = |index: usize| {
        let (kernel, receiver) = (Arc::clone(&kernel), receivers[index].as_str().unwrap().to_owned());
        tokio::spawn(async move { kernel.send(&receiver, "think", json!({})).await })
    };
    let under_way = [think(0), think(1)];
    eventually("two texts are begun", || minds.texts() == 2).await;
    assert_eq!(budgets(&kernel, "overreacher")["inference_requests"], 2);
    let refused = think(2).await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("budget of minds is used up; ask again in 1000 ms"), "{refused}");
    assert_eq!(minds.texts(), 2);

    go.add_permits(3);
    for text in under_way {
        assert_eq!(text.await.unwrap().unwrap(), "one two three");
    }
    assert_eq!(think(2).await.unwrap().unwrap(), "one two three");
    assert_eq!(budgets(&kernel, "overreacher")["inference_requests"], 0);
}

#[tokio::test]
async fn a_plugin_whose_tokens_are_used_up_is_told_when_to_ask_again() {
    let minds = ScriptedMinds::new(|_| async { Ok(()) });
    // A text costs four, so the next one is minutes away.
    let terms = InferenceTerms { tokens_per_minute: 1, ..InferenceTerms::default() };
    let kernel = TestKernel::with_minds_on_terms(Arc::<ScriptedMinds>::clone(&minds), terms);
    kernel.install("overreacher").await;
    kernel.send("overreacher", "think", json!({})).await.unwrap();
    // One token read and three written, as the mind counted; it might have been twenty.
    assert_eq!(budgets(&kernel, "overreacher")["inference_tokens"], 4);
    let refused = kernel.send("overreacher", "think", json!({})).await.unwrap_err().to_string();
    assert!(refused.contains("budget of minds is used up; ask again in "), "{refused}");
    assert_eq!(minds.texts(), 1);
}
