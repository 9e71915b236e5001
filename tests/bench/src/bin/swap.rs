//! Swaps under load: clients over the real bridge, each counting on an object of its own, while one plugin is swapped
//! to and fro. Lost, repeated and mixed answers are counted; the pause is root admission closed → reopened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bench::{Better, Row, Samples, resident_mib};
use telos_bridge::{CallOptions, Client, ClientConfig};
use telos_kernel::{Granting, InstallRequest};
use telos_service::{Bundle, Home, Host, HostConfig};
use telos_store::StoreOptions;
use telos_tests::guest;

const CLIENTS: usize = 32;
const SWAPS: usize = 200;
/// Between two swaps, so that there is a between.
const REST: Duration = Duration::from_millis(50);
/// A message counts as served during a swap when it overlaps one by this much.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    during: Samples,
    between: Samples,
    lost: u64,
    duplicated: u64,
    mixed: u64,
    sent: u64,
}

async fn run() {
    let home = tempfile::tempdir().expect("a directory");
    let host = Arc::new(start(&home).await);
    for name in ["counter", "counter-v2", "relay"] {
        let request =
            InstallRequest { source: name.into(), grants: Granting::All, ..InstallRequest::default() };
        host.kernel().install(guest(name), request).await.expect("an installed guest");
    }
    for client in 0..CLIENTS {
        host.kernel().new_object(&format!("mine/{client}"), &["counter".into()]).await.expect("an object");
    }
    let (is_done, swapping) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            tokio::spawn(client(number, Arc::clone(&host), Arc::clone(&is_done), Arc::clone(&swapping)))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident_before = resident_mib();
    let mut pauses = Samples::default();
    for round in 0..SWAPS {
        swapping.fetch_add(1, Ordering::SeqCst);
        let version = if round % 2 == 0 { "0.1.0" } else { "0.2.0" };
        let swapped = host.kernel().swap("counter", version.into()).await.expect("a swap");
        swapping.fetch_add(1, Ordering::SeqCst);
        pauses.add(Duration::from_micros(swapped.pause_us));
        tokio::time::sleep(REST).await;
    }
    let resident_after = resident_mib();
    is_done.store(true, Ordering::SeqCst);
    let mut all = Seen::default();
    for client in clients {
        let seen = client.await.expect("a client");
        all.during.extend(seen.during);
        all.between.extend(seen.between);
        all.lost += seen.lost;
        all.duplicated += seen.duplicated;
        all.mixed += seen.mixed;
        all.sent += seen.sent;
    }
    print(all, pauses, resident_before, resident_after);
}

async fn start(home: &tempfile::TempDir) -> Host {
    let home = Home::at(home.path());
    let models = home.models();
    let config = HostConfig {
        home,
        plugins: Vec::new(),
        bundle: Bundle::default(),
        models,
        tcp: None,
        ppp: None,
        listen: None,
        store: StoreOptions::default(),
        generations: telos_service::GenerationMode::Evolve,
        probation: telos_service::ProbationTerms::default(),
        inference: telos_service::InferenceTerms::default(),
        on_evolving: None,
        engine: None,
        pace: telos_service::Pace::default(),
        program: None,
        crew: None,
    };
    Host::start(config).await.expect("a host")
}

async fn client(number: usize, host: Arc<Host>, is_done: Arc<AtomicBool>, swapping: Arc<AtomicU64>) -> Seen {
    let client =
        Client::connect(host.endpoint().clone(), ClientConfig::default()).await.expect("a connection");
    let object = format!("mine/{number}");
    let twice = json!({"to": object, "selector": "release"});
    let (mut seen, mut expected) = (Seen::default(), 0_u64);
    while !is_done.load(Ordering::SeqCst) {
        let before = swapping.load(Ordering::SeqCst);
        let start = Instant::now();
        let answer = send(&client, &object, "increment", &Value::Null).await;
        let elapsed = start.elapsed();
        let after = swapping.load(Ordering::SeqCst);
        // Odd: a swap is under way. Changed: one began or ended meanwhile.
        let overlapped = before % 2 == 1 || before != after;
        if overlapped {
            seen.during.add(elapsed)
        } else {
            seen.between.add(elapsed)
        }
        seen.sent += 1;
        expected += 1;
        match answer.and_then(|value| value.as_u64()) {
            Some(count) if count == expected => {}
            Some(count) if count > expected => {
                seen.duplicated += count - expected;
                expected = count;
            }
            _ => {
                seen.lost += 1;
                expected -= 1;
            }
        }
        if let Some(same) = send(&client, "relay", "ask_twice", &twice).await
            && same != true
        {
            seen.mixed += 1;
        }
    }
    client.close().await;
    seen
}

async fn send(client: &Client, object: &str, selector: &str, arguments: &Value) -> Option<Value> {
    let params = json!({"object": object, "selector": selector, "arguments": arguments});
    let answer = client.call("object.send", params, CallOptions::with_deadline(DEADLINE)).await;
    Some(answer.ok()?["value"].clone())
}

fn print(mut seen: Seen, mut pauses: Samples, before: Option<f64>, after: Option<f64>) {
    let (during, between) = (seen.during.percentile_us(99.0), seen.between.percentile_us(99.0));
    let more = json!({
        "clients": CLIENTS,
        "sent": seen.sent,
        "lost": seen.lost,
        "duplicated": seen.duplicated,
        "mixed": seen.mixed,
        "pause_p50_us": pauses.percentile_us(50.0),
        "pause_p99_us": pauses.percentile_us(99.0),
        "pause_max_us": pauses.percentile_us(100.0),
        "served_p50_ms": seen.during.percentile_us(50.0) / 1_000.0,
        "rss_mib_before": before,
        "rss_mib_after": after,
    });
    Row {
        bench: "swap",
        case: "p99 of a message with its commit, during swaps against between swaps",
        unit: "us p99",
        better: Better::Lower,
        ours: during,
        peer: Some((between, "the same host between swaps")),
        runs: SWAPS,
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}
