//! Lines between peers and hosts. Below us is a stream: a line keeps what it carries in order and loses nothing, unless
//! a history has trouble with its network; and it may be cut, so that frames vanish and nobody is told.

use std::collections::BTreeMap;

use super::World;
use super::agenda::Event;
use crate::frame::{ToClient, ToHost};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToHost = 0,
    ToPeer = 1,
}

/// A connection as it was made.
#[derive(Debug)]
pub(super) struct Line {
    /// Whose it is; none: an impostor's.
    pub(super) peer: Option<usize>,
    /// Of the host at its other end.
    pub(super) run: u64,
    /// Per direction: frames vanish.
    pub(super) is_cut: [bool; 2],
    /// Per direction: when the last frame arrives.
    last_at_ms: [u64; 2],
}

#[derive(Debug, Default)]
pub(super) struct Network {
    lines: BTreeMap<LineId, Line>,
    /// Per peer and direction: until when nothing gets through, on whichever line.
    partitions: BTreeMap<usize, [u64; 2]>,
}

impl Network {
    pub(super) fn open(&mut self, peer: Option<usize>, run: u64) -> LineId {
        let id = LineId(self.lines.len() as u64 + 1);
        self.lines.insert(id, Line { peer, run, is_cut: [false; 2], last_at_ms: [0; 2] });
        id
    }

    pub(super) fn line(&self, id: LineId) -> &Line {
        &self.lines[&id]
    }

    pub(super) fn lines_of_run(&self, run: u64) -> Vec<LineId> {
        self.lines
            .iter()
            .filter(|(_, line)| line.run == run && line.peer.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn cut(&mut self, id: LineId, direction: Direction) {
        self.lines.get_mut(&id).unwrap().is_cut[direction as usize] = true;
    }

    pub(super) fn part(&mut self, peer: usize, direction: Direction, until_ms: u64) {
        let until = &mut self.partitions.entry(peer).or_default()[direction as usize];
        *until = until_ms.max(*until);
    }

    /// A connection needs both directions.
    pub(super) fn is_parted(&self, peer: usize, now_ms: u64) -> bool {
        self.partitions.get(&peer).is_some_and(|until| until.iter().any(|until_ms| now_ms < *until_ms))
    }

    pub(super) fn gets_through(&self, id: LineId, direction: Direction, now_ms: u64) -> bool {
        let line = &self.lines[&id];
        let parted_until = line.peer.and_then(|peer| self.partitions.get(&peer));
        !line.is_cut[direction as usize]
            && parted_until.is_none_or(|until_ms| now_ms >= until_ms[direction as usize])
    }
}

impl World {
    pub(super) fn carry_to_host(&mut self, line: LineId, frame: ToHost) {
        self.carry(line, Direction::ToHost, Event::ToHost { line, frame });
    }

    pub(super) fn carry_to_peer(&mut self, line: LineId, frame: ToClient) {
        self.carry(line, Direction::ToPeer, Event::ToPeer { line, frame });
    }

    fn carry(&mut self, line: LineId, direction: Direction, arrival: Event) {
        let (now_ms, is_lossy) = (self.agenda.now_ms(), self.is_network_lossy());
        if !self.network.gets_through(line, direction, now_ms) || (is_lossy && self.dice.percent(2)) {
            return;
        }
        let last_at_ms = &mut self.network.lines.get_mut(&line).unwrap().last_at_ms[direction as usize];
        *last_at_ms = (*last_at_ms).max(now_ms + self.dice.within(1..10));
        let in_order_at_ms = *last_at_ms;
        if is_lossy && self.dice.percent(3) {
            // Late, and perhaps a second time.
            let late = self.dice.within(1..1_500);
            self.agenda.at(in_order_at_ms + late, arrival.clone());
            if self.dice.percent(50) {
                return;
            }
        }
        self.agenda.at(in_order_at_ms, arrival);
    }

    /// A line dies, and each of its ends may be told, or find out by itself.
    pub(super) fn sever(&mut self, line: LineId) {
        self.network.cut(line, Direction::ToHost);
        self.network.cut(line, Direction::ToPeer);
        if self.dice.percent(50) {
            let delay = self.dice.within(1..50);
            self.agenda.after(delay, Event::HostLearnsLoss { line });
        }
        if self.dice.percent(50) {
            let delay = self.dice.within(1..50);
            self.agenda.after(delay, Event::PeerLearnsLoss { line });
        }
    }
}
