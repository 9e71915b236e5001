//! State carried over while messages flow: what served serves until the moment that decides, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Effect, Failure, Granting, InstallRequest, Limits, SwapError, Swapping};
use telos_store::{ReleaseState, Toward, Vote};
use telos_tests::{Disk, Sending, TestKernel, eventually, guest};

use super::counting::{Held, clones, counter, number, serving, set, state};

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
    let given_up = kernel.journal.lines("swap.given-up");
    assert_eq!((given_up.len(), &given_up[0].attributes["retired"]), (1, &json!(0)), "{given_up:?}");
    assert!(refused.next_step().unwrap().contains("--force"), "{refused:?}");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.3.0")), (json!("0.6.0"), ReleaseState::Staged));
    let how = Swapping { force: true, ..Swapping::default() };
    kernel.kernel.swap_so("counter", "0.3.0".into(), how).await.unwrap();
    assert_eq!(serving(&kernel).await, "0.3.0");
    let ended = dwelling.await.unwrap().unwrap_err();
    assert!(matches!(ended, Failure::Retired), "{ended}");
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 1, "nothing of it is left");
    let account = kernel.journal.lines("swap.account").pop().unwrap();
    assert_eq!(account.attributes["retired"], 1, "{account:?}");
    assert!(account.attributes["pause_us"].as_u64().unwrap() > 4_000_000, "it was closed while it dwelt");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_at_a_time_carries_a_components_state() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter"]).await);
    let object = clones(&kernel, 1).await.remove(0);
    kernel.install("counter-v3").await;
    kernel.install("tallier").await;
    let held = Held::at("kernel::closed");
    let first = {
        let kernel = Arc::clone(&kernel);
        tokio::spawn(async move { kernel.kernel.swap("counter", "0.8.0".into()).await })
    };
    held.reached().await;
    let second = kernel.kernel.swap("counter", "0.3.0".into());
    let second = tokio::time::timeout(Duration::from_secs(60), second).await;
    drop(held);
    let refused = second.expect("it is told at once").unwrap_err();
    assert!(matches!(refused, SwapError::Evolving(_)), "{refused}");
    assert_eq!((refused.effect(), refused.kind()), (Effect::None, "busy"));
    assert_eq!(first.await.unwrap().unwrap().version, "0.8.0");
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_another_change_left_are_nobodys_state() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let object = clones(&kernel, 1).await.remove(0);
    kernel.install("tallier").await;
    let mut unit = kernel.store.begin();
    for left in kernel.store.unevolved(&counter(), Toward::Up(2), None, 10).unwrap() {
        unit.put_shadow(left.id, left.position, 2, [("tally".to_owned(), number(999))].into()).unwrap();
    }
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_held_no_longer_than_their_bound() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter"]).await);
    let object = clones(&kernel, 1).await.remove(0);
    kernel.install("counter-v3").await;
    fail::cfg("kernel::held-time", "return").unwrap();
    let (changes, changed) = (Arc::clone(&kernel), object.clone());
    let change = move || {
        set(&changes, &changed, "count", 5);
        std::thread::sleep(Duration::from_millis(150));
    };
    fail::cfg_callback("kernel::closed", change).unwrap();
    let refused = kernel.kernel.swap("counter", "0.3.0".into()).await.unwrap_err();
    assert!(refused.to_string().contains("was not carried over within the 20 s"), "{refused}");
    assert!(refused.next_step().unwrap().contains("the next start carries it over"), "{refused:?}");
    assert_eq!(refused.effect(), Effect::None);
    assert_eq!(kernel.journal.lines("swap.given-up").len(), 1);
    fail::remove("kernel::held-time");
    fail::remove("kernel::closed");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.3.0")), (json!("0.1.0"), ReleaseState::Staged));
    assert_eq!(kernel.send(&object, "increment", Value::Null).await.unwrap(), 6);
    kernel.kernel.swap("counter", "0.3.0".into()).await.unwrap();
    assert_eq!(kernel.send(&object, "read", Value::Null).await.unwrap(), 6);
}

/// A disk that fails in the commit that decides, and how the change ended.
async fn failing_at_the_decision(
    fails_after: impl Fn(u64) -> u64,
) -> (TestKernel, Result<telos_kernel::Swapped, SwapError>) {
    let disk = Disk::default();
    let kernel = TestKernel::on_disk(&disk);
    kernel.install("counter").await;
    clones(&kernel, 2).await;
    kernel.install("tallier").await;
    let before = disk.syncs();
    kernel.send("counter", "increment", Value::Null).await.unwrap();
    let passing = fails_after(disk.syncs() - before);
    fail::cfg_callback("kernel::delta-carried", move || disk.fail_after(passing)).unwrap();
    let ended = kernel.kernel.swap("counter", "0.8.0".into()).await;
    fail::remove("kernel::delta-carried");
    (kernel, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_nobody_heard_of_is_told_as_it_was_made() {
    let (kernel, ended) = failing_at_the_decision(|syncs| syncs - 1).await;
    let swapped = ended.unwrap();
    assert_eq!((swapped.version.as_str(), swapped.previous.as_deref()), ("0.8.0", Some("0.1.0")));
    assert_eq!((serving(&kernel).await, state(&kernel, "0.8.0")), (json!("0.8.0"), ReleaseState::Probation));
    let decided =
        kernel.store.audit_after(0, 1_000).unwrap().into_iter().rfind(|row| row.kind == "plugin.activated");
    assert_eq!(decided.unwrap().position.get(), swapped.position);
    let accounts = kernel.journal.lines("swap.account");
    let is_its = |line: &&telos_kernel::seams::JournalLine| line.attributes["swap"] == swapped.position;
    assert_eq!(accounts.iter().filter(is_its).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_was_not_made_changes_nothing() {
    let (kernel, ended) = failing_at_the_decision(|_| 0).await;
    let refused = ended.unwrap_err();
    assert!(matches!(refused, SwapError::NotEvolved { effect: Effect::None, .. }), "{refused}");
    assert_eq!((serving(&kernel).await, state(&kernel, "0.8.0")), (json!("0.1.0"), ReleaseState::Staged));
    kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 1);
}
