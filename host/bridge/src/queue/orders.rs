//! Orders: calls that a worker answers, and what the host itself orders.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Action, CallId, Notice, Outcome, Output, Queue};
use crate::frame::OrderTerms;
use crate::pool::{End, JobId, Mishap, Order};
use crate::rpc::{self, Effect, RpcError};
use crate::service::Role;

/// Names something that the host ordered; chosen by it, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// What becomes of it, in order; after `Ended` nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TicketNews {
    /// A worker has it.
    Begun,
    Chunk {
        attempt: u32,
        payload: Bytes,
    },
    Reset {
        attempt: u32,
    },
    Ended(Outcome),
}

/// Who waits for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orderer {
    Call(CallId),
    Host(Ticket),
}

impl Queue {
    pub(super) fn may_order(&self, client: u128, service: &str) -> bool {
        let is_operator = self.sessions.get(&client).is_some_and(|session| session.role == Role::Operator);
        is_operator || self.rules.open_services.iter().any(|open| **open == *service)
    }

    pub(super) fn order_for_call(
        &mut self,
        call: CallId,
        deadline: Instant,
        terms: OrderTerms,
        payload: Bytes,
    ) {
        let lease = (terms.lease_ms > 0).then(|| Duration::from_millis(u64::from(terms.lease_ms)));
        let order = Order { service: terms.service, class: terms.class, deadline, lease, payload };
        let job = self.pool.submit(self.stepped_at, order);
        self.orderers.insert(job, Orderer::Call(call));
        if let Some(running) = self.calls.get_mut(&call) {
            running.job = Some(job);
        }
        self.perform_pool();
    }

    pub(super) fn take_host_order(&mut self, now: Instant, ticket: Ticket, order: Order<Bytes>) {
        let job = self.pool.submit(now, order);
        self.orderers.insert(job, Orderer::Host(ticket));
        self.tickets.insert(ticket, job);
        self.perform_pool();
    }

    pub(super) fn cancel_host_order(&mut self, ticket: Ticket) {
        if let Some(job) = self.tickets.get(&ticket) {
            self.pool.cancel(self.stepped_at, *job);
        }
    }

    pub(super) fn cancel_host_orders(&mut self) {
        let tickets: Vec<Ticket> = self.tickets.keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.cancel_host_order(ticket));
    }

    /// A worker has the job: whoever ordered it is told; a caller once, the host at each attempt.
    pub(super) fn accept_order(&mut self, job: JobId) {
        match self.orderers.get(&job) {
            Some(Orderer::Call(call)) => self.owe_acceptance(*call),
            Some(Orderer::Host(ticket)) => self.tell(*ticket, TicketNews::Begun),
            None => {}
        }
    }

    /// To be said at the next tick: most orders are answered before, and then it would be a message for nothing.
    fn owe_acceptance(&mut self, call: CallId) {
        if self.calls.get(&call).is_some_and(|running| !running.is_accepted) {
            self.unaccepted.insert(call);
        }
    }

    pub(super) fn accept_orders(&mut self) {
        for call in std::mem::take(&mut self.unaccepted) {
            self.take_output(self.stepped_at, call, Output::Accepted);
        }
    }

    pub(super) fn stream_to_orderer(&mut self, job: JobId, attempt: u32, index: u64, payload: Bytes) {
        match self.orderers.get(&job) {
            Some(Orderer::Call(call)) => {
                let (call, now) = (*call, self.stepped_at);
                if self.unaccepted.remove(&call) {
                    self.take_output(now, call, Output::Accepted);
                }
                self.take_output(now, call, Output::Chunk { attempt, index, payload });
                self.hold_if_behind(call, job);
            }
            Some(Orderer::Host(ticket)) => self.tell(*ticket, TicketNews::Chunk { attempt, payload }),
            None => {}
        }
    }

    /// A worker is held back while much waits for its caller: nobody else would hold it.
    fn hold_if_behind(&mut self, call: CallId, job: JobId) {
        let Some(client) = self.calls.get(&call).map(|running| running.session.client) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&client)
            && session.is_behind()
        {
            session.held.insert(job);
            self.pool.pace(self.stepped_at, job, true);
        }
    }

    /// Lets the workers go on that were held for this client, if it has caught up.
    pub(super) fn release_held(&mut self, client: u128) {
        let Some(session) = self.sessions.get_mut(&client).filter(|session| session.has_caught_up()) else {
            return;
        };
        for job in std::mem::take(&mut session.held) {
            let call = self.orderers.get(&job);
            let Some(Orderer::Call(call)) = call else { continue };
            let is_paused = self.calls.get(call).is_some_and(|running| running.is_paused);
            self.pool.pace(self.stepped_at, job, is_paused);
        }
    }

    /// The host does not take its pieces as fast as they come, or does again.
    pub(super) fn pace_host_order(&mut self, ticket: Ticket, is_paused: bool) {
        if let Some(job) = self.tickets.get(&ticket) {
            self.pool.pace(self.stepped_at, *job, is_paused);
        }
    }

    pub(super) fn reset_orderer(&mut self, job: JobId, attempt: u32) {
        match self.orderers.get(&job) {
            Some(Orderer::Call(call)) => self.take_output(self.stepped_at, *call, Output::Reset { attempt }),
            Some(Orderer::Host(ticket)) => self.tell(*ticket, TicketNews::Reset { attempt }),
            None => {}
        }
    }

    pub(super) fn end_order(&mut self, job: JobId, end: End<Bytes>) {
        if let End::Dead { trials, .. } = &end {
            self.note_dead_letter(job, trials);
        }
        match self.orderers.remove(&job) {
            Some(Orderer::Call(call)) => {
                self.unaccepted.remove(&call);
                let Some(running) = self.calls.get(&call) else {
                    return;
                };
                let (number, was_asked_before) = (running.number, running.was_asked_before);
                let outcome = conclude(number, end);
                let outcome = if was_asked_before { in_doubt(number, outcome) } else { outcome };
                self.take_output(self.stepped_at, call, Output::Finished(outcome));
            }
            Some(Orderer::Host(ticket)) => {
                self.tickets.remove(&ticket);
                self.tell(ticket, TicketNews::Ended(conclude(ticket.0, end)));
            }
            None => {}
        }
    }

    fn note_dead_letter(&mut self, job: JobId, trials: &[(u32, Mishap)]) {
        let letter = self.pool.dead_letters().find(|letter| letter.job == job);
        let service = letter.map(|letter| letter.service.to_string()).unwrap_or_default();
        let history = trials.iter().map(|(attempt, mishap)| format!("attempt {attempt}: {mishap}")).collect();
        self.note(Notice::DeadLetter { service, history });
    }

    fn tell(&mut self, ticket: Ticket, news: TicketNews) {
        self.actions.push(Action::Tell { ticket, news });
    }
}

/// What whoever ordered is told.
fn conclude(number: u64, end: End<Bytes>) -> Outcome {
    let error = match end {
        End::Done(payload) => return Outcome { failed: None, payload },
        // Only the worker knows what it did; it says so in its error.
        End::Failed { payload, is_in_doubt } => {
            let failed = rpc::decode_error(Some(number), &payload).map(|error| error.data.effect);
            let outcome = Outcome { failed: Some(failed.unwrap_or(Effect::Unknown)), payload };
            return if is_in_doubt { in_doubt(number, outcome) } else { outcome };
        }
        End::Unknown => RpcError::new(
            "worker-lost",
            Effect::Unknown,
            "its worker was lost, and it must not be done twice",
        )
        .with_next("look at what it would have changed before ordering it anew"),
        End::Dead { trials, is_in_doubt } => {
            let told: Vec<String> = trials.iter().map(|(_, mishap)| mishap.to_string()).collect();
            let effect = if is_in_doubt { Effect::Unknown } else { Effect::None };
            let message = format!("no worker could do it in {} attempts: {}", trials.len(), told.join("; "));
            RpcError::new("dead-letter", effect, message)
                .with_next("look at what it asks for; workers died of it, or would not have it")
        }
        End::TimedOut { was_given: false } => {
            RpcError::new("timeout", Effect::None, "no worker was free for it by its deadline")
                .with_next("start a worker that offers the service, or allow it more time")
        }
        End::TimedOut { was_given: true } => {
            RpcError::new("timeout", Effect::Unknown, "its worker did not answer by its deadline")
                .with_next("allow it more time")
        }
        End::Busy => RpcError::new("busy", Effect::None, "as many orders wait as are kept")
            .with_next("wait for an answer, then order it again"),
        End::Cancelled { was_given } => {
            let effect = if was_given { Effect::Unknown } else { Effect::None };
            RpcError::new("cancelled", effect, "it was cancelled before it was answered")
        }
    };
    Outcome::error(number, &error)
}

/// Who says that it had no effect speaks for the last attempt; an earlier one, here or under another host, may have had.
fn in_doubt(number: u64, outcome: Outcome) -> Outcome {
    let error = rpc::decode_error(Some(number), &outcome.payload);
    match error.filter(|_| outcome.failed == Some(Effect::None)) {
        Some(mut error) => {
            error.data.effect = Effect::Unknown;
            Outcome::error(number, &error)
        }
        None => outcome,
    }
}

#[cfg(test)]
mod tests;
