//! How work on the whole store ends: one answer for whoever asked, one line for the journal, the same whether the host
//! did it or a command while no host ran.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};
use telos_bridge::{Effect, RpcError};
use telos_journal::{Journal, Line, Rate, Severity};
use telos_migration::{EvolveError, Evolved, Refused, ValueError};
use telos_store::{
    ArchiveError, ArchiveReport, BackupError, BackupReport, BlobError, DraftError, EditionCheck, Failure,
    Fault, ForgetError, Forgotten, OpenError, Progress, ReadError, Report, RestoreError, RestoreReport,
    RewriteError, RewriteReport, Store, WriteError, told,
};

/// What to do when the disk or its files are in the way.
const MEND: &str = "mend what it names and try again";

/// What to do about a file that is not as it was written.
const RESTORE: &str = "`telos store restore DIR` brings back a backup";
/// What to do about one that is gone.
const BRING_BACK: &str = "bring the file back, or a backup with `telos store restore DIR`; to begin with an empty store, move that \
     directory away";

/// A piece of work that ended.
pub(crate) struct Ended {
    line: Line,
    answer: Result<Value, RpcError>,
}

impl Ended {
    fn well(event: &'static str, body: String, answer: Value) -> Self {
        Self { line: Line::new(Severity::Info, event, body), answer: Ok(answer) }
    }

    fn badly(event: &'static str, error: RpcError) -> Self {
        let severity = if is_refusal(&error) { Severity::Info } else { Severity::Error };
        let line = Line::new(severity, event, error.message.clone()).with("kind", &*error.data.kind);
        Self { line, answer: Err(error) }
    }

    fn with(self, name: &str, value: impl Into<Value>) -> Self {
        Self { line: self.line.with(name, value), answer: self.answer }
    }

    /// Writes the line, and gives the answer. A failure gets a number that both quote; a refusal says all there is.
    pub(crate) fn record(self, journal: &Journal) -> Result<Value, RpcError> {
        let Self { mut line, mut answer } = self;
        if let Err(error) = &mut answer
            && !is_refusal(error)
        {
            let incident = journal.next_incident();
            error.data.incident = Some(incident);
            line = line.with("incident", incident);
        }
        journal.producer("host", Rate::HOST).record(&line);
        answer
    }

    /// The answer, where no journal can be written.
    pub(crate) fn unrecorded(self) -> Result<Value, RpcError> {
        self.answer
    }
}

/// What was asked for was not possible: nothing is wrong, and nobody but the asker has to act.
fn is_refusal(error: &RpcError) -> bool {
    const KINDS: [&str; 8] = [
        "still-parent",
        "too-large",
        "exists",
        "in-use",
        "not-a-backup",
        "other-store",
        "newer-layout",
        "not-archived",
    ];
    KINDS.contains(&error.data.kind.as_str())
}

/// One telling of how far it is.
pub(crate) fn progress(progress: Progress) -> Value {
    json!({
        "phase": progress.phase,
        "doing": progress.phase.to_string(),
        "done": progress.done,
        "total": progress.total,
    })
}

/// A verification's end. Problems that it found are its answer.
pub(crate) fn verified(outcome: Result<Report, RpcError>) -> Ended {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => return Ended::badly("store.verify-failed", verify_error(error)),
    };
    let answer = json!({
        "clean": report.is_clean(),
        "layout": report.layout,
        "position": report.position,
        "rows": report.rows,
        "problems": report.problems,
    });
    let (rows, position) = (report.rows, report.position);
    match report.problems.first() {
        None => {
            Ended::well("store.verified", format!("{rows} rows are sound at position {position}"), answer)
        }
        Some(first) => {
            let body = format!("{} problems at position {position}, first {first}", report.problems.len());
            Ended { line: Line::new(Severity::Error, "store.unsound", body), answer: Ok(answer) }
        }
    }
    .with("position", position.get())
}

/// A backup's end.
pub(crate) fn backed_up(to: &Path, outcome: Result<BackupReport, BackupError>) -> Ended {
    match outcome {
        Ok(report) => {
            let body = format!("position {} was copied to {}", report.position, to.display());
            let position = report.position.get();
            Ended::well("store.backed-up", body, json!(report)).with("position", position)
        }
        Err(error) => Ended::badly("store.backup-failed", backup_error(&error)),
    }
    .with("path", to.display().to_string())
}

/// The end of moving a collection's vectors into the archive.
pub(crate) fn archived(of: &str, outcome: Result<ArchiveReport, ArchiveError>) -> Ended {
    match outcome {
        Ok(report) => {
            let body =
                format!("{} vectors of {of} are in edition {}", report.about.rows, report.about.edition);
            Ended::well("memory.archived", body, json!(report))
        }
        Err(error) => {
            let kind = if error.fault() == Fault::Operator { "not-archived" } else { "archive" };
            let effect = match &error {
                ArchiveError::Commit(cause) if cause.effect() != telos_store::Effect::None => Effect::Unknown,
                _ => Effect::None,
            };
            let next = match &error {
                ArchiveError::Busy(owner, _) => {
                    format!(
                        "wait for it; `telos plugin revoke {owner} archive` ends one that this plugin began"
                    )
                }
                _ => "`telos memory stats` shows the collections".into(),
            };
            let refused = RpcError::new(kind, effect, error.to_string());
            Ended::badly("memory.archive-failed", refused.with_next(next))
        }
    }
    .with("collection", of)
}

/// The end of reading every edition of the archive. Problems that it found are its answer.
pub(crate) fn archive_verified(outcome: Result<Vec<EditionCheck>, RpcError>) -> Ended {
    let checks = match outcome {
        Ok(checks) => checks,
        Err(error) => return Ended::badly("memory.verify-failed", error),
    };
    let problem = checks.iter().find_map(|check| Some((check, check.problem.as_ref()?)));
    let answer = json!({ "clean": problem.is_none(), "editions": checks });
    match problem {
        None => Ended::well("memory.verified", format!("{} editions are sound", checks.len()), answer),
        Some((EditionCheck { owner, collection, edition, .. }, problem)) => {
            let body = format!("edition {edition} of {owner}/{collection}: {problem}");
            Ended { line: Line::new(Severity::Error, "memory.unsound", body), answer: Ok(answer) }
        }
    }
}

/// A restore's end.
pub(crate) fn restored(from: &Path, outcome: Result<RestoreReport, RestoreError>) -> Ended {
    match outcome {
        Ok(report) => {
            let (was, now) = (report.backup_position, report.position);
            let body = format!("position {was} of {} was restored, now {now}", from.display());
            Ended::well("store.restored", body, json!(report)).with("position", now.get())
        }
        Err(error) => Ended::badly("store.restore-failed", restore_error(&error)),
    }
    .with("path", from.display().to_string())
}

/// A migration's end.
pub(crate) fn evolved(script: &Path, outcome: Result<Evolved, EvolveError>) -> Ended {
    match outcome {
        Ok(report) => {
            let (script, objects) = (script.display(), report.objects);
            let body = match report.position {
                Some(position) => format!("{script} changed {objects} objects at position {position}"),
                None => format!("{script} changed nothing"),
            };
            let sha256 = report.script_sha256.clone();
            Ended::well("store.evolved", body, json!(report)).with("script_sha256", sha256)
        }
        Err(error) => {
            let ended = Ended::badly(evolve_event(&error), evolve_error(&error));
            match &error {
                EvolveError::Draft(DraftError::Unsynced { backup, .. }) => {
                    ended.with("backup", backup.display().to_string())
                }
                _ => ended,
            }
        }
    }
    .with("path", script.display().to_string())
}

/// A failed migration changed nothing; one that is only not synced did.
fn evolve_event(error: &EvolveError) -> &'static str {
    match error {
        EvolveError::Draft(DraftError::Unsynced { .. }) => "store.evolved-unsynced",
        _ => "store.evolve-failed",
    }
}

/// A rewrite's end.
pub(crate) fn rewritten(outcome: Result<RewriteReport, RewriteError>) -> Ended {
    match outcome {
        Ok(report) => {
            let (before, after) = (report.bytes_before, report.bytes_after);
            let body = format!("the database was rewritten: {before} bytes before, {after} after");
            Ended::well("store.rewritten", body, json!(report))
        }
        Err(error) => Ended::badly("store.rewrite-failed", rewrite_error(&error)),
    }
}

/// What forgetting did, or why nothing was forgotten. Each object's audit row is its own line.
pub(crate) fn forgotten(outcome: Result<Forgotten, ForgetError>) -> Ended {
    match outcome {
        Ok(done) => {
            let body = format!("{} objects with {} states were forgotten", done.objects, done.states);
            Ended::well("object.forgot", body, json!(done)).with("position", done.position.get())
        }
        Err(error) => Ended::badly("object.forget-failed", forget_error(&error)),
    }
}

/// What a store holds, takes of the disk, and keeps of the past.
pub(crate) fn stats(store: &Store) -> Result<Value, Failure> {
    Ok(json!({
        "store": store.id()?,
        "counts": store.counts()?,
        "usage": store.usage(),
        "history": store.retention()?,
        "read_only": store.read_only_cause(),
    }))
}

/// Why a store did not open.
pub(crate) fn open_error(error: &OpenError) -> RpcError {
    let (kind, next) = match error {
        OpenError::InUse { .. } => ("in-use", "stop that host, then try again"),
        OpenError::NewerLayout { .. } => ("newer-layout", "use the newer telos that wrote it"),
        OpenError::Gone { .. } => ("gone", BRING_BACK),
        OpenError::File { cause, .. } => file_trouble(cause.kind()),
        OpenError::Failed { cause, .. } => cause.io_kind().map_or(("damaged", RESTORE), file_trouble),
        _ => ("store", MEND),
    };
    RpcError::new(kind, Effect::None, told(error)).with_next(next)
}

/// Why a store could not be verified: without the advice to verify it.
pub(crate) fn verify_error(error: RpcError) -> RpcError {
    const ADVICE: [&str; 3] = [
        "; `telos store verify` says more, `telos store restore` brings a backup back",
        "; `telos store verify` says whether the file is whole",
        "; run `telos store verify`",
    ];
    let message = ADVICE.iter().fold(error.message.clone(), |message, advice| message.replace(advice, ""));
    RpcError { message, ..error }
}

/// The stable word and the next step for what the store's own file or the disk refused.
fn failure_trouble(failure: &Failure) -> (&'static str, &'static str) {
    match failure.io_kind() {
        Some(kind) => file_trouble(kind),
        None if matches!(failure, Failure::Damaged { .. } | Failure::Row { .. }) => ("damaged", RESTORE),
        None => ("store", MEND),
    }
}

/// Why a host did not start for its store.
pub(crate) fn start_error(error: &OpenError) -> RpcError {
    let told = open_error(error);
    match told.data.kind.as_str() {
        "in-use" => told.with_next("talk to that host, stop it, or choose another place with --home"),
        "damaged" => told.with_next(format!("`telos store verify` says what is wrong with it; {RESTORE}")),
        _ => told,
    }
}

/// The stable word and the next step for what the operating system refused.
pub(crate) fn file_trouble(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind {
        ErrorKind::PermissionDenied => ("permission", "let the user that runs telos read and write it"),
        ErrorKind::ReadOnlyFilesystem => {
            ("permission", "let that file system be written to, or name another home with --home")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ("no-room", "free some space on that device and try again")
        }
        _ => ("store", MEND),
    }
}

fn backup_error(error: &BackupError) -> RpcError {
    let (kind, next) = match error {
        BackupError::Open(error) => return open_error(error),
        BackupError::Exists { .. } => ("exists", "name a directory that does not exist yet"),
        BackupError::Unsound { .. } => ("unsound", "`telos store verify` names every problem"),
        BackupError::NotABackup { .. } => ("not-a-backup", "name the directory of a finished backup"),
        BackupError::Damaged { .. } | BackupError::BlobMissing { .. } => ("damaged", "use another backup"),
        BackupError::NewerFormat { .. } | BackupError::NewerLayout { .. } => {
            ("newer-layout", "use the newer telos that wrote it")
        }
        BackupError::File { cause, .. } | BackupError::Blob(BlobError::File { cause, .. }) => {
            file_trouble(cause.kind())
        }
        BackupError::Failed(cause) | BackupError::Blob(BlobError::Failed(cause)) => failure_trouble(cause),
        _ => ("store", MEND),
    };
    RpcError::new(kind, Effect::None, told(error)).with_next(next)
}

fn rewrite_error(error: &RewriteError) -> RpcError {
    let (kind, next) = match error {
        RewriteError::Failed(cause) | RewriteError::Damaged(cause) => failure_trouble(cause),
        _ => ("busy", "try again when there is less to do"),
    };
    RpcError::new(kind, Effect::None, told(error)).with_next(next)
}

fn restore_error(error: &RestoreError) -> RpcError {
    let (kind, next) = match error {
        RestoreError::Backup(error) => return backup_error(error),
        RestoreError::Open(error) => return open_error(error),
        RestoreError::OtherStore { .. } => {
            ("other-store", "name another home with --home, or repeat it with --force")
        }
        RestoreError::Unfinished { .. } => {
            let error = RpcError::new("unfinished", Effect::Unknown, told(error));
            return error.with_next("mend what it names; `telos up` finishes the restore");
        }
        _ => ("store", MEND),
    };
    RpcError::new(kind, Effect::None, told(error)).with_next(next)
}

fn evolve_error(error: &EvolveError) -> RpcError {
    const CORRECT: &str = "nothing was changed; correct the script and try it with --dry-run";
    let (kind, next) = match error {
        EvolveError::Draft(error) => return draft_error(error),
        EvolveError::Unreadable { .. } => ("no-script", "name a file with --script that can be read"),
        EvolveError::ScriptTooLarge { .. } => {
            ("too-large", "split the script; each part is a commit of its own")
        }
        EvolveError::NotText { .. } => ("not-utf8", "save the script as UTF-8"),
        EvolveError::Syntax { .. } => ("syntax", "correct that line; scripts are Lua 5.4"),
        EvolveError::Refused { refused, .. } => match &**refused {
            Refused::Store(WriteError::GenerationUnknown { .. }) => (
                "generation-unknown",
                "nothing was changed; install a release that knows that generation first: it waits for the next start",
            ),
            refused => (refusal_kind(refused), CORRECT),
        },
        EvolveError::Script { .. } => ("script", CORRECT),
        EvolveError::Limit { .. } => {
            ("limit", "nothing was changed; let the script do less at a time, or split it")
        }
        _ => ("host", MEND),
    };
    RpcError::new(kind, Effect::None, told(error)).with_next(next)
}

/// What a script was refused, in a word that other calls use too.
fn refusal_kind(refused: &Refused) -> &'static str {
    match refused {
        Refused::Store(error) => match error {
            WriteError::Read(ReadError::NoSuchObject(_)) => "no-such-object",
            WriteError::Read(ReadError::Failed(_)) => "store",
            WriteError::TooLarge(_) | WriteError::Read(ReadError::TooLarge(_)) => "too-large",
            WriteError::Generation { .. } => "generation-lowered",
            WriteError::NameTaken { .. } => "exists",
            _ => "invalid",
        },
        Refused::Value { why: ValueError::TooLarge(_), .. } => "too-large",
        Refused::SlotTaken { .. } => "exists",
        _ => "invalid",
    }
}

fn draft_error(error: &DraftError) -> RpcError {
    let (kind, effect, next) = match error {
        DraftError::Open(error) => return open_error(error),
        DraftError::Backup(error) => return backup_error(error),
        DraftError::TooLarge(_) => (
            "too-large",
            Effect::None,
            "nothing was changed; where it was a dry run, try it on a copy: `telos store backup`, then \
             `telos --home OTHER store restore`",
        ),
        DraftError::LeftBehind { .. } => (
            "left-behind",
            Effect::None,
            "nothing was changed; `for object in store.objects(COMPONENT)` finds all of them",
        ),
        DraftError::Unsound { .. } => {
            ("unsound", Effect::None, "nothing was changed; `telos store verify` names every problem")
        }
        DraftError::Unsynced { .. } => (
            "unfinished",
            Effect::Unknown,
            "mend the disk and run `sync`; `telos audit` says \
             whether it was done",
        ),
        DraftError::Failed(cause) => {
            let (kind, next) = failure_trouble(cause);
            (kind, Effect::None, next)
        }
        _ => ("store", Effect::None, MEND),
    };
    RpcError::new(kind, effect, told(error)).with_next(next)
}

fn forget_error(error: &ForgetError) -> RpcError {
    let effect = match error {
        ForgetError::Commit(cause) => match cause.effect() {
            telos_store::Effect::None => Effect::None,
            telos_store::Effect::Committed => Effect::Committed,
            telos_store::Effect::Unknown => Effect::Unknown,
        },
        _ => Effect::None,
    };
    let (kind, next) = match error {
        ForgetError::StillParent { .. } => {
            ("still-parent", "forget the others too, or repeat it with --detach")
        }
        ForgetError::TooLarge(_) => ("too-large", "forget fewer at a time"),
        _ => ("store", "repeat it; what is gone already is passed over"),
    };
    RpcError::new(kind, effect, told(error)).with_next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let open = OpenError::File { path: "/s/lock".into(), cause: full() };
        assert_eq!(told(&open), format!("/s/lock: {}", full()));
        let backup = BackupError::File { path: "/b".into(), cause: full() };
        assert_eq!(told(&backup), format!("/b: {}; mend that and try again", full()));
    }

    #[test]
    fn a_refusal_is_no_error_of_the_host_and_damage_is() {
        let said =
            |error: &BackupError| Ended::badly("store.backup-failed", backup_error(error)).line.severity;
        assert_eq!(said(&BackupError::Exists { path: "/b".into() }), Severity::Info);
        assert_eq!(said(&BackupError::Damaged { path: "/b".into(), why: "x".into() }), Severity::Error);
    }

    #[test]
    fn a_store_that_does_not_open_says_why_and_what_fits() {
        let failed = |kind: ErrorKind| OpenError::Failed {
            dir: "/h/store".into(),
            cause: std::io::Error::from(kind).into(),
        };
        let damaged = OpenError::Failed {
            dir: "/h/store".into(),
            cause: telos_store::Failure::Damaged { why: "its file is no database".into() },
        };
        let gone = OpenError::Gone { dir: "/h/store".into(), id: None };
        for (error, kind, cause, next) in [
            (
                failed(ErrorKind::PermissionDenied),
                "permission",
                "permission denied",
                "the user that runs telos",
            ),
            (failed(ErrorKind::StorageFull), "no-room", "no storage space", "free some space"),
            (damaged, "damaged", "its file is no database", "`telos store restore DIR`"),
            (gone, "gone", "/h/store/objects.redb is missing", "move that directory away"),
        ] {
            let said = start_error(&error);
            assert_eq!(said.data.kind, kind);
            assert!(said.message.contains("/h/store") && said.message.contains(cause), "{}", said.message);
            assert!(said.data.next.as_ref().unwrap().contains(next), "{said:?}");
        }
    }

    #[test]
    fn a_full_disk_says_what_to_do_whatever_met_it() {
        let full = || std::io::Error::from(ErrorKind::StorageFull);
        let path = || "/b".into();
        for error in [
            backup_error(&BackupError::File { path: path(), cause: full() }),
            backup_error(&BackupError::Blob(BlobError::File { path: path(), cause: full() })),
            backup_error(&BackupError::Failed(full().into())),
            rewrite_error(&RewriteError::Failed(full().into())),
            restore_error(&RestoreError::Backup(BackupError::Failed(full().into()))),
            draft_error(&DraftError::Failed(full().into())),
        ] {
            let next = error.data.next.as_deref().unwrap_or_default();
            assert!(error.data.kind == "no-room" && next.contains("free some space"), "{error:?}");
        }
    }

    #[test]
    fn a_verification_does_not_point_to_itself() {
        let damaged = |why: &str| Failure::Damaged { why: why.into() };
        let cause = OpenError::Failed { dir: "/s".into(), cause: damaged("page 7") };
        let said = verified(Err(open_error(&cause))).answer.unwrap_err();
        assert!(said.message.ends_with("the database is damaged: page 7"), "{}", said.message);
        assert_eq!(said.data.next.as_deref(), Some(RESTORE));
    }

    #[test]
    fn a_migration_that_is_not_synced_is_no_failed_one() {
        let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = DraftError::Unsynced { dir: "/s".into(), backup: "/s.before".into(), cause };
        let ended = evolved(Path::new("x.lua"), Err(error.into()));
        let line = format!("{:?}", ended.line);
        for part in ["store.evolved-unsynced", "the store was changed", "/s.before", "backup"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let refused = ended.answer.unwrap_err();
        assert_eq!((refused.data.kind.as_str(), refused.data.effect), ("unfinished", Effect::Unknown));
        assert!(!refused.data.next.unwrap_or_default().contains("nothing was changed"));
    }

    #[test]
    fn every_refusal_says_what_next() {
        let in_use = || OpenError::InUse { dir: "/s".into(), pid: Some(7) };
        for error in [
            restore_error(&RestoreError::Open(in_use())),
            backup_error(&BackupError::Open(in_use())),
            backup_error(&BackupError::NotABackup { dir: "/b".into() }),
        ] {
            assert!(error.data.next.is_some(), "{error}");
        }
        assert_eq!(restore_error(&RestoreError::Open(in_use())).data.kind, "in-use");
    }
}
