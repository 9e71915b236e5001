//! The `telos` binary: reads its arguments, runs the command, ends with its code. Nothing else.
//!
//! Codes: 0 done, 1 refused or failed, 2 wrong usage.

mod argument;
mod command;
mod connection;
mod error;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use command::Arguments;
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match command::run(arguments, &output) {
        Ok(code) => code,
        Err(error) => output.fail(&error),
    }
}
