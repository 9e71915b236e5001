//! Guests that misbehave: the host lives, the sender learns why, everyone else is served.

mod calls;
mod evolve;
mod liar;
mod made;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::seams::MindError;
use telos_kernel::{Breakage, Failure, Fault, Granting};
use telos_tests::{ScriptedMinds, Sending, TestKernel};

async fn breakage(kernel: &TestKernel, guest: &str, selector: &str) -> Breakage {
    let sending = Sending { within: Some(Duration::from_secs(60)), ..Sending::default() };
    let failure = kernel.send_as(guest, selector, Value::Null, sending).await.unwrap_err();
    assert_eq!(failure.fault(), Fault::Guest, "{failure}");
    let incident = failure.incident().unwrap();
    let told = kernel.journal.lines("message.broken");
    assert!(told.iter().any(|line| line.attributes["incident"] == incident), "the journal has the incident");
    match failure {
        Failure::Broken { breakage, .. } => *breakage,
        other => panic!("{other}"),
    }
}

/// Nobody else noticed anything: the counter counts on, no instance is left, and there is room for as many as ever.
async fn assert_unharmed(kernel: &TestKernel) {
    let count = || async { kernel.send("counter", "read", Value::Null).await.unwrap().as_u64().unwrap() };
    let before = count().await;
    let counting: Vec<_> = (0..100).map(|_| kernel.line_up("counter", "increment", Value::Null)).collect();
    for counted in counting {
        counted.answer().await.unwrap();
    }
    assert_eq!(count().await, before + 100);
    for used in kernel.kernel.usage() {
        assert_eq!(used["usage"]["running"], 0, "{used}");
    }
}

/// Resident memory of this process, MiB.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test]
async fn a_spinner_is_ended_by_its_cpu_limit() {
    let kernel = TestKernel::with_guests(&["spinner"]).await;
    assert_eq!(breakage(&kernel, "spinner", "spin").await, Breakage::Cpu { allowed_ms: 1_000 });
    assert!(kernel.send("spinner", "ping", Value::Null).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_that_others_have_is_not_counted_against_a_guest() {
    let kernel = TestKernel::with_guests(&["spinner"]).await;
    let cpu_us = || kernel.kernel.usage()[0]["usage"]["cpu_us"].as_u64().unwrap();
    let turn = |turns: u64| kernel.send_as("spinner", "turn", json!({ "turns": turns }), minute());
    // As many turns as take some 300 ms of the guest's CPU on this machine; it may have 1,000.
    turn(20_000_000).await.unwrap();
    let turns = 20_000_000 * 300_000 / cpu_us().max(1);
    let hogs = Hogs::start(16);
    turn(turns).await.unwrap();
    drop(hogs);
}

/// Threads that want all of the processor until they are dropped.
struct Hogs(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Hogs {
    fn start(threads: usize) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let hog = |_| {
            let is_done = Arc::clone(&is_done);
            std::thread::spawn(move || while !is_done.load(Ordering::Relaxed) {})
        };
        let hogs = (0..threads).map(hog).collect();
        Self(is_done, hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|hog| drop(hog.join()));
    }
}

fn minute() -> Sending {
    Sending { within: Some(Duration::from_secs(60)), ..Sending::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn spinners_on_every_thread_do_not_stop_the_others() {
    let kernel = std::sync::Arc::new(TestKernel::with_guests(&["spinner", "counter"]).await);
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let kernel = std::sync::Arc::clone(&kernel);
            tokio::spawn(async move { kernel.send("spinner", "spin", Value::Null).await })
        })
        .collect();
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 1);
    for spinner in spinning {
        assert!(spinner.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_hoarder_is_ended_by_its_memory_limit() {
    let kernel = TestKernel::with_guests(&["hoarder"]).await;
    assert_eq!(breakage(&kernel, "hoarder", "hoard").await, Breakage::Memory { allowed_mib: 64 });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hoarders_had_is_given_back() {
    let kernel = TestKernel::with_guests(&["hoarder", "counter"]).await;
    breakage(&kernel, "hoarder", "hoard").await;
    let before = resident_mib();
    for _ in 0..20 {
        breakage(&kernel, "hoarder", "hoard").await;
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 100, "twenty times 64 MiB left {grown} MiB");
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn a_trapper_leaves_no_write_and_its_last_words() {
    let kernel = TestKernel::with_guests(&["trapper"]).await;
    let Breakage::Trap(words) = breakage(&kernel, "trapper", "panic").await else { panic!("not a trap") };
    assert!(words.contains("the trapper panics on purpose"), "{words}");
    assert!(matches!(breakage(&kernel, "trapper", "trap").await, Breakage::Trap(_)));
    assert!(matches!(breakage(&kernel, "trapper", "overflow").await, Breakage::Trap(_)));
    assert_eq!(kernel.send("trapper", "read", Value::Null).await.unwrap(), false);
}

#[tokio::test]
async fn a_ponderer_that_never_says_what_it_is_is_refused_for_good() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let refused = kernel.try_install("ponderer", Granting::All).await.unwrap_err();
    assert!(refused.to_string().contains("its describe() used up its 100000000 units of fuel"), "{refused}");
    assert!(refused.is_of_the_bytes(), "it ran out of fuel, however busy this machine is: {refused}");
    assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), 1);
}

#[tokio::test]
async fn an_overreacher_waits_for_its_grant_and_is_denied_without_it() {
    let kernel = TestKernel::new();
    let staged = kernel.try_install("overreacher", Granting::Nothing).await.unwrap();
    assert_eq!((staged.state.as_ref(), staged.missing_grants), ("staged", vec!["inference".to_owned()]));
    let refused = kernel.send("overreacher", "think", Value::Null).await.unwrap_err();
    assert_eq!(refused.to_string(), "no object is called `overreacher`");
    let serving = kernel.kernel.grant("overreacher", vec!["inference".to_owned()]).await.unwrap().unwrap();
    assert_eq!(serving.state, "serving");
    let with_grant = kernel.send("overreacher", "think", json!({})).await;
    kernel.kernel.revoke("overreacher", vec!["inference".to_owned()]).await.unwrap();
    let without = kernel.send("overreacher", "think", json!({})).await;
    assert!(
        format!("{without:?}").contains("denied") || format!("{without:?}").contains("granted"),
        "{without:?}"
    );
    assert_ne!(format!("{with_grant:?}"), format!("{without:?}"), "revoking counts from the next message");
}

#[tokio::test]
async fn an_overreacher_gets_hold_of_nothing() {
    let kernel = TestKernel::with_guests(&["overreacher"]).await;
    assert_eq!(kernel.send("overreacher", "reach", Value::Null).await.unwrap(), json!([]));
}

#[tokio::test]
async fn a_flood_of_prints_is_bounded() {
    const KEPT: usize = 8 << 10;
    let kernel = TestKernel::with_guests(&["trapper"]).await;
    assert_eq!(kernel.send("trapper", "flood", Value::Null).await.unwrap(), true);
    let printed = kernel.journal.lines("plugin.output");
    assert_eq!(printed.len(), 1);
    assert_eq!(printed[0].plugin.as_deref(), Some("trapper"));
    assert!(printed[0].body.len() <= KEPT && printed[0].body.starts_with("000"), "{}", printed[0].body.len());
    assert_eq!(printed[0].attributes["dropped_bytes"], 1_000 * 100 - KEPT);
}

#[tokio::test]
async fn a_host_failure_that_a_plugin_called_for_counts_against_its_own_lines() {
    let minds = ScriptedMinds::new(|_| async { Err(MindError::Failed("out of memory".into())) });
    let kernel = TestKernel::with_minds(minds);
    kernel.install("overreacher").await;
    kernel.send("overreacher", "think", json!({})).await.unwrap_err();
    let said = kernel.journal.lines("hostcall.failed");
    assert_eq!((said.len(), said[0].plugin.as_deref()), (1, Some("overreacher")));
}
