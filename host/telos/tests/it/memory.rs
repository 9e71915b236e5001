//! Goal: `telos memory` searches, says how vectors are kept, and moves them to disk while the host serves.
//! Method: `atlas` keeps places by angle; the same are near before and after its collection was archived.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::running::{Running, guest};

fn send(running: &Running, selector: &str, arguments: &Value) -> Value {
    running.ok(&["send", "atlas", selector, &arguments.to_string()])["value"].clone()
}

fn with_places(by_angle: bool) -> Running {
    let running = Running::new();
    running.ok(&["plugin", "install", guest("atlas").to_str().unwrap(), "--grant", "all"]);
    send(&running, "map", &json!({"dimension": 2, "by_angle": by_angle}));
    for (name, at) in [("east", [1.0, 0.0]), ("north", [0.0, 1.0]), ("west", [-1.0, 0.0])] {
        send(&running, "place", &json!({"name": name, "at": at}));
    }
    running
}

#[test]
fn an_archived_collection_is_searched_as_before_and_is_there_after_a_kill() {
    let mut running = with_places(true);
    let asked = json!({"at": [0.9, 0.1], "k": 3});
    let before = send(&running, "nearest", &asked);
    let report = running.ok(&["memory", "archive", "atlas", "places"]);
    assert_eq!((&report["edition"], &report["rows"]), (&json!(1), &json!(3)), "{report}");
    let stats = running.ok(&["memory", "stats"])["collections"][0].clone();
    assert_eq!((&stats["archived"], &stats["edition"], &stats["tail"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!(send(&running, "nearest", &asked), before);
    let found = running.ok(&["memory", "search", "atlas", "places", "--vector", "[0, 2]", "-k", "1"]);
    assert_eq!(found["neighbors"][0]["metadata"]["name"], "north", "{found}");
    assert_eq!(running.ok(&["memory", "verify"])["clean"], true);
    running.kill();
    running.start();
    assert_eq!(send(&running, "nearest", &asked), before);
    send(&running, "place", &json!({"name": "south", "at": [0.0, -1.0]}));
    assert_eq!(running.ok(&["memory", "archive", "atlas", "places"])["rows"], 4);
    let text = running.text(&["memory", "verify"]);
    assert!(text.contains("sound"), "{text}");
}

/// The files of one name below a directory.
fn files_named(name: &str, dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (below, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|file| file.ends_with(name));
    own.chain(below.iter().flat_map(|dir| files_named(name, dir))).collect()
}

#[test]
fn a_damaged_edition_ends_its_verification_with_1() {
    let running = with_places(true);
    running.ok(&["memory", "archive", "atlas", "places"]);
    let manifests = files_named("MANIFEST", &running.path().join("store/archive"));
    let metadata = manifests[0].with_file_name("metadata");
    let mut bytes = fs::read(&metadata).unwrap();
    bytes[0] ^= 1;
    fs::write(&metadata, bytes).unwrap();
    let output = running.run(&["memory", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["clean"], false, "{answer}");
    assert!(answer["editions"][0]["problem"].is_string(), "{answer}");
}

#[test]
fn what_cannot_be_archived_says_why_and_serves_on() {
    let running = with_places(false);
    for (collection, expected) in [("places", "only cosine collections"), ("nowhere", "no vector collection")]
    {
        let refused = running.refusal(&["memory", "archive", "atlas", collection]);
        assert_eq!(refused["data"]["kind"], "not-archived", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(expected), "{refused}");
    }
    assert_eq!(running.ok(&["memory", "verify"])["editions"], json!([]));
    let near = send(&running, "nearest", &json!({"at": [3, 0], "k": 1}));
    assert_eq!(near, json!([{"name": "east", "distance": 2.0}]));
}
