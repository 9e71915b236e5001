//! The store of a home that no host has open: checked, copied, restored, evolved. What happened is a line in the
//! home's journal, as if a host had done it.

use std::path::Path;

use serde_json::Value;
use telos_bridge::{Effect, RpcError};
use telos_journal::{AuditAtHand, Journal, JournalConfig};
use telos_kernel::Descriptor;
use telos_migration::{EvolveError, Evolved, Limits, Script};
use telos_store::{
    BackupError, BackupOptions, DraftOptions, OpenError, Progress, ReleaseRecord, RestoreOptions, Store,
    StoreOptions,
};

use crate::home::Home;
use crate::journaling;
use crate::outcome::{self, Ended};

/// The store of a home, and nobody else's.
#[derive(Debug)]
pub struct OfflineStore<'a> {
    home: &'a Home,
}

impl<'a> OfflineStore<'a> {
    /// The store of this home; nothing is touched.
    pub fn of(home: &'a Home) -> Self {
        Self { home }
    }

    /// Checks every invariant, redb's own pages first. Problems found are in the answer's `problems`.
    ///
    /// # Errors
    /// Kind `in-use` while a host runs, `no-store` where there is none, `store` when it cannot be read.
    pub fn verify(&self, tell: &mut dyn FnMut(Value)) -> Result<Value, RpcError> {
        let store = self.store()?;
        let told = |cause: OpenError| outcome::open_error(&cause);
        let outcome = Store::verify_with(&store, &mut telling(tell)).map_err(told);
        self.record(outcome::verified(outcome))
    }

    /// Copies the whole store into a new directory.
    ///
    /// # Errors
    /// As [`OfflineStore::verify`]; kind `exists` when there is something at `to`, `unsound` when the copy breaks
    /// invariants.
    pub fn back_up(&self, to: &Path, tell: &mut dyn FnMut(Value)) -> Result<Value, RpcError> {
        let store = self.store()?;
        let options = BackupOptions::default();
        let done = match refuse_inside(&store, to) {
            Ok(()) => Store::backup_offline(&store, to, options, &mut telling(tell)),
            Err(refused) => Err(refused),
        };
        self.record(outcome::backed_up(to, done))
    }

    /// Makes the store what a backup holds; makes the home where it is absent. What was there is kept beside it.
    /// `is_forced`: also over a store of another home.
    ///
    /// # Errors
    /// Kind `in-use` while a host runs, `damaged`, `not-a-backup`, `other-store`, `unfinished`.
    pub fn restore(
        &self,
        from: &Path,
        is_forced: bool,
        tell: &mut dyn FnMut(Value),
    ) -> Result<Value, RpcError> {
        self.home.prepare().map_err(|error| RpcError::new("file", Effect::None, error.to_string()))?;
        let options = RestoreOptions { force: is_forced };
        let outcome = Store::restore(from, &self.home.store(), options, &mut telling(tell));
        let is_restored = outcome.is_ok();
        let ended = outcome::restored(from, outcome);
        if is_restored { self.record_restored(ended) } else { self.record(ended) }
    }

    /// Changes the store as a script says, in one commit, after a backup; or shows what that would change, and writes
    /// nothing, in the journal neither. The answer is [`Evolved`].
    ///
    /// # Errors
    /// As [`OfflineStore::verify`]; kind `no-script`, `syntax`, `script`, `limit` and others for what is wrong with the
    /// script. Nothing was changed, but for kind `unfinished`: then the store was changed and a power cut may undo it.
    pub fn evolve(
        &self,
        script: &Path,
        is_dry_run: bool,
        tell: &mut dyn FnMut(Value),
    ) -> Result<Value, RpcError> {
        let store = self.store()?;
        let ended = outcome::evolved(script, evolve(&store, script, is_dry_run, tell));
        if is_dry_run { ended.unrecorded() } else { self.record(ended) }
    }

    /// The audit went back with the store: the restore's own row is the next that the journal shows.
    fn record_restored(&self, ended: Ended) -> Result<Value, RpcError> {
        let opened = Store::open(&self.home.store(), StoreOptions::default());
        let Some(at_hand) = opened.ok().map(|store| journaling::audit_at_hand(&store)) else {
            return self.record(ended);
        };
        let audit = AuditAtHand { newest: at_hand.restored_after, ..at_hand };
        match Journal::open_beside(self.home.journal(), JournalConfig::default(), audit) {
            Ok(journal) => ended.record(&journal),
            Err(_) => ended.unrecorded(),
        }
    }

    fn store(&self) -> Result<std::path::PathBuf, RpcError> {
        let store = self.home.store();
        if store.is_dir() {
            return Ok(store);
        }
        let message = format!("there is no store at {}", store.display());
        Err(RpcError::new("no-store", Effect::None, message).with_next("name the home with --home DIR"))
    }

    /// A journal that a host has open, or that cannot be opened, is no reason to fail.
    fn record(&self, ended: Ended) -> Result<Value, RpcError> {
        match Journal::open(self.home.journal(), JournalConfig::default()) {
            Ok(journal) => ended.record(&journal),
            Err(_) => ended.unrecorded(),
        }
    }
}

fn evolve(
    store: &Path,
    script: &Path,
    is_dry_run: bool,
    tell: &mut dyn FnMut(Value),
) -> Result<Evolved, EvolveError> {
    let script = Script::read(script)?;
    let generation_of = Some(Descriptor::generation_of as fn(&ReleaseRecord) -> Option<u32>);
    let options = DraftOptions { is_rehearsal: is_dry_run, generation_of, ..DraftOptions::default() };
    telos_migration::evolve(store, &script, &options, Limits::default(), &mut telling(tell))
}

/// A backup inside the store would be taken for a part of it, and go with it.
pub(crate) fn refuse_inside(store: &Path, to: &Path) -> Result<(), BackupError> {
    if to.starts_with(store) {
        return Err(BackupError::Exists { path: store.into() });
    }
    Ok(())
}

fn telling(tell: &mut dyn FnMut(Value)) -> impl FnMut(Progress) {
    move |progress| tell(outcome::progress(progress))
}
