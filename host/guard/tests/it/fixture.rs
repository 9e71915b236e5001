//! A bridge behind a guard, and peers of every kind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallOptions, Client, ClientConfig, Door, Endpoint, Reply, Role, Server, Service,
    serve,
};
use telos_guard::{Guard, GuardConfig, GuardLimits, Keys, PrivateKey, Proxy, Remote};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A generous bound for anything that should happen soon, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

struct Performer;

impl Service for Performer {
    fn call(&self, call: Call, reply: Reply) {
        reply.finish(match call.method.as_str() {
            "role" => Ok(json!(call.role.as_str())),
            "big" => Ok(json!("y".repeat(usize::try_from(call.params.as_u64().unwrap()).unwrap()))),
            _ => Ok(call.params),
        });
    }
}

/// One host with an open port.
pub(crate) struct Post {
    pub(crate) guard: Guard,
    pub(crate) keys: Keys,
    pub(crate) server: Server,
    dir: TempDir,
}

/// For tests whose subject is not time: a starved machine must not look like a dead peer.
pub(crate) fn calm() -> GuardLimits {
    GuardLimits {
        handshake: Duration::from_secs(60),
        silence: Duration::from_secs(120),
        ..GuardLimits::default()
    }
}

impl Post {
    pub(crate) async fn start(limits: GuardLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let doors = Role::ALL.map(|role| Door {
            endpoint: Endpoint::Unix(dir.path().join(format!("{}.sock", role.as_str()))),
            role_max: role,
        });
        let heartbeat = Duration::from_secs(20);
        let config = BridgeConfig { heartbeat, doors: doors.to_vec(), ..BridgeConfig::default() };
        let endpoint = Endpoint::Unix(dir.path().join("host.sock"));
        let server = serve(endpoint, Arc::new(Performer), config).await.unwrap();
        let keys = Keys::at(dir.path().join("keys"));
        let guard = start_guard(keys.clone(), doors.to_vec(), limits).await;
        Self { guard, keys, server, dir }
    }

    /// A key on the list, by the name of its role and a number.
    pub(crate) fn allow(&self, name: &str, role: Role) -> PrivateKey {
        allow(&self.keys, name, role)
    }

    pub(crate) async fn proxy(&self, key: &PrivateKey) -> Proxy {
        Proxy::private(self.guard.remote().clone(), key.clone(), None).await.unwrap()
    }

    /// A client of our own with this key.
    pub(crate) async fn client(&self, key: &PrivateKey) -> Peer {
        let proxy = self.proxy(key).await;
        let client = connect(proxy.endpoint().clone()).await;
        Peer { client, proxy }
    }

    /// A client by the private socket, beside the guard.
    pub(crate) async fn neighbour(&self) -> Client {
        connect(self.server.endpoint().clone()).await
    }

    pub(crate) fn refused(&self, name: &str) -> u64 {
        self.guard.stats().refused_for(name)
    }

    pub(crate) fn port(&self) -> SocketAddr {
        self.guard.remote().address().parse().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub(crate) async fn start_guard(keys: Keys, doors: Vec<Door>, limits: GuardLimits) -> Guard {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Guard::start(GuardConfig { listen, keys, doors, limits, on_refusal: None }).await.unwrap()
}

pub(crate) fn allow(keys: &Keys, name: &str, role: Role) -> PrivateKey {
    let key = PrivateKey::generate().unwrap();
    keys.allow(name, key.public(), role, 1).unwrap();
    key
}

pub(crate) async fn connect(endpoint: Endpoint) -> Client {
    let config = ClientConfig { connect_timeout: SOON, ..ClientConfig::default() };
    Client::connect(endpoint, config).await.unwrap()
}

/// A client and the proxy that it needs.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) proxy: Proxy,
}

impl Peer {
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        call(&self.client, method, params).await
    }
}

pub(crate) async fn call(client: &Client, method: &str, params: Value) -> Value {
    client.call(method, params, CallOptions::with_deadline(SOON)).await.unwrap()
}

/// Bytes through an honest tunnel, whatever they are.
pub(crate) struct RawPeer(pub(crate) UnixStream);

impl RawPeer {
    pub(crate) async fn connect(proxy: &Proxy) -> Self {
        let Endpoint::Unix(path) = proxy.endpoint() else { unreachable!("tests run on Unix") };
        Self(UnixStream::connect(path).await.unwrap())
    }

    /// Writes as far as anybody takes it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(SOON, self.0.write_all(bytes)).await.expect("taken or refused in time");
    }

    /// Reads until the other end hangs up; how much that was.
    pub(crate) async fn read_to_the_end(&mut self) -> usize {
        let mut read = Vec::new();
        let end = tokio::time::timeout(SOON, self.0.read_to_end(&mut read)).await;
        let _ = end.expect("hung up in time");
        read.len()
    }
}

/// Waits for `is_so` without guessing how long it takes.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < SOON, "not within {SOON:?}: {place}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A port between a peer and the guard, whose first connection is treated as `treat` says.
pub(crate) async fn relay<F>(
    guard: &Guard,
    treat: impl FnOnce(tokio::net::TcpStream, tokio::net::TcpStream) -> F + Send + 'static,
) -> Remote
where
    F: Future<Output = ()> + Send,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = guard.remote().address().to_owned();
    tokio::spawn(async move {
        let (peer, _) = listener.accept().await.unwrap();
        let guard = tokio::net::TcpStream::connect(port).await.unwrap();
        treat(peer, guard).await;
    });
    Remote::new(address.to_string(), *guard.remote().host()).unwrap()
}
