//! `telos store`: the whole store. With a running host the host does it while it serves; else this process does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use telos_service::{Home, OfflineStore};

use super::told_path;
use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, size, time};
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

/// Ends with 1 when something is wrong.
pub(crate) async fn run(store: Store, home: &Path, output: &Output) -> Result<ExitCode, CommandError> {
    match store {
        Store::Verify => return verify(home, output).await,
        Store::Backup { dir } => backup(&told_path(&dir)?, home, output).await?,
        Store::Restore(Restore { dir, force }) => {
            let restored = OfflineStore::of(&Home::at(home)).restore(
                Path::new(&told_path(&dir)?),
                force,
                &mut shown(output),
            );
            output.result(&ended(restored, output)?, render_restored)?;
        }
        Store::Rewrite => rewrite(home, output).await?,
        Store::Stats => stats(home, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(home: &Path, output: &Output) -> Result<ExitCode, CommandError> {
    let report = match running(home).await? {
        Some(host) => called(host, "store.verify", json!({}), output).await?,
        None => ended(OfflineStore::of(&Home::at(home)).verify(&mut shown(output)), output)?,
    };
    output.result(&report, render_report)?;
    Ok(if report["clean"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn backup(to: &str, home: &Path, output: &Output) -> Result<(), CommandError> {
    let report = match running(home).await? {
        Some(host) => called(host, "store.backup", json!({ "path": to }), output).await?,
        None => ended(OfflineStore::of(&Home::at(home)).back_up(Path::new(to), &mut shown(output)), output)?,
    };
    output.result(&report, render_backup)
}

/// The host of a home; none when none runs.
async fn running(home: &Path) -> Result<Option<Connection>, CommandError> {
    match Connection::open(home).await {
        Ok(host) => Ok(Some(host)),
        Err(CommandError::NoHost { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn rewrite(home: &Path, output: &Output) -> Result<(), CommandError> {
    let report = match running(home).await? {
        Some(host) => called(host, "store.rewrite", json!({}), output).await?,
        None => ended(OfflineStore::of(&Home::at(home)).rewrite(&mut shown(output)), output)?,
    };
    output.result(&report, render_rewritten)
}

async fn stats(home: &Path, output: &Output) -> Result<(), CommandError> {
    let stats = match running(home).await? {
        Some(host) => called(host, "store.stats", json!({}), output).await?,
        None => OfflineStore::of(&Home::at(home)).stats()?,
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
        "backed up position {} to {}: {} objects, {} blobs, {}, every row checked\n",
        field(report, "position"),
        field(report, "path"),
        field(report, "objects"),
        field(report, "blobs"),
        size(report["database_bytes"].as_u64().unwrap_or(0) + report["blob_bytes"].as_u64().unwrap_or(0)),
    )
}

fn render_restored(report: &Value, paint: Paint) -> String {
    let mut text = format!(
        "restored position {}: {} objects, {} blobs; the store is now at position {}\n",
        field(report, "backup_position"),
        field(report, "objects"),
        field(report, "blobs"),
        field(report, "position"),
    );
    for problem in report["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("{} {}\n", paint.word("failed", "✗"), problem.as_str().unwrap_or_default()));
    }
    if let Some(replaced) = report["replaced"].as_str() {
        text.push_str(&format!("what was there is kept in {replaced}\n"));
    }
    text
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
        ("vectors", field(counts, "vectors")),
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
    fn statistics_show_quotas_and_how_much_of_the_past_is_kept() {
        let stats = json!({
            "store": "ab", "read_only": null,
            "counts": {"position": 9, "objects": 2, "object_rows": 5, "vectors": 0, "posts_pending": 0, "dead_letters": 0, "audit_rows": 3, "blobs": 1},
            "usage": {"database_bytes": 1_572_864, "database_bytes_max": 1_u64 << 34, "blob_bytes": 0, "blob_bytes_max": 1_u64 << 32},
            "history": {"floor": 4, "floor_ms": null, "age_ms": 2_592_000_000_u64, "rows_max": 1_000_000, "superseded_rows": 3, "rewrite_due": 8},
        });
        let text = render_stats(&stats, Paint::default());
        for part in [
            "database     1.5 MiB of 16384 MiB",
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
