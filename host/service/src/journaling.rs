//! What the kernel says, on its way into the journal: one producer per plugin, one for the host, and the audit rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use telos_bridge::Notice;
use telos_journal::{AuditAtHand, AuditFact, Journal, Line, Producer, Rate};
use telos_kernel::seams::{JournalLine, JournalSink, Severity};
use telos_store::{AuditRow, Store};

use crate::store_watch::StoreWatch;

/// Plugins with a budget of their own; later ones share one.
const PRODUCERS_MAX: usize = 256;
/// Audit rows read at a time.
const FACTS_AT_A_TIME: usize = 256;
/// Newest audit rows looked at for a restore: the host that starts after one finds it among the last few.
const RESTORE_LOOKBACK: u64 = 256;
/// How soon a decision shows in the journal.
const FACTS_INTERVAL: Duration = Duration::from_millis(100);

/// The journal as the kernel sees it.
pub(crate) struct KernelJournal {
    journal: Arc<Journal>,
    host: Producer,
    others: Producer,
    plugins: Mutex<HashMap<String, Producer>>,
}

impl KernelJournal {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        let host = journal.producer("host", Rate::HOST);
        let others = journal.producer("plugins", Rate::default());
        Self { journal, host, others, plugins: Mutex::default() }
    }

    fn record_of_plugin(&self, plugin: &str, line: &Line) {
        let mut plugins = self.plugins.lock();
        if let Some(producer) = plugins.get(plugin) {
            producer.record(line);
        } else if plugins.len() < PRODUCERS_MAX {
            let producer = self.journal.producer(&format!("plugin:{plugin}"), Rate::default());
            producer.record(line);
            plugins.insert(plugin.to_owned(), producer);
        } else {
            self.others.record(line);
        }
    }
}

impl JournalSink for KernelJournal {
    fn record(&self, said: JournalLine) {
        let mut line = Line::new(severity(said.severity), said.event, said.body);
        line.trace_id = said.trace;
        line.attributes = said.attributes;
        match said.plugin {
            Some(plugin) => {
                let line = line.with("plugin", plugin.clone());
                self.record_of_plugin(&plugin, &line);
            }
            None => {
                self.host.record(&line);
            }
        }
    }

    fn next_incident(&self) -> u64 {
        self.journal.next_incident()
    }
}

fn severity(severity: Severity) -> telos_journal::Severity {
    match severity {
        Severity::Trace => telos_journal::Severity::Trace,
        Severity::Debug => telos_journal::Severity::Debug,
        Severity::Info => telos_journal::Severity::Info,
        Severity::Warn => telos_journal::Severity::Warn,
        Severity::Error => telos_journal::Severity::Error,
    }
}

/// What happens among the peers of the bridge.
pub(crate) fn peer_line(notice: &Notice) -> Line {
    let severity =
        if notice.is_warning() { telos_journal::Severity::Warn } else { telos_journal::Severity::Info };
    let line = Line::new(severity, notice.event(), notice.to_string());
    match notice.session() {
        Some(session) => line.with("session", session_label(session)),
        None => line,
    }
}

/// Enough of a session's id to tell it from others, and too little to claim it.
pub(crate) fn session_label(session: telos_bridge::SessionId) -> String {
    format!("{:08x}", session.client >> 96)
}

/// The store's audit, for a journal that may have seen a newer one before a restore.
pub(crate) fn audit_at_hand(store: &Store) -> AuditAtHand {
    // Numbers have no gaps, so their count is the newest. A store that cannot be read says so elsewhere.
    let newest = store.counts().map_or(u64::MAX, |counts| counts.audit_rows);
    let rows = store.audit_after(newest.saturating_sub(RESTORE_LOOKBACK), usize::MAX).unwrap_or_default();
    let restored = rows.iter().rev().find(|row| row.kind == "store.restored");
    AuditAtHand {
        newest,
        restored_after: restored.map(|row| row.number - 1),
        restored_at_ms: restored.map_or(0, |row| row.at_ms),
        position: store.position().get(),
    }
}

/// Shows every decision in the journal, from the last one it shows: a decision is never dropped.
pub(crate) struct Facts {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Facts {
    pub(crate) fn follow(store: Store, journal: Arc<Journal>) -> std::io::Result<Self> {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("telos-facts".into()).spawn(move || {
            let mut cursor = journal.audit_cursor();
            let (mut watch, host) = (StoreWatch::default(), journal.producer("host", Rate::HOST));
            loop {
                // Asked before reading, so that the last round sees everything decided before the stop.
                let is_last = is_stopping.load(std::sync::atomic::Ordering::Acquire);
                journal.note_position(store.position().get());
                for line in watch.step(&store.standing()) {
                    host.record(&line);
                }
                let was_full = show_some(&store, &journal, &mut cursor);
                if is_last && !was_full {
                    return;
                }
                if !was_full {
                    std::thread::park_timeout(FACTS_INTERVAL);
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn show_some(store: &Store, journal: &Journal, cursor: &mut u64) -> bool {
    let Ok(rows) = store.audit_after(*cursor, FACTS_AT_A_TIME) else {
        return false;
    };
    let Some(last) = rows.last().map(|row| row.number) else {
        return false;
    };
    let was_full = rows.len() == FACTS_AT_A_TIME;
    if journal.record_facts(rows.into_iter().map(fact).collect()).is_err() {
        return false;
    }
    *cursor = last;
    was_full
}

fn fact(row: AuditRow) -> AuditFact {
    AuditFact {
        number: row.number,
        at_ms: row.at_ms,
        position: row.position.get(),
        kind: row.kind,
        subject: row.subject,
        detail: row.detail,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use telos_journal::{JournalConfig, verify};

    use super::*;

    fn said(plugin: Option<&str>) -> JournalLine {
        JournalLine {
            severity: Severity::Info,
            event: "plugin.log",
            body: "on and on".into(),
            trace: None,
            plugin: plugin.map(ToOwned::to_owned),
            attributes: Map::new(),
        }
    }

    #[test]
    #[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
    fn plugins_that_flood_lose_lines_of_their_own_budgets_and_the_host_loses_none() {
        const FLOOD: u64 = 2_000;
        let home = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(home.path(), JournalConfig::default()).unwrap());
        let kernel = KernelJournal::new(Arc::clone(&journal));
        for number in 0..PRODUCERS_MAX {
            kernel.record(said(Some(&format!("p{number}"))));
        }
        for plugin in ["p0", "latecomer"] {
            (0..FLOOD).for_each(|_| kernel.record(said(Some(plugin))));
        }
        kernel.record(said(None));
        drop(kernel);
        Arc::into_inner(journal).unwrap().close();
        let report = verify(home.path()).unwrap();
        let producers = &report.runs[0].producers;
        for flooder in ["plugin:p0", "plugins"] {
            let (written, declared) = (producers[flooder].written, producers[flooder].declared);
            assert!(
                declared > 0 && written >= 500 && written + declared >= FLOOD,
                "{flooder}: {written}, {declared}"
            );
        }
        for quiet in ["host", "plugin:p1"] {
            assert_eq!((producers[quiet].written, producers[quiet].missing), (1, 0), "{quiet}");
        }
    }
}
