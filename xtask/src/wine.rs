//! Wine: what was built for Windows runs here too.
//!
//! ```text
//! program    the bridge's example `echo`, beside the stand-in for a DLL that Wine 8 lacks
//! prefix     target/wine, made anew and removed: Wine copies itself into it, 700 MB
//! end        prefix and program have a minute each; nothing of it is left running
//! ```
//! No display, no registry of the user's, no menus of the desktop: only console programs run here.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::phase::{execute, execute_within};
use crate::setup::{Tools, WINDOWS_LINKER, WINDOWS_TARGET};
use crate::workspace::Workspace;

/// A new prefix takes 4 s on two free cores, and the echo 2 s; on busy ones ten times as long was seen.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Its own DLL before Wine's, and neither .NET, nor a browser, nor menus, which only cost time.
const DLL_OVERRIDES: &str = "bcryptprimitives=n,b;mscoree,mshtml,winemenubuilder.exe=d";

/// Builds the bridge's echo for Windows; with `is_run`, sends it through Wine.
///
/// # Errors
/// When it does not build, finds a difference, or Wine takes longer than a minute to start or to run it.
pub(crate) fn check_bridge(workspace: &Workspace, tools: &Tools, is_run: bool) -> Result<()> {
    let build = ["build", "--package", "telos-bridge", "--example", "echo", "--target", WINDOWS_TARGET];
    execute(&mut tools.cargo(build))?;
    if !is_run {
        return Ok(());
    }
    let folder = workspace.target.join(WINDOWS_TARGET).join("debug/examples");
    build_stand_in(workspace, &folder)?;
    run(&workspace.target.join("wine"), &folder.join("echo.exe"))
}

fn build_stand_in(workspace: &Workspace, folder: &Path) -> Result<()> {
    let source = workspace.root.join("tests/windows/bcryptprimitives.c");
    let mut linker = Command::new(WINDOWS_LINKER);
    linker.args(["-shared", "-Wall", "-Wextra", "-Werror", "-o"]).arg(folder.join("bcryptprimitives.dll"));
    execute(linker.arg(source).arg("-ladvapi32"))
}

fn run(prefix: &Path, program: &Path) -> Result<()> {
    clear(prefix)?;
    fs::create_dir_all(prefix).with_context(|| format!("cannot make {}", prefix.display()))?;
    let made = execute_within(inside(prefix, "wine").args(["wineboot", "--init"]), TIME_MAX);
    let ran = made.and_then(|()| execute_within(inside(prefix, "wine").arg(program), TIME_MAX));
    // Services go on after the program, and may have ended by themselves, which it calls a failure.
    let _ = execute_within(inside(prefix, "wineserver").arg("--kill"), TIME_MAX);
    ran.and(clear(prefix))
}

/// A program of Wine's that knows this prefix only, and says nothing of its own but what stops it.
fn inside(prefix: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("WINEPREFIX", prefix).env("WINEARCH", "win64").env("HOME", prefix);
    command.env("WINEDEBUG", "-all").env("WINEDLLOVERRIDES", DLL_OVERRIDES);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// Links in a prefix lead out of it, and are removed without being followed.
fn clear(prefix: &Path) -> Result<()> {
    match fs::remove_dir_all(prefix) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot clear {}", prefix.display()))
        }
        _ => Ok(()),
    }
}
