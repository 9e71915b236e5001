//! One `counter` message, admission → reply ready to commit, against bare wasmtime doing the same work: store,
//! instantiate, one call that reads and writes a slot, drop. Both on the serving engine, interleaved. The commit is a
//! row of its own.

use std::time::{Duration, Instant};

use serde_json::json;
use telos_bench::bare::{Bare, Held};
use telos_bench::{Better, Row, Samples};
use telos_kernel::{Engines, Root};
use telos_store::Json;
use telos_tests::TestKernel;

const WARM_UP: usize = 2_000;
const RUNS: usize = 20_000;
const COMMITS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let engines = Engines::new().expect("engines");
    let peer = Bare::on(&engines.serving, "counter", Held::default());
    let (mut ours, mut peers) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + RUNS {
        let (mine, bare) = (rehearse(&kernel).await, peer.message("increment", "null").await.0);
        if round >= WARM_UP {
            ours.add(mine);
            peers.add(bare);
        }
    }
    row("message, admission to reply ready to commit", &mut ours, &mut peers);
    commits(&kernel).await;
}

fn row(case: &'static str, ours: &mut Samples, peers: &mut Samples) {
    let more = json!({
        "ours_p99_us": ours.percentile_us(99.0),
        "peer_p99_us": peers.percentile_us(99.0),
        "target_ratio": 2.0,
    });
    Row {
        bench: "dispatch",
        case,
        unit: "us p50",
        better: Better::Lower,
        ours: ours.percentile_us(50.0),
        peer: Some((peers.percentile_us(50.0), "wasmtime store+instantiate+call+drop")),
        runs: ours.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

fn root() -> Root {
    Root {
        receiver: "counter".into(),
        selector: "increment".into(),
        arguments: Json::null(),
        deadline: Instant::now() + Duration::from_secs(10),
        request: None,
        sink: None,
    }
}

async fn rehearse(kernel: &TestKernel) -> Duration {
    kernel.kernel.rehearse(root()).await.expect("an answer").elapsed
}

/// The whole message, commit included: what the disk adds.
async fn commits(kernel: &TestKernel) {
    let mut samples = Samples::default();
    for _ in 0..COMMITS {
        let start = Instant::now();
        kernel.kernel.send(root()).await.expect("an answer");
        samples.add(start.elapsed());
    }
    let more = json!({ "ours_p99_us": samples.percentile_us(99.0) });
    Row {
        bench: "dispatch",
        case: "message with its durable commit, one at a time",
        unit: "us p50",
        better: Better::Lower,
        ours: samples.percentile_us(50.0),
        peer: None,
        runs: samples.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}
