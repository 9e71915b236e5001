//! A disk in memory that remembers what was done to it, and what a power cut at any moment may leave.
//!
//! ```text
//! before the last sync    there, as written
//! since the last sync     each write kept, lost, or torn between 512-byte sectors; in any order; garbage where
//!                         a sector was under way; each change of length kept or lost
//! ```
//! Kinder than the worst disk in two ways that redb relies on: bytes that no write was under way to never change,
//! and the first sector, which holds redb's header, is written whole or not at all.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use telos_store::Backend;

use crate::ledger::Said;
use crate::random::Random;

const SECTOR: usize = 512;

/// What happened to a disk, in order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write {
        offset: usize,
        data: Arc<[u8]>,
    },
    SetLen(usize),
    Sync,
    /// Not the disk's: what a client did or was told between two operations.
    Said(Said),
}

/// How a disk answers a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncs {
    Honest,
    /// It says that all is safe and does nothing.
    Lying,
    /// They take a while, and every so many one fails. Nothing is recorded.
    Slow {
        failing_every: Option<u64>,
    },
    /// The sync of that number fails once, and what was under way is never written later either, though reads
    /// still show it: as a page cache does.
    FailingAt(u64),
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimulatedDisk {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    bytes: Vec<u8>,
    recording: Recording,
    syncs: Syncs,
    synced: u64,
}

/// A disk's past: how it began, and what happened to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    start: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

/// A recording as of one moment.
pub(crate) struct Moment<'a> {
    durable: Vec<u8>,
    pending: Vec<&'a Event>,
    rest: std::slice::Iter<'a, Event>,
}

/// What a power cut does to the writes that were under way.
#[derive(Clone, Copy, Debug)]
enum Cut {
    LosesAll,
    KeepsAll,
    KeepsSome,
    KeepsOne,
    LosesOne,
    Tears,
    Garbles,
}

const CUTS: [Cut; 7] =
    [Cut::LosesAll, Cut::KeepsAll, Cut::KeepsSome, Cut::KeepsOne, Cut::LosesOne, Cut::Tears, Cut::Garbles];

impl SimulatedDisk {
    pub(crate) fn new(start: Vec<u8>, syncs: Syncs) -> SimulatedDisk {
        let recording = Recording { start: start.clone(), events: Vec::new() };
        SimulatedDisk { disk: Arc::new(Mutex::new(Disk { bytes: start, recording, syncs, synced: 0 })) }
    }

    /// Places what a client did or was told among the operations.
    pub(crate) fn hear(&self, said: Said) {
        self.disk.lock().recording.events.push(Event::Said(said));
    }

    /// What happened so far.
    pub(crate) fn recording(&self) -> Recording {
        self.disk.lock().recording.clone()
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.disk.lock().synced
    }
}

impl Disk {
    fn record(&mut self, event: Event) {
        if !matches!(self.syncs, Syncs::Slow { .. }) {
            self.recording.events.push(event);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.synced += 1;
        match self.syncs {
            Syncs::Slow { failing_every: Some(every) } if self.synced.is_multiple_of(every) => {
                return Err(io::Error::other("the disk refused"));
            }
            Syncs::Lying | Syncs::Slow { .. } => {}
            Syncs::FailingAt(number) if number == self.synced => {
                self.forget_pending();
                return Err(io::Error::other("the disk could not write back"));
            }
            Syncs::Honest | Syncs::FailingAt(_) => self.recording.events.push(Event::Sync),
        }
        Ok(())
    }

    /// What was under way since the last sync never reaches the disk.
    fn forget_pending(&mut self) {
        let events = &mut self.recording.events;
        let synced = events.iter().rposition(|event| matches!(event, Event::Sync)).map_or(0, |at| at + 1);
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            at <= synced || !matches!(event, Event::Write { .. })
        });
    }
}

impl Recording {
    /// The moment before anything happened.
    pub(crate) fn begin(&self) -> Moment<'_> {
        Moment { durable: self.start.clone(), pending: Vec::new(), rest: self.events.iter() }
    }
}

impl<'a> Moment<'a> {
    /// Lets the next thing happen.
    pub(crate) fn advance(&mut self) -> Option<&'a Event> {
        let event = self.rest.next()?;
        match event {
            Event::Sync => {
                self.pending.drain(..).for_each(|event| apply(&mut self.durable, event));
            }
            Event::Said(_) => {}
            Event::Write { .. } | Event::SetLen(_) => self.pending.push(event),
        }
        Some(event)
    }

    /// What is left when the power is cut now.
    pub(crate) fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut left = self.durable.clone();
        let cut = CUTS[random.index(CUTS.len())];
        let chosen = random.index(self.pending.len().max(1));
        let is_kept = |index: usize, random: &mut Random| match cut {
            Cut::LosesAll => false,
            Cut::KeepsAll | Cut::Tears | Cut::Garbles => true,
            Cut::KeepsSome => random.once_in(2),
            Cut::KeepsOne => index == chosen,
            Cut::LosesOne => index != chosen,
        };
        let mut writes = Vec::new();
        for (index, event) in self.pending.iter().enumerate() {
            let is_kept = is_kept(index, random);
            match event {
                Event::Write { offset, data } if is_kept => writes.push((*offset, data)),
                Event::SetLen(_) if is_kept => apply(&mut left, event),
                _ => {}
            }
        }
        if !matches!(cut, Cut::KeepsAll) {
            random.shuffle(&mut writes);
        }
        for (offset, data) in writes {
            match cut {
                Cut::Tears => tear(&mut left, offset, data, random),
                Cut::Garbles => garble(&mut left, offset, data, random),
                _ => put(&mut left, offset, data),
            }
        }
        left
    }
}

/// Some of a write's sectors: the first ones, the last ones, or some in the middle.
fn tear(bytes: &mut [u8], offset: usize, data: &[u8], random: &mut Random) {
    let sectors = data.len().div_ceil(SECTOR);
    let (one, other) = (random.index(sectors + 1), random.index(sectors + 1));
    let kept = match random.below(3) {
        0 => 0..one,
        1 => one..sectors,
        _ => one.min(other)..one.max(other),
    };
    for sector in kept {
        let from = sector * SECTOR;
        put(bytes, offset + from, &data[from..data.len().min(from + SECTOR)]);
    }
}

/// A write's bytes, or others in their place; the header's sector is one or the other.
fn garble(bytes: &mut [u8], offset: usize, data: &[u8], random: &mut Random) {
    if offset < SECTOR || random.once_in(2) {
        return tear(bytes, offset, data, random);
    }
    let garbage: Vec<u8> = data.iter().map(|_| random.next().to_le_bytes()[0]).collect();
    put(bytes, offset, &garbage);
}

fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { offset, data } => put(bytes, *offset, data),
        Event::SetLen(len) => bytes.resize(*len, 0),
        Event::Sync | Event::Said(_) => {}
    }
}

/// What lies past the end is lost: the change of length that it needed was.
fn put(bytes: &mut [u8], offset: usize, data: &[u8]) {
    let end = bytes.len().min(offset + data.len());
    if offset < end {
        bytes[offset..end].copy_from_slice(&data[..end - offset]);
    }
}

impl Backend for SimulatedDisk {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        Ok(Box::new(self.clone()))
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("len", &self.disk.lock().bytes.len()).finish()
    }
}

impl redb::StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let disk = self.disk.lock();
        let found = disk.bytes.get(start..start + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::other("past the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut disk = self.disk.lock();
        disk.bytes.resize(len, 0);
        disk.record(Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let is_slow = matches!(self.disk.lock().syncs, Syncs::Slow { .. });
        // Long enough for others to begin, read and write meanwhile.
        (0..if is_slow { 40 } else { 0 }).for_each(|_| std::thread::yield_now());
        self.disk.lock().sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut disk = self.disk.lock();
        if offset + data.len() > disk.bytes.len() {
            return Err(io::Error::other("past the end"));
        }
        put(&mut disk.bytes, offset, data);
        disk.record(Event::Write { offset, data: data.into() });
        Ok(())
    }
}

#[test]
fn what_was_synced_stays_and_what_was_not_may_be_lost_torn_or_garbled() {
    use redb::StorageBackend;
    let disk = SimulatedDisk::new(vec![], Syncs::Honest);
    disk.set_len(4 * 4_096).unwrap();
    disk.write(4_096, &[1; 4_096]).unwrap();
    disk.sync_data().unwrap();
    disk.write(8_192, &[2; 4_096]).unwrap();
    disk.set_len(5 * 4_096).unwrap();
    let recording = disk.recording();
    let mut moment = recording.begin();
    while moment.advance().is_some() {}
    let (mut lost, mut kept, mut torn, mut garbled, mut short) = (0, 0, 0, 0, 0);
    for seed in 0..200 {
        let left = moment.cut(&mut Random::new(seed));
        assert_eq!(left[4_096..8_192], [1; 4_096], "seed {seed}");
        let page = &left[8_192..12_288];
        let written = page.iter().filter(|byte| **byte == 2).count();
        match (written, page.iter().any(|byte| !matches!(byte, 0 | 2))) {
            (_, true) => garbled += 1,
            (0, _) => lost += 1,
            (4_096, _) => kept += 1,
            _ => torn += 1,
        }
        short += usize::from(left.len() == 4 * 4_096);
    }
    assert!(
        [lost, kept, torn, garbled, short].iter().all(|count| *count > 10),
        "{lost} {kept} {torn} {garbled} {short}"
    );
}
