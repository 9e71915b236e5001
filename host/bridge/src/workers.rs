//! Workers as the host sees them: whether somebody offers a service, and a job that somebody does for the host.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::pool::{Class, Order};
use crate::queue::{PeerInfo, Queue, Stats, Ticket, TicketNews};
use crate::rpc::{self, Effect, RpcError};

/// Pieces of an answer that wait to be taken; beyond it the job is cut.
const PIECES_MAX: usize = 1_024;
/// So many of them, and the worker pauses: what it has on its way by then still fits.
const PAUSE_PIECES: usize = 256;

/// The workers of a host. Cheap to clone; made before the host serves and given to it in
/// [`crate::BridgeConfig::workers`]. Until then, and after the host has closed, nobody offers anything.
#[derive(Debug, Clone, Default)]
pub struct Workers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seat: OnceLock<Seat>,
    tickets: AtomicU64,
}

/// Where a host takes orders of its own.
#[derive(Debug)]
struct Seat {
    queue: Arc<Mutex<Queue>>,
    asked: mpsc::UnboundedSender<Asked>,
}

/// What the host's shell is asked.
#[derive(Debug)]
pub(crate) enum Asked {
    Order {
        ticket: Ticket,
        order: Order<Bytes>,
        news: NewsSender,
    },
    Cancel {
        ticket: Ticket,
    },
    /// Its pieces have been taken: more may come.
    GoOn {
        ticket: Ticket,
    },
}

/// Where the news of one order go.
#[derive(Debug)]
pub(crate) struct NewsSender {
    news: mpsc::Sender<TicketNews>,
    is_paused: Arc<AtomicBool>,
}

impl NewsSender {
    /// False when they are not taken fast enough.
    pub(crate) fn send(&self, news: TicketNews) -> bool {
        self.news.try_send(news).is_ok()
    }

    /// True when it is time to pause; once, until they have been taken.
    pub(crate) fn wants_pause(&self) -> bool {
        self.news.capacity() < PIECES_MAX - PAUSE_PIECES && !self.is_paused.swap(true, Ordering::AcqRel)
    }
}

/// What becomes of a job, in order; after `Done` nothing more.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// A worker has it; said at each attempt.
    Begun,
    /// A provisional piece of the answer.
    Piece(Value),
    /// The pieces so far are void: another worker begins anew.
    Reset,
    /// The one outcome.
    Done(Result<Value, RpcError>),
}

/// A job that a worker does for the host. Dropping it cancels it.
#[derive(Debug)]
pub struct Job {
    ticket: Ticket,
    news: mpsc::Receiver<TicketNews>,
    /// Set where the news are sent.
    is_paused: Arc<AtomicBool>,
    workers: Workers,
    is_done: bool,
}

impl Workers {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a worker offers the service, with room or without.
    #[must_use]
    pub fn offer(&self, service: &str) -> bool {
        self.0.seat.get().is_some_and(|seat| seat.queue.lock().offers(service))
    }

    /// Who is there now, and what happened so far; none before the host serves.
    #[must_use]
    pub fn presence(&self) -> Option<(Vec<PeerInfo>, Stats)> {
        let queue = self.0.seat.get()?.queue.lock();
        Some((queue.peers(Instant::now()), queue.stats()))
    }

    /// Orders something of a worker, at once or as soon as one is free.
    ///
    /// `lease`: how long a worker may go without a sign of progress before another has the job; none: until the
    /// deadline. The bounds are those of orders in [`crate::Limits`].
    #[must_use]
    pub fn order(
        &self,
        service: &str,
        class: Class,
        deadline: Instant,
        lease: Option<Duration>,
        params: &Value,
    ) -> Job {
        let ticket = Ticket(self.0.tickets.fetch_add(1, Ordering::Relaxed) + 1);
        let (news_in, news) = mpsc::channel(PIECES_MAX + 1);
        let payload = rpc::encode_request(ticket.0, service, params);
        let order = Order { service: service.into(), class, deadline, lease, payload };
        let is_paused = Arc::<AtomicBool>::default();
        let sender = NewsSender { news: news_in, is_paused: Arc::clone(&is_paused) };
        self.ask(Asked::Order { ticket, order, news: sender });
        Job { ticket, news, is_paused, workers: self.clone(), is_done: false }
    }

    /// From now on orders go to this host. Only the first host counts.
    pub(crate) fn attach(&self, queue: &Arc<Mutex<Queue>>) -> mpsc::UnboundedReceiver<Asked> {
        // Unbounded, and bounded by the kernel's own bounds on what it has under way.
        let (asked, asked_out) = mpsc::unbounded_channel();
        let _ = self.0.seat.set(Seat { queue: Arc::clone(queue), asked });
        asked_out
    }

    /// Where no host takes it, the order goes with its sender of news, and the job ends by itself.
    fn ask(&self, asked: Asked) {
        if let Some(seat) = self.0.seat.get() {
            let _ = seat.asked.send(asked);
        }
    }
}

impl Job {
    /// The next thing that happens; `None` after [`JobEvent::Done`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<JobEvent> {
        if self.is_done {
            return None;
        }
        let news = self.news.recv().await;
        if self.news.len() < PAUSE_PIECES / 4 && self.is_paused.swap(false, Ordering::AcqRel) {
            self.workers.ask(Asked::GoOn { ticket: self.ticket });
        }
        let event = match news {
            Some(TicketNews::Chunk { payload, .. }) => match rpc::decode_chunk(self.ticket.0, &payload) {
                Some(value) => JobEvent::Piece(value),
                None => JobEvent::Done(Err(malformed())),
            },
            Some(TicketNews::Begun) => JobEvent::Begun,
            Some(TicketNews::Reset { .. }) => JobEvent::Reset,
            Some(TicketNews::Ended(outcome)) => JobEvent::Done(self.read(outcome.failed, &outcome.payload)),
            None => JobEvent::Done(Err(cut())),
        };
        self.is_done = matches!(event, JobEvent::Done(_));
        Some(event)
    }

    /// The outcome; pieces are dropped unread.
    ///
    /// # Errors
    /// The worker's error, or why no worker answered, with the effect.
    pub async fn outcome(mut self) -> Result<Value, RpcError> {
        loop {
            match self.next().await {
                Some(JobEvent::Done(result)) => return result,
                Some(_) => {}
                None => return Err(cut()),
            }
        }
    }

    fn read(&self, failed: Option<Effect>, payload: &[u8]) -> Result<Value, RpcError> {
        match failed {
            None => rpc::decode_result(self.ticket.0, payload).ok_or_else(malformed),
            Some(_) => Err(rpc::decode_error(Some(self.ticket.0), payload).unwrap_or_else(malformed)),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.is_done {
            self.workers.ask(Asked::Cancel { ticket: self.ticket });
        }
    }
}

fn malformed() -> RpcError {
    RpcError::new("malformed", Effect::Unknown, "the worker's answer is not one to what it was asked")
        .with_next("run a worker of the host's version")
}

fn cut() -> RpcError {
    RpcError::new("cut", Effect::Unknown, "the host stopped, or the answer was taken too slowly")
}
