//! How long a call takes over a Unix socket: one JSON object per row on stdout.
//!
//! `cargo run --release -p telos-bridge --example round_trip`: 1 client, then 32 at once; each call echoes a small
//! object through ROUTER and DEALER, both state machines and JSON, host and clients in one process.
#![allow(clippy::print_stdout, reason = "the rows are its output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bridge::{BridgeConfig, Call, CallOptions, Client, ClientConfig, Endpoint, Reply, Service, serve};

struct Echo;

impl Service for Echo {
    fn call(&self, call: Call, reply: Reply) {
        reply.finish(Ok(call.params));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("round-trip-{}.sock", std::process::id()));
    let server = serve(Endpoint::Unix(path), Arc::new(Echo), BridgeConfig::default()).await?;
    for (clients, calls) in [(1_usize, 20_000_usize), (32, 2_000)] {
        measure(server.endpoint(), clients, calls).await?;
    }
    server.shutdown().await;
    Ok(())
}

async fn measure(
    endpoint: &Endpoint,
    clients: usize,
    calls: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut tasks = Vec::new();
    let since = Instant::now();
    for _ in 0..clients {
        let client = Client::connect(endpoint.clone(), ClientConfig::default()).await?;
        tasks.push(tokio::spawn(async move { time_calls(&client, calls).await }));
    }
    let mut times = Vec::with_capacity(clients * calls);
    for task in tasks {
        times.extend(task.await??);
    }
    let elapsed = since.elapsed();
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    let per_second = f64::from(u32::try_from(times.len())?) / elapsed.as_secs_f64();
    println!(
        "{}",
        json!({
            "bench": "bridge", "case": format!("round trip, {clients} clients"), "calls": times.len(),
            "p50_us": percentile(50), "p99_us": percentile(99), "max_us": percentile(100),
            "calls_per_s": per_second.round(),
        })
    );
    Ok(())
}

async fn time_calls(client: &Client, calls: usize) -> Result<Vec<Duration>, telos_bridge::CallError> {
    let mut times = Vec::with_capacity(calls);
    for call in 0..calls {
        let since = Instant::now();
        client.call("echo", json!({"call": call}), CallOptions::default()).await?;
        times.push(since.elapsed());
    }
    Ok(times)
}
