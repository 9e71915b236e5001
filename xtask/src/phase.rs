//! Phases: named steps with elapsed time, and the child commands they are made of.
//!
//! A child never sees our stdin, so no step can wait for a person. What a child prints is passed through.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The clock that all phases of one run share.
pub(crate) struct Phases {
    started: Instant,
}

impl Phases {
    /// Starts the clock.
    pub(crate) fn start() -> Phases {
        Phases { started: Instant::now() }
    }

    /// Runs one phase: its name when it starts, its name and elapsed time when it ends.
    ///
    /// # Errors
    /// Whatever `work` answers, after printing that the phase failed.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("[   ...  ] {name}");
        let began = Instant::now();
        let result = work();
        let verdict = if result.is_ok() { "" } else { ": failed" };
        eprintln!("{} {name}{verdict}", stamp(began.elapsed()));
        result
    }

    /// Prints a phase that is left out, and why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        eprintln!("[skipped ] {name}: {reason}");
    }

    /// Time since the first phase began, as printed before a phase's name.
    pub(crate) fn total(&self) -> String {
        stamp(self.started.elapsed())
    }
}

/// A `cargo` child, free of what `cargo run` told us about ourselves.
///
/// Build scripts may ask to run again when such a variable changes; inherited ones would rebuild crates
/// that a plain `cargo build` has just built.
pub(crate) fn cargo<I, S>(arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new("cargo");
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a child to its end, with no stdin and its output passed through.
///
/// # Errors
/// When the program cannot start, or ends with anything but success; both name the whole command.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let line = spell(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// As [`execute`], and kills the child when it takes longer than `limit`; its own children are the caller's to end.
///
/// # Errors
/// As [`execute`], and when it was killed.
pub(crate) fn execute_within(command: &mut Command, limit: Duration) -> Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let line = spell(command);
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    loop {
        match child.try_wait().with_context(|| format!("cannot wait for `{line}`"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("`{line}` ended with {status}"),
            None if began.elapsed() < limit => std::thread::sleep(LOOK_EVERY),
            None => break,
        }
    }
    child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot end `{line}`"))?;
    bail!("`{line}` was not done after {} s", limit.as_secs())
}

/// What a child printed on stdout, or `None` when it is not there or failed. For questions, not for work.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether this run is CI: then nothing optional may be missing.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

fn stamp(elapsed: Duration) -> String {
    format!("[{:6.1} s]", elapsed.as_secs_f64())
}

fn is_about_this_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

fn spell(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    line
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<()> {
        execute_within(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended_and_named() {
        let began = Instant::now();
        let error = sh("exec sleep 600", Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "`sh -c exec sleep 600` was not done after 0 s");
        assert!(began.elapsed() < Duration::from_secs(300), "it was waited for");
    }

    #[test]
    fn a_child_within_its_time_is_judged_by_how_it_ends() {
        let limit = Duration::from_secs(300);
        sh("exit 0", limit).unwrap();
        assert!(sh("exit 3", limit).unwrap_err().to_string().contains("exit status: 3"));
    }
}
