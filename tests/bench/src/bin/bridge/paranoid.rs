//! The echo through a Paranoid Pirate in Python: queue, worker and client are processes of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use telos_bench::Samples;

use crate::Measured;

/// Queue, worker and client, after the ZeroMQ Guide's pattern.
const PROGRAM: &str = include_str!("paranoid.py");
const WHEEL: &str = "pyzmq==27.3.0";

pub(crate) fn measure(python: &Path, size: usize, outstanding: usize, run: Duration) -> Measured {
    let arguments = [size.to_string(), outstanding.to_string(), run.as_secs_f64().to_string()];
    let said = Command::new(python).args(["-c", PROGRAM]).args(arguments).output().expect("a Python");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: Value = serde_json::from_slice(&said.stdout).expect("figures");
    let mut round_trips = Samples::default();
    for us in said["round_trips_us"].as_array().into_iter().flatten().filter_map(Value::as_f64) {
        round_trips.add(Duration::from_secs_f64(us / 1e6));
    }
    Measured { round_trips, took: Duration::from_secs_f64(said["took_s"].as_f64().expect("a figure")) }
}

/// A Python with pyzmq, made once; in the build's directory.
pub(crate) fn set_up() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let target = program.ancestors().nth(2).ok_or("this program is in no directory")?;
    let dir = target.join("bench-pyzmq");
    let python = dir.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = dir.join("wheels");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == WHEEL) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", WHEEL]))?;
    fs::write(stamp, WHEEL).map_err(|cause| cause.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(cause) => Err(format!("{command:?}: {cause}")),
    }
}
