//! The guard's shell: a port, who is at it, and the list that decides who may come in.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use telos_bridge::{Door, Fault};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::census::{Bounds, Census, Ticket};
use crate::hush::Hush;
use crate::key::PrivateKey;
use crate::keys::{AllowedKey, Keys, KeysError};
use crate::os;
use crate::peer;
use crate::record::Lost;
use crate::refusal::{GuardStats, Refusal};
use crate::remote::Remote;

/// How often the list is read for those who are in.
const RECHECK: Duration = Duration::from_secs(1);
/// What the system is given to find its files again, when it has none left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a guard is started with.
#[derive(Clone)]
pub struct GuardConfig {
    /// The open port; 0 lets the system choose.
    pub listen: SocketAddr,
    /// The host's key and the list of those that may come in.
    pub keys: Keys,
    /// The private side: one door for each role that may come in.
    pub doors: Vec<Door>,
    /// What peers may make us hold and wait for.
    pub limits: GuardLimits,
    /// Hears of refusals, not more often than they are traced.
    pub on_refusal: Option<OnRefusal>,
}

/// Hears who was turned away or cut off.
pub type OnRefusal = Arc<dyn Fn(&Turned) + Send + Sync>;

/// Who was turned away or cut off, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// Where it came from.
    pub address: SocketAddr,
    /// The name of its key, when that is on the list.
    pub name: Option<String>,
    /// Why.
    pub refusal: Refusal,
    /// How many were turned away since the last that was told.
    pub untold: u64,
}

/// What peers may make the guard hold and wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardLimits {
    /// How long a handshake may take, and after it greeting and READY; then the peer is cut off. 5 s.
    pub handshake: Duration,
    /// How long nothing may be heard from a peer, and how long it may read nothing of what is sent; then it is cut off.
    /// Our own clients beat every second. 60 s.
    pub silence: Duration,
    /// Handshakes under way; one more displaces the oldest. 64.
    pub pending_max: usize,
    /// The same for one address. 16.
    pub address_pending_max: usize,
    /// Peers with a door open; one more is refused. 256.
    pub connections_max: usize,
    /// The same for one address; all behind one router have one. 64.
    pub address_connections_max: usize,
    /// The same for one key. 32.
    pub key_connections_max: usize,
    /// Bytes of messages that are not whole yet, all peers together, as their headers promise them: the ROUTER holds
    /// them. A peer that would exceed it is cut off. 256 MiB.
    pub unfinished_bytes_max: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            silence: Duration::from_secs(60),
            pending_max: 64,
            address_pending_max: 16,
            connections_max: 256,
            address_connections_max: 64,
            key_connections_max: 32,
            unfinished_bytes_max: 256 << 20,
        }
    }
}

/// Why a guard cannot stand at a port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The host's key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The system refused the port.
    #[error("cannot listen at {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// There are no private sockets here to keep roles apart.
    #[error("open ports are not served on Windows yet; connect from there to a host on another system")]
    Unsupported,
}

impl GuardError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Keys(cause) => cause.fault(),
            _ => Fault::Operator,
        }
    }
}

/// A guard at a port. Dropping it closes the port and every connection that came through it.
pub struct Guard {
    remote: Remote,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Listens, and lets in whoever is on the list.
    ///
    /// # Errors
    /// [`GuardError`].
    pub async fn start(config: GuardConfig) -> Result<Self, GuardError> {
        Self::check_supported()?;
        let host = config.keys.host()?;
        let failed = |cause| GuardError::Listen { address: config.listen, cause };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let remote = Remote::new(address.to_string(), host.public())
            .map_err(|error| failed(io::Error::other(error)))?;
        let shared = Arc::new(Shared::new(config, host));
        let task = tokio::spawn(stand(listener, Arc::clone(&shared)));
        tracing::info!(%remote, "guard.listening");
        Ok(Self { remote, shared, task })
    }

    /// Whether a guard can stand here at all.
    ///
    /// # Errors
    /// [`GuardError::Unsupported`].
    pub fn check_supported() -> Result<(), GuardError> {
        if os::HAS_PRIVATE_SOCKETS { Ok(()) } else { Err(GuardError::Unsupported) }
    }

    /// How peers spell it; the address is the one that it is bound to.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Who is there, and what happened so far.
    #[must_use]
    pub fn stats(&self) -> GuardStats {
        self.shared.stats()
    }

    /// Closes the port and every connection that came through it, and waits until they are closed.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        tracing::info!(remote = %self.remote, "guard.closed");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes connections for ever; dropping the future closes all of them.
async fn stand(listener: TcpListener, shared: Arc<Shared>) {
    let mut peers = JoinSet::new();
    let mut recheck = tokio::time::interval(RECHECK);
    recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            arrived = listener.accept() => match arrived {
                Ok((stream, address)) => receive(&mut peers, &shared, stream, address),
                Err(cause) => {
                    tracing::warn!(%cause, "guard.accept_failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = peers.join_next() => {}
            _ = recheck.tick() => shared.recheck(),
        }
    }
}

fn receive(peers: &mut JoinSet<()>, shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let (presence, cut) = shared.arrive(address);
    peers.spawn(async move {
        let end = tokio::select! {
            biased;
            Ok(refusal) = cut => Lost::Refused(refusal),
            end = peer::attend(&presence, stream) => end,
        };
        presence.end(end);
    });
}

/// What all connections of a guard share.
pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) host: PrivateKey,
    pub(crate) doors: Vec<Door>,
    pub(crate) limits: GuardLimits,
    /// Bytes of messages that are not whole yet.
    pub(crate) unfinished: AtomicUsize,
    on_refusal: Option<OnRefusal>,
    state: Mutex<State>,
}

struct State {
    census: Census,
    cuts: BTreeMap<Ticket, Cut>,
    stats: GuardStats,
    hush: Hush,
}

/// How somebody is cut off from outside his task.
struct Cut {
    /// Taken when it is used; the rest stays, for what is told of the end.
    cut: Option<oneshot::Sender<Refusal>>,
    address: SocketAddr,
    allowed: Option<AllowedKey>,
}

impl Shared {
    fn new(config: GuardConfig, host: PrivateKey) -> Self {
        let GuardConfig { keys, doors, limits, on_refusal, .. } = config;
        let state = State {
            census: Census::new(limits.bounds()),
            cuts: BTreeMap::new(),
            stats: GuardStats::default(),
            hush: Hush::new(Instant::now()),
        };
        let unfinished = AtomicUsize::new(0);
        Self { keys, host, doors, limits, unfinished, on_refusal, state: Mutex::new(state) }
    }

    fn stats(&self) -> GuardStats {
        let state = self.state.lock();
        let (pending, connections) = (state.census.pending(), state.census.connections());
        GuardStats { pending, connections, ..state.stats.clone() }
    }

    fn arrive(self: &Arc<Self>, address: SocketAddr) -> (Presence, oneshot::Receiver<Refusal>) {
        let (cut, is_cut) = oneshot::channel();
        let mut state = self.state.lock();
        state.stats.arrived += 1;
        let (ticket, displaced) = state.census.arrive(address.ip());
        if let Some((oldest, refusal)) = displaced {
            state.cut(oldest, refusal);
        }
        state.cuts.insert(ticket, Cut { cut: Some(cut), address, allowed: None });
        drop(state);
        (Presence { shared: Arc::clone(self), ticket }, is_cut)
    }

    /// Cuts off whose key is not on the list any more, or grants another role. A list that cannot be read cuts nobody
    /// off, and lets nobody in.
    fn recheck(&self) {
        let list = match self.keys.read() {
            Ok(list) => list,
            Err(cause) => return tracing::warn!(%cause, "guard.no_list"),
        };
        let mut state = self.state.lock();
        let is_revoked = |key: &AllowedKey| list.find(&key.public).is_none_or(|now| now.role != key.role);
        let revoked = state.cuts.iter().filter(|(_, cut)| cut.allowed.as_ref().is_some_and(is_revoked));
        let revoked: Vec<Ticket> = revoked.map(|(ticket, _)| *ticket).collect();
        for ticket in revoked {
            state.cut(ticket, Refusal::Revoked);
        }
    }
}

impl State {
    fn cut(&mut self, ticket: Ticket, refusal: Refusal) {
        if let Some(cut) = self.cuts.get_mut(&ticket).and_then(|cut| cut.cut.take()) {
            let _ = cut.send(refusal);
        }
    }
}

/// One connection's place in the census; dropping it gives the place back.
pub(crate) struct Presence {
    pub(crate) shared: Arc<Shared>,
    ticket: Ticket,
}

impl Presence {
    /// Makes the newcomer a peer.
    ///
    /// # Errors
    /// The bounds of [`GuardLimits`].
    pub(crate) fn admit(&self, key: &AllowedKey) -> Result<(), Refusal> {
        let mut state = self.shared.state.lock();
        state.census.admit(self.ticket, key.public)?;
        if let Some(cut) = state.cuts.get_mut(&self.ticket) {
            cut.allowed = Some(key.clone());
        }
        Ok(())
    }

    /// The peer was let in.
    pub(crate) fn count_admitted(&self) {
        self.shared.state.lock().stats.admitted += 1;
    }

    /// It hung up before that.
    pub(crate) fn count_ghost(&self) {
        self.shared.state.lock().stats.ghosts += 1;
    }

    /// Counts and tells how it ended.
    fn end(&self, end: Lost) {
        let Lost::Refused(refusal) = end else { return };
        let mut state = self.shared.state.lock();
        *state.stats.refused.entry(refusal.name()).or_default() += 1;
        let Some(untold) = state.hush.admit(Instant::now()) else { return };
        let Some(cut) = state.cuts.get(&self.ticket) else { return };
        let name = cut.allowed.as_ref().map(|key| key.name.clone());
        let turned = Turned { address: cut.address, name, refusal, untold };
        drop(state);
        turned.trace();
        if let Some(on_refusal) = &self.shared.on_refusal {
            on_refusal(&turned);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.census.leave(self.ticket);
        state.cuts.remove(&self.ticket);
    }
}

impl Turned {
    fn trace(&self) {
        let Self { address, name, refusal, untold } = self;
        let name = name.as_deref().unwrap_or_default();
        tracing::warn!(%address, name, reason = refusal.name(), %refusal, untold, "guard.refused");
    }
}

impl GuardLimits {
    fn bounds(&self) -> Bounds {
        Bounds {
            pending: self.pending_max,
            address_pending: self.address_pending_max,
            connections: self.connections_max,
            address_connections: self.address_connections_max,
            key_connections: self.key_connections_max,
        }
    }
}
