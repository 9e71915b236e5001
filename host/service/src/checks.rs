//! Readiness that explains itself: each check says what, since when, why and what to do.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use telos_forge::Engine;
use telos_inference::{MindInfo, Minds};
use telos_journal::{Journal, Line, SetBack, Severity};
use telos_kernel::Kernel;
use telos_store::{GivenUpEdition, PagesStanding, Store};

use crate::arrivals::Arrivals;
use crate::elsewhere::Elsewhere;
use crate::gate::Gate;
use crate::home::Home;
use crate::isolating::{Probe, TrialProcess};

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Serving, with less than it could.
    Degraded,
    /// Not serving.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it stands.
    pub state: CheckState,
    /// When it was looked at, RFC 3339.
    pub since: String,
    /// What was found.
    pub cause: String,
    /// The next command or step; absent when there is nothing to do.
    pub do_this: Option<String>,
}

impl Check {
    fn new(
        check: &'static str,
        state: CheckState,
        cause: impl Into<String>,
        do_this: Option<String>,
    ) -> Self {
        Self { check, state, since: Timestamp::now().to_string(), cause: cause.into(), do_this }
    }

    pub(crate) fn ok(check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(check, CheckState::Ok, cause, None)
    }

    pub(crate) fn degraded(check: &'static str, cause: impl Into<String>, next: &str) -> Self {
        Self::new(check, CheckState::Degraded, cause, Some(next.to_owned()))
    }
}

/// What is looked at.
pub(crate) struct Parts<'a> {
    pub(crate) home: &'a Path,
    pub(crate) store: &'a Store,
    pub(crate) journal: &'a Journal,
    pub(crate) kernel: &'a Kernel,
    pub(crate) minds: &'a Minds,
    pub(crate) arrivals: &'a Arrivals,
    pub(crate) elsewhere: &'a Elsewhere,
    pub(crate) gate: &'a Gate,
    pub(crate) isolation: Option<&'a TrialProcess>,
}

/// Every check of a running host, most basic first.
pub(crate) fn run(parts: &Parts<'_>) -> Vec<Check> {
    let Parts { home, store, journal, kernel, minds, arrivals, elsewhere, gate, isolation } = *parts;
    let mut checks = vec![
        Check::ok("home", format!("{} is this host's alone", home.display())),
        store_check(home, store),
        journal_check(journal),
    ];
    checks.extend(journal.set_back().map(|set_back| older_store_check(&set_back)));
    checks.extend(release_checks(store));
    checks.extend(forgotten_check(store));
    checks.extend(edition_checks(store));
    checks.extend(copies_check(home));
    checks.extend(directory_checks(arrivals));
    checks.extend(plugin_checks(kernel));
    checks.extend(mind_checks(minds));
    checks.push(engine_check(telos_forge::engine()));
    checks.extend(isolation.map(|isolation| trial_check(isolation.probe())));
    checks.extend(elsewhere.check());
    checks.extend(gate.check());
    checks
}

fn store_check(home: &Path, store: &Store) -> Check {
    let standing = store.standing();
    if let Some(cause) = standing.read_only {
        let next = "free the disk or mend it; the store reopens by itself".to_owned();
        return Check::new("store", CheckState::Degraded, format!("read-only: {cause}"), Some(next));
    }
    if let Some(cause) = standing.full {
        let next = format!("free some space on the device that {} is on; {FULL_NO_MORE}", home.display());
        return Check::new(
            "store",
            CheckState::Degraded,
            format!("reads only, no room: {cause}"),
            Some(next),
        );
    }
    if let Some(what) = standing.damage {
        let next = "`telos store verify` lists it, and clears this when nothing is wrong; `telos store restore` brings a backup back";
        return Check::new("store", CheckState::Degraded, what.to_string(), Some(next.to_owned()));
    }
    let usage = store.usage();
    let (fullest, stored) = match store.stores_most() {
        Some((component, stored)) => (format!("what {component} stores"), stored),
        None => (String::new(), 0),
    };
    let full = [
        ("database", usage.database_bytes, usage.database_bytes_max, FREE_DATABASE),
        ("blobs", usage.blob_bytes, usage.blob_bytes_max, FREE_BLOBS),
        ("vectors", usage.vector_bytes, usage.vector_bytes_max, FREE_VECTORS),
        (&fullest, stored, store.owner_bounds().stored_bytes, FREE_STORED),
    ];
    let full = full.into_iter().find(|(_, bytes, quota, _)| is_nearly_full(*bytes, *quota));
    match full {
        None => {
            let (position, pages) = (store.position(), looked_at(standing.pages));
            Check::ok("store", format!("open at position {position}{pages}{}", past(store)))
        }
        Some((what, bytes, quota, next)) => {
            let cause = format!("{what}: {} of {} are taken", size(bytes), size(quota));
            Check::new("store", CheckState::Degraded, cause, Some(next.to_owned()))
        }
    }
}

/// What need not be done.
const FULL_NO_MORE: &str = "the store then takes writes by itself";
/// What frees the database, once it is nearly full.
const FREE_DATABASE: &str =
    "`telos object forget`, then `telos store rewrite`; or raise the quota: `telos up --database-mib`";
/// What frees what one component stores.
const FREE_STORED: &str = "`telos object forget`, keep less of the past with `telos up --history-days`, or raise the quota: `telos up --storage-owner-mib`";
/// What frees blobs.
const FREE_BLOBS: &str = "raise the quota: `telos up --blob-mib`";
/// What frees vectors.
const FREE_VECTORS: &str = "`telos object forget`, or raise the quota: `telos up --vector-mib`";

/// As MiB; below one MiB as KiB.
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes.div_ceil(1 << 10)) } else { format!("{} MiB", bytes >> 20) }
}

/// Nine tenths: early enough to act, before units are refused.
fn is_nearly_full(bytes: u64, quota: u64) -> bool {
    bytes / 9 >= quota / 10
}

/// How far a look at every page has come; nothing where the file had been closed in good order.
fn looked_at(pages: PagesStanding) -> &'static str {
    match pages {
        PagesStanding::Unchecked => "; every page is being looked at, since it was not closed in good order",
        PagesStanding::Whole => "; every page was looked at and is whole",
        PagesStanding::Unfinished => {
            "; it was not closed in good order, and the look at its pages came to no end: `telos store verify` looks"
        }
        _ => "",
    }
}

/// How much of the past is kept, since nothing tells better that the past has a bound.
fn past(store: &Store) -> String {
    let Ok(view) = store.retention() else { return String::new() };
    let days = view.age_ms / (24 * 60 * 60 * 1_000);
    format!("; history from position {}, kept for {days} days", view.floor)
}

fn journal_check(journal: &Journal) -> Check {
    let stats = journal.stats();
    match &stats.degraded {
        None => Check::ok("journal", format!("{}", journal.dir().display())),
        Some(degraded) => {
            let mut check =
                Check::new("journal", CheckState::Degraded, &degraded.cause, Some(degraded.do_this.clone()));
            check.since.clone_from(&degraded.since);
            check
        }
    }
}

/// What is there is served; that more was there is for a person to judge. The journal knows it at one start only.
fn older_store_check(set_back: &SetBack) -> Check {
    let cause = format!(
        "{}; the store was like that when this host started, and the next start says nothing of it",
        older_store(set_back)
    );
    Check::new("store", CheckState::Degraded, cause, Some(OLDER_STORE_NEXT.to_owned()))
}

/// What to do about a store that is older than its journal.
const OLDER_STORE_NEXT: &str = "stop the host and bring a backup back with `telos store restore DIR`; or, if this store was put here on \
     purpose, go on";

/// The line that says so, once.
pub(crate) fn older_store_line(set_back: &SetBack) -> Line {
    let body = format!("{}: {OLDER_STORE_NEXT}", older_store(set_back));
    Line::new(Severity::Warn, "store.older", body)
        .with("position", set_back.position)
        .with("missing", set_back.missing)
}

/// The line of a restore whose process died after it was decided.
pub(crate) fn finished_restore_line() -> Line {
    let body = "this start finished a restore that had been decided; what was there before is kept beside the store, and \
                what was forgotten since the backup may be back";
    Line::new(Severity::Warn, "store.restore-finished", body)
}

/// What is missing, as far as the journal knows it: every decision, and how far the store was.
fn older_store(set_back: &SetBack) -> String {
    let position = set_back.position;
    let missing = match set_back.missing {
        0 => String::new(),
        1 => ", 1 decision among them".to_owned(),
        more => format!(", {more} decisions among them"),
    };
    match set_back.known_position {
        Some(known) if known > position => format!(
            "the store is at position {position}, the journal knows of position {known}: commits are missing{missing}"
        ),
        _ => format!(
            "the store, at position {position}, is not the one that the journal knows: commits of that are missing{missing}"
        ),
    }
}

/// Kept releases whose bytes are gone: they serve on while they are loaded, and no start, swap or rollback loads them.
/// Nothing, where all are there. A look at each file's name, not at its bytes.
fn release_checks(store: &Store) -> Vec<Check> {
    let releases = store.releases(None).unwrap_or_default();
    let gone = releases.iter().filter(|release| !store.has_blob(&release.digest));
    let seats = store.seats().unwrap_or_default();
    let gone = gone.map(|release| {
        let serves =
            seats.iter().any(|seat| seat.digest == release.digest && seat.component == release.component);
        let cause = format!(
            "the bytes of {} {} ({:.12}) are gone from the store: it cannot be loaded again",
            release.component,
            release.version,
            release.digest.to_string()
        );
        Check::new("release", CheckState::Degraded, cause, Some(bring_release_back(serves).into()))
    });
    gone.collect()
}

/// Installing lets a release serve, so that helps only the one that does.
fn bring_release_back(serves: bool) -> &'static str {
    match serves {
        true => "`telos plugin install FILE` with the file it came from, or `telos store restore DIR`",
        false => "nothing while you need no return to it; a backup that holds it: `telos store restore DIR`",
    }
}

/// Nothing, where the file has no bytes of what was forgotten.
fn forgotten_check(store: &Store) -> Option<Check> {
    let due = store.retention().ok()?.rewrite_due?;
    let cause = format!("the file still has bytes of what was forgotten at position {due}, or before");
    Some(Check::new("forgotten", CheckState::Degraded, cause, Some("`telos store rewrite`".into())))
}

/// One for each edition of the archive that something is wrong with, until its collection is archived again.
fn edition_checks(store: &Store) -> Vec<Check> {
    // What cannot be read is told by the store's own check.
    let given_up = store.editions_given_up().unwrap_or_default();
    let check = |edition: GivenUpEdition| {
        let GivenUpEdition { owner, collection, edition, why, .. } = edition;
        let cause = format!(
            "edition {edition} of {owner}/{collection} does not serve, so its vectors are in memory: {why}"
        );
        let next = format!("`telos memory archive {owner} {collection}`");
        Check::new("archive", CheckState::Degraded, cause, Some(next))
    };
    given_up.into_iter().filter(|edition| !edition.is_forgetting).map(check).collect()
}

/// Nothing, where there are none.
fn copies_check(home: &Path) -> Option<Check> {
    // What cannot be listed counts nothing.
    let kept = Store::kept_copies(&Home::at(home).store()).unwrap_or_default();
    let bytes: u64 = kept.iter().map(|copy| copy.bytes).sum();
    let copies = match kept.len() {
        0 => return None,
        1 => "1 earlier copy of the store is".to_owned(),
        more => format!("{more} earlier copies of the store are"),
    };
    let cause = format!(
        "{copies} kept as {}, {} MiB: they hold what was forgotten since",
        home.join("store.before-*").display(),
        bytes.div_ceil(1 << 20)
    );
    Some(Check::new("copies", CheckState::Ok, cause, Some("remove them when you no longer need them".into())))
}

/// Nothing, where every directory that was named can be watched.
fn directory_checks(arrivals: &Arrivals) -> Vec<Check> {
    let degraded = |check, cause: String, next: &str| {
        Check::new(check, CheckState::Degraded, cause, Some(next.to_owned()))
    };
    let unwatched = arrivals.unwatched().into_iter().map(|(directory, cause)| {
        let cause = format!("{} is not watched: {cause}", directory.display());
        degraded("inbox", cause, "make or mend that directory; it is watched from then on")
    });
    let absent = arrivals.absent_bundle().map(|directory| {
        let cause = format!("{} holds no bundle.toml, so it brings no plugins", directory.display());
        degraded("bundle", cause, "start again with --bundle DIR that holds one, or without it")
    });
    unwatched.chain(absent).collect()
}

fn plugin_checks(kernel: &Kernel) -> Vec<Check> {
    let rows = match kernel.plugins() {
        Ok(rows) => rows,
        Err(error) => {
            let next = "`telos store verify` with the host stopped".to_owned();
            return vec![Check::new("plugins", CheckState::Failed, error.to_string(), Some(next))];
        }
    };
    if rows.is_empty() {
        let next = "copy a component into the plugin directory, or `telos plugin install FILE`".to_owned();
        return vec![Check::new("plugins", CheckState::Degraded, "none is installed", Some(next))];
    }
    rows.iter().map(plugin_check).collect()
}

fn plugin_check(row: &serde_json::Value) -> Check {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let (id, version, cause) = (text("id"), text("version"), text("cause"));
    let next = row["next"].as_str().map(str::to_owned);
    match text("state") {
        "serving" if cause.is_empty() => Check::ok("plugin", format!("{id} {version} serves")),
        "serving" => {
            let state = if row["is_trouble"] == true { CheckState::Degraded } else { CheckState::Ok };
            Check::new("plugin", state, format!("{id} {version} serves; {cause}"), next)
        }
        "staged" if cause.is_empty() => {
            let next = format!("`telos plugin grant {id} all`");
            Check::new("plugin", CheckState::Degraded, format!("{id} {version} waits for grants"), Some(next))
        }
        "staged" => Check::new("plugin", CheckState::Degraded, format!("{id} does not serve; {cause}"), next),
        "removed" => Check::ok("plugin", format!("{id} was removed")),
        _ => {
            Check::new("plugin", CheckState::Failed, format!("{id} {version} does not serve: {cause}"), next)
        }
    }
}

fn mind_checks(minds: &Minds) -> Vec<Check> {
    let defaults = minds.list().into_iter().filter(|mind| mind.is_default);
    match minds.absence() {
        None => defaults.map(|mind| mind_check(&mind)).collect(),
        Some(absence) => defaults.map(|mind| absent_mind_check(&mind.name, absence)).collect(),
    }
}

fn absent_mind_check(name: &str, absence: &str) -> Check {
    Check::degraded("mind", format!("{name} does not answer: {absence}"), "use a `telos` with llama.cpp")
}

fn mind_check(mind: &MindInfo) -> Check {
    let name = &mind.name;
    let cause = match (mind.is_fetched, mind.is_damaged) {
        (true, false) => {
            return Check::ok("mind", format!("{name} is here and loads when it is first asked"));
        }
        (true, true) => format!("{name} does not load: its file is damaged"),
        (false, _) => format!("{name} is not on this machine"),
    };
    Check::new("mind", CheckState::Degraded, cause, Some(format!("`telos model pull {name}`")))
}

/// What behaviours in JavaScript run on here.
fn engine_check(engine: Option<&Engine>) -> Check {
    match engine {
        Some(Engine { name, c_compiler, rustc, .. }) => {
            Check::ok("engine", format!("{name:.23} runs JavaScript; by {c_compiler} and rustc {rustc}"))
        }
        None => Check::degraded(
            "engine",
            "this host was built without a JavaScript engine: behaviours in JavaScript do not serve here",
            "`cargo xtask engine` in its checkout, and build the host again",
        ),
    }
}

/// What a trial of a behaviour that asks for more can be confined with here, as a process said that tried to get out.
fn trial_check(probe: &Result<Probe, String>) -> Check {
    let probe = match probe {
        Ok(probe) => probe,
        Err(cause) => {
            let cause = format!("behaviours that ask for more cannot be tried: {cause}");
            return Check::degraded(
                "trial",
                cause,
                "start the host again with the program that is there now",
            );
        }
    };
    let held = format!(
        "a behaviour that asks for more is tried in a process of its own, held by {}",
        probe.confinement
    );
    let allowed = probe.allowed();
    match (probe.confinement.is_closed(), allowed.is_empty()) {
        (true, true) => Check::ok("trial", held),
        (true, false) => {
            let cause = format!("{held}, which let it {}", allowed.join(", "));
            Check::degraded("trial", cause, "approve no behaviour here that asks for more")
        }
        (false, _) => Check::degraded(
            "trial",
            held,
            "a Linux kernel with seccomp, and landlock, holds it; elsewhere its engine alone does",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mind_is_well_only_with_a_file_that_loads() {
        let check = |is_fetched, is_damaged| {
            mind_check(&MindInfo {
                name: "m".into(),
                kind: "text",
                context: 1,
                dimension: 0,
                is_default: true,
                is_fetched,
                is_damaged,
                is_resident: false,
            })
        };
        assert_eq!(check(true, false).state, CheckState::Ok);
        for (is_fetched, is_damaged, cause) in
            [(true, true, "its file is damaged"), (false, false, "not on this machine")]
        {
            let said = check(is_fetched, is_damaged);
            assert_eq!(
                (said.state, said.do_this),
                (CheckState::Degraded, Some("`telos model pull m`".into()))
            );
            assert!(said.cause.contains(cause), "{}", said.cause);
        }
    }

    #[test]
    fn an_engine_is_told_by_name_and_compilers_and_one_that_is_missing_with_the_next_step() {
        let engine = Engine {
            name: "js-engine-h0123456789abcdef",
            c_compiler: "clang version 14.0.6",
            rustc: "1.95.0",
            module: &[],
            templates: &[],
        };
        let there = engine_check(Some(&engine));
        assert_eq!(there.state, CheckState::Ok);
        let said = "js-engine-h0123456789ab runs JavaScript; by clang version 14.0.6 and rustc 1.95.0";
        assert_eq!((there.cause.as_str(), there.do_this), (said, None));
        let missing = engine_check(None);
        assert_eq!(missing.state, CheckState::Degraded);
        assert!(missing.do_this.unwrap().starts_with("`cargo xtask engine`"));
    }

    #[test]
    fn a_trial_is_well_only_where_nothing_gets_out() {
        let confinement =
            telos_forge::Confinement { rlimits: true, no_new_privs: true, landlock: Some(7), seccomp: true };
        let refused = ("read a file".to_owned(), Some("not permitted".to_owned()));
        let probe = Probe { confinement, tried: vec![refused] };
        let well = trial_check(&Ok(probe.clone()));
        assert_eq!(well.state, CheckState::Ok);
        assert!(well.cause.ends_with("held by rlimits, no_new_privs, landlock 7, seccomp"), "{}", well.cause);
        let leaky = Probe { tried: vec![("read a file".to_owned(), None)], ..probe.clone() };
        let leaky = trial_check(&Ok(leaky));
        assert_eq!(leaky.state, CheckState::Degraded);
        assert!(leaky.cause.ends_with("which let it read a file"), "{}", leaky.cause);
        let open = Probe { confinement: telos_forge::Confinement::default(), ..probe };
        assert_eq!(trial_check(&Ok(open)).state, CheckState::Degraded);
        assert_eq!(trial_check(&Err("it is gone".into())).state, CheckState::Degraded);
    }

    #[test]
    fn what_a_store_lacks_is_told_in_positions_where_they_are_known() {
        let told = |missing, known_position| older_store(&SetBack { missing, known_position, position: 40 });
        let known = "the store is at position 40, the journal knows of position 44: commits are missing";
        assert_eq!(told(0, Some(44)), known);
        assert_eq!(told(1, Some(44)), format!("{known}, 1 decision among them"));
        for position in [Some(7), None] {
            let said = told(7, position);
            assert!(said.contains("is not the one") && said.ends_with("7 decisions among them"), "{said}");
        }
    }

    #[track_caller]
    fn check(row: serde_json::Value, expected: (CheckState, &str, Option<&str>)) {
        let found = plugin_check(&row);
        assert_eq!((found.state, &*found.cause, found.do_this.as_deref()), expected);
    }

    #[test]
    fn a_plugin_says_what_it_waits_for_and_what_failed() {
        let row = |state: &str, cause: Option<&str>, is_trouble: bool| json!({"id": "a", "version": "1.0.0", "state": state, "cause": cause, "next": cause.map(|_| "do"), "is_trouble": is_trouble});
        check(row("serving", None, false), (CheckState::Ok, "a 1.0.0 serves", None));
        check(row("serving", Some("b"), false), (CheckState::Ok, "a 1.0.0 serves; b", Some("do")));
        check(row("serving", Some("b"), true), (CheckState::Degraded, "a 1.0.0 serves; b", Some("do")));
        check(row("staged", Some("b"), false), (CheckState::Degraded, "a does not serve; b", Some("do")));
        check(
            row("unloadable", Some("b"), true),
            (CheckState::Failed, "a 1.0.0 does not serve: b", Some("do")),
        );
    }
}
