//! What was asked, what happened, and what whoever asked was told: the truth that every answer is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::pool::Class;
use crate::rpc::{self, Effect};

/// One giving of one job: the host's run, the job, the attempt. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub(super) run: u64,
    pub(super) job: u64,
    pub(super) attempt: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    Client { peer: usize, life: u32, number: u64 },
    Host { run: u64, ticket: u64 },
}

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Told {
    Chunk(Bytes),
    Reset,
    Result(Bytes),
    Error(Bytes),
    /// Its end, in words; `is_without_effect`: it says that nothing happened.
    Ended {
        what: String,
        is_without_effect: bool,
    },
}

/// What becomes of one request.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// A client asks, not the host.
    pub(super) is_client: bool,
    /// None: a call of the host's own service.
    pub(super) class: Option<Class>,
    /// Workers cannot do it.
    pub(super) is_poison: bool,
    pub(super) end: Option<String>,
    /// Its client died, or nobody wants it any more: no end is owed.
    pub(super) is_abandoned: bool,
    pub(super) claims_effect: Option<bool>,
    /// Whose pieces its asker has, and how many.
    source: Option<Bytes>,
    next_index: u64,
    last_given: Option<Token>,
    /// As the host sees it.
    deadline: Option<Instant>,
    recalled: BTreeSet<Token>,
    begun: u32,
    /// Begun, and given back as if it had not been.
    given_back: u32,
    pub(super) applied: u32,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By what the request says, which is unique.
    pub(super) fates: BTreeMap<Bytes, Fate>,
    names: BTreeMap<Asker, Bytes>,
}

impl Asker {
    fn name(self) -> Bytes {
        Bytes::from(match self {
            Self::Client { peer, life, number } => format!("{peer}/{life}/{number}"),
            Self::Host { run, ticket } => format!("host/{run}/{ticket}"),
        })
    }

    /// As the request calls itself.
    fn number(self) -> u64 {
        match self {
            Self::Client { number, .. } => number,
            Self::Host { ticket, .. } => ticket,
        }
    }
}

/// The number that a worker's error is about.
pub(super) fn number_in(name: &[u8]) -> u64 {
    std::str::from_utf8(name).unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// What the answer to an order is made of.
pub(super) fn source_of(name: &[u8], token: Token) -> Bytes {
    let tail = format!("@{}.{}.{}", token.run, token.job, token.attempt);
    Bytes::from([name, tail.as_bytes()].concat())
}

pub(super) fn chunk_of(source: &[u8], index: u64) -> Bytes {
    Bytes::from([source, format!("#{index}").as_bytes()].concat())
}

impl Ledger {
    pub(super) fn open(&mut self, asker: Asker, class: Option<Class>, is_poison: bool) -> Bytes {
        let name = asker.name();
        let is_client = matches!(asker, Asker::Client { .. });
        self.names.insert(asker, name.clone());
        self.fates.insert(name.clone(), Fate { is_client, class, is_poison, ..Fate::default() });
        name
    }

    pub(super) fn fate_of(&mut self, name: &[u8]) -> &mut Fate {
        self.fates.get_mut(name).expect("nobody asked for this")
    }

    /// Nobody wants it any more. False when it was over before.
    pub(super) fn abandon(&mut self, asker: Asker) -> bool {
        let name = self.names[&asker].clone();
        let fate = self.fate_of(&name);
        fate.is_abandoned |= fate.end.is_none();
        fate.end.is_none()
    }

    pub(super) fn is_given_up(&self, asker: Asker) -> bool {
        self.fates[&self.names[&asker]].is_abandoned
    }

    pub(super) fn abandon_life(&mut self, peer: usize, life: u32) {
        let of = |number| Asker::Client { peer, life, number };
        self.abandon_all(of(0), of(u64::MAX));
    }

    pub(super) fn abandon_run(&mut self, run: u64) {
        let of = |ticket| Asker::Host { run, ticket };
        self.abandon_all(of(0), of(u64::MAX));
    }

    fn abandon_all(&mut self, from: Asker, to: Asker) {
        let askers: Vec<Asker> = self.names.range(from..=to).map(|(asker, _)| *asker).collect();
        for asker in askers {
            self.abandon(asker);
        }
    }

    /// A host gave it to a worker. The same giving may be repeated.
    pub(super) fn note_given(&mut self, name: &[u8], token: Token, deadline: Instant) {
        // Those that a worker did not even begin come on top, and are few.
        assert!(token.attempt <= 3 + 5, "{name:?} is given as {token:?}");
        let fate = self.fate_of(name);
        if Some(token) > fate.last_given {
            (fate.last_given, fate.deadline) = (Some(token), Some(deadline));
        }
    }

    /// Nobody waits for it any more, or for as long as the host knows; clocks are read to a millisecond.
    pub(super) fn is_unwanted(&self, name: &[u8], now: Instant) -> bool {
        let fate = &self.fates[name];
        fate.is_over() || fate.deadline.is_some_and(|deadline| now + Duration::from_millis(2) >= deadline)
    }

    pub(super) fn note_recalled(&mut self, name: &[u8], token: Token) {
        self.fate_of(name).recalled.insert(token);
    }

    pub(super) fn note_begun(&mut self, name: &[u8]) {
        let fate = self.fate_of(name);
        fate.begun += 1;
        let is_again = fate.class == Some(Class::Once) && fate.begun - fate.given_back > 1;
        assert!(!is_again, "{name:?} must not be done twice, and is begun again: {fate:?}");
    }

    pub(super) fn note_given_back(&mut self, name: &[u8]) {
        self.fate_of(name).given_back += 1;
    }

    pub(super) fn note_applied(&mut self, name: &[u8]) {
        let fate = self.fate_of(name);
        fate.applied += 1;
        assert!(fate.applied == 1 || fate.class == Some(Class::Idempotent), "{name:?} happens twice");
    }

    /// It was taken from this worker, or is over.
    pub(super) fn is_off(&self, name: &[u8], token: Token) -> bool {
        let fate = &self.fates[name];
        fate.is_over() || fate.last_given > Some(token) || fate.recalled.contains(&token)
    }

    /// Pieces count from 0, and after a reset again; the result is of the last worker that was given it, and so are
    /// the pieces before it.
    pub(super) fn note_told(&mut self, asker: Asker, told: Told) {
        let name = self.names[&asker].clone();
        let fate = self.fate_of(&name);
        assert!(!fate.is_abandoned, "{name:?} was given up and hears {told:?}");
        assert!(fate.end.is_none(), "{name:?} ended in {:?} and hears {told:?}", fate.end);
        match told {
            Told::Chunk(payload) => fate.note_chunk(&name, &payload),
            Told::Reset => (fate.source, fate.next_index) = (None, 0),
            Told::Result(payload) => fate.note_result(&name, &payload),
            Told::Error(payload) => {
                let error = rpc::decode_error(Some(asker.number()), &payload).unwrap();
                fate.claims_effect = match error.data.effect {
                    Effect::None => Some(false),
                    Effect::Committed => Some(true),
                    Effect::Unknown => None,
                };
                fate.end = Some(error.to_string());
            }
            Told::Ended { what, is_without_effect } => {
                fate.claims_effect = is_without_effect.then_some(false);
                fate.end = Some(what);
            }
        }
    }

    pub(super) fn check_end(&self) {
        for (name, fate) in &self.fates {
            assert!(fate.is_abandoned || fate.end.is_some(), "{name:?} never ends: {fate:?}");
            if let Some(claimed) = fate.claims_effect {
                assert_eq!(claimed, fate.applied > 0, "{name:?} was told an untruth: {fate:?}");
            }
        }
    }
}

impl Fate {
    fn is_over(&self) -> bool {
        self.end.is_some() || self.is_abandoned
    }

    fn note_chunk(&mut self, name: &[u8], payload: &[u8]) {
        let length = payload.iter().rposition(|byte| *byte == b'#').expect("a piece of nothing");
        let source = self.source.get_or_insert_with(|| Bytes::copy_from_slice(&payload[..length]));
        assert_eq!(
            payload[..],
            chunk_of(source, self.next_index)[..],
            "another piece than the next of {name:?}"
        );
        self.next_index += 1;
    }

    fn note_result(&mut self, name: &[u8], payload: &Bytes) {
        let expected = match self.last_given {
            Some(token) if self.class.is_some() => source_of(name, token),
            _ => Bytes::copy_from_slice(name),
        };
        assert_eq!(*payload, expected, "the result of something else: {self:?}");
        let is_one = self.source.as_ref().is_none_or(|source| source == payload);
        assert!(is_one, "{payload:?} follows pieces of {:?}", self.source);
        self.claims_effect = Some(true);
        self.end = Some("its result".to_owned());
    }
}
