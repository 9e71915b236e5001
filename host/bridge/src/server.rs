//! The host's shell: one task that feeds the queue and performs what it decides.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::backlog::{Backlog, SessionBacklog};
use crate::doors::{Door, Doors};
use crate::endpoint::{Endpoint, EndpointError};
use crate::frame::{MESSAGE_BYTES_MAX, ToHost};
use crate::io_thread;
use crate::queue::{
    Action, CallId, Dispatch, Input, Limits, Notice, Outcome, Output, PeerInfo, Queue, Rules, Stats, Ticket,
    TicketNews,
};
use crate::rpc::{self, RpcError};
use crate::service::{Call, CancelToken, Fault, Reply, Role, Said, Service, SessionId};
use crate::socket::{Incoming, Outgoing, Wire};
use crate::token::{Token, TokenError};
use crate::unread::{Unread, UnreadMost};
use crate::workers::{Asked, NewsSender, Workers};

/// What may be on its way to one connection, by count and not by its word: an honest one has a window, which its
/// greetings may have had said again, and `ACKS_MAX` acknowledgements. Far from the 100,000 messages at which the
/// `zeromq` crate stops.
const UNREAD_MOST: UnreadMost = UnreadMost { frames: 8_192, bytes: 4 * MESSAGE_BYTES_MAX };

/// Three times as many heartbeats may be unread: far fewer than what may be on its way to a connection.
const LIVENESS_MAX: u32 = 1_000;

/// The endpoint is a door too, and a route names its door in one byte.
const DOORS_MAX: usize = 255;

/// How a host serves.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Clients beat this often; from 10 ms to 60 s, and they learn it from us. 1 s.
    pub heartbeat: Duration,
    /// So many missed beats, and a client is gone; from 1 to 1,000. 3.
    pub liveness: u32,
    /// The most a peer is granted; what it asks for bounds it too. `Operator`, because whoever can open the private
    /// socket or read the token file is one.
    pub role_max: Role,
    /// Private places to listen at besides the endpoint, each with a most of its own; at most 255. None.
    pub doors: Vec<Door>,
    /// Where the token of a TCP endpoint is written, anew at every start. Required there; unused on a Unix socket.
    pub token_file: Option<PathBuf>,
    /// How long [`Server::shutdown`] waits for calls to end and their replies to arrive. 5 s, so that most of what is
    /// under way is answered, and whoever stops a host need not wonder whether it hangs.
    pub drain: Duration,
    /// What peers may make us hold.
    pub limits: Limits,
    /// Who speaks ZeroMQ for us; clients need not choose the same. The `zeromq` crate.
    pub wire: Wire,
    /// Services of workers that clients may order from; operators may from all. None.
    pub open_services: Vec<String>,
    /// Through which the host itself orders of its workers; only its first host counts.
    pub workers: Workers,
    /// Hears what happens among the peers; on the task that serves them, so it must not block.
    pub watcher: Watcher,
}

/// Hears [`Notice`]s; by default nobody does.
#[derive(Clone, Default)]
pub struct Watcher(Option<Arc<Hear>>);

type Hear = dyn Fn(&Notice) + Send + Sync;

impl Watcher {
    /// One that hears them.
    pub fn new(hear: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            liveness: 3,
            role_max: Role::Operator,
            doors: Vec::new(),
            token_file: None,
            drain: Duration::from_secs(5),
            limits: Limits::default(),
            wire: Wire::default(),
            open_services: Vec::new(),
            workers: Workers::default(),
            watcher: Watcher::default(),
        }
    }
}

/// Why a host cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The endpoint is not one we serve.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A host answers there.
    #[error("another host answers at {endpoint}; stop it, or choose another --home")]
    InUse {
        /// Where.
        endpoint: Endpoint,
    },
    /// The system refused.
    #[error("cannot listen at {endpoint}: {cause}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// The token could not be made or written.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A TCP endpoint without a place for its token.
    #[error("endpoint {endpoint} needs a token file, since any local user can reach a port")]
    NoTokenFile {
        /// Where.
        endpoint: Endpoint,
    },
    /// A door that is not a socket file: a port would need a token, and doors have none.
    #[error("{endpoint} cannot be a door; only a socket file can")]
    Door {
        /// Where.
        endpoint: Endpoint,
    },
    /// A setting is out of range.
    #[error("bridge setting {setting} is {found}; allowed is {allowed}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl BridgeError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Token(cause) => cause.fault(),
            Self::Listen { .. } => Fault::Host,
            _ => Fault::Operator,
        }
    }
}

/// A host that serves. Dropping it stops at once; [`Server::shutdown`] stops kindly.
#[derive(Debug)]
pub struct Server {
    /// The first is the endpoint, the others are doors.
    endpoints: Vec<Endpoint>,
    queue: Arc<Mutex<Queue>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Listens at `endpoint` and hands every call to `service`.
///
/// # Errors
/// [`BridgeError`]; nothing is left behind but a token file.
pub async fn serve(
    endpoint: Endpoint,
    service: Arc<dyn Service>,
    config: BridgeConfig,
) -> Result<Server, BridgeError> {
    endpoint.check()?;
    check_config(&config)?;
    let token = prepare_token(&endpoint, &config)?;
    let places: Vec<Door> =
        iter::once(Door { endpoint, role_max: config.role_max }).chain(config.doors).collect();
    let doors =
        Doors::open(config.wire, &places, token.clone()).await.map_err(|(at, cause)| explain(at, cause))?;
    let rules = Rules {
        heartbeat: config.heartbeat,
        liveness: config.liveness,
        role_max: config.role_max,
        token,
        limits: config.limits,
        open_services: config.open_services.iter().map(|name| name.as_str().into()).collect(),
    };
    let queue = Arc::new(Mutex::new(Queue::new(rules, rand::random(), Instant::now())));
    let asked = config.workers.attach(&queue);
    let (stop, stopped) = oneshot::channel();
    let endpoints = doors.endpoints();
    let shell = Shell::new(Arc::clone(&queue), service, doors, asked, config.watcher);
    let serving = io_thread::spawn(shell.run(stopped, config.drain));
    let task = serving.map_err(|cause| BridgeError::Listen { endpoint: endpoints[0].clone(), cause })?;
    tracing::info!(endpoint = %endpoints[0], doors = endpoints.len() - 1, "bridge.listening");
    Ok(Server { endpoints, queue, stop: Some(stop), task })
}

impl Server {
    /// Where it listens; a TCP port 0 is resolved.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoints[0]
    }

    /// Who is there now.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.queue.lock().peers(Instant::now())
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.queue.lock().stats()
    }

    /// Takes no new calls, waits up to `drain` for those that run to end and for their replies to arrive, says goodbye,
    /// and closes. When it returns, another host may serve the same endpoint.
    ///
    /// Clients keep new calls, and those that did not end in time, for that host: none is answered for being late. What
    /// still runs is told [`crate::CancelReason::Shutdown`].
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
        for endpoint in &self.endpoints {
            wait_until_free(endpoint).await;
        }
        tracing::info!(endpoint = %self.endpoint(), "bridge.closed");
    }
}

/// The socket's own task removes the file, some time after the socket is dropped: wait, so that it does not remove a
/// successor's.
pub(crate) async fn wait_until_free(endpoint: &Endpoint) {
    let Endpoint::Unix(path) = endpoint else {
        return;
    };
    for _ in 0..200 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check_config(config: &BridgeConfig) -> Result<(), BridgeError> {
    check_pace(config.heartbeat, config.liveness)?;
    if config.doors.len() > DOORS_MAX {
        let found = config.doors.len().to_string();
        return Err(BridgeError::Setting { setting: "doors", found, allowed: "at most 255" });
    }
    let port = config.doors.iter().find(|door| !matches!(door.endpoint, Endpoint::Unix(_)));
    if let Some(Door { endpoint, .. }) = port {
        return Err(BridgeError::Door { endpoint: endpoint.clone() });
    }
    Ok(())
}

/// Refuses a pace that peers could not keep.
pub(crate) fn check_pace(heartbeat: Duration, liveness: u32) -> Result<(), BridgeError> {
    let heartbeat = heartbeat.as_millis();
    if !(10..=60_000).contains(&heartbeat) {
        let found = format!("{heartbeat} ms");
        return Err(BridgeError::Setting { setting: "heartbeat", found, allowed: "10 ms to 60 s" });
    }
    if !(1..=LIVENESS_MAX).contains(&liveness) {
        let found = liveness.to_string();
        return Err(BridgeError::Setting { setting: "liveness", found, allowed: "1 to 1,000" });
    }
    Ok(())
}

fn prepare_token(endpoint: &Endpoint, config: &BridgeConfig) -> Result<Option<Token>, BridgeError> {
    if let Endpoint::Unix(_) = endpoint {
        return Ok(None);
    }
    let path =
        config.token_file.as_ref().ok_or_else(|| BridgeError::NoTokenFile { endpoint: endpoint.clone() })?;
    let token = Token::generate()?;
    token.write(path)?;
    Ok(Some(token))
}

pub(crate) fn explain(endpoint: Endpoint, cause: io::Error) -> BridgeError {
    if cause.kind() == io::ErrorKind::AddrInUse {
        return BridgeError::InUse { endpoint };
    }
    BridgeError::Listen { endpoint, cause }
}

struct Shell {
    queue: Arc<Mutex<Queue>>,
    service: Arc<dyn Service>,
    doors: Doors,
    open: HashMap<CallId, OpenCall>,
    backlogs: HashMap<SessionId, Weak<SessionBacklog>>,
    unread: Unread,
    asked: mpsc::UnboundedReceiver<Asked>,
    orders: HashMap<Ticket, NewsSender>,
    watcher: Watcher,
    /// Where the service's tasks belong: not on the sockets' thread.
    home: Handle,
    said: mpsc::UnboundedReceiver<Said>,
    mouth: mpsc::UnboundedSender<Said>,
}

/// What the shell keeps of a call that the service has.
struct OpenCall {
    cancelled: CancelToken,
    backlog: Arc<Backlog>,
}

impl Shell {
    fn new(
        queue: Arc<Mutex<Queue>>,
        service: Arc<dyn Service>,
        doors: Doors,
        asked: mpsc::UnboundedReceiver<Asked>,
        watcher: Watcher,
    ) -> Self {
        // Unbounded, and bounded by `Backlog`: a call's chunks are counted until the peer has them.
        let (mouth, said) = mpsc::unbounded_channel();
        let (open, backlogs, orders) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self {
            queue,
            service,
            doors,
            open,
            backlogs,
            unread: Unread::new(UNREAD_MOST),
            asked,
            orders,
            watcher,
            home: Handle::current(),
            said,
            mouth,
        }
    }

    async fn run(mut self, stopped: oneshot::Receiver<()>, drain: Duration) {
        tokio::pin!(stopped);
        loop {
            let input = tokio::select! {
                // Also when the server was dropped.
                _ = &mut stopped => break,
                input = self.next_input() => input,
            };
            self.perform(input);
        }
        self.perform(Input::Close);
        let _ = tokio::time::timeout(drain, self.settle()).await;
        self.perform(Input::Leave);
    }

    /// Goes on until nobody is owed anything.
    async fn settle(&mut self) {
        while !self.queue.lock().is_idle() {
            let input = self.next_input().await;
            self.perform(input);
        }
    }

    /// # Cancel safety
    /// Dropping the future loses nothing: each branch takes from its channel only when it wins.
    async fn next_input(&mut self) -> Input {
        let wake_at = self.queue.lock().wake_at();
        tokio::select! {
            Some(incoming) = self.doors.recv() => self.hear_peer(incoming),
            Some(said) = self.said.recv() => self.hear_service(said),
            Some(asked) = self.asked.recv() => self.hear_host(asked),
            () = tokio::time::sleep_until(wake_at.into()) => Input::Tick,
        }
    }

    fn hear_host(&mut self, asked: Asked) -> Input {
        match asked {
            Asked::Cancel { ticket } => Input::CancelOrder { ticket },
            Asked::GoOn { ticket } => Input::PaceOrder { ticket, is_paused: false },
            Asked::Order { ticket, order, news } => {
                self.orders.insert(ticket, news);
                Input::Order { ticket, order }
            }
        }
    }

    fn hear_peer(&mut self, incoming: Incoming) -> Input {
        match incoming {
            Incoming::Lost { route } => {
                self.unread.forget(&route);
                Input::Lost { route }
            }
            Incoming::Message { route, frames } => match ToHost::decode(&frames) {
                Ok(frame) => {
                    let frame = self.doors.bound(&route, frame);
                    Input::Heard { route, frame, wall_ms: read_wall_clock_ms() }
                }
                Err(error) => Input::Garbage { route, error },
            },
        }
    }

    fn hear_service(&mut self, said: Said) -> Input {
        if let Output::Finished(_) | Output::GaveBack { .. } = said.output {
            self.open.remove(&said.call);
        }
        Input::Said { call: said.call, output: said.output }
    }

    fn perform(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (actions, notices) = {
                let mut queue = self.queue.lock();
                (queue.step(Instant::now(), input), queue.take_notices())
            };
            if let Some(hear) = &self.watcher.0 {
                notices.iter().for_each(|notice| hear(notice));
            }
            for action in actions {
                inputs.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Send { route, frame } => {
                let Some(frames) = self.unread.admit(&route, frame.encode()) else {
                    return Some(Input::Slow { route });
                };
                self.doors.send(Outgoing::Message { route, frames });
                None
            }
            Action::Disconnect { route } => {
                self.unread.forget(&route);
                self.doors.send(Outgoing::Disconnect { route });
                None
            }
            Action::Cancel { call, reason } => {
                if let Some(open) = self.open.get(&call) {
                    open.cancelled.cancel(reason);
                }
                None
            }
            Action::Pace { call, is_paused } => {
                if let Some(open) = self.open.get(&call) {
                    open.backlog.pace(is_paused);
                }
                None
            }
            Action::Dispatch(dispatch) => self.dispatch(dispatch),
            Action::Tell { ticket, news } => self.tell_host(ticket, news),
        }
    }

    /// One that does not take its news fast enough has no use for the rest.
    fn tell_host(&mut self, ticket: Ticket, news: TicketNews) -> Option<Input> {
        let is_end = matches!(news, TicketNews::Ended(_));
        let orderer = self.orders.get(&ticket)?;
        let (is_told, wants_pause) = (orderer.send(news), orderer.wants_pause());
        if is_end || !is_told {
            self.orders.remove(&ticket);
            return (!is_end).then_some(Input::CancelOrder { ticket });
        }
        wants_pause.then_some(Input::PaceOrder { ticket, is_paused: true })
    }

    /// Hands a call over, or says how it ended before it began.
    fn dispatch(&mut self, dispatch: Dispatch) -> Option<Input> {
        let Dispatch { call, session, role, number, acked_through, deadline, payload } = dispatch;
        let (method, params) = match rpc::decode_request(number, &payload) {
            Ok(request) => request,
            Err(error) => return Some(end_early(call, number, &error)),
        };
        let cancelled = CancelToken::new();
        let backlog = Arc::new(Backlog::new(self.backlog_of(session)));
        self.open.insert(call, OpenCall { cancelled: cancelled.clone(), backlog: Arc::clone(&backlog) });
        let reply = Reply::new(call, number, self.mouth.clone(), cancelled.clone(), backlog);
        let call = Call { session, role, number, acked_through, deadline, method, params, cancelled };
        let _at_home = self.home.enter();
        // The reply went with the call: when the service panics, dropping it answers.
        if catch_unwind(AssertUnwindSafe(|| self.service.call(call, reply))).is_err() {
            tracing::error!(number, "bridge.service_panicked");
        }
        None
    }

    /// One for all calls of a session that are open, or whose chunks are on their way.
    fn backlog_of(&mut self, session: SessionId) -> Arc<SessionBacklog> {
        if let Some(backlog) = self.backlogs.get(&session).and_then(Weak::upgrade) {
            return backlog;
        }
        self.backlogs.retain(|_, backlog| backlog.strong_count() > 0);
        let backlog = Arc::default();
        self.backlogs.insert(session, Arc::downgrade(&backlog));
        backlog
    }
}

fn end_early(call: CallId, number: u64, error: &RpcError) -> Input {
    Input::Said { call, output: Output::Finished(Outcome::error(number, error)) }
}

pub(crate) fn read_wall_clock_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
