//! Processes that stand still, as one that was sent SIGSTOP: what reaches them meanwhile they get all at once, after a
//! gap in their time.

use std::collections::BTreeMap;

use super::World;
use super::agenda::{Event, Process};
use super::trouble::Blow;

/// Most pauses are short.
const SHORT_MS: u64 = 12_000;
const LONG_MS: u64 = 600_000;

/// Who stands still, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    count: u64,
    held: BTreeMap<Process, (u64, Vec<Event>)>,
}

impl World {
    pub(super) fn is_paused(&self, process: Process) -> bool {
        self.pauses.held.contains_key(&process)
    }

    pub(super) fn pause(&mut self, process: Process) {
        let is_dead = process == Process::Host && self.host.is_none();
        if is_dead || self.is_paused(process) {
            return;
        }
        self.coverage.count(if process == Process::Host { "hosts paused" } else { "peers paused" });
        self.pauses.count += 1;
        let pause = self.pauses.count;
        self.pauses.held.insert(process, (pause, Vec::new()));
        let most_ms = if self.dice.percent(5) { LONG_MS } else { SHORT_MS };
        // Pauses are trouble, and trouble ends.
        let ms = self.dice.within(100..most_ms).min(self.trouble_left_ms());
        self.agenda.after(ms, Event::Resume { process, pause });
    }

    pub(super) fn resume(&mut self, process: Process, pause: u64) {
        if self.pauses.held.get(&process).is_none_or(|(present, _)| *present != pause) {
            return;
        }
        let (_, held) = self.pauses.held.remove(&process).unwrap();
        held.into_iter().for_each(|event| self.agenda.after(0, event));
    }

    /// The process is dead, and what waited for it gone.
    pub(super) fn forget_pause(&mut self, process: Process) {
        self.pauses.held.remove(&process);
    }

    /// Keeps what is for a process that stands still; else hands it back.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        let process = self.process_of(&event);
        match process.and_then(|process| self.pauses.held.get_mut(&process)) {
            Some((_, held)) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// Who takes an event; none: fate itself.
    fn process_of(&self, event: &Event) -> Option<Process> {
        match event {
            Event::ToHost { .. }
            | Event::HostLearnsLoss { .. }
            | Event::WakeHost { .. }
            | Event::Serve { .. }
            | Event::NewHostOrder
            | Event::GiveUpTicket { .. }
            | Event::LeaveHost { .. } => Some(Process::Host),
            Event::ToPeer { line, .. } | Event::PeerLearnsLoss { line } => {
                self.network.line(*line).peer.map(Process::Peer)
            }
            Event::ConnectEnds { peer, .. }
            | Event::WakePeer { peer, .. }
            | Event::Work { peer, .. }
            | Event::NewCall { peer }
            | Event::NewOrder { peer }
            | Event::GiveUp { peer, .. }
            | Event::Pace { peer, .. }
            | Event::CloseWorker { peer, .. } => Some(Process::Peer(*peer)),
            Event::Strike(Blow::StopHost) => Some(Process::Host),
            Event::Strike(Blow::DrainWorker(peer)) => Some(Process::Peer(*peer)),
            Event::StartHost
            | Event::Resume { .. }
            | Event::Strike(_)
            | Event::CheckFenced { .. }
            | Event::CheckNoticed { .. } => None,
        }
    }
}
