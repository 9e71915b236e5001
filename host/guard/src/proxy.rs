//! The far end of a tunnel: a local endpoint whose every connection is carried to a host's guard.
//!
//! Whoever connects speaks plain ZeroMQ and needs no key; whoever can open the endpoint acts with the proxy's. A
//! connection whose tunnel does not come about is closed, and its program connects again, as after a host's restart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use telos_bridge::{Endpoint, EndpointError, Fault};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::dial::{DialError, dial};
use crate::hush::Hush;
use crate::key::PrivateKey;
use crate::os::{self, PrivateListener, PrivateStream};
use crate::record::Lost;
use crate::remote::Remote;
use crate::tunnel::{open_through, seal_through};

/// Connections at once; one more waits in the system's queue until one ends.
const CONNECTIONS_MAX: usize = 64;
/// How long a guard may say nothing, and take nothing; as long as it bears that of us.
const SILENCE: Duration = Duration::from_secs(60);

/// How long connections that end may take to end.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// What the system is given to find its files again, when it has none left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Hears of tunnels that did not come about; a flood of them now and then.
pub type OnFailure = Arc<dyn Fn(&DialError) + Send + Sync>;

/// A local endpoint that leads to a host. Dropping it closes the endpoint and every connection through it.
pub struct Proxy {
    endpoint: Endpoint,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    /// With the socket file in it.
    _directory: Option<TempDir>,
    socket: Option<PathBuf>,
}

/// Why a proxy cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Other machines could reach it, and act with its key.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system refused.
    #[error("cannot listen at {endpoint}: {cause}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// No place for a socket of this process's own.
    #[error("no private directory can be made: {0}")]
    Directory(#[source] io::Error),
}

impl ProxyError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

enum Listener {
    Private(PrivateListener),
    Tcp(TcpListener),
}

enum Local {
    Private(PrivateStream),
    Tcp(TcpStream),
}

/// What every connection needs.
struct Way {
    remote: Remote,
    key: PrivateKey,
    on_failure: Option<OnFailure>,
    hush: Mutex<Hush>,
}

impl Proxy {
    /// A proxy for this process alone: a socket in a private directory of its own; on Windows a loopback port, which
    /// everybody on this machine can reach.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn private(remote: Remote, key: PrivateKey) -> Result<Self, ProxyError> {
        let (endpoint, directory) = os::choose_local_endpoint().map_err(ProxyError::Directory)?;
        let mut proxy = Self::listen(endpoint, remote, key, None).await?;
        proxy._directory = directory;
        Ok(proxy)
    }

    /// A proxy for local programs: whoever can open the endpoint acts with this key.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn listen(
        endpoint: Endpoint,
        remote: Remote,
        key: PrivateKey,
        on_failure: Option<OnFailure>,
    ) -> Result<Self, ProxyError> {
        endpoint.check()?;
        let failed = |cause| ProxyError::Listen { endpoint: endpoint.clone(), cause };
        let listener = Listener::bind(&endpoint).await.map_err(failed)?;
        let endpoint = listener.endpoint(&endpoint).map_err(failed)?;
        let socket = if let Endpoint::Unix(path) = &endpoint { Some(path.clone()) } else { None };
        let way = Way { remote, key, on_failure, hush: Mutex::new(Hush::new(Instant::now())) };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::new(way), stopped));
        Ok(Self { endpoint, stop: Some(stop), task, _directory: None, socket })
    }

    /// Where local programs connect; a port 0 is resolved.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes no new connections, and waits until those that its programs have closed are through, for at most a second:
    /// so what was said last arrives.
    pub async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = timeout(CLOSE_MAX, &mut self.task).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => os::listen_private(path).map(Self::Private),
            Endpoint::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
        }
    }

    async fn accept(&self) -> io::Result<Local> {
        match self {
            Self::Private(listener) => listener.accept().await.map(Local::Private),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Local::Tcp(stream)),
        }
    }

    fn endpoint(&self, asked: &Endpoint) -> io::Result<Endpoint> {
        match self {
            Self::Private(_) => Ok(asked.clone()),
            Self::Tcp(listener) => listener.local_addr().map(Endpoint::Tcp),
        }
    }
}

/// Takes connections until it is stopped, and then waits for them; dropping the future closes all of them.
async fn serve(listener: Listener, way: Arc<Way>, mut stopped: oneshot::Receiver<()>) {
    let mut relays = JoinSet::new();
    loop {
        while relays.len() >= CONNECTIONS_MAX {
            relays.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(Local::Private(stream)) => drop(relays.spawn(relay(stream, Arc::clone(&way)))),
                Ok(Local::Tcp(stream)) => drop(relays.spawn(relay(stream, Arc::clone(&way)))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = relays.join_next() => {}
            // Also when the proxy was dropped.
            _ = &mut stopped => break,
        }
    }
    while relays.join_next().await.is_some() {}
}

/// One local connection, carried until either end is gone.
async fn relay<S: AsyncRead + AsyncWrite>(stream: S, way: Arc<Way>) {
    let mut tunnel = match dial(&way.remote, &way.key).await {
        Ok(tunnel) => tunnel,
        Err(error) => return way.tell(&error),
    };
    let (from_local, to_local) = tokio::io::split(stream);
    let end = tokio::select! {
        end = seal_through(from_local, &mut tunnel.writer, SILENCE) => end,
        end = open_through(&mut tunnel.reader, to_local, SILENCE) => end,
    };
    if let Err(Lost::Refused(refusal)) = end {
        tracing::warn!(remote = %way.remote, reason = refusal.name(), %refusal, "proxy.cut");
    }
}

impl Way {
    fn tell(&self, error: &DialError) {
        if self.hush.lock().admit(Instant::now()).is_none() {
            return;
        }
        tracing::warn!(remote = %self.remote, %error, "proxy.no_tunnel");
        if let Some(on_failure) = &self.on_failure {
            on_failure(error);
        }
    }
}
