//! The shell of the bare queue: one task that feeds it from two ROUTERs and performs what it decides.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::envelope::HEARTBEAT;
use super::limits::{PppConfig, PppStats};
use super::queue::{Action, Dispatch, Input, Queue, Rules};
use crate::backlog::Backlog;
use crate::endpoint::Endpoint;
use crate::io_thread;
use crate::queue::{CallId, Output, Route};
use crate::server::{BridgeError, check_pace, explain, read_wall_clock_ms, wait_until_free};
use crate::service::{Call, CancelToken, Reply, Role, Said, Service};
use crate::socket::{self, Incoming, Listening, Outgoing, Wire};
use crate::unread::{Unread, UnreadMost};

/// A queue between bare clients and bare workers. Dropping it stops at once; [`PppServer::shutdown`] stops kindly.
#[derive(Debug)]
pub struct PppServer {
    frontend: Endpoint,
    backend: Endpoint,
    queue: Arc<Mutex<Queue>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Reads what a pair has seen. Cheap to clone; made before the pair serves and given to it in [`PppConfig::gauge`]. Only
/// its first pair counts.
#[derive(Debug, Clone, Default)]
pub struct PppGauge(Arc<OnceLock<Arc<Mutex<Queue>>>>);

impl PppGauge {
    /// What happened so far; none before the pair serves.
    #[must_use]
    pub fn read(&self) -> Option<PppStats> {
        Some(self.0.get()?.lock().stats())
    }
}

/// Listens at both endpoints of `config`, and hands JSON-RPC requests of clients to `service`, with the role of a
/// client. See [`PppConfig`] for who may then connect.
///
/// # Errors
/// [`BridgeError`]; nothing is left behind.
pub async fn serve_ppp(config: PppConfig, service: Arc<dyn Service>) -> Result<PppServer, BridgeError> {
    check(&config)?;
    let clients = listen(config.frontend).await?;
    let workers = listen(config.backend).await?;
    let rules = Rules {
        heartbeat: config.heartbeat,
        liveness: config.liveness,
        deadline: config.deadline,
        lease: config.lease,
        limits: config.limits.clone(),
    };
    let unread_most = UnreadMost {
        frames: config.limits.client_unread_frames_max,
        bytes: config.limits.client_unread_bytes_max,
    };
    let queue = Arc::new(Mutex::new(Queue::new(rules, rand::random(), rand::random(), Instant::now())));
    let _ = config.gauge.0.set(Arc::clone(&queue));
    let (frontend, backend) = (clients.endpoint.clone(), workers.endpoint.clone());
    let (stop, stopped) = oneshot::channel();
    let shell = Shell::new(Arc::clone(&queue), service, clients, workers, unread_most);
    let serving = io_thread::spawn(shell.run(stopped, config.drain));
    let task = serving.map_err(|cause| BridgeError::Listen { endpoint: frontend.clone(), cause })?;
    tracing::info!(%frontend, %backend, "bridge.ppp_listening");
    Ok(PppServer { frontend, backend, queue, stop: Some(stop), task })
}

impl PppServer {
    /// Where clients connect; a TCP port 0 is resolved.
    #[must_use]
    pub fn frontend(&self) -> &Endpoint {
        &self.frontend
    }

    /// Where workers connect; a TCP port 0 is resolved.
    #[must_use]
    pub fn backend(&self) -> &Endpoint {
        &self.backend
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> PppStats {
        self.queue.lock().stats()
    }

    /// Takes nothing new, waits up to `drain` for what is under way, and closes. When it returns, another may serve the
    /// same endpoints. What is not done by then is not answered: clients ask again.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
        wait_until_free(&self.frontend).await;
        wait_until_free(&self.backend).await;
    }
}

impl Drop for PppServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check(config: &PppConfig) -> Result<(), BridgeError> {
    config.frontend.check()?;
    config.backend.check()?;
    check_pace(config.heartbeat, config.liveness)?;
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(24 * 3_600));
    for (setting, found) in [("deadline", Some(config.deadline)), ("lease", config.lease)] {
        if let Some(found) = found.filter(|found| !(least..=most).contains(found)) {
            let found = format!("{} ms", found.as_millis());
            return Err(BridgeError::Setting { setting, found, allowed: "10 ms to a day" });
        }
    }
    Ok(())
}

/// By the `zeromq` crate always: the other refuses peers that bring an identity of their own, as the guide's workers do.
async fn listen(endpoint: Endpoint) -> Result<Listening, BridgeError> {
    socket::listen(Wire::ZeroMq, &endpoint).await.map_err(|cause| explain(endpoint, cause))
}

struct Shell {
    queue: Arc<Mutex<Queue>>,
    service: Arc<dyn Service>,
    clients: Listening,
    workers: Listening,
    open: HashMap<CallId, CancelToken>,
    unread: Unread,
    /// What is on its way to workers.
    unstarted: Unread,
    /// Where the service's tasks belong: not on the sockets' thread.
    home: Handle,
    said: mpsc::UnboundedReceiver<Said>,
    mouth: mpsc::UnboundedSender<Said>,
}

impl Shell {
    fn new(
        queue: Arc<Mutex<Queue>>,
        service: Arc<dyn Service>,
        clients: Listening,
        workers: Listening,
        most: UnreadMost,
    ) -> Self {
        // Unbounded, and bounded by `Backlog`: what a call streams is dropped as soon as it is heard.
        let (mouth, said) = mpsc::unbounded_channel();
        let (unread, unstarted) = (Unread::new(most), Unread::new(most));
        let (open, home) = (HashMap::new(), Handle::current());
        Self { queue, service, clients, workers, open, unread, unstarted, home, said, mouth }
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

    /// Goes on until nobody waits for anything.
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
            Some(incoming) = self.clients.incoming.recv() => match incoming {
                Incoming::Message { route, frames } => {
                    Input::ClientSaid { route, frames, wall_ms: read_wall_clock_ms() }
                }
                Incoming::Lost { route } => {
                    self.unread.forget(&route);
                    Input::ClientLost { route }
                }
            },
            Some(incoming) = self.workers.incoming.recv() => match incoming {
                Incoming::Message { route, frames } => Input::WorkerSaid { route, frames },
                Incoming::Lost { route } => {
                    self.unstarted.forget(&route);
                    Input::WorkerLost { route }
                }
            },
            Some(said) = self.said.recv() => self.hear_service(said),
            () = tokio::time::sleep_until(wake_at.into()) => Input::Tick,
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
            let actions = self.queue.lock().step(Instant::now(), input);
            for action in actions {
                inputs.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::ToClient { route, frames } => return self.send_to_client(route, frames),
            Action::ToWorker { route, frames } => return self.send_to_worker(route, frames),
            Action::BeatWorker { route } => self.beat_worker(route),
            Action::HangUpClient { route } => {
                self.unread.forget(&route);
                send(&self.clients, Outgoing::Disconnect { route });
            }
            Action::HangUpWorker { route } => {
                self.unstarted.forget(&route);
                send(&self.workers, Outgoing::Disconnect { route });
            }
            Action::Dispatch(dispatch) => self.dispatch(dispatch),
            Action::Cancel { call, reason } => {
                if let Some(cancelled) = self.open.get(&call) {
                    cancelled.cancel(reason);
                }
            }
        }
        None
    }

    fn send_to_client(&mut self, route: Route, frames: Vec<Bytes>) -> Option<Input> {
        match self.unread.admit(&route, frames) {
            Some(frames) => {
                send(&self.clients, Outgoing::Message { route, frames });
                None
            }
            None => Some(Input::ClientSlow { route }),
        }
    }

    fn send_to_worker(&mut self, route: Route, frames: Vec<Bytes>) -> Option<Input> {
        match self.unstarted.admit(&route, frames) {
            Some(frames) => {
                send(&self.workers, Outgoing::Message { route, frames });
                None
            }
            None => Some(Input::WorkerSlow { route }),
        }
    }

    /// A worker that has something unread needs no beat beside it: one that is busy reads for as long as a request may
    /// take nothing, and one that never reads would pile them up.
    fn beat_worker(&mut self, route: Route) {
        if self.unstarted.is_read(&route)
            && let Some(frames) = self.unstarted.admit(&route, vec![Bytes::from_static(HEARTBEAT)])
        {
            send(&self.workers, Outgoing::Message { route, frames });
        }
    }

    fn dispatch(&mut self, dispatch: Dispatch) {
        let Dispatch { call, session, number, acked_through, deadline, method, params } = dispatch;
        let cancelled = CancelToken::new();
        self.open.insert(call, cancelled.clone());
        // Nothing of what it streams goes anywhere, so nothing piles up that would have to be shared.
        let backlog = Arc::new(Backlog::new(Arc::default()));
        let reply = Reply::new(call, number, self.mouth.clone(), cancelled.clone(), backlog);
        let role = Role::Client;
        let call = Call { session, role, number, acked_through, deadline, method, params, cancelled };
        let _at_home = self.home.enter();
        // The reply went with the call: when the service panics, dropping it answers.
        if catch_unwind(AssertUnwindSafe(|| self.service.call(call, reply))).is_err() {
            tracing::error!(number, "bridge.service_panicked");
        }
    }
}

/// A closed mailbox means that the socket is gone, and its peers with it.
fn send(listening: &Listening, order: Outgoing) {
    let _ = listening.outgoing.send(order);
}
