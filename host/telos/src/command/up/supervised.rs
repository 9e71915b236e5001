//! `telos up --supervise`: the same command in a process of its own, started again when that dies.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use telos_service::{ChildEvent, Ending, Home, Rules, Supervision, supervise};
use tokio::process::Command;
use tokio::sync::watch;

use crate::error::{CommandError, refused};
use crate::output::Output;
use crate::stop::StopSignal;

/// Runs the host until this process is told to stop, the host stops by itself or refuses to start, or it dies too often.
/// The code is the host's, which has then said itself what there is to say.
pub(super) async fn run(home: &Path, output: &Output) -> Result<ExitCode, CommandError> {
    let what = || format!("the home {} cannot be used", home.display());
    let begun = Supervision::begin(&Home::at(home)).await;
    let Some(_supervision) = begun.map_err(|source| CommandError::File { what: what(), source })? else {
        let message = format!("somebody supervises the host at {} already", home.display());
        return Err(refused(message, "stop that `telos up --supervise`, or choose another home"));
    };
    let mut stop = StopSignal::new()?;
    let program = std::env::current_exe()?;
    let (tell_stop, stopping) = watch::channel(false);
    let notes = *output;
    let told = Arc::new(move |event: &ChildEvent| tell(event, &notes));
    let command = move || {
        let mut command = Command::new(&program);
        command.args(arguments()).arg("--with-parent");
        apart(&mut command);
        command
    };
    let rules = Rules { is_over: |status| own_code(status).is_some(), is_heard: None };
    let mut supervised = Box::pin(supervise(command, rules, stopping, told));
    let ending = tokio::select! {
        ending = &mut supervised => ending,
        () = stop.wait() => {
            tell_stop.send_replace(true);
            supervised.await
        }
    };
    match ending {
        Ending::Told => Ok(ExitCode::SUCCESS),
        Ending::Over(status) => Ok(ExitCode::from(own_code(status).unwrap_or_default())),
        Ending::GivenUp => Err(refused(
            "the host died too often and is not started again",
            "read why with `telos journal tail`, or start it without --supervise",
        )),
    }
}

/// The code of a host that ended by its own decision: it stopped, or said why it does not start. A crash has none of
/// these.
fn own_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 2)
}

/// Those of this process, but for the supervision.
fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).filter(|argument| argument != "--supervise").collect()
}

/// A terminal's interrupt is for the supervisor alone, which tells the host.
#[cfg(unix)]
fn apart(command: &mut Command) {
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_command: &mut Command) {}

fn tell(event: &ChildEvent, output: &Output) {
    match event {
        ChildEvent::Ended { how, pause } => {
            output.note(&format!("the host died ({how}); it is started again in {} ms", pause.as_millis()));
        }
        ChildEvent::NotStarted { cause, pause } => {
            output.note(&format!("the host cannot be started ({cause}); again in {} ms", pause.as_millis()));
        }
        _ => {}
    }
}
