//! How long a call takes over a Unix socket, and how many chunks a stream brings: one JSON object per row on stdout.
//!
//! `cargo run --release -p telos-bridge --features omq --example round_trip`: 1 client, then 32 at once, each call
//! echoing a small object through ROUTER and DEALER, both state machines and JSON; then one stream. Host and clients
//! are in one process. Each wire that is compiled in takes its turn, three times. The processor's time is that of the
//! whole process, and says more than the clock where a machine is shared.
#![allow(clippy::print_stdout, reason = "the rows are its output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallError, CallOptions, Client, ClientConfig, Endpoint, Event, Reply, Server,
    Service, Wire, serve,
};

const ROUNDS: usize = 3;
const CHUNKS: u64 = 50_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Echoes, or counts up to a number.
struct Echo;

impl Service for Echo {
    fn call(&self, call: Call, reply: Reply) {
        if call.method == "count" {
            tokio::spawn(count(call, reply));
        } else {
            reply.finish(Ok(call.params));
        }
    }
}

async fn count(call: Call, reply: Reply) {
    for number in 0..call.params.as_u64().unwrap_or_default() {
        reply.chunk_when_room(1, json!({"number": number})).await;
    }
    reply.finish(Ok(Value::Null));
}

#[tokio::main]
async fn main() -> Outcome<()> {
    for _ in 0..ROUNDS {
        for wire in Wire::all() {
            let path = std::env::temp_dir().join(format!("round-trip-{}.sock", std::process::id()));
            let config = BridgeConfig { wire: *wire, ..BridgeConfig::default() };
            let server = serve(Endpoint::Unix(path), Arc::new(Echo), config).await?;
            for (clients, calls) in [(1, 20_000), (32, 2_000)] {
                measure_calls(&server, *wire, clients, calls).await?;
            }
            measure_stream(&server, *wire).await?;
            server.shutdown().await;
        }
    }
    Ok(())
}

async fn connect(server: &Server, wire: Wire) -> Outcome<Client> {
    let config = ClientConfig { wire, ..ClientConfig::default() };
    Ok(Client::connect(server.endpoint().clone(), config).await?)
}

async fn measure_calls(server: &Server, wire: Wire, clients: usize, calls: usize) -> Outcome<()> {
    let mut tasks = Vec::new();
    let (since, cpu_since) = (Instant::now(), ProcessTime::now());
    for _ in 0..clients {
        let client = connect(server, wire).await?;
        tasks.push(tokio::spawn(async move { time_calls(&client, calls).await }));
    }
    let mut times = Vec::with_capacity(clients * calls);
    for task in tasks {
        times.extend(task.await??);
    }
    let (elapsed, cpu) = (since.elapsed(), cpu_since.elapsed());
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!(
        "{}",
        json!({
            "bench": "bridge", "wire": wire.to_string(), "case": format!("round trip, {clients} clients"),
            "calls": times.len(), "p50_us": percentile(50), "p99_us": percentile(99), "max_us": percentile(100),
            "calls_per_s": per_second(times.len(), elapsed)?, "cpu_us_per_call": micros_each(times.len(), cpu)?,
        })
    );
    Ok(())
}

async fn measure_stream(server: &Server, wire: Wire) -> Outcome<()> {
    let client = connect(server, wire).await?;
    let (since, cpu_since) = (Instant::now(), ProcessTime::now());
    let mut stream = client.stream("count", json!(CHUNKS), CallOptions::default()).await;
    let mut chunks = 0;
    while let Some(event) = stream.recv().await {
        match event {
            Event::Chunk { .. } => chunks += 1,
            Event::Done(result) => drop(result?),
            _ => {}
        }
    }
    let (elapsed, cpu) = (since.elapsed(), cpu_since.elapsed());
    println!(
        "{}",
        json!({
            "bench": "bridge", "wire": wire.to_string(), "case": "stream, 1 client", "chunks": chunks,
            "chunks_per_s": per_second(chunks, elapsed)?, "cpu_us_per_chunk": micros_each(chunks, cpu)?,
        })
    );
    Ok(())
}

async fn time_calls(client: &Client, calls: usize) -> Result<Vec<Duration>, CallError> {
    let mut times = Vec::with_capacity(calls);
    for call in 0..calls {
        let since = Instant::now();
        client.call("echo", json!({"call": call}), CallOptions::default()).await?;
        times.push(since.elapsed());
    }
    Ok(times)
}

fn micros_each(count: usize, spent: Duration) -> Outcome<f64> {
    Ok((spent.as_secs_f64() * 1e7 / f64::from(u32::try_from(count)?)).round() / 10.0)
}

fn per_second(count: usize, elapsed: Duration) -> Outcome<f64> {
    Ok((f64::from(u32::try_from(count)?) / elapsed.as_secs_f64()).round())
}
