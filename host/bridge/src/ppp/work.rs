//! The shell of a bare worker: [`PppWorker`], and the task that feeds its state machine.
//!
//! What bare frames carry and what a [`Service`] takes meet here:
//!
//! ```text
//! one frame, a JSON-RPC 2.0 request   its method and params        answered as JSON-RPC, under its id
//! any other content                   method "ppp", params [..]    a string or an array of them: a frame each;
//!   each frame a string, or {"hex": ..} where it is not UTF-8        anything else, and errors: JSON in one frame
//! ```
//! So a service that answers with its params is an echo.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::envelope::Content;
use super::queue::SERVICE;
use super::worker::{Action, Input, Pirate, Settings, SlotId};
use crate::backlog::Backlog;
use crate::endpoint::Endpoint;
use crate::io_thread;
use crate::queue::{CallId, Outcome, Output};
use crate::rpc::{self, HostRequest, RequestId};
use crate::service::{Call, CancelReason, CancelToken, Reply, Role, Said, Service, SessionId};
use crate::socket::{self, Line, Wire};
use crate::waits;
use crate::work::WorkerError;

/// How a bare worker works. The queue has to keep to the same interval; nothing in bare frames tells it.
#[derive(Debug, Clone)]
pub struct PppWorkerConfig {
    /// It beats this often while it is idle; at least 10 ms. 1 s.
    pub heartbeat: Duration,
    /// So many intervals without a word, and it connects anew; at least 1. 3.
    pub liveness: u32,
    /// How long a service has for one request before it is told to stop. 60 s.
    pub deadline: Duration,
    /// How long one attempt to connect may take. 3 s.
    pub connect_timeout: Duration,
    /// The first pause before connecting anew; doubles, give or take a fifth. 1 s.
    pub backoff_min: Duration,
    /// The longest pause. 32 s.
    pub backoff_max: Duration,
}

impl Default for PppWorkerConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            liveness: 3,
            deadline: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(32),
        }
    }
}

/// How a bare worker stands with its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PppStanding {
    /// It has heard no queue yet, or has lost it and looks for it, for ever.
    Away,
    /// It has said READY and hears a queue.
    Heard,
    /// It has stopped.
    Closed,
}

/// A worker for a bare Paranoid Pirate queue, the guide's or ours. Dropping it hangs up at once; [`PppWorker::drain`]
/// answers what is in hand first. It survives its queue: it connects to whichever answers at the endpoint.
#[derive(Debug)]
pub struct PppWorker {
    orders: mpsc::UnboundedSender<Order>,
    standing: watch::Receiver<PppStanding>,
    task: JoinHandle<()>,
}

impl PppWorker {
    /// Begins: it connects when a queue is there. Requests are answered by `service`, one at a time, with the role of a
    /// worker.
    ///
    /// # Errors
    /// [`WorkerError::Endpoint`] where the address is not of this machine, and [`WorkerError::Thread`].
    pub fn start(
        endpoint: Endpoint,
        config: PppWorkerConfig,
        service: Arc<dyn Service>,
    ) -> Result<Self, WorkerError> {
        endpoint.check()?;
        let (orders, orders_out) = mpsc::unbounded_channel();
        let (standing_in, standing) = watch::channel(PppStanding::Away);
        let shell = Shell::new(endpoint, &config, service, standing_in);
        let task = io_thread::spawn(shell.run(orders_out)).map_err(WorkerError::Thread)?;
        Ok(Self { orders, standing, task })
    }

    /// How it stands with its queue, now and from now on.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<PppStanding> {
        self.standing.clone()
    }

    /// Takes no more requests, waits until what it has is answered, and hangs up. Bare frames have no goodbye: what the
    /// queue sends meanwhile is lost with the connection. What is not done within `patience` is told to stop; false
    /// when that was needed.
    pub async fn drain(mut self, patience: Duration) -> bool {
        let (drained, is_drained) = oneshot::channel();
        let _ = self.orders.send(Order::Drain { drained });
        let is_done = tokio::time::timeout(patience, is_drained).await.is_ok_and(|answer| answer.is_ok());
        let _ = self.orders.send(Order::Close);
        let _ = (&mut self.task).await;
        is_done
    }
}

impl Drop for PppWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Order {
    Drain { drained: oneshot::Sender<()> },
    Close,
}

struct Shell {
    pirate: Pirate,
    endpoint: Endpoint,
    connect_timeout: Duration,
    service: Arc<dyn Service>,
    line: Option<Line>,
    is_closing: bool,
    /// The last one, on which a reply may still be on its way.
    left: Option<Line>,
    connecting: Option<JoinHandle<io::Result<Line>>>,
    open: Option<Open>,
    /// Where the service's tasks belong: not on the sockets' thread.
    home: Handle,
    said: mpsc::UnboundedReceiver<Said>,
    mouth: mpsc::UnboundedSender<Said>,
    drained: Option<oneshot::Sender<()>>,
    standing: watch::Sender<PppStanding>,
    id: u128,
}

/// What the shell keeps of the request in hand.
struct Open {
    slot: SlotId,
    /// Where the request was JSON-RPC.
    id: Option<RequestId>,
    cancelled: CancelToken,
}

impl Shell {
    fn new(
        endpoint: Endpoint,
        config: &PppWorkerConfig,
        service: Arc<dyn Service>,
        standing: watch::Sender<PppStanding>,
    ) -> Self {
        // Unbounded, and bounded by `Backlog`: what a service streams is dropped as soon as it is heard.
        let (mouth, said) = mpsc::unbounded_channel();
        let id = rand::random();
        Self {
            pirate: Pirate::new(settings(config), id),
            endpoint,
            connect_timeout: config.connect_timeout,
            service,
            line: None,
            is_closing: false,
            left: None,
            connecting: None,
            open: None,
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
                    Some(Order::Close) | None => {
                        self.is_closing = true;
                        self.step(Input::Close);
                        // What a process leaves unwritten when it ends, nobody hears.
                        waits::farewell(self.left.take()).await;
                        self.standing.send_replace(PppStanding::Closed);
                        return;
                    }
                },
                Some(said) = self.said.recv() => self.take_said(said),
                heard = waits::hear(&mut self.line) => self.take_heard(heard),
                connected = waits::connected(&mut self.connecting) => self.take_connected(connected),
                () = waits::until(wake_at) => self.step(Input::Tick),
            }
        }
    }

    fn take_said(&mut self, said: Said) {
        let Some(open) = self.open.take_if(|open| open.slot.0 == said.call.0) else {
            return;
        };
        let content = match said.output {
            Output::Finished(outcome) => Some(content_of(&open, &outcome)),
            Output::GaveBack { .. } => None,
            // A bare reply is one message.
            _ => return self.open = Some(open),
        };
        self.step(Input::Done { slot: open.slot, content });
    }

    fn take_heard(&mut self, heard: Option<Vec<Bytes>>) {
        let Some(frames) = heard else {
            self.line = None;
            self.standing.send_replace(PppStanding::Away);
            return self.step(Input::Lost);
        };
        let malformed = self.pirate.malformed();
        self.step(Input::Heard(frames));
        if self.pirate.malformed() > malformed {
            tracing::warn!(endpoint = %self.endpoint, "bridge.ppp_malformed_from_queue");
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
            Action::Connect => {
                let (endpoint, timeout) = (self.endpoint.clone(), self.connect_timeout);
                self.connecting =
                    Some(tokio::spawn(
                        async move { socket::connect(Wire::ZeroMq, &endpoint, timeout).await },
                    ));
            }
            Action::Disconnect => self.disconnect(),
            Action::Send(frames) => {
                if let Some(line) = &self.line {
                    let _ = line.outgoing.send(frames);
                }
            }
            Action::Begin { slot, deadline, content } => self.begin(slot, deadline, &content),
            Action::Stop { slot, reason } => {
                if let Some(open) = self.open.as_ref().filter(|open| open.slot == slot) {
                    open.cancelled.cancel(reason);
                }
            }
            Action::Heard => drop(self.standing.send_replace(PppStanding::Heard)),
            Action::Drained => {
                if let Some(drained) = self.drained.take() {
                    let _ = drained.send(());
                }
            }
        }
    }

    fn disconnect(&mut self) {
        let line = self.line.take();
        self.left = line.filter(|_| self.is_closing);
        self.standing.send_replace(PppStanding::Away);
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }

    fn begin(&mut self, slot: SlotId, deadline: Instant, content: &Content) {
        let cancelled = CancelToken::new();
        let backlog = Arc::new(Backlog::new(Arc::default()));
        let reply = Reply::new(CallId(slot.0), slot.0, self.mouth.clone(), cancelled.clone(), backlog);
        let mut open = Open { slot, id: None, cancelled: cancelled.clone() };
        let (method, params) = match rpc::decode_host_request(&content.0) {
            Ok(None) => (SERVICE.to_owned(), params_of(content)),
            Ok(Some(HostRequest { id, method, params })) => {
                open.id = Some(id);
                (method, params)
            }
            Err(invalid) => {
                let (id, error) = *invalid;
                open.id = Some(id);
                self.open = Some(open);
                return reply.finish(Err(error));
            }
        };
        self.open = Some(open);
        let session = SessionId { client: self.id, incarnation: slot.0 };
        let (role, number) = (Role::Worker, slot.0);
        let call = Call { session, role, number, acked_through: 0, deadline, method, params, cancelled };
        let _at_home = self.home.enter();
        // The reply went with the call: when the service panics, dropping it answers.
        if catch_unwind(AssertUnwindSafe(|| self.service.call(call, reply))).is_err() {
            tracing::error!(number, "bridge.service_panicked");
        }
    }
}

impl Drop for Shell {
    /// Nobody is left who could take the reply.
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.cancelled.cancel(CancelReason::Shutdown);
        }
    }
}

fn settings(config: &PppWorkerConfig) -> Settings {
    Settings {
        heartbeat: config.heartbeat.max(Duration::from_millis(10)),
        liveness: config.liveness.max(1),
        backoff_min: config.backoff_min,
        backoff_max: config.backoff_max,
        deadline: config.deadline,
    }
}

fn params_of(content: &Content) -> Value {
    let param = |frame: &Bytes| match std::str::from_utf8(frame) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"hex": frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    };
    content.0.iter().map(param).collect()
}

fn content_of(open: &Open, outcome: &Outcome) -> Content {
    if let Some(id) = &open.id {
        return Content(vec![rpc::readdress(id, outcome)]);
    }
    let answered =
        outcome.failed.is_none().then(|| rpc::decode_result(open.slot.0, &outcome.payload)).flatten();
    let frames = match &answered {
        // The error, as it is.
        None => return Content(vec![outcome.payload.clone()]),
        Some(Value::Array(items)) => items.iter().map(frame_of).collect(),
        Some(single) => frame_of(single).map(|frame| vec![frame]),
    };
    match (frames, answered) {
        (Some(frames), _) if !frames.is_empty() => Content(frames),
        (_, answered) => Content(vec![Bytes::from(answered.unwrap_or_default().to_string())]),
    }
}

/// A frame, where the value is one.
fn frame_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Object(fields) if fields.len() == 1 => from_hex(fields.get("hex")?.as_str()?),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Bytes> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.as_bytes().chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>())?.map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: Result<Value, rpc::RpcError>, frames: &[&[u8]]) {
        let outcome = match &answer {
            Ok(value) => Outcome { failed: None, payload: rpc::encode_result(7, value) },
            Err(error) => Outcome::error(7, error),
        };
        let open = Open { slot: SlotId(7), id: None, cancelled: CancelToken::new() };
        let content = content_of(&open, &outcome);
        assert_eq!(content.0.iter().map(|frame| &frame[..]).collect::<Vec<_>>(), frames, "{answer:?}");
    }

    #[test]
    fn content_survives_a_service_that_echoes_its_params() {
        for frames in [&[&b"hello"[..]][..], &[b""], &[b"a", b"\xff\x00", b""], &[b"{}"]] {
            let content = Content(frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect());
            check(Ok(params_of(&content)), frames);
        }
    }

    #[test]
    fn an_answer_that_is_no_frames_is_json_in_one() {
        check(Ok(json!("text")), &[b"text"]);
        check(Ok(json!({"a": 1})), &[br#"{"a":1}"#]);
        check(Ok(json!(["a", 1])), &[br#"["a",1]"#]);
        check(Ok(json!([])), &[b"[]"]);
        check(Ok(json!({"hex": "f"})), &[br#"{"hex":"f"}"#]);
        check(Ok(Value::Null), &[b"null"]);
        let error = rpc::RpcError::new("no", rpc::Effect::None, "no");
        check(Err(error.clone()), &[&rpc::encode_error(Some(7), &error)]);
    }
}
