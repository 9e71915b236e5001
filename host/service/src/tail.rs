//! The last lines of a journal as they are asked for, from a host or without one.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use telos_bridge::{Effect, RpcError};
use telos_journal::{Filter, Severity, tail};

const LINES: usize = 20;
const LINES_MAX: usize = 10_000;

/// Which lines, and whether the ones that come are wanted too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    lines: Option<usize>,
    #[serde(default)]
    pub(crate) follow: bool,
    severity: Option<String>,
    event: Option<String>,
}

impl Asked {
    pub(crate) fn lines(&self) -> usize {
        self.lines.unwrap_or(LINES).min(LINES_MAX)
    }

    /// # Errors
    /// Kind `invalid` for a severity that there is not.
    pub(crate) fn filter(&self) -> Result<Filter, RpcError> {
        let parsed =
            self.severity.as_ref().map(|text| Severity::parse(text).ok_or_else(|| no_severity(text)));
        let severity_min = parsed.transpose()?;
        Ok(Filter { severity_min, event_prefix: self.event.clone(), ..Filter::default() })
    }

    /// The lines that are in the files now, oldest first.
    ///
    /// # Errors
    /// As [`Asked::filter`]; kind `journal` when a file cannot be read.
    pub(crate) fn read(&self, dir: &Path) -> Result<Vec<Value>, RpcError> {
        tail(dir, self.lines(), &self.filter()?).map_err(unreadable)
    }
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> RpcError {
    RpcError::new("journal", Effect::None, format!("the journal cannot be read: {error}"))
}

fn no_severity(text: &str) -> RpcError {
    let message = format!("there is no severity `{text}`; there are trace, debug, info, warn, error, fatal");
    RpcError::new("invalid", Effect::None, message)
}
