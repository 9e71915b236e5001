//! The echo through our bridge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bench::Samples;
use telos_bridge::{
    BridgeConfig, Call, Class, Client, ClientConfig, Effect, Endpoint, OrderOptions, Reply, RpcError,
    Service, Standing, Worker, WorkerConfig, serve,
};

use crate::parts::{Part, stay};
use crate::{Measured, check, is_over};

pub(crate) struct Echo {
    endpoint: Endpoint,
    client: Client,
    config: ClientConfig,
    parts: [Part; 2],
    _scratch: tempfile::TempDir,
}

/// A host that does nothing itself.
struct Nothing;

impl Service for Nothing {
    fn call(&self, _call: Call, reply: Reply) {
        reply.finish(Err(RpcError::new("nothing", Effect::None, "this host does nothing itself")));
    }
}

struct Mirror;

impl Service for Mirror {
    fn call(&self, call: Call, reply: Reply) {
        reply.finish(Ok(call.params));
    }
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let token_file = scratch.path().join("token");
        let token = token_file.display().to_string();
        let queue = Part::start("our-queue", &[&token]);
        let worker = Part::start("our-worker", &[&queue.place, &token]);
        let endpoint: Endpoint = queue.place.parse().expect("an endpoint");
        let config = ClientConfig { token_file: Some(token_file), ..ClientConfig::default() };
        let client = Client::connect(endpoint.clone(), config.clone()).await.expect("a client");
        Self { endpoint, client, config, parts: [queue, worker], _scratch: scratch }
    }

    /// Memory of the queue's process, in bytes.
    pub(crate) fn queue_bytes(&self) -> u64 {
        self.parts[0].resident_bytes()
    }

    /// Clients that do nothing.
    pub(crate) async fn connect(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let endpoint = self.endpoint.clone();
            clients.push(Client::connect(endpoint, self.config.clone()).await.expect("a client"));
        }
        clients
    }

    pub(crate) async fn measure(&self, size: usize, outstanding: usize, run: Duration) -> Measured {
        let payload = json!("x".repeat(size));
        let start = Instant::now();
        let one = |_| tokio::spawn(echo(self.client.clone(), payload.clone(), start, run));
        let tasks: Vec<_> = (0..outstanding).map(one).collect();
        let mut measured = Measured::default();
        for task in tasks {
            measured.round_trips.extend(task.await.expect("a task"));
        }
        measured.took = start.elapsed();
        measured
    }
}

pub(crate) async fn be_queue(token_file: &str) {
    let endpoint = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
    let config = BridgeConfig { token_file: Some(token_file.into()), ..BridgeConfig::default() };
    let server = serve(endpoint, Arc::new(Nothing), config).await.expect("a host");
    stay(&server.endpoint().to_string()).await;
}

pub(crate) async fn be_worker(host: &str, token_file: &str) {
    let config = WorkerConfig {
        services: vec!["echo".into()],
        credit: 64,
        token_file: Some(token_file.into()),
        ..WorkerConfig::default()
    };
    let worker =
        Worker::start(host.parse().expect("an endpoint"), config, Arc::new(Mirror)).expect("a worker");
    worker.standing().wait_for(|standing| *standing == Standing::Welcome).await.expect("a welcome");
    stay("ready").await;
}

async fn echo(client: Client, payload: Value, start: Instant, run: Duration) -> Samples {
    let mut samples = Samples::default();
    let options = OrderOptions { class: Class::Idempotent, ..OrderOptions::default() };
    while !is_over(start, run) {
        let sent = Instant::now();
        let answer = client.order("echo", payload.clone(), options).await.expect("an answer");
        samples.add(sent.elapsed());
        check(answer == payload);
    }
    samples
}
