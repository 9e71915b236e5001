//! How a process gives way to another, on Unix: the program takes our place, signals and all.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `command` in place of this process; answers only when it cannot start.
pub(crate) fn replace_with(command: &mut Command) -> std::io::Error {
    command.exec()
}

/// Whether we may install system packages.
pub(crate) fn is_root() -> bool {
    crate::phase::ask("id", &["-u"]).is_some_and(|id| id == "0")
}
