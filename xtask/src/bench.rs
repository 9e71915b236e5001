//! `cargo xtask bench NAME`: one benchmark binary of the package `telos-bench`, in release.
//!
//! A benchmark is a binary there that prints one JSON object per row with `--json`; nothing here knows any
//! of them by name.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::engine;
use crate::guests;
use crate::phase::{Phases, execute};
use crate::setup;
use crate::workspace::Workspace;

const PACKAGE: &str = "telos-bench";

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which benchmark; a wrong name lists those there are.
    name: String,
    /// Print one JSON object per row on stdout.
    #[arg(long)]
    json: bool,
    /// Run longer than a minute, for figures with less noise.
    #[arg(long)]
    long: bool,
    /// Passed on to the benchmark, after `--`.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds guests, the engine and the benchmark, then runs it.
///
/// # Errors
/// When there is no such benchmark, when a build fails, or when the benchmark does.
pub(crate) fn run(workspace: &Workspace, phases: &mut Phases, options: &Options) -> Result<()> {
    require(workspace, &options.name)?;
    let tools = setup::for_build(workspace, phases)?;
    phases.run("guests", || guests::build(workspace))?;
    engine::for_release(workspace, phases, &tools, PACKAGE, Some("llama"))?;
    let selection = ["--release", "--package", PACKAGE, "--bin", &options.name, "--features", "llama"];
    phases.run("build", || execute(tools.cargo(["build"]).args(selection)))?;
    phases.run(&options.name, || {
        let mut command = tools.cargo(["run", "--quiet"]);
        command.args(selection).arg("--").args(flags(options)).args(&options.arguments);
        command.env("TELOS_GUESTS", workspace.guests()).env("TELOS_MODELS_DIR", workspace.models());
        execute(command.stdout(Stdio::inherit()))
    })
}

fn require(workspace: &Workspace, name: &str) -> Result<()> {
    let package = workspace
        .package(PACKAGE)
        .with_context(|| format!("this checkout has no benchmarks: no package {PACKAGE}"))?;
    let names: Vec<&str> = package.binaries().collect();
    if !names.contains(&name) {
        bail!("no benchmark `{name}`; there are: {}", names.join(", "));
    }
    Ok(())
}

fn flags(options: &Options) -> impl Iterator<Item = &'static str> {
    [(options.json, "--json"), (options.long, "--long")]
        .into_iter()
        .filter_map(|(is_set, flag)| is_set.then_some(flag))
}
