//! Install, swap, rollback, remove: what served serves on, and nothing is mixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use telos_kernel::{Failure, Granting, InstallRequest};
use telos_store::{ComponentId, MethodSlot, ObjectName, Slot, StoreOptions, Vote};
use telos_tests::{TestKernel, guest};

#[tokio::test]
async fn a_swap_keeps_state_and_a_rollback_brings_the_old_release_back() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.send("counter", "increment", Value::Null).await.unwrap();
    let swapped = kernel.install("counter-v2").await;
    assert_eq!((swapped.version.as_str(), swapped.previous.as_deref()), ("0.2.0", Some("0.1.0")));
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.2.0");
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 2);
    assert_eq!(kernel.kernel.rollback("counter").await.unwrap().version, "0.1.0");
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.1.0");
    assert_eq!(kernel.kernel.swap("counter", "0.2.0".into()).await.unwrap().version, "0.2.0");
    let kernel = kernel.restart();
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.2.0");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_lose_and_repeat_nothing() {
    let kernel = Arc::new(TestKernel::with_guests(&["counter"]).await);
    kernel.install("counter-v2").await;
    let is_done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (kernel, is_done) = (Arc::clone(&kernel), Arc::clone(&is_done));
            tokio::spawn(async move {
                let mut sent = 0;
                while !is_done.load(Ordering::Relaxed) {
                    kernel.send("counter", "increment", Value::Null).await.unwrap();
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for round in 0..20 {
        let version = if round % 2 == 0 { "0.1.0" } else { "0.2.0" };
        kernel.kernel.swap("counter", version.into()).await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    let mut sent = 0_u64;
    for sender in senders {
        sent += sender.await.unwrap();
    }
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tree_sees_two_releases_whether_it_reads_or_writes() {
    let kernel = Arc::new(TestKernel::with_guests(&["relay", "counter"]).await);
    kernel.install("counter-v2").await;
    let is_done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = ["ask_twice", "ask_twice", "ask_twice_and_count", "ask_twice_and_count"]
        .into_iter()
        .map(|selector| {
            let (kernel, is_done) = (Arc::clone(&kernel), Arc::clone(&is_done));
            tokio::spawn(async move {
                let mut asked = 0;
                while !is_done.load(Ordering::Relaxed) || asked == 0 {
                    let about = json!({"to": "counter", "selector": "release"});
                    assert_eq!(kernel.send("relay", selector, about).await.unwrap(), true, "{selector}");
                    asked += 1;
                }
            })
        })
        .collect();
    for round in 0..40 {
        let version = if round % 2 == 0 { "0.1.0" } else { "0.2.0" };
        kernel.kernel.swap("counter", version.into()).await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_plugin_keeps_its_data_and_can_come_back() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.send("counter", "increment", json!({"by": 9})).await.unwrap();
    kernel.kernel.remove("counter").await.unwrap();
    let refused = kernel.send("counter", "read", Value::Null).await.unwrap_err();
    assert!(matches!(refused, Failure::NotUnderstood { .. }), "{refused}");
    kernel.install("counter").await;
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 9);
}

#[tokio::test]
async fn what_is_no_release_is_refused_in_one_sentence_and_what_served_serves() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let truncated = guest("counter-v2")[..4_000].to_vec();
    let core = b"\0asm\x01\0\0\0".to_vec();
    for (bytes, said) in [
        (Vec::new(), "an empty file"),
        (b"hello".to_vec(), "some other kind of file"),
        (core, "a core WebAssembly module"),
        (truncated, "does not compile"),
    ] {
        let request = InstallRequest { source: "candidate.wasm".into(), ..InstallRequest::default() };
        let refused = kernel.kernel.install(bytes, request).await.unwrap_err().to_string();
        assert!(refused.starts_with("candidate.wasm was refused") && refused.contains(said), "{refused}");
    }
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn a_manifest_that_names_another_component_is_refused() {
    let kernel = TestKernel::new();
    let request = InstallRequest {
        source: "x.wasm".into(),
        manifest_id: Some("timer".into()),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    let refused = kernel.kernel.install(guest("counter"), request).await.unwrap_err().to_string();
    assert!(refused.contains("manifest says `timer`, the component says `counter`"), "{refused}");
}

#[tokio::test]
async fn every_change_is_an_audit_row() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.install("counter-v2").await;
    kernel.kernel.rollback("counter").await.unwrap();
    kernel.kernel.remove("counter").await.unwrap();
    let rows = kernel.store.audit_after(0, 100).unwrap();
    let kinds: Vec<_> = rows.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["plugin.installed", "plugin.installed", "plugin.rolled-back", "plugin.removed"]);
    assert!(rows.windows(2).all(|pair| pair[0].number < pair[1].number));
}

#[tokio::test]
async fn a_name_that_belongs_to_someone_else_is_not_taken() {
    let kernel = TestKernel::new();
    kernel.kernel.new_object("counter", &[]).await.unwrap();
    let refused = kernel.try_install("counter", Granting::All).await.unwrap_err().to_string();
    assert!(refused.contains("the name `counter` belongs to an object of `operator`"), "{refused}");
}

#[tokio::test]
async fn a_refused_install_leaves_no_bytes_behind() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let before = kernel.store.usage().blob_bytes;
    kernel.kernel.new_object("relay", &[]).await.unwrap();
    let taken = kernel.try_install("relay", Granting::All).await.unwrap_err();
    assert!(taken.to_string().contains("relay"), "{taken}");
    kernel.try_install("trapper", Granting::These(vec!["teleport".into()])).await.unwrap_err();
    let manifest = InstallRequest { manifest_id: Some("other".into()), ..InstallRequest::default() };
    kernel.kernel.install(guest("spinner"), manifest).await.unwrap_err();
    assert_eq!(kernel.store.usage().blob_bytes, before);
    kernel.install("spinner").await;
    assert!(kernel.store.usage().blob_bytes > before);
}

/// What only the deciding commit finds out.
#[tokio::test]
async fn an_install_that_its_commit_refuses_takes_its_bytes_back() {
    let options = StoreOptions { database_bytes_max: 0, ..StoreOptions::default() };
    let kernel = TestKernel::with_options(options);
    let refused = kernel.try_install("counter", Granting::All).await.unwrap_err();
    assert!(refused.to_string().contains("database_bytes_max"), "{refused}");
    assert_eq!(kernel.store.usage().blob_bytes, 0);
}

#[tokio::test]
async fn a_release_that_a_stored_slot_does_not_take_is_refused_by_the_slots_name() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let mut unit = kernel.store.begin();
    let object = unit.create(ComponentId::operator(), 1, Vec::new()).unwrap();
    unit.bind(&ObjectName::new("mine").unwrap(), object).unwrap();
    let method = MethodSlot {
        component: ComponentId::new("counter").unwrap(),
        requirement: "^0.1".into(),
        selector: "read".into(),
    };
    unit.set_slot(object, "count", Slot::Method(method)).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    let refused = kernel.try_install("counter-v2", Granting::All).await.unwrap_err();
    assert_eq!(refused.to_string(), "counter 0.2.0 was not let serve: slot `count` of `mine` requires ^0.1");
    assert!(refused.next_step().is_some());
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.1.0");
    let mut unit = kernel.store.begin();
    unit.remove_slot(object, "count").unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    kernel.install("counter-v2").await;
}

#[tokio::test]
async fn every_change_of_seats_has_an_account_of_what_it_did_to_messages() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let first = kernel.journal.lines("swap.account");
    let swapped = kernel.install("counter-v2").await;
    kernel.kernel.remove("counter").await.unwrap();
    let accounts = kernel.journal.lines("swap.account");
    let [_, swap, removal] = &accounts[..] else { panic!("three changes: {accounts:?}") };
    let seat = |line: &telos_kernel::seams::JournalLine| line.attributes["seats"][0].clone();
    assert_eq!(swap.attributes["swap"], swapped.position);
    assert_eq!(seat(swap)["digest"], swapped.digest.to_string());
    assert_eq!(seat(swap)["parent"], seat(&first[0])["digest"]);
    assert_eq!((&seat(removal)["digest"], &seat(removal)["parent"]), (&Value::Null, &seat(swap)["digest"]));
    for (attribute, expected) in [("drained", 0), ("retired", 0), ("retried", 0), ("lost", 0)] {
        assert_eq!(swap.attributes[attribute], expected, "{attribute}");
    }
}
