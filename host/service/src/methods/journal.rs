//! `journal.*`: the journal's lines, as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_journal::{Filter, Follower, From, Journal, LINES_MAX, follow};
use telos_store::{AuditRow, SeatRecord, Store};

use super::{Methods, params, read_error};
use crate::swap_record;
use crate::tail::{Asked, unreadable};

const POLL: Duration = Duration::from_millis(100);
/// How long the journal may be behind the audit.
const CAUGHT_UP_TIME: Duration = Duration::from_secs(2);

impl Methods {
    pub(super) async fn journal_tail(&self, call: &Call, reply: &Arc<Reply>) -> Result<Value, RpcError> {
        let asked: Asked = params(call)?;
        let (filter, lines) = (asked.filter()?, asked.lines());
        let journal = Arc::clone(&self.journal);
        // What was said up to now is in the file before it is read.
        let _ = tokio::task::spawn_blocking(move || journal.flush()).await;
        if !asked.follow {
            let shown = asked.read(self.journal.dir())?;
            let count = shown.len();
            for (told, line) in shown.into_iter().enumerate() {
                if !reply.chunk_when_room(1, line).await {
                    return Err(out_of_time(told, count));
                }
            }
            return Ok(json!({ "lines": count }));
        }
        let mut follower = follow(self.journal.dir(), From::Last(lines), filter).map_err(unreadable)?;
        let mut count = 0;
        while !call.cancelled.is_cancelled() && !self.stopping.is_cancelled() {
            for line in follower.poll().map_err(unreadable)? {
                count += u64::from(reply.chunk_when_room(1, line).await);
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                // A host that stops waits for its calls, and this one would not end by itself.
                () = self.stopping.cancelled() => {}
            }
        }
        Ok(json!({ "lines": count }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    /// Compare who serves, as audit, journal and seats say it.
    #[serde(default)]
    swaps: bool,
}

impl Methods {
    /// Reads all of the journal's files and, when asked, compares what they say of seats with audit and seats.
    pub(super) async fn journal_verify(&self, asked: Verify) -> Result<Value, RpcError> {
        let (journal, store) = (Arc::clone(&self.journal), self.store.clone());
        let looking = tokio::task::spawn_blocking(move || {
            // What was said up to now is in the file before it is read.
            let _ = journal.flush();
            let report = telos_journal::verify(journal.dir()).map_err(unreadable)?;
            let swaps = asked.swaps.then(|| compare_swaps(&store, &journal)).transpose()?;
            Ok(json!({ "sound": report.is_sound(), "journal": report, "swaps": swaps }))
        });
        looking.await.unwrap_or_else(|error| Err(RpcError::new("failed", Effect::None, error.to_string())))
    }
}

fn compare_swaps(store: &Store, journal: &Journal) -> Result<Value, RpcError> {
    let deadline = Instant::now() + CAUGHT_UP_TIME;
    let (rows, seats) = audit_and_seats(store, deadline)?;
    let mut follower = follow(journal.dir(), From::Start, Filter::default()).map_err(unreadable)?;
    let mut lines = Vec::new();
    loop {
        // The audit's newest rows are in the journal moments after they were decided.
        read_on(&mut follower, &mut lines)?;
        let report = swap_record::compare(&rows, &seats, &lines);
        if report.differences.is_empty() || Instant::now() >= deadline {
            return Ok(json!(report));
        }
        std::thread::sleep(POLL);
    }
}

/// The audit's rows of plugins, oldest first, and the seats at one moment: read anew while seats change in between.
fn audit_and_seats(store: &Store, deadline: Instant) -> Result<(Vec<AuditRow>, Vec<SeatRecord>), RpcError> {
    loop {
        let before = store.position();
        let seats = store.seats().map_err(read_error)?;
        let is_of_plugin = |row: &AuditRow| row.kind.starts_with("plugin.");
        let mut rows = store.audit_between(0, u64::MAX, usize::MAX, is_of_plugin).map_err(read_error)?;
        rows.reverse();
        let is_one_moment = rows.last().is_none_or(|newest| newest.position <= before);
        if is_one_moment || Instant::now() >= deadline {
            return Ok((rows, seats));
        }
    }
}

/// Reads what there is of the journal, and keeps the newest lines that concern seats: [`LINES_MAX`] at most.
fn read_on(follower: &mut Follower, lines: &mut Vec<Value>) -> Result<(), RpcError> {
    loop {
        let read = follower.poll().map_err(unreadable)?;
        if read.is_empty() {
            return Ok(());
        }
        lines.extend(read.into_iter().filter(swap_record::concerns));
        lines.drain(..lines.len().saturating_sub(LINES_MAX));
    }
}

fn out_of_time(told: usize, of: usize) -> RpcError {
    let message = format!("only {told} of {of} lines were read before the deadline");
    RpcError::new("deadline", Effect::None, message).with_next("read them faster, or ask for fewer")
}
