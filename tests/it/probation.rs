//! Probation: a release that breaks what the one before it did not gives its seat back, and one that serves stays.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Failure, GenerationMode, ProbationTerms, SwapError};
use telos_store::{ComponentId, ReleaseState};
use telos_tests::{TestKernel, eventually};

/// Permanent with the first message that it answers.
const SHORT: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: 1, strikes: 3, window: Duration::from_secs(60) };

fn counter() -> ComponentId {
    ComponentId::new("counter").unwrap()
}

fn state(kernel: &TestKernel, version: &str) -> ReleaseState {
    let records = kernel.store.releases(Some(&counter())).unwrap();
    records.into_iter().find(|record| record.version == version).unwrap().state
}

async fn increment(kernel: &TestKernel, by: u64) -> Result<Value, Failure> {
    kernel.send("counter", "increment", json!({ "by": by })).await
}

async fn serving(kernel: &TestKernel) -> Value {
    kernel.send("counter", "release", Value::Null).await.unwrap()
}

/// A kernel whose counter 0.1.0 is permanent and has counted to 1, with the stumbler in its seat.
async fn with_stumbler() -> TestKernel {
    let kernel = TestKernel::on_terms(SHORT);
    kernel.install("counter").await;
    increment(&kernel, 1).await.unwrap();
    eventually("0.1.0 is permanent", || state(&kernel, "0.1.0") == ReleaseState::Permanent).await;
    kernel.install("stumbler").await;
    assert_eq!(state(&kernel, "0.6.0"), ReleaseState::Probation);
    kernel
}

async fn burn(kernel: &TestKernel) {
    for by in [100, 101, 102] {
        assert!(matches!(increment(kernel, by).await, Err(Failure::Broken { .. })));
    }
    eventually("the seat returned", || state(kernel, "0.6.0") == ReleaseState::Quarantined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_breaks_three_messages_gives_its_seat_back() {
    let kernel = with_stumbler().await;
    burn(&kernel).await;
    assert_eq!(serving(&kernel).await, "0.1.0");
    assert_eq!(increment(&kernel, 100).await.unwrap(), 101, "nothing was lost and nothing done twice");
    let told = kernel.kernel.plugin("counter").unwrap();
    let cause = told["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("0.6.0 gave its seat back to 0.1.0: 3 distinct messages within 60 s"),
        "{cause}"
    );
    assert!(cause.contains("it stumbles on purpose"), "{cause}");
    let kernel = kernel.restart();
    assert_eq!(serving(&kernel).await, "0.1.0");
    assert_eq!(kernel.kernel.plugin("counter").unwrap()["cause"], cause, "a start remembers why");
    let rows = kernel.store.audit_between(0, u64::MAX, 100, |row| row.kind == "plugin.returned").unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].detail["version"], "0.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burnt_build_is_refused_until_its_quarantine_is_lifted() {
    let kernel = with_stumbler().await;
    burn(&kernel).await;
    let listed = kernel.kernel.quarantine().unwrap();
    assert_eq!((listed.len(), listed[0].version.as_str(), listed[0].is_parked), (1, "0.6.0", false));
    let digest = listed[0].digest.to_string();
    for refused in [
        kernel.try_install("stumbler", telos_kernel::Granting::All).await.unwrap_err(),
        kernel.kernel.swap("counter", "0.6.0".into()).await.unwrap_err(),
        kernel.kernel.rollback("counter").await.unwrap_err(),
    ] {
        let said = refused.to_string();
        assert!(
            said.starts_with(&format!("counter 0.6.0 ({}) is in quarantine: 3 distinct", &digest[..8])),
            "{said}"
        );
        assert!(refused.next_step().unwrap().contains("telos plugin quarantine lift counter"), "{refused}");
    }
    assert_eq!(serving(&kernel).await, "0.1.0");
    let not = kernel.kernel.lift_quarantine("counter", "0.1.0".into()).await.unwrap_err();
    assert!(matches!(not, SwapError::NotQuarantined { .. }), "{not}");
    kernel.kernel.lift_quarantine("counter", digest).await.unwrap();
    assert!(kernel.kernel.quarantine().unwrap().is_empty());
    kernel.kernel.swap("counter", "0.6.0".into()).await.unwrap();
    assert_eq!(serving(&kernel).await, "0.6.0");
    assert!(increment(&kernel, 103).await.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(serving(&kernel).await, "0.6.0", "what struck it before its fall does not count again");
    burn(&kernel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_permanent_yet_the_seat_returns_to_what_served_before() {
    let kernel = TestKernel::on_terms(ProbationTerms { messages: u64::MAX, ..SHORT });
    kernel.install("counter").await;
    increment(&kernel, 1).await.unwrap();
    kernel.install("stumbler").await;
    burn(&kernel).await;
    assert_eq!(serving(&kernel).await, "0.1.0");
    assert_eq!(increment(&kernel, 1).await.unwrap(), 2);
    assert_eq!(state(&kernel, "0.1.0"), ReleaseState::Probation);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_earlier_release_too_is_nobodys_fault() {
    let kernel = TestKernel::on_terms(SHORT);
    kernel.install("stumbler").await;
    increment(&kernel, 1).await.unwrap();
    eventually("0.6.0 is permanent", || state(&kernel, "0.6.0") == ReleaseState::Permanent).await;
    let strict = ProbationTerms { messages: u64::MAX, strikes: 1, ..SHORT };
    let kernel = kernel.restart_on_terms(strict);
    kernel.install("restumbler").await;
    for by in 100..110 {
        assert!(increment(&kernel, by).await.is_err());
    }
    increment(&kernel, 1).await.unwrap();
    // Whoever looks into them does so in their order, so the last one says when it has looked into all.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(serving(&kernel).await, "0.7.0");
    assert_eq!(state(&kernel, "0.7.0"), ReleaseState::Probation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_sent_again_and_one_within_another_count_as_what_they_are() {
    let kernel = with_stumbler().await;
    kernel.install("relay").await;
    for _ in 0..5 {
        assert!(increment(&kernel, 100).await.is_err());
    }
    let forward = |by: u64| json!({"to": "counter", "selector": "increment", "arguments": {"by": by}});
    assert!(kernel.send("relay", "forward", forward(101)).await.is_err());
    assert_eq!(state(&kernel, "0.6.0"), ReleaseState::Probation, "two distinct ones");
    assert!(kernel.send("relay", "forward", forward(102)).await.is_err());
    eventually("the seat returned", || state(&kernel, "0.6.0") == ReleaseState::Quarantined).await;
    let relay = ComponentId::new("relay").unwrap();
    let relays = kernel.store.releases(Some(&relay)).unwrap();
    assert!(relays[0].state != ReleaseState::Quarantined, "it only passed the message on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_answers_nothing_is_parked() {
    let kernel = TestKernel::on_terms(SHORT);
    kernel.install("stumbler").await;
    for by in [100, 101, 102] {
        assert!(increment(&kernel, by).await.is_err());
    }
    eventually("it is parked", || state(&kernel, "0.6.0") == ReleaseState::Parked).await;
    let refused = increment(&kernel, 1).await.unwrap_err();
    assert!(matches!(refused, Failure::NotServing { .. }), "{refused}");
    let told = kernel.kernel.plugin("counter").unwrap();
    assert_eq!(told["state"], "parked");
    assert!(told["cause"].as_str().unwrap().starts_with("0.6.0 is parked, and nobody serves"), "{told}");
    let kernel = kernel.restart();
    assert!(increment(&kernel, 1).await.is_err(), "a start does not bring it back");
    assert_eq!(kernel.kernel.plugin("counter").unwrap()["state"], "parked");
    kernel.install("restumbler").await;
    assert_eq!(increment(&kernel, 1).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_answers_keeps_its_seat_whatever_breaks_it() {
    let terms = ProbationTerms { messages: u64::MAX, ..SHORT };
    let kernel = TestKernel::on_terms(terms);
    kernel.install("stumbler").await;
    increment(&kernel, 1).await.unwrap();
    for by in 100..106 {
        assert!(increment(&kernel, by).await.is_err());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(increment(&kernel, 1).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_names_one_build_and_does_not_go_back() {
    let kernel = with_stumbler().await;
    increment(&kernel, 1).await.unwrap();
    eventually("0.6.0 is permanent", || state(&kernel, "0.6.0") == ReleaseState::Permanent).await;
    let older = kernel.try_install("counter-v2", telos_kernel::Granting::All).await.unwrap_err();
    assert_eq!(older.to_string(), "counter-v2.wasm was refused: it is counter 0.2.0, and 0.6.0 is permanent");
    let next = older.next_step().unwrap();
    assert!(
        next.contains("`telos plugin info counter`") && next.contains("`telos plugin swap counter VERSION`")
    );
    assert!(older.next_step().is_some());
    let mut again = telos_tests::guest("stumbler");
    // A custom section named `x`.
    again.extend_from_slice(&[0, 2, 1, b'x']);
    let request = telos_kernel::InstallRequest {
        source: "again.wasm".into(),
        ..telos_kernel::InstallRequest::default()
    };
    let same = kernel.kernel.install(again, request).await.unwrap_err();
    assert!(matches!(same, SwapError::SameVersion { .. }), "{same}");
    assert!(
        same.to_string().starts_with("again.wasm was refused: counter 0.6.0 is another build already"),
        "{same}"
    );
    assert_eq!(serving(&kernel).await, "0.6.0");
    assert_eq!(kernel.kernel.swap("counter", "0.1.0".into()).await.unwrap().version, "0.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_on_probation_that_does_not_load_any_more_gives_its_seat_back_without_quarantine() {
    let kernel = with_stumbler().await;
    let records = kernel.store.releases(Some(&counter())).unwrap();
    let digest = records.iter().find(|record| record.version == "0.6.0").unwrap().digest.to_string();
    let lose_its_bytes = |home: &Path| {
        let blob = home.join("store/blobs").join(&digest[..2]).join(&digest);
        let blob =
            if blob.exists() { blob } else { home.join("store/blobs").join(&digest[..2]).join(&digest[2..]) };
        std::fs::remove_file(blob).unwrap();
    };
    let (kernel, _) = kernel.restart_after(lose_its_bytes, GenerationMode::Evolve).await;
    eventually("the seat returned", || state(&kernel, "0.6.0") == ReleaseState::Returned).await;
    assert_eq!(serving(&kernel).await, "0.1.0");
    assert!(kernel.kernel.quarantine().unwrap().is_empty());
}
