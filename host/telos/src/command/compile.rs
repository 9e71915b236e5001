//! `telos compile`: the process that a host compiles a component in. Nobody types this.

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Args;
use telos_service::{COMPILE_REFUSED, CompileError, EngineKind, precompile};

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// For which engine.
    #[arg(long)]
    engine: EngineKind,
}

/// Compiles what comes in, to what goes out, within bounds.
pub(crate) fn run(compile: &Compile) -> ExitCode {
    hold_to_bounds();
    let mut bytes = Vec::new();
    let compiled = match std::io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) => precompile(compile.engine, &bytes),
        Err(error) => Err(CompileError::Hindered(error.to_string())),
    };
    let (cause, code) = match compiled {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (error.to_string(), 1),
        },
        Err(CompileError::Refused(cause)) => (cause, COMPILE_REFUSED),
        Err(error) => (error.to_string(), 1),
    };
    // Nobody reads it when the host is gone.
    let _ = writeln!(std::io::stderr(), "{cause}");
    ExitCode::from(code)
}

/// What cannot be bounded here is bounded by the host's clock.
#[cfg(target_os = "linux")]
fn hold_to_bounds() {
    use rlimit::Resource;
    use telos_service::{COMPILE_CPU_S_MAX, COMPILE_MEMORY_BYTES_MAX};
    // Address space is no bound: the engine reserves a lot and touches none of it.
    lower(Resource::DATA, COMPILE_MEMORY_BYTES_MAX);
    lower(Resource::CPU, COMPILE_CPU_S_MAX);
    lower(Resource::CORE, 0);
}

/// Where it is lower already, it stays.
#[cfg(target_os = "linux")]
fn lower(resource: rlimit::Resource, most: u64) {
    let (soft, hard) = resource.get().unwrap_or((u64::MAX, u64::MAX));
    let _ = resource.set(soft.min(most), hard.min(most));
}

#[cfg(not(target_os = "linux"))]
fn hold_to_bounds() {}
