//! The host: its queue, the calls that its service has, and what it orders itself. A kill takes all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::World;
use super::agenda::{Event, Process};
use super::ledger::{Asker, Token, Told};
use super::network::{Direction, LineId};
use super::peer::IMPOSTOR_INCARNATION;
use super::service::Serving;
use crate::frame::{HostBody, JobBody, ToClient};
use crate::pool::Order;
use crate::queue::{self, CallId, Limits, Notice, Queue, Route, Rules, Ticket, TicketNews};
use crate::service::Role;

/// A host that is stopped waits so long.
const DRAIN_MS: u64 = 5_000;

#[derive(Debug)]
pub(super) struct Host {
    pub(super) queue: Queue,
    pub(super) run: u64,
    pub(super) calls: BTreeMap<CallId, Serving>,
    /// The timer that is set, and when it goes off.
    timer: (u64, Option<Instant>),
    /// Connections that it has not dropped or lost.
    lines: BTreeSet<LineId>,
    /// Those that it has dropped.
    dropped: BTreeSet<LineId>,
    /// Which request is behind a job.
    jobs: BTreeMap<u64, Bytes>,
}

impl Host {
    pub(super) fn hears(&self, line: LineId) -> bool {
        self.lines.contains(&line)
    }
}

impl World {
    pub(super) fn start_host(&mut self) {
        if self.host.is_some() {
            return;
        }
        self.runs += 1;
        let rules = Rules {
            heartbeat: super::BEAT,
            liveness: super::LIVENESS,
            role_max: Role::Operator,
            token: None,
            limits: self.limits(),
            open_services: super::SERVICES.map(Into::into).to_vec(),
        };
        self.host = Some(Host {
            queue: Queue::new(rules, self.runs, self.agenda.now()),
            run: self.runs,
            calls: BTreeMap::new(),
            timer: (0, None),
            lines: BTreeSet::new(),
            dropped: BTreeSet::new(),
            jobs: BTreeMap::new(),
        });
        self.store_open_at_ms = self.agenda.now_ms();
        self.step_host(queue::Input::Tick);
    }

    fn limits(&self) -> Limits {
        let limits = Limits { sessions_max: self.peers.len() + 1_024, ..Limits::default() };
        if !self.kind.is_rough {
            return limits;
        }
        // So that the bounds are met.
        Limits {
            session_calls_max: 6,
            finished_max: 4,
            stream_messages_max: 40,
            orders_waiting_max: 8,
            worker_credit_max: 3,
            ..limits
        }
    }

    pub(super) fn kill_host(&mut self) {
        if self.host.is_some() {
            self.coverage.count("hosts killed");
            self.end_host();
        }
    }

    /// Most peers learn of it; the others find out by silence.
    fn end_host(&mut self) {
        let Some(host) = self.host.take() else { return };
        self.coverage.add_stats(&host.queue.stats());
        self.ledger.abandon_run(host.run);
        self.forget_pause(Process::Host);
        for line in self.network.lines_of_run(host.run) {
            if self.dice.percent(70) && self.gets_through(line, Direction::ToPeer) {
                let delay = self.dice.within(1..50);
                self.agenda.after(delay, Event::PeerLearnsLoss { line });
            }
        }
        let delay = self.dice.within(100..4_000);
        self.agenda.after(delay, Event::StartHost);
    }

    pub(super) fn stop_host(&mut self) {
        let Some(run) = self.host.as_ref().map(|host| host.run) else { return };
        self.coverage.count("hosts stopped");
        self.step_host(queue::Input::Close);
        self.agenda.after(DRAIN_MS, Event::LeaveHost { run });
    }

    pub(super) fn leave_host(&mut self, run: u64) {
        if self.is_run(run) {
            self.step_host(queue::Input::Leave);
            self.end_host();
        }
    }

    pub(super) fn is_run(&self, run: u64) -> bool {
        self.host.as_ref().is_some_and(|host| host.run == run)
    }

    pub(super) fn hear_at_host(&mut self, line: LineId, frame: crate::frame::ToHost) {
        // What it had taken from a line before it dropped it comes late; rarely enough.
        let is_dropped = |host: &Host| self.kind.is_calm && host.dropped.contains(&line);
        if self.is_run(self.network.line(line).run) && !self.host.as_ref().is_some_and(is_dropped) {
            let wall_ms = self.agenda.now_ms() + self.wall_offset_ms + 1;
            self.host.as_mut().unwrap().lines.insert(line);
            self.step_host(queue::Input::Heard { route: route_of(line), frame, wall_ms });
        }
    }

    pub(super) fn lose_at_host(&mut self, line: LineId) {
        if self.is_run(self.network.line(line).run) {
            self.host.as_mut().unwrap().lines.remove(&line);
            self.step_host(queue::Input::Lost { route: route_of(line) });
        }
    }

    pub(super) fn wake_host(&mut self, timer: u64) {
        let Some(host) = self.host.as_mut().filter(|host| host.timer.0 == timer) else { return };
        host.timer.1 = None;
        self.step_host(queue::Input::Tick);
        self.check_presence();
    }

    pub(super) fn order_at_host(&mut self) {
        let Some(run) = self.host.as_ref().map(|host| host.run) else { return };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let terms = self.roll_terms();
        let name = self.open_order(Asker::Host { run, ticket: ticket.0 }, terms.class);
        let deadline = self.roll_deadline();
        let lease = (terms.lease_ms > 0).then(|| Duration::from_millis(terms.lease_ms.into()));
        if self.kind.is_rough && self.dice.percent(10) {
            let delay = self.dice.within(1..5_000);
            self.agenda.after(delay, Event::GiveUpTicket { run, ticket });
        }
        let order = Order { service: terms.service, class: terms.class, deadline, lease, payload: name };
        self.step_host(queue::Input::Order { ticket, order });
    }

    /// The orderer takes no more news, like one that dropped its job.
    pub(super) fn give_up_ticket(&mut self, run: u64, ticket: Ticket) {
        if self.is_run(run) && self.ledger.abandon(Asker::Host { run, ticket: ticket.0 }) {
            self.step_host(queue::Input::CancelOrder { ticket });
        }
    }

    pub(super) fn step_host(&mut self, input: queue::Input) {
        let now = self.agenda.now();
        let Some(host) = &mut self.host else { return };
        let actions = host.queue.step(now, input);
        let notices = host.queue.take_notices();
        for notice in notices {
            self.see_notice(&notice);
        }
        for action in actions {
            self.perform(action);
        }
        self.set_timer_of_host();
    }

    fn set_timer_of_host(&mut self) {
        let Some(host) = &mut self.host else { return };
        let wake_at = Some(host.queue.wake_at());
        if host.timer.1 != wake_at {
            self.timers += 1;
            host.timer = (self.timers, wake_at);
            self.agenda.wake(host.queue.wake_at(), Event::WakeHost { timer: self.timers });
        }
    }

    fn see_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Twin { .. } => self.coverage.count("twins"),
            Notice::Draining { .. } => self.coverage.count("drains"),
            Notice::Expired { session, .. } => {
                let is_expected = !self.is_undisturbed() || session.incarnation == IMPOSTOR_INCARNATION;
                assert!(is_expected, "somebody who is there is given up: {notice}");
            }
            _ => {}
        }
    }

    fn perform(&mut self, action: queue::Action) {
        match action {
            queue::Action::Send { route, frame } => {
                let line = line_of(&route);
                self.see_sent(&frame);
                self.see_sent_to_liar(line, &frame);
                self.carry_to_peer(line, frame);
            }
            queue::Action::Disconnect { route } => {
                let line = line_of(&route);
                let host = self.host.as_mut().unwrap();
                host.lines.remove(&line);
                host.dropped.insert(line);
                if self.gets_through(line, Direction::ToPeer) {
                    let delay = self.dice.within(10..50);
                    self.agenda.after(delay, Event::PeerLearnsLoss { line });
                }
            }
            queue::Action::Dispatch(dispatch) => self.begin_serving(dispatch),
            queue::Action::Cancel { call, .. } => self.cancel_serving(call),
            queue::Action::Pace { call, is_paused } => self.pace_serving(call, is_paused),
            queue::Action::Tell { ticket, news } => self.hear_of_ticket(ticket, news),
        }
    }

    /// What workers are told.
    fn see_sent(&mut self, frame: &ToClient) {
        let ToClient::Said { body: HostBody::Work(body), .. } = frame else { return };
        let host = self.host.as_mut().unwrap();
        match body {
            JobBody::Job { job, attempt, remaining_ms, payload, .. } => {
                host.jobs.insert(*job, payload.clone());
                let token = Token { run: host.run, job: *job, attempt: *attempt };
                let deadline = self.agenda.now() + Duration::from_millis(u64::from(*remaining_ms));
                self.ledger.note_given(payload, token, deadline);
            }
            JobBody::Recall { job, attempt } => {
                let token = Token { run: host.run, job: *job, attempt: *attempt };
                let name = host.jobs[job].clone();
                self.check_recall(&name, token);
                self.ledger.note_recalled(&name, token);
            }
            JobBody::Pace { .. } => {}
        }
    }

    fn hear_of_ticket(&mut self, ticket: Ticket, news: TicketNews) {
        let asker = Asker::Host { run: self.host.as_ref().unwrap().run, ticket: ticket.0 };
        let told = match news {
            TicketNews::Begun => return,
            TicketNews::Chunk { payload, .. } => Told::Chunk(payload),
            TicketNews::Reset { .. } => Told::Reset,
            TicketNews::Ended(outcome) if outcome.failed.is_none() => Told::Result(outcome.payload),
            TicketNews::Ended(outcome) => Told::Error(outcome.payload),
        };
        if !self.ledger.is_given_up(asker) {
            self.ledger.note_told(asker, told);
        }
    }
}

fn route_of(line: LineId) -> Route {
    Bytes::copy_from_slice(&line.0.to_be_bytes())
}

fn line_of(route: &Route) -> LineId {
    LineId(u64::from_be_bytes(route[..].try_into().unwrap()))
}
