//! `telos journal`: the host's journal, a line a line.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use telos_service::{Home, OfflineJournal};

use crate::connection::{Connection, DEADLINE, Piece, Reach};
use crate::error::CommandError;
use crate::output::{Output, Paint, field, plain, rows, show as show_value};

/// What a host does not say within this is read from its files.
const SOON: Duration = Duration::from_secs(3);
/// Following ends with the reader, or after a month.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3_600);

#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Show the last lines; without a host, those in the files.
    Tail(Tail),
    /// Read all of it, and say whether it keeps its promises.
    Verify {
        /// Also compare who serves, as audit, journal and seats say it.
        #[arg(long)]
        swaps: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// So many, at most 10,000.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u32,
    /// Go on with what comes, until Ctrl-C or until the host ends.
    #[arg(short, long)]
    follow: bool,
    /// Only this severity and above.
    #[arg(long)]
    severity: Option<Severity>,
    /// Only event names that begin so.
    #[arg(long, value_name = "PREFIX")]
    event: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

pub(crate) async fn run(
    journal: Journal,
    reach: Reach<'_>,
    output: &Output,
) -> Result<ExitCode, CommandError> {
    match journal {
        Journal::Tail(tail) => show(tail, reach, output).await.map(|()| ExitCode::SUCCESS),
        Journal::Verify { swaps } => verify(swaps, reach, output).await,
    }
}

async fn verify(swaps: bool, reach: Reach<'_>, output: &Output) -> Result<ExitCode, CommandError> {
    let host = Connection::open(reach, output).await?;
    let answer = host.call("journal.verify", json!({ "swaps": swaps })).await;
    host.close().await;
    let answer = answer?;
    output.result(&answer, render_verified)?;
    let agrees = rows(&answer["swaps"], "differences").next().is_none();
    Ok(if answer["sound"] == true && agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render_verified(answer: &Value, paint: Paint) -> String {
    let journal = &answer["journal"];
    let verdict = match answer["sound"] == true {
        true => paint.word("ok", "sound"),
        false => paint.word("failed", "not sound"),
    };
    let mut text = format!(
        "the journal is {verdict}: {} lines in {} files, {} faults",
        field(journal, "lines"),
        field(journal, "files"),
        field(journal, "faults")
    );
    for fault in rows(journal, "fault_list") {
        text.push_str(&format!("\n  {}", show_value(fault)));
    }
    let swaps = &answer["swaps"];
    if swaps.is_object() {
        text.push_str(&format!(
            "\nseats: {} decisions, {} of them in the journal's files, {} seats, {} accounts with {} hung up or lost, {} differences",
            field(swaps, "decisions"),
            field(swaps, "journalled"),
            field(swaps, "seats"),
            field(swaps, "accounts"),
            field(swaps, "lost"),
            rows(swaps, "differences").count()
        ));
        for difference in rows(swaps, "differences") {
            text.push_str(&format!("\n  {}", show_value(difference)));
        }
    }
    text
}

/// Asks the host; where none runs, or it does not answer, the files are read here.
async fn show(tail: Tail, reach: Reach<'_>, output: &Output) -> Result<(), CommandError> {
    match Connection::open_within(reach, reach.patience.min(SOON), output).await {
        Ok(host) => {
            let done = ask(&tail, &host, output).await;
            host.close().await;
            done
        }
        Err(error) if error.is_silence() => read(&tail, error, reach.home, output),
        Err(error) => Err(error),
    }
}

/// What the files hold; `absence`, the reason why no host was asked, when there are none.
fn read(tail: &Tail, absence: CommandError, home: &Path, output: &Output) -> Result<(), CommandError> {
    let home = Home::at(home);
    let Some(journal) = OfflineJournal::of(&home) else { return Err(absence) };
    for line in journal.tail(params(tail))? {
        output.result(&line, render)?;
    }
    if tail.follow {
        output.note(&format!("{absence}; nothing more is read"));
    }
    Ok(())
}

async fn ask(tail: &Tail, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let deadline = if tail.follow { FOLLOW_DEADLINE } else { DEADLINE };
    let mut pieces = host.stream("journal.tail", params(tail), deadline).await;
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece?,
            // Asked to stop: dropping the stream tells the host.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match piece {
            Some(Piece::Chunk { value, .. }) => output.result(&value, render)?,
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn params(tail: &Tail) -> Value {
    let mut params = json!({"lines": tail.lines, "follow": tail.follow});
    if let Some(severity) = tail.severity {
        params["severity"] = format!("{severity:?}").to_lowercase().into();
    }
    if let Some(event) = &tail.event {
        params["event"] = event.as_str().into();
    }
    params
}

/// `2026-11-22T23:01:51.123456789Z WARN  journal.loss  7 lines dropped  total=7`, the time cut to milliseconds.
fn render(line: &Value, paint: Paint) -> String {
    let time: String = field(line, "timestamp").chars().take("2026-11-22T23:01:51.123".len()).collect();
    let severity = field(line, "severity_text");
    let shown = paint.word(&severity, &format!("{severity:5}"));
    let body = field(line, "body").replace('\n', " ");
    let mut text = format!("{time} {shown} {}  {body}", field(line, "event_name"));
    for (name, value) in line["attributes"].as_object().into_iter().flatten() {
        text.push_str(&plain(&format!("  {name}={value}")).replace('\n', " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let line = json!({
            "timestamp": "2026-11-22T23:01:51.123456789Z", "severity_text": "WARN", "event_name": "journal.loss",
            "body": "7 lines\ndropped\u{1b}[2J", "attributes": {"total": 7, "producer": "a\nb"},
        });
        let text = render(&line, Paint::default());
        assert_eq!(
            text,
            "2026-11-22T23:01:51.123 WARN  journal.loss  7 lines dropped\u{fffd}[2J  producer=\"a\\nb\"  total=7"
        );
    }

    #[test]
    fn only_given_filters_are_asked_for() {
        let tail = Tail { lines: 5, follow: false, severity: Some(Severity::Warn), event: None };
        assert_eq!(params(&tail), json!({"lines": 5, "follow": false, "severity": "warn"}));
    }
}
