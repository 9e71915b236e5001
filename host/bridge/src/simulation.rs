//! Goal: whatever the network, the host and the clients suffer, each call ends once, tells the truth about its effect,
//! and happens at most once; and when all is over, nothing of anybody is left.
//! Method: one queue and some Lazy Pirates in virtual time, over links that lose, repeat, delay and swap; hosts and
//! clients are killed, hosts are stopped, lines are cut silently, commits end without anybody knowing how. One seed is
//! one history: `TELOS_BRIDGE_SEEDS=from..to` runs others.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::{self, LazyPirate, News, Settings};
use crate::frame::{ToClient, ToHost};
use crate::link::LinkSettings;
use crate::queue::{self, CallId, Dispatch, Limits, Outcome, Output, Queue, Route, Rules};
use crate::rpc::{self, Effect, RpcError};
use crate::service::{CancelReason, Role, SessionId};

const BEAT: Duration = Duration::from_millis(1_000);
const CLIENTS: usize = 4;
/// Trouble lasts so long; then the world heals and everything must come to an end.
const TROUBLE_MS: u64 = 40_000;
const END_MS: u64 = TROUBLE_MS + 150_000;

/// A host that is stopped waits so long.
const DRAIN_MS: u64 = 5_000;

/// What happens besides the calls.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// Lost, late and repeated frames, silent lines, killed clients and hosts, calls given up, short deadlines.
    is_rough: bool,
    /// Hosts are stopped, and others started.
    has_stops: bool,
    /// Commits fail half-way, and the store is away for a while.
    has_doubts: bool,
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.roll() % (range.end - range.start)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }
}

#[derive(Debug, Clone)]
enum Event {
    ToHost {
        line: u64,
        frame: ToHost,
    },
    ToClient {
        line: u64,
        frame: ToClient,
    },
    ConnectEnds {
        client: usize,
        life: u32,
    },
    ClientLearnsLoss {
        line: u64,
    },
    HostLearnsLoss {
        line: u64,
    },
    WakeClient {
        client: usize,
    },
    WakeHost {
        run: u64,
    },
    /// The service's next step in a call of that host's run.
    Work {
        run: u64,
        call: CallId,
    },
    NewCall {
        client: usize,
    },
    GiveUp {
        client: usize,
        life: u32,
        number: u64,
    },
    KillHost,
    StopHost,
    /// The stopped host has waited long enough.
    LeaveHost {
        run: u64,
    },
    StartHost,
    Pace {
        client: usize,
        life: u32,
        number: u64,
        is_paused: bool,
    },
    KillClient {
        client: usize,
    },
    Silence {
        client: usize,
    },
}

struct Line {
    client: usize,
    run: u64,
    /// Frames vanish both ways, and nobody is told.
    is_silent: bool,
    /// When the last frame to the client and to the host arrives.
    last_at: [u64; 2],
}

struct Actor {
    pirate: LazyPirate,
    life: u32,
    line: Option<u64>,
    woken_at: Option<u64>,
}

struct Job {
    session: SessionId,
    number: u64,
    deadline: Instant,
    payload: Bytes,
    chunks_left: u64,
    next_index: u64,
    is_cancelled: bool,
    is_decided: bool,
    is_paused: bool,
}

#[derive(Default)]
struct Fate {
    outcomes: Vec<String>,
    claims_effect: Option<bool>,
    next_index: u64,
    /// Its client died or gave it up: no outcome is owed.
    is_abandoned: bool,
}

struct World {
    trouble: Trouble,
    dice: Dice,
    start: Instant,
    now_ms: u64,
    order: u64,
    events: BTreeMap<(u64, u64), Event>,
    queue: Option<Queue>,
    run: u64,
    host_woken_at: Option<u64>,
    jobs: BTreeMap<CallId, Job>,
    lines: HashMap<u64, Line>,
    next_line: u64,
    actors: Vec<Actor>,
    /// By what the request says, which is unique.
    fates: BTreeMap<Bytes, Fate>,
    names: HashMap<(usize, u32, u64), Bytes>,
    /// What the service keeps on disk: effects by request, and how often each was applied.
    durable: BTreeMap<(SessionId, u64), Bytes>,
    applied: BTreeMap<Bytes, u32>,
    /// The store is being reopened until then: nobody can look anything up.
    store_open_at_ms: u64,
    doubts: u64,
    stops: u64,
    dispatched: u64,
}

impl World {
    fn new(seed: u64, trouble: Trouble) -> Self {
        let start = Instant::now();
        let mut world = Self {
            trouble,
            dice: Dice(seed),
            start,
            now_ms: 0,
            order: 0,
            events: BTreeMap::new(),
            queue: None,
            run: 0,
            host_woken_at: None,
            jobs: BTreeMap::new(),
            lines: HashMap::new(),
            next_line: 1,
            actors: Vec::new(),
            fates: BTreeMap::new(),
            names: HashMap::new(),
            durable: BTreeMap::new(),
            applied: BTreeMap::new(),
            store_open_at_ms: 0,
            doubts: 0,
            stops: 0,
            dispatched: 0,
        };
        world.plan_trouble();
        for client in 0..CLIENTS {
            let actor = world.new_actor(client, 0);
            world.actors.push(actor);
            world.step_client(client, client::Input::Tick);
        }
        world
    }

    fn plan_trouble(&mut self) {
        self.at(0, Event::StartHost);
        for client in 0..CLIENTS {
            for _ in 0..self.dice.within(10..60) {
                let at = self.dice.within(1..TROUBLE_MS);
                self.at(at, Event::NewCall { client });
            }
            if self.trouble.is_rough {
                self.plan_rough_client(client);
            }
        }
        if self.trouble.is_rough {
            self.plan_some(Event::KillHost);
        }
        if self.trouble.has_stops {
            self.plan_some(Event::StopHost);
        }
    }

    fn plan_rough_client(&mut self, client: usize) {
        if self.dice.percent(30) {
            let at = self.dice.within(1..TROUBLE_MS);
            self.at(at, Event::KillClient { client });
        }
        for _ in 0..self.dice.within(0..3) {
            let at = self.dice.within(1..TROUBLE_MS);
            self.at(at, Event::Silence { client });
        }
    }

    fn plan_some(&mut self, event: Event) {
        for _ in 0..self.dice.within(0..4) {
            let at = self.dice.within(1..TROUBLE_MS);
            self.at(at, event.clone());
        }
    }

    fn new_actor(&mut self, client: usize, life: u32) -> Actor {
        let link = LinkSettings {
            heartbeat: BEAT,
            liveness: 3,
            request_timeout: Duration::from_secs(2),
            retries: 3,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(32),
            role: Role::Client,
            token: None,
        };
        // In the worst worlds every other client does not wait for a host for long.
        let silence_max = (self.trouble.is_rough && client % 2 == 1).then_some(Duration::from_secs(5));
        let settings = Settings { link, silence_max };
        let id = u128::from(self.dice.roll()) << 16 | client as u128;
        Actor { pirate: LazyPirate::new(settings, id, self.instant()), life, line: None, woken_at: None }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((at_ms.max(self.now_ms), self.order), event);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn ms_of(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.start);
        u64::try_from(since.as_micros().div_ceil(1_000)).unwrap()
    }

    fn run_until(&mut self, end_ms: u64) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end_ms) {
            self.now_ms = entry.key().0;
            let event = entry.remove();
            self.take(event);
        }
        self.now_ms = end_ms;
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ToHost { line, frame } => {
                if self.lines.get(&line).is_some_and(|line| line.run == self.run) {
                    let (route, wall_ms) = (route_of(line), self.now_ms + 1);
                    self.step_host(queue::Input::Heard { route, frame, wall_ms });
                }
            }
            Event::ToClient { line, frame } => {
                if let Some(client) = self.client_on(line) {
                    self.step_client(client, client::Input::Heard(frame));
                }
            }
            Event::ConnectEnds { client, life } => self.end_connect(client, life),
            Event::ClientLearnsLoss { line } => {
                if let Some(client) = self.client_on(line) {
                    self.actors[client].line = None;
                    self.step_client(client, client::Input::Lost);
                }
            }
            Event::HostLearnsLoss { line } => {
                if self.lines.get(&line).is_some_and(|line| line.run == self.run) {
                    self.step_host(queue::Input::Lost { route: route_of(line) });
                }
            }
            Event::WakeClient { client } => {
                if self.actors[client].woken_at == Some(self.now_ms) {
                    self.actors[client].woken_at = None;
                    self.step_client(client, client::Input::Tick);
                }
            }
            Event::WakeHost { run } => {
                if run == self.run && self.host_woken_at == Some(self.now_ms) {
                    self.host_woken_at = None;
                    self.step_host(queue::Input::Tick);
                    self.check_presence();
                }
            }
            Event::Work { run, call } => {
                if run == self.run {
                    self.work(call);
                }
            }
            Event::NewCall { client } => self.new_call(client),
            Event::GiveUp { client, life, number } => self.give_up(client, life, number),
            Event::KillHost => self.kill_host(),
            Event::StopHost => {
                self.stops += u64::from(self.queue.is_some());
                self.step_host(queue::Input::Close);
                self.after(DRAIN_MS, Event::LeaveHost { run: self.run });
            }
            Event::LeaveHost { run } => {
                if run == self.run {
                    self.step_host(queue::Input::Leave);
                    self.kill_host();
                }
            }
            Event::Pace { client, life, number, is_paused } => {
                if self.actors[client].life == life {
                    self.step_client(client, client::Input::Pace { number, is_paused });
                }
            }
            Event::StartHost => self.start_host(),
            Event::KillClient { client } => self.kill_client(client),
            Event::Silence { client } => {
                if let Some(line) = self.actors[client].line.and_then(|line| self.lines.get_mut(&line)) {
                    line.is_silent = true;
                }
            }
        }
    }

    fn client_on(&self, line: u64) -> Option<usize> {
        let client = self.lines.get(&line)?.client;
        (self.actors[client].line == Some(line)).then_some(client)
    }

    fn start_host(&mut self) {
        if self.queue.is_some() {
            return;
        }
        self.run += 1;
        let rules = Rules {
            heartbeat: BEAT,
            liveness: 3,
            role_max: Role::Operator,
            token: None,
            limits: if self.trouble.is_rough { tight_limits() } else { Limits::default() },
            open_services: Vec::new(),
        };
        self.queue = Some(Queue::new(rules, self.run, self.instant()));
        self.host_woken_at = None;
        self.store_open_at_ms = self.now_ms;
        self.step_host(queue::Input::Tick);
    }

    fn kill_host(&mut self) {
        if self.queue.take().is_none() {
            return;
        }
        self.jobs.clear();
        let mut lost: Vec<u64> =
            self.lines.iter().filter(|(_, line)| line.run == self.run).map(|(id, _)| *id).collect();
        lost.sort_unstable();
        for line in lost {
            // Most learn of it; the others find out by silence.
            if self.dice.percent(70) {
                let delay = self.dice.within(1..50);
                self.after(delay, Event::ClientLearnsLoss { line });
            }
        }
        let delay = self.dice.within(100..4_000);
        self.after(delay, Event::StartHost);
    }

    fn kill_client(&mut self, client: usize) {
        let life = self.actors[client].life;
        for ((owner, of_life, _), name) in &self.names {
            if (*owner, *of_life) == (client, life) {
                self.fates.get_mut(name).unwrap().is_abandoned = true;
            }
        }
        self.drop_line(client);
        self.actors[client] = self.new_actor(client, life + 1);
        self.step_client(client, client::Input::Tick);
    }

    fn drop_line(&mut self, client: usize) {
        let Some(line) = self.actors[client].line.take() else {
            return;
        };
        if self.dice.percent(70) {
            let delay = self.dice.within(1..50);
            self.after(delay, Event::HostLearnsLoss { line });
        }
    }

    fn end_connect(&mut self, client: usize, life: u32) {
        if self.actors[client].life != life || self.actors[client].line.is_some() {
            return;
        }
        if self.queue.is_none() {
            return self.step_client(client, client::Input::ConnectFailed);
        }
        let line = self.next_line;
        self.next_line += 1;
        self.lines.insert(line, Line { client, run: self.run, is_silent: false, last_at: [0; 2] });
        self.actors[client].line = Some(line);
        self.step_client(client, client::Input::Connected);
    }

    fn new_call(&mut self, client: usize) {
        let actor = &mut self.actors[client];
        let number = actor.pirate.take_number();
        let name = Bytes::from(format!("{client}/{}/{number}", actor.life));
        self.names.insert((client, actor.life, number), name.clone());
        self.fates.insert(name.clone(), Fate::default());
        let life = actor.life;
        let patience = self.dice.within(if self.trouble.is_rough { 200..30_000 } else { 100_000..140_000 });
        if self.trouble.is_rough && self.dice.percent(10) {
            let delay = self.dice.within(1..2_000);
            self.after(delay, Event::GiveUp { client, life, number });
        }
        let deadline = self.instant() + Duration::from_millis(patience);
        self.step_client(
            client,
            client::Input::Call { number, request: client::Request { payload: name, order: None, deadline } },
        );
    }

    fn give_up(&mut self, client: usize, life: u32, number: u64) {
        if self.actors[client].life != life {
            return;
        }
        let fate = self.fates.get_mut(&self.names[&(client, life, number)]).unwrap();
        if fate.outcomes.is_empty() {
            fate.is_abandoned = true;
            self.step_client(client, client::Input::Cancel { number });
        }
    }

    fn step_client(&mut self, client: usize, input: client::Input) {
        let now = self.instant();
        let actions = self.actors[client].pirate.step(now, input);
        for action in actions {
            match action {
                client::Action::Connect => {
                    let (life, delay) = (self.actors[client].life, self.dice.within(1..20));
                    self.after(delay, Event::ConnectEnds { client, life });
                }
                client::Action::Disconnect => self.drop_line(client),
                client::Action::Send(frame) => {
                    if let Some(line) = self.actors[client].line {
                        self.carry(line, |frame| Event::ToHost { line, frame }, frame);
                    }
                }
                client::Action::Tell { number, news } => self.note(client, number, news),
                client::Action::Welcomed(_) | client::Action::Silence { .. } => {}
                client::Action::Refused { refusal, .. } => panic!("refused: {refusal:?}"),
            }
        }
        let wake_at = self.actors[client].pirate.wake_at().map(|at| self.ms_of(at).max(self.now_ms + 1));
        if let Some(wake_at) = wake_at {
            self.actors[client].woken_at = Some(wake_at);
            self.at(wake_at, Event::WakeClient { client });
        }
    }

    fn step_host(&mut self, input: queue::Input) {
        let now = self.instant();
        let Some(queue) = &mut self.queue else { return };
        let actions = queue.step(now, input);
        drop(queue.take_notices());
        for action in actions {
            match action {
                queue::Action::Send { route, frame } => {
                    let line = line_of(&route);
                    self.carry(line, |frame| Event::ToClient { line, frame }, frame);
                }
                queue::Action::Disconnect { route } => {
                    let delay = self.dice.within(1..50);
                    self.after(delay, Event::ClientLearnsLoss { line: line_of(&route) });
                }
                queue::Action::Dispatch(dispatch) => self.begin_job(dispatch),
                queue::Action::Cancel { call, reason } => self.cancel_job(call, reason),
                queue::Action::Pace { call, is_paused } => {
                    if let Some(job) = self.jobs.get_mut(&call) {
                        job.is_paused = is_paused;
                    }
                }
                // The host of this world orders nothing.
                queue::Action::Tell { .. } => {}
            }
        }
        let wake_at = self.ms_of(self.queue.as_ref().unwrap().wake_at()).max(self.now_ms + 1);
        if self.host_woken_at.is_none_or(|at| wake_at < at) {
            self.host_woken_at = Some(wake_at);
            self.at(wake_at, Event::WakeHost { run: self.run });
        }
    }

    /// Frames of one direction keep their order as on a stream, but for those that are late or come twice.
    fn carry<F: Clone>(&mut self, line: u64, arrive: impl Fn(F) -> Event, frame: F) {
        let is_trouble = self.trouble.is_rough && self.now_ms < TROUBLE_MS;
        if self.lines[&line].is_silent || (is_trouble && self.dice.percent(2)) {
            return;
        }
        let direction = usize::from(matches!(arrive(frame.clone()), Event::ToHost { .. }));
        let delay = self.dice.within(1..10);
        let last_at = &mut self.lines.get_mut(&line).unwrap().last_at[direction];
        *last_at = (*last_at).max(self.now_ms + delay);
        let in_order_at = *last_at;
        if is_trouble && self.dice.percent(3) {
            let late = self.dice.within(1..1_500);
            self.at(in_order_at + late, arrive(frame.clone()));
            if self.dice.percent(50) {
                return;
            }
        }
        self.at(in_order_at, arrive(frame));
    }

    fn begin_job(&mut self, dispatch: Dispatch) {
        self.dispatched += 1;
        let Dispatch { call, session, number, deadline, payload, .. } = dispatch;
        let is_twin = |job: &Job| (job.session, job.number) == (session, number);
        assert!(!self.jobs.values().any(is_twin), "{payload:?} runs twice at once");
        let chunks_left = if self.dice.percent(40) { self.dice.within(1..80) } else { 0 };
        let (next_index, is_cancelled, is_decided, is_paused) = (0, false, false, false);
        let job = Job {
            session,
            number,
            deadline,
            payload,
            chunks_left,
            next_index,
            is_cancelled,
            is_decided,
            is_paused,
        };
        self.jobs.insert(call, job);
        self.schedule_work(call);
    }

    fn schedule_work(&mut self, call: CallId) {
        let slow = if self.dice.percent(5) { 8_000 } else { 60 };
        let delay = self.dice.within(1..slow);
        self.after(delay, Event::Work { run: self.run, call });
    }

    fn cancel_job(&mut self, call: CallId, _reason: CancelReason) {
        if let Some(job) = self.jobs.get_mut(&call) {
            job.is_cancelled = true;
        }
    }

    /// Chunks, then the decision with its effect, and some time later the reply.
    fn work(&mut self, call: CallId) {
        let now = self.instant();
        let Some(job) = self.jobs.get_mut(&call) else {
            return;
        };
        if job.chunks_left > 0 && !job.is_cancelled {
            if job.is_paused {
                return self.schedule_work(call);
            }
            job.chunks_left -= 1;
            let index = job.next_index;
            job.next_index += 1;
            let payload = Bytes::from([&job.payload[..], format!("#{index}").as_bytes()].concat());
            let output = Output::Chunk { attempt: 1, index, payload };
            self.step_host(queue::Input::Said { call, output });
            return self.schedule_work(call);
        }
        if !job.is_decided {
            let key = (job.session, job.number);
            if self.now_ms < self.store_open_at_ms {
                return self.end_job(call, Err(Effect::Unknown));
            }
            if !self.durable.contains_key(&key) && (job.is_cancelled || now > job.deadline) {
                return self.end_job(call, Err(Effect::None));
            }
            job.is_decided = true;
            let payload = job.payload.clone();
            return self.decide(call, key, payload);
        }
        self.end_job(call, Ok(()));
    }

    /// One commit. One that fails half-way happened or not, and the store knows only when it is open again.
    fn decide(&mut self, call: CallId, key: (SessionId, u64), payload: Bytes) {
        let is_failure = self.trouble.has_doubts && self.now_ms < TROUBLE_MS && self.dice.percent(5);
        if !is_failure || self.dice.percent(50) {
            if let Some(first) = self.durable.insert(key, payload.clone()) {
                assert_eq!(first, payload, "a number was used for two requests");
            } else {
                *self.applied.entry(payload).or_default() += 1;
            }
        }
        if is_failure {
            self.doubts += 1;
            self.store_open_at_ms = self.now_ms + self.dice.within(1..1_000);
            return self.end_job(call, Err(Effect::Unknown));
        }
        self.schedule_work(call);
    }

    fn end_job(&mut self, call: CallId, result: Result<(), Effect>) {
        let job = self.jobs.remove(&call).unwrap();
        let outcome = match result {
            Ok(()) => Outcome { failed: None, payload: job.payload },
            Err(effect) => Outcome::error(job.number, &RpcError::new("cancelled", effect, "too late")),
        };
        self.step_host(queue::Input::Said { call, output: Output::Finished(outcome) });
    }

    /// What a caller hears; chunks must count from 0, and after a reset again.
    fn note(&mut self, client: usize, number: u64, news: News) {
        let name = &self.names[&(client, self.actors[client].life, number)];
        let fate = self.fates.get_mut(name).unwrap();
        assert!(!fate.is_abandoned, "{name:?} was given up and hears {news:?}");
        assert!(fate.outcomes.is_empty(), "{name:?} ended in {:?} and hears {news:?}", fate.outcomes);
        let mut is_chunk = false;
        fate.claims_effect = match &news {
            News::Accepted => None,
            News::Chunk { payload, .. } => {
                let expected = [&name[..], format!("#{}", fate.next_index).as_bytes()].concat();
                assert_eq!(payload[..], expected[..], "another chunk than the next");
                fate.next_index += 1;
                is_chunk = true;
                None
            }
            News::Reset { .. } => {
                fate.next_index = 0;
                None
            }
            News::Result(payload) => {
                assert_eq!(payload, name, "the result of another call");
                Some(true)
            }
            News::Error(payload) => {
                let error = rpc::decode_error(Some(number), payload).unwrap();
                (error.data.effect == Effect::None).then_some(false)
            }
            News::TimedOut { was_sent: false } | News::Silent { was_sent: false, .. } => Some(false),
            _ => None,
        };
        if news.is_end() {
            fate.outcomes.push(format!("{news:?}"));
        }
        if is_chunk && self.dice.percent(1) {
            self.pause_reading(client, number);
        }
    }

    fn pause_reading(&mut self, client: usize, number: u64) {
        let (life, pause) = (self.actors[client].life, self.dice.within(1..3_000));
        self.after(0, Event::Pace { client, life, number, is_paused: true });
        self.after(pause, Event::Pace { client, life, number, is_paused: false });
    }

    fn check_presence(&self) {
        let longest = BEAT * 3 + BEAT / 4 + Duration::from_millis(5);
        let Some(queue) = &self.queue else { return };
        for peer in queue.peers(self.instant()) {
            assert!(peer.silent <= longest, "a ghost: {peer:?}");
        }
    }

    fn check_end(&mut self) {
        for (name, fate) in &self.fates {
            let applied = self.applied.get(name).copied().unwrap_or_default();
            assert!(applied <= 1, "{name:?} happened {applied} times");
            assert!(fate.is_abandoned || fate.outcomes.len() == 1, "{name:?} has no outcome");
            if let Some(claimed) = fate.claims_effect {
                assert_eq!(claimed, applied == 1, "{name:?} ended in {:?}, applied {applied}", fate.outcomes);
            }
        }
        let sessions = self.queue.as_ref().unwrap().stats().sessions;
        assert_eq!(sessions, CLIENTS, "everybody is back, and nobody else is there");
        self.check_nothing_is_left();
    }

    fn check_nothing_is_left(&mut self) {
        for client in 0..CLIENTS {
            self.step_client(client, client::Input::Close);
        }
        assert!(self.actors.iter().all(|actor| actor.line.is_none()), "a closed client keeps a line");
        self.run_until(END_MS + 20_000);
        let queue = self.queue.as_ref().unwrap();
        let stats = queue.stats();
        assert_eq!((stats.sessions, stats.calls, queue.is_idle()), (0, 0, true), "{stats:?}");
    }
}

/// So that the bounds are met.
fn tight_limits() -> Limits {
    Limits { session_calls_max: 6, finished_max: 4, stream_messages_max: 40, ..Limits::default() }
}

fn route_of(line: u64) -> Route {
    Bytes::copy_from_slice(&line.to_be_bytes())
}

fn line_of(route: &Route) -> u64 {
    u64::from_be_bytes(route[..].try_into().unwrap())
}

fn seeds(trouble: Trouble) -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("TELOS_BRIDGE_SEEDS") else {
        return if trouble.is_rough { 0..100 } else { 0..40 };
    };
    let (from, to) = range.split_once("..").expect("TELOS_BRIDGE_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Runs every seed's history to its end, and hands it to `check`.
fn for_each_history(trouble: Trouble, mut check: impl FnMut(&World)) {
    for seed in seeds(trouble) {
        let end = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, trouble);
            world.run_until(END_MS);
            world.check_end();
            world
        });
        let Ok(world) = end else { panic!("seed {seed}: TELOS_BRIDGE_SEEDS={seed}..{}", seed + 1) };
        check(&world);
    }
}

#[test]
fn every_history_ends_each_call_once_and_truthfully() {
    let (mut calls, mut dispatched, mut applied, mut silences) = (0, 0, 0, 0);
    for_each_history(Trouble { is_rough: true, has_stops: true, has_doubts: true }, |world| {
        calls += world.fates.len();
        dispatched += world.dispatched;
        applied += world.applied.len();
        let is_silence = |fate: &&Fate| fate.outcomes.iter().any(|outcome| outcome.starts_with("Silent"));
        silences += world.fates.values().filter(is_silence).count();
    });
    assert!(silences > 0, "no client gave a host up");
    // The trouble must be real, and most of the work must survive it.
    assert!(dispatched > applied as u64, "no call was ever handed over twice");
    assert!(applied * 10 > calls * 6, "{applied} of {calls} calls happened");
}

/// Every call had its result, and every caller heard it.
fn check_all_succeed(world: &World) {
    for (name, fate) in &world.fates {
        assert_eq!(fate.claims_effect, Some(true), "{name:?} ended in {:?}", fate.outcomes);
    }
    assert_eq!(world.applied.len(), world.fates.len());
}

#[test]
fn a_commit_whose_fate_nobody_knew_happens_once_and_its_caller_learns_how() {
    let mut doubts = 0;
    for_each_history(Trouble { is_rough: false, has_stops: false, has_doubts: true }, |world| {
        check_all_succeed(world);
        doubts += world.doubts;
    });
    assert!(doubts > 0, "{doubts} commits failed");
}

#[test]
fn a_stopped_host_leaves_nobody_in_doubt() {
    let mut stops = 0;
    for_each_history(Trouble { is_rough: false, has_stops: true, has_doubts: false }, |world| {
        check_all_succeed(world);
        stops += world.stops;
    });
    assert!(stops > 0, "{stops} hosts were stopped");
}
