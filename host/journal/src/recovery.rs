//! What an earlier run left: reads the files back, sets a torn tail aside, finds the cursors.
//!
//! The journal's own lines `journal.opened`, `journal.incidents` and `journal.closed` carry the cursors of their
//! moment, so reading back ends at the latest of them: at once after a clean end, after one run's lines otherwise.
//! Repeating an interrupted recovery gives the same result: the tail is copied and synced before it is cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use crate::backwards::{Backwards, Piece};
use crate::disk::sync_names;
use crate::error::{JournalError, at};
use crate::shelf::{CURRENT, backup_name, backups, read_opening, torn_name};

/// What there is to go on with.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The current file's number.
    pub(crate) file: u64,
    /// The day it belongs to, when it exists.
    pub(crate) day: Option<Date>,
    pub(crate) length: u64,
    /// Not counted, only "none" (0) or "more than its opening line" (2).
    pub(crate) lines: u64,
    pub(crate) audit_cursor: u64,
    /// The newest position of the store that was written down.
    pub(crate) position: Option<u64>,
    /// When its last line was written, Unix milliseconds.
    pub(crate) last_ms: Option<u64>,
    /// Why the cursor was set back, when it was: the audit was.
    pub(crate) set_back: Option<&'static str>,
    pub(crate) incident_next: u64,
    pub(crate) torn: Option<Torn>,
}

/// What was no line and now has its own file.
#[derive(Debug)]
pub(crate) struct Torn {
    pub(crate) file_name: String,
    pub(crate) bytes: u64,
}

/// Reads back what is in `dir`; afterwards the current file, if there is one, consists of whole lines.
pub(crate) fn recover(dir: &Path) -> Result<Found, JournalError> {
    let path = dir.join(CURRENT);
    let newest = backups(dir).last().copied().unwrap_or(0);
    let mut found = Found { file: newest + 1, incident_next: 1, ..Found::default() };
    if path.exists() {
        recover_current(dir, &path, &mut found).map_err(at("recover", &path))?;
    }
    let cursors = read_cursors(dir).map_err(at("read back", dir))?;
    (found.audit_cursor, found.position, found.last_ms) = (cursors.audit, cursors.position, cursors.last_ms);
    found.incident_next = cursors.incident_next.max(1);
    Ok(found)
}

fn recover_current(dir: &Path, path: &Path, found: &mut Found) -> io::Result<()> {
    let opening = read_opening(path);
    if let Some(number) = opening.as_ref().and_then(|opening| opening["file"].as_u64()) {
        found.file = found.file.max(number);
    }
    let is_ours = opening.is_some();
    let length = fs::metadata(path)?.len();
    let keep = if is_ours { whole_lines_end(path, length)? } else { 0 };
    if keep < length {
        found.torn = Some(set_aside(dir, path, found.file, keep, length)?);
    }
    found.length = keep;
    found.lines = if keep == 0 { 0 } else { 2 };
    found.day = opening.and_then(|opening| opening["day"].as_str()?.parse().ok());
    Ok(())
}

/// The end of the last line that is one: ends in a newline and is a JSON object.
fn whole_lines_end(path: &Path, length: u64) -> io::Result<u64> {
    for piece in Backwards::new(File::open(path)?, length) {
        let piece = piece?;
        if parse(&piece).is_some() {
            return Ok(piece.offset + piece.bytes.len() as u64);
        }
    }
    Ok(0)
}

fn parse(piece: &Piece) -> Option<Value> {
    let text = piece.bytes.strip_suffix(b"\n")?;
    serde_json::from_slice(text).ok().filter(Value::is_object)
}

fn set_aside(dir: &Path, path: &Path, number: u64, keep: u64, length: u64) -> io::Result<Torn> {
    let file_name = torn_name(number, keep);
    let mut source = OpenOptions::new().read(true).write(true).open(path)?;
    source.seek(SeekFrom::Start(keep))?;
    let mut target = File::create(dir.join(&file_name))?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    sync_names(dir)?;
    source.set_len(keep)?;
    source.sync_all()?;
    Ok(Torn { file_name, bytes: length - keep })
}

#[derive(Default)]
struct Cursors {
    audit: u64,
    position: Option<u64>,
    last_ms: Option<u64>,
    incident_next: u64,
}

impl Cursors {
    fn note(&mut self, audit: u64, position: &Value) {
        self.audit = self.audit.max(audit);
        self.position = self.position.max(position.as_u64());
    }
}

/// From the newest file back to the latest line that states the cursors.
fn read_cursors(dir: &Path) -> io::Result<Cursors> {
    let mut cursors = Cursors::default();
    let names = backups(dir).into_iter().map(backup_name).chain([CURRENT.to_owned()]);
    for name in names.rev() {
        let path = dir.join(name);
        if path.exists() && read_cursors_back(&path, &mut cursors)? {
            break;
        }
    }
    Ok(cursors)
}

/// True = found a line that states them; facts after it are counted in.
fn read_cursors_back(path: &Path, cursors: &mut Cursors) -> io::Result<bool> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    for piece in Backwards::new(file, length) {
        let piece = piece?;
        if cursors.last_ms.is_none() {
            cursors.last_ms = parse(&piece).and_then(|line| written_at(&line));
        }
        if !may_state_cursors(&piece.bytes) {
            continue;
        }
        let Some(line) = parse(&piece) else { continue };
        if let Some(number) = line["fact"].as_u64() {
            cursors.note(number, &line["attributes"]["position"]);
        }
        if line["producer"] == "journal" && line["attributes"]["incident_next"].is_u64() {
            let stated = &line["attributes"];
            cursors.note(stated["audit_cursor"].as_u64().unwrap_or(0), &stated["position"]);
            cursors.incident_next = stated["incident_next"].as_u64().unwrap_or(1);
            return Ok(true);
        }
    }
    Ok(false)
}

fn written_at(line: &Value) -> Option<u64> {
    let at: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// A cheap look before parsing: most lines are neither facts nor the journal's own.
fn may_state_cursors(bytes: &[u8]) -> bool {
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    has(b"\"producer\":\"journal\"") || has(b"\"producer\":\"audit\"")
}
