//! What each limit costs: one message's life (store, instantiate, call, drop) on bare wasmtime held to one limit, and
//! beside it the same without. A short message reads and writes a slot; a long one computes for some tens of
//! microseconds, which shows what is compiled into the code.

use serde_json::json;
use telos_bench::bare::{Bare, Held, engine};
use telos_bench::{Better, Row, Samples, side_by_side};

const ROUNDS: (usize, usize) = (1_000, 8_000);

/// A guest and what it is asked.
type Asked = (&'static str, &'static str, &'static str);

const SHORT: Asked = ("counter", "increment", "null");
const LONG: Asked = ("relay", "clock", "null");

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let plain = Side::default();
    let epochs = Side { has_epochs: true, held: Held { epochs: true, ..Held::default() }, ..plain };
    let fuel = Side { has_fuel: true, ..epochs };
    measure("epoch interruption, a short message", SHORT, epochs, plain).await;
    measure("epoch interruption, a message that computes", LONG, epochs, plain).await;
    measure("fuel besides epochs (the metered engine), a short message", SHORT, fuel, epochs).await;
    measure("fuel besides epochs (the metered engine), a message that computes", LONG, fuel, epochs).await;
    let all = Held { memory: true, hostcall_fuel: true, cpu: true, epochs: true };
    let held = [
        ("ResourceLimiter", Held { memory: true, ..epochs.held }),
        ("host-call fuel", Held { hostcall_fuel: true, ..epochs.held }),
        ("CPU accounting by a call hook", Held { cpu: true, ..epochs.held }),
        ("these three together", all),
    ];
    for (case, held) in held {
        measure(case, SHORT, Side { held, ..epochs }, epochs).await;
    }
}

/// What one of two sides is held to.
#[derive(Clone, Copy, Default)]
struct Side {
    has_epochs: bool,
    has_fuel: bool,
    held: Held,
}

impl Side {
    /// On an engine of its own, so that neither side finds slots of the pool as another left them.
    fn bare(self, guest: &str) -> Bare {
        Bare::on(&engine(self.has_epochs, self.has_fuel), guest, self.held)
    }
}

async fn measure(case: &'static str, (guest, selector, arguments): Asked, with: Side, without: Side) {
    let (with, without) = (with.bare(guest), without.bare(guest));
    let ours = || async { with.message(selector, arguments).await.0 };
    let peer = || async { without.message(selector, arguments).await.0 };
    let (mut ours, mut peer) = side_by_side(ROUNDS, ours, peer).await;
    row(case, &mut ours, &mut peer);
}

fn row(case: &'static str, ours: &mut Samples, peer: &mut Samples) {
    let more = json!({
        "ours_p99_us": ours.percentile_us(99.0),
        "peer_p99_us": peer.percentile_us(99.0),
        "cost_us": ours.percentile_us(50.0) - peer.percentile_us(50.0),
    });
    Row {
        bench: "limits",
        case,
        unit: "us p50",
        better: Better::Lower,
        ours: ours.percentile_us(50.0),
        peer: Some((peer.percentile_us(50.0), "wasmtime without it")),
        runs: ours.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}
