//! Objects, delegation and the persistence covenant, through guests.

use serde_json::{Value, json};
use telos_kernel::{Breakage, Failure, Fault};
use telos_store::{ComponentId, Vote, limit};
use telos_tests::TestKernel;

#[tokio::test]
async fn a_child_inherits_behaviour_and_keeps_its_own_state() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.kernel.new_object("mine", &["counter".to_owned()]).await.unwrap();
    assert_eq!(kernel.send("mine", "increment", json!({"by": 2})).await.unwrap(), 2);
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 0);
    assert_eq!(kernel.send("mine", "count", Value::Null).await.unwrap(), 2, "a value slot answers its value");
}

#[tokio::test]
async fn what_a_guest_changed_and_did_not_write_is_stored() {
    let kernel = TestKernel::with_guests(&["forgetter"]).await;
    assert_eq!(kernel.send("forgetter", "change", Value::Null).await.unwrap(), 1);
    assert_eq!(kernel.send("forgetter", "forget", Value::Null).await.unwrap(), 2);
    assert_eq!(kernel.send("forgetter", "read", Value::Null).await.unwrap(), 2);
    assert_eq!(kernel.send("forgetter", "take_turns", Value::Null).await.unwrap(), 4);
}

#[tokio::test]
async fn what_cannot_be_stored_fails_as_a_covenant_violation_that_names_slot_and_selector() {
    let kernel = TestKernel::with_guests(&["forgetter"]).await;
    for (selector, slot) in [("leak", "pairs"), ("race", "count")] {
        let failure = kernel.send("forgetter", selector, Value::Null).await.unwrap_err();
        assert_covenant(&failure, slot, selector);
    }
    assert_eq!(kernel.send("forgetter", "read", Value::Null).await.unwrap(), 0);
}

#[tokio::test]
async fn a_write_from_a_read_only_selector_is_a_covenant_violation() {
    let kernel = TestKernel::with_guests(&["scribbler"]).await;
    // It is in its right mind, so that nobody parks it for what follows.
    assert_eq!(kernel.send("scribbler", "read", Value::Null).await.unwrap(), "clean");
    for selector in ["scribble", "scribble_directly", "scribble_secretly"] {
        let failure = kernel.send("scribbler", selector, Value::Null).await.unwrap_err();
        assert_covenant(&failure, "text", selector);
    }
    assert_eq!(kernel.send("scribbler", "read", Value::Null).await.unwrap(), "clean");
    assert_eq!(kernel.send("scribbler", "write", Value::Null).await.unwrap(), "written");
}

#[track_caller]
fn assert_covenant(failure: &Failure, wanted_slot: &str, wanted_selector: &str) {
    let Failure::Broken { breakage, .. } = failure else { panic!("{wanted_selector}: {failure}") };
    match breakage.as_ref() {
        Breakage::Covenant { slot, selector, .. } => {
            assert_eq!((slot.as_str(), selector.as_str()), (wanted_slot, wanted_selector));
        }
        other => panic!("{wanted_selector}: {other}"),
    }
}

#[tokio::test]
async fn a_guest_makes_and_names_objects_of_its_own() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    kernel.send("relay", "spawn", json!({"name": "relay/first"})).await.unwrap();
    let shown = kernel.kernel.object("relay/first").unwrap();
    assert_eq!(shown["owner"], "relay");
    assert_eq!(shown["parents"][0]["names"][0], "relay");
    assert_eq!(kernel.send("relay/first", "echo", json!([1])).await.unwrap(), json!([1]));
}

#[tokio::test]
async fn a_guest_names_nothing_that_another_component_may_need() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    for name in ["counter", "counter/mine", "relayed", "relay-two/x"] {
        let refused = kernel.send("relay", "spawn", json!({"name": name})).await.unwrap_err();
        assert!(refused.to_string().contains("belongs to another component"), "{name}: {refused}");
    }
    kernel.install("counter").await;
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn an_operator_sets_data_but_not_behaviour() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.kernel.set_slot("counter", "count", Some(&json!(41))).await.unwrap();
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 42);
    let refused = kernel.kernel.set_slot("counter", "increment", Some(&json!(0))).await.unwrap_err();
    assert!(refused.to_string().contains("behaviour changes by plugin swap"), "{refused}");
    let history = kernel.kernel.object_history("counter", None, 2).unwrap();
    assert_eq!((&history[0]["slots"]["count"], &history[1]["slots"]["count"]), (&json!(42), &json!(41)));
}

/// The last of a chain of objects longer than one lookup follows.
fn deep_object(kernel: &TestKernel) -> String {
    let mut unit = kernel.store.begin();
    let mut last = unit.create(ComponentId::operator(), 1, Vec::new()).unwrap();
    for _ in 0..limit::ANCESTORS_MAX {
        last = unit.create(ComponentId::operator(), 1, vec![last]).unwrap();
    }
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    last.to_string()
}

#[tokio::test]
async fn a_bound_that_guests_made_is_named_and_not_blamed_on_the_host() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    let deep = deep_object(&kernel);
    let refused = kernel.send(&deep, "anything", Value::Null).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(text) if text.contains("1024 allowed")), "{refused}");
    assert_eq!(refused.fault(), Fault::Peer);
    let nested = json!({"to": deep, "selector": "anything"});
    assert_eq!(kernel.send("relay", "try_forward", nested.clone()).await.unwrap()["arm"], "refused");
    let looked = kernel.send("relay", "look", nested).await.unwrap();
    assert!(looked.as_str().unwrap().contains("1024 allowed"), "{looked}");
    assert!(kernel.journal.lines("hostcall.failed").is_empty(), "the host did not fail");
    assert!(kernel.journal.lines("message.host-failed").is_empty(), "the host did not fail");
}
