//! Goal: whatever network, host, clients and workers suffer, each call and each order ends once and tells the truth
//! about its effect; nothing that must not be done twice is; a worker that gets on is left alone, and one that does not
//! is found out; and when all is over, nothing of anybody is left.
//! Method: one queue, some Lazy Pirates and some workers in virtual time; a [`Kind`] says what happens to them, a seed
//! rolls one history of it. Everything that is claimed is held against a [`Ledger`] that knows what happened, and
//! [`Coverage`] sees to it that what histories are made for does happen in them.
//!
//! `TELOS_BRIDGE_SEEDS=from..to` runs other seeds, `TELOS_LONG=1` many more. A seed that fails prints itself;
//! `TELOS_BRIDGE_TRACE=1` prints what happens, and when it is understood it belongs into `seeds`.

mod agenda;
mod client;
mod coverage;
mod dice;
mod host;
mod kinds;
mod ledger;
mod liar;
mod network;
mod pause;
mod peer;
mod seeds;
mod service;
mod tests;
mod trouble;
mod work;
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::service::SessionId;

use agenda::{Agenda, Event};
use coverage::Coverage;
use dice::Dice;
use host::Host;
use ledger::Ledger;
use liar::Liar;
use network::{LineId, Network};
use pause::Pauses;
use peer::{Input, Peer};
use trouble::Kind;

const BEAT: Duration = Duration::from_millis(1_000);
const LIVENESS: u32 = 3;
const SERVICES: [&str; 2] = ["echo", "count"];

/// When trouble is over, everybody is back after so long: the longest pause between two attempts, and then one attempt.
const HEAL_MS: u64 = 36_000;
/// Trouble's last blow may be a host's stop, which takes so long until another host is there.
const RESTART_MS: u64 = 9_000;
/// What a caller waits for beyond its deadline, and a host for a worker that it has fenced off.
const SETTLE_MS: u64 = 35_000;
/// When everybody has said goodbye, or has not been heard to, everything is gone after so long.
const FAREWELL_MS: u64 = 15_000;
/// In larger worlds not every look is at everybody.
const SMALL: usize = 50;

/// One history.
struct World {
    kind: Kind,
    dice: Dice,
    agenda: Agenda,
    network: Network,
    pauses: Pauses,
    host: Option<Host>,
    /// How many of each there were.
    runs: u64,
    tickets: u64,
    timers: u64,
    attempts: u64,
    /// Clients, so many, and then workers.
    peers: Vec<Peer>,
    clients: usize,
    /// By the line that they came on.
    liars: BTreeMap<LineId, Liar>,
    ledger: Ledger,
    coverage: Coverage,
    /// What the service keeps on disk: effects by request.
    durable: BTreeMap<(SessionId, u64), Bytes>,
    /// The store is being reopened until then: nobody can look anything up.
    store_open_at_ms: u64,
    wall_offset_ms: u64,
    is_traced: bool,
}

impl World {
    fn new(seed: u64, kind: Kind) -> Self {
        let mut dice = Dice::new(seed);
        let clients = dice.within(kind.clients.clone());
        let workers = dice.within(kind.workers.clone());
        let mut world = Self {
            kind,
            dice,
            agenda: Agenda::new(),
            network: Network::default(),
            pauses: Pauses::default(),
            host: None,
            runs: 0,
            tickets: 0,
            timers: 0,
            attempts: 0,
            peers: Vec::new(),
            clients: usize::try_from(clients).unwrap(),
            liars: BTreeMap::new(),
            ledger: Ledger::default(),
            coverage: Coverage::default(),
            durable: BTreeMap::new(),
            store_open_at_ms: 0,
            wall_offset_ms: 0,
            is_traced: std::env::var_os("TELOS_BRIDGE_TRACE").is_some(),
        };
        world.agenda.at(0, Event::StartHost);
        for peer in 0..usize::try_from(clients + workers).unwrap() {
            let actor = world.new_peer(peer, 0);
            world.peers.push(actor);
            world.step_peer(peer, Input::Tick);
        }
        world.plan_wishes();
        world.plan_trouble();
        world
    }

    /// Its whole course, with every check.
    fn live(&mut self) {
        let trouble_ms = self.kind.trouble_ms;
        self.run_until(trouble_ms + RESTART_MS + HEAL_MS);
        self.check_everybody_is_back();
        self.run_until(trouble_ms + (RESTART_MS + HEAL_MS).max(self.kind.patience_ms.end) + SETTLE_MS);
        self.check_everything_is_settled();
        for peer in 0..self.peers.len() {
            self.step_peer(peer, Input::Close);
        }
        let lived_ms = self.agenda.lived_ms();
        self.run_until(lived_ms + FAREWELL_MS);
        self.check_nothing_is_left();
        let stats = self.host.as_ref().unwrap().queue.stats();
        self.coverage.add_stats(&stats);
    }

    fn run_until(&mut self, lived_ms: u64) {
        while let Some(event) = self.agenda.next_until(lived_ms) {
            if self.is_traced {
                eprintln!("{} {event:?}", self.agenda.now_ms());
            }
            if let Some(event) = self.hold(event) {
                self.take(event);
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ToHost { line, frame } => self.hear_at_host(line, frame),
            Event::ToPeer { line, frame } => {
                if let Some(peer) = self.peer_on(line) {
                    self.step_peer(peer, Input::Heard(frame));
                }
            }
            Event::ConnectEnds { peer, attempt, is_late } => self.end_connect(peer, attempt, is_late),
            Event::PeerLearnsLoss { line } => self.lose_line(line),
            Event::HostLearnsLoss { line } => self.lose_at_host(line),
            Event::WakePeer { peer, timer } => self.wake_peer(peer, timer),
            Event::WakeHost { timer } => self.wake_host(timer),
            Event::Serve { run, call } => {
                if self.is_run(run) {
                    self.serve(call);
                }
            }
            Event::Work { peer, life, slot, step } => self.work_on(peer, life, slot, step),
            Event::NewCall { peer } => self.call(peer),
            Event::NewOrder { peer } => self.order(peer),
            Event::NewHostOrder => self.order_at_host(),
            Event::GiveUp { peer, life, number } => self.give_up(peer, life, number),
            Event::GiveUpTicket { run, ticket } => self.give_up_ticket(run, ticket),
            Event::Pace { peer, life, number, is_paused } => self.pace(peer, life, number, is_paused),
            Event::StartHost => self.start_host(),
            Event::LeaveHost { run } => self.leave_host(run),
            Event::CloseWorker { peer, life } => self.close_worker(peer, life),
            Event::Resume { process, pause } => self.resume(process, pause),
            Event::Strike(blow) => self.strike(blow),
            Event::CheckFenced { name, token } => self.check_fenced(&name, token),
            Event::CheckNoticed { line, direction } => self.check_noticed(line, direction),
        }
    }

    /// Nobody who is silent for longer than three heartbeats is still there, and nobody has more than it can.
    fn check_presence(&self) {
        let Some(host) = self.host.as_ref().filter(|_| self.peers.len() <= SMALL) else { return };
        let longest = BEAT * LIVENESS + BEAT / 4 + Duration::from_millis(5);
        for peer in host.queue.peers(self.agenda.now()) {
            assert!(peer.silent <= longest, "a ghost: {peer:?}");
            let is_overloaded = |worker: &crate::WorkerInfo| worker.in_hand > usize::from(worker.credit);
            assert!(!peer.worker.as_ref().is_some_and(is_overloaded), "more than its credit: {peer:?}");
        }
    }

    fn check_everybody_is_back(&mut self) {
        // Somebody may be on its way just now, having been dismissed, or drained and begun anew.
        for _ in 0..3 {
            if self.is_everybody_back() {
                return;
            }
            self.run_until(self.agenda.lived_ms() + 500);
        }
        let there = self.host.as_ref().unwrap().queue.peers(self.agenda.now());
        panic!("not everybody is back, or somebody else is: {there:#?}");
    }

    fn is_everybody_back(&self) -> bool {
        let stats = self.host.as_ref().unwrap().queue.stats();
        let (all, workers) = (self.peers.len(), self.peers.len() - self.clients);
        // One that drains and was dismissed does not offer itself again.
        let leaving = self.desks().filter(|(_, desk)| desk.is_draining).count();
        stats.sessions == all && (workers - leaving..=workers).contains(&stats.workers)
    }

    fn check_everything_is_settled(&self) {
        self.ledger.check_end();
        let queue = &self.host.as_ref().unwrap().queue;
        let stats = queue.stats();
        let open = (stats.calls, stats.orders_waiting, stats.orders_in_hand);
        assert_eq!((open, queue.is_idle()), ((0, 0, 0), true), "{stats:?}");
        for peer in queue.peers(self.agenda.now()) {
            let in_hand = peer.worker.as_ref().map_or(0, |worker| worker.in_hand);
            assert_eq!(in_hand, 0, "a job that is over keeps a slot: {peer:?}");
        }
    }

    fn check_nothing_is_left(&self) {
        assert!(self.peers.iter().all(|peer| peer.line.is_none()), "who has left keeps a line");
        let queue = &self.host.as_ref().unwrap().queue;
        let stats = queue.stats();
        assert_eq!((stats.sessions, stats.workers, queue.is_idle()), (0, 0, true), "{stats:?}");
    }
}
