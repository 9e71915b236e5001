//! A clock that tests turn, and shorthand for what every test does.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use telos_journal::{
    AuditFact, Clock, Disk, Journal, JournalConfig, Line, LogFile, Severity, Surroundings, SystemDisk,
};
use telos_journal::{Filter, LINES_MAX, Report, tail, verify};

#[derive(Clone)]
pub(crate) struct TestClock {
    now: Arc<Mutex<Timestamp>>,
    zone: TimeZone,
}

impl TestClock {
    /// `zone`: in POSIX notation, so that no time zone database is needed.
    pub(crate) fn new(now: &str, zone: &str) -> TestClock {
        let now = Arc::new(Mutex::new(now.parse().unwrap()));
        TestClock { now, zone: TimeZone::posix(zone).unwrap() }
    }

    pub(crate) fn set(&self, now: &str) {
        *self.now.lock().unwrap() = now.parse().unwrap();
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings { clock: Arc::new(self.clone()), ..Surroundings::default() }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn zone(&self) -> TimeZone {
        self.zone.clone()
    }
}

pub(crate) fn open(dir: &Path) -> Journal {
    Journal::open(dir, JournalConfig::default()).unwrap()
}

/// For tests that cut files themselves: syncing would only cost time.
pub(crate) fn open_without_sync(dir: &Path) -> Journal {
    let on = Surroundings { disk: Arc::new(Unsynced), ..Surroundings::default() };
    Journal::open_in(dir, JournalConfig::default(), on).unwrap()
}

struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile(Box<dyn LogFile>);

impl Disk for Unsynced {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(UnsyncedFile(SystemDisk.open_append(path)?)))
    }
}

impl LogFile for UnsyncedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.0.cut(bytes)
    }
}

pub(crate) fn info(body: impl Into<String>) -> Line {
    Line::new(Severity::Info, "test.line", body)
}

pub(crate) fn fact(number: u64) -> AuditFact {
    AuditFact {
        number,
        at_ms: 1_000 + number,
        position: number * 2,
        kind: "plugin.activate".into(),
        subject: "counter".into(),
        detail: json!({"digest": format!("{number:064x}")}),
    }
}

/// All lines that pass, oldest first.
pub(crate) fn lines(dir: &Path, event: &str) -> Vec<Value> {
    let filter = Filter { event_prefix: Some(event.into()), ..Filter::default() };
    tail(dir, LINES_MAX, &filter).unwrap()
}

pub(crate) fn facts(dir: &Path) -> Vec<u64> {
    lines(dir, "audit.").iter().map(|line| line["fact"].as_u64().unwrap()).collect()
}

#[track_caller]
pub(crate) fn check_sound(dir: &Path) -> Report {
    let report = verify(dir).unwrap();
    assert!(report.is_sound(), "{:#?}", report.fault_list);
    report
}

pub(crate) fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn backups(dir: &Path) -> Vec<String> {
    let names = file_names(dir).into_iter();
    names.filter(|name| name != "journal.jsonl" && name != "journal.lock").collect()
}
