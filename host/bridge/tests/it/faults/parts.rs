//! What children do: a host that keeps a ledger, workers that write down what they begin, clients that never rest.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallOptions, Class, Client, Endpoint, Limits, PeerInfo, Reply, Service, Worker,
    WorkerConfig, Workers, serve,
};

use super::child::{PATIENCE, Part, Plan, append, job, read_begun, signal, terms, was_done};
use crate::fixture::SOON;
use crate::restart::Ledger;

/// The whole life of a child.
#[tokio::test]
async fn child_of_a_scenario() {
    let Some(plan) = Plan::of_this_process() else {
        return;
    };
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
    pub(super) slow_readers: u64,
    /// What is held for each, by what it calls itself.
    pub(super) held_bytes: BTreeMap<String, usize>,
}

impl Office {
    fn describe_presence(&self) -> Value {
        let (peers, stats) = self.workers.presence().unwrap();
        let held =
            |peer: &PeerInfo| (peer.session.client.to_string(), peer.unacked_bytes + peer.waiting_bytes);
        let presence = Presence {
            sessions: stats.sessions,
            workers: stats.workers,
            slow_readers: stats.slow_readers,
            held_bytes: peers.iter().map(held).collect(),
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

/// The signal reaches this thread some time after it was sent, so the answer waits for as long as that may take.
async fn stop(reply: Reply) {
    let since = std::time::Instant::now();
    signal(std::process::id(), "-STOP");
    while since.elapsed() < Duration::from_secs(1) {
        // Not as a task: it answers at once when it goes on.
        std::thread::sleep(Duration::from_millis(1));
    }
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
