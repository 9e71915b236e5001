//! Automation: `cargo xtask setup | guests | engine | up | test | bench`.
//!
//! Each command is a list of phases; a phase prints its name when it starts and its elapsed time when it
//! ends, on stderr, so that stdout stays free for machine output. Every phase may be interrupted and run
//! again: cargo resumes builds, and files of ours are written beside their name and renamed into place.
//! Never here: what the host does with a plugin, a model or an object.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod engine;
mod guests;
mod phase;
mod setup;
mod test;
mod up;
mod wine;
mod workspace;

#[cfg(unix)]
#[path = "unix.rs"]
mod process;
#[cfg(windows)]
#[path = "windows.rs"]
mod process;

use phase::Phases;
use workspace::Workspace;

/// Set-up, test and bench automation of TelOS.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring what building and testing need: cmake, libclang, clang, Rust targets, cargo-nextest, the JavaScript engine.
    Setup,
    /// Build every guest component and the bundle of default plugins.
    Guests,
    /// Build the JavaScript engine that hosts carry, into target/js-engine.
    Engine(engine::Options),
    /// Set up, build, fetch the default models and run the host with the default plugins.
    Up(up::Options),
    /// Set up and run every check: what CI runs.
    Test(test::Options),
    /// Run one benchmark in release.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::read()?;
    let mut phases = Phases::start();
    match command {
        Command::Setup => {
            let tools = setup::for_tests(&workspace, &mut phases)?;
            build_engine(&workspace, &mut phases, &tools, &engine::Options::default())
        }
        Command::Guests => {
            phases.run("wasm target", setup::prepare_wasm_target)?;
            phases.run("guests", || guests::build(&workspace)).map(drop)
        }
        Command::Engine(options) => {
            let tools = setup::for_build(&workspace, &mut phases)?;
            build_engine(&workspace, &mut phases, &tools, &options)
        }
        Command::Up(options) => up::run(&workspace, &mut phases, &options),
        Command::Test(options) => test::run(&workspace, &mut phases, &options),
        Command::Bench(options) => bench::run(&workspace, &mut phases, &options),
    }
}

fn build_engine(
    workspace: &Workspace,
    phases: &mut Phases,
    tools: &setup::Tools,
    options: &engine::Options,
) -> Result<()> {
    let compiler = phases.run("engine tools", || setup::prepare_engine_tools(workspace))?;
    phases.run("engine", || engine::run(workspace, tools, &compiler, options))
}
