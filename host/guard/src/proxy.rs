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
/// The same failure is told again after this, while it lasts.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// What the system is given to find its files again, when it has none left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Hears of tunnels that did not come about: at once when it is for another reason than before, else once a minute.
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
    /// Why the last tunnel did not come about, and when that was told; none after one that did.
    told: Mutex<Option<(String, Instant)>>,
}

impl Proxy {
    /// A proxy for this process alone: a socket in a private directory of its own; on Windows a loopback port, which
    /// everybody on this machine can reach.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn private(
        remote: Remote,
        key: PrivateKey,
        on_failure: Option<OnFailure>,
    ) -> Result<Self, ProxyError> {
        let (endpoint, directory) = os::choose_local_endpoint().map_err(ProxyError::Directory)?;
        let mut proxy = Self::listen(endpoint, remote, key, on_failure).await?;
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
        let way = Way { remote, key, on_failure, told: Mutex::default() };
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
        Err(error) => return way.tell(&error, Instant::now()),
    };
    *way.told.lock() = None;
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
    fn tell(&self, error: &DialError, now: Instant) {
        let reason = error.reason();
        {
            let mut told = self.told.lock();
            let is_told = |(last, at): &(String, Instant)| *last == reason && now < *at + TELL_AGAIN;
            if told.as_ref().is_some_and(is_told) {
                return;
            }
            *told = Some((reason.to_owned(), now));
        }
        tracing::warn!(remote = %self.remote, %error, "proxy.no_tunnel");
        if let Some(on_failure) = &self.on_failure {
            on_failure(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_reason_is_told_once_a_minute_and_another_at_once() {
        let key = PrivateKey::generate().unwrap();
        let remote: Remote = format!("noise:127.0.0.1:1/{}", key.public()).parse().unwrap();
        let heard = Arc::new(AtomicU32::new(0));
        let hearing = Arc::clone(&heard);
        let on_failure: OnFailure = Arc::new(move |_| {
            hearing.fetch_add(1, Ordering::Relaxed);
        });
        let way = Way { remote: remote.clone(), key, on_failure: Some(on_failure), told: Mutex::default() };
        let refused = |name: &str| DialError::Refused {
            remote: remote.clone(),
            name: name.to_owned(),
            reason: "it is not on the list".into(),
        };
        let start = Instant::now();
        for second in 0..120 {
            way.tell(&refused("unknown-key"), start + Duration::from_secs(second));
        }
        assert_eq!(heard.load(Ordering::Relaxed), 2);
        way.tell(&DialError::HungUp { remote: remote.clone() }, start + Duration::from_secs(120));
        assert_eq!(heard.load(Ordering::Relaxed), 3);
    }
}
