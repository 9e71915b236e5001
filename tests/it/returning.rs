//! Seats that go back to a release of an earlier generation: the state is carried back, or nobody serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{
    EvolutionOutcome, Failure, GenerationMode, Granting, InstallRequest, ProbationTerms, SetRequest,
    SwapError, Swapping,
};
use telos_store::{ComponentId, ObjectName, ReleaseState, Vote};
use telos_tests::{TestKernel, eventually, guest};

use super::counting::{Held, clones, counter, serving, set, state};

/// Permanent with the first message that it answers.
const SHORT: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: 1, strikes: 3, window: Duration::from_secs(60) };
/// Never permanent.
const LONG: ProbationTerms = ProbationTerms { messages: u64::MAX, ..SHORT };

fn in_force(kernel: &TestKernel) -> Option<u32> {
    kernel.store.generation(&counter()).unwrap().map(|record| record.generation)
}

async fn increment(kernel: &TestKernel, object: &str, by: u64) -> Result<Value, Failure> {
    kernel.send(object, "increment", json!({ "by": by })).await
}

async fn reads(kernel: &TestKernel, object: &str) -> Value {
    kernel.send(object, "read", Value::Null).await.unwrap()
}

/// Why the counter is where it is, which is told right after it is decided.
async fn cause(kernel: &TestKernel) -> String {
    let cause = || kernel.kernel.plugin("counter").unwrap()["cause"].as_str().unwrap_or_default().to_owned();
    eventually("why is told", || !cause().is_empty()).await;
    cause()
}

/// A kernel whose counter 0.1.0 is permanent, and clones of it that have counted to 1.
async fn with_clones(count: usize) -> (TestKernel, Vec<String>) {
    let kernel = TestKernel::on_terms(SHORT);
    kernel.install("counter").await;
    let clones = clones(&kernel, count).await;
    eventually("0.1.0 is permanent", || state(&kernel, "0.1.0") == ReleaseState::Permanent).await;
    (kernel.restart_on_terms(LONG), clones)
}

/// The same, with the tallier in the seat, on probation.
async fn with_tallier(count: usize) -> (TestKernel, Vec<String>) {
    let (kernel, clones) = with_clones(count).await;
    kernel.install("tallier").await;
    kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.8.0"), Some(2)));
    assert_eq!(state(&kernel, "0.8.0"), ReleaseState::Probation);
    (kernel, clones)
}

async fn burn(kernel: &TestKernel, object: &str, ends_as: ReleaseState) {
    for by in [100, 101, 102] {
        assert!(matches!(increment(kernel, object, by).await, Err(Failure::Broken { .. })));
    }
    eventually("it lost its seat", || state(kernel, "0.8.0") == ends_as).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burnt_release_carries_its_state_back_and_nothing_it_counted_is_lost() {
    let (kernel, clones) = with_tallier(40).await;
    for (by, clone) in (1..).zip(&clones) {
        increment(&kernel, clone, by).await.unwrap();
    }
    burn(&kernel, &clones[3], ReleaseState::Quarantined).await;
    for (by, clone) in (1..).zip(&clones) {
        assert_eq!(reads(&kernel, clone).await, 1 + by);
    }
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.1.0"), Some(1)));
    assert_eq!(increment(&kernel, &clones[3], 100).await.unwrap(), 105);
    let cause = cause(&kernel).await;
    assert!(cause.starts_with("0.8.0 gave its seat back to 0.1.0: 3 distinct messages"), "{cause}");
    let kernel = kernel.restart();
    assert!(kernel.store.verify_open().unwrap().is_clean());
    assert_eq!((serving(&kernel).await, reads(&kernel, &clones[3]).await), (json!("0.1.0"), json!(105)));
    let rows = kernel.store.audit_after(0, 1_000).unwrap();
    let returned = rows.iter().find(|row| row.kind == "plugin.returned").unwrap();
    let lowered = rows.iter().find(|row| row.kind == "generation.lowered").unwrap();
    assert_eq!(returned.position, lowered.position, "one commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_may_come_again_when_its_quarantine_is_lifted() {
    let (kernel, clones) = with_tallier(3).await;
    burn(&kernel, &clones[0], ReleaseState::Quarantined).await;
    let digest = kernel.kernel.quarantine().unwrap()[0].digest.to_string();
    kernel.kernel.lift_quarantine("counter", digest).await.unwrap();
    for round in 0..3 {
        kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
        assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.8.0"), Some(2)));
        assert_eq!(increment(&kernel, &clones[1], 1).await.unwrap(), 2 + 2 * round);
        let back = kernel.kernel.rollback("counter").await.unwrap();
        assert_eq!((back.version.as_str(), in_force(&kernel)), ("0.1.0", Some(1)));
        assert_eq!(increment(&kernel, &clones[1], 1).await.unwrap(), 3 + 2 * round);
    }
    let forth = kernel.kernel.rollback("counter").await.unwrap();
    assert_eq!((forth.version.as_str(), in_force(&kernel)), ("0.8.0", Some(2)), "back to what served before");
    let set = SetRequest { swap: vec![("counter".into(), "0.1.0".into())], ..SetRequest::default() };
    let refused = kernel.kernel.apply_set(set).await.unwrap_err();
    assert!(refused.next_step().unwrap().contains("`telos plugin swap counter 0.1.0`"), "{refused:?}");
    assert!(kernel.store.verify_open().unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_carried_back_parks_the_seat_and_says_which_object() {
    let (kernel, clones) = with_tallier(3).await;
    set(&kernel, &clones[2], "tally", 1 << 40);
    burn(&kernel, &clones[0], ReleaseState::Parked).await;
    let refused = increment(&kernel, &clones[0], 1).await.unwrap_err();
    assert!(matches!(refused, Failure::NotServing { .. }), "{refused}");
    let cause = cause(&kernel).await;
    assert!(cause.contains("too far") && cause.contains(&clones[2]), "{cause}");
    let kernel = kernel.restart();
    assert!(increment(&kernel, &clones[0], 1).await.is_err(), "a start does not bring it back");
    assert_eq!(in_force(&kernel), Some(2));
    let refused = kernel.kernel.swap("counter", "0.1.0".into()).await.unwrap_err();
    assert!(matches!(refused, SwapError::Outdated { .. }), "nobody serves who could carry it: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_said_that_there_is_no_return_gets_none() {
    let (kernel, clones) = with_clones(2).await;
    kernel.install("tallier").await;
    let how = Swapping { no_return: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.8.0".into(), how).await.unwrap();
    burn(&kernel, &clones[0], ReleaseState::Parked).await;
    assert_eq!(in_force(&kernel), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_raises_state_looks_for_the_way_back_first() {
    for (guest, version, has_way_back) in [("tallier", "0.8.0", true), ("counter-v4", "0.4.0", false)] {
        let (kernel, _) = with_clones(2).await;
        kernel.install(guest).await;
        let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
        assert_eq!(serving(&kernel).await, version);
        let seats = kernel.store.seats().unwrap();
        let seat = seats.iter().find(|seat| seat.component == counter()).unwrap();
        assert_eq!(seat.returns_to.is_some(), has_way_back, "{guest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_goes_back_without_a_way_is_told_so_and_the_later_release_serves_on() {
    let (kernel, clones) = with_clones(2).await;
    kernel.install("counter-v4").await;
    let how = Swapping { no_return: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.4.0".into(), how).await.unwrap();
    let refused = kernel.kernel.rollback("counter").await.unwrap_err();
    assert!(matches!(refused, SwapError::NotEvolved { .. }), "{refused}");
    assert!(refused.to_string().contains("it knows no way between these generations"), "{refused}");
    assert!(refused.next_step().unwrap().contains("0.4.0 serves on"), "{refused:?}");
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.4.0"), Some(3)));
    assert_eq!(reads(&kernel, &clones[0]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_returns_under_load_loses_no_count() {
    let (kernel, clones) = with_tallier(200).await;
    let (kernel, clones) = (Arc::new(kernel), Arc::new(clones));
    let (is_done, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..6_usize)
        .map(|sender| {
            let (kernel, clones) = (Arc::clone(&kernel), Arc::clone(&clones));
            let (is_done, counted) = (Arc::clone(&is_done), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut round = sender;
                while !is_done.load(Ordering::Relaxed) {
                    increment(&kernel, &clones[round * 7 % clones.len()], 1).await.unwrap();
                    counted.fetch_add(1, Ordering::Relaxed);
                    round += 6;
                }
            })
        })
        .collect();
    eventually("messages flow", || counted.load(Ordering::Relaxed) > 50).await;
    burn(&kernel, &clones[0], ReleaseState::Quarantined).await;
    let at_return = counted.load(Ordering::Relaxed);
    eventually("messages flow on", || counted.load(Ordering::Relaxed) > at_return + 50).await;
    is_done.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let mut sum = 0;
    for clone in clones.iter() {
        sum += reads(&kernel, clone).await.as_u64().unwrap();
    }
    assert_eq!(sum, 200 + counted.load(Ordering::Relaxed));
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.1.0"), Some(1)));
}

/// A component whose three later releases were burnt one after another.
async fn with_three_fallen() -> TestKernel {
    let (kernel, clones) = with_clones(1).await;
    for (guest, version) in [("stumbler", "0.6.0"), ("restumbler", "0.7.0"), ("tallier", "0.8.0")] {
        kernel.install(guest).await;
        kernel.kernel.swap("counter", version.into()).await.unwrap();
        for by in [100, 101, 102] {
            assert!(matches!(increment(&kernel, &clones[0], by).await, Err(Failure::Broken { .. })));
        }
        eventually("it lost its seat", || state(&kernel, version) == ReleaseState::Quarantined).await;
    }
    kernel
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_falls_what_arrives_by_itself_waits_and_what_somebody_asks_for_does_not() {
    let kernel = with_three_fallen().await;
    let arrival = || InstallRequest {
        source: "plugins/counter.wasm".into(),
        consumed: Some("plugins/counter.wasm".into()),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    let waits = kernel.kernel.install(guest("counter-v2"), arrival()).await.unwrap_err();
    assert!(matches!(waits, SwapError::RestartsSpent { fallen: 3, .. }), "{waits}");
    assert!(
        waits.to_string().starts_with("counter 0.2.0 waits: 3 releases of counter lost their seat"),
        "{waits}"
    );
    assert!(waits.next_step().unwrap().contains("telos plugin install"));
    assert!(!waits.is_of_the_bytes(), "it is tried again");
    let kernel = kernel.restart();
    assert!(
        kernel.kernel.install(guest("counter-v2"), arrival()).await.is_err(),
        "a start gives no new budget"
    );
    assert_eq!(kernel.install("counter-v2").await.state, "serving", "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_is_lifted_gives_its_share_of_the_budget_back() {
    let kernel = with_three_fallen().await;
    let fallen = kernel.kernel.quarantine().unwrap();
    assert_eq!(fallen.len(), 3);
    kernel.kernel.lift_quarantine("counter", fallen[0].digest.to_string()).await.unwrap();
    let arrival = InstallRequest {
        source: "plugins/counter.wasm".into(),
        consumed: Some("plugins/counter.wasm".into()),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    let installed = kernel.kernel.install(guest("counter-v2"), arrival).await.unwrap();
    assert_eq!(installed.state, "serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_must_know_the_way_to_whom_its_seat_would_return() {
    let (kernel, clones) = with_tallier(2).await;
    kernel.install("halfway").await;
    let refused = kernel.kernel.swap("counter", "0.9.0".into()).await.unwrap_err();
    assert!(matches!(refused, SwapError::NoWayBack { from: 1, to: 3, .. }), "{refused}");
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.8.0"), Some(2)));
    let how = Swapping { no_return: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.9.0".into(), how).await.unwrap();
    assert_eq!((in_force(&kernel), reads(&kernel, &clones[0]).await), (Some(3), json!(1)));
    assert_eq!(kernel.kernel.rollback("counter").await.unwrap().version, "0.8.0", "it knows that way");
    assert_eq!((in_force(&kernel), reads(&kernel, &clones[0]).await), (Some(2), json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_objects_is_asked_for_the_way_back_all_the_same() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let mut unit = kernel.store.begin();
    let name = ObjectName::new("counter").unwrap();
    let root = unit.find(&name).unwrap().unwrap();
    unit.set_owner_generation(root, ComponentId::operator(), 1).unwrap();
    unit.unbind(&name).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    kernel.install("counter-v4").await;
    let refused = kernel.kernel.swap("counter", "0.4.0".into()).await.unwrap_err();
    assert!(matches!(refused, SwapError::NoWayBack { from: 1, to: 3, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_try_the_way_back_now_leaves_it_to_the_next() {
    let (kernel, _) = with_clones(2).await;
    kernel.install("tallier").await;
    fail::cfg("kernel::carry-call", "1*return(no slot is free, on purpose)->off").unwrap();
    let (kernel, evolutions) = kernel.restart_raising(GenerationMode::Evolve).await;
    let EvolutionOutcome::Hindered(cause) = &evolutions[0].outcome else { panic!("{evolutions:?}") };
    assert!(cause.contains("no slot is free, on purpose"), "{cause}");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.8.0")), (json!("0.1.0"), ReleaseState::Staged));
    let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(serving(&kernel).await, "0.8.0");
    let seat = kernel.store.seats().unwrap().remove(0);
    assert!(seat.returns_to.is_some(), "it has a way back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_object_that_lost_its_name_is_made_anew_by_whoever_goes_back() {
    let (kernel, clones) = with_tallier(1).await;
    let mut unit = kernel.store.begin();
    unit.unbind(&ObjectName::new("counter").unwrap()).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    kernel.kernel.rollback("counter").await.unwrap();
    assert_eq!((serving(&kernel).await, reads(&kernel, &clones[0]).await), (json!("0.1.0"), json!(1)));
    let root = kernel.kernel.object("counter").unwrap();
    assert_eq!(root["generation"], 1);
}

/// Breaks the trapper, which has nothing to return to, until it is parked.
async fn park_trapper(kernel: &TestKernel) {
    for breaking in ["panic", "trap", "overflow"] {
        assert!(kernel.send("trapper", breaking, Value::Null).await.is_err());
    }
    let trapper = ComponentId::new("trapper").unwrap();
    let is_parked = || kernel.store.releases(Some(&trapper)).unwrap()[0].state == ReleaseState::Parked;
    eventually("the trapper is parked", is_parked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_host_wants_for_is_not_blamed_on_a_release() {
    let (kernel, clones) = with_clones(1).await;
    kernel.install("tallier").await;
    kernel.install("trapper").await;
    kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
    fail::cfg("kernel::carry-call", "return(no slot is free, on purpose)").unwrap();
    for by in [100, 101, 102] {
        assert!(matches!(increment(&kernel, &clones[0], by).await, Err(Failure::Broken { .. })));
    }
    // Whoever watches takes one after the other.
    park_trapper(&kernel).await;
    fail::remove("kernel::carry-call");
    assert_eq!(state(&kernel, "0.8.0"), ReleaseState::Probation);
    assert!(kernel.journal.lines("plugin.probation-undecided").is_empty());
    burn(&kernel, &clones[0], ReleaseState::Quarantined).await;
    assert_eq!((serving(&kernel).await, in_force(&kernel)), (json!("0.1.0"), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_takes_long_to_return_holds_no_other_up() {
    let (kernel, clones) = with_tallier(2).await;
    kernel.install("trapper").await;
    let held = Held::at("kernel::carrying");
    for by in [100, 101, 102] {
        assert!(matches!(increment(&kernel, &clones[0], by).await, Err(Failure::Broken { .. })));
    }
    held.reached().await;
    park_trapper(&kernel).await;
    assert_eq!(
        (serving(&kernel).await, increment(&kernel, &clones[1], 1).await.unwrap()),
        (json!("0.8.0"), json!(2))
    );
    drop(held);
    eventually("it lost its seat", || state(&kernel, "0.8.0") == ReleaseState::Quarantined).await;
    assert_eq!((serving(&kernel).await, reads(&kernel, &clones[1]).await), (json!("0.1.0"), json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_while_its_state_is_carried_back_stays_removed() {
    let (kernel, clones) = with_tallier(2).await;
    let held = Held::at("kernel::carrying");
    for by in [100, 101, 102] {
        assert!(matches!(increment(&kernel, &clones[0], by).await, Err(Failure::Broken { .. })));
    }
    held.reached().await;
    kernel.kernel.remove("counter").await.unwrap();
    drop(held);
    kernel.install("trapper").await;
    // Whoever watches takes one after the other.
    park_trapper(&kernel).await;
    assert!(kernel.store.seats().unwrap().iter().all(|seat| seat.component != counter()));
    assert_eq!(in_force(&kernel), Some(2), "its objects are as they were");
    let kernel = kernel.restart();
    assert!(increment(&kernel, &clones[0], 1).await.is_err());
    assert!(kernel.store.verify_open().unwrap().is_clean());
    assert!(kernel.kernel.plugins().unwrap().iter().all(|plugin| plugin["state"] != "serving"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_quarantine_fails_its_check_until_it_is_lifted() {
    let (kernel, clones) = with_tallier(1).await;
    burn(&kernel, &clones[0], ReleaseState::Quarantined).await;
    let check = || kernel.kernel.check(guest("tallier"), InstallRequest::default());
    let refused = check().await.unwrap_err();
    assert!(matches!(refused, SwapError::Quarantined { .. }), "{refused}");
    assert!(refused.next_step().unwrap().contains("telos plugin quarantine lift counter"), "{refused:?}");
    let digest = kernel.kernel.quarantine().unwrap()[0].digest.to_string();
    kernel.kernel.lift_quarantine("counter", digest).await.unwrap();
    assert!(check().await.unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_takes_too_long_to_return_is_parked() {
    let (kernel, clones) = with_tallier(2).await;
    fail::cfg("kernel::return-time", "return").unwrap();
    burn(&kernel, &clones[0], ReleaseState::Parked).await;
    let cause = cause(&kernel).await;
    assert!(cause.contains("its objects were not carried over in time"), "{cause}");
    assert!(kernel.store.verify_open().unwrap().is_clean());
}
