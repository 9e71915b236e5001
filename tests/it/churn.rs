//! Many swaps under load: nothing is lost or done twice, order is kept, and what was retired is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::SetRequest;
use telos_tests::{TestKernel, eventually};

fn is_long() -> bool {
    std::env::var_os("TELOS_LONG").is_some()
}

/// Clients that each count at an object of their own and see their counts come one after another.
#[tokio::test(flavor = "multi_thread")]
async fn messages_across_swaps_and_sets_are_neither_lost_nor_repeated_and_keep_their_order() {
    let (clients, messages, swaps) = if is_long() { (64, 1_000_000, 1_000) } else { (16, 4_000, 40) };
    let kernel = Arc::new(TestKernel::with_guests(&["counter", "twin"]).await);
    kernel.install("counter-v2").await;
    kernel.install("twin-v2").await;
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
    for swap in 0..swaps {
        let version = ["0.1.0", "0.2.0"][swap % 2];
        let to = [("counter", version), ("twin", version)].map(|(id, to)| (id.to_owned(), to.to_owned()));
        if swap % 3 == 0 {
            kernel.kernel.swap("counter", version.into()).await.unwrap();
        } else {
            kernel.kernel.apply_set(SetRequest { swap: to.into(), ..SetRequest::default() }).await.unwrap();
            let releases = kernel.send("twin", "both", json!({"to": "counter"})).await.unwrap();
            assert_eq!(releases[0], releases[1], "a mixed set");
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
