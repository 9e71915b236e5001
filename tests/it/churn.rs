//! Many changes of seats under load: swaps, sets, state carried there and back, and seats that return by themselves.
//! Nothing is lost or done twice, order is kept, and what was retired is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::seams::JournalLine;
use telos_kernel::{Failure, ProbationTerms, SetRequest};
use telos_store::ReleaseState;
use telos_tests::{TestKernel, eventually};

fn is_long() -> bool {
    std::env::var_os("TELOS_LONG").is_some()
}

/// Clients that each count at an object of their own and see their counts come one after another.
#[tokio::test(flavor = "multi_thread")]
async fn messages_across_changes_of_seats_are_neither_lost_nor_repeated_and_keep_their_order() {
    let (clients, messages, swaps) = if is_long() { (64, 1_000_000, 1_000) } else { (16, 4_000, 40) };
    let kernel = Arc::new(with_permanent(&["counter", "counter-v2", "twin", "twin-v2"]).await);
    assert_eq!(kernel.install("tallier").await.state, "staged");
    let (is_done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..clients)
        .map(|_| {
            let (kernel, is_done, sent) = (Arc::clone(&kernel), Arc::clone(&is_done), Arc::clone(&sent));
            tokio::spawn(async move {
                let mine = kernel.send("counter", "clone", Value::Null).await.unwrap();
                let mine = mine.as_str().unwrap().to_owned();
                let mut count = 0_u64;
                while !is_done.load(Ordering::Relaxed) {
                    count += 1;
                    let answer = kernel.send(&mine, "increment", Value::Null).await.unwrap();
                    assert_eq!(answer, count, "lost, repeated or out of order");
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(kernel.send(&mine, "read", Value::Null).await.unwrap(), count);
            })
        })
        .collect();
    let mut pauses: [Vec<u64>; 2] = Default::default();
    for swap in 0..swaps {
        let version = ["0.1.0", "0.2.0"][swap % 2];
        match swap % 10 {
            3 => pauses[1].push(there(&kernel).await),
            4 => pauses[1].push(kernel.kernel.rollback("counter").await.unwrap().pause_us),
            6 => {
                pauses[1].push(there(&kernel).await);
                burn(&kernel, swap as u64).await;
            }
            number if number % 3 == 0 => {
                pauses[0].push(kernel.kernel.swap("counter", version.into()).await.unwrap().pause_us);
            }
            _ => pauses[0].push(apply_set(&kernel, version).await),
        }
        let due = messages * (swap as u64 + 1) / swaps as u64;
        while sent.load(Ordering::Relaxed) < due {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    is_done.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    eventually("what was retired is gone", || kernel.kernel.loaded_releases() == 2).await;
    assert!(kernel.store.verify_open().unwrap().is_clean());
    let lost = |line: &JournalLine| line.attributes["lost"].as_u64().unwrap();
    assert_eq!(kernel.journal.lines("swap.account").iter().map(lost).sum::<u64>(), 0);
    for (what, pauses) in ["without", "with"].into_iter().zip(&mut pauses) {
        println!("{} pauses {what} evolution: {}", pauses.len(), told(pauses));
    }
}

/// A kernel on which these have served their probation, and nothing else ever does.
async fn with_permanent(guests: &[&str]) -> TestKernel {
    let short = ProbationTerms { time: Duration::ZERO, messages: 1, ..ProbationTerms::default() };
    let kernel = TestKernel::on_terms(short);
    for name in guests {
        let installed = kernel.install(name).await;
        let (id, digest) = (installed.id, installed.digest);
        let asks = if id.as_str() == "twin" { "asked" } else { "read" };
        kernel.send(id.as_str(), asks, Value::Null).await.unwrap();
        let record = || kernel.store.release(&id, &digest).unwrap().unwrap();
        eventually("it is permanent", || record().state == ReleaseState::Permanent).await;
    }
    kernel.restart_on_terms(ProbationTerms { messages: u64::MAX, ..short })
}

/// Carries the counter's state to its second generation; the pause.
async fn there(kernel: &TestKernel) -> u64 {
    kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap().pause_us
}

/// Burns what serves, which then carries its state back and returns its seat.
async fn burn(kernel: &TestKernel, round: u64) {
    for message in 0..3 {
        let broken = kernel.send("counter", "increment", json!({"by": 100 + 3 * round + message})).await;
        assert!(matches!(broken, Err(Failure::Broken { .. })), "{broken:?}");
    }
    eventually("it is in quarantine", || !kernel.kernel.quarantine().unwrap().is_empty()).await;
    let digest = kernel.kernel.quarantine().unwrap()[0].digest.to_string();
    kernel.kernel.lift_quarantine("counter", digest).await.unwrap();
}

/// Swaps both twins at once, and looks at them; the pause.
async fn apply_set(kernel: &TestKernel, version: &str) -> u64 {
    let swap = ["counter", "twin"].map(|id| (id.to_owned(), version.to_owned())).into();
    let applied = kernel.kernel.apply_set(SetRequest { swap, ..SetRequest::default() }).await.unwrap();
    let releases = kernel.send("twin", "both", json!({"to": "counter"})).await.unwrap();
    assert_eq!(releases[0], releases[1], "a mixed set");
    applied.pause_us
}

fn told(pauses: &mut [u64]) -> String {
    pauses.sort_unstable();
    let at = |share: usize| pauses.get((pauses.len() * share / 100).min(pauses.len().saturating_sub(1)));
    format!("p50 {:?} µs, p99 {:?} µs, max {:?} µs", at(50), at(99), pauses.last())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_swaps_leave_nothing_behind() {
    let swaps = if is_long() { 10_000 } else { 200 };
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.install("counter-v2").await;
    let resident = |what: &str| {
        let (memory, handles) = footprint();
        println!("{what}: {} MiB resident, {handles} handles", memory >> 20);
        (memory, handles)
    };
    let swap = async |round: usize| {
        kernel.kernel.swap("counter", ["0.1.0", "0.2.0"][round % 2].into()).await.unwrap();
        kernel.send("counter", "increment", Value::Null).await.unwrap();
    };
    // Pools, caches and the allocator have what they need after some.
    for round in 0..100 {
        swap(round).await;
    }
    let before = resident("after 100 swaps");
    for round in 0..swaps {
        swap(round).await;
    }
    let after = resident("after the rest");
    eventually("one release is loaded", || kernel.kernel.loaded_releases() == 1).await;
    assert!(after.0 < before.0 + (64 << 20), "{before:?} {after:?}");
    assert!(after.1 <= before.1 + 16, "{before:?} {after:?}");
}

/// Bytes resident, and open handles; 0 where the machine does not say.
fn footprint() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    (kib.unwrap_or_default() << 10, std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
}
