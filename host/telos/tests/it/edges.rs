//! Goal: what people get wrong, or have unusually, ends in one sentence and the right code, never in a panic.
//! Method: the real binary with odd homes, paths and arguments, with a host and without.

use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::running::{Running, command, eventually, guest};

/// `telos` without a home of its own.
fn telos(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telos"));
    command.current_dir(directory).env_remove("TELOS_HOME").env_remove("TELOS_MODELS_DIR");
    command
}

/// The one JSON value that a command printed.
#[track_caller]
fn said(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// Ended by dropping it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_relative_home_is_a_home_like_any_other() {
    let place = tempfile::tempdir().unwrap();
    let mut up = telos(place.path());
    up.args(["--home", "mine", "--json", "up", "--plugins", "more"]).stdout(Stdio::piped());
    let mut up = Ended(up.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(up.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let home = place.path().canonicalize().unwrap().join("mine");
    assert_eq!((&ready["ready"], &ready["home"]), (&json!(true), &json!(home)), "{ready}");
    assert!(ready["checks"].to_string().contains(home.with_file_name("more").to_str().unwrap()), "{ready}");
    let doctor = telos(place.path()).args(["--home", "mine", "--json", "doctor"]).output().unwrap();
    assert_eq!(said(&doctor)["ready"], true);
}

#[test]
fn a_home_that_is_not_utf8_is_refused_in_one_sentence() {
    let place = tempfile::tempdir().unwrap();
    let home = std::ffi::OsString::from_vec(b"h\xff".to_vec());
    for arguments in [&["up"][..], &["doctor"], &["store", "verify"], &["model", "list"]] {
        let refused = telos(place.path()).arg("--home").arg(&home).arg("--json").args(arguments).output();
        let refused = refused.unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let error = &said(&refused)["error"];
        assert!(error["message"].as_str().unwrap().contains("is not UTF-8"), "{error}");
        assert_eq!(error["data"]["kind"], "usage");
    }
    assert!(!place.path().join(&home).exists(), "nothing was made");
}

#[test]
fn files_whose_names_are_not_utf8_are_listed_and_refused_without_a_panic() {
    let running = Running::with_counter();
    let name = std::ffi::OsString::from_vec(b"x\xff.wasm".to_vec());
    std::fs::write(running.path().join("plugins").join(&name), "no component").unwrap();
    eventually("it is refused", || running.inbox_entry("x\u{fffd}.wasm")["state"] == "refused");
    let mut install = command(running.path());
    let install = install.args(["--json", "plugin", "install"]).arg(&name).output().unwrap();
    assert_eq!((install.status.code(), &said(&install)["error"]["data"]["kind"]), (Some(2), &json!("usage")));
}

#[test]
fn wrong_usage_is_one_json_value_when_json_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    for arguments in [
        &["--json", "send", "counter"][..],
        &["fly", "--json"],
        &["--json"],
        &["memory", "search", "babs", "turns", "x", "-k", "0", "--json"],
        &["send", "counter", "increment", "--deadline-ms", "soon", "--json"],
    ] {
        let refused = telos(place.path()).args(arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let error = &said(&refused)["error"];
        assert_eq!(error["data"]["kind"], "usage", "{arguments:?}: {error}");
        assert!(error["data"]["next"].is_string(), "{arguments:?}: {error}");
    }
    let people = telos(place.path()).args(["send", "counter"]).output().unwrap();
    assert_eq!((people.status.code(), &*people.stdout), (Some(2), &b""[..]));
    assert!(String::from_utf8_lossy(&people.stderr).contains("Usage:"));
    let help = telos(place.path()).args(["--json", "--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
}

#[test]
fn the_journal_is_read_from_its_files_when_no_host_runs() {
    let mut running = Running::with_counter();
    running.ok(&["object", "new", "mine"]);
    running.stop();
    let place = tempfile::tempdir().unwrap();
    let refused = running.run(&["store", "restore", place.path().to_str().unwrap()]);
    let error = said(&refused)["error"].clone();
    assert_eq!(error["data"]["kind"], "not-a-backup", "{error}");
    let tail = |arguments: &[&str]| {
        let output = running.run(&[&["journal", "tail"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(tail(&["--event", "audit."]).contains("audit.object.new"));
    assert!(tail(&["--event", "store."]).contains("store.restore-failed"));
    assert_eq!(tail(&["--lines", "2"]).lines().count(), 2);
    assert_eq!(tail(&["--lines", "1", "--follow"]).lines().count(), 1, "it ends: nothing comes");
    let nowhere = telos(place.path()).args(["--home", "none", "--json", "journal", "tail"]).output().unwrap();
    assert_eq!(
        (nowhere.status.code(), &said(&nowhere)["error"]["data"]["kind"]),
        (Some(1), &json!("no-host"))
    );
}

#[test]
fn a_terminal_that_closes_stops_the_host_in_order() {
    let mut running = Running::with_counter();
    let mut host = running.host.take().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    // Whoever runs the tests may have hang-ups ignored; then the host ignores them too.
    let is_ignored = status
        .lines()
        .any(|line| line.starts_with("SigIgn:") && line.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']));
    if is_ignored {
        running.host = Some(host);
        return;
    }
    assert!(Command::new("kill").args(["-HUP", &host.id().to_string()]).status().unwrap().success());
    eventually("the host stops", || host.try_wait().unwrap().is_some());
    assert!(host.wait().unwrap().success());
    let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
    assert!(journal.contains("host.stopped"), "{journal}");
}

#[test]
fn a_refusal_names_its_subject_and_what_to_do() {
    let running = Running::with_counter();
    let big = running.path().join("big.json");
    std::fs::write(&big, format!("\"{}\"", "x".repeat(900_000))).unwrap();
    let refused = running.run(&["send", "counter", "increment", &format!("@{}", big.display())]);
    let error = said(&refused)["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("the arguments of `increment`"), "{error}");
    assert!(error["data"]["next"].is_string(), "{error}");
    assert_eq!(running.ok(&["memory", "stats"]), json!({ "collections": [] }));
    let refused = running.run(&["memory", "search", "counter", "notes", "--vector", "[1.0]"]);
    let error = said(&refused)["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("has no vector collections"), "{error}");
    assert_eq!(
        running.run(&["memory", "search", "counter", "notes", "--vector", "x"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_swap_to_what_serves_already_decides_nothing() {
    let running = Running::with_counter();
    running.ok(&["plugin", "install", guest("counter-v2").to_str().unwrap()]);
    let audited = running.audited();
    let same = running.ok(&["plugin", "swap", "counter", "0.2.0"]);
    assert_eq!((&same["state"], &same["is_unchanged"]), (&json!("serving"), &json!(true)), "{same}");
    assert_eq!(running.audited(), audited);
    let digest = same["digest"].as_str().unwrap();
    let refused = running.refused(&["plugin", "swap", "counter", &digest[..4]]);
    assert!(refused.contains("too short") && refused.contains(&digest[..8]), "{refused}");
    assert_eq!(running.ok(&["plugin", "swap", "counter", "0.1.0"])["is_unchanged"], false);
    assert_eq!(running.ok(&["plugin", "swap", "counter", &digest[..8]])["version"], "0.2.0");
}
