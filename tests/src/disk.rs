//! A disk in a test's hands: bytes in memory whose syncs can be held, counted and made to fail, and that can be full.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use telos_store::{Backend, MemoryBackend, StorageBackend};

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub struct Disk {
    bytes: MemoryBackend,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_held: bool,
    /// Syncs that wait.
    waiting: usize,
    /// The sync that fails: so many pass before it.
    fails_after: Option<u64>,
    is_full: bool,
    /// A write is to find out.
    refuses_next: bool,
    syncs: u64,
}

impl Disk {
    /// Lets no sync through from now on.
    pub fn hold(&self) {
        self.gate.state.lock().is_held = true;
    }

    /// Lets every sync through again.
    pub fn release(&self) {
        self.gate.state.lock().is_held = false;
        self.gate.changed.notify_all();
    }

    /// Fails the sync that waits, or the next one, and lets every later one through.
    pub fn fail_once(&self) {
        self.fail_after(0);
        self.release();
    }

    /// Lets so many syncs through, and fails the one after them.
    pub fn fail_after(&self, syncs: u64) {
        self.gate.state.lock().fails_after = Some(syncs);
    }

    /// Has no room from now on: refuses the next write. Later ones fit: they go where something was before.
    pub fn fill(&self) {
        let mut state = self.gate.state.lock();
        (state.is_full, state.refuses_next) = (true, true);
    }

    /// Has room again.
    pub fn make_room(&self) {
        self.gate.state.lock().is_full = false;
    }

    /// Whether a sync waits.
    pub fn is_waited_for(&self) -> bool {
        self.gate.state.lock().waiting > 0
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.gate.state.lock().syncs
    }
}

impl Backend for Disk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Bytes { bytes: self.bytes.open()?, gate: Arc::clone(&self.gate) }))
    }

    fn try_room(&self, _: u64) -> io::Result<()> {
        if self.gate.state.lock().is_full { Err(full()) } else { Ok(()) }
    }
}

struct Bytes {
    bytes: Box<dyn StorageBackend>,
    gate: Arc<Gate>,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bytes")
    }
}

impl StorageBackend for Bytes {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.gate.state.lock();
        state.waiting += 1;
        while state.is_held {
            self.gate.changed.wait(&mut state);
        }
        state.waiting -= 1;
        state.syncs += 1;
        let left = state.fails_after.take();
        state.fails_after = left.and_then(|left| left.checked_sub(1));
        match left {
            Some(0) => Err(io::Error::other("the disk failed on purpose")),
            _ => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.gate.state.lock().refuses_next) {
            return Err(full());
        }
        self.bytes.write(offset, data)
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the disk is full on purpose")
}
