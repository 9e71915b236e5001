//! Processes that a scenario may kill: this test binary again, as a host, a worker, or some clients.
//!
//! Each is told what to be in its environment, leaves its traces in a directory that all share, and ends when its
//! standard input does: a worker kindly. So none outlives the test, however that ends.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telos_bridge::{CallError, Class, Client, ClientConfig, Endpoint, OrderOptions, Wire};

use crate::fixture::eventually;

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

    /// None in the process of a test.
    pub(super) fn of_this_process() -> Option<Self> {
        let plan = std::env::var(PLAN).ok()?;
        Some(serde_json::from_str(&plan).unwrap())
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

    pub(super) fn wire(&self) -> Wire {
        *Wire::all().iter().find(|wire| wire.to_string() == self.wire).unwrap()
    }

    pub(super) fn token_file(&self) -> PathBuf {
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
            .args(["--exact", "faults::parts::child_of_a_scenario", "--nocapture"])
            .env(PLAN, serde_json::to_string(plan).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        Self { process: command.spawn().unwrap() }
    }

    /// A host, once it listens.
    pub(super) async fn start_host(plan: &Plan) -> Self {
        let child = Self::start(plan);
        eventually(|| is_listening(&plan.endpoint())).await;
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

fn is_listening(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        Endpoint::Tcp(address) => address.port() != 0 && std::net::TcpStream::connect(address).is_ok(),
    }
}

pub(super) fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Appends a line at once, so that lines of many processes do not mix.
pub(super) fn append(path: &Path, line: &str) {
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

/// Clients that were answered at least twice since the file `answers` had that length: what they had under way then,
/// and more.
pub(super) fn count_answered_since(dir: &Path, length: usize) -> usize {
    let text = std::fs::read_to_string(dir.join("answers")).unwrap_or_default();
    let mut answers = std::collections::BTreeMap::<&str, usize>::new();
    text.get(length..).unwrap_or_default().lines().for_each(|name| *answers.entry(name).or_default() += 1);
    answers.values().filter(|count| **count >= 2).count()
}
