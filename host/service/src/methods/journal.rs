//! `journal.*`: the journal's lines, as they are.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_journal::{From, follow};

use super::{Methods, params};
use crate::tail::{Asked, unreadable};

const POLL: Duration = Duration::from_millis(100);

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

fn out_of_time(told: usize, of: usize) -> RpcError {
    let message = format!("only {told} of {of} lines were read before the deadline");
    RpcError::new("deadline", Effect::None, message).with_next("read them faster, or ask for fewer")
}
