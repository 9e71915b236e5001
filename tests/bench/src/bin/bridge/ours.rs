//! The echo through our bridge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bench::Samples;
use telos_bridge::{
    BridgeConfig, Call, Class, Client, ClientConfig, Effect, Endpoint, OrderOptions, Reply, RpcError, Server,
    Service, Standing, Worker, WorkerConfig, serve,
};

use crate::{Measured, check, is_over};

pub(crate) struct Echo {
    server: Server,
    client: Client,
    config: ClientConfig,
    _worker: Worker,
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
        let token_file = Some(scratch.path().join("token"));
        let endpoint = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
        let config = BridgeConfig { token_file: token_file.clone(), ..BridgeConfig::default() };
        let server = serve(endpoint, Arc::new(Nothing), config).await.expect("a host");
        let at = server.endpoint().clone();
        let worker = WorkerConfig {
            services: vec!["echo".into()],
            credit: 64,
            token_file: token_file.clone(),
            ..WorkerConfig::default()
        };
        let worker = Worker::start(at.clone(), worker, Arc::new(Mirror)).expect("a worker");
        worker.standing().wait_for(|standing| *standing == Standing::Welcome).await.expect("a welcome");
        let config = ClientConfig { token_file, ..ClientConfig::default() };
        let client = Client::connect(at, config.clone()).await.expect("a client");
        Self { server, client, config, _worker: worker, _scratch: scratch }
    }

    /// Clients that do nothing.
    pub(crate) async fn connect(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let endpoint = self.server.endpoint().clone();
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
