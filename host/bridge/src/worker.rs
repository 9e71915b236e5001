//! The worker's side, pure: it offers services, has jobs in hand, and owes each attempt one answer.
//!
//! ```text
//! JOB ─→ slot ─→ answer ─→ free
//!          | RECALL, the deadline, another channel: the work is told to stop, and the slot is free when it has
//! ```
//! - Its hearts beat beside the work, so a busy worker is never taken for a dead one. Signs of progress go out at most
//!   four in a lease.
//! - In a new channel (another host, or one that forgot us) every job in hand is void: it is told to stop, its answer
//!   goes nowhere, and until then the worker offers that much less credit.
//! - One that drains takes no more, and is [`Action::Drained`] when its last answer has arrived.
//!
//! Never here: sockets, the clock, randomness, connections (`link`), what a job asks for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::channel::Weigh;
use crate::frame::{ClientBody, HostBody, JobBody, Refusal, ToClient, ToHost, WorkerBody, WorkerReport};
use crate::link::{Link, LinkAction, LinkNews, LinkSettings};
use crate::pool::ServiceName;
use crate::rpc::{self, Effect, RpcError};
use crate::service::{CancelReason, Role};
use crate::token::Token;

/// What a worker is.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) link: LinkSettings,
    pub(crate) services: Vec<ServiceName>,
    /// Jobs in hand at once.
    pub(crate) credit: u16,
}

/// Names one piece of work in this process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Begin; or only: look at the clock.
    Tick,
    Connected,
    ConnectFailed,
    /// The connection ended.
    Lost,
    Heard(ToClient),
    /// Bytes that are not a frame.
    Garbage,
    /// The work says something; after an answer its slot is void.
    Said {
        slot: SlotId,
        report: WorkerReport,
    },
    /// Take no more.
    Drain,
    /// Say goodbye.
    Close,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect,
    /// Drop the socket, whether connected or not yet.
    Disconnect,
    Send(ToHost),
    Begin(Begin),
    /// Nobody wants its answer: stop, and answer.
    Stop {
        slot: SlotId,
        reason: CancelReason,
    },
    /// Whoever reads its pieces fell behind, or caught up.
    Pace {
        slot: SlotId,
        is_paused: bool,
    },
    Welcomed,
    /// The host will not have us: for want of room now, for any other reason ever.
    Refused {
        refusal: Refusal,
        payload: Bytes,
    },
    /// Every answer has arrived, and no more jobs come.
    Drained,
    /// Every slot has a job that is void and does not stop.
    Stuck,
}

/// How long void jobs may take all of a worker's credit before it is said to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// One job to begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) slot: SlotId,
    pub(crate) job: u64,
    pub(crate) deadline: Instant,
    pub(crate) service: ServiceName,
    pub(crate) payload: Bytes,
}

impl From<LinkAction> for Action {
    fn from(action: LinkAction) -> Self {
        match action {
            LinkAction::Connect => Self::Connect,
            LinkAction::Disconnect => Self::Disconnect,
            LinkAction::Send(frame) => Self::Send(frame),
        }
    }
}

impl Weigh for WorkerBody {
    fn weight(&self) -> usize {
        self.payload_len()
    }
}

#[derive(Debug)]
struct Slot {
    job: u64,
    attempt: u32,
    deadline: Instant,
    /// Of another channel: the host there does not know it.
    is_void: bool,
    is_stopped: bool,
    /// A sign of progress is not said again before.
    progress_at: Instant,
    progress_interval: Duration,
}

/// One worker session.
#[derive(Debug)]
pub(crate) struct Pirate {
    link: Link<WorkerBody>,
    services: Vec<ServiceName>,
    credit: u16,
    slots: BTreeMap<SlotId, Slot>,
    next_slot: u64,
    is_draining: bool,
    is_drained: bool,
    /// Since when every slot is void.
    void_since: Option<Instant>,
    is_stuck: bool,
    actions: Vec<Action>,
}

impl Pirate {
    /// `client` is random and identifies the session.
    pub(crate) fn new(settings: Settings, client: u128, now: Instant) -> Self {
        Self {
            link: Link::new(settings.link, client, now),
            services: settings.services,
            credit: settings.credit,
            slots: BTreeMap::new(),
            next_slot: 1,
            is_draining: false,
            is_drained: false,
            void_since: None,
            is_stuck: false,
            actions: Vec::new(),
        }
    }

    /// What the next HELLO carries.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.link.set_token(token);
    }

    /// Takes one input and says what to do, in order.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.link.note_step(now);
        match input {
            Input::Tick => self.link.begin(),
            Input::Connected => self.link.connected(now),
            Input::ConnectFailed => self.link.connect_failed(now),
            Input::Lost => self.link.reconnect(),
            Input::Heard(frame) => self.hear(now, frame),
            Input::Garbage => {}
            Input::Said { slot, report } => self.take_report(now, slot, report),
            Input::Drain => self.drain(now),
            Input::Close => self.close(),
        }
        self.take_link_actions();
        self.stop_late_slots(now);
        if self.link.tick(now, 0) {
            self.link.repeat(now, frame_of);
        }
        self.link.flush(frame_of);
        self.take_link_actions();
        self.look_whether_drained();
        self.look_whether_stuck(now);
        std::mem::take(&mut self.actions)
    }

    /// When to step next, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let running = self.slots.values().filter(|slot| !slot.is_stopped);
        let stuck = self.void_since.filter(|_| !self.is_stuck).map(|since| since + STUCK_AFTER);
        running.map(|slot| slot.deadline).chain(self.link.wake_at()).chain(stuck).min()
    }

    fn hear(&mut self, now: Instant, frame: ToClient) {
        let news = self.link.hear(now, frame);
        self.take_link_actions();
        match news {
            Some(LinkNews::Welcomed { role: Role::Worker, is_new_channel }) => {
                self.actions.push(Action::Welcomed);
                if is_new_channel { self.begin_channel(now) } else { self.link.repeat(now, frame_of) }
            }
            Some(LinkNews::Welcomed { role, .. }) => self.give_up_role(role),
            Some(LinkNews::Said(HostBody::Work(JobBody::Recall { job, attempt }))) => {
                self.recall(job, attempt)
            }
            Some(LinkNews::Said(HostBody::Work(JobBody::Pace { job, attempt, is_paused }))) => {
                if let Some(slot) = self.find_slot(job, attempt) {
                    self.actions.push(Action::Pace { slot, is_paused });
                }
            }
            Some(LinkNews::Said(HostBody::Work(body))) => self.take_job(now, body),
            Some(LinkNews::Said(_)) | None => {}
            Some(LinkNews::Refused { refusal, payload }) => {
                self.actions.push(Action::Refused { refusal, payload });
                if refusal != Refusal::Full {
                    self.close();
                }
            }
        }
    }

    fn begin_channel(&mut self, now: Instant) {
        for (id, slot) in &mut self.slots {
            slot.is_void = true;
            if !std::mem::replace(&mut slot.is_stopped, true) {
                self.actions.push(Action::Stop { slot: *id, reason: CancelReason::ClientGone });
            }
        }
        self.offer(now);
    }

    /// Says what is offered: nothing, once it drains.
    fn offer(&mut self, now: Instant) {
        if self.is_draining {
            return;
        }
        let void = self.slots.values().filter(|slot| slot.is_void).count();
        let credit = self.credit.saturating_sub(u16::try_from(void).unwrap_or(u16::MAX));
        self.link.say(now, WorkerBody::Ready { credit, services: self.services.clone() });
    }

    fn take_job(&mut self, now: Instant, body: JobBody) {
        let JobBody::Job { job, attempt, remaining_ms, lease_ms, service, payload } = body else {
            return;
        };
        if self.is_draining || self.slots.len() >= usize::from(self.credit) {
            let reason = if self.is_draining { "the worker is leaving" } else { "the worker is full" };
            return self.report(now, job, attempt, not_taken(reason));
        }
        let slot = SlotId(self.next_slot);
        self.next_slot += 1;
        let deadline = now + Duration::from_millis(u64::from(remaining_ms));
        let progress_interval = Duration::from_millis(u64::from(lease_ms)) / 4;
        let entry = Slot {
            job,
            attempt,
            deadline,
            is_void: false,
            is_stopped: false,
            progress_at: now + progress_interval,
            progress_interval,
        };
        self.slots.insert(slot, entry);
        self.actions.push(Action::Begin(Begin { slot, job, deadline, service, payload }));
    }

    fn recall(&mut self, job: u64, attempt: u32) {
        if let Some(id) = self.find_slot(job, attempt)
            && let Some(slot) = self.slots.get_mut(&id)
            && !std::mem::replace(&mut slot.is_stopped, true)
        {
            self.actions.push(Action::Stop { slot: id, reason: CancelReason::Caller });
        }
    }

    fn find_slot(&self, job: u64, attempt: u32) -> Option<SlotId> {
        let is_meant = |slot: &Slot| (slot.job, slot.attempt) == (job, attempt) && !slot.is_void;
        self.slots.iter().find(|(_, slot)| is_meant(slot)).map(|(id, _)| *id)
    }

    fn take_report(&mut self, now: Instant, id: SlotId, report: WorkerReport) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let (job, attempt, is_void) = (slot.job, slot.attempt, slot.is_void);
        match report {
            WorkerReport::Progress => {
                if is_void || now < slot.progress_at {
                    return;
                }
                slot.progress_at = now + slot.progress_interval;
                self.report(now, job, attempt, WorkerReport::Progress);
            }
            WorkerReport::Piece { .. } => {
                slot.progress_at = now + slot.progress_interval;
                if !is_void {
                    self.report(now, job, attempt, report);
                }
            }
            WorkerReport::Done { .. } | WorkerReport::Failed { .. } | WorkerReport::GaveBack { .. } => {
                self.slots.remove(&id);
                if is_void { self.offer(now) } else { self.report(now, job, attempt, report) }
            }
        }
    }

    fn report(&mut self, now: Instant, job: u64, attempt: u32, report: WorkerReport) {
        self.link.say(now, WorkerBody::Report { job, attempt, report });
    }

    fn stop_late_slots(&mut self, now: Instant) {
        for (id, slot) in &mut self.slots {
            if now >= slot.deadline && !std::mem::replace(&mut slot.is_stopped, true) {
                self.actions.push(Action::Stop { slot: *id, reason: CancelReason::Deadline });
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.is_draining, true) {
            self.link.say(now, WorkerBody::Drain);
        }
    }

    fn look_whether_drained(&mut self) {
        // Where no host is, nobody is owed anything: whoever had ordered has ordered anew.
        let is_settled = self.slots.is_empty() && (self.link.is_drained() || !self.link.is_ready());
        if self.is_draining && !self.is_drained && is_settled {
            self.is_drained = true;
            self.actions.push(Action::Drained);
        }
    }

    fn look_whether_stuck(&mut self, now: Instant) {
        let is_full = self.slots.len() >= usize::from(self.credit);
        if !is_full || self.slots.values().any(|slot| !slot.is_void) {
            self.void_since = None;
        } else if now >= *self.void_since.get_or_insert(now) + STUCK_AFTER
            && !std::mem::replace(&mut self.is_stuck, true)
        {
            self.actions.push(Action::Stuck);
        }
    }

    /// The endpoint does not take workers.
    fn give_up_role(&mut self, role: Role) {
        let message = format!("the endpoint grants the role {}, not that of a worker", role.as_str());
        let error = RpcError::new("denied", Effect::None, message);
        let payload = rpc::encode_error(None, &error);
        self.actions.push(Action::Refused { refusal: Refusal::Role, payload });
        self.close();
    }

    fn close(&mut self) {
        if !self.link.close() {
            return;
        }
        for (id, slot) in &mut self.slots {
            slot.is_void = true;
            if !std::mem::replace(&mut slot.is_stopped, true) {
                self.actions.push(Action::Stop { slot: *id, reason: CancelReason::Shutdown });
            }
        }
    }

    fn take_link_actions(&mut self) {
        self.actions.extend(self.link.take_actions().into_iter().map(Action::from));
    }
}

/// A job's answer that gives it back.
pub(crate) fn gave_back(reason: &str) -> WorkerReport {
    give_back("gave-back", reason)
}

/// The same for one that was not begun: nobody learns anything about the job from that.
fn not_taken(reason: &str) -> WorkerReport {
    give_back(rpc::NOT_TAKEN, reason)
}

fn give_back(kind: &str, reason: &str) -> WorkerReport {
    let error = RpcError::new(kind, Effect::None, reason);
    WorkerReport::GaveBack { payload: rpc::encode_error(None, &error) }
}

fn frame_of(body: &WorkerBody) -> ClientBody {
    ClientBody::Work(body.clone())
}

#[cfg(test)]
mod tests;
