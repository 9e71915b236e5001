//! Clients whose books can be balanced: what the proofs of durability run, and what they check afterwards.
//!
//! ```text
//! request n    named objects with vectors, their sum in the client's books, an audit row, a post to its mailbox;
//!              the vector of an object of request n - 1 goes; every fourth adds one to a counter that all share
//! delivery     takes the mailbox's oldest post and counts it there; some fail once, some until they are dead letters
//! check        requests 1 to N are whole and no other left a trace; every place that knows N says the same
//! ```
//! A check answers what is wrong instead of panicking, so that a test can ask for a fault to be found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use telos_store::{
    CommitError, Dedupe, DedupeKey, Effect, Failure, Json, ObjectId, ObjectName, OutboxRow, Position, Post,
    ReadError, ReleaseRecord, ReleaseState, SessionId, Store, Unit, VectorError, Vote, WriteError,
};

use crate::fixture::{name, number, operator};
use crate::random::Random;

/// Named objects of one request.
const PARTS: u32 = 3;
/// Requests whose answers a client may still want to hear again.
const REPLAYABLE: u64 = 3;
/// Every so many requests change the shared counter.
const SHARED_EVERY: u64 = 4;
/// Every so many posts fail once before they are taken.
const BUSY_EVERY: u64 = 3;
/// Every so many posts are never taken.
const DEAD_EVERY: u64 = 7;

/// The clients of one store.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// When their sessions were opened, Unix milliseconds.
    pub(crate) opened_ms: u64,
    /// Whether every request stores a blob and a release that names it.
    has_releases: bool,
    /// Held by who delivers: a post stays due while it is being delivered.
    delivering: Arc<Mutex<()>>,
}

/// One thing that a client did or was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It asked.
    Sent { client: u32, number: u64 },
    /// It was told that its request was decided.
    Acknowledged { client: u32, number: u64, position: Position },
    /// It was shown the state as of a position.
    Shown { position: Position },
}

/// Hears what clients do and are told.
pub(crate) type Ear = Arc<dyn Fn(Said) + Send + Sync>;

/// What clients know, hence what must be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    clients: BTreeMap<u32, Heard>,
    position: Position,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    acknowledged: u64,
    sent: u64,
}

/// A decided request, as its client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Vec<u8>,
    pub(crate) position: Position,
    pub(crate) is_replayed: bool,
}

/// Why a client has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// What the request had to read could not be read.
    Read(Failure),
    /// The store is failing; `effect()` says what is known.
    Commit(CommitError),
}

impl Known {
    pub(crate) fn nothing(clients: u32) -> Known {
        Known {
            clients: (0..clients).map(|client| (client, Heard::default())).collect(),
            position: Position::NONE,
        }
    }

    pub(crate) fn hear(&mut self, said: Said) {
        match said {
            Said::Sent { client, number } => {
                let heard = self.clients.entry(client).or_default();
                heard.sent = heard.sent.max(number);
            }
            Said::Acknowledged { client, number, position } => {
                let heard = self.clients.entry(client).or_default();
                heard.acknowledged = heard.acknowledged.max(number);
                self.position = self.position.max(position);
            }
            Said::Shown { position } => self.position = self.position.max(position),
        }
    }

    /// As if every request had been acknowledged when it was sent.
    pub(crate) fn with_all_acknowledged(mut self) -> Known {
        self.clients.values_mut().for_each(|heard| heard.acknowledged = heard.sent);
        self
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.clients.values().map(|heard| heard.acknowledged).sum()
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = u32> {
        self.clients.keys().copied()
    }
}

impl Ledger {
    /// Sessions that are opened now; no releases.
    pub(crate) fn new() -> Ledger {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Ledger { opened_ms: u64::try_from(now).unwrap(), has_releases: false, delivering: Arc::default() }
    }

    /// With releases, in sessions that an earlier process may have opened.
    pub(crate) fn with_releases(opened_ms: u64) -> Ledger {
        Ledger { opened_ms, has_releases: true, ..Ledger::new() }
    }

    /// Asks until the request is decided or the store fails. A number that was decided before is a resend.
    pub(crate) fn ask(&self, store: &Store, client: u32, number: u64, ear: &Ear) -> Result<Answer, Trouble> {
        ear(Said::Sent { client, number });
        loop {
            let mut unit = store.begin();
            match self.request(store, &mut unit, client, number) {
                Ok(()) => {}
                // The store was reopened meanwhile, and its indexes begin there.
                Err(VectorError::SnapshotTooOld { .. }) => continue,
                Err(error) => return Err(trouble(error)),
            }
            let dedupe = Some(self.key(client, number));
            let vote = Vote { dedupe, outcome: outcome(client, number), ..Vote::default() };
            match decide(store, unit, vote, client, number, ear) {
                Err(CommitError::Conflict(_) | CommitError::Busy { .. }) => {}
                Err(error) => return Err(Trouble::Commit(error)),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Asks again, whatever goes wrong, until the request is decided; answers also how often it was asked.
    pub(crate) fn settle(&self, store: &Store, client: u32, number: u64, ear: &Ear) -> (Answer, u64) {
        for asked in 1..=100_000 {
            match self.ask(store, client, number, ear) {
                Ok(answer) => return (answer, asked),
                Err(_) => std::thread::yield_now(),
            }
        }
        panic!("request {number} of client {client} was never settled");
    }

    /// Resends what a client may still resend, and asks what was never decided. Answers what was not as decided.
    pub(crate) fn resend(&self, store: &Store, known: &Known, ear: &Ear) -> Result<(), String> {
        for (client, heard) in &known.clients {
            let done = self.done(store, *client).map_err(text)?;
            let first = (done + 1).saturating_sub(REPLAYABLE).max(1);
            for number in first..=heard.sent {
                let answer = self.ask(store, *client, number, ear).map_err(text)?;
                let is_right =
                    answer.is_replayed == (number <= done) && answer.outcome == outcome(*client, number);
                ensure(is_right, || {
                    format!("client {client}, {done} done: {number} is answered {answer:?}")
                })?;
            }
        }
        Ok(())
    }

    /// What the store says about a request.
    pub(crate) fn look_up(&self, store: &Store, client: u32, number: u64) -> Result<Dedupe, Failure> {
        store.dedupe_lookup(&self.key(client, number))
    }

    /// Shows the newest state to a client that only reads.
    pub(crate) fn show(&self, store: &Store, client: u32, ear: &Ear) -> Result<u64, Trouble> {
        let mut unit = store.begin();
        let count =
            counted(&mut unit, &books_name(client), "count").map_err(|error| trouble(error.into()))?;
        let shown = store.decide(unit, Vote::default()).wait().map_err(Trouble::Commit)?;
        ear(Said::Shown { position: shown.position });
        Ok(count)
    }

    /// Attempts every post that is due, once; answers how many there were.
    pub(crate) fn deliver(&self, store: &Store) -> Result<usize, Trouble> {
        let _delivering = self.delivering.lock();
        let due = store.outbox_due(u64::MAX, 100).map_err(Trouble::Read)?;
        due.iter().try_for_each(|row| deliver_one(store, row))?;
        Ok(due.len())
    }

    /// Delivers until nothing is pending.
    pub(crate) fn drain(&self, store: &Store) -> Result<(), Trouble> {
        while self.deliver(store)? > 0 {}
        Ok(())
    }

    /// How many requests of a client are done.
    pub(crate) fn done(&self, store: &Store, client: u32) -> Result<u64, Trouble> {
        counted(&mut store.begin(), &books_name(client), "count").map_err(|error| trouble(error.into()))
    }

    /// Finds the first thing that is not as it was acknowledged, or not whole.
    pub(crate) fn check(&self, store: &Store, known: &Known) -> Result<(), String> {
        let report = store.verify_open().map_err(text)?;
        ensure(report.is_clean(), || format!("verification: {:?}", report.problems))?;
        let position = store.position();
        ensure(position >= known.position, || format!("position {position}, {} was told", known.position))?;
        let clients = known.clients.iter();
        let done = clients.map(|(client, heard)| self.check_client(store, *client, *heard));
        let done: Vec<u64> = done.collect::<Result<_, String>>()?;
        self.check_together(store, known, &done)
    }

    fn request(&self, store: &Store, unit: &mut Unit, client: u32, request: u64) -> Result<(), VectorError> {
        let books = find_or_make(unit, &books_name(client)).map_err(failed)?;
        let count = own_count(unit, books, "count")?;
        if count >= request {
            // A resend: dedupe must refuse it, or this is found.
            return unit.set_slot(books, "doubled", as_slot(request)).map_err(failed);
        }
        let parts = (0..PARTS).map(|part| make_part(unit, client, request, part));
        let sum: u64 = parts.sum::<Result<_, _>>()?;
        forget_vector(unit, client, request - 1)?;
        self.book(store, unit, client, request, sum).map_err(failed)
    }

    fn book(
        &self,
        store: &Store,
        unit: &mut Unit,
        client: u32,
        request: u64,
        sum: u64,
    ) -> Result<(), WriteError> {
        let books = find_or_make(unit, &books_name(client))?;
        let count = own_count(unit, books, "count")?;
        let before = own_count(unit, books, "sum")?;
        unit.set_slot(books, "sum", as_slot(before + sum))?;
        unit.set_slot(books, "count", as_slot(count + 1))?;
        if request.is_multiple_of(SHARED_EVERY) {
            let shared = find_or_make(unit, &name("shared"))?;
            let before = own_count(unit, shared, "count")?;
            unit.set_slot(shared, "count", as_slot(before + 1))?;
        }
        if self.has_releases {
            let blob = store.put_blob(&outcome(client, request)).unwrap();
            unit.put_release(release(client, request, blob))?;
        }
        unit.audit("request", &format!("{client}/{request}"), serde_json::Value::Null)?;
        let target = find_or_make(unit, &mailbox_name(client))?;
        unit.post(post(books, target, request))
    }

    fn key(&self, client: u32, number: u64) -> DedupeKey {
        let session = SessionId { client: u128::from(client), incarnation: self.opened_ms };
        DedupeKey { session, number, acked_through: number.saturating_sub(REPLAYABLE) }
    }

    /// Answers how many requests are done.
    fn check_client(&self, store: &Store, client: u32, heard: Heard) -> Result<u64, String> {
        let mut unit = store.begin();
        let books = unit.find(&books_name(client)).map_err(text)?;
        let done = counted(&mut unit, &books_name(client), "count").map_err(text)?;
        let is_expected = (heard.acknowledged..=heard.sent).contains(&done);
        ensure(is_expected, || format!("client {client}: {done} requests done, {heard:?}"))?;
        let doubled = counted(&mut unit, &books_name(client), "doubled").map_err(text)?;
        ensure(doubled == 0, || format!("client {client}: request {doubled} had two effects"))?;
        check_parts(&mut unit, client, done)?;
        check_vectors(&mut unit, client, done)?;
        self.check_answers(store, books, client, done, heard.sent)?;
        Ok(done)
    }

    /// Resends would be answered as decided, and history tells when.
    fn check_answers(
        &self,
        store: &Store,
        books: Option<ObjectId>,
        client: u32,
        done: u64,
        sent: u64,
    ) -> Result<(), String> {
        for request in 1..=sent + 1 {
            let found = self.look_up(store, client, request).map_err(text)?;
            let what = || format!("client {client}, {done} done: request {request}: {found:?}");
            match &found {
                Dedupe::Fresh => ensure(request > done, what)?,
                Dedupe::TooOld { .. } => ensure(request + REPLAYABLE <= done, what)?,
                Dedupe::Replay { outcome: stored, position } => {
                    ensure(request <= done && *stored == outcome(client, request), what)?;
                    let id = books.ok_or_else(what)?;
                    let count_at = |at: Position| -> Result<u64, String> {
                        let books = store.object_at(id, at).map_err(text)?;
                        Ok(books.and_then(|books| books.value("count")?.to_value().as_u64()).unwrap_or(0))
                    };
                    let before = Position::new(position.get() - 1);
                    let counts = (count_at(before)?, count_at(*position)?);
                    ensure(counts == (request - 1, request), || format!("{}: books {counts:?}", what()))?;
                }
                Dedupe::SessionFull | Dedupe::UnknownSession => return Err(what()),
            }
        }
        Ok(())
    }

    fn check_together(&self, store: &Store, known: &Known, done: &[u64]) -> Result<(), String> {
        let mut unit = store.begin();
        let shared = counted(&mut unit, &name("shared"), "count").map_err(text)?;
        let expected: u64 = done.iter().map(|done| done / SHARED_EVERY).sum();
        ensure(shared == expected, || format!("the shared counter: {shared}, not {expected}"))?;
        let audit = store.audit_after(0, usize::MAX).map_err(text)?;
        let rows: Vec<_> = audit.iter().filter(|row| row.kind == "request").map(|row| &row.subject).collect();
        let distinct: BTreeSet<_> = rows.iter().collect();
        let all: u64 = done.iter().sum();
        let is_once_each = rows.len() as u64 == all && distinct.len() == rows.len();
        ensure(is_once_each, || format!("{} audit rows of {all} requests: {rows:?}", rows.len()))?;
        check_posts(store, known, done)
    }
}

fn decide(
    store: &Store,
    unit: Unit,
    vote: Vote,
    client: u32,
    number: u64,
    ear: &Ear,
) -> Result<Answer, CommitError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let ear = Arc::clone(ear);
    let own = vote.outcome.clone();
    // Heard on the committer's thread, before it writes anything more.
    store.decide_then(unit, vote, move |result| {
        let answer = match result {
            Ok(commit) => Ok(Answer { outcome: own, position: commit.position, is_replayed: false }),
            Err(CommitError::DuplicateRequest { outcome, position }) => {
                Ok(Answer { outcome, position, is_replayed: true })
            }
            Err(error) => Err(error),
        };
        if let Ok(Answer { position, .. }) = &answer {
            ear(Said::Acknowledged { client, number, position: *position });
        }
        let _ = sender.send(answer);
    });
    receiver.recv().unwrap_or(Err(CommitError::Closed))
}

fn deliver_one(store: &Store, row: &OutboxRow) -> Result<(), Trouble> {
    let number = row.post.arguments.to_value().as_u64().unwrap();
    let is_dead = number.is_multiple_of(DEAD_EVERY);
    if is_dead || (number.is_multiple_of(BUSY_EVERY) && row.attempts == 0) {
        return store.fail_post(row.id, "busy", 0).map(drop).or_else(settled_meanwhile);
    }
    let mut unit = store.begin();
    unit.take_post(row.id);
    receive(&mut unit, row.post.target, number).map_err(|error| trouble(failed(error)))?;
    store.decide(unit, Vote::default()).wait().map(drop).or_else(settled_meanwhile)
}

/// Somebody else took the post, or changed the mailbox: then it is due again.
fn settled_meanwhile(error: CommitError) -> Result<(), Trouble> {
    let is_harmless = matches!(error, CommitError::Conflict(_) | CommitError::Busy { .. });
    if is_harmless { Ok(()) } else { Err(Trouble::Commit(error)) }
}

fn receive(unit: &mut Unit, mailbox: ObjectId, number: u64) -> Result<(), WriteError> {
    let last = own_count(unit, mailbox, "last")?;
    let received = own_count(unit, mailbox, "received")?;
    if number != next_after(last) {
        unit.set_slot(mailbox, "disorder", as_slot(number))?;
    }
    unit.set_slot(mailbox, "last", as_slot(number))?;
    unit.set_slot(mailbox, "received", as_slot(received + 1))
}

fn next_after(last: u64) -> u64 {
    let next = last + 1;
    if next.is_multiple_of(DEAD_EVERY) { next + 1 } else { next }
}

fn check_parts(unit: &mut Unit, client: u32, done: u64) -> Result<(), String> {
    let mut sum = 0;
    for request in 1..=done {
        for part in 0..PARTS {
            let what = || format!("client {client}: part {part} of request {request} of {done}");
            let found = unit.find(&part_name(client, request, part)).map_err(text)?;
            let value = own_count(unit, found.ok_or_else(what)?, "value").map_err(text)?;
            ensure(value == part_value(request, part), || format!("{}: {value}", what()))?;
            sum += value;
        }
    }
    let booked = counted(unit, &books_name(client), "sum").map_err(text)?;
    ensure(booked == sum, || format!("client {client}: {booked} in the books, not {sum}"))?;
    let half = unit.names(&format!("part/{client}/{}/", done + 1), "", 9).map_err(text)?;
    ensure(half.is_empty(), || format!("client {client}: half of request {}: {half:?}", done + 1))
}

/// Exactly the vectors that were not removed are found, and those of the newest request find themselves.
fn check_vectors(unit: &mut Unit, client: u32, done: u64) -> Result<(), String> {
    if done == 0 {
        return Ok(());
    }
    let mut expected = BTreeSet::new();
    let mut newest = Vec::new();
    for request in 1..=done {
        for part in (0..PARTS).filter(|part| *part > 0 || request == done) {
            let id = unit.find(&part_name(client, request, part)).map_err(text)?;
            expected.insert(id.ok_or("a part is missing")?);
            newest.extend(id.filter(|_| request == done).map(|id| (part, id)));
        }
    }
    let collection = collection(client);
    let k = expected.len().min(telos_store::limit::NEIGHBORS_MAX);
    let hits =
        unit.search_vectors(&operator(), &collection, &direction(0, 0), k.max(1), &[]).map_err(text)?;
    let found: BTreeSet<_> = hits.iter().map(|hit| hit.object).collect();
    let is_all = found.len() == k && found.is_subset(&expected);
    ensure(is_all, || format!("client {client}: {} vectors found of {}", found.len(), expected.len()))?;
    for (part, id) in newest {
        let query = direction(done, part);
        let hits = unit.search_vectors(&operator(), &collection, &query, 1, &[]).map_err(text)?;
        let nearest = hits.first().map(|hit| hit.object);
        ensure(nearest == Some(id), || format!("client {client}: part {part} of {done} finds {nearest:?}"))?;
    }
    Ok(())
}

/// Every post is pending, received once and in order, or a dead letter.
fn check_posts(store: &Store, known: &Known, done: &[u64]) -> Result<(), String> {
    let mut unit = store.begin();
    let letters = store.dead_letters(usize::MAX).map_err(text)?;
    let mut pending = 0;
    for (client, done) in known.clients().zip(done) {
        let mailbox = mailbox_name(client);
        let mut count = |slot: &str| counted(&mut unit, &mailbox, slot).map_err(text);
        let (last, received, disorder) = (count("last")?, count("received")?, count("disorder")?);
        ensure(disorder == 0, || format!("client {client}: post {disorder} was delivered out of order"))?;
        let is_consistent = received == last - last / DEAD_EVERY && last <= *done;
        ensure(is_consistent, || format!("client {client}: {received} posts received, the last is {last}"))?;
        let books = unit.find(&books_name(client)).map_err(text)?;
        let dead = letters.iter().filter(|letter| Some(letter.post.source) == books).count() as u64;
        let is_next_dead = last < *done && (last + 1).is_multiple_of(DEAD_EVERY);
        let is_expected = dead == last / DEAD_EVERY || (is_next_dead && dead == last / DEAD_EVERY + 1);
        ensure(is_expected, || format!("client {client}: {dead} dead letters, {last} of {done} received"))?;
        pending += done - received - dead;
    }
    let found = store.counts().map_err(text)?.posts_pending;
    ensure(found == pending, || format!("{found} posts pending, not {pending}"))?;
    let is_due = store.outbox_next_due_ms().is_some();
    ensure(is_due == (pending > 0), || format!("{pending} posts pending, due: {is_due}"))
}

fn make_part(unit: &mut Unit, client: u32, request: u64, part: u32) -> Result<u64, VectorError> {
    let value = part_value(request, part);
    let id = make_named(unit, &part_name(client, request, part)).map_err(failed)?;
    unit.set_slot(id, "value", as_slot(value)).map_err(failed)?;
    let metadata = Json::parse(&format!("{{\"value\": {value}}}")).unwrap();
    unit.upsert_vector(&operator(), &collection(client), id, direction(request, part), metadata)?;
    Ok(value)
}

fn forget_vector(unit: &mut Unit, client: u32, request: u64) -> Result<(), VectorError> {
    if let Some(id) = unit.find(&part_name(client, request, 0))? {
        unit.remove_vector(&operator(), &collection(client), id)?;
    }
    Ok(())
}

fn find_or_make(unit: &mut Unit, name: &ObjectName) -> Result<ObjectId, WriteError> {
    match unit.find(name)? {
        Some(id) => Ok(id),
        None => make_named(unit, name),
    }
}

fn make_named(unit: &mut Unit, name: &ObjectName) -> Result<ObjectId, WriteError> {
    let id = unit.create(operator(), 1, vec![])?;
    unit.bind(name, id)?;
    Ok(id)
}

/// A number in a named object; 0 when either is absent.
fn counted(unit: &mut Unit, name: &ObjectName, slot: &str) -> Result<u64, ReadError> {
    unit.find(name)?.map_or(Ok(0), |id| own_count(unit, id, slot))
}

fn own_count(unit: &mut Unit, id: ObjectId, slot: &str) -> Result<u64, ReadError> {
    let object = unit.object(id)?;
    Ok(object.and_then(|object| object.value(slot)?.to_value().as_u64()).unwrap_or(0))
}

fn as_slot(value: u64) -> telos_store::Slot {
    number(i64::try_from(value).unwrap())
}

fn release(client: u32, request: u64, digest: telos_store::Digest) -> ReleaseRecord {
    ReleaseRecord {
        component: operator(),
        digest,
        version: format!("{client}.{request}.0"),
        descriptor: Json::null(),
        contract: String::new(),
        imports: vec![],
        limits: Json::null(),
        source: String::new(),
        state: ReleaseState::Staged,
        installed_at_ms: 0,
        verdict: None,
    }
}

fn post(source: ObjectId, target: ObjectId, request: u64) -> Post {
    let arguments = Json::parse(&request.to_string()).unwrap();
    Post { source, target, selector: "note".into(), arguments, hops: 0, trace: String::new() }
}

fn outcome(client: u32, request: u64) -> Vec<u8> {
    format!("{client}/{request}").into_bytes()
}

fn books_name(client: u32) -> ObjectName {
    name(&format!("books/{client}"))
}

fn mailbox_name(client: u32) -> ObjectName {
    name(&format!("mailbox/{client}"))
}

fn part_name(client: u32, request: u64, part: u32) -> ObjectName {
    name(&format!("part/{client}/{request}/{part}"))
}

fn part_value(request: u64, part: u32) -> u64 {
    request * 10 + u64::from(part)
}

fn collection(client: u32) -> String {
    format!("client-{client}")
}

/// A random direction of its own for every part: in eight dimensions no two come near each other.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
fn direction(request: u64, part: u32) -> Vec<f32> {
    let mut random = Random::new(part_value(request, part));
    (0..8).map(|_| random.below(1 << 24) as f32 - (1 << 23) as f32).collect()
}

fn trouble(error: VectorError) -> Trouble {
    match error {
        VectorError::Failed(failure) => Trouble::Read(failure),
        error => panic!("a request does nothing that is refused: {error}"),
    }
}

fn failed(error: WriteError) -> VectorError {
    match error {
        WriteError::Read(error) => error.into(),
        error => panic!("a request does nothing that is refused: {error}"),
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Trouble {
        Trouble::Commit(error)
    }
}

impl Trouble {
    /// Whether the request may have been decided.
    pub(crate) fn effect(&self) -> Effect {
        match self {
            Trouble::Read(_) => Effect::None,
            Trouble::Commit(error) => error.effect(),
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Read(failure) => write!(f, "{failure}"),
            Trouble::Commit(error) => write!(f, "{error}"),
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
