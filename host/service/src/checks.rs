//! Readiness that explains itself: each check says what, since when, why and what to do.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use telos_inference::Minds;
use telos_journal::Journal;
use telos_kernel::Kernel;
use telos_store::Store;

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Serving, with less than it could.
    Degraded,
    /// Not serving.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it stands.
    pub state: CheckState,
    /// When it was looked at, RFC 3339.
    pub since: String,
    /// What was found.
    pub cause: String,
    /// The next command or step; absent when there is nothing to do.
    pub do_this: Option<String>,
}

impl Check {
    fn new(
        check: &'static str,
        state: CheckState,
        cause: impl Into<String>,
        do_this: Option<String>,
    ) -> Self {
        Self { check, state, since: Timestamp::now().to_string(), cause: cause.into(), do_this }
    }

    fn ok(check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(check, CheckState::Ok, cause, None)
    }
}

/// Every check of a running host, most basic first.
pub(crate) fn run(
    home: &Path,
    store: &Store,
    journal: &Journal,
    kernel: &Kernel,
    minds: &Minds,
) -> Vec<Check> {
    let mut checks = vec![
        Check::ok("home", format!("{} is this host's alone", home.display())),
        store_check(store),
        journal_check(journal),
    ];
    checks.extend(plugin_checks(kernel));
    checks.extend(mind_checks(minds));
    checks
}

fn store_check(store: &Store) -> Check {
    match store.read_only_cause() {
        None => Check::ok("store", format!("open at position {}", store.position())),
        Some(cause) => {
            let next = "free the disk or mend it; the store reopens by itself".to_owned();
            Check::new("store", CheckState::Degraded, format!("read-only: {cause}"), Some(next))
        }
    }
}

fn journal_check(journal: &Journal) -> Check {
    let stats = journal.stats();
    match &stats.degraded {
        None => Check::ok("journal", format!("{}", journal.dir().display())),
        Some(degraded) => {
            let mut check =
                Check::new("journal", CheckState::Degraded, &degraded.cause, Some(degraded.do_this.clone()));
            check.since.clone_from(&degraded.since);
            check
        }
    }
}

fn plugin_checks(kernel: &Kernel) -> Vec<Check> {
    let rows = match kernel.plugins() {
        Ok(rows) => rows,
        Err(error) => {
            let next = "`telos store verify` with the host stopped".to_owned();
            return vec![Check::new("plugins", CheckState::Failed, error.to_string(), Some(next))];
        }
    };
    if rows.is_empty() {
        let next = "copy a component into the plugin directory, or `telos plugin install FILE`".to_owned();
        return vec![Check::new("plugins", CheckState::Degraded, "none is installed", Some(next))];
    }
    rows.iter().map(plugin_check).collect()
}

fn plugin_check(row: &serde_json::Value) -> Check {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let (id, version) = (text("id"), text("version"));
    match text("state") {
        "serving" => Check::ok("plugin", format!("{id} {version} serves")),
        "staged" => {
            let next = format!("`telos plugin grant {id} all`");
            Check::new("plugin", CheckState::Degraded, format!("{id} {version} waits for grants"), Some(next))
        }
        "removed" => Check::ok("plugin", format!("{id} was removed")),
        _ => {
            let next = format!("`telos plugin rollback {id}`, or install a release that loads");
            Check::new("plugin", CheckState::Failed, format!("{id} {version} does not load"), Some(next))
        }
    }
}

fn mind_checks(minds: &Minds) -> Vec<Check> {
    let defaults = minds.list().into_iter().filter(|mind| mind.is_default);
    defaults
        .map(|mind| match mind.is_fetched {
            true => Check::ok("mind", format!("{} is here and loads when it is first asked", mind.name)),
            false => {
                let next = format!("`telos model pull {}`", mind.name);
                Check::new(
                    "mind",
                    CheckState::Degraded,
                    format!("{} is not on this machine", mind.name),
                    Some(next),
                )
            }
        })
        .collect()
}
