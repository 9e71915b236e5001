//! Goal: a behaviour that asks for more than storage and logging is tried in a process of its own, which reaches nothing,
//! ends with it, and is told from what ended it. Method: the real binary, candidates that misbehave, `kill -9`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::running::{Running, eventually};

const GREET: &str = "export function handle(self, args, telos) {
  if (args !== 'Ada') telos.badArguments('the name of somebody who is known');
  return telos.send('00000000000000000000000000000001', 'greet', args) + '!';
}
";
const LOOP: &str = "export function handle() { for (;;) {} }\n";
const HOG: &str =
    "export function handle() { const all = []; for (;;) all.push(new Array(10000).fill(1)); }\n";

/// Tries source that uses `messaging`, on one example whose `send` is recorded.
fn attempt(running: &Running, source: &str) -> Output {
    let (source, examples) = (written(running, "candidate.js", source), examples(running));
    running.run(&["forge", "try", &source, "--examples", &examples, "--uses", "messaging"])
}

#[track_caller]
fn verdict(tried: &Output) -> Value {
    let said = String::from_utf8_lossy(&tried.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn faults(verdict: &Value) -> Vec<String> {
    let failed = verdict["checks"].as_array().unwrap().iter().filter(|check| check["passed"] == false);
    failed.map(|check| format!("{}: {}", check["name"], check["detail"])).collect()
}

fn written(running: &Running, name: &str, text: &str) -> String {
    let path = running.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn examples(running: &Running) -> String {
    let spec = json!({
        "summary": "Greets.",
        "examples": [{
            "name": "ada", "arguments": "Ada",
            "recordings": [["send", "hello Ada"]], "expect": {"value": "hello Ada!"},
        }],
    });
    written(running, "examples.json", &spec.to_string())
}

/// Processes that try a candidate for a host.
fn trials_of(host: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|process| is_trial(Path::new(&format!("/proc/{process}")), host)).collect()
}

/// Processes come and go while they are looked at.
fn is_trial(process: &Path, host: u32) -> bool {
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
    let is_child = read("status").lines().any(|line| line == format!("PPid:\t{host}"));
    is_child && read("cmdline").split('\0').collect::<Vec<_>>()[1..] == ["trial", ""]
}

fn host(running: &Running) -> u32 {
    running.host.as_ref().unwrap().id()
}

#[test]
fn what_asks_for_more_is_tried_in_a_process_of_its_own_that_says_what_holds_it() {
    let running = Running::with_counter();
    let tried = verdict(&attempt(&running, GREET));
    assert_eq!(faults(&tried), Vec::<String>::new());
    assert_eq!(tried["passed"], true);
    assert_eq!(tried["layer"]["name"], "isolated");
    let held = &tried["layer"]["confinement"];
    assert_eq!(
        (&held["rlimits"], &held["no_new_privs"], &held["seccomp"]),
        (&json!(true), &json!(true), &json!(true))
    );
    let (source, examples) = (running.path().join("candidate.js"), examples(&running));
    let told = running.text(&[
        "forge",
        "try",
        source.to_str().unwrap(),
        "--examples",
        &examples,
        "--uses",
        "messaging",
    ]);
    assert!(told.contains("isolated, in a process of its own, held by rlimits, no_new_privs"), "{told}");
    assert!(trials_of(host(&running)).is_empty(), "it is thrown away");
}

#[test]
fn what_asks_for_storage_alone_is_tried_by_the_host() {
    let running = Running::with_counter();
    let source =
        written(&running, "plain.js", "export function handle(self, args) { return 'hello Ada!'; }\n");
    let tried = running.ok(&["forge", "try", &source, "--examples", &examples(&running)]);
    assert_eq!(tried["layer"], json!({"name": "restricted"}));
}

#[test]
fn a_fault_of_a_candidate_that_asks_for_more_is_told_as_any_other() {
    let running = Running::with_counter();
    let tried = attempt(&running, "export function handle(self) {\n  return self.;\n}\n");
    assert_eq!(tried.status.code(), Some(1));
    let faults = faults(&verdict(&tried));
    assert!(faults[0].contains("it starts") && faults[0].contains("behaviour.js:2:"), "{faults:?}");
}

#[test]
fn a_candidate_that_loops_or_hogs_memory_is_at_fault_and_the_host_serves() {
    let running = Running::with_counter();
    for (source, fault) in [(LOOP, "interrupted"), (HOG, "out of memory")] {
        let tried = attempt(&running, source);
        assert_eq!(tried.status.code(), Some(1));
        let verdict = verdict(&tried);
        assert_eq!(verdict["layer"]["name"], "isolated");
        let faults = faults(&verdict);
        assert!(faults[0].contains("example `ada`") && faults[0].contains(fault), "{faults:?}");
        assert!(trials_of(host(&running)).is_empty(), "its process is gone");
        assert_eq!(running.value("counter", "read"), 0);
    }
}

#[test]
fn a_trial_that_is_killed_says_nothing_of_the_candidate() {
    let running = Running::with_counter();
    let (host, is_over) = (host(&running), AtomicBool::new(false));
    let tried = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                for process in trials_of(host) {
                    // It may have ended meanwhile.
                    let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
                }
            }
        });
        let tried = attempt(&running, LOOP);
        is_over.store(true, Ordering::SeqCst);
        tried
    });
    assert_eq!(tried.status.code(), Some(1));
    let told = verdict(&tried)["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.contains("could not be tried") && told.contains("ended from outside"), "{told}");
    assert_eq!(running.value("counter", "read"), 0);
    assert_eq!(verdict(&attempt(&running, GREET))["passed"], true, "and the next one is tried");
}

#[test]
fn a_trial_reaches_no_file_no_socket_and_no_process() {
    let probed = Command::new(env!("CARGO_BIN_EXE_telos")).args(["trial", "--probe"]).output().unwrap();
    let probed = verdict(&probed);
    assert_eq!(probed["confinement"]["seccomp"], true, "{probed}");
    let tried = probed["tried"].as_array().unwrap();
    let names: Vec<&str> = tried.iter().map(|attempt| attempt[0].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "list a directory",
            "read a file",
            "write a file",
            "connect a socket",
            "open a port",
            "begin a thread",
            "start a process"
        ]
    );
    assert!(tried.iter().all(|attempt| attempt[1].is_string()), "refused, each of them: {probed}");
}

#[test]
fn a_trial_ends_when_its_host_has_gone() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_telos"))
        .arg("trial")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it waits for its order");
    drop(child.stdin.take());
    eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn doctor_says_what_a_trial_is_held_by() {
    let running = Running::with_counter();
    let checks = running.doctor()["checks"].as_array().unwrap().clone();
    let trial = checks.iter().find(|check| check["check"] == "trial").unwrap();
    assert_eq!(trial["state"], "ok", "{trial}");
    assert!(trial["cause"].as_str().unwrap().contains("held by rlimits, no_new_privs"), "{trial}");
}
