//! Goal: what lies in plugin directories is told as it stands now, and judged alike by whoever brings it.
//! Method: the real binary and a real host; files, folders and manifests in the inbox and beside it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::running::{Running, eventually, guest};

/// How a file of the inbox stands, and why.
#[track_caller]
fn stands(running: &Running, file: &str) -> (String, String) {
    let entry = running.inbox_entry(file);
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("cause"))
}

#[track_caller]
fn check(running: &Running, file: &str, state: &str, cause: &str) {
    let (is, why) = stands(running, file);
    assert!(is == state && why.contains(cause), "{file}: {is}, {why}");
}

#[test]
fn a_row_of_the_inbox_follows_grants_swaps_and_removals() {
    let mut running = Running::new();
    std::fs::copy(guest("relay"), running.path().join("plugins/relay.wasm")).unwrap();
    eventually("it waits for grants", || stands(&running, "relay.wasm").1.contains("needs grants"));
    running.ok(&["plugin", "grant", "relay", "--all"]);
    check(&running, "relay.wasm", "consumed", "relay 0.1.0 serves");
    running.kill();
    running.start();
    check(&running, "relay.wasm", "consumed", "relay 0.1.0 serves");
    running.ok(&["plugin", "remove", "relay"]);
    check(&running, "relay.wasm", "consumed", "no release of relay serves");

    std::fs::copy(guest("counter"), running.path().join("plugins/counter.wasm")).unwrap();
    eventually("it serves", || stands(&running, "counter.wasm").1.contains("counter 0.1.0 serves"));
    running.ok(&["plugin", "install", guest("counter-v2").to_str().unwrap()]);
    check(&running, "counter.wasm", "consumed", "0.2.0 serves");
    running.ok(&["plugin", "rollback", "counter"]);
    check(&running, "counter.wasm", "consumed", "counter 0.1.0 serves");
}

#[test]
fn what_waits_for_a_grant_can_be_removed_and_a_later_grant_does_not_bring_it_back() {
    let running = Running::new();
    std::fs::copy(guest("relay"), running.path().join("plugins/relay.wasm")).unwrap();
    eventually("it waits for grants", || stands(&running, "relay.wasm").1.contains("needs grants"));
    running.ok(&["plugin", "remove", "relay"]);
    check(&running, "relay.wasm", "consumed", "no release of relay serves");
    assert_eq!(running.ok(&["plugin", "list"])["plugins"][0]["state"], "removed");
    let granted = running.ok(&["plugin", "grant", "relay", "messaging"]);
    assert_eq!(granted["state"], "removed", "{granted}");
    assert!(running.refused(&["plugin", "remove", "relay"]).contains("no plugin is called `relay`"));
}

/// A folder with the counter and a manifest.
fn folder(place: &Path, manifest: &str) -> PathBuf {
    std::fs::create_dir_all(place).unwrap();
    std::fs::copy(guest("counter"), place.join("counter.wasm")).unwrap();
    std::fs::write(place.join("plugin.toml"), manifest).unwrap();
    place.to_owned()
}

#[test]
fn check_and_install_refuse_the_same_manifests_with_the_same_words() {
    let (running, place) = (Running::new(), tempfile::tempdir().unwrap());
    for (manifest, reason) in [
        ("id = \"other\"\n", "its manifest says `other`"),
        ("id = \"counter\"\nversion = \"9.9.9\"\n", "its manifest says version 9.9.9"),
        ("id = \"counter\"\ngrants = [\"fs\"]\n", "there is no interface `fs`"),
        ("id = \"counter\"\n[limits]\nmemory_mib = 9999\n", "memory_mib is 9999; from 1 to 256"),
    ] {
        let folder = folder(&place.path().join("counter"), manifest);
        let folder = folder.to_str().unwrap();
        let refused = running.refused(&["plugin", "check", folder]);
        assert!(refused.contains(reason), "{refused}");
        assert_eq!(running.refused(&["plugin", "install", folder]), refused);
    }
    let sound = "id = \"counter\"\nversion = \"0.1.0\"\ngrants = [\"vectors\"]\n[limits]\nmemory_mib = 256\n";
    let sound = folder(&place.path().join("counter"), sound);
    let sound = sound.to_str().unwrap();
    assert_eq!(running.ok(&["plugin", "check", sound])["ok"], true);
    // What stands in the way of an install stands in the way of a check.
    running.ok(&["object", "new", "counter"]);
    let refused = running.refused(&["plugin", "check", sound]);
    assert!(refused.contains("telos object unname counter"), "{refused}");
    assert_eq!(running.refused(&["plugin", "install", sound]), refused);
    running.ok(&["object", "unname", "counter"]);
    assert_eq!(running.ok(&["plugin", "install", sound])["version"], "0.1.0");
}

#[test]
fn what_cannot_be_read_is_listed_and_directories_that_are_not_there_are_told() {
    let mut running = Running::new();
    let inbox = running.path().join("plugins");
    symlink("missing.wasm", inbox.join("x.wasm")).unwrap();
    symlink("y.wasm", inbox.join("y.wasm")).unwrap();
    eventually("both are listed", || {
        stands(&running, "x.wasm").1.contains("a link to a file that is not there")
            && stands(&running, "y.wasm").1.contains("leads back to itself")
    });
    running.kill();
    running.start_with(&["--bundle", "/nonexist", "--plugins", "/nonexist/dir"]);
    let said = std::fs::read_to_string(running.path().join("up.log")).unwrap();
    let ready: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let checks = ready["checks"].as_array().unwrap();
    let told = |check: &str, path: &str| {
        checks.iter().any(|row| {
            row["check"] == check && row["state"] == "degraded" && row["cause"].to_string().contains(path)
        })
    };
    assert!(
        told("inbox", "/nonexist/dir is not watched") && told("bundle", "/nonexist holds no bundle.toml"),
        "{ready}"
    );
    assert_eq!(ready["ready"], json!(true));
    assert!(running.doctor()["checks"].to_string().contains("/nonexist/dir"));
    // The file that was missing is taken in when it comes.
    std::fs::remove_file(inbox.join("x.wasm")).unwrap();
    std::fs::copy(guest("counter"), inbox.join("x.wasm")).unwrap();
    eventually("it serves", || stands(&running, "x.wasm").1.contains("counter 0.1.0 serves"));
}

#[test]
fn whoever_may_write_to_the_inbox_has_the_host_read_nothing_outside_and_stops_no_other_plugin() {
    let (running, outside) = (Running::new(), tempfile::tempdir().unwrap());
    let inbox = running.path().join("plugins");
    let secret = folder(&outside.path().join("secret"), "token = \"not for the inbox\"\n");
    symlink(secret.join("counter.wasm"), inbox.join("out.wasm")).unwrap();
    symlink(&secret, inbox.join("folder")).unwrap();
    std::fs::create_dir(inbox.join("relay")).unwrap();
    std::fs::write(inbox.join("relay/a.wasm"), "x").unwrap();
    symlink(secret.join("plugin.toml"), inbox.join("relay/plugin.toml")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(inbox.join("pipe.wasm")).status().unwrap().success());
    std::fs::write(inbox.join("aux.wasm"), "x").unwrap();
    std::fs::write(inbox.join("a\n\u{1b}[2J.wasm"), "x").unwrap();
    std::fs::copy(guest("counter"), inbox.join("counter-0.1.bin")).unwrap();
    symlink("counter-0.1.bin", inbox.join("within.wasm")).unwrap();

    eventually("a link that stays inside serves", || stands(&running, "within.wasm").1.contains("serves"));
    for (file, cause) in [
        ("out.wasm", "leads out of the directory"),
        ("folder", "leads out of the directory"),
        ("relay/plugin.toml", "leads out of the directory"),
        ("pipe.wasm", "is not a regular file"),
        ("aux.wasm", "the name of a device of Windows"),
        ("a\\n\\u{1b}[2J.wasm", "a control character in its name"),
    ] {
        eventually(file, || stands(&running, file).0 == "refused");
        let (_, why) = stands(&running, file);
        assert!(why.contains(cause) && why.contains("remove it") && !why.contains('\n'), "{file}: {why}");
    }
    let told = running.ok(&["plugin", "list"]).to_string() + &running.ok(&["audit"]).to_string();
    assert!(!told.contains("not for the inbox"), "{told}");
}
