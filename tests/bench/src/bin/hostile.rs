//! What honest messages feel of hostile ones, and how soon those are ended.
//!
//! ```text
//! beside    an honest counter alone, then beside each kind of hostile guest, in turns: p99 against p99
//! ended     a message that spins, from sent to told that it used up its CPU, against what it may use;
//!           then the same in a process that has one processor
//! ```
//! Hostile senders are as many as make two for each processor, and each sends its next message when one is ended.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bench::{Better, Row, Samples, resident_mib};
use telos_kernel::{Granting, InstallRequest, Kernel, Limits, Root};
use telos_service::{Bundle, Home, Host, HostConfig};
use telos_store::{Json, StoreOptions};
use telos_tests::guest;

const ROUNDS: usize = 3;
/// Honest messages in each phase of a round.
const MESSAGES: usize = 300;
/// Messages that spin until they are ended.
const SPINS: usize = 10;
/// What one of those may use.
const SPIN_CPU_MS: u32 = 200;
const DEADLINE: Duration = Duration::from_secs(60);

/// Tells a process that it is the one with one processor.
const PINNED: &str = "--pinned";

/// A kind of hostile message.
struct Hostile {
    selector: &'static str,
    component: &'static str,
    writes: &'static str,
    reads: &'static str,
}

const KINDS: [Hostile; 4] = [
    Hostile {
        component: "spinner",
        selector: "turn",
        writes: "p99 of a message with its commit beside spinners, against alone",
        reads: "p99 of a message that reads beside spinners, against alone",
    },
    Hostile {
        component: "spammer",
        selector: "read_on",
        writes: "p99 of a message with its commit beside host calls without end, against alone",
        reads: "p99 of a message that reads beside host calls without end, against alone",
    },
    Hostile {
        component: "spammer",
        selector: "log_on",
        writes: "p99 of a message with its commit beside lines without end, against alone",
        reads: "p99 of a message that reads beside lines without end, against alone",
    },
    Hostile {
        component: "hoarder",
        selector: "hoard",
        writes: "p99 of a message with its commit beside hoarders of memory, against alone",
        reads: "p99 of a message that reads beside hoarders of memory, against alone",
    },
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if std::env::args().any(|argument| argument == PINNED) {
        return runtime
            .block_on(ended("a spinner's time to its end, on one processor, against its CPU limit"));
    }
    runtime.block_on(beside());
    runtime.block_on(ended("a spinner's time to its end, against its CPU limit"));
    pinned();
}

/// The same program again, with one processor.
fn pinned() {
    let program = std::env::current_exe().expect("this program");
    let mut again = Command::new("taskset");
    again.args(["-c", "0"]).arg(program).args(std::env::args_os().skip(1)).arg(PINNED);
    let ended = again.status().expect("taskset, of util-linux");
    assert!(ended.success(), "{ended}");
}

/// What the counter took in one phase.
#[derive(Default)]
struct Felt {
    writes: Samples,
    reads: Samples,
}

async fn beside() {
    let home = tempfile::tempdir().expect("a directory");
    let host = start(&home).await;
    let kernel = host.kernel();
    let senders = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    for name in ["counter", "spinner", "spammer", "hoarder"] {
        install(kernel, name, Limits::default()).await;
        for sender in 0..senders {
            kernel.new_object(&format!("{name}/{sender}"), &[name.into()]).await.expect("an object");
        }
    }
    let (mut alone, mut felt) = (Felt::default(), KINDS.map(|_| Felt::default()));
    count(kernel, &mut Felt::default()).await;
    let resident_before = resident_mib();
    for _ in 0..ROUNDS {
        count(kernel, &mut alone).await;
        for (kind, felt) in KINDS.iter().zip(&mut felt) {
            let spoiled = Spoiled::begin(kernel, kind, senders);
            count(kernel, felt).await;
            spoiled.end().await;
        }
    }
    let resident = (resident_before, resident_mib());
    for (kind, mut felt) in KINDS.iter().zip(felt) {
        row(kind.writes, &mut felt.writes, &mut alone.writes, senders, resident);
        row(kind.reads, &mut felt.reads, &mut alone.reads, senders, resident);
    }
}

async fn count(kernel: &Kernel, felt: &mut Felt) {
    for _ in 0..MESSAGES {
        for (selector, samples) in [("increment", &mut felt.writes), ("read", &mut felt.reads)] {
            let start = Instant::now();
            kernel.send(root("counter", selector, &Value::Null)).await.expect("an answer");
            samples.add(start.elapsed());
        }
    }
}

/// Senders that send hostile messages until they are told to stop.
struct Spoiled {
    is_done: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Spoiled {
    fn begin(kernel: &Kernel, kind: &Hostile, senders: usize) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let send = |sender| {
            let (kernel, is_done, selector) = (kernel.clone(), Arc::clone(&is_done), kind.selector);
            let object = format!("{}/{sender}", kind.component);
            tokio::spawn(async move {
                while !is_done.load(Ordering::Relaxed) {
                    let endless = json!({ "turns": u64::MAX });
                    kernel.send(root(&object, selector, &endless)).await.expect_err("it breaks");
                }
            })
        };
        let senders = (0..senders).map(send).collect();
        Self { is_done, senders }
    }

    async fn end(self) {
        self.is_done.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender");
        }
    }
}

fn row(
    case: &'static str,
    beside: &mut Samples,
    alone: &mut Samples,
    senders: usize,
    resident: (Option<f64>, Option<f64>),
) {
    let more = json!({
        "p50_us": beside.percentile_us(50.0),
        "alone_p50_us": alone.percentile_us(50.0),
        "max_us": beside.percentile_us(100.0),
        "hostile_senders": senders,
        "target_ratio": 2.0,
        "rss_mib_before": resident.0,
        "rss_mib_after": resident.1,
    });
    Row {
        bench: "hostile",
        case,
        unit: "us p99",
        better: Better::Lower,
        ours: beside.percentile_us(99.0),
        peer: Some((alone.percentile_us(99.0), "the same host alone")),
        runs: beside.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

/// Spins one after another, while an honest counter counts on.
async fn ended(case: &'static str) {
    let home = tempfile::tempdir().expect("a directory");
    let host = start(&home).await;
    let kernel = host.kernel();
    install(kernel, "counter", Limits::default()).await;
    install(kernel, "spinner", Limits { cpu_ms: SPIN_CPU_MS, ..Limits::default() }).await;
    let (mut spins, mut honest) = (Samples::default(), Felt::default());
    for _ in 0..SPINS {
        let spin = async {
            let start = Instant::now();
            let endless = json!({ "turns": u64::MAX });
            kernel.send(root("spinner", "turn", &endless)).await.expect_err("it breaks");
            start.elapsed()
        };
        tokio::pin!(spin);
        let took = loop {
            let start = Instant::now();
            let counted = kernel.send(root("counter", "increment", &Value::Null));
            tokio::select! {
                took = &mut spin => break took,
                counted = counted => {
                    counted.expect("an answer");
                    honest.writes.add(start.elapsed());
                }
            }
        };
        spins.add(took);
    }
    let more = json!({
        "max_ms": spins.percentile_us(100.0) / 1_000.0,
        "target_ratio": 2.0,
        "honest_messages": honest.writes.count(),
        "honest_p99_us": honest.writes.percentile_us(99.0),
    });
    Row {
        bench: "hostile",
        case,
        unit: "ms p50",
        better: Better::Lower,
        ours: spins.percentile_us(50.0) / 1_000.0,
        peer: Some((f64::from(SPIN_CPU_MS), "the limit")),
        runs: spins.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

async fn install(kernel: &Kernel, name: &str, limits: Limits) {
    let request =
        InstallRequest { source: name.into(), grants: Granting::All, limits, ..InstallRequest::default() };
    kernel.install(guest(name), request).await.expect("an installed guest");
}

fn root(receiver: &str, selector: &str, arguments: &Value) -> Root {
    Root {
        receiver: receiver.into(),
        selector: selector.into(),
        arguments: Json::from_value(arguments).expect("small arguments"),
        deadline: Instant::now() + DEADLINE,
        request: None,
        sink: None,
    }
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
        on_evolving: None,
        engine: None,
        pace: telos_service::Pace::default(),
        inference: telos_service::InferenceTerms::default(),
        program: None,
        crew: None,
    };
    Host::start(config).await.expect("a host")
}
