//! Goal: a host whose disk is full says so at once, and goes on by itself when there is room.
//! Method: the real binary; a limit on the size of files stands for the disk, since it binds root too, and
//! `prlimit` sets and lifts it while the host runs. The signal that comes with it must not end the host.

use std::process::Command;

use serde_json::{Value, json};

use crate::running::{Running, eventually, guest};

/// Files may take so many bytes from now on, or any number.
fn limit(running: &Running, bytes: Option<u64>) {
    let bytes = bytes.map_or_else(|| "unlimited".into(), |bytes| bytes.to_string());
    let pid = running.host.as_ref().unwrap().id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(status.unwrap().success());
}

#[track_caller]
fn no_room(running: &Running, arguments: &[&str]) -> String {
    let output = running.run(arguments);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (message, data) = (said["error"]["message"].as_str().unwrap_or_default(), &said["error"]["data"]);
    assert_eq!(
        (&data["kind"], &data["effect"]),
        (&json!("no-room"), &json!("none")),
        "{arguments:?}: {said}"
    );
    assert!(message.contains("os error 27"), "{message}");
    assert!(data["next"].as_str().unwrap().contains("free some space"), "{said}");
    message.to_owned()
}

fn journal(running: &Running, event: &str) -> usize {
    let shown = running.run(&["journal", "tail", "--lines", "1000", "--event", event]);
    String::from_utf8(shown.stdout).unwrap().lines().count()
}

#[test]
fn a_full_disk_is_said_at_once_with_its_cause_and_the_host_goes_on_when_there_is_room() {
    let running = Running::with_counter();
    assert_eq!(running.value("counter", "increment"), 1);
    running.ok(&["object", "new", "large"]);
    let text = format!("\"{}\"", "x".repeat(100_000));
    limit(&running, Some(std::fs::metadata(running.path().join("store/objects.redb")).unwrap().len()));
    let set = ["object", "set", "large", "text", &text];
    let filled = (0..1_000).find(|_| !running.run(&set).status.success());
    assert!(filled.is_some(), "the file never grew");
    let told = no_room(&running, &["send", "counter", "increment"]);
    assert!(told.contains(running.path().join("store").to_str().unwrap()), "{told}");
    no_room(&running, &set);
    no_room(&running, &["plugin", "install", guest("relay").to_str().unwrap()]);
    assert_eq!(running.value("counter", "read"), 1);
    let doctor = running.doctor();
    let checks = doctor["checks"].as_array().unwrap();
    let store = checks.iter().find(|check| check["check"] == "store").unwrap();
    assert_eq!(store["state"], "degraded", "{doctor}");
    assert!(store["cause"].as_str().unwrap().contains("os error 27"), "{store}");
    assert!(store["do_this"].as_str().unwrap().contains("free some space"), "{store}");
    eventually("the journal says that it failed", || journal(&running, "store.failed") == 1);
    assert_eq!(journal(&running, "store.writable"), 0);

    limit(&running, None);
    eventually("the journal says that it is back", || journal(&running, "store.writable") == 1);
    assert_eq!(running.value("counter", "increment"), 2, "none of what was refused happened");
    assert_eq!(running.doctor().to_string().matches("degraded").count(), 2, "the minds alone");
}

#[test]
fn a_command_without_a_host_that_meets_the_limit_ends_with_a_sentence() {
    let mut running = Running::with_counter();
    running.kill();
    let mut backup = Command::new("bash");
    backup.args(["-c", "ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_telos"), "--json", "--home"]);
    backup.arg(running.path()).args(["store", "backup"]).arg(running.path().join("copy"));
    let output = backup.output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &said["error"]["data"]["kind"]),
        (Some(1), &json!("no-room")),
        "{said}"
    );
    assert!(said["error"]["data"]["next"].as_str().unwrap().contains("free some space"), "{said}");
    running.start();
    assert_eq!(running.value("counter", "read"), 0);
}
