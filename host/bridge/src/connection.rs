//! The client's shell: [`Client`], its calls and streams, and the task that feeds the Lazy Pirate.

mod driver;
mod error;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backlog::Unread;
use crate::client::News;
use crate::endpoint::Endpoint;
use crate::frame::{MESSAGE_PAYLOAD_MAX, OrderTerms};
use crate::pool::Class;
use crate::rpc::{self, Effect};
use crate::service::Role;
use crate::socket::Wire;
use crate::token::Token;

pub use error::{CallError, ConnectError};

use driver::{Aside, Command, Listener, NewCall, Started};

/// How a client connects and how stubborn it is.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// What to ask for; the endpoint may grant less. `Operator`.
    pub role: Role,
    /// The token of a TCP endpoint, when it is known.
    pub token: Option<Token>,
    /// Else where the host writes it; read anew at every connection, since a restarted host has another.
    pub token_file: Option<PathBuf>,
    /// How long one attempt to connect may take, the first greeting included. 3 s.
    pub connect_timeout: Duration,
    /// A request that the host has not acknowledged is said again after this. 2 s.
    pub request_timeout: Duration,
    /// How often in a row, before the connection itself is made anew. 3.
    pub retries: u32,
    /// The first pause after a failed attempt to reconnect; doubles, give or take a fifth. 1 s.
    pub backoff_min: Duration,
    /// The longest pause. 32 s.
    pub backoff_max: Duration,
    /// So many heartbeats without a word, and the connection is made anew. The host sets the interval. 3.
    pub liveness: u32,
    /// Open calls end when nothing was heard of any host for so long; longer than `liveness` heartbeats, and than
    /// `backoff_max`, or a host that comes back is not noticed. None: they wait until their deadlines.
    pub silence_max: Option<Duration>,
    /// Who speaks ZeroMQ for us; the host need not have chosen the same. The `zeromq` crate.
    pub wire: Wire,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            role: Role::Operator,
            token: None,
            token_file: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(2),
            retries: 3,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(32),
            liveness: 3,
            silence_max: None,
            wire: Wire::default(),
        }
    }
}

/// How one call is made.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// From now. The host stops then; an answer that was decided by then still arrives. At most 49 days. 30 s.
    pub deadline: Duration,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30) }
    }
}

impl CallOptions {
    /// Options with this deadline.
    #[must_use]
    pub fn with_deadline(deadline: Duration) -> Self {
        Self { deadline }
    }
}

/// How something is ordered of a worker.
#[derive(Debug, Clone, Copy)]
pub struct OrderOptions {
    /// From now, waiting for a worker included. At most 49 days. 30 s.
    pub deadline: Duration,
    /// Whether it may be done again when a worker dies of it. Once.
    pub class: Class,
    /// How long a worker may go without a sign of progress before another has it, at least two heartbeats of the host;
    /// none: until the deadline. While its pieces are not read fast enough the worker is not judged. None.
    pub lease: Option<Duration>,
}

impl Default for OrderOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), class: Class::Once, lease: None }
    }
}

/// What happens to a streamed call, in order; after `Done` nothing more.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The host admitted the request.
    Accepted,
    /// A provisional value.
    Chunk {
        /// Which attempt of the host it belongs to.
        attempt: u32,
        /// The value.
        value: Value,
    },
    /// Every chunk so far is void; the work begins anew.
    Reset {
        /// The attempt that follows.
        attempt: u32,
    },
    /// The one outcome.
    Done(Result<Value, CallError>),
}

/// A session with a host. Cheap to clone; the last one dropped ends the session.
///
/// It survives the host: while a call's deadline lasts, the request is said again to whichever host answers at the
/// endpoint, under the same session and number.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    role: Role,
    commands: mpsc::Sender<Command>,
    asides: mpsc::UnboundedSender<Aside>,
    silence: watch::Receiver<bool>,
}

impl Client {
    /// Connects and greets.
    ///
    /// # Errors
    /// [`ConnectError`]; at once when nobody listens.
    pub async fn connect(endpoint: Endpoint, config: ClientConfig) -> Result<Self, ConnectError> {
        endpoint.check()?;
        driver::probe(&endpoint, config.connect_timeout).await?;
        let Started { commands, asides, silence, role } = driver::start(&endpoint, config).await?;
        Ok(Self { endpoint, role, commands, asides, silence })
    }

    /// Where the host is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What was granted.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// True while calls wait for a host that has not been heard for `liveness` heartbeats.
    #[must_use]
    pub fn silence(&self) -> watch::Receiver<bool> {
        self.silence.clone()
    }

    /// Calls `method` and waits for its result; chunks are dropped unread, by contract: only the result is
    /// authoritative.
    ///
    /// # Errors
    /// [`CallError`], whose `effect` says whether it happened. While nobody can tell that, the host is asked again
    /// under the same number, with growing pauses, until the deadline; only then [`CallError::Unresolved`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call at the host.
    pub async fn call(&self, method: &str, params: Value, options: CallOptions) -> Result<Value, CallError> {
        finish(self.open(method, params, None, options.deadline, false).await).await
    }

    /// Calls `method` and hands out what happens as it happens. Dropping the stream cancels the call.
    ///
    /// A slow reader slows the host's producer down. Against one that cannot be slowed down, at most 1,024 chunks and
    /// 4 MiB wait to be received; beyond it the stream ends in [`CallError::SlowReader`].
    pub async fn stream(&self, method: &str, params: Value, options: CallOptions) -> Stream {
        self.open(method, params, None, options.deadline, true).await
    }

    /// Orders something of a worker that offers `service`, and waits for the result. Operators may; clients where the
    /// host opens the service to them. It waits until a worker is free.
    ///
    /// # Errors
    /// [`CallError`]: the worker's own, or `worker-lost`, `dead-letter`, `timeout`, `busy`, `denied` of the host.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the order.
    pub async fn order(
        &self,
        service: &str,
        params: Value,
        options: OrderOptions,
    ) -> Result<Value, CallError> {
        finish(self.open_order(service, params, options, false).await).await
    }

    /// The same, and hands out pieces of the answer as they come.
    pub async fn order_stream(&self, service: &str, params: Value, options: OrderOptions) -> Stream {
        self.open_order(service, params, options, true).await
    }

    /// Says goodbye: open calls of this session end in [`CallError::Closed`], at the host they are cancelled.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn open_order(
        &self,
        service: &str,
        params: Value,
        options: OrderOptions,
        wants_chunks: bool,
    ) -> Stream {
        let lease_ms =
            options.lease.map_or(0, |lease| u32::try_from(lease.as_millis().max(1)).unwrap_or(u32::MAX));
        let terms = OrderTerms { service: service.into(), class: options.class, lease_ms };
        self.open(service, params, Some(terms), options.deadline, wants_chunks).await
    }

    async fn open(
        &self,
        method: &str,
        params: Value,
        order: Option<OrderTerms>,
        deadline: Duration,
        wants_chunks: bool,
    ) -> Stream {
        let (news, events) = mpsc::unbounded_channel();
        let number = Arc::new(OnceLock::new());
        let unread = Arc::new(Unread::default());
        let listener = Listener { news, unread: Arc::clone(&unread), wants_chunks };
        let command = Command::Call(NewCall {
            number: Arc::clone(&number),
            method: method.to_owned(),
            params,
            order,
            deadline: Instant::now() + deadline.min(DEADLINE_MAX),
            listener,
        });
        // When the driver is gone, the listener goes with the command and the stream ends by itself.
        let _ = self.commands.send(command).await;
        Stream { number, events, unread, asides: self.asides.clone(), is_done: false }
    }
}

async fn finish(mut stream: Stream) -> Result<Value, CallError> {
    loop {
        match stream.recv().await {
            Some(Event::Done(result)) => return result,
            Some(_) => {}
            None => return Err(CallError::Closed { effect: Effect::Unknown }),
        }
    }
}

/// What the header's 32 bits of milliseconds hold.
const DEADLINE_MAX: Duration = Duration::from_millis(u32::MAX as u64);

/// The events of one call.
#[derive(Debug)]
pub struct Stream {
    /// Set by the driver when it has taken the call.
    number: Arc<OnceLock<u64>>,
    events: mpsc::UnboundedReceiver<News>,
    unread: Arc<Unread>,
    asides: mpsc::UnboundedSender<Aside>,
    is_done: bool,
}

impl Stream {
    /// The next event; `None` after [`Event::Done`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        if self.is_done {
            return None;
        }
        let Some(news) = self.events.recv().await else {
            self.is_done = true;
            return Some(Event::Done(Err(CallError::Closed { effect: Effect::Unknown })));
        };
        let event = self.interpret(news);
        self.is_done = matches!(event, Event::Done(_));
        Some(event)
    }

    fn interpret(&mut self, news: News) -> Event {
        let number = self.number.get().copied().unwrap_or_default();
        match news {
            News::Accepted => Event::Accepted,
            News::Reset { attempt } => Event::Reset { attempt },
            News::Chunk { attempt, payload } => {
                self.release(payload.len());
                match rpc::decode_chunk(number, &payload) {
                    Some(value) => Event::Chunk { attempt, value },
                    None => {
                        self.cancel();
                        Event::Done(Err(CallError::Malformed))
                    }
                }
            }
            News::Result(payload) => {
                Event::Done(rpc::decode_result(number, &payload).ok_or(CallError::Malformed))
            }
            News::Error(payload) => Event::Done(Err(
                rpc::decode_error(Some(number), &payload).map_or(CallError::Malformed, CallError::Host)
            )),
            News::Unresolved { asks, cause } => Event::Done(Err(rpc::decode_error(Some(number), &cause)
                .map_or(CallError::Malformed, |cause| CallError::Unresolved { asks, cause }))),
            News::TimedOut { was_sent } => {
                Event::Done(Err(CallError::Timeout { effect: effect_of(was_sent) }))
            }
            News::Silent { was_sent, waited } => {
                Event::Done(Err(CallError::Silent { waited, effect: effect_of(was_sent) }))
            }
            News::Closed { was_sent } => Event::Done(Err(CallError::Closed { effect: effect_of(was_sent) })),
            News::Crowded => Event::Done(Err(CallError::Crowded)),
            News::Overflowed => Event::Done(Err(CallError::SlowReader)),
            News::TooLarge { found } => {
                Event::Done(Err(CallError::TooLarge { found, allowed: MESSAGE_PAYLOAD_MAX }))
            }
        }
    }

    fn release(&self, bytes: usize) {
        if self.unread.release(bytes) {
            self.say(Aside::Resume);
        }
    }

    fn cancel(&self) {
        self.say(Aside::Cancel);
    }

    fn say(&self, aside: impl FnOnce(u64) -> Aside) {
        if let Some(number) = self.number.get() {
            // A driver that is gone has ended every call.
            let _ = self.asides.send(aside(*number));
        }
    }
}

impl Drop for Stream {
    /// Closing first, so that either the driver sees a closed stream when it takes the call, or we see its number.
    fn drop(&mut self) {
        self.events.close();
        if !self.is_done {
            self.cancel();
        }
    }
}

fn effect_of(was_sent: bool) -> Effect {
    if was_sent { Effect::Unknown } else { Effect::None }
}
