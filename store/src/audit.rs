//! Audit rows: every decision is a fact, in the same commit that decided it, numbered without gaps, never dropped.

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::id::Position;
use crate::tables::{self, META_AUDIT, Tables};

/// The kind of the rows about objects that were forgotten; the subject is the object's id.
pub(crate) const OBJECT_FORGOTTEN: &str = "object.forgotten";

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// From 1, without gaps.
    pub number: u64,
    /// When it was decided, Unix milliseconds.
    pub at_ms: u64,
    /// The commit that decided it.
    pub position: Position,
    /// What kind of decision: `swap`, `grant`, `dead-letter`.
    pub kind: String,
    /// What it was about: a component, an object, a post.
    pub subject: String,
    /// The rest.
    pub detail: serde_json::Value,
}

/// An audit row before its commit numbers and dates it.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) detail: serde_json::Value,
}

impl Fact {
    pub(crate) fn bytes(&self) -> usize {
        self.kind.len() + self.subject.len() + self.detail.to_string().len()
    }
}

/// Numbers, dates and writes a fact within the commit that decides it.
pub(crate) fn write(
    tables: &mut Tables<'_>,
    fact: &Fact,
    position: Position,
    at_ms: u64,
) -> Result<(), Failure> {
    let number = tables::add_to_meta(tables, META_AUDIT, 1)?;
    let Fact { kind, subject, detail } = fact.clone();
    let row = AuditRow { number, at_ms, position, kind, subject, detail };
    tables.audit.open()?.insert(number, tables::encode_json("audit", &row)?.as_slice())?;
    Ok(())
}
