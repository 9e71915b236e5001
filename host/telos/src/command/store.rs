//! `telos store`: the store itself, with the host stopped.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};
use telos_service::Home;

use crate::error::{CommandError, refused};
use crate::output::{Output, Paint};

/// Commands about the store.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Check every invariant of the store; the host must be stopped.
    Verify,
}

/// Ends with 1 when something is wrong.
pub(crate) fn run(store: &Store, home: &Path, output: &Output) -> Result<ExitCode, CommandError> {
    let Store::Verify = store;
    let directory = Home::at(home).store();
    if !directory.is_dir() {
        return Err(refused(
            format!("there is no store at {}", directory.display()),
            "name the home with --home DIR",
        ));
    }
    let report = telos_store::Store::verify(&directory)
        .map_err(|error| refused(error.to_string(), "stop the host that uses it, then verify again"))?;
    let is_clean = report.is_clean();
    let shown = json!({
        "clean": is_clean,
        "position": report.position.get(),
        "rows": report.rows,
        "problems": report.problems,
    });
    output.result(&shown, render)?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(report: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for problem in report["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("{} {}\n", paint.word("failed", "✗"), problem.as_str().unwrap_or_default()));
    }
    let verdict = match report["clean"] == true {
        true => paint.word("ok", "clean"),
        false => paint.word("failed", "damaged; restore a backup"),
    };
    text + &format!("{verdict}: {} rows at position {}\n", report["rows"], report["position"])
}
