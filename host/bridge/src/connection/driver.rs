//! The task of one client: commands, frames and the clock in, actions out.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{ClientConfig, ConnectError};
use crate::backlog::Unread;
use crate::client::{Action, Input, LazyPirate, News, Request, Settings};
use crate::endpoint::Endpoint;
use crate::frame::{MESSAGE_PAYLOAD_MAX, OrderTerms, ToClient};
use crate::io_thread;
use crate::link::LinkSettings;
use crate::os;
use crate::rpc::{self, Effect, RpcError};
use crate::service::Role;
use crate::socket::{self, Line};
use crate::token::{Token, TokenError};
use crate::waits;

/// Commands on their way to the driver; more callers wait.
const COMMANDS_MAX: usize = 64;

#[derive(Debug)]
pub(super) enum Command {
    Call(NewCall),
    Close { done: oneshot::Sender<()> },
}

/// What a caller wants, and where it is told.
#[derive(Debug)]
pub(super) struct NewCall {
    /// Set when the call is taken.
    pub(super) number: Arc<OnceLock<u64>>,
    pub(super) method: String,
    pub(super) params: Value,
    /// For a worker; none: for the host itself.
    pub(super) order: Option<OrderTerms>,
    pub(super) deadline: Instant,
    pub(super) listener: Listener,
}

/// Whom to tell about a call.
#[derive(Debug)]
pub(super) struct Listener {
    /// Unbounded, and bounded by `unread`: chunks are counted until they are received.
    pub(super) news: mpsc::UnboundedSender<News>,
    pub(super) unread: Arc<Unread>,
    pub(super) wants_chunks: bool,
}

impl Listener {
    /// False when the reader is too slow for this.
    fn tell(&self, news: News) -> bool {
        if let News::Chunk { payload, .. } = &news {
            if !self.wants_chunks {
                return true;
            }
            if !self.unread.admit(payload.len()) {
                return false;
            }
        }
        // A reader that is gone has cancelled already.
        let _ = self.news.send(news);
        true
    }
}

/// What a stream's reader tells the driver in passing.
#[derive(Debug)]
pub(super) enum Aside {
    /// It is gone.
    Cancel(u64),
    /// It caught up.
    Resume(u64),
}

/// A session that was greeted, and how to reach its task.
pub(super) struct Started {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) asides: mpsc::UnboundedSender<Aside>,
    pub(super) silence: watch::Receiver<bool>,
    pub(super) role: Role,
}

/// Fails at once when nobody listens, where a ZeroMQ socket would wait.
pub(super) async fn probe(endpoint: &Endpoint, timeout: Duration) -> Result<(), ConnectError> {
    let attempt = async {
        match endpoint {
            Endpoint::Unix(path) => os::probe_socket_file(path).await,
            Endpoint::Tcp(address) => tokio::net::TcpStream::connect(address).await.map(drop),
        }
    };
    let result =
        tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    result.map_err(|cause| explain(endpoint, cause))
}

fn explain(endpoint: &Endpoint, cause: io::Error) -> ConnectError {
    let endpoint = endpoint.clone();
    if cause.kind() == io::ErrorKind::PermissionDenied {
        return ConnectError::NotAllowed { endpoint, cause };
    }
    ConnectError::NoHost { endpoint, cause }
}

/// Starts the task and waits for the host's first word.
pub(super) async fn start(endpoint: &Endpoint, config: ClientConfig) -> Result<Started, ConnectError> {
    let token = read_token(&config)?;
    let (commands, command_out) = mpsc::channel(COMMANDS_MAX);
    let (asides, aside_out) = mpsc::unbounded_channel();
    let (greeted, greeting) = oneshot::channel();
    let (silence, silence_out) = watch::channel(false);
    let waited = config.connect_timeout;
    let driver = Driver {
        pirate: LazyPirate::new(settings(&config, token), rand::random(), Instant::now()),
        endpoint: endpoint.clone(),
        config,
        line: None,
        is_closing: false,
        left: None,
        connecting: None,
        listeners: HashMap::new(),
        greeted: Some(greeted),
        silence,
    };
    let task = io_thread::spawn(driver.run(command_out, aside_out)).map_err(ConnectError::Thread)?;
    match tokio::time::timeout(waited, greeting).await {
        Ok(Ok(Ok(role))) => Ok(Started { commands, asides, silence: silence_out, role }),
        Ok(Ok(Err(cause))) => Err(ConnectError::Refused { endpoint: endpoint.clone(), cause }),
        Ok(Err(_)) | Err(_) => {
            task.abort();
            Err(ConnectError::Silent { endpoint: endpoint.clone(), waited })
        }
    }
}

fn read_token(config: &ClientConfig) -> Result<Option<Token>, TokenError> {
    match (&config.token, &config.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => Token::read(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn settings(config: &ClientConfig, token: Option<Token>) -> Settings {
    let link = LinkSettings {
        // Until the host says otherwise.
        heartbeat: Duration::from_secs(1),
        liveness: config.liveness.max(1),
        request_timeout: config.request_timeout,
        retries: config.retries,
        backoff_min: config.backoff_min,
        backoff_max: config.backoff_max,
        role: config.role,
        token,
    };
    Settings { link, silence_max: config.silence_max }
}

struct Driver {
    pirate: LazyPirate,
    endpoint: Endpoint,
    config: ClientConfig,
    line: Option<Line>,
    is_closing: bool,
    /// On which goodbye was said.
    left: Option<Line>,
    connecting: Option<JoinHandle<io::Result<Line>>>,
    listeners: HashMap<u64, Listener>,
    greeted: Option<oneshot::Sender<Result<Role, RpcError>>>,
    silence: watch::Sender<bool>,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut asides: mpsc::UnboundedReceiver<Aside>,
    ) {
        self.step(Input::Tick);
        loop {
            let wake_at = self.pirate.wake_at();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Call(call)) => self.open(call),
                    Some(Command::Close { done }) => {
                        self.is_closing = true;
                        self.step(Input::Close);
                        waits::farewell(self.left.take()).await;
                        let _ = done.send(());
                        return;
                    }
                    None => return self.step(Input::Close),
                },
                Some(aside) = asides.recv() => self.take_aside(aside),
                heard = waits::hear(&mut self.line) => self.take_heard(heard),
                connected = waits::connected(&mut self.connecting) => self.take_connected(connected),
                () = waits::until(wake_at) => self.step(Input::Tick),
            }
        }
    }

    fn open(&mut self, call: NewCall) {
        let NewCall { number: slot, method, params, order, deadline, listener } = call;
        let number = self.pirate.take_number();
        let _ = slot.set(number);
        if listener.news.is_closed() {
            return;
        }
        let payload = rpc::encode_request(number, &method, &params);
        if payload.len() > MESSAGE_PAYLOAD_MAX {
            listener.tell(News::TooLarge { found: payload.len() });
            return;
        }
        self.listeners.insert(number, listener);
        self.step(Input::Call { number, request: Request { payload, order, deadline } });
    }

    fn take_aside(&mut self, aside: Aside) {
        match aside {
            Aside::Cancel(number) => self.cancel(number),
            Aside::Resume(number) => self.step(Input::Pace { number, is_paused: false }),
        }
    }

    fn cancel(&mut self, number: u64) {
        self.listeners.remove(&number);
        self.step(Input::Cancel { number });
    }

    fn take_heard(&mut self, heard: Option<Vec<bytes::Bytes>>) {
        let Some(frames) = heard else {
            self.line = None;
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
        for action in self.pirate.step(Instant::now(), input) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::Disconnect => self.disconnect(),
            Action::Send(frame) => {
                if let Some(line) = &self.line {
                    let _ = line.outgoing.send(frame.encode());
                }
            }
            Action::Tell { number, news } => self.tell(number, news),
            Action::Welcomed(role) => self.tell_greeted(Ok(role)),
            Action::Silence { is_silent } => drop(self.silence.send(is_silent)),
            Action::Refused { payload, .. } => {
                let unknown = || RpcError::new("refused", Effect::None, "it does not say why");
                self.tell_greeted(Err(rpc::decode_error(None, &payload).unwrap_or_else(unknown)));
            }
        }
    }

    fn connect(&mut self) {
        // A file that cannot be read now leaves the old token, and the host's refusal says the rest.
        if let Ok(token) = read_token(&self.config) {
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

    fn tell(&mut self, number: u64, news: News) {
        let is_end = news.is_end();
        let Some(listener) = self.listeners.get(&number) else {
            return;
        };
        if !listener.tell(news) {
            listener.tell(News::Overflowed);
            return self.cancel(number);
        }
        // The reader can ask for more only after this, so the two arrive in order.
        let wants_pause = listener.unread.wants_pause();
        if is_end {
            self.listeners.remove(&number);
        } else if wants_pause {
            self.step(Input::Pace { number, is_paused: true });
        }
    }

    fn tell_greeted(&mut self, result: Result<Role, RpcError>) {
        if let Some(greeted) = self.greeted.take() {
            let _ = greeted.send(result);
        }
    }
}
