//! One job in a worker: it takes its time, says that it gets on, and ends well, badly, or not at all.

use bytes::Bytes;

use super::World;
use super::agenda::Event;
use super::ledger::{Token, chunk_of, number_in, source_of};
use crate::frame::WorkerReport;
use crate::rpc::{self, Effect, RpcError};
use crate::worker::{Begin, Input, SlotId, gave_back};

/// How a piece of work turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    /// It gets on and ends.
    Steady,
    GivesBack,
    Fails,
    /// It says nothing until it is told to stop.
    Wedged,
    /// Nor for long after that.
    Deaf,
}

#[derive(Debug)]
pub(super) struct Work {
    name: Bytes,
    token: Token,
    lease_ms: u64,
    temper: Temper,
    /// Makes the steps void that were planned before.
    step: u64,
    steps_left: u64,
    has_pieces: bool,
    next_index: u64,
    is_paused: bool,
    was_paused: bool,
    is_stopped: bool,
    /// Its effect is there.
    is_applied: bool,
}

/// In calm worlds a wedged worker is found out when its lease is over, frames and clocks being what they are; sleep adds
/// what a host had not looked at its clock before.
const FENCE_SLACK_MS: u64 = 1_000;

impl World {
    pub(super) fn begin_work(&mut self, peer: usize, begin: Begin, token: Token, lease_ms: u64) {
        let Begin { slot, payload: name, .. } = begin;
        self.ledger.note_begun(&name);
        let temper = self.roll_temper(&name);
        self.coverage.count(match temper {
            Temper::Steady => "steady",
            Temper::GivesBack => "giving back",
            Temper::Fails => "failing",
            Temper::Wedged => "wedged",
            Temper::Deaf => "deaf",
        });
        let is_long = self.dice.percent(5);
        let steps_left = if is_long { self.dice.within(50..100) } else { self.dice.within(0..15) };
        let mut work = Work {
            name,
            token,
            lease_ms,
            temper,
            step: 0,
            steps_left,
            has_pieces: self.dice.percent(50),
            next_index: 0,
            is_paused: false,
            was_paused: false,
            is_stopped: false,
            is_applied: false,
        };
        let is_stuck = matches!(temper, Temper::Wedged | Temper::Deaf);
        if is_stuck && self.dice.percent(30) {
            self.apply(&mut work);
        }
        if is_stuck && lease_ms > 0 && self.is_undisturbed() {
            let name = work.name.clone();
            self.agenda.after(lease_ms + FENCE_SLACK_MS, Event::CheckFenced { name, token });
        }
        self.desk(peer).works.insert(slot, work);
        if !is_stuck {
            self.plan_work(peer, slot);
        }
    }

    fn roll_temper(&mut self, name: &[u8]) -> Temper {
        if !self.kind.has_tempers {
            return Temper::Steady;
        }
        if self.ledger.fate_of(name).is_poison {
            return if self.dice.percent(50) { Temper::Wedged } else { Temper::GivesBack };
        }
        match self.dice.within(0..100) {
            0..8 => Temper::Wedged,
            8..11 => Temper::Deaf,
            11..17 => Temper::GivesBack,
            17..23 => Temper::Fails,
            _ => Temper::Steady,
        }
    }

    fn apply(&mut self, work: &mut Work) {
        work.is_applied = true;
        self.ledger.note_applied(&work.name);
    }

    fn plan_work(&mut self, peer: usize, slot: SlotId) {
        let Some(work) = self.desk(peer).works.get(&slot) else { return };
        let lease_ms = if work.lease_ms == 0 { u64::MAX } else { work.lease_ms };
        let within_ms = match (work.is_stopped, work.temper) {
            (true, Temper::Deaf) => 5_000..40_000,
            (true, _) => 1..400,
            (false, _) => 1..(lease_ms / 3).clamp(2, 400),
        };
        let delay = self.dice.within(within_ms);
        let life = self.peers[peer].life;
        let work = self.desk(peer).works.get_mut(&slot).unwrap();
        work.step += 1;
        let step = work.step;
        self.agenda.after(delay, Event::Work { peer, life, slot, step });
    }

    pub(super) fn stop_work(&mut self, peer: usize, slot: SlotId) {
        if let Some(work) = self.desk(peer).works.get_mut(&slot) {
            work.is_stopped = true;
            self.plan_work(peer, slot);
        }
    }

    pub(super) fn pace_work(&mut self, peer: usize, slot: SlotId, is_paused: bool) {
        if let Some(work) = self.desk(peer).works.get_mut(&slot) {
            work.is_paused = is_paused;
            work.was_paused |= is_paused;
        }
    }

    pub(super) fn work_on(&mut self, peer: usize, life: u32, slot: SlotId, step: u64) {
        if self.peers[peer].life != life {
            return;
        }
        let Some(mut work) = self.desk(peer).works.remove(&slot) else { return };
        let is_going_on = work.step != step || (work.steps_left > 0 && !work.is_stopped);
        let is_void = work.step != step;
        let report = if is_void {
            None
        } else if is_going_on {
            Some(work.get_on())
        } else {
            self.conclude_work(&mut work)
        };
        let is_over = report.as_ref().is_some_and(is_answer);
        if !is_over {
            self.desk(peer).works.insert(slot, work);
        }
        if let Some(report) = report {
            self.step_worker(peer, Input::Said { slot, report });
        }
        if !is_over && !is_void {
            self.plan_work(peer, slot);
        }
    }

    /// Its answer; none when it has just been done and is told with the next step.
    fn conclude_work(&mut self, work: &mut Work) -> Option<WorkerReport> {
        if work.is_applied {
            let payload = source_of(&work.name, work.token);
            return Some(WorkerReport::Done { payload });
        }
        if work.is_stopped || work.temper == Temper::GivesBack {
            self.ledger.note_given_back(&work.name);
            return Some(gave_back("not begun"));
        }
        if work.temper == Temper::Fails {
            return Some(self.fail_work(work));
        }
        self.apply(work);
        None
    }

    fn fail_work(&mut self, work: &mut Work) -> WorkerReport {
        let effect = if self.dice.percent(50) { Effect::Committed } else { Effect::None };
        if effect == Effect::Committed {
            self.apply(work);
        }
        let error = RpcError::new("failed", effect, "it went wrong");
        WorkerReport::Failed { payload: rpc::encode_error(Some(number_in(&work.name)), &error) }
    }

    /// A worker that gets on is left alone, as long as anybody wants what it does.
    pub(super) fn check_recall(&self, name: &[u8], token: Token) {
        let is_it = |work: &&Work| work.token == token && !work.is_stopped;
        let Some(work) = self.desks().flat_map(|(_, desk)| desk.works.values()).find(is_it) else { return };
        let is_stuck = matches!(work.temper, Temper::Wedged | Temper::Deaf);
        let is_unwanted = self.ledger.is_unwanted(name, self.agenda.now());
        assert!(
            !self.is_undisturbed() || is_stuck || is_unwanted,
            "{name:?} is taken from a worker that gets on: {work:?}"
        );
    }

    pub(super) fn check_fenced(&self, name: &[u8], token: Token) {
        // One that whoever reads it holds back, or held back, cannot be told from one that is stuck so soon.
        let is_left = |work: &Work| work.token == token && !work.is_stopped && !work.was_paused;
        for (peer, _) in self.desks().filter(|(_, desk)| desk.works.values().any(is_left)) {
            // Its host may have dismissed it for another job, which it learns when it has come back.
            let is_heard =
                peer.line.is_some_and(|line| self.host.as_ref().is_some_and(|host| host.hears(line)));
            assert!(
                !is_heard || self.ledger.is_off(name, token),
                "{name:?} is left to a worker that is stuck"
            );
        }
    }
}

impl Work {
    fn get_on(&mut self) -> WorkerReport {
        self.steps_left -= 1;
        if !self.has_pieces || self.is_paused {
            return WorkerReport::Progress;
        }
        let index = self.next_index;
        self.next_index += 1;
        WorkerReport::Piece { index, payload: chunk_of(&source_of(&self.name, self.token), index) }
    }
}

fn is_answer(report: &WorkerReport) -> bool {
    !matches!(report, WorkerReport::Progress | WorkerReport::Piece { .. })
}
