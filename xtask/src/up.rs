//! `cargo xtask up`: from a fresh machine to a running host with the default plugins and a small real model.
//!
//! Every phase is a no-op when its result is there, so a second run starts the host within seconds.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::engine;
use crate::guests;
use crate::phase::{Phases, execute};
use crate::process;
use crate::setup::{self, Tools};
use crate::workspace::Workspace;

/// Options of `up`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Do everything but start the host.
    #[arg(long)]
    prepare: bool,
    /// Passed on to `telos up`, after `--`.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Sets up, builds, fetches, and gives this process over to the host.
///
/// # Errors
/// When a phase fails, or the host cannot start.
pub(crate) fn run(workspace: &Workspace, phases: &mut Phases, options: &Options) -> Result<()> {
    let tools = setup::for_build(workspace, phases)?;
    phases.run("guests", || guests::build(workspace))?;
    engine::for_release(workspace, phases, &tools, "telos", has_minds(workspace).then_some("llama"))?;
    phases.run("host", || build_host(workspace, &tools))?;
    phases.run("bundle", || place_bundle(workspace))?;
    let host = release(workspace).join("telos").with_extension(std::env::consts::EXE_EXTENSION);
    if has_minds(workspace) {
        phases.run("models", || pull_models(workspace, &host))?;
    } else {
        phases.skip("models", "this host is built without the feature `llama`");
    }
    eprintln!("{} ready to start {}", phases.total(), host.display());
    if options.prepare { Ok(()) } else { start(workspace, &host, &options.arguments) }
}

/// Whether the host can be built with llama.cpp.
pub(crate) fn has_minds(workspace: &Workspace) -> bool {
    workspace.package("telos").is_some_and(|package| package.has_feature("llama"))
}

fn build_host(workspace: &Workspace, tools: &Tools) -> Result<()> {
    let mut command = tools.cargo(["build", "--release", "--package", "telos"]);
    if has_minds(workspace) {
        command.args(["--features", "llama"]);
    }
    execute(&mut command)
}

/// Copies the bundle beside the binary, index last: an index never names a file that is not there yet.
fn place_bundle(workspace: &Workspace) -> Result<()> {
    let (from, to) = (guests::bundle(workspace), release(workspace).join("plugins"));
    let index = Path::new("bundle.toml");
    let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            guests::copy_if_changed(&path, &to.join(name))?;
        }
    }
    guests::copy_if_changed(&from.join(index), &to.join(index))
}

fn pull_models(workspace: &Workspace, host: &Path) -> Result<()> {
    execute(
        Command::new(host).args(["model", "pull", "--default"]).env("TELOS_MODELS_DIR", workspace.models()),
    )
}

fn start(workspace: &Workspace, host: &Path, arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new(host);
    command.arg("up").args(arguments).env("TELOS_MODELS_DIR", workspace.models());
    Err(process::replace_with(&mut command)).with_context(|| format!("cannot start {}", host.display()))
}

fn release(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target.join("release")
}
