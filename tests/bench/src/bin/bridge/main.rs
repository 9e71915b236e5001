//! An echo, client → queue → worker → back: our bridge against bare `zeromq` sockets that forward, DEALER – ROUTER –
//! ROUTER – DEALER, and against a Paranoid Pirate in pyzmq. Ours carries a call with deadline, lease, acknowledgements
//! and JSON-RPC; the bare one carries bytes and promises nothing. All sockets are loopback TCP; client, queue and worker
//! are three processes each, the first two clients are this one.

mod bare;
mod ours;
mod paranoid;
mod parts;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use telos_bench::{Better, Row, Samples};

use parts::resident_bytes;

/// How long one measurement lasts.
const RUN: Duration = Duration::from_secs(1);
/// Runs of each, interleaved; their medians count.
const RUNS: usize = 3;
/// Peers that do nothing, for what each costs.
const IDLE_PEERS: usize = 500;

/// Bytes of the echo, and how a row calls them.
const SIZES: [(usize, &str); 3] = [(64, "64 B"), (1_024, "1 KiB"), (65_536, "64 KiB")];
const OUTSTANDING: [usize; 2] = [1, 32];

/// One measurement.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) round_trips: Samples,
    pub(crate) took: Duration,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.round_trips.count() as f64 / self.took.as_secs_f64()
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut arguments = std::env::args().skip(1);
        if arguments.next().as_deref() == Some("part") {
            return parts::be(arguments).await;
        }
        if let Some((size, outstanding)) = asked() {
            return alone(size, outstanding).await;
        }
        let python = paranoid::set_up().map_err(|cause| eprintln!("no pyzmq to compare with: {cause}")).ok();
        for (size, name) in SIZES {
            for outstanding in OUTSTANDING {
                compare(size, name, outstanding, python.as_ref()).await;
            }
        }
        idle().await;
    });
}

/// `SIZE OUTSTANDING`: ours alone, for a profiler.
fn asked() -> Option<(usize, usize)> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

async fn alone(size: usize, outstanding: usize) {
    let ours = ours::Echo::start().await;
    let mut measured = ours.measure(size, outstanding, 5 * RUN).await;
    let more = json!({
        "ours_p50_us": measured.round_trips.percentile_us(50.0),
        "ours_p99_us": measured.round_trips.percentile_us(99.0),
    });
    row(format!("{size} B, {outstanding} outstanding, alone"), measured.per_second(), None, more);
}

async fn compare(size: usize, name: &str, outstanding: usize, python: Option<&PathBuf>) {
    let (ours, bare) = (ours::Echo::start().await, bare::Echo::start().await);
    let (mut own, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        own.push(ours.measure(size, outstanding, RUN).await);
        bares.push(bare.measure(size, outstanding, RUN).await);
    }
    let (mut own, mut bares) = (median(own), median(bares));
    let more = json!({
        "ours_p50_us": own.round_trips.percentile_us(50.0), "ours_p99_us": own.round_trips.percentile_us(99.0),
        "peer_p50_us": bares.round_trips.percentile_us(50.0), "peer_p99_us": bares.round_trips.percentile_us(99.0),
        "goal_ratio": 0.8,
    });
    let case = |peer: &str| format!("{name}, {outstanding} outstanding, against {peer}");
    row(case("bare zeromq"), own.per_second(), Some((bares.per_second(), "zeromq, forwarding")), more);
    if outstanding == 32
        && let Some(python) = python
    {
        let mut peer = paranoid::measure(python, size, outstanding, RUN);
        let more = json!({
            "peer_p50_us": peer.round_trips.percentile_us(50.0),
            "peer_p99_us": peer.round_trips.percentile_us(99.0),
            "goal_ratio": 5.0,
        });
        row(
            case("a pyzmq Paranoid Pirate"),
            own.per_second(),
            Some((peer.per_second(), "pyzmq Paranoid Pirate")),
            more,
        );
    }
}

/// The run whose rate is in the middle.
fn median(mut runs: Vec<Measured>) -> Measured {
    runs.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    runs.swap_remove(runs.len() / 2)
}

fn row(case: String, ours: f64, peer: Option<(f64, &'static str)>, more: Value) {
    let more = if let Value::Object(more) = more { more } else { Map::new() };
    Row {
        bench: "bridge",
        case: case.leak(),
        unit: "echoes/s",
        better: Better::Higher,
        ours,
        peer,
        runs: RUNS,
        more,
    }
    .print();
}

/// What a client that only beats costs the host, and what it costs itself.
async fn idle() {
    let echo = ours::Echo::start().await;
    let before = [echo.queue_bytes(), resident_bytes("self")];
    let peers = echo.connect(IDLE_PEERS).await;
    let after = [echo.queue_bytes(), resident_bytes("self")];
    let each = |end: usize| after[end].saturating_sub(before[end]) as f64 / peers.len() as f64;
    let mut more = Map::new();
    more.insert("peers".into(), json!(peers.len()));
    more.insert("client_bytes".into(), json!(each(1)));
    Row {
        bench: "bridge",
        case: "memory of the host for an idle peer",
        unit: "bytes",
        better: Better::Lower,
        ours: each(0),
        peer: None,
        runs: 1,
        more,
    }
    .print();
}

/// What comes back must be what went out.
pub(crate) fn check(is_same: bool) {
    assert!(is_same, "an echo that differs");
}

/// Until then.
pub(crate) fn is_over(since: Instant, run: Duration) -> bool {
    since.elapsed() >= run
}
