//! What clients and workers have in common: a life, a line to the host, a timer, and pauses in which nothing reaches
//! them.

use std::time::{Duration, Instant};

use super::World;
use super::agenda::{Event, Process};
use super::host::Host;
use super::network::{Direction, LineId};
use super::trouble::NOTICE_MS;
use super::worker::Desk;
use crate::client::{self, LazyPirate};
use crate::frame::{Hello, PROTOCOL, Refusal, ToClient, ToHost};
use crate::link::LinkSettings;
use crate::service::Role;
use crate::worker;

/// What an impostor says, and nobody else: sessions begin later on any clock.
pub(super) const IMPOSTOR_INCARNATION: u64 = 1;

/// How long an attempt to connect may take.
const CONNECT_MS: u64 = 3_000;

#[derive(Debug)]
pub(super) enum Machine {
    Client(LazyPirate),
    Worker(Desk),
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) machine: Machine,
    /// Its session's identity.
    id: u128,
    /// How often its process has begun anew.
    pub(super) life: u32,
    pub(super) line: Option<LineId>,
    /// The attempt to connect that is under way.
    attempt: Option<u64>,
    /// The timer that is set, and when it goes off.
    timer: (u64, Option<Instant>),
}

/// What happens to either.
#[derive(Debug)]
pub(super) enum Input {
    Tick,
    Connected,
    ConnectFailed,
    Lost,
    Heard(ToClient),
    Close,
}

impl Input {
    pub(super) fn for_client(self) -> client::Input {
        match self {
            Self::Tick => client::Input::Tick,
            Self::Connected => client::Input::Connected,
            Self::ConnectFailed => client::Input::ConnectFailed,
            Self::Lost => client::Input::Lost,
            Self::Heard(frame) => client::Input::Heard(frame),
            Self::Close => client::Input::Close,
        }
    }

    pub(super) fn for_worker(self) -> worker::Input {
        match self {
            Self::Tick => worker::Input::Tick,
            Self::Connected => worker::Input::Connected,
            Self::ConnectFailed => worker::Input::ConnectFailed,
            Self::Lost => worker::Input::Lost,
            Self::Heard(frame) => worker::Input::Heard(frame),
            Self::Close => worker::Input::Close,
        }
    }
}

impl World {
    /// The first `clients` peers are clients, the others workers.
    pub(super) fn is_client(&self, peer: usize) -> bool {
        peer < self.clients
    }

    pub(super) fn new_peer(&mut self, peer: usize, life: u32) -> Peer {
        let id = u128::from(self.dice.roll()) << 16 | peer as u128;
        let machine = if self.is_client(peer) { self.new_client(peer, id) } else { self.new_worker(id) };
        Peer { machine, id, life, line: None, attempt: None, timer: (0, None) }
    }

    pub(super) fn step_peer(&mut self, peer: usize, input: Input) {
        if self.is_client(peer) {
            self.step_client(peer, input.for_client());
        } else {
            self.step_worker(peer, input.for_worker());
        }
    }

    pub(super) fn kill_peer(&mut self, peer: usize) {
        self.coverage.count(if self.is_client(peer) { "clients killed" } else { "workers killed" });
        if let Some(line) = self.peers[peer].line
            && self.kind.is_calm
        {
            self.agenda.after(NOTICE_MS, Event::CheckNoticed { line, direction: Direction::ToHost });
        }
        self.end_life(peer);
    }

    /// The process ends as it is, and another begins in its place.
    pub(super) fn end_life(&mut self, peer: usize) {
        let life = self.peers[peer].life;
        self.ledger.abandon_life(peer, life);
        self.forget_pause(Process::Peer(peer));
        let is_told = self.dice.percent(70);
        self.drop_line(peer, is_told);
        self.peers[peer] = self.new_peer(peer, life + 1);
        self.step_peer(peer, Input::Tick);
    }

    pub(super) fn set_timer_of(&mut self, peer: usize, at: Option<Instant>) {
        if self.peers[peer].timer.1 == at {
            return;
        }
        self.timers += 1;
        self.peers[peer].timer = (self.timers, at);
        if let Some(at) = at {
            self.agenda.wake(at, Event::WakePeer { peer, timer: self.timers });
        }
    }

    pub(super) fn wake_peer(&mut self, peer: usize, timer: u64) {
        if self.peers[peer].timer.0 == timer {
            self.peers[peer].timer.1 = None;
            self.step_peer(peer, Input::Tick);
        }
    }

    pub(super) fn connect(&mut self, peer: usize) {
        let delay = self.dice.within(1..20);
        self.attempts += 1;
        let attempt = self.attempts;
        self.peers[peer].attempt = Some(attempt);
        self.agenda.after(delay, Event::ConnectEnds { peer, attempt, is_late: false });
    }

    pub(super) fn end_connect(&mut self, peer: usize, attempt: u64, is_late: bool) {
        if self.peers[peer].attempt != Some(attempt) {
            return;
        }
        let is_unheard = self.network.is_parted(peer, self.agenda.now_ms()) || self.is_paused(Process::Host);
        if !is_late && is_unheard {
            return self.agenda.after(CONNECT_MS, Event::ConnectEnds { peer, attempt, is_late: true });
        }
        self.peers[peer].attempt = None;
        match &self.host {
            Some(host) if !is_late => {
                self.peers[peer].line = Some(self.network.open(Some(peer), host.run));
                self.step_peer(peer, Input::Connected);
            }
            _ => self.step_peer(peer, Input::ConnectFailed),
        }
    }

    pub(super) fn disconnect(&mut self, peer: usize) {
        self.peers[peer].attempt = None;
        let is_told = self.kind.is_calm || self.dice.percent(70);
        self.drop_line(peer, is_told);
    }

    /// The host is told, or finds out by silence.
    fn drop_line(&mut self, peer: usize, is_told: bool) {
        let Some(line) = self.peers[peer].line.take() else {
            return;
        };
        if is_told && self.gets_through(line, Direction::ToHost) {
            let delay = self.dice.within(10..50);
            self.agenda.after(delay, Event::HostLearnsLoss { line });
        }
    }

    pub(super) fn gets_through(&self, line: LineId, direction: Direction) -> bool {
        self.network.gets_through(line, direction, self.agenda.now_ms())
    }

    pub(super) fn send_to_host(&mut self, peer: usize, frame: ToHost) {
        if let Some(line) = self.peers[peer].line {
            self.carry_to_host(line, frame);
        }
    }

    /// Whose line it is, if it still is.
    pub(super) fn peer_on(&self, line: LineId) -> Option<usize> {
        self.network.line(line).peer.filter(|peer| self.peers[*peer].line == Some(line))
    }

    pub(super) fn lose_line(&mut self, line: LineId) {
        if let Some(peer) = self.peer_on(line) {
            self.peers[peer].line = None;
            self.step_peer(peer, Input::Lost);
        }
    }

    fn is_settled(&self, host: &Host, peer: usize) -> bool {
        let is_leaving = matches!(&self.peers[peer].machine, Machine::Worker(desk) if desk.is_draining);
        let id = self.peers[peer].id;
        !is_leaving && host.queue.peers(self.agenda.now()).iter().any(|there| there.session.client == id)
    }

    /// An impostor may come to a new host before whose session it claims; that one is kept out until the host has found
    /// the impostor silent.
    pub(super) fn see_refusal(&mut self, peer: usize, refusal: Refusal) {
        assert_eq!(refusal, Refusal::Full, "{peer} is refused");
        self.coverage.count("kept out by an impostor");
    }

    /// Somebody claims the peer's session on a connection of its own, without knowing more than its identity.
    pub(super) fn send_impostor(&mut self, peer: usize) {
        let Some(host) = &self.host else { return };
        // Where nothing else is wrong, it comes too late: the session is there, and stays.
        if self.kind.is_calm && !self.is_settled(host, peer) {
            return;
        }
        let line = self.network.open(None, host.run);
        let hello = Hello {
            protocol: PROTOCOL,
            client: self.peers[peer].id,
            incarnation: IMPOSTOR_INCARNATION,
            run: host.run,
            channel: 1,
            received: 0,
            role: Role::Worker,
            token: None,
        };
        self.carry_to_host(line, ToHost::Hello(hello));
    }
}

pub(super) fn link_settings(role: Role) -> LinkSettings {
    LinkSettings {
        heartbeat: super::BEAT,
        liveness: super::LIVENESS,
        request_timeout: Duration::from_secs(2),
        retries: 3,
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(32),
        role,
        token: None,
    }
}
