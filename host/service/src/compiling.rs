//! Compiling in a process of its own: a component that takes the compiler too far ends that process, and nobody else.
//!
//! ```text
//! telos compile --engine KIND    stdin: the component's bytes    stdout: its code    stderr: why not
//! ```
//! The child holds itself to its bounds of processor time and memory; the host holds it to a time.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use telos_kernel::{CompileError, Compiler, EngineKind, precompile};

/// Processor time of one compilation, seconds. The largest components take some ten.
pub const COMPILE_CPU_S_MAX: u64 = 120;
/// Memory that one compilation may write to.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 2 << 30;
/// How long one compilation may take, on a machine that others use as well.
const COMPILE_TIME: Duration = Duration::from_secs(300);
/// The child refused the bytes and said why; any other end is none of its own.
pub const COMPILE_REFUSED: u8 = 3;
const POLL: Duration = Duration::from_millis(2);
/// Longest refusal that is told.
const REFUSAL_BYTES_MAX: u64 = 4_096;
/// Largest code that is taken.
const CODE_BYTES_MAX: u64 = 1 << 30;

/// Compiles by starting a program that does.
pub(crate) struct CompilingProcess {
    program: PathBuf,
}

impl CompilingProcess {
    /// By this program, which must know `compile`.
    pub(crate) fn by(program: PathBuf) -> Self {
        Self { program }
    }

    fn start(&self, kind: EngineKind) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(["compile", "--engine", kind.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Compiler for CompilingProcess {
    fn compile(&self, kind: EngineKind, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        match self.start(kind) {
            Ok(child) => run(child, bytes),
            // The program was replaced or removed while the host runs, or there is no room for a process. What asks
            // has been tried already, or served before.
            Err(_) => precompile(kind, bytes),
        }
    }
}

fn run(mut child: Child, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (ended, code, said) = std::thread::scope(|scope| {
        // The child may end before it has read everything; then its end says why.
        scope.spawn(move || drop(stdin.map(|mut stdin| stdin.write_all(bytes))));
        let code = scope.spawn(move || read(stdout, CODE_BYTES_MAX));
        let said = scope.spawn(move || read(stderr, REFUSAL_BYTES_MAX));
        let ended = wait(&mut child);
        (ended, code.join().unwrap_or_default(), said.join().unwrap_or_default())
    });
    let hindered = |error: std::io::Error| CompileError::Hindered(error.to_string());
    match ended.map_err(hindered)? {
        Some(status) if status.success() => Ok(code),
        Some(status) if status.code() == Some(COMPILE_REFUSED.into()) => {
            Err(CompileError::Refused(String::from_utf8_lossy(&said).trim().to_owned()))
        }
        Some(status) => Err(CompileError::Exceeded(told(status, &said))),
        None => Err(CompileError::Exceeded(format!("it took longer than {} s", COMPILE_TIME.as_secs()))),
    }
}

/// How it ended; none when it took too long and was ended.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + COMPILE_TIME;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

fn read(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read until it broke off is what there is; how the child ended says the rest.
        let _ = from.take(most).read_to_end(&mut bytes);
    }
    bytes
}

fn told(status: ExitStatus, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let bounds = format!(
        "{COMPILE_CPU_S_MAX} s of processor time and {} MiB of memory",
        COMPILE_MEMORY_BYTES_MAX >> 20
    );
    match last.is_empty() {
        true => format!("its compiler ended with {status}; it may use {bounds}"),
        false => format!("its compiler ended with {status} and said {last:?}; it may use {bounds}"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
    fn by_script(script: &str) -> Result<Vec<u8>, CompileError> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        run(child, &vec![7; 300_000])
    }

    #[test]
    fn code_is_what_it_says_and_a_refusal_what_it_complains() {
        assert_eq!(by_script("cat").unwrap(), vec![7; 300_000]);
        assert!(
            matches!(by_script("echo no type 4 >&2; exit 3"), Err(CompileError::Refused(why)) if why == "no type 4")
        );
    }

    #[test]
    fn any_other_end_is_one_of_its_bounds() {
        for script in ["kill -9 $$", "kill -XCPU $$", "echo memory allocation failed >&2; exit 134"] {
            let ended = by_script(script);
            assert!(matches!(&ended, Err(CompileError::Exceeded(why)) if why.contains("120 s")), "{ended:?}");
        }
    }
}
