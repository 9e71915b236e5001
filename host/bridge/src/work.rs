//! The worker's shell: [`Worker`], and the task that feeds its state machine.
//!
//! A worker answers jobs with a [`Service`], the same that answers calls in a host. Its sockets and heartbeats live on
//! tasks that never run a job.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::backlog::{Backlog, SessionBacklog};
use crate::endpoint::{Endpoint, EndpointError};
use crate::frame::{ToClient, WorkerReport, is_service_name};
use crate::io_thread;
use crate::link::LinkSettings;
use crate::queue::{CallId, Outcome, Output};
use crate::rpc::{self, Effect, RpcError};
use crate::service::{Call, CancelReason, CancelToken, Fault, Reply, Role, Said, Service, SessionId};
use crate::socket::{self, Line, Wire};
use crate::token::Token;
use crate::waits;
use crate::worker::{Action, Begin, Input, Pirate, Settings, SlotId, gave_back};

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// What it offers: lowercase letters, digits, `.`, `-` and `_`, at most 64 of them each, at most 16 services.
    pub services: Vec<String>,
    /// Jobs in hand at once; the host may cut it. 1.
    pub credit: u16,
    /// The token of a TCP endpoint, when it is known.
    pub token: Option<Token>,
    /// Else where the host writes it; read anew at every connection.
    pub token_file: Option<PathBuf>,
    /// How long one attempt to connect may take. 3 s.
    pub connect_timeout: Duration,
    /// What the host has not acknowledged is said again after this. 2 s.
    pub request_timeout: Duration,
    /// How often in a row, before the connection itself is made anew. 3.
    pub retries: u32,
    /// The first pause after a failed attempt to connect; doubles, give or take a fifth. 1 s.
    pub backoff_min: Duration,
    /// The longest pause. 32 s.
    pub backoff_max: Duration,
    /// So many heartbeats without a word, and the connection is made anew. The host sets the interval. 3.
    pub liveness: u32,
    /// Who speaks ZeroMQ for it; the host need not choose the same. The `zeromq` crate.
    pub wire: Wire,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            credit: 1,
            token: None,
            token_file: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(2),
            retries: 3,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(32),
            liveness: 3,
            wire: Wire::default(),
        }
    }
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The endpoint is not one we connect to.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It would offer nothing, or nothing at once.
    #[error("a worker offers 1 to 16 services and takes at least 1 job at once")]
    Nothing,
    /// The system refused.
    #[error("the thread of the sockets cannot start: {0}")]
    Thread(#[source] io::Error),
    /// A service cannot be called so.
    #[error("service {name:?}: lowercase letters, digits, `.`, `-` and `_`, at most 64 of them")]
    Name {
        /// What was given.
        name: String,
    },
}

impl WorkerError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        if let Self::Thread(_) = self { Fault::Host } else { Fault::Operator }
    }
}

/// How a worker stands with its host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It has not been welcomed yet, or has lost its host and looks for it, for ever.
    Away,
    /// It has a host.
    Welcome,
    /// The host will not have it, and it has stopped.
    Refused(RpcError),
    /// Every job that it can have in hand is one that its host has given up, and none has stopped for half a minute:
    /// only a new process helps.
    Stuck,
    /// It has stopped.
    Closed,
}

/// A worker at work. Dropping it ends its session at once; [`Worker::drain`] ends it kindly.
///
/// It survives its host: it connects to whichever answers at the endpoint, with growing pauses, and offers itself anew.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Begins: it connects when a host is there. Jobs are answered by `service`, with the service's name as method.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn start(
        endpoint: Endpoint,
        config: WorkerConfig,
        service: Arc<dyn Service>,
    ) -> Result<Self, WorkerError> {
        endpoint.check()?;
        check(&config)?;
        let (orders, orders_out) = mpsc::unbounded_channel();
        let (standing_in, standing) = watch::channel(Standing::Away);
        let shell = Shell::new(endpoint, config, service, standing_in);
        let task = io_thread::spawn(shell.run(orders_out)).map_err(WorkerError::Thread)?;
        Ok(Self { orders, standing, task })
    }

    /// How it stands with its host, now and from now on.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Takes no more jobs, and waits until those in hand are answered and the answers have arrived; then says goodbye.
    /// What is not done within `patience` is told to stop and goes to another worker. False when that was needed.
    pub async fn drain(mut self, patience: Duration) -> bool {
        let (drained, is_drained) = oneshot::channel();
        let _ = self.orders.send(Order::Drain { drained });
        let is_done = tokio::time::timeout(patience, is_drained).await.is_ok_and(|answer| answer.is_ok());
        let (closed, is_closed) = oneshot::channel();
        let _ = self.orders.send(Order::Close { closed });
        let _ = is_closed.await;
        let _ = (&mut self.task).await;
        is_done
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check(config: &WorkerConfig) -> Result<(), WorkerError> {
    const SERVICES_MAX: usize = 16;
    if config.services.is_empty() || config.services.len() > SERVICES_MAX || config.credit == 0 {
        return Err(WorkerError::Nothing);
    }
    match config.services.iter().find(|name| !is_service_name(name)) {
        Some(name) => Err(WorkerError::Name { name: name.clone() }),
        None => Ok(()),
    }
}

enum Order {
    Drain { drained: oneshot::Sender<()> },
    Close { closed: oneshot::Sender<()> },
}

struct Shell {
    pirate: Pirate,
    endpoint: Endpoint,
    config: WorkerConfig,
    service: Arc<dyn Service>,
    line: Option<Line>,
    is_closing: bool,
    /// On which goodbye was said.
    left: Option<Line>,
    connecting: Option<JoinHandle<io::Result<Line>>>,
    open: HashMap<SlotId, Open>,
    backlog: Arc<SessionBacklog>,
    /// Where the service's tasks belong: not on the sockets' thread.
    home: Handle,
    said: mpsc::UnboundedReceiver<Said>,
    mouth: mpsc::UnboundedSender<Said>,
    drained: Option<oneshot::Sender<()>>,
    standing: watch::Sender<Standing>,
    id: u128,
}

/// What the shell keeps of a job in hand.
struct Open {
    cancelled: CancelToken,
    backlog: Arc<Backlog>,
    /// Of the request inside the job.
    number: u64,
}

impl Shell {
    fn new(
        endpoint: Endpoint,
        config: WorkerConfig,
        service: Arc<dyn Service>,
        standing: watch::Sender<Standing>,
    ) -> Self {
        // Unbounded, and bounded by `Backlog`: a job's pieces are counted until the host has them.
        let (mouth, said) = mpsc::unbounded_channel();
        let id = rand::random();
        Self {
            pirate: Pirate::new(settings(&config), id, Instant::now()),
            endpoint,
            config,
            service,
            line: None,
            is_closing: false,
            left: None,
            connecting: None,
            open: HashMap::new(),
            backlog: Arc::default(),
            home: Handle::current(),
            said,
            mouth,
            drained: None,
            standing,
            id,
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        self.step(Input::Tick);
        loop {
            let wake_at = self.pirate.wake_at();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Drain { drained }) => {
                        self.drained = Some(drained);
                        self.step(Input::Drain);
                    }
                    Some(Order::Close { closed }) => {
                        self.is_closing = true;
                        self.step(Input::Close);
                        waits::farewell(self.left.take()).await;
                        self.standing.send_replace(Standing::Closed);
                        let _ = closed.send(());
                        return;
                    }
                    None => return self.step(Input::Close),
                },
                Some(said) = self.said.recv() => self.take_said(said),
                heard = waits::hear(&mut self.line) => self.take_heard(heard),
                connected = waits::connected(&mut self.connecting) => self.take_connected(connected),
                () = waits::until(wake_at) => self.step(Input::Tick),
            }
        }
    }

    fn take_said(&mut self, said: Said) {
        let slot = SlotId(said.call.0);
        let Some(open) = self.open.get(&slot) else {
            return;
        };
        let Some(report) = report(open.number, said.output) else {
            return;
        };
        let is_end = !matches!(report, WorkerReport::Progress | WorkerReport::Piece { .. });
        if is_end && let Some(open) = self.open.remove(&slot) {
            // Whatever else the service may still do about it, nobody hears.
            open.cancelled.cancel(CancelReason::Caller);
        }
        self.step(Input::Said { slot, report });
    }

    fn take_heard(&mut self, heard: Option<Vec<bytes::Bytes>>) {
        let Some(frames) = heard else {
            self.line = None;
            self.standing.send_replace(Standing::Away);
            return self.step(Input::Lost);
        };
        match ToClient::decode(&frames) {
            Ok(frame) => self.step(Input::Heard(frame)),
            Err(error) => {
                tracing::warn!(%error, "bridge.malformed_from_host");
                self.step(Input::Garbage);
            }
        }
    }

    fn take_connected(&mut self, connected: io::Result<Line>) {
        self.connecting = None;
        match connected {
            Ok(line) => {
                self.line = Some(line);
                self.step(Input::Connected);
            }
            Err(error) => {
                tracing::debug!(%error, endpoint = %self.endpoint, "bridge.connect_failed");
                self.step(Input::ConnectFailed);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut actions: std::collections::VecDeque<Action> = self.pirate.step(Instant::now(), input).into();
        while let Some(action) = actions.pop_front() {
            if let Some(input) = self.act(action) {
                actions.extend(self.pirate.step(Instant::now(), input));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Connect => self.connect(),
            Action::Disconnect => self.disconnect(),
            Action::Send(frame) => {
                if let Some(line) = &self.line {
                    let _ = line.outgoing.send(frame.encode());
                }
            }
            Action::Begin(begin) => return self.begin(begin),
            Action::Stop { slot, reason } => {
                if let Some(open) = self.open.get(&slot) {
                    open.cancelled.cancel(reason);
                }
            }
            Action::Pace { slot, is_paused } => {
                if let Some(open) = self.open.get(&slot) {
                    open.backlog.pace(is_paused);
                }
            }
            Action::Welcomed => drop(self.standing.send_replace(Standing::Welcome)),
            Action::Refused { payload, .. } => {
                let unknown = || RpcError::new("refused", Effect::None, "the host does not say why");
                let cause = rpc::decode_error(None, &payload).unwrap_or_else(unknown);
                self.standing.send_replace(Standing::Refused(cause));
            }
            Action::Stuck => drop(self.standing.send_replace(Standing::Stuck)),
            Action::Drained => {
                if let Some(drained) = self.drained.take() {
                    let _ = drained.send(());
                }
            }
        }
        None
    }

    fn connect(&mut self) {
        // A file that cannot be read now leaves the old token, and the host's refusal says the rest.
        let token = match (&self.config.token, &self.config.token_file) {
            (None, Some(path)) => Token::read(path).ok(),
            (token, _) => token.clone(),
        };
        if token.is_some() {
            self.pirate.set_token(token);
        }
        let (endpoint, timeout, wire) =
            (self.endpoint.clone(), self.config.connect_timeout, self.config.wire);
        self.connecting = Some(tokio::spawn(async move { socket::connect(wire, &endpoint, timeout).await }));
    }

    fn disconnect(&mut self) {
        let line = self.line.take();
        self.left = line.filter(|_| self.is_closing);
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }

    /// Hands a job to the service, or says how it ended before it began.
    fn begin(&mut self, begin: Begin) -> Option<Input> {
        let Begin { slot, job, deadline, service, payload } = begin;
        let (number, method, params) = match rpc::decode_any_request(&payload) {
            Ok(request) => request,
            Err(error) => {
                let payload = rpc::encode_error(None, &error);
                return Some(Input::Said { slot, report: WorkerReport::Failed { payload } });
            }
        };
        if *method != *service {
            let reason = format!("the order of `{service}` holds a request of `{method}`");
            return Some(Input::Said { slot, report: gave_back(&reason) });
        }
        let cancelled = CancelToken::new();
        let backlog = Arc::new(Backlog::new(Arc::clone(&self.backlog)));
        let open = Open { cancelled: cancelled.clone(), backlog: Arc::clone(&backlog), number };
        self.open.insert(slot, open);
        let reply = Reply::new(CallId(slot.0), number, self.mouth.clone(), cancelled.clone(), backlog);
        let session = SessionId { client: self.id, incarnation: slot.0 };
        let role = Role::Worker;
        let call = Call { session, role, number: job, acked_through: 0, deadline, method, params, cancelled };
        let _at_home = self.home.enter();
        // The reply went with the call: when the service panics, dropping it answers.
        if catch_unwind(AssertUnwindSafe(|| self.service.call(call, reply))).is_err() {
            tracing::error!(job, "bridge.service_panicked");
        }
        None
    }
}

/// What the host is told of what the service says; none: nothing.
fn report(number: u64, output: Output) -> Option<WorkerReport> {
    Some(match output {
        Output::Accepted | Output::Progress => WorkerReport::Progress,
        Output::Chunk { index, payload, .. } => WorkerReport::Piece { index, payload },
        Output::Finished(Outcome { failed: None, payload }) => WorkerReport::Done { payload },
        Output::Finished(Outcome { failed: Some(_), payload }) => WorkerReport::Failed { payload },
        Output::GaveBack { reason } => gave_back(&reason),
        // Its pieces so far are void, and to the host that is another attempt.
        Output::Reset { .. } => gave_back("the work begins anew"),
        Output::Refused(_) => {
            let error = RpcError::new("slow-reader", Effect::Unknown, "the pieces were read too slowly")
                .with_next("ask for less");
            WorkerReport::Failed { payload: rpc::encode_error(Some(number), &error) }
        }
    })
}

fn settings(config: &WorkerConfig) -> Settings {
    let link = LinkSettings {
        // Until the host says otherwise.
        heartbeat: Duration::from_secs(1),
        liveness: config.liveness.max(1),
        request_timeout: config.request_timeout,
        retries: config.retries,
        backoff_min: config.backoff_min,
        backoff_max: config.backoff_max,
        role: Role::Worker,
        token: config.token.clone(),
    };
    let services = config.services.iter().map(|name| name.as_str().into()).collect();
    Settings { link, services, credit: config.credit }
}
