//! Goal: no accepted request is lost or repeated in effect when the host is killed and started again.
//! Method: the host is this test binary in a child process with a durable memory of effects, killed with SIGKILL and
//! restarted over and over while eight clients count; then every effect is on disk exactly once.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use telos_bridge::{BridgeConfig, Call, Client, ClientConfig, Endpoint, Reply, Service, serve};

use crate::fixture::{eventually, within};
use crate::wires::{Wires, on_every_pair};

const CLIENTS: u64 = 8;
const CALLS: u64 = 60;
const KILLS: usize = 4;
/// Where the host is to be; set in its own process only.
pub(crate) const HOST_DIRECTORY: &str = "TELOS_BRIDGE_TEST_HOST";

/// Appends one line per effect. A repeat finds the line of the first time and answers from it.
pub(crate) struct Ledger {
    file: parking_lot::Mutex<(std::fs::File, HashMap<String, String>)>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let known = text.lines().filter_map(|line| line.split_once(' '));
        let known = known.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        Self { file: parking_lot::Mutex::new((file, known)) }
    }

    pub(crate) fn decide(&self, call: &Call) -> String {
        let key = format!("{:032x}/{}/{}", call.session.client, call.session.incarnation, call.number);
        let mut locked = self.file.lock();
        let (file, known) = &mut *locked;
        if let Some(value) = known.get(&key) {
            return value.clone();
        }
        let value = call.params.to_string();
        file.write_all(format!("{key} {value}\n").as_bytes()).unwrap();
        known.insert(key, value.clone());
        value
    }
}

impl Service for Ledger {
    fn call(&self, call: Call, reply: Reply) {
        reply.accepted();
        let value = self.decide(&call);
        tokio::spawn(async move {
            // Time to be killed between effect and reply.
            tokio::time::sleep(Duration::from_millis(5)).await;
            reply.finish(Ok(json!(value)));
        });
    }
}

/// The child's whole life.
async fn be_the_host(wires: Wires, dir: &Path) {
    let config = BridgeConfig { heartbeat: Duration::from_millis(200), ..BridgeConfig::default() };
    let config = wires.serving(config);
    let ledger = Arc::new(Ledger::open(&dir.join("ledger")));
    let _server = serve(Endpoint::Unix(dir.join("host.sock")), ledger, config).await.unwrap();
    std::future::pending::<()>().await;
}

pub(crate) struct HostProcess(pub(crate) Child);

impl HostProcess {
    /// Runs the test of that name in a process of its own, which is to be the host.
    pub(crate) fn start(test: &str, dir: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(HOST_DIRECTORY, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_host_killed_and_restarted_loses_and_repeats_nothing(wires: Wires) {
    if let Some(dir) = std::env::var_os(HOST_DIRECTORY) {
        return be_the_host(wires, Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(dir.path().join("host.sock"));
    let test = format!("restart::{}::a_host_killed_and_restarted_loses_and_repeats_nothing", wires.module);
    let mut host = HostProcess::start(&test, dir.path());
    eventually(|| std::os::unix::net::UnixStream::connect(dir.path().join("host.sock")).is_ok()).await;

    let are_killing = Arc::new(AtomicBool::new(true));
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let client = Client::connect(endpoint.clone(), wires.calling(ClientConfig::default())).await.unwrap();
        let are_killing = Arc::clone(&are_killing);
        clients.push(tokio::spawn(async move { count(&client, index, &are_killing).await }));
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.kill();
        host = HostProcess::start(&test, dir.path());
    }
    are_killing.store(false, Ordering::SeqCst);
    let mut expected = Vec::new();
    for client in clients {
        expected.extend(client.await.unwrap());
    }
    host.kill();

    let ledger = std::fs::read_to_string(dir.path().join("ledger")).unwrap();
    let mut effects: Vec<String> =
        ledger.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    effects.sort();
    expected.sort();
    assert_eq!(effects.len(), expected.len());
    assert_eq!(effects, expected, "every acknowledged effect once, and no other");
}

/// Counts until the killing is over, and at least `CALLS` times; every call must succeed.
async fn count(client: &Client, index: u64, are_killing: &AtomicBool) -> Vec<String> {
    let mut done = Vec::new();
    while (done.len() as u64) < CALLS || are_killing.load(Ordering::SeqCst) {
        let value = json!(format!("{index}-{}", done.len()));
        let answer = client.call("count", value.clone(), within(Duration::from_secs(60))).await;
        assert_eq!(answer.unwrap(), json!(value.to_string()), "call {} of client {index}", done.len());
        done.push(value.to_string());
    }
    done
}

on_every_pair! {
    "multi_thread":
        a_host_killed_and_restarted_loses_and_repeats_nothing;
}
