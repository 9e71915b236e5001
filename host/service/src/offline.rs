//! Store and journal of a home that no host has open: checked, copied, restored, evolved, rewritten, counted, read. What
//! happened is a line in the home's journal, as if a host had done it.

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
use crate::tail::Asked;

/// The journal of a home, as its files are.
#[derive(Debug)]
pub struct OfflineJournal<'a> {
    home: &'a Home,
}

impl<'a> OfflineJournal<'a> {
    /// The journal of this home; none where no host ever ran.
    pub fn of(home: &'a Home) -> Option<Self> {
        home.journal().is_dir().then_some(Self { home })
    }

    /// The last lines, oldest first. `asked`: the parameters of the method `journal.tail`; `follow` does nothing here.
    ///
    /// # Errors
    /// Kind `invalid` for a severity that there is not, `journal` when a file cannot be read.
    pub fn tail(&self, asked: Value) -> Result<Vec<Value>, RpcError> {
        let asked: Asked = serde_json::from_value(asked)
            .map_err(|error| RpcError::new("invalid", Effect::None, error.to_string()))?;
        asked.read(&self.home.journal())
    }
}

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
        self.home.prepare().map_err(|error| {
            let (_, next) = outcome::file_trouble(error.kind());
            RpcError::new("file", Effect::None, error.to_string()).with_next(next)
        })?;
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

    /// Rewrites the database file without free pages, after a look at every page and row: a damaged one would get new
    /// checksums.
    ///
    /// # Errors
    /// As [`OfflineStore::verify`]; kind `unsound` when that found problems.
    pub fn rewrite(&self, tell: &mut dyn FnMut(Value)) -> Result<Value, RpcError> {
        let report = Store::verify_with(&self.store()?, &mut telling(tell));
        let report = report.map_err(|cause| outcome::open_error(&cause))?;
        if let Some(first) = report.problems.first() {
            let message = format!("the store was not rewritten, since it is damaged: {first}");
            return Err(RpcError::new("unsound", Effect::None, message).with_next(
                "`telos store verify` lists all that is wrong, `telos store restore DIR` brings a backup back",
            ));
        }
        let outcome = self.open()?.rewrite(&mut telling(tell));
        self.record(outcome::rewritten(outcome))
    }

    /// What it holds and takes of the disk. Quotas and how long the past is kept are a running host's: null.
    ///
    /// # Errors
    /// As [`OfflineStore::verify`].
    pub fn stats(&self) -> Result<Value, RpcError> {
        let unreadable =
            |error| RpcError::new("store", Effect::None, format!("the store cannot be read: {error}"));
        let mut stats =
            outcome::stats(&self.open()?).map_err(|error: telos_store::Failure| unreadable(error))?;
        for (part, field) in [
            ("usage", "database_bytes_max"),
            ("usage", "blob_bytes_max"),
            ("usage", "vector_bytes_max"),
            ("history", "age_ms"),
            ("history", "rows_max"),
        ] {
            stats[part][field] = Value::Null;
        }
        Ok(stats)
    }

    /// Opens it as a host would. Nothing is pruned: a kernel does that.
    fn open(&self) -> Result<Store, RpcError> {
        let opened = Store::open(&self.store()?, StoreOptions::default());
        opened.map_err(|cause| outcome::open_error(&cause))
    }

    /// The audit went back with the store: the restore's own row is the next that the journal shows.
    fn record_restored(&self, ended: Ended) -> Result<Value, RpcError> {
        let opened = Store::open(&self.home.store(), StoreOptions::default());
        let Some(at_hand) = opened.ok().map(|store| journaling::audit_at_hand(&store)) else {
            return self.record(ended);
        };
        let audit = AuditAtHand { newest: at_hand.restored_after.unwrap_or(at_hand.newest), ..at_hand };
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
