//! `telos store`: the whole store. With a running host the host does it while it serves; else this process does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use telos_service::{Home, OfflineStore};

use super::told_path;
use crate::connection::{Connection, Reach};
use crate::error::CommandError;
use crate::output::{Output, Paint, counted, field, plain, size, time};
use crate::progress;

/// Commands about the store.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Check every invariant; without a host also every page of the file.
    Verify,
    /// Copy the whole store into a new directory, checked, while messages flow.
    Backup {
        /// A directory that does not exist yet.
        dir: PathBuf,
    },
    /// Make the store what a backup holds; the host must be stopped. What was there is kept beside it.
    Restore(Restore),
    /// Change objects as a Lua script says, all in one commit, after a backup; the host must be stopped.
    Evolve(Evolve),
    /// Give free pages back and let the bytes of what was forgotten leave the file.
    Rewrite,
    /// Show how much it holds, what it takes of its quotas, and how much of the past is kept.
    Stats,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup's directory.
    dir: PathBuf,
    /// Also over the store of another home, or one that cannot be read.
    #[arg(long)]
    force: bool,
}

/// What a script can say; the rest is of Lua 5.4: `string`, `table`, `math` and `utf8`, without what has no bound.
const SCRIPTING: &str = "\
In the script:
  for object in store.objects(COMPONENT) do .. end     what it owns; without COMPONENT all
  for name, object in store.names(PREFIX) do .. end    in order
  store.find(NAME)  store.get(ID)  store.owners()  store.create(COMPONENT)
  store.bind(NAME, object)  store.unbind(NAME)
  object:get(SLOT)  object:set(SLOT, value)  object:remove(SLOT)  object:rename(SLOT, NEW)
  object:slots()  object:names()  object:parents()  object:set_parents{..}
  object.id  object.owner  object.generation = 2       raised only, to what a release knows, and for all of a component
  null  array{..}  print(..)                           JSON's null; an array, also when empty

As in Lua, `#list` may end at any hole of a list: count with a loop where there may be some.
Nothing can be caught: the first mistake ends the script, and nothing was changed.";

#[derive(Debug, Args)]
#[command(after_help = SCRIPTING)]
pub(crate) struct Evolve {
    /// The script, Lua 5.4 of at most 256 KiB. It has `store` and no way to anything else.
    #[arg(long, value_name = "FILE")]
    script: PathBuf,
    /// Write nothing; show what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Ends with 1 when something is wrong.
impl Store {
    /// See [`super::Command::local_work`].
    pub(super) fn local_work(&self) -> Option<&'static str> {
        match self {
            Store::Restore { .. } | Store::Evolve { .. } => {
                Some("changes the store of this home, without a host")
            }
            _ => None,
        }
    }
}

pub(crate) async fn run(store: Store, reach: Reach<'_>, output: &Output) -> Result<ExitCode, CommandError> {
    match store {
        Store::Verify => return verify(reach, output).await,
        Store::Backup { dir } => backup(&told_path(&dir)?, reach, output).await?,
        Store::Restore(Restore { dir, force }) => {
            let restored = OfflineStore::of(&Home::at(reach.home)).restore(
                Path::new(&told_path(&dir)?),
                force,
                &mut shown(output),
            );
            tell_host(&restored, "restore", reach, output).await;
            output.result(&ended(restored, output)?, render_restored)?;
        }
        Store::Evolve(Evolve { script, dry_run }) => {
            let evolved =
                OfflineStore::of(&Home::at(reach.home)).evolve(&script, dry_run, &mut shown(output));
            // A dry run writes nothing, in no journal either.
            if !dry_run {
                tell_host(&evolved, "evolve", reach, output).await;
            }
            output.result(&ended(evolved, output)?, render_evolved)?;
        }
        Store::Rewrite => rewrite(reach, output).await?,
        Store::Stats => stats(reach, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(reach: Reach<'_>, output: &Output) -> Result<ExitCode, CommandError> {
    let report = match running(reach, output).await? {
        Some(host) => called(host, "store.verify", json!({}), output).await?,
        None => ended(OfflineStore::of(&Home::at(reach.home)).verify(&mut shown(output)), output)?,
    };
    output.result(&report, render_report)?;
    Ok(if report["clean"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn backup(to: &str, reach: Reach<'_>, output: &Output) -> Result<(), CommandError> {
    let report = match running(reach, output).await? {
        Some(host) => called(host, "store.backup", json!({ "path": to }), output).await?,
        None => {
            ended(OfflineStore::of(&Home::at(reach.home)).back_up(Path::new(to), &mut shown(output)), output)?
        }
    };
    output.result(&report, render_backup)
}

/// The host of a home; none when none runs.
async fn running(reach: Reach<'_>, output: &Output) -> Result<Option<Connection>, CommandError> {
    match Connection::open(reach, output).await {
        Ok(host) => Ok(Some(host)),
        Err(CommandError::NoHost { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A refusal because a host runs is a line in that host's journal. Whether it takes it changes nothing for us.
async fn tell_host(
    answer: &Result<Value, telos_bridge::RpcError>,
    work: &str,
    reach: Reach<'_>,
    output: &Output,
) {
    let Some(refused) = answer.as_ref().err().filter(|error| error.data.kind == "in-use") else { return };
    if let Ok(Some(host)) = running(reach, output).await {
        let _ = host.call("store.refused", json!({"work": work, "cause": refused.message})).await;
        host.close().await;
    }
}

async fn rewrite(reach: Reach<'_>, output: &Output) -> Result<(), CommandError> {
    let report = match running(reach, output).await? {
        Some(host) => called(host, "store.rewrite", json!({}), output).await?,
        None => ended(OfflineStore::of(&Home::at(reach.home)).rewrite(&mut shown(output)), output)?,
    };
    output.result(&report, render_rewritten)
}

async fn stats(reach: Reach<'_>, output: &Output) -> Result<(), CommandError> {
    let stats = match running(reach, output).await? {
        Some(host) => called(host, "store.stats", json!({}), output).await?,
        None => OfflineStore::of(&Home::at(reach.home)).stats()?,
    };
    output.result(&stats, render_stats)
}

async fn called(
    host: Connection,
    method: &str,
    params: Value,
    output: &Output,
) -> Result<Value, CommandError> {
    let answer = progress::call(&host, method, params, output).await;
    host.close().await;
    answer
}

fn shown(output: &Output) -> impl FnMut(Value) {
    move |told| progress::show(&told, output)
}

fn ended(answer: Result<Value, telos_bridge::RpcError>, output: &Output) -> Result<Value, CommandError> {
    progress::clear(output);
    Ok(answer?)
}

fn render_report(report: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for problem in report["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("{} {}\n", paint.word("failed", "✗"), problem.as_str().unwrap_or_default()));
    }
    let verdict = match report["clean"] == true {
        true => paint.word("ok", "clean"),
        false => paint.word("failed", "damaged; `telos store restore DIR` brings back a backup"),
    };
    text + &format!("{verdict}: {} rows at position {}\n", report["rows"], report["position"])
}

fn render_backup(report: &Value, _: Paint) -> String {
    format!(
        "backed up position {} to {}: {}, {}, {}, every row checked\n",
        field(report, "position"),
        field(report, "path"),
        counted(report, "objects"),
        counted(report, "blobs"),
        size(report["database_bytes"].as_u64().unwrap_or(0) + report["blob_bytes"].as_u64().unwrap_or(0)),
    )
}

fn render_restored(report: &Value, paint: Paint) -> String {
    let mut text = format!(
        "restored position {}: {}, {}; the store is now at position {}\n",
        field(report, "backup_position"),
        counted(report, "objects"),
        counted(report, "blobs"),
        field(report, "position"),
    );
    for problem in report["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("{} {}\n", paint.word("failed", "✗"), problem.as_str().unwrap_or_default()));
    }
    text.push_str(&forgotten_back(report));
    if let Some(replaced) = report["replaced"].as_str() {
        text.push_str(&format!("what was there is kept in {replaced}\n"));
    }
    text
}

/// What a restore brings back that was to be gone for good.
fn forgotten_back(report: &Value) -> String {
    let since = field(report, "backup_position");
    match report["forgotten_back"].as_u64() {
        None if report["replaced"].is_string() => {
            format!(
                "nobody can tell whether objects forgotten since position {since} are back: what was there cannot be read\n"
            )
        }
        None | Some(0) => String::new(),
        Some(1) => format!("1 object forgotten since position {since} is back\n"),
        Some(objects) => format!("{objects} objects forgotten since position {since} are back\n"),
    }
}

fn render_evolved(report: &Value, paint: Paint) -> String {
    let is_dry_run = report["dry_run"] == true;
    let mut text =
        lines_of(&report["printed"], |line| plain(line.as_str().unwrap_or_default()), "lines printed");
    let components = report["components"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = components.map(component_row).collect();
    if !rows.is_empty() {
        let headers =
            ["component", "objects", "made", "slots added", "changed", "removed", "parents", "generations"];
        text.push_str(&paint.table(&headers, rows));
    }
    for raise in report["raised"].as_array().into_iter().flatten() {
        text.push_str(&raised_line(raise));
    }
    let (bound, unbound) = (&report["names"]["bound"], &report["names"]["unbound"]);
    if *bound != 0 || *unbound != 0 {
        text.push_str(&format!("names: {bound} bound, {unbound} unbound\n"));
    }
    let differences = json!({ "lines": report["differences"], "left_off": report["differences_left_off"] });
    text.push_str(&lines_of(&differences, difference_line, "differences"));
    text + &evolved_verdict(report, is_dry_run)
}

fn raised_line(raise: &Value) -> String {
    format!(
        "{}: {} in generation {}; releases of an earlier generation do not serve any more\n",
        plain(&field(raise, "component")),
        counted(raise, "objects"),
        field(raise, "to")
    )
}

/// Lines, and how many are not among them.
fn lines_of(listed: &Value, line: impl Fn(&Value) -> String, what: &str) -> String {
    let mut text: String =
        listed["lines"].as_array().into_iter().flatten().map(|entry| line(entry) + "\n").collect();
    let left_off = listed["left_off"].as_u64().unwrap_or(0);
    if left_off > 0 {
        text.push_str(&format!("and {left_off} more {what}\n"));
    }
    text
}

fn component_row(changes: &Value) -> Vec<String> {
    let names = [
        "component",
        "objects",
        "created",
        "slots_added",
        "slots_changed",
        "slots_removed",
        "parents",
        "generations",
    ];
    names.iter().map(|name| field(changes, name)).collect()
}

/// `who what: before -> after`; nothing stands for what is not there.
fn difference_line(difference: &Value) -> String {
    let text = |name: &str| difference[name].as_str().map_or_else(|| "nothing".to_owned(), plain);
    let who = difference["name"].as_str().or(difference["object"].as_str()).unwrap_or_default();
    let what = match difference["of"].as_str().unwrap_or_default() {
        "slot" => field(difference, "which"),
        "name" => format!("name {}", field(difference, "which")),
        other => other.to_owned(),
    };
    format!("{who} {}: {} -> {}", plain(&what), text("before"), text("after"))
}

fn evolved_verdict(report: &Value, is_dry_run: bool) -> String {
    let objects = counted(report, "objects");
    match (report["position"].as_u64(), is_dry_run) {
        (None, _) => "nothing differs; the store is as it was\n".into(),
        (Some(position), true) => {
            format!("dry run: {objects} would be changed, at position {position}; nothing was written\n")
        }
        (Some(position), false) => format!(
            "changed {objects} at position {position}\nthe store as it was is in {}\n",
            field(report, "backup")
        ),
    }
}

fn render_rewritten(report: &Value, _: Paint) -> String {
    let bytes = |name: &str| size(report[name].as_u64().unwrap_or(0));
    format!("{} before, {} after\n", bytes("bytes_before"), bytes("bytes_after"))
}

fn render_stats(stats: &Value, paint: Paint) -> String {
    let (counts, usage, history) = (&stats["counts"], &stats["usage"], &stats["history"]);
    let of_quota = |bytes: &str, quota: &str| {
        let bytes = size(usage[bytes].as_u64().unwrap_or(0));
        // Absent where no host runs: the quota is what a host is started with.
        match usage[quota].as_u64() {
            Some(quota) => format!("{bytes} of {} MiB", quota >> 20),
            None => bytes,
        }
    };
    let rewrite_due = history["rewrite_due"].as_u64();
    paint.pairs(&[
        ("store", field(stats, "store")),
        ("position", field(counts, "position")),
        ("objects", format!("{}, {} states", field(counts, "objects"), field(counts, "object_rows"))),
        (
            "vectors",
            format!("{}, {}", field(counts, "vectors"), of_quota("vector_bytes", "vector_bytes_max")),
        ),
        (
            "posts",
            format!("{} pending, {} dead", field(counts, "posts_pending"), field(counts, "dead_letters")),
        ),
        ("audit rows", field(counts, "audit_rows")),
        ("database", of_quota("database_bytes", "database_bytes_max")),
        ("blobs", format!("{}, {}", field(counts, "blobs"), of_quota("blob_bytes", "blob_bytes_max"))),
        ("history", history_text(history)),
        ("read-only", field(stats, "read_only")),
        (
            "rewrite due",
            rewrite_due.map(|at| format!("since position {at}: `telos store rewrite`")).unwrap_or_default(),
        ),
    ])
}

/// From where on the past can be read, and by which rule it goes.
fn history_text(history: &Value) -> String {
    let since = Some(time(&history["floor_ms"])).filter(|time| !time.is_empty());
    let since = since.map(|time| format!(" ({time})")).unwrap_or_default();
    let states = field(history, "superseded_rows");
    let text = format!("from position {}{since}: {states} earlier states", field(history, "floor"));
    match history["age_ms"].as_u64() {
        Some(age_ms) => {
            let (days, rows_max) = (age_ms / (24 * 3_600 * 1_000), field(history, "rows_max"));
            format!("{text}, kept for {days} days and at most {rows_max}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_says_where_the_old_store_is() {
        let report = json!({"backup_position": 7, "position": 8, "objects": 2, "blobs": 1, "problems": [], "replaced": "/h/store.before-restore-1"});
        let text = render_restored(&report, Paint::default());
        assert!(text.contains("restored position 7") && text.contains("now at position 8"), "{text}");
        assert!(text.contains("kept in /h/store.before-restore-1"), "{text}");
    }

    #[test]
    fn a_restore_says_what_was_forgotten_only_where_it_is_known() {
        let said = |back: Value| forgotten_back(&json!({"backup_position": 7, "forgotten_back": back}));
        assert_eq!(said(json!(1)), "1 object forgotten since position 7 is back\n");
        assert_eq!(said(json!(2)), "2 objects forgotten since position 7 are back\n");
        assert_eq!((said(json!(0)), said(Value::Null)), (String::new(), String::new()));
        let unknown =
            forgotten_back(&json!({"backup_position": 7, "forgotten_back": null, "replaced": "/h/s"}));
        assert!(unknown.starts_with("nobody can tell"), "{unknown}");
    }

    #[test]
    fn a_migration_shows_what_changed_and_where_the_old_store_is() {
        let mut report = json!({
                   "dry_run": false, "position": 8, "objects": 2, "backup": "/h/store.before-evolve-1",
                   "components": [{"component": "people", "objects": 2, "created": 1, "slots_added": 3, "slots_changed": 0, "slots_removed": 1, "parents": 0, "generations": 0}],
        "raised": [{"component": "people", "from": 1, "to": 2, "objects": 2}],
                   "names": {"bound": 1, "unbound": 0},
                   "differences": [
                       {"object": "0a", "name": "people/ada", "of": "slot", "which": "name", "before": "\"Ada\\u001b[2J\""},
                       {"object": "0b", "of": "generation", "before": "1", "after": "2"},
                   ],
                   "differences_left_off": 4,
                   "printed": {"lines": ["hello \u{1b}[2J"], "left_off": 1},
               });
        let text = render_evolved(&report, Paint::default());
        for part in [
            "and 1 more lines printed",
            "people/ada name: \"Ada",
            "-> nothing\n",
            "0b generation: 1 -> 2\n",
            "and 4 more differences",
            "names: 1 bound, 0 unbound",
            "people: 2 objects in generation 2; releases of an earlier generation do not serve any more",
            "changed 2 objects at position 8",
            "the store as it was is in /h/store.before-evolve-1",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        report["dry_run"] = json!(true);
        assert!(render_evolved(&report, Paint::default()).contains("nothing was written"));
        report["position"] = Value::Null;
        assert!(render_evolved(&report, Paint::default()).contains("nothing differs"));
    }

    #[test]
    fn statistics_show_quotas_and_how_much_of_the_past_is_kept() {
        let stats = json!({
            "store": "ab", "read_only": null,
            "counts": {"position": 9, "objects": 2, "object_rows": 5, "vectors": 0, "posts_pending": 0, "dead_letters": 0, "audit_rows": 3, "blobs": 1},
            "usage": {"database_bytes": 1_572_864, "database_bytes_max": 1_u64 << 34, "blob_bytes": 0, "blob_bytes_max": 1_u64 << 32, "vector_bytes": 2_048, "vector_bytes_max": 1_u64 << 30},
            "history": {"floor": 4, "floor_ms": null, "age_ms": 2_592_000_000_u64, "rows_max": 1_000_000, "superseded_rows": 3, "rewrite_due": 8},
        });
        let text = render_stats(&stats, Paint::default());
        for part in [
            "database     1.5 MiB of 16384 MiB",
            "vectors      0, 2 KiB of 1024 MiB",
            "from position 4: 3 earlier states, kept for 30 days and at most 1000000",
            "since position 8: `telos store rewrite`",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        // Without a host nobody knows its quotas.
        let usage = json!({"database_bytes": 1_572_864, "database_bytes_max": null, "blob_bytes": 0});
        let history = json!({"floor": 4, "floor_ms": null, "age_ms": null, "superseded_rows": 3});
        let text = render_stats(&json!({"usage": usage, "history": history}), Paint::default());
        assert!(text.contains("1.5 MiB\n") && text.contains("3 earlier states\n"), "{text}");
    }
}
