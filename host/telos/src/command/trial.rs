//! `telos trial`: the process that a host tries one behaviour in. Nobody types this, but for `--probe`.

use std::io::Write;
use std::process::{Command, ExitCode};

use clap::Args;
use telos_service::{Confinement, Probe, TRIAL_CPU_S_MAX, TRIAL_MEMORY_BYTES_MAX, try_one};

use crate::confine::{Bounds, Files};

const BOUNDS: Bounds =
    Bounds { memory_bytes: TRIAL_MEMORY_BYTES_MAX, cpu_s: TRIAL_CPU_S_MAX, threads: false };

#[derive(Debug, Args)]
pub(crate) struct Trial {
    /// Try to get out instead, and print what holds this process and what it was refused, as JSON.
    #[arg(long)]
    probe: bool,
}

/// Confines this process, and then does what it is for.
pub(crate) fn run(trial: &Trial) -> ExitCode {
    let files = Files::give_up();
    let done = match trial.probe {
        true => probe(files.close(BOUNDS)),
        false => try_one(|| files.close(BOUNDS)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            // Nobody reads it when the host is gone.
            let _ = writeln!(std::io::stderr(), "{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Tries what a trial must not be able to do.
fn probe(confinement: Confinement) -> Result<(), String> {
    let aside = std::env::temp_dir().join(format!("telos-probe-{}", std::process::id()));
    let attempts: [(&str, std::io::Result<()>); 7] = [
        ("list a directory", std::fs::read_dir("/").map(drop)),
        ("read a file", std::fs::read("/proc/self/status").map(drop)),
        ("write a file", std::fs::write(&aside, "x")),
        ("connect a socket", std::net::TcpStream::connect(("127.0.0.1", 9)).map(drop)),
        ("open a port", std::net::TcpListener::bind(("127.0.0.1", 0)).map(drop)),
        ("begin a thread", std::thread::Builder::new().spawn(|| {}).map(drop)),
        ("start a process", Command::new("/bin/true").status().map(drop)),
    ];
    let _ = std::fs::remove_file(&aside);
    let tried = attempts.into_iter().map(|(what, done)| (what.to_owned(), refusal(done))).collect();
    let told = serde_json::to_string(&Probe { confinement, tried }).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{told}").map_err(|error| error.to_string())
}

/// What the system said; none where it let that happen, also where it only went wrong.
fn refusal(done: std::io::Result<()>) -> Option<String> {
    let error = done.err()?;
    let is_refused = matches!(error.raw_os_error(), Some(code) if REFUSALS.contains(&code));
    is_refused.then(|| error.to_string())
}

/// Not permitted, no access, no more files, nothing left to begin with.
#[cfg(unix)]
const REFUSALS: [i32; 4] = [libc::EPERM, libc::EACCES, libc::EMFILE, libc::EAGAIN];
#[cfg(not(unix))]
const REFUSALS: [i32; 0] = [];
