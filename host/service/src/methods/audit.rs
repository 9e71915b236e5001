//! `audit.*`: every decision, from the store itself.

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::RpcError;
use telos_store::{AuditRow, Store};

use super::{Methods, read_error};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(default)]
    after: u64,
    before: Option<u64>,
    limit: Option<usize>,
    subject: Option<String>,
}

const LIMIT: usize = 200;
const LIMIT_MAX: usize = 10_000;

impl Methods {
    /// The newest rows that fit the question, oldest first: what was decided last stands last.
    pub(super) fn audit_list(&self, list: List) -> Result<Value, RpcError> {
        let limit = list.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        let before = list.before.unwrap_or(u64::MAX);
        let rows = newest(&self.store, list.after, before, limit, list.subject.as_deref())?;
        Ok(json!({ "rows": rows }))
    }
}

/// The newest audit rows between two numbers, about one subject or all, in order; at most `limit` and 4 MiB of them.
pub(super) fn newest(
    store: &Store,
    after: u64,
    before: u64,
    limit: usize,
    subject: Option<&str>,
) -> Result<Vec<AuditRow>, RpcError> {
    let is_wanted = |row: &AuditRow| subject.is_none_or(|subject| row.subject == subject);
    let mut rows = store.audit_between(after, before, limit, is_wanted).map_err(read_error)?;
    rows.reverse();
    Ok(rows)
}
