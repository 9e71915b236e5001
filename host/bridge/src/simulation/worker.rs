//! Workers: the process around a worker's state machine, with the jobs on its desk.

use std::collections::BTreeMap;

use super::World;
use super::agenda::Event;
use super::ledger::Token;
use super::peer::{Machine, Peer, link_settings};
use super::work::Work;
use crate::frame::{ClientBody, HostBody, JobBody, ToClient, ToHost, WorkerBody, WorkerReport};
use crate::pool::ServiceName;
use crate::rpc;
use crate::service::Role;
use crate::worker::{self, Action, Input, Pirate, Settings, SlotId};

/// How long a worker that drains waits for its jobs, where there is trouble enough.
const HASTY_MS: u64 = 8_000;
/// And where there is none: longer than any job takes.
const PATIENT_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) pirate: Pirate,
    credit: u16,
    /// It takes no more.
    pub(super) is_draining: bool,
    pub(super) works: BTreeMap<SlotId, Work>,
    /// The job that it was told of last, and its lease in milliseconds.
    told: Option<(Token, u64)>,
}

impl World {
    pub(super) fn new_worker(&mut self, id: u128) -> Machine {
        let credit = u16::try_from(self.dice.within(1..5)).unwrap();
        let mut services: Vec<ServiceName> = super::SERVICES.map(Into::into).to_vec();
        if self.kind.is_rough && self.dice.percent(30) {
            services.remove(self.dice.index(services.len()));
        }
        let settings = Settings { link: link_settings(Role::Worker), services, credit };
        let pirate = Pirate::new(settings, id, self.agenda.now());
        Machine::Worker(Desk { pirate, credit, is_draining: false, works: BTreeMap::new(), told: None })
    }

    pub(super) fn desk(&mut self, peer: usize) -> &mut Desk {
        match &mut self.peers[peer].machine {
            Machine::Worker(desk) => desk,
            Machine::Client(_) => panic!("{peer} is a client"),
        }
    }

    /// Every worker and its desk.
    pub(super) fn desks(&self) -> impl Iterator<Item = (&Peer, &Desk)> {
        self.peers.iter().filter_map(|peer| match &peer.machine {
            Machine::Worker(desk) => Some((peer, desk)),
            Machine::Client(_) => None,
        })
    }

    pub(super) fn step_worker(&mut self, peer: usize, input: worker::Input) {
        self.note_job(peer, &input);
        let now = self.agenda.now();
        let actions = self.desk(peer).pirate.step(now, input);
        for action in actions {
            match action {
                Action::Connect => self.connect(peer),
                Action::Disconnect => self.disconnect(peer),
                Action::Send(frame) => {
                    check_room(peer, &frame);
                    self.send_to_host(peer, frame);
                }
                Action::Begin(begin) => {
                    let (token, lease_ms) = self.desk(peer).told.take().unwrap();
                    assert_eq!(token.job, begin.job);
                    self.begin_work(peer, begin, token, lease_ms);
                    let desk = self.desk(peer);
                    assert!(desk.works.len() <= usize::from(desk.credit), "{peer} has more than its credit");
                }
                Action::Stop { slot, .. } => self.stop_work(peer, slot),
                Action::Pace { slot, is_paused } => self.pace_work(peer, slot, is_paused),
                // Whoever supervises a stuck worker starts another; here nobody does.
                Action::Welcomed | Action::Stuck => {}
                Action::Drained => self.leave_drained(peer),
                Action::Refused { refusal, .. } => self.see_refusal(peer, refusal),
            }
        }
        let wake_at = self.desk(peer).pirate.wake_at();
        self.set_timer_of(peer, wake_at);
    }

    /// What begins, if anything does, is the job that was just heard of.
    fn note_job(&mut self, peer: usize, input: &worker::Input) {
        if let Input::Heard(ToClient::Said { body: HostBody::Work(body), .. }) = input
            && let JobBody::Job { job, attempt, lease_ms, .. } = body
            && let Some(line) = self.peers[peer].line
        {
            let token = Token { run: self.network.line(line).run, job: *job, attempt: *attempt };
            self.desk(peer).told = Some((token, u64::from(*lease_ms)));
        }
    }

    pub(super) fn drain_worker(&mut self, peer: usize) {
        self.desk(peer).is_draining = true;
        self.step_worker(peer, Input::Drain);
        let most_ms = if self.kind.is_rough { HASTY_MS } else { PATIENT_MS };
        let life = self.peers[peer].life;
        self.agenda.after(most_ms, Event::CloseWorker { peer, life });
    }

    fn leave_drained(&mut self, peer: usize) {
        assert!(self.desk(peer).works.is_empty(), "{peer} is drained with jobs on its desk");
        self.coverage.count("workers drained");
        let life = self.peers[peer].life;
        self.agenda.after(0, Event::CloseWorker { peer, life });
    }

    pub(super) fn close_worker(&mut self, peer: usize, life: u32) {
        if self.peers[peer].life == life {
            self.step_worker(peer, Input::Close);
            self.end_life(peer);
        }
    }
}

/// A host that keeps to a worker's credit never makes it refuse for want of room.
fn check_room(peer: usize, frame: &ToHost) {
    if let ToHost::Said { body: ClientBody::Work(WorkerBody::Report { report, .. }), .. } = frame
        && let WorkerReport::GaveBack { payload } = report
    {
        let reason = rpc::decode_reason(payload);
        assert!(!reason.contains("full"), "{peer} was given more than its credit: {reason}");
    }
}
