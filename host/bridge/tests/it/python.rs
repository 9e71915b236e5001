//! Programs in Python with pyzmq, in a virtual environment of their own that is made once, in the build's directory.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/ppp/requirements.txt");

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of the checkout.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A Python with pyzmq. Without a network the first time there is none, and a test may do without; not so in CI.
pub(crate) fn python() -> Option<PathBuf> {
    match set_up() {
        Ok(python) => Some(python),
        Err(cause) if std::env::var_os("CI").is_none() => {
            eprintln!("not tried, for there is no Python with pyzmq: {cause}");
            None
        }
        Err(cause) => panic!("no Python with pyzmq: {cause}"),
    }
}

/// Made beside and moved into place, whole, so that tests in other processes may do the same at once.
fn set_up() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let target = program.ancestors().nth(3).ok_or("this program is in no directory")?;
    let pinned = std::fs::read_to_string(REQUIREMENTS).map_err(|cause| cause.to_string())?;
    let version =
        pinned.lines().find_map(|line| line.strip_prefix("pyzmq==")).ok_or("pyzmq is not pinned")?;
    let place = target.join(format!("ppp-python-{}", version.trim_end_matches(['\\', ' '])));
    if !place.is_dir() {
        let fresh = tempfile::tempdir_in(target).map_err(|cause| cause.to_string())?;
        run(Command::new("python3").args(["-m", "venv"]).arg(fresh.path()))?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
        let pinned = ["--require-hashes", "--requirement", REQUIREMENTS];
        run(Command::new(interpreter(fresh.path())).args(pip).args(pinned))?;
        // Where another was quicker, theirs is as good.
        let _ = std::fs::rename(fresh.path(), &place);
    }
    Ok(interpreter(&place))
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(cause) => Err(format!("{command:?}: {cause}")),
    }
}

/// A program that tells what it does, a line at a time. It ends with the value.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    pub(crate) fn start(python: &Path, name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(python)
            .arg(file(&format!("tests/ppp/{name}.py")))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { child, lines }
    }

    /// Waits until it says so; what it says before is passed over.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == wanted => return,
                Ok(_) => {}
                Err(cause) => panic!("it never said {wanted:?}: {cause}"),
            }
        }
    }

    /// What it has said since, without waiting.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A Lazy Pirate's answers, as soon as it has them all.
pub(crate) async fn ask(python: &Path, frontend: &str, requests: &[&str]) -> Vec<String> {
    let mut command = Command::new(python);
    command.arg(file("tests/ppp/client.py")).args([frontend, "60", "2"]).args(requests);
    tokio::task::spawn_blocking(move || lines(command)).await.unwrap()
}

/// What the example of that name prints.
pub(crate) fn example(python: &Path, name: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(python);
    command.arg(file("examples").join(name)).args(arguments);
    lines(command)
}

/// What the example's header says of its output.
pub(crate) fn expected_output(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file("examples").join(name)).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("Expected output")).skip(1);
    lines.take_while(|line| line.starts_with("    ")).map(|line| line.trim().to_owned()).collect()
}

fn lines(mut command: Command) -> Vec<String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
