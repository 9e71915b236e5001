//! One instance's life inside the kernel: a fresh store with all its limits, instantiate, one call with its host calls,
//! drop. Beside it bare wasmtime doing the same with the same component on the same engine, without limits and with the
//! least host. What the kernel does around it (lane, admission, unit of work) is the benchmark `dispatch`.

use std::time::{Duration, Instant};

use serde_json::json;
use telos_bench::bare::{Bare, Held};
use telos_bench::{Better, Row, Samples, side_by_side};
use telos_kernel::{Engines, Root};
use telos_store::Json;
use telos_tests::TestKernel;

const ROUNDS: (usize, usize) = (2_000, 20_000);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let kernel = TestKernel::with_guests(&["counter", "relay"]).await;
    let engines = Engines::new().expect("engines");
    let echo = "store+instantiate+call+drop: a call without host calls";
    measure(echo, &kernel, &engines, ("relay", "echo", "null")).await;
    let increment = "store+instantiate+call+drop: a call that reads and writes a slot";
    measure(increment, &kernel, &engines, ("counter", "increment", "null")).await;
}

async fn measure(
    case: &'static str,
    kernel: &TestKernel,
    engines: &Engines,
    (guest, selector, arguments): (&str, &str, &str),
) {
    let bare = Bare::on(&engines.serving, guest, Held::default());
    let ours = || async { instance_of(kernel, guest, selector, arguments).await };
    let peer = || async { bare.message(selector, arguments).await.0 };
    let (mut ours, mut peer) = side_by_side(ROUNDS, ours, peer).await;
    row(case, &mut ours, &mut peer);
}

/// The part of a message that its instance lives for.
async fn instance_of(kernel: &TestKernel, receiver: &str, selector: &str, arguments: &str) -> Duration {
    let root = Root {
        receiver: receiver.into(),
        selector: selector.into(),
        arguments: Json::parse(arguments).expect("JSON"),
        deadline: Instant::now() + Duration::from_secs(10),
        request: None,
        sink: None,
    };
    kernel.kernel.rehearse(root).await.expect("an answer").instance
}

fn row(case: &'static str, ours: &mut Samples, peer: &mut Samples) {
    let more = json!({
        "ours_p99_us": ours.percentile_us(99.0),
        "peer_p99_us": peer.percentile_us(99.0),
        "target_ratio": 1.3,
    });
    Row {
        bench: "spawn",
        case,
        unit: "us p50",
        better: Better::Lower,
        ours: ours.percentile_us(50.0),
        peer: Some((peer.percentile_us(50.0), "wasmtime store+instantiate+call+drop")),
        runs: ours.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}
