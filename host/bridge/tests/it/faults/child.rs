//! Processes that a scenario may kill: this test binary again, as a host, a worker, or some clients.
//!
//! Each is told what to be in its environment, leaves its traces in a directory that all share, and ends when its
//! standard input does: a worker kindly. So none outlives the test, however that ends.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallError, CallOptions, Class, Client, ClientConfig, Endpoint, Limits, OrderOptions,
    Reply, Service, Wire, Worker, WorkerConfig, Workers, serve,
};

use crate::fixture::{SOON, eventually};
use crate::restart::Ledger;

/// What a child is to be; set in its own process only.
const PLAN: &str = "TELOS_BRIDGE_TEST_PLAN";
/// Longer than any outage of a scenario.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// What a child is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) part: Part,
    pub(super) dir: PathBuf,
    pub(super) wire: String,
    /// None: what the bridge has by default, back-off included.
    pub(super) heartbeat: Option<Duration>,
    /// Of a worker its credit; of clients how many they are.
    pub(super) count: u16,
    /// Tells children apart.
    pub(super) index: u64,
    pub(super) is_tcp: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    Host,
    Worker,
    Clients,
}

impl Plan {
    pub(super) fn new(part: Part, dir: &Path, wire: Wire) -> Self {
        let (dir, wire) = (dir.to_owned(), wire.to_string());
        Self { part, dir, wire, heartbeat: None, count: 1, index: 0, is_tcp: false }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        if !self.is_tcp {
            return Endpoint::Unix(self.dir.join("host.sock"));
        }
        let address = std::fs::read_to_string(self.dir.join("address")).unwrap_or_default();
        address.parse().unwrap_or_else(|_| Endpoint::Tcp("127.0.0.1:0".parse().unwrap()))
    }

    pub(super) async fn client(&self) -> Client {
        let mut config = ClientConfig { wire: self.wire(), ..ClientConfig::default() };
        if let Some(pause) = self.heartbeat {
            (config.backoff_min, config.backoff_max) = (pause, pause);
        }
        config.token_file = self.is_tcp.then(|| self.token_file());
        Client::connect(self.endpoint(), config).await.unwrap()
    }

    fn wire(&self) -> Wire {
        *Wire::all().iter().find(|wire| wire.to_string() == self.wire).unwrap()
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }
}

/// A process with a plan. Dropping it kills it.
pub(super) struct Child {
    process: std::process::Child,
}

impl Child {
    pub(super) fn start(plan: &Plan) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "faults::child::child_of_a_scenario", "--nocapture"])
            .env(PLAN, serde_json::to_string(plan).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        Self { process: command.spawn().unwrap() }
    }

    /// A host, once it listens.
    pub(super) async fn start_host(plan: &Plan) -> Self {
        let child = Self::start(plan);
        eventually(|| listens(&plan.endpoint())).await;
        child
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// With SIGKILL; it is gone when this returns.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Tells it to end, and waits until it has; false when it did not end well.
    pub(super) async fn end(mut self) -> bool {
        drop(self.process.stdin.take());
        self.ended().await
    }

    /// Waits until it ends by itself; false when it did not end well.
    pub(super) async fn ended(&mut self) -> bool {
        let mut status = None;
        eventually(|| {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.is_some_and(|status| status.success())
    }

    /// Open files, sockets included.
    pub(super) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// A line of its status that counts KiB, such as `VmRSS` now, or `VmHWM` at its highest.
    pub(super) fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listens(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        Endpoint::Tcp(address) => address.port() != 0 && std::net::TcpStream::connect(address).is_ok(),
    }
}

pub(super) fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Appends a line at once, so that lines of many processes do not mix.
fn append(path: &Path, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A line that a worker wrote when it began something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) label: u64,
    pub(super) process: u32,
}

/// Everything that workers began and were to write down, in order.
pub(super) fn read_begun(dir: &Path) -> Vec<Begun> {
    let text = std::fs::read_to_string(dir.join("begun")).unwrap_or_default();
    let read = |line: &str| {
        let (label, process) = line.split_once(' ').unwrap();
        Begun { label: label.parse().unwrap(), process: process.parse().unwrap() }
    };
    text.lines().map(read).collect()
}

/// How many they are; every line has the same length.
pub(super) fn count_begun(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("begun")).map_or(0, |file| file.len() / 22)
}

/// Things that were begun more than once.
pub(super) fn count_begun_twice(begun: &[Begun]) -> usize {
    let labels: std::collections::BTreeSet<u64> = begun.iter().map(|begun| begun.label).collect();
    begun.len() - labels.len()
}

/// What a worker is asked to do. It writes that down when it begins.
pub(super) fn job(what: &str, label: u64) -> Value {
    json!({ "do": what, "label": label })
}

pub(super) fn terms(class: Class, lease: Option<Duration>) -> OrderOptions {
    OrderOptions { deadline: PATIENCE, class, lease }
}

/// `Ok(true)`: done. `Ok(false)`: its worker was lost, and nobody else was given it.
pub(super) fn was_done(answer: Result<Value, CallError>) -> Result<bool, CallError> {
    match answer {
        Ok(_) => Ok(true),
        Err(CallError::Host(error)) if error.data.kind == "worker-lost" => Ok(false),
        Err(error) => Err(error),
    }
}

/// The whole life of a child.
#[tokio::test]
async fn child_of_a_scenario() {
    let Ok(plan) = std::env::var(PLAN) else {
        return;
    };
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    match plan.part {
        Part::Host => be_the_host(plan).await,
        Part::Worker => be_a_worker(plan).await,
        Part::Clients => be_clients(plan).await,
    }
}

/// Until the parent says so, or is gone.
async fn until_told_to_end() {
    let read = || std::io::stdin().read_to_end(&mut Vec::new());
    let _ = tokio::task::spawn_blocking(read).await;
}

async fn be_the_host(plan: Plan) {
    let workers = Workers::new();
    // A worker that gets no time to beat is not what kills an order here.
    let limits = Limits { attempts_max: 16, ..Limits::default() };
    let default = BridgeConfig::default();
    let config = BridgeConfig {
        heartbeat: plan.heartbeat.unwrap_or(default.heartbeat),
        token_file: Some(plan.token_file()),
        wire: plan.wire(),
        workers: workers.clone(),
        limits,
        ..default
    };
    let office = Office { ledger: Ledger::open(&plan.dir.join("ledger")), workers };
    // A port of the system's choice, which is written down.
    let asked = if plan.is_tcp { Endpoint::Tcp("127.0.0.1:0".parse().unwrap()) } else { plan.endpoint() };
    let server = serve(asked, Arc::new(office), config).await.unwrap();
    if plan.is_tcp {
        std::fs::write(plan.dir.join("address.new"), server.endpoint().to_string()).unwrap();
        std::fs::rename(plan.dir.join("address.new"), plan.dir.join("address")).unwrap();
    }
    until_told_to_end().await;
}

/// What a host in a child answers.
struct Office {
    ledger: Ledger,
    workers: Workers,
}

impl Service for Office {
    fn call(&self, call: Call, reply: Reply) {
        match call.method.as_str() {
            "count" => reply.finish(Ok(json!(self.ledger.decide(&call)))),
            "presence" => reply.finish(Ok(self.describe_presence())),
            "big" => drop(tokio::spawn(async move { reply.finish(Ok(of_bytes(&call.params))) })),
            "flood" => drop(tokio::spawn(flood(call, reply))),
            _ => reply.finish(Ok(call.params)),
        }
    }
}

fn of_bytes(count: &Value) -> Value {
    json!("x".repeat(usize::try_from(count.as_u64().unwrap()).unwrap()))
}

/// Does not wait for room.
async fn flood(call: Call, reply: Reply) {
    let piece = of_bytes(&call.params);
    while !call.cancelled.is_cancelled() {
        reply.chunk(1, piece.clone());
        tokio::task::yield_now().await;
    }
    reply.finish(Ok(Value::Null));
}

/// What a host says of its peers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Presence {
    pub(super) sessions: usize,
    pub(super) workers: usize,
    pub(super) expired: u64,
    pub(super) slow_readers: u64,
    /// What is held for the peer for which most is held.
    pub(super) held_bytes: usize,
}

impl Office {
    fn describe_presence(&self) -> Value {
        let (peers, stats) = self.workers.presence().unwrap();
        let held_bytes = peers.iter().map(|peer| peer.unacked_bytes + peer.waiting_bytes).max();
        let presence = Presence {
            sessions: stats.sessions,
            workers: stats.workers,
            expired: stats.expired,
            slow_readers: stats.slow_readers,
            held_bytes: held_bytes.unwrap_or(0),
        };
        serde_json::to_value(presence).unwrap()
    }
}

pub(super) async fn read_presence(client: &Client) -> Presence {
    let said = client.call("presence", Value::Null, CallOptions::with_deadline(PATIENCE)).await.unwrap();
    serde_json::from_value(said).unwrap()
}

async fn be_a_worker(plan: Plan) {
    let default = WorkerConfig::default();
    let pauses = plan.heartbeat.map_or((default.backoff_min, default.backoff_max), |pause| (pause, pause));
    let config = WorkerConfig {
        wire: plan.wire(),
        services: vec!["hands".into()],
        credit: plan.count,
        backoff_min: pauses.0,
        backoff_max: pauses.1,
        ..default
    };
    let worker = Worker::start(plan.endpoint(), config, Arc::new(Hands { dir: plan.dir })).unwrap();
    until_told_to_end().await;
    assert!(worker.drain(SOON).await, "jobs in hand were not done in time");
}

struct Hands {
    dir: PathBuf,
}

impl Service for Hands {
    fn call(&self, call: Call, reply: Reply) {
        let label = call.params["label"].as_u64().unwrap();
        append(&self.dir.join("begun"), &format!("{label:012} {:08}", std::process::id()));
        let was_begun = || read_begun(&self.dir).iter().filter(|begun| begun.label == label).count() > 1;
        match call.params["do"].as_str().unwrap() {
            "die" => std::process::abort(),
            // Whoever is first gets nowhere, and does not stop when told to.
            "hold" if was_begun() => reply.finish(Ok(json!("second"))),
            "hold" => drop(tokio::spawn(hold(reply))),
            // Whoever is first is stopped in the middle of it.
            "stop" if was_begun() => reply.finish(Ok(json!("second"))),
            "stop" => drop(tokio::spawn(stop(reply))),
            "busy" => drop(tokio::spawn(be_busy(call, reply))),
            _ => drop(tokio::spawn(take_a_moment(call, reply))),
        }
    }
}

async fn hold(reply: Reply) {
    std::future::pending::<()>().await;
    drop(reply);
}

async fn stop(reply: Reply) {
    signal(std::process::id(), "-STOP");
    reply.finish(Ok(json!("late")));
}

/// Leaves its process no time for anything else, and tells how it gets on.
async fn be_busy(call: Call, reply: Reply) {
    let until = std::time::Instant::now() + Duration::from_millis(call.params["ms"].as_u64().unwrap());
    while std::time::Instant::now() < until {
        reply.progress();
        std::thread::sleep(Duration::from_millis(10));
    }
    reply.finish(Ok(json!("done")));
}

/// Time to be killed in.
async fn take_a_moment(call: Call, reply: Reply) {
    tokio::time::sleep(Duration::from_millis(10)).await;
    reply.finish(Ok(call.params["label"].clone()));
}

async fn be_clients(plan: Plan) {
    let clients: Vec<_> = (0..u64::from(plan.count))
        .map(|index| tokio::spawn(be_a_client(plan.clone(), plan.index * 1_000 + index)))
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

/// Orders and calls, one after the other, until the file `stop` is there. Whatever may be repeated must succeed; what
/// must not be may be lost with its worker or its host.
async fn be_a_client(plan: Plan, name: u64) {
    let client = plan.client().await;
    let answered = || append(&plan.dir.join("answers"), &format!("{name:08}"));
    for round in 0.. {
        if plan.dir.join("stop").exists() {
            return;
        }
        // Even labels are for orders that may be repeated, odd ones for those that must not.
        let label = (name * 1_000_000 + round) * 2;
        let order = client.order("hands", job("moment", label), terms(Class::Idempotent, None)).await;
        assert_eq!(order.unwrap(), json!(label), "an order that may be repeated");
        answered();
        let order = client.order("hands", job("moment", label + 1), terms(Class::Once, None)).await;
        was_done(order).unwrap();
        answered();
        let counted = client.call("count", json!(label), CallOptions::with_deadline(PATIENCE)).await;
        assert_eq!(counted.unwrap(), json!(label.to_string()), "a numbered call");
        append(&plan.dir.join("counted"), &label.to_string());
        answered();
    }
}

/// Clients that were answered at least twice since the file `answers` had that length: what they had under way then,
/// and more.
pub(super) fn count_answered_since(dir: &Path, length: usize) -> usize {
    let text = std::fs::read_to_string(dir.join("answers")).unwrap_or_default();
    let mut answers = std::collections::BTreeMap::<&str, usize>::new();
    text.get(length..).unwrap_or_default().lines().for_each(|name| *answers.entry(name).or_default() += 1);
    answers.values().filter(|count| **count >= 2).count()
}
