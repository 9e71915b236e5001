//! Bare Paranoid Pirate with programs that are not ours: workers, queues and clients in Python, written from the
//! specification, against our queue and our worker.
//!
//! Nothing here is timed: each step waits for what the one before it has to bring about, within a generous bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use telos_bridge::{
    Call, Endpoint, PppConfig, PppServer, PppStanding, PppWorker, PppWorkerConfig, Reply, Service, serve_ppp,
};
use tempfile::TempDir;

use crate::fixture::{Deeds, SOON, eventually, performer};
use crate::hostile::RawPeer;
use crate::python::{Program, ask, example, expected_output, python};

/// What both sides beat by, in seconds: theirs and ours have to agree.
const INTERVAL: &str = "0.3";

fn interval() -> Duration {
    Duration::from_secs_f64(INTERVAL.parse().unwrap())
}

/// Our queue, and where programs find it.
struct Pair {
    server: PppServer,
    deeds: Arc<Deeds>,
    _dir: TempDir,
}

impl Pair {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut PppConfig)) -> Self {
        let deeds = Arc::<Deeds>::default();
        let service = performer(&deeds);
        Self { deeds, ..Self::serving(service, change).await }
    }

    async fn serving(service: Arc<dyn Service>, change: impl FnOnce(&mut PppConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = |name: &str| Endpoint::Unix(dir.path().join(name));
        let mut config = PppConfig::new(endpoint("front.sock"), endpoint("back.sock"));
        config.heartbeat = interval();
        // A starved machine must not look like a death.
        config.liveness = 20;
        change(&mut config);
        let server = serve_ppp(config, service).await.unwrap();
        Self { server, deeds: Arc::default(), _dir: dir }
    }

    fn frontend(&self) -> String {
        spell(self.server.frontend())
    }

    fn worker(&self, python: &Path, arguments: &[&str]) -> Program {
        let backend = spell(self.server.backend());
        Program::start(python, "worker", &[&[&*backend, INTERVAL], arguments].concat())
    }

    async fn workers(&self, count: usize) {
        eventually(|| self.server.stats().workers == count).await;
    }
}

fn spell(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("ipc://{}", path.display()),
        Endpoint::Tcp(address) => format!("tcp://{address}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_clients_and_workers_meet_in_our_queue() {
    let Some(python) = python() else { return };
    let pair = Pair::start().await;
    let _workers = [pair.worker(&python, &[]), pair.worker(&python, &[])];
    pair.workers(2).await;
    let requests = ["hello", "a|b", "|x", "sleep 0.1"];
    assert_eq!(ask(&python, &pair.frontend(), &requests).await, ["hello", "a|b", "|x", "slept"]);
    let stats = pair.server.stats();
    assert_eq!((stats.replies, stats.malformed, stats.fenced), (4, 0, 0));
    pair.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_meet_over_tcp_too() {
    let Some(python) = python() else { return };
    let any_port = || "tcp:127.0.0.1:0".parse().unwrap();
    let pair = Pair::start_with(|config| (config.frontend, config.backend) = (any_port(), any_port())).await;
    let _worker = pair.worker(&python, &[]);
    assert_eq!(ask(&python, &pair.frontend(), &["hello"]).await, ["hello"]);
}

/// Goal: a worker that sleeps through many intervals is not taken for dead. Method: the interval is short against its
/// sleep, and it is the only worker, so a redispatch would show as a second attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_beat_while_it_works_keeps_its_request() {
    let Some(python) = python() else { return };
    let pair = Pair::start_with(|config| config.liveness = 3).await;
    let _worker = pair.worker(&python, &[]);
    pair.workers(1).await;
    assert_eq!(ask(&python, &pair.frontend(), &["sleep 3"]).await, ["slept"]);
    assert_eq!((pair.server.stats().given, pair.server.stats().redispatched), (1, 0));
}

/// Goal: no request is lost with its worker. Method: `kill -9` of one that is known to have it.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_killed_worker_goes_to_another() {
    let Some(python) = python() else { return };
    let pair = Pair::start().await;
    let holding = pair.worker(&python, &["--hold"]);
    pair.workers(1).await;
    let asking = tokio::spawn({
        let (python, frontend) = (python.clone(), pair.frontend());
        async move { ask(&python, &frontend, &["precious"]).await }
    });
    holding.wait_for("job precious");
    let _other = pair.worker(&python, &[]);
    pair.workers(2).await;
    holding.kill();
    assert_eq!(asking.await.unwrap(), ["precious"]);
    let stats = pair.server.stats();
    assert_eq!((stats.given, stats.redispatched, stats.replies), (2, 1, 1));
}

/// Goal: a late reply reaches nobody. Method: a lease shorter than the sleep of the first worker; the second answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_reply_of_a_worker_whose_lease_ran_out_is_dropped() {
    let Some(python) = python() else { return };
    let pair = Pair::start_with(|config| config.lease = Some(Duration::from_secs(1))).await;
    let slow = pair.worker(&python, &[]);
    pair.workers(1).await;
    let _client = Program::start(&python, "client", &[&pair.frontend(), "60", "1", "sleep 4"]);
    slow.wait_for("job sleep 4");
    // It takes over and is late as well; whichever attempt counts when its reply comes, no other does.
    let _other = pair.worker(&python, &[]);
    slow.wait_for("done");
    eventually(|| pair.server.stats().fenced >= 1).await;
    eventually(|| pair.server.stats().redispatched >= 1).await;
    assert_eq!(pair.server.stats().replies, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_the_queue_that_comes_after_a_dead_one() {
    let Some(python) = python() else { return };
    let pair = Pair::start_with(|config| config.liveness = 3).await;
    let (frontend, backend) = (pair.server.frontend().clone(), pair.server.backend().clone());
    let worker = pair.worker(&python, &[]);
    pair.workers(1).await;
    // It says READY only after its own patience; until then its beats are a stranger's to the next queue.
    pair.server.shutdown().await;
    let mut config = PppConfig::new(frontend, backend);
    config.heartbeat = interval();
    let next = serve_ppp(config, performer(&Arc::default())).await.unwrap();
    worker.wait_for("silent");
    eventually(|| next.stats().workers == 1).await;
    assert_eq!(ask(&python, &spell(next.frontend()), &["hello"]).await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_rpc_request_reaches_the_host_with_the_role_of_a_client() {
    let Some(python) = python() else { return };
    let pair = Pair::start().await;
    let request = |id: Value, method: &str| {
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [7]}).to_string()
    };
    let requests = [
        request(json!(1), "echo"),
        request(json!("x"), "role"),
        request(json!(1), "missing"),
        request(json!(2), "panic"),
    ];
    let answers = ask(&python, &pair.frontend(), &requests.each_ref().map(String::as_str)).await;
    let answers: Vec<Value> = answers.iter().map(|answer| serde_json::from_str(answer).unwrap()).collect();
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 1, "result": [7]}));
    assert_eq!(answers[1], json!({"jsonrpc": "2.0", "id": "x", "result": "Client"}));
    assert_eq!(
        (&answers[2]["id"], &answers[2]["error"]["data"]["kind"]),
        (&json!(1), &json!("unknown-method"))
    );
    assert_eq!(answers[3]["error"]["data"]["kind"], "abandoned");
    assert_eq!(pair.server.stats().dispatched, 4);
}

/// The Lazy Pirate is gone before its answer: what the host began for it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_cancels_what_it_asked_of_the_host() {
    let Some(python) = python() else { return };
    let pair = Pair::start().await;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "wait"}).to_string();
    let _client = Program::start(&python, "client", &[&pair.frontend(), "1", "1", &request]);
    eventually(|| !pair.deeds.cancelled.lock().is_empty()).await;
    assert_eq!(*pair.deeds.cancelled.lock(), [telos_bridge::CancelReason::ClientGone]);
    eventually(|| pair.server.stats().clients == 0).await;
}

fn path(endpoint: &Endpoint) -> &Path {
    match endpoint {
        Endpoint::Unix(path) => path,
        Endpoint::Tcp(_) => panic!("not a socket file"),
    }
}

/// Goal: nobody holds memory of ours by not reading. Method: a client asks for more than it may have unread, and what
/// the kernel takes for it, and reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_hung_up_on() {
    let pair = Pair::start_with(|config| config.limits.client_unread_bytes_max = 2 << 20).await;
    let mut client = RawPeer::connect(path(pair.server.frontend())).await;
    for id in 0..30 {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "big", "params": 1 << 20}).to_string();
        if !client.try_send(vec![Bytes::new(), Bytes::from(request)]).await {
            break;
        }
    }
    eventually(|| pair.server.stats().slow_readers == 1 && pair.server.stats().clients == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_dropped_and_its_sender_hung_up_on_in_the_end() {
    let pair = Pair::start().await;
    let mut good = RawPeer::connect(path(pair.server.frontend())).await;
    let mut worker = RawPeer::connect(path(pair.server.backend())).await;
    worker.send(vec![Bytes::from_static(&[1])]).await;
    for endpoint in [pair.server.frontend(), pair.server.backend()] {
        let mut bad = RawPeer::connect(path(endpoint)).await;
        let mut is_hung_up = false;
        for _ in 0..2_000 {
            is_hung_up = !bad.try_send(vec![Bytes::from_static(b"no"), Bytes::from_static(b"sense")]).await;
            if is_hung_up {
                break;
            }
            // Receiving is what notices the end of the connection.
            let _ = tokio::time::timeout(Duration::from_millis(5), bad.try_read()).await;
        }
        assert!(is_hung_up);
    }
    assert!(pair.server.stats().malformed >= 18);
    good.send(vec![Bytes::new(), Bytes::from_static(b"hello")]).await;
    let asked = loop {
        let message = worker.read().await;
        if message.len() > 1 {
            break message;
        }
    };
    worker.send(asked).await;
    assert_eq!(good.read().await, [Bytes::new(), Bytes::from_static(b"hello")]);
}

/// Answers as a host with the plugin `counter` in a fresh home.
struct FreshCounter;

impl Service for FreshCounter {
    fn call(&self, call: Call, reply: Reply) {
        assert_eq!(
            (call.method.as_str(), &call.params),
            ("object.send", &json!({"object": "counter", "selector": "increment"}))
        );
        reply.finish(Ok(json!({"value": 1, "position": 2, "replayed": false})));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_client_prints_what_its_header_says() {
    let Some(python) = python() else { return };
    let pair = Pair::serving(Arc::new(FreshCounter), |_| {}).await;
    let frontend = pair.frontend();
    let run = move || example(&python, "ppp_client.py", &[&frontend, "counter", "increment"]);
    let said = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(said, expected_output("ppp_client.py"));
}

/// Their queue, and where it listens.
struct TheirQueue {
    program: Program,
    frontend: String,
    backend: Endpoint,
}

impl TheirQueue {
    fn start(python: &Path, dir: &Path) -> Self {
        let (front, back) = (dir.join("front.sock"), dir.join("back.sock"));
        let frontend = format!("ipc://{}", front.display());
        let program =
            Program::start(python, "queue", &[&frontend, &format!("ipc://{}", back.display()), INTERVAL]);
        program.wait_for("up");
        Self { program, frontend, backend: Endpoint::Unix(back) }
    }
}

/// Answers what it is asked; `sleep` takes its time.
struct Sleeper;

impl Service for Sleeper {
    fn call(&self, call: Call, reply: Reply) {
        tokio::spawn(async move {
            if call.params[0] == "sleep" {
                tokio::time::sleep(10 * interval()).await;
            }
            reply.finish(Ok(call.params));
        });
    }
}

fn our_worker(backend: &Endpoint) -> PppWorker {
    let config = PppWorkerConfig {
        heartbeat: interval(),
        liveness: 3,
        backoff_min: interval(),
        backoff_max: 2 * interval(),
        ..PppWorkerConfig::default()
    };
    PppWorker::start(backend.clone(), config, Arc::new(Sleeper)).unwrap()
}

async fn heard(worker: &PppWorker) {
    let mut standing = worker.standing();
    let is_heard = standing.wait_for(|standing| *standing == PppStanding::Heard);
    tokio::time::timeout(SOON, is_heard).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn our_worker_serves_the_guides_queue() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let queue = TheirQueue::start(&python, dir.path());
    let worker = our_worker(&queue.backend);
    heard(&worker).await;
    let json_rpc = json!({"jsonrpc": "2.0", "id": "a", "method": "m", "params": {"n": 1}}).to_string();
    let answers = ask(&python, &queue.frontend, &["hello", "a|b", "sleep", &json_rpc]).await;
    assert_eq!(answers[..3], ["hello", "a|b", "sleep"]);
    assert_eq!(
        serde_json::from_str::<Value>(&answers[3]).unwrap(),
        json!({"jsonrpc": "2.0", "id": "a", "result": {"n": 1}})
    );
    assert!(!queue.program.said().contains(&"second".to_owned()), "it beat with a request in hand");
    assert!(worker.drain(SOON).await);
}

/// Goal: a worker survives its queue. Method: `kill -9` of the queue, and another in its place.
#[tokio::test(flavor = "multi_thread")]
async fn our_worker_finds_the_queue_that_comes_after_a_killed_one() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let queue = TheirQueue::start(&python, dir.path());
    let worker = our_worker(&queue.backend);
    heard(&worker).await;
    let mut standing = worker.standing();
    queue.program.kill();
    let away = standing.wait_for(|standing| *standing == PppStanding::Away);
    tokio::time::timeout(SOON, away).await.unwrap().unwrap();
    let queue = TheirQueue::start(&python, dir.path());
    heard(&worker).await;
    assert_eq!(ask(&python, &queue.frontend, &["hello"]).await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_worker_serves_our_own_queue_and_leaves_it_kindly() {
    let pair = Pair::start().await;
    let worker = our_worker(pair.server.backend());
    pair.workers(1).await;
    heard(&worker).await;
    assert!(worker.drain(SOON).await);
    pair.workers(0).await;
}

#[tokio::test]
async fn endpoints_and_settings_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| Endpoint::Unix(dir.path().join(name));
    let refused = async |change: &dyn Fn(&mut PppConfig)| {
        let mut config = PppConfig::new(here("front"), here("back"));
        change(&mut config);
        serve_ppp(config, performer(&Arc::default())).await.unwrap_err().to_string()
    };
    let open = || Endpoint::Tcp("0.0.0.0:0".parse().unwrap());
    assert!(refused(&|config| config.frontend = open()).await.contains("loopback"));
    assert!(refused(&|config| config.backend = open()).await.contains("loopback"));
    assert!(refused(&|config| config.heartbeat = Duration::ZERO).await.contains("heartbeat"));
    assert!(refused(&|config| config.lease = Some(Duration::ZERO)).await.contains("lease"));
    assert!(refused(&|config| config.liveness = u32::MAX).await.contains("liveness"));
    assert!(refused(&|config| config.backend = here("front")).await.contains("answers"));
}
