//! Clients: they call, order, change their minds, and read slowly.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::World;
use super::agenda::Event;
use super::ledger::{Asker, Told};
use super::peer::{Machine, link_settings};
use crate::client::{self, LazyPirate, News, Request, Settings};
use crate::frame::OrderTerms;
use crate::pool::Class;
use crate::service::Role;

impl World {
    pub(super) fn new_client(&self, peer: usize, id: u128) -> Machine {
        // In the worst worlds every other client does not wait for a host for long.
        let silence_max = (self.kind.is_rough && peer % 2 == 1).then_some(Duration::from_secs(5));
        let settings = Settings { link: link_settings(Role::Client), silence_max };
        Machine::Client(LazyPirate::new(settings, id, self.agenda.now()))
    }

    pub(super) fn plan_wishes(&mut self) {
        for peer in 0..self.clients {
            for _ in 0..self.dice.within(self.kind.calls.clone()) {
                self.plan_wish(Event::NewCall { peer });
            }
            for _ in 0..self.dice.within(self.kind.orders.clone()) {
                self.plan_wish(Event::NewOrder { peer });
            }
        }
        for _ in 0..self.dice.within(self.kind.orders.clone()) {
            self.plan_wish(Event::NewHostOrder);
        }
    }

    fn plan_wish(&mut self, event: Event) {
        let at_ms = self.dice.within(1..self.kind.trouble_ms);
        self.agenda.at(at_ms, event);
    }

    pub(super) fn call(&mut self, peer: usize) {
        self.ask(peer, None);
    }

    pub(super) fn order(&mut self, peer: usize) {
        let terms = self.roll_terms();
        self.ask(peer, Some(terms));
    }

    fn ask(&mut self, peer: usize, order: Option<OrderTerms>) {
        let (life, number) = (self.peers[peer].life, self.pirate(peer).take_number());
        let asker = Asker::Client { peer, life, number };
        let payload = match &order {
            Some(terms) => self.open_order(asker, terms.class),
            None => self.ledger.open(asker, None, false),
        };
        if self.kind.is_rough && self.dice.percent(10) {
            let delay = self.dice.within(1..2_000);
            self.agenda.after(delay, Event::GiveUp { peer, life, number });
        }
        let request = Request { payload, order, deadline: self.roll_deadline() };
        self.step_client(peer, client::Input::Call { number, request });
    }

    pub(super) fn open_order(&mut self, asker: Asker, class: Class) -> Bytes {
        let is_poison = self.kind.has_tempers && self.dice.percent(5);
        self.ledger.open(asker, Some(class), is_poison)
    }

    pub(super) fn roll_terms(&mut self) -> OrderTerms {
        let service = super::SERVICES[self.dice.index(super::SERVICES.len())].into();
        let class = if self.dice.percent(50) { Class::Once } else { Class::Idempotent };
        let lease_ms = if self.dice.percent(70) { self.dice.within(800..4_000) } else { 0 };
        OrderTerms { service, class, lease_ms: u32::try_from(lease_ms).unwrap() }
    }

    pub(super) fn roll_deadline(&mut self) -> Instant {
        let patience_ms = self.dice.within(self.kind.patience_ms.clone());
        self.agenda.now() + Duration::from_millis(patience_ms)
    }

    fn pirate(&mut self, peer: usize) -> &mut LazyPirate {
        match &mut self.peers[peer].machine {
            Machine::Client(pirate) => pirate,
            Machine::Worker(_) => panic!("{peer} is a worker"),
        }
    }

    pub(super) fn give_up(&mut self, peer: usize, life: u32, number: u64) {
        let is_alive = self.peers[peer].life == life;
        if is_alive && self.ledger.abandon(Asker::Client { peer, life, number }) {
            self.step_client(peer, client::Input::Cancel { number });
        }
    }

    pub(super) fn pace(&mut self, peer: usize, life: u32, number: u64, is_paused: bool) {
        if self.peers[peer].life == life {
            self.step_client(peer, client::Input::Pace { number, is_paused });
        }
    }

    pub(super) fn step_client(&mut self, peer: usize, input: client::Input) {
        let now = self.agenda.now();
        let actions = self.pirate(peer).step(now, input);
        for action in actions {
            match action {
                client::Action::Connect => self.connect(peer),
                client::Action::Disconnect => self.disconnect(peer),
                client::Action::Send(frame) => self.send_to_host(peer, frame),
                client::Action::Tell { number, news } => self.tell_client(peer, number, news),
                client::Action::Silence { is_silent: true } => self.coverage.count("silences told"),
                client::Action::Welcomed(_) | client::Action::Silence { .. } => {}
                client::Action::Refused { refusal, .. } => self.see_refusal(peer, refusal),
            }
        }
        let wake_at = self.pirate(peer).wake_at();
        self.set_timer_of(peer, wake_at);
    }

    fn tell_client(&mut self, peer: usize, number: u64, news: News) {
        let asker = Asker::Client { peer, life: self.peers[peer].life, number };
        let is_without_effect = matches!(
            news,
            News::Crowded
                | News::TimedOut { was_sent: false }
                | News::Silent { was_sent: false, .. }
                | News::Closed { was_sent: false }
        );
        if let News::Silent { .. } = news {
            self.coverage.count("silences ended");
        }
        let told = match news {
            News::Accepted => return,
            News::Chunk { payload, .. } => {
                self.read_slowly(peer, number);
                Told::Chunk(payload)
            }
            News::Reset { .. } => Told::Reset,
            News::Result(payload) => Told::Result(payload),
            News::Error(payload) => Told::Error(payload),
            end => Told::Ended { what: format!("{end:?}"), is_without_effect },
        };
        self.ledger.note_told(asker, told);
    }

    fn read_slowly(&mut self, peer: usize, number: u64) {
        if self.kind.is_calm || !self.dice.percent(1) {
            return;
        }
        let (life, pause) = (self.peers[peer].life, self.dice.within(1..3_000));
        self.agenda.after(0, Event::Pace { peer, life, number, is_paused: true });
        self.agenda.after(pause, Event::Pace { peer, life, number, is_paused: false });
    }
}
