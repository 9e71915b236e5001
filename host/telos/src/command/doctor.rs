//! `telos doctor`: is the host well, and if not, what to do.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::connection::{Connection, Reach};
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows};

/// Ends with 1 when the host is absent or not ready, or its store needs somebody: damage, no room, an older file.
pub(crate) async fn run(reach: Reach<'_>, output: &Output) -> Result<ExitCode, CommandError> {
    let info = match Connection::open(reach, output).await {
        Ok(host) => {
            let info = host.call("host.info", json!({})).await;
            host.close().await;
            info?
        }
        Err(CommandError::NoHost { .. }) => absent(reach.home),
        Err(error) => return Err(error),
    };
    output.result(&info, render)?;
    Ok(if is_well(&info) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// It serves, and its store needs nobody.
fn is_well(info: &Value) -> bool {
    let needs_nobody = |check: &Value| check["check"] != "store" || check["state"] == "ok";
    info["ready"] == true && info["checks"].as_array().into_iter().flatten().all(needs_nobody)
}

/// What `host.info` would say if there were someone to say it.
fn absent(home: &Path) -> Value {
    let cause = format!("no host is running at {}", home.display());
    let check =
        json!({"check": "host", "state": "failed", "cause": cause, "do_this": "start one with `telos up`"});
    json!({"home": home.display().to_string(), "ready": false, "checks": [check]})
}

fn render(info: &Value, paint: Paint) -> String {
    let row = |check: &Value| ["check", "state", "cause", "do_this"].map(|name| field(check, name)).to_vec();
    let mut text = paint.table(&["check", "state", "cause", "next"], rows(info, "checks").map(row).collect());
    let (word, verdict) = if info["ready"] == true { ("ok", "ready") } else { ("failed", "not ready") };
    text.push('\n');
    text.push_str(&paint.pairs(&[
        ("host", paint.word(word, verdict)),
        ("home", field(info, "home")),
        ("version", field(info, "version")),
        ("contract", field(info, "contract")),
        ("pid", field(info, "pid")),
        ("position", field(info, "position")),
    ]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_needs_somebody_is_no_success() {
        let of =
            |check: &str, state: &str| json!({"ready": true, "checks": [{"check": check, "state": state}]});
        assert!(is_well(&of("store", "ok")) && is_well(&of("mind", "degraded")));
        assert!(!is_well(&of("store", "degraded")) && !is_well(&absent(Path::new("/h"))));
    }

    #[test]
    fn an_absent_host_is_a_failed_check_with_a_next_step() {
        let text = render(&absent(Path::new("/h")), Paint::default());
        for part in ["failed", "no host is running at /h", "start one with `telos up`", "not ready"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
