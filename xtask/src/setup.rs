//! Set-up: what a machine with only rustup, a C compiler and Python 3 still lacks.
//!
//! ```text
//! native tools     C++ compiler, make, pip  present | apt-get as root
//!                  cmake, libclang          present | apt-get as root | pinned Python wheels in target/tools
//! wasm target      wasm32-wasip2            present | rustup
//! engine tools     clang, llvm-ar           present | apt-get as root
//!                  wasm32-unknown-unknown   present | rustup
//! nextest          cargo-nextest            present | cargo install, pinned
//! windows target   rust-std, mingw-w64      present | rustup, apt-get as root | skipped outside CI
//! wine             wine, wineserver         present | apt-get as root | skipped outside CI
//! ```
//! What is present is used as it is; each step asks again after its work and believes only the answer.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::engine::{ENGINE_TARGET, OnRecord};
use crate::guests::WASM_TARGET;
use crate::phase::{self, Phases, ask, execute};
use crate::process;
use crate::workspace::Workspace;

mod clang;
mod native;

pub(crate) use clang::Compiler;

/// The Windows target that tests type-check, and for which they build what Wine runs.
pub(crate) const WINDOWS_TARGET: &str = "x86_64-pc-windows-gnu";

/// Links for that target, and compiles C for it.
pub(crate) const WINDOWS_LINKER: &str = "x86_64-w64-mingw32-gcc";
/// Wine runs x86-64 programs only where the processor does.
const CAN_HAVE_WINE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));
const NEXTEST_VERSION: &str = "0.9.143";

/// Where children of ours find the tools that set-up brought; empty when the system has them all.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    variables: Vec<(&'static str, OsString)>,
}

impl Tools {
    /// A `cargo` child that finds the tools.
    pub(crate) fn cargo<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = phase::cargo(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Prepares to build host and guests.
///
/// # Errors
/// When a tool is missing and cannot be brought; the message says what to install.
pub(crate) fn for_build(workspace: &Workspace, phases: &mut Phases) -> Result<Tools> {
    let tools = phases.run("native tools", || native::prepare(&workspace.target.join("tools")))?;
    phases.run("wasm target", prepare_wasm_target)?;
    Ok(tools)
}

/// Prepares to build and to run every check.
///
/// # Errors
/// As [`for_build`]; a missing Windows tool chain or Wine is an error only in CI.
pub(crate) fn for_tests(workspace: &Workspace, phases: &mut Phases) -> Result<Tools> {
    let tools = for_build(workspace, phases)?;
    phases.run("nextest", prepare_nextest)?;
    phases.run("windows target", prepare_windows_target)?;
    phases.run("wine", prepare_wine)?;
    Ok(tools)
}

/// Makes `wasm32-wasip2` available to rustc.
///
/// # Errors
/// When the target is absent and rustup cannot add it.
pub(crate) fn prepare_wasm_target() -> Result<()> {
    prepare_rust_target(WASM_TARGET)
}

/// Makes a C compiler for the JavaScript engine available, and its target to rustc.
///
/// # Errors
/// When one is missing and cannot be brought; the message says what to install.
pub(crate) fn prepare_engine_tools(workspace: &Workspace) -> Result<Compiler> {
    let compiler = clang::prepare(&OnRecord::read(&workspace.root)?.clang)?;
    prepare_rust_target(ENGINE_TARGET)?;
    Ok(compiler)
}

/// What is missing for the Windows check, or `None` when it can run.
pub(crate) fn windows_gap() -> Option<String> {
    if !has_rust_target(WINDOWS_TARGET) {
        return Some(format!("the Rust target {WINDOWS_TARGET} is not installed"));
    }
    (!runs(WINDOWS_LINKER))
        .then(|| format!("{WINDOWS_LINKER} is not installed (Debian: gcc-mingw-w64-x86-64)"))
}

/// What is missing to run what was built for Windows, or `None` when it can run.
pub(crate) fn wine_gap() -> Option<String> {
    ["wine", "wineserver"]
        .into_iter()
        .find(|program| !runs(program))
        .map(|program| format!("{program} is not installed (Debian: wine, wine64)"))
}

fn prepare_nextest() -> Result<()> {
    if ask("cargo", &["nextest", "--version"]).is_some() {
        return Ok(());
    }
    execute(&mut phase::cargo(["install", "--locked", "cargo-nextest", "--version", NEXTEST_VERSION]))
        .context("install cargo-nextest by hand, then run this again")
}

fn prepare_windows_target() -> Result<()> {
    let prepared = prepare_rust_target(WINDOWS_TARGET).and_then(|()| prepare_windows_linker());
    match prepared {
        Err(error) if !phase::is_ci() => {
            eprintln!("  {error:#}: the windows check will be skipped");
            Ok(())
        }
        prepared => prepared,
    }
}

fn prepare_windows_linker() -> Result<()> {
    if !runs(WINDOWS_LINKER) {
        install_packages(&["gcc-mingw-w64-x86-64", "g++-mingw-w64-x86-64"]);
    }
    windows_gap().map_or(Ok(()), |gap| bail!(gap))
}

fn prepare_wine() -> Result<()> {
    if CAN_HAVE_WINE && windows_gap().is_none() && wine_gap().is_some() {
        install_packages(&["wine", "wine64"]);
    }
    match wine_gap() {
        Some(gap) if CAN_HAVE_WINE && phase::is_ci() => bail!(gap),
        Some(gap) => eprintln!("  {gap}: the windows check will run nothing"),
        None => {}
    }
    Ok(())
}

fn prepare_rust_target(target: &str) -> Result<()> {
    if has_rust_target(target) {
        return Ok(());
    }
    execute(Command::new("rustup").args(["target", "add", target]))
        .with_context(|| format!("rustc has no {target}, and only rustup can add it"))
}

fn has_rust_target(target: &str) -> bool {
    ask("rustc", &["--print", "target-libdir", "--target", target])
        .and_then(|folder| fs::read_dir(folder).ok())
        .is_some_and(|mut files| files.next().is_some())
}

fn runs(program: &str) -> bool {
    ask(program, &["--version"]).is_some()
}

/// Asks apt for packages, when we may. Says nothing about success: the caller looks for what it wanted,
/// because an `update` with one broken source may still leave everything that is needed.
fn install_packages(packages: &[&str]) {
    if !process::is_root() || !runs("apt-get") {
        return;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        if let Err(error) = execute(&mut command) {
            eprintln!("  {error:#}");
        }
    };
    apt(&["update", "--quiet"]);
    apt(&[&["install", "--quiet", "--yes", "--no-install-recommends"], packages].concat());
}
