//! The workshop: behaviour for messages that nobody understands, one ticket after the other.
//!
//! ```text
//! missed     a ticket for (prototype, selector), or the one there is     one commit; every sender of it joins it
//! write      the architect is asked; the gate tries what it wrote        one commit for each attempt
//! swap in    release, seat, method slot and record                       one commit: the prototype understands it
//! fall       a release that lost its probation opens its ticket again     with what it fell for
//! ```
//! Killed at any step, it goes on where its tickets say. Only behaviour that somebody forged is replaced by it: a
//! message that anybody else's component answers is never missed. Blocking reads and commits are off the serving path.

mod architect;
mod keep;
mod retire;
mod trial;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use telos_kernel::seams::{JournalLine, JournalSink, Severity};
use telos_kernel::{
    FORGED, Forge, Forged, Granting, InstallRequest, Kernel, Lesson, Miss, Swapped, WeakKernel,
};
use telos_store::{ComponentId, ObjectId, Slot, Store};
use tokio::sync::{Notify, watch};

use crate::behaviour::Behaviour;
use crate::engine::Engine;
use crate::gate::check;
use crate::layer::Isolation;
use crate::policy::Policy;
use crate::spec::Spec;
use crate::ticket::{Attempt, Ticket, TicketState, Trigger, component_of};
use architect::{ARCHITECT, Draft};
use keep::Keep;

pub use keep::KeepError;

/// The longest that a sender waits for behaviour, whatever its deadline.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Left of a sender's deadline for the message itself.
const LEFT_OVER: Duration = Duration::from_millis(200);
/// Tickets that may be opened within an hour.
const OPENED_PER_HOUR: usize = 60;
/// Tickets of one home; what misses beyond is not forged.
const TICKETS_MAX: usize = 10_000;
/// How often the workshop looks whether a release lost its probation.
const ROUND: Duration = Duration::from_secs(1);
/// Selectors that a component may have.
const SELECTOR_BYTES_MAX: usize = 64;

/// Makes behaviour.
pub struct Workshop {
    keep: Keep,
    engine: Option<&'static Engine>,
    /// Tries what asks for more than storage and logging; none tries that in this process.
    isolation: Option<Arc<dyn Isolation>>,
    journal: Arc<dyn JournalSink>,
    /// Which has this workshop, and so is not kept by it.
    kernel: OnceLock<WeakKernel>,
    state: Mutex<State>,
    /// Rung when there is something to do.
    bell: Notify,
}

#[derive(Default)]
struct State {
    tickets: BTreeMap<u64, Bench>,
    by_pair: HashMap<(ObjectId, String), u64>,
    /// Tickets to work on, first come first served.
    due: VecDeque<u64>,
    home: Policy,
    objects: HashMap<ObjectId, Policy>,
    /// When tickets were opened, within the last hour.
    opened: VecDeque<Instant>,
}

/// A ticket on the bench.
struct Bench {
    /// The object that keeps it.
    object: ObjectId,
    ticket: Ticket,
    /// Says when it is settled.
    settled: watch::Sender<bool>,
}

/// Why somebody's word about a ticket was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkshopError {
    /// There is none of that number.
    #[error("there is no ticket {0}")]
    NoSuchTicket(u64),
    /// It is not where that can be said.
    #[error("ticket {number} is {state:?}: {problem}")]
    Unfit {
        /// The ticket.
        number: u64,
        /// Where it is.
        state: TicketState,
        /// Why that does not do.
        problem: &'static str,
    },
    /// The kernel refused.
    #[error(transparent)]
    Swap(#[from] telos_kernel::SwapError),
    /// It could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// This host was built without an engine.
    #[error("this host has no JavaScript engine; build it with `cargo xtask engine` first")]
    NoEngine,
    /// The behaviour could not be tried.
    #[error("it could not be tried: {0}")]
    Untried(String),
}

impl Workshop {
    /// A workshop with the tickets of a store. It works once it is begun.
    ///
    /// # Errors
    /// [`KeepError`] when they cannot be read.
    pub fn new(
        store: Store,
        journal: Arc<dyn JournalSink>,
        isolation: Option<Arc<dyn Isolation>>,
    ) -> Result<Arc<Self>, KeepError> {
        let keep = Keep(store);
        let mut state = State::default();
        let (home, objects) = keep.policies()?;
        (state.home, state.objects) = (home, objects.into_iter().collect());
        for (object, ticket) in keep.tickets()? {
            state.put(object, ticket);
        }
        Ok(Arc::new(Self {
            keep,
            engine: crate::engine(),
            isolation,
            journal,
            kernel: OnceLock::new(),
            state: Mutex::new(state),
            bell: Notify::new(),
        }))
    }

    /// Begins to work for a kernel, until that is gone.
    pub fn begin(self: &Arc<Self>, kernel: &Kernel) {
        if self.kernel.set(kernel.downgrade()).is_ok() {
            tokio::spawn(work(Arc::downgrade(self)));
        }
    }

    /// Every ticket, newest first.
    pub fn tickets(&self) -> Vec<Ticket> {
        self.state.lock().tickets.values().rev().map(|bench| bench.ticket.clone()).collect()
    }

    /// One ticket.
    ///
    /// # Errors
    /// [`WorkshopError::NoSuchTicket`].
    pub fn ticket(&self, number: u64) -> Result<Ticket, WorkshopError> {
        let state = self.state.lock();
        let bench = state.tickets.get(&number).ok_or(WorkshopError::NoSuchTicket(number))?;
        Ok(bench.ticket.clone())
    }

    /// What is done about misses: of the home, and of objects that have a word of their own.
    pub fn policies(&self) -> (Policy, Vec<(ObjectId, Policy)>) {
        let state = self.state.lock();
        (state.home, state.objects.iter().map(|(object, policy)| (*object, *policy)).collect())
    }

    /// Says what is done about misses, of one object and what delegates to it, or of the whole home.
    ///
    /// # Errors
    /// [`KeepError`]; then nothing has changed.
    pub fn set_policy(&self, object: Option<ObjectId>, policy: Policy) -> Result<(), KeepError> {
        self.keep.set_policy(object, policy)?;
        let mut state = self.state.lock();
        match object {
            Some(object) => drop(state.objects.insert(object, policy)),
            None => state.home = policy,
        }
        Ok(())
    }

    /// Lets what is proposed serve, with the grants that it needs; with `seen`, only the component of that digest.
    ///
    /// # Errors
    /// [`WorkshopError`]; then it stays proposed.
    pub async fn approve(&self, number: u64, seen: Option<&str>) -> Result<Swapped, WorkshopError> {
        let ticket = self.ticket(number)?;
        if ticket.state != TicketState::Proposed {
            return Err(unfit(&ticket, "only what is proposed can be approved"));
        }
        let proposed = ticket.chosen.and_then(|place| ticket.attempts.get(place));
        if seen.is_some_and(|seen| proposed.and_then(|attempt| attempt.digest.as_deref()) != Some(seen)) {
            return Err(unfit(&ticket, "something else is proposed than was looked at; look again"));
        }
        self.swap_in(ticket, "operator", Granting::All).await
    }

    /// Declines what is proposed, or was not made yet.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn reject(&self, number: u64, why: &str) -> Result<Ticket, WorkshopError> {
        let mut ticket = self.ticket(number)?;
        if !matches!(ticket.state, TicketState::Proposed | TicketState::Open | TicketState::Failed) {
            return Err(unfit(&ticket, "only what does not serve can be rejected"));
        }
        ticket.turn(TicketState::Rejected, format!("declined: {why}"), now_ms());
        self.update(ticket.clone(), Some("forge.rejected"))?;
        Ok(ticket)
    }

    /// Opens a ticket again that failed, or was rejected or retired.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn reopen(&self, number: u64) -> Result<Ticket, WorkshopError> {
        let mut ticket = self.ticket(number)?;
        if !matches!(ticket.state, TicketState::Failed | TicketState::Rejected | TicketState::Retired) {
            return Err(unfit(&ticket, "only what failed, was rejected or retired can be tried again"));
        }
        (ticket.attempts, ticket.spec, ticket.chosen) = (Vec::new(), None, None);
        ticket.used = None;
        ticket.turn(TicketState::Open, String::new(), now_ms());
        self.update(ticket.clone(), Some("forge.reopened"))?;
        self.put_to_work(number);
        Ok(ticket)
    }

    /// Tries source that somebody wrote, as the gate does; nothing is kept.
    ///
    /// # Errors
    /// [`WorkshopError`] when it could not be tried at all.
    pub async fn try_source(
        &self,
        source: &str,
        uses: Vec<String>,
        spec: &Spec,
        selector: &str,
    ) -> Result<Attempt, WorkshopError> {
        let trigger = match spec.examples.first() {
            Some(example) => Trigger {
                receiver: String::new(),
                arguments: example.arguments.clone(),
                slots: example.before.clone(),
            },
            None => return Err(WorkshopError::Untried("it has no examples to be tried with".into())),
        };
        spec.check().map_err(WorkshopError::Untried)?;
        let draft =
            Draft { source: source.to_owned(), uses, prompt: Value::Null, mind: String::new(), seed: 0 };
        let component = component_of("", selector);
        self.attempt(&component, "1.0.0", (spec, &trigger, selector), draft, Instant::now()).await
    }

    fn engine(&self) -> Result<&'static Engine, WorkshopError> {
        self.engine.ok_or(WorkshopError::NoEngine)
    }

    fn kernel(&self) -> Result<Kernel, WorkshopError> {
        let kernel = self.kernel.get().and_then(WeakKernel::upgrade);
        kernel.ok_or_else(|| WorkshopError::Untried("the host is not there".into()))
    }

    /// What is wanted of an object: its own word, else the home's.
    fn policy_of(&self, prototype: ObjectId) -> Policy {
        let state = self.state.lock();
        state.objects.get(&prototype).copied().unwrap_or(state.home)
    }

    /// Whether an object belongs to the architect, or to a component that has a mind of its own: neither is taught unasked.
    fn is_minded(&self, prototype: ObjectId) -> bool {
        let owner = self.keep.0.begin().object(prototype).ok().flatten().map(|object| object.owner.clone());
        let kernel = self.kernel().ok();
        owner
            .zip(kernel)
            .is_some_and(|(owner, kernel)| owner.as_str() == ARCHITECT || kernel.is_minded(&owner))
    }

    /// The ticket of a miss; opens one where there is none. None where no more may be opened.
    fn ticket_of(&self, miss: &Miss) -> Result<Option<u64>, KeepError> {
        let pair = (miss.prototype, miss.selector.clone());
        let mut state = self.state.lock();
        if let Some(number) = state.by_pair.get(&pair) {
            return Ok(Some(*number));
        }
        if !state.may_open(Instant::now()) {
            return Ok(None);
        }
        let number = state.tickets.keys().next_back().copied().unwrap_or_default() + 1;
        let ticket = self.new_ticket(number, miss)?;
        // Under the lock, so that a second sender of the same finds it.
        let object = self.keep.open(&ticket)?;
        fail::fail_point!("forge::opened");
        state.put(object, ticket);
        drop(state);
        self.bell.notify_one();
        Ok(Some(number))
    }

    fn new_ticket(&self, number: u64, miss: &Miss) -> Result<Ticket, KeepError> {
        let mut unit = self.keep.0.begin();
        let slots = unit.object(miss.receiver)?.map(|object| {
            let value = |(name, slot): (&String, &Slot)| match slot {
                Slot::Value(value) => Some((name.clone(), value.to_value())),
                Slot::Method(_) => None,
            };
            object.slots.iter().filter_map(value).collect()
        });
        let names = unit.names_of(miss.prototype)?;
        let name = names.first().map(|name| name.as_str().to_owned());
        let (prototype, now) = (miss.prototype.to_string(), now_ms());
        Ok(Ticket {
            number,
            component: component_of(&prototype, &miss.selector),
            prototype_name: name.unwrap_or_else(|| prototype.clone()),
            prototype,
            selector: miss.selector.clone(),
            state: TicketState::Open,
            cause: String::new(),
            opened_at_ms: now,
            since_ms: now,
            trigger: Trigger {
                receiver: miss.receiver.to_string(),
                arguments: miss.arguments.to_value(),
                slots: slots.unwrap_or_default(),
            },
            spec: None,
            attempts: Vec::new(),
            chosen: None,
            approved_by: None,
            used: None,
            retirement_proposed: false,
        })
    }

    /// Waits until a ticket is settled, or a moment has come.
    async fn settled(&self, number: u64, until: Instant) -> Option<TicketState> {
        let mut settled = self.state.lock().tickets.get(&number)?.settled.subscribe();
        let waited = tokio::time::timeout_at(until.into(), settled.wait_for(|is_settled| *is_settled)).await;
        drop(waited);
        self.state.lock().tickets.get(&number).map(|bench| bench.ticket.state)
    }

    /// Keeps what became of a ticket.
    fn update(&self, ticket: Ticket, decision: Option<&str>) -> Result<(), WorkshopError> {
        let number = ticket.number;
        let object = self.state.lock().tickets.get(&number).map(|bench| bench.object);
        let object = object.ok_or(WorkshopError::NoSuchTicket(number))?;
        self.keep.save(object, &ticket, decision)?;
        self.state.lock().put(object, ticket);
        Ok(())
    }

    /// Nobody works on it any more: whoever waits need not.
    fn let_go(&self, number: u64) {
        if let Some(bench) = self.state.lock().tickets.get(&number) {
            bench.settled.send_replace(true);
        }
    }

    fn put_to_work(&self, number: u64) {
        self.state.lock().due.push_back(number);
        self.bell.notify_one();
    }

    /// Works on a ticket until it is settled, or cannot be for now.
    async fn forge(&self, number: u64) -> Result<(), WorkshopError> {
        loop {
            let mut ticket = self.ticket(number)?;
            if ticket.state == TicketState::Proposed && self.may_serve_unasked(&ticket) {
                self.swap_in(ticket, "auto", Granting::Nothing).await?;
                return Ok(());
            }
            if !ticket.may_try() {
                return Ok(());
            }
            let kernel = &self.kernel()?;
            let Some(spec) = ticket.spec.clone() else {
                match architect::specify(kernel, &ticket).await {
                    Ok(spec) => ticket.spec = Some(spec),
                    Err(cause) => ticket.turn(TicketState::Failed, cause, now_ms()),
                }
                self.update(ticket, None)?;
                fail::fail_point!("forge::specified");
                continue;
            };
            let start = Instant::now();
            let draft = match architect::write(kernel, &ticket).await {
                Ok(draft) => draft,
                Err(cause) => {
                    ticket.turn(TicketState::Failed, cause, now_ms());
                    self.update(ticket, Some("forge.failed"))?;
                    continue;
                }
            };
            fail::fail_point!("forge::written");
            let version = self.next_version(&ticket)?;
            let about = (&spec, &ticket.trigger, ticket.selector.as_str());
            let attempt = self.attempt(&ticket.component, &version, about, draft, start).await?;
            fail::fail_point!("forge::tried");
            let decision = if attempt.passed() { "forge.proposed" } else { "forge.tried" };
            ticket.take(attempt, now_ms());
            self.update(ticket, Some(decision))?;
            fail::fail_point!("forge::kept");
        }
    }

    fn may_serve_unasked(&self, ticket: &Ticket) -> bool {
        let Ok(prototype) = ticket.prototype.parse() else { return false };
        let needs_nothing = ticket.chosen.and_then(|place| ticket.attempts.get(place));
        self.policy_of(prototype) == Policy::Auto
            && !self.is_minded(prototype)
            && needs_nothing.is_some_and(|attempt| attempt.uses.is_empty())
    }

    async fn attempt(
        &self,
        component: &str,
        version: &str,
        (spec, trigger, selector): (&Spec, &Trigger, &str),
        draft: Draft,
        start: Instant,
    ) -> Result<Attempt, WorkshopError> {
        let engine = self.engine()?;
        let account = spec.account(component, version, selector);
        let behaviour = Behaviour::of(&account, draft.source.clone(), draft.uses.clone())
            .map_err(|error| WorkshopError::Untried(error.to_string()))?;
        let kernel = &self.kernel()?;
        let means = trial::Means { kernel, engine, isolation: self.isolation.as_deref() };
        let verdict = trial::try_behaviour(means, &behaviour, (spec, trigger, selector))
            .await
            .map_err(WorkshopError::Untried)?;
        let digest = verdict.component.as_deref().map(|bytes| telos_store::Digest::of(bytes).to_string());
        Ok(Attempt {
            source_hash: blake3::hash(draft.source.as_bytes()).to_hex().to_string(),
            source: draft.source,
            uses: behaviour.uses,
            prompt: draft.prompt,
            mind: draft.mind,
            seed: draft.seed,
            engine: engine.name.into(),
            digest,
            version: version.to_owned(),
            layer: verdict.layer,
            checks: verdict.checks,
            elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The version that comes after every release of the component, whatever became of them.
    fn next_version(&self, ticket: &Ticket) -> Result<String, WorkshopError> {
        let component = component_id(&ticket.component)?;
        let releases = self.keep.0.releases(Some(&component)).map_err(|error| keep_error(&error))?;
        let patch = |version: &str| version.rsplit('.').next().and_then(|patch| patch.parse::<u64>().ok());
        let tried = ticket.attempts.iter().filter_map(|attempt| patch(&attempt.version)).max();
        let last = releases.iter().filter_map(|release| patch(&release.version)).max().max(tried);
        Ok(format!("1.0.{}", last.map_or(0, |last| last + 1)))
    }

    /// Lets the chosen attempt serve: release, seat, method slot and record in one commit.
    async fn swap_in(&self, ticket: Ticket, by: &str, grants: Granting) -> Result<Swapped, WorkshopError> {
        let object = self.state.lock().tickets.get(&ticket.number).map(|bench| bench.object);
        let object = object.ok_or(WorkshopError::NoSuchTicket(ticket.number))?;
        let (Some(attempt), Some(spec)) =
            (ticket.chosen.and_then(|place| ticket.attempts.get(place)), &ticket.spec)
        else {
            return Err(unfit(&ticket, "no attempt of it was chosen"));
        };
        let account = spec.account(&ticket.component, &attempt.version, &ticket.selector);
        let behaviour = Behaviour::of(&account, attempt.source.clone(), attempt.uses.clone())
            .map_err(|error| WorkshopError::Untried(error.to_string()))?;
        let bytes = crate::assemble(self.engine()?, &behaviour)
            .map_err(|error| WorkshopError::Untried(error.to_string()))?;
        let mut serving = ticket.clone();
        serving.approved_by = Some(by.to_owned());
        serving.turn(
            TicketState::Serving,
            format!("{} {} serves it", ticket.component, attempt.version),
            now_ms(),
        );
        let record = Keep::slots(&serving)?.into_iter().map(|(slot, value)| (object, slot, value)).collect();
        let prototype = ticket.prototype.parse().map_err(|_| WorkshopError::NoSuchTicket(ticket.number))?;
        let request = InstallRequest {
            source: format!("{FORGED}{}", ticket.number),
            grants,
            lesson: Some(Lesson { prototype, selector: ticket.selector.clone(), record }),
            ..InstallRequest::default()
        };
        fail::fail_point!("forge::assembled");
        let swapped = self.kernel()?.install(bytes, request).await?;
        fail::fail_point!("forge::swapped-in");
        if swapped.state == "serving" {
            self.state.lock().put(object, serving);
        }
        Ok(swapped)
    }

    /// Opens the tickets of releases that lost their probation.
    fn take_back(&self) -> Result<(), WorkshopError> {
        let serving: Vec<Ticket> = {
            let state = self.state.lock();
            let tickets = state.tickets.values().map(|bench| &bench.ticket);
            tickets.filter(|ticket| ticket.state == TicketState::Serving).cloned().collect()
        };
        if serving.is_empty() {
            return Ok(());
        }
        for fallen in self.kernel()?.quarantine()? {
            let digest = fallen.digest.to_string();
            let of_it = |ticket: &&Ticket| {
                let chosen = ticket.chosen.and_then(|place| ticket.attempts.get(place));
                chosen.is_some_and(|attempt| attempt.digest.as_deref() == Some(digest.as_str()))
            };
            let Some(mut ticket) = serving.iter().find(of_it).cloned() else { continue };
            if let Some(attempt) = ticket.chosen.take().and_then(|place| ticket.attempts.get_mut(place)) {
                attempt.checks.push(check("its probation".into(), Err(fallen.cause.clone())));
            }
            ticket.approved_by = None;
            ticket.turn(TicketState::Open, format!("{} lost its seat", fallen.version), now_ms());
            if !ticket.may_try() {
                ticket.turn(TicketState::Failed, format!("it lost its seat: {}", fallen.cause), now_ms());
            }
            let number = ticket.number;
            self.fell(ticket)?;
            self.put_to_work(number);
        }
        Ok(())
    }

    /// Keeps that a ticket's release fell. Where an earlier one took its seat back, the message is understood as before.
    fn fell(&self, ticket: Ticket) -> Result<(), WorkshopError> {
        match self.kernel()?.serves(&component_id(&ticket.component)?) {
            true => self.update(ticket, Some("forge.fell")),
            false => self.untaught(ticket, "forge.fell"),
        }
    }

    /// Keeps that a ticket's behaviour serves no more, and takes the method away that led to it.
    fn untaught(&self, ticket: Ticket, decision: &str) -> Result<(), WorkshopError> {
        let object = self.state.lock().tickets.get(&ticket.number).map(|bench| bench.object);
        let object = object.ok_or(WorkshopError::NoSuchTicket(ticket.number))?;
        self.keep.save_untaught(object, &ticket, Some(decision))?;
        self.state.lock().put(object, ticket);
        Ok(())
    }

    fn say(&self, severity: Severity, event: &'static str, body: String) {
        self.journal.record(JournalLine {
            severity,
            event,
            body,
            trace: None,
            plugin: None,
            attributes: serde_json::Map::new(),
        });
    }
}

#[async_trait]
impl Forge for Workshop {
    fn takes(&self, prototype: ObjectId, selector: &str) -> bool {
        self.engine.is_some()
            && self.kernel.get().is_some()
            && is_selector(selector)
            && self.policy_of(prototype) != Policy::Off
    }

    async fn missed(&self, miss: Miss, until: Option<Instant>) -> Forged {
        let number = match self.ticket_of(&miss) {
            Ok(Some(number)) => number,
            Ok(None) => return Forged::Nothing,
            Err(error) => {
                self.say(Severity::Error, "forge.unkept", error.to_string());
                return Forged::Nothing;
            }
        };
        let may_wait = self.policy_of(miss.prototype) == Policy::Auto && !miss.has_emitted;
        let Some(until) = until.filter(|_| may_wait) else { return Forged::Ticket(number) };
        let until = until.checked_sub(LEFT_OVER).unwrap_or(until).min(Instant::now() + WAIT_MAX);
        match self.settled(number, until).await {
            Some(TicketState::Serving) => Forged::Now(number),
            _ => Forged::Ticket(number),
        }
    }
}

impl State {
    fn put(&mut self, object: ObjectId, ticket: Ticket) {
        // A proposal may come to serve by itself next.
        let is_settled = ticket.is_settled() && ticket.state != TicketState::Proposed;
        let number = ticket.number;
        if let Ok(prototype) = ticket.prototype.parse() {
            self.by_pair.insert((prototype, ticket.selector.clone()), number);
        }
        let is_under_way = matches!(ticket.state, TicketState::Open | TicketState::Proposed);
        if is_under_way && !self.tickets.contains_key(&number) {
            self.due.push_back(number);
        }
        match self.tickets.get_mut(&number) {
            Some(bench) => {
                bench.ticket = ticket;
                bench.settled.send_replace(is_settled);
            }
            None => {
                let settled = watch::Sender::new(is_settled);
                self.tickets.insert(number, Bench { object, ticket, settled });
            }
        }
    }

    fn may_open(&mut self, now: Instant) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= Duration::from_secs(3_600);
        while self.opened.front().is_some_and(is_old) {
            self.opened.pop_front();
        }
        if self.opened.len() >= OPENED_PER_HOUR || self.tickets.len() >= TICKETS_MAX {
            return false;
        }
        self.opened.push_back(now);
        true
    }
}

/// Works on what is due, one ticket after the other, until the workshop is gone.
async fn work(workshop: std::sync::Weak<Workshop>) {
    let mut looked = None;
    loop {
        let Some(workshop) = workshop.upgrade() else { return };
        if workshop.kernel().is_err() {
            return;
        }
        let due = workshop.state.lock().due.pop_front();
        if let Some(number) = due {
            if let Err(error) = workshop.forge(number).await {
                workshop.say(Severity::Error, "forge.hindered", format!("ticket {number}: {error}"));
            }
            workshop.let_go(number);
            continue;
        }
        let round = workshop.take_back().and_then(|()| workshop.look_after_use(&mut looked));
        if let Err(error) = round {
            workshop.say(Severity::Error, "forge.hindered", error.to_string());
        }
        let _ = tokio::time::timeout(ROUND, workshop.bell.notified()).await;
    }
}

fn unfit(ticket: &Ticket, problem: &'static str) -> WorkshopError {
    WorkshopError::Unfit { number: ticket.number, state: ticket.state, problem }
}

fn component_id(text: &str) -> Result<ComponentId, WorkshopError> {
    ComponentId::new(text).map_err(|error| WorkshopError::Untried(error.to_string()))
}

fn keep_error(error: &telos_store::Failure) -> WorkshopError {
    WorkshopError::Untried(error.to_string())
}

/// Whether a component may have a selector of this name.
fn is_selector(text: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_';
    (1..=SELECTOR_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
