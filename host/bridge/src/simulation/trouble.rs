//! What a kind of history has, and what happens to it: blows of fate, planned before it begins.

use std::ops::Range;

use super::World;
use super::agenda::{Event, Process};
use super::network::{Direction, LineId};

/// A kind of history. Its trouble lasts `trouble_ms`; then the world heals, and everything must come to an end.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) clients: Range<u64>,
    pub(super) workers: Range<u64>,
    pub(super) trouble_ms: u64,
    /// Per client.
    pub(super) calls: Range<u64>,
    /// Per client; the host orders as often.
    pub(super) orders: Range<u64>,
    /// Until a call's deadline.
    pub(super) patience_ms: Range<u64>,
    /// Frames are lost, late and repeated, calls are given up, streams are read slowly, limits are tight.
    pub(super) is_rough: bool,
    /// Commits fail half-way, and the store is away for a while.
    pub(super) has_doubts: bool,
    /// Workers get nowhere, fail, give back, and are deaf to being told to stop.
    pub(super) has_tempers: bool,
    /// A busy worker that gets on is never disturbed, and a wedged one is found out in time.
    pub(super) is_calm: bool,
    /// How often each blow falls, at most.
    pub(super) blows: &'static [(Stroke, u64)],
}

/// A kind of blow; per peer where it hits one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    KillHost,
    StopHost,
    KillPeer,
    DrainWorker,
    CutLine,
    SeverLine,
    Part,
    PauseHost,
    PausePeer,
    Sleep,
    Impostor,
    Liar,
    WallJump,
}

/// One blow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blow {
    KillHost,
    StopHost,
    KillPeer(usize),
    DrainWorker(usize),
    /// A line goes silent, in one direction or both, for as long as it lives.
    CutLine(usize),
    SeverLine(usize),
    /// Nothing gets through in one direction for a while, on whichever line.
    Part(usize),
    Pause(Process),
    /// The machine sleeps for ten minutes.
    Sleep,
    /// Somebody else says that it is this peer.
    Impostor(usize),
    /// A stranger comes who says that it read what it was never sent.
    Liar,
    /// The wall clock is set.
    WallJump,
}

const SLEEP_MS: u64 = 600_000;
/// By then each end of a line has left it when the other is dead, or one direction: three heartbeats, the phase of the beat, and
/// of the host's look at its peers.
pub(super) const NOTICE_MS: u64 = 4_000;
const WALL_JUMP_MS: u64 = 86_400_000;

impl World {
    pub(super) fn plan_trouble(&mut self) {
        for &(stroke, most) in self.kind.blows {
            let targets: Vec<Blow> = self.targets(stroke);
            for blow in targets {
                for _ in 0..self.dice.within(0..most + 1) {
                    let at_ms = self.dice.within(1..self.kind.trouble_ms);
                    self.agenda.at(at_ms, Event::Strike(blow));
                }
            }
        }
    }

    fn targets(&self, stroke: Stroke) -> Vec<Blow> {
        let each = |blow: fn(usize) -> Blow| (0..self.peers.len()).map(blow).collect();
        match stroke {
            Stroke::KillHost => vec![Blow::KillHost],
            Stroke::StopHost => vec![Blow::StopHost],
            Stroke::PauseHost => vec![Blow::Pause(Process::Host)],
            Stroke::Sleep => vec![Blow::Sleep],
            Stroke::WallJump => vec![Blow::WallJump],
            Stroke::KillPeer => each(Blow::KillPeer),
            Stroke::DrainWorker => (self.clients..self.peers.len()).map(Blow::DrainWorker).collect(),
            Stroke::CutLine => each(Blow::CutLine),
            Stroke::SeverLine => each(Blow::SeverLine),
            Stroke::Part => each(Blow::Part),
            Stroke::PausePeer => each(|peer| Blow::Pause(Process::Peer(peer))),
            Stroke::Impostor => each(Blow::Impostor),
            Stroke::Liar => vec![Blow::Liar],
        }
    }

    pub(super) fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::KillHost => self.kill_host(),
            Blow::StopHost => self.stop_host(),
            Blow::KillPeer(peer) => self.kill_peer(peer),
            Blow::DrainWorker(peer) => self.drain_worker(peer),
            Blow::CutLine(peer) => self.cut_line(peer),
            Blow::SeverLine(peer) => {
                if let Some(line) = self.peers[peer].line {
                    self.coverage.count("lines severed");
                    self.sever(line);
                }
            }
            Blow::Part(peer) => self.part(peer),
            Blow::Pause(process) => self.pause(process),
            Blow::Sleep => {
                self.coverage.count("sleeps");
                self.agenda.sleep(SLEEP_MS);
            }
            Blow::Impostor(peer) => self.send_impostor(peer),
            Blow::Liar => self.send_liar(),
            Blow::WallJump => self.wall_offset_ms = self.dice.within(0..2 * WALL_JUMP_MS),
        }
    }

    fn cut_line(&mut self, peer: usize) {
        let Some(line) = self.peers[peer].line else { return };
        self.coverage.count("lines cut");
        match self.dice.within(0..3) {
            0 => self.network.cut(line, Direction::ToHost),
            1 => self.network.cut(line, Direction::ToPeer),
            _ => {
                self.network.cut(line, Direction::ToHost);
                self.network.cut(line, Direction::ToPeer);
            }
        }
    }

    fn part(&mut self, peer: usize) {
        self.coverage.count("partitions");
        let direction = if self.dice.percent(50) { Direction::ToHost } else { Direction::ToPeer };
        let ms = self.dice.within(NOTICE_MS..12_000).min(self.trouble_left_ms());
        self.network.part(peer, direction, self.agenda.now_ms() + ms);
        if let Some(line) = self.peers[peer].line
            && self.kind.is_calm
            && ms >= NOTICE_MS
        {
            self.agenda.after(NOTICE_MS, Event::CheckNoticed { line, direction });
        }
    }

    pub(super) fn check_noticed(&self, line: LineId, direction: Direction) {
        let peer = self.network.line(line).peer.unwrap();
        assert_ne!(self.peers[peer].line, Some(line), "peer {peer} keeps a line dead {direction:?}");
        let is_bound = self.host.as_ref().is_some_and(|host| host.hears(line));
        assert!(!is_bound, "the host keeps the line of peer {peer}, dead {direction:?}");
    }

    /// Trouble that the network has by itself.
    pub(super) fn is_network_lossy(&self) -> bool {
        self.kind.is_rough && self.is_trouble()
    }

    pub(super) fn trouble_left_ms(&self) -> u64 {
        self.kind.trouble_ms.saturating_sub(self.agenda.lived_ms())
    }

    /// Nothing keeps anybody from being heard.
    pub(super) fn is_undisturbed(&self) -> bool {
        use Stroke::{DrainWorker, Impostor, Liar, Sleep, WallJump};
        let is_harmless = |stroke| matches!(stroke, DrainWorker | Impostor | Liar | Sleep | WallJump);
        self.kind.is_calm && self.kind.blows.iter().all(|(stroke, _)| is_harmless(*stroke))
    }

    pub(super) fn is_trouble(&self) -> bool {
        self.agenda.lived_ms() < self.kind.trouble_ms
    }
}
