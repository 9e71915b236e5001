//! A journal that remembers what it was told.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use telos_kernel::seams::{JournalLine, JournalSink};

/// Keeps every line in memory.
#[derive(Default)]
pub struct RecordingJournal {
    lines: Mutex<Vec<JournalLine>>,
    incidents: AtomicU64,
}

impl RecordingJournal {
    /// Lines of one event, in order.
    pub fn lines(&self, event: &str) -> Vec<JournalLine> {
        self.lines.lock().iter().filter(|line| line.event == event).cloned().collect()
    }
}

impl JournalSink for RecordingJournal {
    fn record(&self, line: JournalLine) {
        self.lines.lock().push(line);
    }

    fn next_incident(&self) -> u64 {
        self.incidents.fetch_add(1, Ordering::Relaxed) + 1
    }
}
