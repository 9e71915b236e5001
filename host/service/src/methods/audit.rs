//! `audit.*`: every decision, from the store itself.

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::RpcError;

use super::{Methods, read_error};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    subject: Option<String>,
}

const LIMIT: usize = 200;
const LIMIT_MAX: usize = 10_000;

impl Methods {
    pub(super) fn audit_list(&self, list: List) -> Result<Value, RpcError> {
        let limit = list.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        let mut rows = self.store.audit_after(list.after, limit).map_err(read_error)?;
        if let Some(subject) = list.subject {
            rows.retain(|row| row.subject == subject);
        }
        Ok(json!({ "rows": rows }))
    }
}
