//! A host to talk to, whose service does what its method says, and records what became of its calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallOptions, CancelReason, Client, ClientConfig, Effect, Endpoint, Reply, RpcError,
    Server, Service, serve,
};
use tempfile::TempDir;

use crate::wires::Wires;

/// A generous bound for anything that should happen soon, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) open: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    pub(crate) said: AtomicUsize,
    pub(crate) gate: tokio::sync::Notify,
    pub(crate) cancelled: parking_lot::Mutex<Vec<CancelReason>>,
}

struct Performer(Arc<Deeds>);

impl Service for Performer {
    fn call(&self, call: Call, reply: Reply) {
        assert!(call.method != "panic", "asked to panic");
        let deeds = Arc::clone(&self.0);
        deeds.open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            perform(call, reply, &deeds).await;
            deeds.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn perform(call: Call, reply: Reply, deeds: &Deeds) {
    match call.method.as_str() {
        "echo" => reply.finish(Ok(call.params)),
        "role" => reply.finish(Ok(json!(format!("{:?}", call.role)))),
        "session" => reply.finish(Ok(json!([call.session.client.to_string(), call.session.incarnation]))),
        "count" => {
            reply.accepted();
            let n = call.params.as_u64().unwrap();
            for i in 0..n {
                reply.chunk_when_room(1, json!(i)).await;
                deeds.said.fetch_add(1, Ordering::SeqCst);
            }
            reply.finish(Ok(json!(n)));
        }
        "rush" => {
            (0..call.params.as_u64().unwrap()).for_each(|i| reply.chunk(1, json!(i)));
            reply.finish(Ok(json!("done")));
        }
        "restart" => {
            reply.chunk(1, json!("void"));
            reply.reset(2);
            reply.chunk(2, json!("kept"));
            reply.finish(Ok(json!("kept")));
        }
        // A flood that waits for room.
        "flow" => {
            while !call.cancelled.is_cancelled() {
                reply.chunk_when_room(1, json!("x")).await;
            }
            end_cancelled(&call, reply, deeds);
        }
        "flood" => {
            let chunk = json!("x".repeat(usize::try_from(call.params.as_u64().unwrap()).unwrap()));
            while !call.cancelled.is_cancelled() {
                reply.chunk(1, chunk.clone());
                tokio::task::yield_now().await;
            }
            end_cancelled(&call, reply, deeds);
        }
        // Its fate is unknown until it has been asked about as often as its parameter says.
        "doubtful" => {
            let asked = deeds.asked.fetch_add(1, Ordering::SeqCst) as u64;
            reply.finish(if asked < call.params.as_u64().unwrap() {
                Err(RpcError::new("unavailable", Effect::Unknown, "the disk failed").with_incident(7))
            } else {
                Ok(json!(asked))
            });
        }
        "gate" => {
            deeds.gate.notified().await;
            reply.finish(Ok(json!("through")));
        }
        "wait" => {
            call.cancelled.cancelled().await;
            end_cancelled(&call, reply, deeds);
        }
        "ignore" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            reply.finish(Ok(json!("late")));
        }
        "big" => reply.finish(Ok(json!("y".repeat(usize::try_from(call.params.as_u64().unwrap()).unwrap())))),
        "drop" => drop(reply),
        other => {
            reply.finish(Err(RpcError::new("unknown-method", Effect::None, format!("no method {other}"))))
        }
    }
}

fn end_cancelled(call: &Call, reply: Reply, deeds: &Deeds) {
    let reason = call.cancelled.reason().unwrap();
    deeds.cancelled.lock().push(reason);
    reply.finish(Err(RpcError::new("cancelled", Effect::None, format!("{reason:?}"))));
}

/// One host on a socket in a directory of its own.
pub(crate) struct Host {
    pub(crate) wires: Wires,
    pub(crate) server: Server,
    pub(crate) deeds: Arc<Deeds>,
    pub(crate) dir: TempDir,
}

/// For tests whose subject is not presence: a starved machine must not look like a death.
pub(crate) fn calm() -> BridgeConfig {
    BridgeConfig { heartbeat: Duration::from_secs(20), ..BridgeConfig::default() }
}

/// For tests that wait for silence to be noticed.
pub(crate) fn quick() -> BridgeConfig {
    BridgeConfig { heartbeat: Duration::from_millis(200), ..BridgeConfig::default() }
}

impl Host {
    pub(crate) async fn start(wires: Wires, config: BridgeConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(dir.path().join("host.sock"));
        let deeds = Arc::<Deeds>::default();
        let server = serve(endpoint, performer(&deeds), wires.serving(config)).await.unwrap();
        Self { wires, server, deeds, dir }
    }

    pub(crate) async fn client(&self) -> Client {
        let config = self.wires.calling(ClientConfig::default());
        Client::connect(self.server.endpoint().clone(), config).await.unwrap()
    }

    pub(crate) fn open(&self) -> usize {
        self.deeds.open.load(Ordering::SeqCst)
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.dir.path().join("host.sock")
    }
}

/// The service alone, for a host that a test starts itself.
pub(crate) fn performer(deeds: &Arc<Deeds>) -> Arc<dyn Service> {
    Arc::new(Performer(Arc::clone(deeds)))
}

pub(crate) fn within(deadline: Duration) -> CallOptions {
    CallOptions::with_deadline(deadline)
}

pub(crate) async fn echo(client: &Client, value: Value) -> Value {
    client.call("echo", value, within(SOON)).await.unwrap()
}

/// Waits for `is_so` without guessing how long it takes.
#[track_caller]
pub(crate) fn eventually(is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    eventually_within(SOON, is_so)
}

/// The same for what may take longer.
#[track_caller]
pub(crate) fn eventually_within(most: Duration, mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < most, "not within {most:?}: {place}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
