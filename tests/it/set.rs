//! Sets: several seats change at once or not at all, and no tree sees one half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use telos_kernel::{Granting, InstallRequest, SetRequest, SwapError};
use telos_tests::{Disk, TestKernel, guest};

fn installing(guests: &[&str], grants: Granting) -> SetRequest {
    let build = |name: &&str| {
        let source = format!("{name}.wasm");
        (guest(name), InstallRequest { source, grants: grants.clone(), ..InstallRequest::default() })
    };
    SetRequest { install: guests.iter().map(build).collect(), ..SetRequest::default() }
}

fn swapping(to: &[(&str, &str)]) -> SetRequest {
    let to = to.iter().map(|(id, version)| ((*id).to_owned(), (*version).to_owned()));
    SetRequest { swap: to.collect(), ..SetRequest::default() }
}

#[tokio::test]
async fn a_set_installs_swaps_and_removes_in_one_commit() {
    let kernel = TestKernel::with_guests(&["counter", "trapper"]).await;
    kernel.send("counter", "increment", json!({"by": 4})).await.unwrap();
    let set =
        SetRequest { remove: vec!["trapper".into()], ..installing(&["counter-v2", "relay"], Granting::All) };
    let plan = kernel.kernel.plan_set(set.clone()).await.unwrap();
    assert!(plan.ok, "{plan:?}");
    let told: Vec<_> = plan
        .members
        .iter()
        .map(|member| (member.id.as_str(), member.action, member.from.as_deref(), member.to.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("counter", "install", Some("0.1.0"), Some("0.2.0")),
            ("relay", "install", None, Some("0.1.0")),
            ("trapper", "remove", Some("0.1.0"), None),
        ]
    );
    assert!(plan.members[1].examples.iter().all(|example| example.passed));
    assert_eq!(
        kernel.send("counter", "release", Value::Null).await.unwrap(),
        "0.1.0",
        "a plan changes nothing"
    );
    let applied = kernel.kernel.apply_set(set).await.unwrap();
    assert_eq!(applied.removed.len(), 1);
    let positions: Vec<_> = kernel
        .store
        .audit_between(0, u64::MAX, 100, |row| row.position.get() == applied.position)
        .unwrap()
        .into_iter()
        .map(|row| row.kind)
        .collect();
    assert_eq!(positions.len(), 3, "{positions:?}");
    let kernel = kernel.restart();
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.2.0");
    assert_eq!(kernel.send("counter", "read", Value::Null).await.unwrap(), 4);
    assert!(kernel.send("relay", "forward", json!({"to": "counter", "selector": "read"})).await.is_ok());
    assert!(kernel.send("trapper", "read", Value::Null).await.is_err());
}

#[tokio::test]
async fn a_set_with_one_member_that_cannot_serve_changes_nothing() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    for (guests, said, next) in [
        (
            ["counter-v2", "overreacher"],
            "overreacher: it needs a grant: inference",
            "telos plugin grant overreacher inference",
        ),
        (
            ["counter-v3", "relay"],
            "counter: its state must be carried from generation 1 to 2 first",
            "telos plugin swap counter 0.3.0",
        ),
    ] {
        let set = installing(&guests, Granting::Nothing);
        let plan = kernel.kernel.plan_set(set.clone()).await.unwrap();
        assert!(!plan.ok, "{plan:?}");
        let refused = kernel.kernel.apply_set(set).await.unwrap_err();
        assert!(matches!(refused, SwapError::SetMember { .. }), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(refused.next_step().unwrap().contains(next), "{refused:?}");
    }
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.1.0");
    assert_eq!(kernel.kernel.plugins().unwrap().len(), 1, "nothing of them is known");
}

#[tokio::test]
async fn a_set_says_what_is_wrong_with_it() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let twice = SetRequest { remove: vec!["counter".into()], ..swapping(&[("counter", "0.1.0")]) };
    let unknown_release = swapping(&[("counter", "9.9.9")]);
    let unknown = SetRequest { remove: vec!["nobody".into()], ..SetRequest::default() };
    for (set, said) in [
        (SetRequest::default(), "a set of 0 members"),
        (twice, "names `counter` twice"),
        (unknown_release, "`counter` has no release `9.9.9`"),
        (unknown, "no plugin is called `nobody`"),
    ] {
        let refused = kernel.kernel.apply_set(set).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let kept = kernel.kernel.apply_set(swapping(&[("counter", "0.1.0")])).await.unwrap();
    assert!(kept.serving[0].is_unchanged);
}

/// Random trees across three components, while sets move two of them from one pair of versions to the other.
#[tokio::test(flavor = "multi_thread")]
async fn no_tree_sees_one_half_of_a_set_and_no_count_is_lost() {
    let kernel = Arc::new(TestKernel::with_guests(&["relay", "counter", "twin"]).await);
    kernel.kernel.apply_set(installing(&["counter-v2", "twin-v2"], Granting::All)).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..6_u64)
        .map(|seed| {
            let (kernel, is_done) = (Arc::clone(&kernel), Arc::clone(&is_done));
            tokio::spawn(async move {
                let (mut counted, mut round) = (0_u64, seed);
                while !is_done.load(Ordering::Relaxed) || round == seed {
                    counted += ask(&kernel, round).await;
                    round += 6;
                }
                counted
            })
        })
        .collect();
    for round in 0..60 {
        let version = ["0.1.0", "0.2.0"][round % 2];
        kernel.kernel.apply_set(swapping(&[("counter", version), ("twin", version)])).await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    let mut counted = 0;
    for asker in askers {
        counted += asker.await.unwrap();
    }
    assert_eq!(kernel.send("twin", "asked", Value::Null).await.unwrap(), counted);
}

/// One tree, whose shape its number decides; answers how much it counted.
async fn ask(kernel: &TestKernel, round: u64) -> u64 {
    let asked = json!({"to": "counter", "times": round % 4 + 1});
    let (selector, counted) = if round.is_multiple_of(3) { ("both", 0) } else { ("both_and_count", 1) };
    let answer = match round % 2 {
        0 => kernel.send("twin", selector, asked).await,
        _ => {
            let forwarded = json!({"to": "twin", "selector": selector, "arguments": asked});
            kernel.send("relay", "forward", forwarded).await
        }
    };
    let releases = answer.unwrap();
    let releases = releases.as_array().unwrap();
    assert!(releases.iter().all(|release| release == &releases[0]), "a mixed set: {releases:?}");
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_commit_fails_serves_as_before() {
    let disk = Disk::default();
    let kernel = TestKernel::on_disk(&disk);
    kernel.install("counter").await;
    kernel.install("counter-v2").await;
    kernel.install("trapper").await;
    disk.hold();
    let set = SetRequest { remove: vec!["trapper".into()], ..swapping(&[("counter", "0.1.0")]) };
    let handle = kernel.kernel.clone();
    let applying = tokio::spawn(async move { handle.apply_set(set).await });
    telos_tests::eventually("the set waits for its sync", || disk.is_waited_for()).await;
    disk.fail_once();
    let failed = applying.await.unwrap();
    // Nobody knows whether a sync that failed took effect; what serves agrees with what is stored in any case.
    let release = kernel.send("counter", "release", Value::Null).await.unwrap();
    let has_trapper = kernel.send("trapper", "read", Value::Null).await.is_ok();
    assert_eq!(release == "0.2.0", has_trapper, "{failed:?}");
}
