//! Checks a journal against its promises: every line parses, no number is missing, every loss is declared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{JournalError, at};
use crate::line::LINE_BYTES_MAX;
use crate::shelf::{CURRENT, backup_name, backups};
use crate::writer::{REASON_REPLACED, REASON_RESTORED};

/// The most single faults that a report lists; all are counted.
const FAULTS_LISTED_MAX: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Files read.
    pub files: u64,
    /// Lines read, bad ones included.
    pub lines: u64,
    /// Things that must not be.
    pub faults: u64,
    /// The first of them, in words: where, and what.
    pub fault_list: Vec<String>,
    /// Audit rows, each counted once.
    pub facts: u64,
    /// Audit rows said again because a sync had failed.
    pub facts_repeated: u64,
    /// Writer lives, in the order of their first line.
    pub runs: Vec<RunReport>,
}

/// One writer life.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunReport {
    /// Its random id.
    pub run: String,
    /// Its first line that is still there; more than 1 when earlier ones were in deleted backups.
    pub first_sequence: u64,
    /// Its last line.
    pub last_sequence: u64,
    /// Did it end with `journal.closed`?
    pub is_closed: bool,
    /// By name.
    pub producers: BTreeMap<String, ProducerReport>,
}

/// One producer in one run. Missing equals declared, except in a run that was killed or still goes on (a loss may be
/// not yet declared) and in one whose beginning is no longer there (declarations may be of lines before it).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProducerReport {
    /// Lines in the files.
    pub written: u64,
    /// Numbers that no line has.
    pub missing: u64,
    /// Lines that loss records say were dropped.
    pub declared: u64,
    #[serde(skip)]
    highest: u64,
}

impl Report {
    /// Does the journal keep its promises?
    pub fn is_sound(&self) -> bool {
        self.faults == 0
    }

    fn fault(&mut self, what: String) {
        self.faults += 1;
        if self.fault_list.len() < FAULTS_LISTED_MAX {
            self.fault_list.push(what);
        }
    }
}

/// Reads all files of the journal in `dir`, oldest first.
///
/// A last line without a newline is not counted: the writer may be at it.
///
/// # Errors
/// [`JournalError::File`] when a file cannot be read.
pub fn verify(dir: &Path) -> Result<Report, JournalError> {
    let mut check = Check::default();
    let names = backups(dir).into_iter().map(backup_name).chain([CURRENT.to_owned()]);
    for name in names {
        let path = dir.join(&name);
        if let Ok(file) = File::open(&path) {
            check.read_file(file, &name).map_err(at("read", &path))?;
        }
    }
    Ok(check.finish())
}

#[derive(Default)]
struct Check {
    report: Report,
    last_fact: u64,
}

impl Check {
    fn read_file(&mut self, file: File, name: &str) -> std::io::Result<()> {
        self.report.files += 1;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                break;
            }
            self.read_line(&line, &format!("{name} line {number}"));
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], place: &str) {
        self.report.lines += 1;
        if line.len() > LINE_BYTES_MAX {
            self.report.fault(format!("{place}: {} bytes, allowed are {LINE_BYTES_MAX}", line.len()));
        }
        match serde_json::from_slice::<Value>(line) {
            Ok(line) if line.is_object() => self.check_line(&line, place),
            Ok(_) => self.report.fault(format!("{place}: not a JSON object")),
            Err(error) => self.report.fault(format!("{place}: {error}")),
        }
    }

    fn check_line(&mut self, line: &Value, place: &str) {
        let number = |field: &str| line[field].as_u64().unwrap_or(0);
        self.check_sequence(line["run"].as_str().unwrap_or_default(), number("sequence"), place);
        self.check_producer(line, number("producer_sequence"), place);
        if line["producer"] == "journal" {
            self.note_own(line);
        }
        if let Some(fact) = line["fact"].as_u64() {
            self.check_fact(fact, line["repeated"] == true, place);
        }
    }

    fn check_sequence(&mut self, run: &str, sequence: u64, place: &str) {
        let is_first_ever = self.report.runs.is_empty();
        if self.report.runs.last().is_none_or(|last| last.run != run) {
            if sequence != 1 && !is_first_ever {
                self.report.fault(format!("{place}: run {run} begins with {sequence}"));
            }
            self.report.runs.push(RunReport {
                run: run.to_owned(),
                first_sequence: sequence,
                last_sequence: sequence.saturating_sub(1),
                ..RunReport::default()
            });
        }
        let Some(current) = self.report.runs.last_mut() else {
            return;
        };
        let expected = current.last_sequence + 1;
        current.last_sequence = sequence;
        if sequence != expected {
            self.report.fault(format!("{place}: sequence {sequence} where {expected} belongs"));
        }
    }

    fn check_producer(&mut self, line: &Value, sequence: u64, place: &str) {
        let producer = line["producer"].as_str().unwrap_or_default();
        let Some(run) = self.report.runs.last_mut() else {
            return;
        };
        let starts_at = if run.first_sequence > 1 { sequence.saturating_sub(1) } else { 0 };
        let entry = run.producers.entry(producer.to_owned());
        let account =
            entry.or_insert_with(|| ProducerReport { highest: starts_at, ..ProducerReport::default() });
        account.written += 1;
        let is_rising = sequence > account.highest;
        if is_rising {
            account.missing += sequence - account.highest - 1;
            account.highest = sequence;
        } else {
            self.report.fault(format!("{place}: {producer} says {sequence} again"));
        }
    }

    fn note_own(&mut self, line: &Value) {
        let attributes = &line["attributes"];
        let Some(run) = self.report.runs.last_mut() else {
            return;
        };
        if line["event_name"] == "journal.closed" {
            run.is_closed = true;
        }
        // The audit was set back with its store, and goes on from there.
        if [REASON_RESTORED, REASON_REPLACED].iter().any(|reason| attributes["reason"] == **reason) {
            self.last_fact = attributes["audit_cursor"].as_u64().unwrap_or(0);
        }
        if line["event_name"] == "journal.loss" {
            let account = run
                .producers
                .entry(attributes["producer"].as_str().unwrap_or_default().to_owned())
                .or_default();
            let through = attributes["through"].as_u64().unwrap_or(0);
            account.declared += attributes["total"].as_u64().unwrap_or(0);
            account.missing += through.saturating_sub(account.highest);
            account.highest = account.highest.max(through);
        }
    }

    fn check_fact(&mut self, fact: u64, is_repeated: bool, place: &str) {
        if is_repeated {
            self.report.facts_repeated += 1;
        } else if fact > self.last_fact {
            self.report.facts += 1;
        } else {
            self.report.fault(format!("{place}: audit row {fact} after {}", self.last_fact));
        }
        self.last_fact = self.last_fact.max(fact);
    }

    fn finish(mut self) -> Report {
        let mut undeclared = Vec::new();
        for run in self.report.runs.iter().filter(|run| run.first_sequence == 1) {
            for (name, producer) in &run.producers {
                let is_wrong = producer.missing < producer.declared
                    || (run.is_closed && producer.missing > producer.declared);
                if is_wrong {
                    let (missing, declared) = (producer.missing, producer.declared);
                    undeclared
                        .push(format!("run {}: {name} misses {missing}, declared are {declared}", run.run));
                }
            }
        }
        for fault in undeclared {
            self.report.fault(fault);
        }
        self.report
    }
}
