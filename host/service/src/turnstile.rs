//! The turnstile: calls of one session pass it one after another, in the order in which they arrived, although each is
//! served by a task of its own.
//!
//! What must happen in the order of arrival happens between a call's turn and the drop of its [`Turn`]; it should be
//! short. A call that dies while it waits lets the next one wait for whoever was before it. Sessions do not wait for
//! each other.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use telos_bridge::SessionId;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// One turnstile for all sessions. A session at rest takes no memory.
#[derive(Clone, Default)]
pub(crate) struct Turnstile(Arc<Mutex<Sessions>>);

#[derive(Default)]
struct Sessions {
    /// The newest arrival of each session that has not passed.
    newest: HashMap<SessionId, Ahead>,
    arrivals: u64,
}

/// Whoever is ahead. The sender's end is the news that it has passed; one that dies says who was ahead of it.
struct Ahead {
    number: u64,
    passed: oneshot::Receiver<Ahead>,
}

/// A call's place before the turnstile; dropping it lets the next one pass.
pub(crate) struct Turn {
    sessions: Arc<Mutex<Sessions>>,
    session: SessionId,
    number: u64,
    ahead: Option<Ahead>,
    passing: Option<oneshot::Sender<Ahead>>,
}

impl Turnstile {
    /// Takes the next place of this session.
    pub(crate) fn arrive(&self, session: SessionId) -> Turn {
        let (passing, passed) = oneshot::channel();
        let mut sessions = self.0.lock();
        sessions.arrivals += 1;
        let number = sessions.arrivals;
        let ahead = sessions.newest.insert(session, Ahead { number, passed });
        Turn { sessions: Arc::clone(&self.0), session, number, ahead, passing: Some(passing) }
    }
}

impl Turn {
    /// Waits until everyone of this session who arrived before has passed.
    ///
    /// Cancel safety: the place is kept.
    pub(crate) async fn come(&mut self) {
        while let Some(ahead) = &mut self.ahead {
            self.ahead = (&mut ahead.passed).await.ok();
        }
    }

    /// Whoever is still ahead.
    fn still_ahead(&mut self) -> Option<Ahead> {
        let mut ahead = self.ahead.take()?;
        loop {
            match ahead.passed.try_recv() {
                Err(TryRecvError::Empty) => return Some(ahead),
                Err(TryRecvError::Closed) => return None,
                Ok(further) => ahead = further,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let sessions = Arc::clone(&self.sessions);
        // Held throughout, so that whoever is ahead leaves either before or after.
        let mut sessions = sessions.lock();
        let is_newest = sessions.newest.get(&self.session).is_some_and(|newest| newest.number == self.number);
        match (self.still_ahead(), is_newest, self.passing.take()) {
            (Some(ahead), true, _) => {
                sessions.newest.insert(self.session, ahead);
            }
            (Some(ahead), false, Some(passing)) => drop(passing.send(ahead)),
            (None, true, _) => {
                sessions.newest.remove(&self.session);
            }
            // The end of `passing` says it.
            (_, false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { client: 1, incarnation: 1 };
    const OTHER: SessionId = SessionId { client: 2, incarnation: 1 };

    #[tokio::test]
    async fn calls_pass_in_the_order_of_arrival_whoever_runs_first() {
        let turnstile = Turnstile::default();
        let turns: Vec<Turn> = (0..8).map(|_| turnstile.arrive(SESSION)).collect();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut passing = tokio::task::JoinSet::new();
        for (number, mut turn) in turns.into_iter().enumerate().rev() {
            let order = Arc::clone(&order);
            passing.spawn(async move {
                turn.come().await;
                order.lock().push(number);
            });
        }
        passing.join_all().await;
        assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>());
        assert!(turnstile.0.lock().newest.is_empty());
    }

    #[tokio::test]
    async fn who_dies_while_it_waits_lets_nobody_pass_too_early() {
        let turnstile = Turnstile::default();
        let (first, second, mut third) =
            (turnstile.arrive(SESSION), turnstile.arrive(SESSION), turnstile.arrive(SESSION));
        drop(second);
        let mut waits = Box::pin(third.come());
        assert!(ask_once(&mut waits).await.is_none());
        turnstile.arrive(OTHER).come().await;
        drop(first);
        waits.await;
    }

    #[tokio::test]
    async fn who_dies_last_in_line_leaves_its_place_to_the_next_arrival() {
        let turnstile = Turnstile::default();
        let (first, second) = (turnstile.arrive(SESSION), turnstile.arrive(SESSION));
        drop(second);
        let mut third = turnstile.arrive(SESSION);
        let mut waits = Box::pin(third.come());
        assert!(ask_once(&mut waits).await.is_none());
        drop(first);
        waits.await;
        drop(third);
        assert!(turnstile.0.lock().newest.is_empty());
        let (first, second) = (turnstile.arrive(SESSION), turnstile.arrive(SESSION));
        drop(second);
        drop(first);
        assert!(turnstile.0.lock().newest.is_empty());
    }

    /// What a future answers when it is asked once.
    async fn ask_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
