//! Goal: what a worker dies of ends nobody else, and a host that dies comes back.
//! Method: real processes; workers and hosts are killed where they stand.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::running::{Running, eventually, guest};

/// Journal lines of an event, oldest first.
fn lines(running: &Running, event: &str) -> Vec<Value> {
    let directory = std::fs::read_dir(running.path().join("journal")).unwrap();
    let mut files: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let text: String = texts.collect();
    let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line.to_string().contains(&format!("\"{event}\""))).collect()
}

pub(crate) fn bridge(running: &Running, counter: &str) -> u64 {
    running.ok(&["vitals"])["bridge"][counter].as_u64().unwrap()
}

/// Processes that have this home among their arguments.
pub(crate) fn processes(running: &Running, what: &str) -> Vec<u32> {
    let home = running.path().display().to_string();
    let is_ours = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains(&home) && arguments.contains(what)
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(is_ours).collect()
}

pub(crate) fn kill(pid: u32) {
    signal(pid, "-KILL");
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn with_workers(count: &str) -> Running {
    let mut running = Running::new();
    running.stop();
    running.start_with(&["--workers", count]);
    eventually("the workers are ready", || bridge(&running, "workers").to_string() == count);
    running
}

#[test]
fn candidates_are_tried_by_a_worker() {
    let running = with_workers("1");
    let checked = running.ok(&["plugin", "check", guest("counter").to_str().unwrap()]);
    assert_eq!((checked["ok"].as_bool(), &checked["id"]), (Some(true), &json!("counter")));
    assert!(!checked["examples"].as_array().unwrap().is_empty());
    assert_eq!(bridge(&running, "given"), 1);
    running.ok(&["plugin", "install", guest("counter").to_str().unwrap()]);
    assert_eq!(running.value("counter", "increment"), json!(1));
    assert_eq!(bridge(&running, "given"), 2);
    let worker = running.ok(&["vitals"])["peers"].as_array().unwrap().clone();
    let worker = worker.into_iter().find(|peer| peer["role"] == "worker").unwrap();
    let can = if cfg!(feature = "llama") { json!(["inference", "sandbox"]) } else { json!(["sandbox"]) };
    assert_eq!(worker["worker"]["services"], can);
}

#[test]
fn what_is_no_component_is_refused_by_a_worker_in_the_hosts_words() {
    let alone = Running::new();
    let with = with_workers("1");
    let file = with.path().join("no.wasm");
    std::fs::write(&file, b"\0asm\x0d\0\x01\0nonsense").unwrap();
    let refusal = |running: &Running| running.refused(&["plugin", "check", file.to_str().unwrap()]);
    assert_eq!(refusal(&with), refusal(&alone));
    assert_eq!(bridge(&with, "given"), 1);
}

#[cfg(not(feature = "llama"))]
#[test]
fn a_build_without_llama_says_that_no_mind_answers_and_offers_none() {
    let running = Running::new();
    let doctor = running.doctor();
    let mut minds = doctor["checks"].as_array().unwrap().iter().filter(|check| check["check"] == "mind");
    let mind = minds.next().unwrap();
    assert!(
        mind["state"] == "degraded" && mind["cause"].as_str().unwrap().contains("without llama.cpp"),
        "{mind}"
    );
    let refused = running.refused(&["worker", "--roles", "inference"]).to_string();
    assert!(refused.contains("without llama.cpp"), "{refused}");
}

#[test]
fn a_lost_worker_is_started_again_and_what_it_had_waits_for_it() {
    let running = with_workers("1");
    for (times, how) in [(1, "-KILL"), (2, "-TERM")] {
        let [worker] = processes(&running, "worker --connect")[..] else { panic!("one worker") };
        signal(worker, how);
        running.ok(&["plugin", "install", guest("counter").to_str().unwrap()]);
        let given = bridge(&running, "given");
        assert!(given >= times, "{how}: it was done by a worker");
        eventually("it runs again", || lines(&running, "worker.started").len() as u64 == times + 1);
        assert_eq!(lines(&running, "worker.ended").len() as u64, times);
        eventually("and offers itself", || bridge(&running, "workers") == 1);
    }
    assert_eq!(running.value("counter", "increment"), json!(1));
}

#[test]
fn a_worker_that_stands_still_is_replaced() {
    let running = with_workers("1");
    let [worker] = processes(&running, "worker --connect")[..] else { panic!("one worker") };
    let peers = running.ok(&["vitals"])["peers"].as_array().unwrap().clone();
    assert!(peers.iter().any(|peer| peer["worker"]["process"] == json!(worker)), "{peers:?}");
    signal(worker, "-STOP");
    eventually("another is started", || !lines(&running, "worker.ended").is_empty());
    assert!(lines(&running, "worker.ended")[0].to_string().contains("nothing was heard of it for 19 s"));
    eventually("and offers itself", || bridge(&running, "workers") == 1);
    let now = processes(&running, "worker --connect");
    assert!(now.len() == 1 && now != [worker], "{now:?}");
    running.ok(&["plugin", "check", guest("counter").to_str().unwrap()]);
}

#[test]
fn what_workers_died_of_is_refused_once_they_are_given_up_and_doctor_says_so() {
    let running = with_workers("1");
    let workers = || {
        let doctor = running.doctor();
        let checks = doctor["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == "workers").unwrap()
    };
    assert_eq!(workers()["state"], json!("ok"));
    eventually("it is given up", || {
        processes(&running, "worker --connect").into_iter().for_each(|worker| {
            let _ = Command::new("kill").args(["-9", &worker.to_string()]).status();
        });
        !lines(&running, "worker.given-up").is_empty()
    });
    let refusal = running.refused(&["plugin", "check", guest("counter").to_str().unwrap()]).to_string();
    assert!(refusal.contains("ended too often") && refusal.contains("telos worker"), "{refusal}");
    eventually("it is missed", || bridge(&running, "workers") == 0);
    let told = workers();
    assert_eq!(told["state"], json!("degraded"));
    assert!(told["cause"].as_str().unwrap().contains("minds and trials are refused"), "{told}");
}

#[test]
fn workers_go_with_their_host_however_it_ends() {
    let mut running = with_workers("2");
    running.kill();
    eventually("they are gone", || processes(&running, "worker --connect").is_empty());
    running.start_with(&["--workers", "2"]);
    eventually("they are there", || bridge(&running, "workers") == 2);
    running.stop();
    assert!(processes(&running, "worker --connect").is_empty());
}

#[test]
fn a_worker_started_by_hand_works_for_the_host_of_its_home_and_leaves_when_told() {
    let running = Running::with_counter();
    let mut worker = crate::running::command(running.path());
    worker.args(["--json", "worker", "--roles", "sandbox"]).stdout(std::process::Stdio::null());
    let mut worker = worker.spawn().unwrap();
    eventually("it is there", || bridge(&running, "workers") == 1);
    running.ok(&["plugin", "check", guest("counter").to_str().unwrap()]);
    assert_eq!(bridge(&running, "given"), 1);
    let told = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(told.success() && worker.wait().unwrap().success());
    eventually("it has left", || bridge(&running, "workers") == 0);
}

#[test]
fn a_trial_whose_last_worker_stops_or_dies_is_done_by_the_host() {
    let running = Running::with_counter();
    for how in ["-STOP", "-KILL"] {
        let mut worker = crate::running::command(running.path());
        worker.args(["--json", "worker", "--roles", "sandbox"]).stdout(std::process::Stdio::null());
        let mut worker = worker.spawn().unwrap();
        eventually("it is there", || bridge(&running, "workers") == 1);
        // The host has not missed it yet, and gives it the trial.
        signal(worker.id(), how);
        let began = Instant::now();
        running.ok(&["plugin", "check", guest("counter").to_str().unwrap()]);
        assert!(began.elapsed() < Duration::from_secs(40), "{how}: {:?}", began.elapsed());
        worker.kill().unwrap();
        worker.wait().unwrap();
        eventually("it is missed", || bridge(&running, "workers") == 0);
    }
}

#[test]
fn a_supervised_host_comes_back_with_everything_that_it_acknowledged() {
    let mut running = Running::with_counter();
    running.stop();
    running.start_with(&["--supervise"]);
    for count in 1..=3 {
        assert_eq!(running.value("counter", "increment"), json!(count));
        let [host] = processes(&running, "--with-parent")[..] else { panic!("one host") };
        kill(host);
        eventually("another runs", || {
            let now = processes(&running, "--with-parent");
            now.len() == 1 && now != [host] && running.run(&["vitals"]).status.success()
        });
    }
    assert_eq!(running.value("counter", "increment"), json!(4));
    running.stop();
    assert!(processes(&running, "--with-parent").is_empty());
}

#[test]
fn a_command_waits_for_a_host_that_is_supervised() {
    let mut running = Running::with_counter();
    running.stop();
    running.start_with(&["--supervise"]);
    for count in 1..=3 {
        let [host] = processes(&running, "--with-parent")[..] else { panic!("one host") };
        kill(host);
        assert_eq!(running.value("counter", "increment"), json!(count));
    }
    let second =
        crate::running::command(running.path()).args(["--json", "up", "--supervise"]).output().unwrap();
    let second = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(second.contains("somebody supervises"), "{second}");
    running.stop();
    let refused = running.refused(&["vitals"]).to_string();
    assert!(refused.contains("no host is running"), "nobody supervises any more: {refused}");
}

#[test]
fn a_host_that_refuses_to_start_is_not_started_again_and_says_why_once() {
    let running = Running::new();
    let second =
        crate::running::command(running.path()).args(["--json", "up", "--supervise"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    // One value, from the one host that was tried.
    let said: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert!(said["error"]["message"].as_str().unwrap().contains("is in use by process"), "{said}");
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!errors.contains("died"), "{errors}");
}

#[test]
fn a_command_waits_as_long_as_it_is_told_for_a_host_that_says_nothing() {
    let running = Running::with_counter();
    let host = running.host.as_ref().unwrap().id();
    signal(host, "-STOP");
    let began = Instant::now();
    let refused = running.run(&["--patience-s", "1", "vitals"]);
    assert!(!refused.status.success() && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("has not answered for 1s"), "{said}");
    let later = std::thread::spawn(move || {
        // Longer than one attempt to be greeted.
        std::thread::sleep(Duration::from_secs(5));
        signal(host, "-CONT");
    });
    let waited = running.run(&["--patience-s", "40", "vitals"]);
    let errors = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert!(waited.status.success() && errors.contains("waiting for it for up to 40 s"), "{errors}");
    later.join().unwrap();
}

#[test]
fn a_worker_without_a_host_says_what_it_looks_for() {
    use std::io::BufRead as _;
    let place = tempfile::tempdir().unwrap();
    let mut worker = crate::running::command(place.path());
    worker.args(["worker", "--connect", "unix:/nohost"]).stdout(std::process::Stdio::piped());
    let mut worker = worker.spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(line, "looking for its host  endpoint unix:/nohost\n");
}

#[test]
fn a_supervised_host_goes_with_its_supervisor() {
    let mut running = Running::new();
    running.stop();
    running.start_with(&["--supervise"]);
    running.kill();
    eventually("the host is gone", || processes(&running, "--with-parent").is_empty());
}
