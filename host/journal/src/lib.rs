//! The journal: one writer thread, one file, one JSON object per line.
//!
//! ```text
//! producers ──try──▶ intake (bounded, memory) ──take──▶ writer thread ──▶ journal.jsonl ──midnight, size──▶ journal.000042.jsonl
//! facts ────wait───▶                                                                                        (five of them)
//! ```
//!
//! What holds, whatever happens:
//! - A line is in the file whole or not at all; a torn tail is set aside at the next start and said so.
//! - `sequence` has no gap within a run. `producer_sequence` has gaps exactly where `journal.loss` lines say so.
//! - A producer never blocks and never touches the file. A fact (an audit row) is never dropped: its writer waits.
//! - Synced at most 500 ms after the write; at once for ERROR and above, and for facts.
//! - Nothing here deletes a file that this journal did not write.
//!
//! Never here: what the lines mean, the store, sockets, a logging framework.

mod backwards;
mod bucket;
mod clock;
mod disk;
mod error;
mod intake;
mod journal;
mod line;
mod reader;
mod recovery;
mod shelf;
mod verify;
mod writer;

pub use bucket::Rate;
pub use clock::{Clock, SystemClock};
pub use disk::{Disk, LogFile, SystemDisk};
pub use error::{Fault, JournalError};
pub use intake::{Degraded, JournalStats};
pub use journal::{AuditAtHand, Journal, JournalConfig, Producer, SetBack, Surroundings};
pub use line::{AuditFact, LINE_BYTES_MAX, Line, Severity};
pub use reader::{Filter, Follower, From, LINES_MAX, follow, tail};
pub use verify::{ProducerReport, Report, RunReport, verify};
