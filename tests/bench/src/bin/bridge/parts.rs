//! The parts of an echo, each a process of its own: this program again, told what to be.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{bare, ours};

/// A part at work; it ends with the value.
pub(crate) struct Part {
    child: Child,
    /// What it said when it was ready: where it is.
    pub(crate) place: String,
    _input: ChildStdin,
}

impl Part {
    pub(crate) fn start(role: &str, places: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg("part").arg(role).args(places).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a part");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut place = String::new();
        BufReader::new(output).read_line(&mut place).expect("a part that is ready");
        Self { child, place: place.trim().to_owned(), _input: input }
    }
}

impl Part {
    /// What its process has in memory; 0 where the system does not tell.
    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(&self.child.id().to_string())
    }
}

/// Of a process, by its number or `self`.
pub(crate) fn resident_bytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is what the arguments after `part` say, until standard input ends.
pub(crate) async fn be(mut arguments: impl Iterator<Item = String>) {
    let role = arguments.next().unwrap_or_default();
    let places: Vec<String> = arguments.collect();
    let place = |index: usize| places.get(index).map(String::as_str).unwrap_or_default();
    match role.as_str() {
        "our-queue" => ours::be_queue(place(0)).await,
        "our-worker" => ours::be_worker(place(0), place(1)).await,
        "bare-queue" => bare::be_queue().await,
        "bare-worker" => bare::be_worker(place(0)).await,
        other => panic!("no part is called {other:?}"),
    }
}

/// Says where it is, and waits until nobody needs it.
pub(crate) async fn stay(place: &str) {
    use std::io::Write;
    let mut output = std::io::stdout();
    writeln!(output, "{place}").and_then(|()| output.flush()).expect("somebody who listens");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = ended.await;
}
