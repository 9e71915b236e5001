//! An echo goes client → queue → worker → back over loopback TCP, and every byte is compared.
//!
//! `cargo run -p telos-bridge --example echo` prints one line, and fails at the first difference. All three are in one
//! process, and nothing here asks for Unix: so `cargo xtask test --only windows` runs it under Wine.
//!
//! ```text
//! echo: 8 orders of 0 to 6291456 bytes came back the same, client -> queue -> worker -> client over loopback TCP
//! ```
#![allow(clippy::print_stdout, reason = "the line is its output")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, Client, ClientConfig, Effect, Endpoint, OrderOptions, Reply, RpcError, Service,
    Standing, Worker, WorkerConfig, serve,
};

/// Around where ZeroMQ's header grows, and up to what takes more than one frame.
const SIZES: [usize; 8] = [0, 1, 100, 255, 256, 65_536, 1 << 20, 6 << 20];
/// As long as an order's own deadline: slow is not different.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The host's own service: whatever was echoed was echoed by the worker.
struct Nothing;

impl Service for Nothing {
    fn call(&self, _call: Call, reply: Reply) {
        reply.finish(Err(RpcError::new("nothing", Effect::None, "this host does nothing itself")));
    }
}

struct Echo;

impl Service for Echo {
    fn call(&self, call: Call, reply: Reply) {
        reply.finish(Ok(call.params));
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let scratch = tempfile::tempdir()?;
    let token_file = Some(scratch.path().join("token"));

    let config = BridgeConfig { token_file: token_file.clone(), ..BridgeConfig::default() };
    let queue = serve("tcp:127.0.0.1:0".parse()?, Arc::new(Nothing), config).await?;
    let endpoint = queue.endpoint().clone();

    let worker = start_worker(endpoint.clone(), token_file.clone()).await?;
    let client = Client::connect(endpoint, ClientConfig { token_file, ..ClientConfig::default() }).await?;
    for size in SIZES {
        let sent = json!(text_of(size));
        let answer = client.order("echo", sent.clone(), OrderOptions::default()).await?;
        compare(size, &sent, &answer)?;
    }

    client.close().await;
    if !worker.drain(PATIENCE).await {
        return Err("the worker did not end in peace".into());
    }
    queue.shutdown().await;
    println!(
        "echo: {} orders of {} to {} bytes came back the same, client -> queue -> worker -> client over loopback TCP",
        SIZES.len(),
        SIZES[0],
        SIZES[SIZES.len() - 1],
    );
    Ok(())
}

async fn start_worker(host: Endpoint, token_file: Option<std::path::PathBuf>) -> Outcome<Worker> {
    let config = WorkerConfig { services: vec!["echo".into()], token_file, ..WorkerConfig::default() };
    let worker = Worker::start(host, config, Arc::new(Echo))?;
    let mut standing = worker.standing();
    tokio::time::timeout(PATIENCE, standing.wait_for(|standing| *standing == Standing::Welcome)).await??;
    Ok(worker)
}

/// Rising numbers, so that a piece that is lost, repeated or out of place is a difference.
fn text_of(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 20);
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        text += &format!("{number} ");
    }
    text.truncate(bytes);
    text
}

fn compare(size: usize, sent: &Value, answer: &Value) -> Outcome<()> {
    if answer == sent {
        return Ok(());
    }
    let (sent, answer) = (sent.to_string(), answer.to_string());
    let at = sent.bytes().zip(answer.bytes()).take_while(|(one, other)| one == other).count();
    Err(format!("{size} bytes came back as {} of JSON, different from byte {at} on", answer.len()).into())
}
