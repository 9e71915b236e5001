//! The current file and its backups: names, rotation, what may be deleted.
//!
//! ```text
//! journal.jsonl              the current file; its first line says its number
//! journal.000042.jsonl       a backup; higher is later, whatever the clock did
//! journal.000042.7161.torn   what stood at byte 7161 of that file and was no line
//! ```
//! Rotation: sync → rename → delete what exceeds the backups. The new file is created by its first line. A crash
//! between any two steps leaves whole files under valid names; the next start deletes what was left over.
//! Deleted is only what has exactly such a name and, for a backup, begins with this journal's opening line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::Value;

use crate::clock::Clock;
use crate::disk::{Disk, LogFile, sync_names};
use crate::line::LINE_BYTES_MAX;
use crate::recovery::Found;

pub(crate) const CURRENT: &str = "journal.jsonl";
/// Backups beyond the configured ones that faults may leave: a failing disk never costs an old file.
const FAULT_BACKUPS_MAX: usize = 5;

pub(crate) struct Shelf {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    backups_max: usize,
    file: Option<Box<dyn LogFile>>,
    pub(crate) number: u64,
    day: Date,
    length: u64,
    lines: u64,
    /// A failed write left part of a line behind `length`.
    is_ragged: bool,
    has_new_name: bool,
}

impl Shelf {
    pub(crate) fn new(
        dir: &Path,
        disk: Arc<dyn Disk>,
        backups_max: usize,
        found: &Found,
        clock: &dyn Clock,
    ) -> Shelf {
        let shelf = Shelf {
            dir: dir.to_owned(),
            disk,
            backups_max,
            file: None,
            number: found.file,
            day: found.day.unwrap_or_else(|| today(clock)),
            length: found.length,
            lines: found.lines,
            is_ragged: false,
            has_new_name: true,
        };
        shelf.prune();
        shelf
    }

    pub(crate) fn day(&self) -> Date {
        self.day
    }

    /// Only a later day counts: a clock that runs backwards over midnight, or an hour that happens twice, rotates
    /// nothing. A file with no more than its opening line is kept.
    pub(crate) fn is_past_midnight(&mut self, today: Date) -> bool {
        let is_later = today > self.day;
        if is_later && self.lines <= 1 {
            self.day = today;
        }
        is_later && self.lines > 1
    }

    /// Would `more` bytes make the file longer than `bytes_max`?
    pub(crate) fn is_full(&self, more: usize, bytes_max: u64) -> bool {
        self.lines > 1 && self.length + more as u64 > bytes_max
    }

    /// Appends whole lines. On an error none of them counts as written, and the same bytes are to be tried again.
    pub(crate) fn append(&mut self, bytes: &[u8], lines: u64) -> io::Result<()> {
        let length = self.length;
        let is_ragged = self.is_ragged;
        let file = self.open_file()?;
        if is_ragged {
            file.cut(length)?;
        }
        let written = file.append(bytes);
        self.is_ragged = written.is_err();
        written?;
        self.length += bytes.len() as u64;
        self.lines += lines;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        if self.has_new_name {
            sync_names(&self.dir)?;
            self.has_new_name = false;
        }
        Ok(())
    }

    /// Makes the current file a backup. The caller synced it.
    pub(crate) fn rotate(&mut self, today: Date) -> io::Result<()> {
        self.move_to_backup()?;
        self.day = self.day.max(today);
        self.prune();
        Ok(())
    }

    /// Closes a file whose sync failed, for good. Its name is freed when there is room for one more backup; else
    /// the same name is opened afresh.
    pub(crate) fn abandon(&mut self) {
        self.file = None;
        let has_room = backups(&self.dir).len() < self.backups_max + FAULT_BACKUPS_MAX;
        if has_room && self.lines > 0 {
            // When even a rename fails the file is opened afresh under its name: a new handle is all that is left.
            let _ = self.move_to_backup();
        }
    }

    fn move_to_backup(&mut self) -> io::Result<()> {
        let taken = backups(&self.dir).last().copied().unwrap_or(0);
        let number = self.number.max(taken + 1);
        // Windows refuses to rename what is open without sharing; closing first costs nothing.
        self.file = None;
        fs::rename(self.dir.join(CURRENT), self.dir.join(backup_name(number)))?;
        self.number = number + 1;
        self.length = 0;
        self.lines = 0;
        self.is_ragged = false;
        self.has_new_name = true;
        Ok(())
    }

    /// Deletes the oldest backups beyond the configured number, and torn tails older than all that are left.
    fn prune(&self) {
        let ours: Vec<u64> = backups(&self.dir).into_iter().filter(|number| self.is_ours(*number)).collect();
        let excess = ours.len().saturating_sub(self.backups_max);
        for number in &ours[..excess] {
            // One that cannot be deleted is tried again at the next rotation.
            let _ = fs::remove_file(self.dir.join(backup_name(*number)));
        }
        let oldest = ours.get(excess).copied().unwrap_or(self.number);
        for (number, name) in torn_tails(&self.dir) {
            if number < oldest {
                let _ = fs::remove_file(self.dir.join(name));
            }
        }
    }

    fn is_ours(&self, number: u64) -> bool {
        read_opening(&self.dir.join(backup_name(number))).is_some()
    }

    fn open_file(&mut self) -> io::Result<&mut Box<dyn LogFile>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.open_append(&self.dir.join(CURRENT))?,
        };
        Ok(self.file.insert(file))
    }
}

pub(crate) fn today(clock: &dyn Clock) -> Date {
    clock.now().to_zoned(clock.zone()).date()
}

/// The numbers of all backups in `dir`, oldest first.
pub(crate) fn backups(dir: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = file_names(dir).iter().filter_map(|name| parse_backup_name(name)).collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn backup_name(number: u64) -> String {
    format!("journal.{number:06}.jsonl")
}

pub(crate) fn torn_name(number: u64, offset: u64) -> String {
    format!("journal.{number:06}.{offset}.torn")
}

/// What a file's first line says of it: its attributes, when that line is this journal's opening line.
pub(crate) fn read_opening(path: &Path) -> Option<Value> {
    read_opening_of(File::open(path).ok()?)
}

/// The same of an open file; moves its cursor.
pub(crate) fn read_opening_of(mut file: impl Read + Seek) -> Option<Value> {
    file.rewind().ok()?;
    let mut line = Vec::new();
    BufReader::new(file).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).ok()?;
    let mut value: Value = serde_json::from_slice(&line).ok()?;
    let is_opening = value["producer"] == "journal" && value["event_name"] == "journal.opened";
    is_opening.then(|| value["attributes"].take())
}

/// The current file and its number. One handle for both: the name may pass to another file at any time.
pub(crate) fn open_current(dir: &Path) -> Option<(u64, File)> {
    let file = File::open(dir.join(CURRENT)).ok()?;
    let number = read_opening_of(&file)?["file"].as_u64()?;
    Some((number, file))
}

fn torn_tails(dir: &Path) -> Vec<(u64, String)> {
    let names = file_names(dir).into_iter();
    names.filter_map(|name| parse_torn_name(&name).map(|number| (number, name))).collect()
}

fn parse_backup_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix("journal.")?.strip_suffix(".jsonl")?.parse().ok()?;
    (backup_name(number) == name).then_some(number)
}

fn parse_torn_name(name: &str) -> Option<u64> {
    let (number, offset) = name.strip_prefix("journal.")?.strip_suffix(".torn")?.split_once('.')?;
    let (number, offset) = (number.parse().ok()?, offset.parse().ok()?);
    (torn_name(number, offset) == name).then_some(number)
}

fn file_names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_ours() {
        for name in ["journal.000042.jsonl", "journal.1234567.jsonl"] {
            assert!(parse_backup_name(name).is_some(), "{name}");
        }
        for name in [
            "journal.jsonl",
            "journal.42.jsonl",
            "journal.0000042.jsonl",
            "journal.+00042.jsonl",
            "journal.000042.jsonl.gz",
            "my-journal.000042.jsonl",
            "journal.000042.7.jsonl",
        ] {
            assert_eq!(parse_backup_name(name), None, "{name}");
        }
        assert_eq!(parse_torn_name("journal.000042.7161.torn"), Some(42));
        assert_eq!(parse_torn_name("journal.000042.torn"), None);
        assert_eq!(parse_torn_name("journal.000042.07.torn"), None);
    }
}
