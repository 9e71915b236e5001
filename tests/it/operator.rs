//! What operators ask for directly: decided once, told truly, and never held up by somebody else's busy object.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::seams::StreamSink;
use telos_kernel::{Effect, Granting, InstallRequest, Kernel, Limits, ObjectError, SwapError};
use telos_store::{CommitError, ComponentId, DedupeKey, SessionId};
use telos_tests::{Sending, TestKernel, guest};
use tokio::sync::Notify;

use super::counting::{clones, serving};

/// One client's requests: each number is one request, however often it is sent.
struct Client(SessionId);

impl Client {
    fn of(kernel: &TestKernel) -> Self {
        let incarnation = kernel.store.decide(kernel.store.begin(), Default::default()).wait().unwrap().at_ms;
        Self(SessionId { client: 7, incarnation })
    }

    fn asks(&self, kernel: &TestKernel, number: u64) -> Kernel {
        kernel.kernel.for_request(DedupeKey { session: self.0, number, acked_through: 0 })
    }
}

fn audited(kernel: &TestKernel) -> Vec<String> {
    kernel.store.audit_after(0, 100).unwrap().into_iter().map(|row| row.kind).collect()
}

fn candidate(name: &str) -> InstallRequest {
    InstallRequest { source: name.into(), grants: Granting::All, ..InstallRequest::default() }
}

#[tokio::test]
async fn a_plugin_change_that_is_asked_for_again_after_a_crash_is_answered_and_not_repeated() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let client = Client::of(&kernel);
    let installed = client.asks(&kernel, 1).install(guest("counter-v2"), candidate("v2")).await.unwrap();
    let returned = client.asks(&kernel, 2).rollback("counter").await.unwrap();
    let swapped = client.asks(&kernel, 3).swap("counter", "0.2.0".into()).await.unwrap();
    let revoked = client.asks(&kernel, 4).revoke("counter", vec!["logging".into()]).await.unwrap();
    let granted = client.asks(&kernel, 5).grant("counter", vec!["vectors".into()]).await.unwrap();
    let removed = client.asks(&kernel, 6).remove("counter").await.unwrap();
    let decided = audited(&kernel);
    let kernel = kernel.restart();
    let told_again = |told: telos_kernel::Swapped| telos_kernel::Swapped { pause_us: 0, ..told };
    let again = client.asks(&kernel, 1).install(guest("counter-v2"), candidate("v2")).await.unwrap();
    assert_eq!(again, told_again(installed.clone()));
    assert_eq!(client.asks(&kernel, 1).installed_before().unwrap(), Some(told_again(installed)));
    assert_eq!(client.asks(&kernel, 2).rollback("counter").await.unwrap(), told_again(returned));
    assert_eq!(client.asks(&kernel, 3).swap("counter", "0.2.0".into()).await.unwrap(), told_again(swapped));
    let revoked_again = client.asks(&kernel, 4).revoke("counter", vec!["logging".into()]).await.unwrap();
    assert_eq!(revoked_again, revoked);
    let granted_again = client.asks(&kernel, 5).grant("counter", vec!["vectors".into()]).await.unwrap();
    assert_eq!((granted, granted_again), (None, None));
    assert_eq!(client.asks(&kernel, 6).remove("counter").await.unwrap(), removed);
    assert_eq!(audited(&kernel), decided, "nothing was decided twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_generation_that_failed_is_tried_again_and_then_answered_as_it_was_decided() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let object = clones(&kernel, 1).await.remove(0);
    kernel.install("counter-v3").await;
    // So that the swap itself makes it the one that waits.
    kernel.install("tallier").await;
    let client = Client::of(&kernel);
    fail::cfg("kernel::carry-call", "return(no slot is free, on purpose)").unwrap();
    let failed = client.asks(&kernel, 1).swap("counter", "0.3.0".into()).await.unwrap_err();
    assert_eq!(failed.effect(), Effect::None, "{failed}");
    fail::remove("kernel::carry-call");
    let swapped = client.asks(&kernel, 1).swap("counter", "0.3.0".into()).await.unwrap();
    assert_eq!((&*swapped.state, serving(&kernel).await), ("serving", json!("0.3.0")));
    let decided = audited(&kernel);
    let kernel = kernel.restart();
    let again = client.asks(&kernel, 1).swap("counter", "0.3.0".into()).await.unwrap();
    assert_eq!((again.position, again.version.as_str()), (swapped.position, "0.3.0"));
    assert_eq!(audited(&kernel), decided, "nothing was decided twice");
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn an_object_change_that_is_asked_for_again_after_a_crash_is_answered_and_not_repeated() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let client = Client::of(&kernel);
    let parents = ["counter".to_owned()];
    let made = client.asks(&kernel, 1).new_object("mine", &parents).await.unwrap();
    let set = client.asks(&kernel, 2).set_slot("mine", "count", Some(&json!(5))).await.unwrap();
    kernel.kernel.set_slot("mine", "count", Some(&json!(6))).await.unwrap();
    let unnamed = client.asks(&kernel, 3).unname("mine").await.unwrap();
    let decided = audited(&kernel);
    let kernel = kernel.restart();
    assert_eq!(client.asks(&kernel, 1).new_object("mine", &parents).await.unwrap(), made);
    assert_eq!(client.asks(&kernel, 2).set_slot("mine", "count", Some(&json!(5))).await.unwrap(), set);
    assert_eq!(client.asks(&kernel, 3).unname("mine").await.unwrap(), unnamed);
    assert_eq!(audited(&kernel), decided, "nothing was decided twice");
    let shown = kernel.kernel.object(&made.0.to_string()).unwrap();
    assert_eq!(shown["slots"][0]["value"], 6, "the later value stays");
}

#[tokio::test]
async fn a_grant_whose_activation_was_cut_off_is_finished_when_it_is_asked_for_again() {
    let kernel = TestKernel::new();
    kernel.try_install("relay", Granting::Nothing).await.unwrap();
    let client = Client::of(&kernel);
    let activated = client.asks(&kernel, 1).grant("relay", vec!["all".into()]).await.unwrap().unwrap();
    assert_eq!(activated.state, "serving");
    let kernel = kernel.restart();
    assert_eq!(client.asks(&kernel, 1).grant("relay", vec!["all".into()]).await.unwrap(), None);
    assert_eq!(kernel.kernel.plugin("relay").unwrap()["state"], "serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_object_at_the_same_time_all_happen() {
    let kernel = Arc::new(TestKernel::new());
    kernel.kernel.new_object("board", &[]).await.unwrap();
    let setting: Vec<_> = (0..32)
        .map(|number| {
            let kernel = Arc::clone(&kernel);
            let slot = format!("slot-{number}");
            tokio::spawn(async move { kernel.kernel.set_slot("board", &slot, Some(&json!(number))).await })
        })
        .collect();
    for set in setting {
        set.await.unwrap().unwrap();
    }
    assert_eq!(kernel.kernel.object("board").unwrap()["slots"].as_array().unwrap().len(), 32);
}

#[test]
fn a_failed_commit_says_whether_its_effect_may_exist() {
    let broken = || CommitError::Unavailable(telos_store::Failure::Reopening);
    assert_eq!(SwapError::from(broken()).effect(), Effect::Unknown);
    assert_eq!(ObjectError::from(broken()).effect(), Effect::Unknown);
    assert_eq!(SwapError::from(CommitError::Aborted).effect(), Effect::None);
    let error = SwapError::from(broken());
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept");
}

/// Tells when the first chunk came.
#[derive(Default)]
struct Heard(Notify);

impl StreamSink for Heard {
    fn chunk(&self, _attempt: u32, _value: Value) {
        self.0.notify_one();
    }

    fn reset(&self, _attempt: u32) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_root_object_holds_up_its_own_change_for_a_while_and_nobody_elses() {
    let kernel = Arc::new(TestKernel::with_guests(&["relay", "counter"]).await);
    let patient = Limits { cpu_ms: 60_000, ..Limits::default() };
    let request = InstallRequest { limits: patient, ..candidate("spinner.wasm") };
    kernel.kernel.install(guest("spinner"), request).await.unwrap();
    let (busy, heard) = (Arc::clone(&kernel), Arc::new(Heard::default()));
    let sink: Arc<Heard> = Arc::clone(&heard);
    let spinning = tokio::spawn(async move {
        let sending = Sending { within: Some(Duration::from_secs(60)), sink: Some(sink), request: None };
        let envelope = json!({"to": "spinner", "selector": "announce_and_spin"});
        busy.send_as("relay", "forward", envelope, sending).await
    });
    heard.0.notified().await;
    let (remover, revoker) = (kernel.kernel.clone(), kernel.kernel.clone());
    let (removed, revoked) = tokio::join!(remover.remove("relay"), async move {
        revoker.swap("counter", "0.1.0".into()).await.unwrap();
        revoker.revoke("relay", vec!["all".into()]).await
    });
    let refused = removed.unwrap_err();
    assert!(matches!(refused, SwapError::RootBusy { .. }), "{refused}");
    assert_eq!((refused.kind(), refused.effect()), ("busy", Effect::None));
    assert!(refused.next_step().unwrap().contains("telos plugin revoke relay"), "{refused}");
    revoked.unwrap();
    assert!(!spinning.is_finished(), "all of that while the object was busy");
    assert!(kernel.kernel.grants("relay").unwrap().is_empty());
    spinning.abort();
}

#[tokio::test]
async fn a_revocation_is_in_force_once_it_is_durable_although_who_asked_has_left() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let counter = ComponentId::new("counter").unwrap();
    // Asked for, and left at once.
    let _ = tokio::time::timeout(Duration::ZERO, kernel.kernel.revoke("counter", vec!["all".into()])).await;
    while !kernel.store.grants(&counter).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(kernel.kernel.grants("counter").unwrap().is_empty());
}

#[tokio::test]
async fn a_guest_names_only_below_its_own_id_so_another_plugin_can_always_come() {
    let kernel = TestKernel::with_guests(&["relay"]).await;
    for name in ["counter", "relayed", "counter/first"] {
        let refused = kernel.send("relay", "spawn", json!({"name": name})).await.unwrap_err();
        assert!(refused.to_string().contains("belongs to another component"), "{refused}");
    }
    kernel.send("relay", "spawn", json!({"name": "relay/first"})).await.unwrap();
    kernel.install("counter").await;
}

#[tokio::test]
async fn an_operator_frees_a_name_that_stands_in_the_way() {
    let kernel = TestKernel::new();
    let (id, _) = kernel.kernel.new_object("counter", &[]).await.unwrap();
    let refused = kernel.try_install("counter", Granting::All).await.unwrap_err().to_string();
    assert!(refused.contains("`telos object unname counter` frees it"), "{refused}");
    assert_eq!(kernel.kernel.unname("counter").await.unwrap().0, id);
    kernel.install("counter").await;
    assert!(audited(&kernel).contains(&"object.unnamed".to_owned()));
    assert_eq!(kernel.kernel.object(&id.to_string()).unwrap()["names"], json!([]));
    let refused = kernel.kernel.unname("counter").await.unwrap_err();
    assert!(matches!(refused, ObjectError::RootName(_)), "{refused}");
}
