//! Tickets, kept as objects of the store: what was decided about behaviour is there with everything else, has history,
//! and is decided in one commit with the seat that it leads to.

use std::str::FromStr;

use serde_json::Value;
use telos_store::{
    CommitError, ComponentId, Json, ObjectId, ObjectName, ReadError, Slot, Store, Unit, Vote, WriteError,
};

use crate::policy::Policy;
use crate::ticket::{Attempt, Ticket};

const TICKETS: &str = "forge/ticket/";
const POLICY: &str = "forge/policy";
const TICKET_SLOT: &str = "ticket";
const HOME_SLOT: &str = "home";
const ATTEMPT_SLOT: &str = "attempt-";
/// Names that are read at once.
const PAGE: usize = 1_000;

/// Why something was not kept, or not read.
#[derive(Debug, thiserror::Error)]
#[error("the forge's records: {0}")]
pub struct KeepError(String);

impl From<WriteError> for KeepError {
    fn from(error: WriteError) -> Self {
        Self(error.to_string())
    }
}

impl From<ReadError> for KeepError {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

impl From<CommitError> for KeepError {
    fn from(error: CommitError) -> Self {
        Self(error.to_string())
    }
}

/// Where tickets and policies are.
#[derive(Clone)]
pub(crate) struct Keep(pub(crate) Store);

impl Keep {
    /// Every ticket, in order of numbers, with the object that keeps it.
    pub(crate) fn tickets(&self) -> Result<Vec<(ObjectId, Ticket)>, KeepError> {
        let (mut tickets, mut after) = (Vec::new(), String::new());
        loop {
            let names = self.0.begin().names(TICKETS, &after, PAGE)?;
            let Some((last, _)) = names.last() else { return Ok(tickets) };
            after = last.as_str().to_owned();
            for (_, id) in &names {
                tickets.push((*id, self.read(*id)?));
            }
        }
    }

    fn read(&self, id: ObjectId) -> Result<Ticket, KeepError> {
        let object = self.0.begin().object(id)?.ok_or(ReadError::NoSuchObject(id))?;
        let value = |slot: &str| object.value(slot).map(|value| value.to_value());
        let told = |error: serde_json::Error| KeepError(format!("ticket {id}: {error}"));
        let mut ticket: Ticket =
            serde_json::from_value(value(TICKET_SLOT).unwrap_or_default()).map_err(told)?;
        while let Some(attempt) = value(&attempt_slot(ticket.attempts.len())) {
            let attempt: Attempt = serde_json::from_value(attempt).map_err(told)?;
            ticket.attempts.push(attempt);
        }
        Ok(ticket)
    }

    /// Keeps a new ticket; answers its object.
    pub(crate) fn open(&self, ticket: &Ticket) -> Result<ObjectId, KeepError> {
        let mut unit = self.0.begin();
        let id = unit.create(ComponentId::operator(), 1, Vec::new())?;
        let name = format!("{TICKETS}{:08}", ticket.number);
        unit.bind(&ObjectName::new(&name).map_err(WriteError::from)?, id)?;
        for (slot, value) in Self::slots(ticket)? {
            unit.set_slot(id, &slot, Slot::Value(value))?;
        }
        let detail = serde_json::json!({
            "ticket": ticket.number, "selector": ticket.selector, "prototype": ticket.prototype,
        });
        unit.audit("forge.opened", &ticket.component, detail)?;
        self.0.decide(unit, Vote::default()).wait()?;
        Ok(id)
    }

    /// Keeps what became of a ticket, with an audit row of this kind where that is a decision.
    pub(crate) fn save(
        &self,
        id: ObjectId,
        ticket: &Ticket,
        decision: Option<&str>,
    ) -> Result<(), KeepError> {
        self.save_in(self.0.begin(), id, ticket, decision)
    }

    /// The same for behaviour that serves no more: in the same commit its prototype does not understand the message any
    /// more, so that whoever sends it joins the ticket.
    pub(crate) fn save_untaught(
        &self,
        id: ObjectId,
        ticket: &Ticket,
        decision: Option<&str>,
    ) -> Result<(), KeepError> {
        let mut unit = self.0.begin();
        let prototype =
            ticket.prototype.parse().map_err(|_| KeepError(format!("no object {}", ticket.prototype)))?;
        let slot = unit.object(prototype)?.and_then(|object| object.slots.get(&ticket.selector).cloned());
        if matches!(slot, Some(Slot::Method(method)) if method.component.as_str() == ticket.component) {
            unit.remove_slot(prototype, &ticket.selector)?;
        }
        self.save_in(unit, id, ticket, decision)
    }

    fn save_in(
        &self,
        mut unit: Unit,
        id: ObjectId,
        ticket: &Ticket,
        decision: Option<&str>,
    ) -> Result<(), KeepError> {
        for (slot, value) in Self::slots(ticket)? {
            unit.set_slot(id, &slot, Slot::Value(value))?;
        }
        if let Some(kind) = decision {
            let detail = serde_json::json!({ "ticket": ticket.number, "cause": ticket.cause });
            unit.audit(kind, &ticket.component, detail)?;
        }
        self.0.decide(unit, Vote::default()).wait()?;
        Ok(())
    }

    /// What a ticket is, as slots of its object: itself without attempts, and each attempt.
    pub(crate) fn slots(ticket: &Ticket) -> Result<Vec<(String, Json)>, KeepError> {
        let head = Ticket { attempts: Vec::new(), ..ticket.clone() };
        let json = |value: serde_json::Result<Value>| {
            let value = value.map_err(|error| KeepError(error.to_string()))?;
            Json::from_value(&value).map_err(|error| KeepError(error.to_string()))
        };
        let mut slots = vec![(TICKET_SLOT.to_owned(), json(serde_json::to_value(&head))?)];
        for (place, attempt) in ticket.attempts.iter().enumerate() {
            slots.push((attempt_slot(place), json(serde_json::to_value(attempt))?));
        }
        Ok(slots)
    }

    /// What the home wants, and each object that has a word of its own.
    pub(crate) fn policies(&self) -> Result<(Policy, Vec<(ObjectId, Policy)>), KeepError> {
        let mut unit = self.0.begin();
        let name = ObjectName::new(POLICY).map_err(WriteError::from)?;
        let Some(id) = unit.find(&name)? else { return Ok((Policy::default(), Vec::new())) };
        let object = unit.object(id)?.ok_or(ReadError::NoSuchObject(id))?;
        let (mut home, mut objects) = (Policy::default(), Vec::new());
        for (slot, value) in &object.slots {
            let Slot::Value(value) = value else { continue };
            let Some(policy) = value.to_value().as_str().and_then(|text| Policy::from_str(text).ok()) else {
                continue;
            };
            match (slot.as_str(), ObjectId::from_str(slot)) {
                (HOME_SLOT, _) => home = policy,
                (_, Ok(object)) => objects.push((object, policy)),
                _ => {}
            }
        }
        Ok((home, objects))
    }

    /// Sets what the home wants, or one object.
    pub(crate) fn set_policy(&self, object: Option<ObjectId>, policy: Policy) -> Result<(), KeepError> {
        let mut unit = self.0.begin();
        let name = ObjectName::new(POLICY).map_err(WriteError::from)?;
        let id = match unit.find(&name)? {
            Some(id) => id,
            None => {
                let id = unit.create(ComponentId::operator(), 1, Vec::new())?;
                unit.bind(&name, id)?;
                id
            }
        };
        let slot = object.map_or_else(|| HOME_SLOT.to_owned(), |object| object.to_string());
        let value =
            Json::from_value(&Value::from(policy.as_str())).map_err(|error| KeepError(error.to_string()))?;
        unit.set_slot(id, &slot, Slot::Value(value))?;
        unit.audit("forge.policy", &slot, serde_json::json!({ "policy": policy }))?;
        self.0.decide(unit, Vote::default()).wait()?;
        Ok(())
    }
}

fn attempt_slot(place: usize) -> String {
    format!("{ATTEMPT_SLOT}{}", place + 1)
}
