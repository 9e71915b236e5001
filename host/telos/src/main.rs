//! The `telos` binary: reads its arguments, runs the command, ends with its code. Nothing else.
//!
//! Codes: 0 done, 1 refused or failed, 2 wrong usage.

mod argument;
mod command;
mod confine;
mod connection;
mod error;
mod output;
mod progress;
mod stop;

use std::process::ExitCode;

use clap::Parser;

use command::Arguments;
use output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json() => return Output::new(true).fail(&error.into()),
        Err(error) => error.exit(),
    };
    let output = Output::new(arguments.json);
    match command::run(arguments, &output) {
        Ok(code) => code,
        Err(error) => output.fail(&error),
    }
}

/// Whether `--json` is among arguments that could not be read.
fn wants_json() -> bool {
    std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}
