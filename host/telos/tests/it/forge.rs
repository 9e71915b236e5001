//! Goal: behaviour that is written by hand is tried as the forge tries it, and what nobody understands is told with its
//! ticket.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::running::{Running, guest};

const SUM: &str = "export function handle(self, args, telos) {
  if (!Array.isArray(args)) telos.badArguments('a list of numbers');
  return args.reduce((sum, number) => sum + number, 0);
}
";

#[test]
fn a_file_is_tried_as_the_forge_does_and_nothing_is_kept() {
    let running = Running::with_counter();
    let (sum, examples) = (written(&running, "sum.js", SUM), examples(&running));
    let tried = running.text(&["forge", "try", &sum, "--examples", &examples, "--selector", "sum"]);
    assert!(tried.contains("✓") && !tried.contains("✗"), "{tried}");
    assert_eq!(running.ok(&["forge", "history"])["tickets"], json!([]));
    assert_eq!(running.ok(&["plugin", "list"])["plugins"].as_array().unwrap().len(), 1);
}

#[test]
fn a_fault_is_told_with_line_and_column() {
    let running = Running::with_counter();
    let examples = examples(&running);
    let broken = written(&running, "broken.js", "export function handle(self) {\n  return self.;\n}\n");
    let tried = running.run(&["forge", "try", &broken, "--examples", &examples]);
    assert_eq!(tried.status.code(), Some(1));
    let told = String::from_utf8(tried.stdout).unwrap();
    assert!(told.contains("behaviour.js:2:"), "{told}");
}

#[test]
fn a_miss_opens_a_ticket_unless_the_policy_is_off() {
    let running = Running::with_counter();
    assert_eq!(running.ok(&["forge", "policy"])["home"], "propose");
    assert_eq!(running.ok(&["forge", "policy", "off"])["home"], "off");
    running.refused(&["send", "counter", "dance"]);
    assert_eq!(running.ok(&["forge", "history"])["tickets"], json!([]));
    running.ok(&["forge", "policy", "propose"]);
    running.refused(&["send", "counter", "dance"]);
    let history = running.ok(&["forge", "history"]);
    assert_eq!(history["tickets"][0]["selector"], "dance", "{history}");
}

#[test]
fn what_is_approved_is_shown_with_its_source_examples_and_grants() {
    let running = Running::with_counter();
    running.ok(&["plugin", "install", guest("scripted-architect").to_str().unwrap(), "--grant", "all"]);
    let spec = json!({
        "summary": "Adds numbers up.",
        "read_only": true,
        "examples": [
            {"name": "three", "arguments": [1, 2, 3], "expect": {"value": 6}},
            {"name": "a word", "arguments": "x", "expect": "refusal"},
        ],
    });
    running.ok(&["object", "set", "architect", "spec", &spec.to_string()]);
    running.ok(&["object", "set", "architect", "drafts", &json!([SUM]).to_string()]);
    running.ok(&["object", "new", "list"]);
    running.refused(&["send", "list", "sum", "[1, 2]"]);
    let is_proposed = || running.ok(&["forge", "history"])["tickets"][0]["state"] == "proposed";
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_proposed() {
        assert!(Instant::now() < deadline, "{}", running.text(&["forge", "show", "1"]));
        std::thread::sleep(Duration::from_millis(50));
    }
    let shown = running.text(&["forge", "show", "1"]);
    assert!(shown.contains("telos forge approve 1") && shown.contains(" fuel)"), "{shown}");
    let approved = running.text(&["forge", "approve", "1"]);
    for said in
        ["+  return args.reduce(", "example `three`: [1,2,3] → ", "grants: storage, logging", "serving"]
    {
        assert!(approved.contains(said), "{said}: {approved}");
    }
    assert_eq!(running.ok(&["send", "list", "sum", "[1, 2]"])["value"], 3);
    let again = running.refused(&["forge", "approve", "1"]);
    assert!(again.contains("only what is proposed can be approved"), "{again}");
}

fn written(running: &Running, name: &str, text: &str) -> String {
    let path: PathBuf = running.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn examples(running: &Running) -> String {
    let spec = json!({
        "summary": "Adds numbers up.",
        "read_only": true,
        "arguments": {"type": "array", "items": {"type": "number"}},
        "returns": {"type": "number"},
        "examples": [
            {"name": "three", "arguments": [1, 2, 3], "expect": {"value": 6}},
            {"name": "none", "arguments": [], "expect": {"value": 0}},
        ],
    });
    written(running, "examples.json", &spec.to_string())
}
