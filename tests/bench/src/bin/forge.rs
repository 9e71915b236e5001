//! Behaviours in JavaScript: how long one takes to make, to run, and how much memory many take: `make`, `call`, `keep`,
//! or all of them.
//!
//! Making includes the engine's word on the source, the gate (20 examples, the message that missed it, hostile
//! arguments), compiling for the engine that tries and serves what is forged, the examples again as an install runs them, and the deciding commit
//! on a store in memory, so without the disk's time. The mind's time is not in it.
//!
//! The peer is one pre-initialised component for each behaviour, as `telos plugin export` makes it: the engine booted
//! with the source, and what it holds then as a component. Ours and the peer's go through the same from a source to what
//! could serve at once; the engine itself was compiled before, for both.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use telos_bench::{Better, Row, Samples, resident_mib, side_by_side};
use telos_forge::{Behaviour, Spec, assemble, component_of, whole};
use telos_kernel::{FORGED, Granting, InstallRequest, ProbationTerms, Root};
use telos_store::Json;
use telos_tests::TestKernel;
use telos_tests::behaviour::{Script, engine, example};

const MADE: usize = 60;
const MADE_BESIDE: usize = 5;
const CALLS: usize = 3_000;
const RESIDENT: usize = 1_000;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |case: &str| named.is_empty() || named.iter().any(|name| name == case);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if is_wanted("make") {
            make().await;
            make_beside().await;
        }
        if is_wanted("call") {
            call().await;
        }
        if is_wanted("keep") {
            keep().await;
        }
    });
}

fn row(case: &'static str, unit: &'static str, ours: f64, runs: usize, more: Value) {
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    Row { bench: "forge", case, unit, better: Better::Lower, ours, peer: None, runs, more }.print();
}

/// A behaviour of about a kilobyte, which differs by its number, and from those of other runs: what they compiled is kept.
fn source(number: usize) -> String {
    let run = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    format!(
        "// Behaviour {number}, {run}.
function total(orders) {{
  const by = {{}};
  for (const order of orders) {{
    if (order.quantity > 2) by[order.item] = (by[order.item] ?? 0) + order.quantity * order.price;
  }}
  return Object.entries(by).map(([item, sum]) => ({{ item, sum }})).sort((a, b) => b.sum - a.sum);
}}
export function handle(self, args, telos) {{
  if (args === null || typeof args !== 'object') telos.badArguments('an object, please');
  if (Array.isArray(args.orders)) return total(args.orders);
  if (typeof args.n !== 'number') telos.badArguments('n must be a number');
  return args.n + {number};
}}"
    )
}

fn script(number: usize, name: &'static str) -> Script {
    let examples = (0..20_i64).map(|n| {
        let sum = n + i64::try_from(number).unwrap_or_default();
        telos_forge::AccountExample { name: format!("n{n}"), ..example(json!({ "n": n }), json!(sum)) }
    });
    Script { id: name, examples: examples.collect(), read_only: true, ..Script::of(&source(number)) }
}

fn spec(script: &Script) -> Spec {
    Spec {
        summary: "A benchmark's.".into(),
        read_only: true,
        arguments: json!(true),
        returns: json!(true),
        slots: Vec::new(),
        examples: script.examples.clone(),
    }
}

async fn make() {
    let home = tempfile::tempdir().expect("a directory");
    let kernel = TestKernel::over_forging(home.path(), ProbationTerms::default());
    let (mut gate, mut swap, mut whole) = (Samples::default(), Samples::default(), Samples::default());
    for number in 0..MADE + 5 {
        let name: &'static str = Box::leak(format!("made-{number}").into_boxed_str());
        let script = script(number, name);
        let start = Instant::now();
        let tried = kernel.workshop().try_source(&script.source, Vec::new(), &spec(&script), "run").await;
        assert!(tried.expect("a trial").passed());
        let gated = start.elapsed();
        // As the workshop installs it: the same bytes, under a source that says who made it.
        let account = spec(&script).account(&component_of("", "run"), "1.0.0", "run");
        let behaviour = Behaviour::of(&account, script.source.clone(), Vec::new()).expect("JSON");
        let bytes = assemble(engine(), &behaviour).expect("a component");
        let request = InstallRequest { source: format!("{FORGED}1"), ..InstallRequest::default() };
        let checked = kernel.kernel.check(bytes, request).await.expect("a check");
        assert!(checked.ok);
        let took = start.elapsed();
        if number >= 5 {
            gate.add(gated);
            swap.add(took.saturating_sub(gated));
            whole.add(took);
        }
    }
    let more = json!({
        "p99_ms": whole.percentile_us(99.0) / 1e3,
        "gate_p50_ms": gate.percentile_us(50.0) / 1e3,
        "install_without_commit_p50_ms": swap.percentile_us(50.0) / 1e3,
        "target_ms": 25.0,
    });
    let case = "source to ready to serve: boot, gate with 20 examples, compile, examples again; without commit and mind";
    row(case, "ms p50", whole.percentile_us(50.0) / 1e3, MADE, more);
}

/// Five of ours and of the peer's, in turns.
async fn make_beside() {
    let kernel = TestKernel::new();
    let (number, bytes) = (Cell::new(0), Cell::new((0, 0)));
    let next = || {
        number.set(number.get() + 1);
        Script { examples: Vec::new(), ..script(number.get(), "beside") }
    };
    let ours = || async {
        let script = next();
        let start = Instant::now();
        let component = script.component();
        bytes.set((component.len(), bytes.get().1));
        check(&kernel, component).await;
        start.elapsed()
    };
    let peers = || async {
        let behaviour = next().behaviour();
        let start = Instant::now();
        let component = whole(&kernel.kernel, engine(), &behaviour).await.expect("a component");
        bytes.set((bytes.get().0, component.len()));
        check(&kernel, component).await;
        start.elapsed()
    };
    let (mut mine, mut others) = side_by_side((1, MADE_BESIDE), ours, peers).await;
    let (mine, others) = (mine.percentile_us(50.0) / 1e3, others.percentile_us(50.0) / 1e3);
    let more = json!({
        "times_less": others / mine,
        "target_times_less": 50.0,
        "component_bytes": bytes.get().0,
        "peer_component_bytes": bytes.get().1,
    });
    Row {
        bench: "forge",
        case: "source to compiled and linked for the engine that it serves on, descriptor asked: ours assembled, the peer's booted and \
               snapshot; without examples, commit, mind, and compiling the engine once",
        unit: "ms p50",
        better: Better::Lower,
        ours: mine,
        peer: Some((others, "one pre-initialised component per behaviour (wasmtime-wizer)")),
        runs: MADE_BESIDE,
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

async fn check(kernel: &TestKernel, component: Vec<u8>) {
    // What is forged serves on the engine that tries it.
    let request = InstallRequest { source: format!("{FORGED}1"), ..InstallRequest::default() };
    let checked = kernel.kernel.check(component, request).await.expect("a check");
    assert!(checked.ok);
}

async fn call() {
    let kernel = TestKernel::new();
    install(&kernel, &script(7, "called")).await;
    let (mut alone, mut life) = (Samples::default(), Samples::default());
    for number in 0..CALLS + 200 {
        let root = Root {
            receiver: "called".into(),
            selector: "run".into(),
            arguments: Json::parse("{\"n\": 1}").expect("JSON"),
            deadline: Instant::now() + Duration::from_secs(10),
            request: None,
            sink: None,
        };
        let rehearsal = kernel.kernel.rehearse(root).await.expect("an answer");
        if number >= 200 {
            life.add(rehearsal.instance);
            alone.add(rehearsal.elapsed);
        }
    }
    let more = json!({ "p99_us": life.percentile_us(99.0), "message_p50_us": alone.percentile_us(50.0), "target_us": 350.0, "target_warm_us": 180.0 });
    row("store+instantiate (boot included)+call+drop", "us p50", life.percentile_us(50.0), CALLS, more);
}

async fn keep() {
    // On disk, where a host has it: bytes and descriptors are not in memory twice.
    let home = tempfile::tempdir().expect("a directory");
    let kernel = TestKernel::over_forging(home.path(), ProbationTerms::default());
    install(&kernel, &script(0, "first")).await;
    let before = resident_mib().unwrap_or_default();
    for number in 1..=RESIDENT {
        let name: &'static str = Box::leak(format!("kept-{number}").into_boxed_str());
        install(&kernel, &Script { examples: Vec::new(), ..script(number, name) }).await;
    }
    assert_eq!(kernel.kernel.loaded_releases(), RESIDENT + 1);
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let each = (resident_mib().unwrap_or_default() - before) * 1024.0 / RESIDENT as f64;
    let more = json!({ "target_kib": 64.0, "rss_mb": resident_mib() });
    row(
        "memory of a behaviour that is ready to serve, beyond the shared engine",
        "KiB",
        each,
        RESIDENT,
        more,
    );
}

async fn install(kernel: &TestKernel, script: &Script) {
    let request = InstallRequest {
        source: format!("{}.js", script.id),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    kernel.kernel.install(script.component(), request).await.expect("an installed behaviour");
}
