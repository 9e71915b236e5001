//! `store.*`: the whole store, checked, copied, rewritten and counted while it serves.
//!
//! Such work runs on a thread of its own, tells in chunks how far it is, and says a line in the journal when it ends.
//! It ends by itself even when nobody waits any more: a backup is there whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use telos_bridge::{Effect, Reply, RpcError};
use telos_journal::{Line, Rate, Severity};
use telos_store::{BackupOptions, Phase, Progress, Store};

use super::{Methods, invalid, read_error};
use crate::offline::refuse_inside;
use crate::outcome::{self, Ended};

/// Between two tellings of one phase: what a person sees move, and far from filling the caller's window.
const TELLING_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    path: PathBuf,
}

/// What a command wanted to do with the store itself, and may not while a host has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    work: OfflineWork,
    cause: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OfflineWork {
    Restore,
    Evolve,
}

impl Methods {
    /// Writes down what a command was refused: it has no journal of its own while a host runs.
    pub(super) fn store_refused(&self, refused: Refused) -> Value {
        let event = match refused.work {
            OfflineWork::Restore => "store.restore-failed",
            OfflineWork::Evolve => "store.evolve-failed",
        };
        let line = Line::new(Severity::Warn, event, refused.cause).with("kind", "in-use");
        self.journal.producer("host", Rate::HOST).record(&line);
        Value::Null
    }

    pub(super) async fn store_verify(&self, reply: &Arc<Reply>) -> Result<Value, RpcError> {
        self.whole_store(reply, |store, tell| {
            outcome::verified(store.verify_open_with(tell).map_err(read_error))
        })
        .await
    }

    pub(super) async fn store_backup(&self, reply: &Arc<Reply>, backup: Backup) -> Result<Value, RpcError> {
        let Backup { path } = backup;
        if !path.is_absolute() {
            return Err(invalid(format!("{} is not an absolute path", path.display())));
        }
        let own = self.home.store();
        self.whole_store(reply, move |store, tell| {
            let refused = refuse_inside(&own, &path);
            let outcome = refused.and_then(|()| store.backup(&path, BackupOptions::default(), tell));
            outcome::backed_up(&path, outcome)
        })
        .await
    }

    pub(super) async fn store_rewrite(&self, reply: &Arc<Reply>) -> Result<Value, RpcError> {
        self.whole_store(reply, |store, tell| outcome::rewritten(store.rewrite(tell))).await
    }

    pub(super) fn store_stats(&self) -> Result<Value, RpcError> {
        outcome::stats(&self.store).map_err(read_error)
    }

    /// Does something long with the whole store, and writes its end into the journal whoever waits.
    pub(super) async fn whole_store(
        &self,
        reply: &Arc<Reply>,
        work: impl FnOnce(&Store, &mut dyn FnMut(Progress)) -> Ended + Send + 'static,
    ) -> Result<Value, RpcError> {
        let (store, journal, reply) = (self.store.clone(), Arc::clone(&self.journal), Arc::clone(reply));
        let done = tokio::task::spawn_blocking(move || work(&store, &mut telling(&reply)).record(&journal));
        done.await.unwrap_or_else(|error| Err(RpcError::new("host", Effect::Unknown, error.to_string())))
    }
}

/// Chunks of the answer: where a phase begins and ends, and now and then in between.
fn telling(reply: &Reply) -> impl FnMut(Progress) {
    let mut told: Option<(Phase, Instant)> = None;
    move |progress| {
        let is_end = progress.done == progress.total;
        let is_due =
            told.is_none_or(|(phase, at)| phase != progress.phase || at.elapsed() >= TELLING_INTERVAL);
        if is_due || is_end {
            told = Some((progress.phase, Instant::now()));
            reply.chunk(1, outcome::progress(progress));
        }
    }
}
