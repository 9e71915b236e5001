//! `telos compile`: the process that a host compiles a component in. Nobody types this.

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Args;
use telos_service::{
    COMPILE_CPU_S_MAX, COMPILE_MEMORY_BYTES_MAX, COMPILE_REFUSED, CompileError, EngineKind, precompile,
};

use crate::confine::{Bounds, Files};

/// A large component is compiled on every processor.
const BOUNDS: Bounds =
    Bounds { memory_bytes: COMPILE_MEMORY_BYTES_MAX, cpu_s: COMPILE_CPU_S_MAX, threads: true };

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// For which engine.
    #[arg(long)]
    engine: EngineKind,
}

/// Compiles what comes in, to what goes out, within bounds and confined to that.
pub(crate) fn run(compile: &Compile) -> ExitCode {
    // What cannot be held here is held by the host's clock.
    Files::give_up().close(BOUNDS);
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
