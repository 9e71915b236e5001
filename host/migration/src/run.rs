//! One migration from beginning to end.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use telos_store::{Digest, Draft, DraftFact, DraftOptions, Phase, Progress};

use crate::bench::{Bench, Shared};
use crate::error::{EvolveError, Limit};
use crate::limits::Limits;
use crate::lua::{self, Cause, Stopped};
use crate::report::{Differences, Evolved, Printed};
use crate::script::Script;

/// What is between two tellings of how far a script is.
const TELLING_EVERY: Duration = Duration::from_secs(1);
/// Components that an audit row counts one by one.
const COMPONENTS_TOLD: usize = 100;

/// Changes a store as a script says, by one commit, or shows what that would change (`is_rehearsal` of `options`).
///
/// `progress` is told of the script itself too, at most once a second: objects that it came to, of all that there are;
/// where it comes to none, seconds that it has run, of those that it may.
///
/// Cost: the script, and what [`Draft::begin`] and [`Draft::seal`] say. Where nothing differs in the end there is no
/// commit, and no backup is kept.
///
/// # Errors
/// [`EvolveError`]; nothing was changed, and no backup is kept, but for [`telos_store::DraftError::Unsynced`]: then the
/// store was changed, and its backup is kept.
pub fn evolve(
    store: &Path,
    script: &Script,
    options: &DraftOptions,
    limits: Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Evolved, EvolveError> {
    let draft = Draft::begin(store, options, progress)?;
    let (mut draft, printed) = run(draft, script, limits, progress)?;
    let found = Differences::of(&mut draft, limits.differences).map_err(telos_store::DraftError::from)?;
    let mut evolved = evolved(script, options.is_rehearsal, &found, printed);
    if found.is_none() {
        return Ok(evolved);
    }
    let fact = fact(script, &draft, &found);
    let report = draft.seal(fact, progress)?;
    evolved.position = Some(report.position);
    evolved.raised = report.raised;
    evolved.backup = report.backup.map(|backup| backup.path);
    Ok(evolved)
}

/// Runs the script in a thread of its own, which is left behind when it does not end in time: it can do nothing more
/// to the draft, and ends with the process at the latest.
fn run(
    draft: Draft,
    script: &Script,
    limits: Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Draft, Printed), EvolveError> {
    let total = draft.count().map_err(telos_store::DraftError::from)?;
    progress(Progress { phase: Phase::Objects, done: 0, total });
    let bench: Shared = Arc::new(Mutex::new(Bench::new(draft, limits.printed_lines)));
    let (sender, ended) = mpsc::sync_channel(1);
    let (own, own_script) = (Arc::clone(&bench), script.clone());
    let work = move || drop(sender.send(lua::run(&own_script, &own, limits)));
    std::thread::Builder::new().name("telos-script".into()).spawn(work).map_err(EvolveError::NoThread)?;
    let mut came_to = 0;
    let outcome = wait(&ended, limits, &mut |elapsed| {
        let before = std::mem::replace(&mut came_to, bench.lock().came_to());
        progress(how_far(before, came_to, total, elapsed, limits.time));
    });
    let mut bench = bench.lock();
    let all = total.max(bench.came_to());
    let object = bench.at();
    let (draft, printed) = bench.close();
    let seconds = Limit::Seconds(limits.time.as_secs());
    match (outcome, draft) {
        (Ok(Ok(())), Some(draft)) => {
            progress(Progress { phase: Phase::Objects, done: all, total: all });
            Ok((draft, printed))
        }
        (Ok(Err(stopped)), _) => Err(stopped_at(script, object, stopped)),
        (Err(mpsc::RecvTimeoutError::Timeout), _) => {
            Err(stopped_at(script, object, Stopped { line: None, cause: Cause::Limit(seconds) }))
        }
        _ => {
            let cause = Cause::Mistake("the interpreter ended without an answer".into());
            Err(stopped_at(script, object, Stopped { line: None, cause }))
        }
    }
}

/// Waits until the script's thread answers or its time is up, and tells meanwhile.
fn wait<T>(
    ended: &mpsc::Receiver<T>,
    limits: Limits,
    tell: &mut dyn FnMut(Duration),
) -> Result<T, mpsc::RecvTimeoutError> {
    let (began, time) = (Instant::now(), limits.time.saturating_add(limits.grace));
    loop {
        let left = time.saturating_sub(began.elapsed());
        match ended.recv_timeout(left.min(TELLING_EVERY)) {
            Err(mpsc::RecvTimeoutError::Timeout) if left > TELLING_EVERY => tell(began.elapsed()),
            outcome => return outcome,
        }
    }
}

/// Objects, while it comes to more of them; else how long it has run, of the time that it has.
fn how_far(before: u64, came_to: u64, total: u64, elapsed: Duration, time: Duration) -> Progress {
    match came_to > before {
        true => Progress { phase: Phase::Objects, done: came_to, total },
        false => Progress { phase: Phase::Script, done: elapsed.as_secs(), total: time.as_secs() },
    }
}

fn stopped_at(
    script: &Script,
    object: Option<telos_store::ObjectId>,
    Stopped { line, cause }: Stopped,
) -> EvolveError {
    let path = script.path().to_owned();
    match cause {
        Cause::Refused(refused) => EvolveError::Refused { path, line, object, refused: Box::new(refused) },
        Cause::Limit(limit) => EvolveError::Limit { path, line, object, limit },
        Cause::Mistake(what) => EvolveError::Script { path, line, object, what },
    }
}

fn evolved(script: &Script, dry_run: bool, found: &Differences, printed: Printed) -> Evolved {
    Evolved {
        dry_run,
        script_sha256: script.sha256().into(),
        position: None,
        objects: found.objects,
        components: found.components.values().cloned().collect(),
        raised: Vec::new(),
        names: found.names,
        differences: found.shown.clone(),
        differences_left_off: found.left_off,
        printed,
        backup: None,
    }
}

fn fact(script: &Script, draft: &Draft, found: &Differences) -> DraftFact {
    let name = script.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let detail = json!({
        "script": name,
        "script_sha256": script.sha256(),
        "objects": found.objects,
        "components": found.components.values().take(COMPONENTS_TOLD).collect::<Vec<_>>(),
        "names": found.names,
        "backup": draft.backup().map(|backup| &backup.path),
    });
    let evolver = Digest::of(script.text().as_bytes());
    DraftFact { kind: "store.evolved".into(), subject: "store".into(), detail, evolver }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_comes_to_no_object_shows_its_time_and_its_limit() {
        let far = |before, came_to| {
            how_far(before, came_to, 9, Duration::from_secs(12), Duration::from_secs(3_600))
        };
        assert_eq!(far(2, 5), Progress { phase: Phase::Objects, done: 5, total: 9 });
        for came_to in [0, 9] {
            assert_eq!(far(came_to, came_to), Progress { phase: Phase::Script, done: 12, total: 3_600 });
        }
    }
}
