//! Workers that are drained and hosts that are shut down while orders keep coming.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bridge::{BridgeConfig, Class, Client, serve};

use super::Scale;
use super::child::{count_begun_twice, job, read_begun, terms};
use super::figures::{Row, most};
use super::loss::Yard;
use crate::fixture::{Host, echo, eventually, performer};
use crate::wires::Wires;

/// What keeps coming, of which nothing may fail.
struct Load {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client, class: Class) -> Self {
        let (is_over, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let next = Arc::<AtomicU64>::default();
        let order = |_| {
            let (client, next) = (client.clone(), Arc::clone(&next));
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    let label = next.fetch_add(1, Ordering::SeqCst);
                    let order = client.order("hands", job("moment", label), terms(class, None)).await;
                    assert_eq!(order.unwrap(), json!(label));
                    assert_eq!(echo(&client, json!(label)).await, json!(label));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let tasks = (0..8).map(order).collect();
        Self { is_over, done, tasks }
    }

    /// Waits until so many more have been answered.
    async fn go_on(&self, count: u64) {
        let mark = self.done.load(Ordering::SeqCst) + count;
        eventually(|| self.done.load(Ordering::SeqCst) >= mark).await;
    }

    /// How many were answered; every one as it should.
    async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.done.load(Ordering::SeqCst)
    }
}

pub(super) async fn drained(wires: Wires, scale: Scale) -> Row {
    let mut yard = Yard::open(wires, BridgeConfig::default(), 4).await;
    yard.hire(3).await;
    let load = Load::start(&yard.client, Class::Once);
    let mut times = Vec::new();
    for _ in 0..scale.pick(3, 50) {
        load.go_on(20).await;
        times.push(replace_the_eldest(&mut yard).await);
    }
    let orders = load.end().await;
    assert_eq!(count_begun_twice(&read_begun(yard.dir())), 0);
    let (calls, stops) = stop_hosts(yard, scale.pick(2, 20)).await;
    Row {
        number: 19,
        fault: "drain of workers and of hosts under load",
        must_show: "nothing fails, and whoever is told to leave has left in time",
        seen: format!(
            "{} workers drained in at most {} under {orders} orders of class `once`, {} hosts in at most {} under \
             {calls} that may be repeated: 0 failed",
            times.len(),
            most(&times),
            stops.len(),
            most(&stops)
        ),
    }
}

/// How long it took to leave.
async fn replace_the_eldest(yard: &mut Yard) -> Duration {
    let count = yard.workers.len();
    yard.hire(count + 1).await;
    let since = Instant::now();
    assert!(yard.workers.remove(0).end().await, "it left with jobs in hand");
    let took = since.elapsed();
    eventually(|| yard.host.server.stats().workers == count).await;
    took
}

/// One host after the other at the same endpoint: how much was done, and how long each took to stop.
async fn stop_hosts(yard: Yard, rounds: usize) -> (u64, Vec<Duration>) {
    let Yard { host: Host { mut server, wires, deeds, dir: _dir }, client, workers: _workers, .. } = yard;
    let load = Load::start(&client, Class::Idempotent);
    let mut times = Vec::new();
    for _ in 0..rounds {
        load.go_on(20).await;
        let (endpoint, since) = (server.endpoint().clone(), Instant::now());
        server.shutdown().await;
        times.push(since.elapsed());
        server = serve(endpoint, performer(&deeds), wires.serving(BridgeConfig::default())).await.unwrap();
    }
    load.go_on(20).await;
    (load.end().await, times)
}
