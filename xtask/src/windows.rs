//! How a process gives way to another, on Windows: we wait for it and pass its exit code on.

use std::process::Command;

/// Runs `command` and exits with its code; answers only when it cannot start.
pub(crate) fn replace_with(command: &mut Command) -> std::io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// Whether we may install system packages: there is no apt here.
pub(crate) fn is_root() -> bool {
    false
}
