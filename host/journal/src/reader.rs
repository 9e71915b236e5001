//! Reads the journal: the last lines, and new ones as they come, across rotations.
//!
//! A reader needs no writer in the same process and never writes. What is not a JSON object on a line of its own is
//! passed over; `verify` is there to report it. Lines after the last newline are not lines yet.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::backwards::Backwards;
use crate::error::{JournalError, at};
use crate::line::Severity;
use crate::shelf::{CURRENT, backup_name, backups, open_current};

/// The most lines that [`tail`] gives and that one [`Follower::poll`] gives.
pub const LINES_MAX: usize = 10_000;
const CHUNK_BYTES: u64 = 256 * 1024;

/// Which lines; the default is all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// This severity and above.
    pub severity_min: Option<Severity>,
    /// Event names that begin so.
    pub event_prefix: Option<String>,
    /// This producer exactly.
    pub producer: Option<String>,
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The oldest backup.
    Start,
    /// What comes from now on.
    Now,
    /// The last so many lines, at most [`LINES_MAX`], then what comes.
    Last(usize),
}

/// Gives lines as they come; see [`follow`].
pub struct Follower {
    dir: PathBuf,
    filter: Filter,
    first: Vec<Value>,
    /// The file read now: its number, and what of it was read.
    number: u64,
    file: Option<File>,
    offset: u64,
    /// Read, and not yet a whole line.
    carry: Vec<u8>,
}

/// The last `lines` lines that pass, oldest first, at most [`LINES_MAX`]. Reads back only as far as it must.
///
/// # Errors
/// [`JournalError::File`] when a file cannot be read; an absent journal is an empty one.
pub fn tail(dir: &Path, lines: usize, filter: &Filter) -> Result<Vec<Value>, JournalError> {
    let names = backups(dir).into_iter().map(backup_name).chain([CURRENT.to_owned()]);
    let mut found = Vec::new();
    for name in names.rev() {
        let path = dir.join(name);
        if let Ok(file) = File::open(&path) {
            let end = file.metadata().map_err(at("read", &path))?.len();
            tail_file(file, end, lines, filter, &mut found).map_err(at("read", &path))?;
        }
    }
    found.reverse();
    Ok(found)
}

/// Follows the journal in `dir`; poll it as often as lines are wanted.
///
/// # Errors
/// [`JournalError::File`] when the files cannot be read.
pub fn follow(dir: &Path, from: From, filter: Filter) -> Result<Follower, JournalError> {
    let mut follower = Follower {
        dir: dir.to_owned(),
        filter,
        first: Vec::new(),
        number: 0,
        file: None,
        offset: 0,
        carry: Vec::new(),
    };
    match from {
        From::Start => {}
        From::Now => follower.skip_to_last(0)?,
        From::Last(lines) => follower.skip_to_last(lines)?,
    }
    Ok(follower)
}

impl Filter {
    /// Does the line pass?
    pub fn passes(&self, line: &Value) -> bool {
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        let severity = line["severity_number"].as_u64().unwrap_or(0);
        self.severity_min.is_none_or(|least| severity >= u64::from(least.number()))
            && self.event_prefix.as_ref().is_none_or(|event| text("event_name").starts_with(event.as_str()))
            && self.producer.as_ref().is_none_or(|producer| text("producer") == producer)
    }
}

impl Follower {
    /// The lines that came since the last poll, oldest first, at most about [`LINES_MAX`]; empty = nothing new yet.
    /// Backups deleted before they were read are passed over.
    ///
    /// # Errors
    /// [`JournalError::File`] when a file cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Value>, JournalError> {
        let mut lines = std::mem::take(&mut self.first);
        while lines.len() < LINES_MAX {
            let has_read = self.read_chunk(&mut lines)?;
            if has_read {
                continue;
            }
            let Some((number, file)) = self.next_file() else {
                break;
            };
            // The writer wrote its last bytes to this file before it began the next: what came in between counts.
            if !self.read_chunk(&mut lines)? {
                self.begin(number, file);
            }
        }
        Ok(lines)
    }

    fn skip_to_last(&mut self, lines: usize) -> Result<(), JournalError> {
        let Some((number, file)) = open_current(&self.dir) else {
            return Ok(());
        };
        self.offset = file.metadata().map_err(at("read", &self.dir))?.len();
        self.number = number;
        let unfinished = self.tail_from_here(&file, lines)?;
        self.offset -= unfinished;
        self.file = Some(file);
        Ok(())
    }

    /// Fills `first`; returns the bytes of a line that is still being written.
    fn tail_from_here(&mut self, file: &File, lines: usize) -> Result<u64, JournalError> {
        let path = self.dir.join(CURRENT);
        let clone = || file.try_clone().map_err(at("read", &path));
        let last = Backwards::new(clone()?, self.offset).next().transpose().map_err(at("read", &path))?;
        let unfinished =
            last.filter(|piece| !piece.bytes.ends_with(b"\n")).map_or(0, |piece| piece.bytes.len());
        tail_file(clone()?, self.offset, lines, &self.filter, &mut self.first).map_err(at("read", &path))?;
        for number in backups(&self.dir).into_iter().rev().filter(|number| *number < self.number) {
            let path = self.dir.join(backup_name(number));
            if let (true, Ok(file)) = (self.first.len() < lines, File::open(&path)) {
                let end = file.metadata().map_err(at("read", &path))?.len();
                tail_file(file, end, lines, &self.filter, &mut self.first).map_err(at("read", &path))?;
            }
        }
        self.first.reverse();
        Ok(unfinished as u64)
    }

    /// The file after the one read now.
    fn next_file(&self) -> Option<(u64, File)> {
        let current = open_current(&self.dir).filter(|(number, _)| *number > self.number);
        // Listed after the current file was opened: a rotation in between shows as one more backup.
        let backup = backups(&self.dir).into_iter().find(|number| *number > self.number);
        match backup {
            Some(number) => File::open(self.dir.join(backup_name(number))).ok().map(|file| (number, file)),
            None => current,
        }
    }

    fn begin(&mut self, number: u64, file: File) {
        self.number = number;
        self.file = Some(file);
        self.offset = 0;
        self.carry.clear();
    }

    fn read_chunk(&mut self, lines: &mut Vec<Value>) -> Result<bool, JournalError> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let mut read = || {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(CHUNK_BYTES).read_to_end(&mut self.carry)
        };
        let count = read().map_err(at("read", &self.dir))?;
        self.offset += count as u64;
        self.take_lines(lines);
        Ok(count > 0)
    }

    fn take_lines(&mut self, lines: &mut Vec<Value>) {
        let Some(last_newline) = self.carry.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.carry.split_off(last_newline + 1);
        let whole = std::mem::replace(&mut self.carry, rest);
        let parsed = whole.split(|byte| *byte == b'\n').filter_map(parse);
        lines.extend(parsed.filter(|line| self.filter.passes(line)));
    }
}

fn tail_file(
    file: File,
    end: u64,
    lines: usize,
    filter: &Filter,
    found: &mut Vec<Value>,
) -> std::io::Result<()> {
    let lines = lines.min(LINES_MAX);
    for piece in Backwards::new(file, end) {
        if found.len() >= lines {
            break;
        }
        let piece = piece?;
        let line = piece.bytes.strip_suffix(b"\n").and_then(parse);
        found.extend(line.filter(|line| filter.passes(line)));
    }
    Ok(())
}

fn parse(line: &[u8]) -> Option<Value> {
    serde_json::from_slice(line).ok().filter(Value::is_object)
}
