//! Goal: a release that breaks what the one before it did not is gone by itself, also when the host dies meanwhile, and
//! an operator reads why and decides.
//! Method: the real binary, real guests, `kill -9`.

use serde_json::json;

use crate::running::{Running, eventually, guest};

// Also at another pace, which peers learn from the host.
const AT_ONCE: [&str; 8] =
    ["--probation-s", "0", "--probation-messages", "1", "--heartbeat-ms", "200", "--liveness", "20"];

fn state(running: &Running, version: &str) -> String {
    let told = running.ok(&["plugin", "info", "counter"]);
    let releases = told["releases"].as_array().unwrap();
    let release = releases.iter().find(|release| release["version"] == version).unwrap();
    release["state"].as_str().unwrap().to_owned()
}

/// Counter 0.1.0 is permanent; the stumbler is on probation.
fn with_stumbler() -> Running {
    let mut running = Running::with_counter();
    running.stop();
    running.start_with(&AT_ONCE);
    running.ok(&["send", "counter", "increment"]);
    eventually("0.1.0 is permanent", || state(&running, "0.1.0") == "permanent");
    running.ok(&["plugin", "install", guest("stumbler").to_str().unwrap(), "--grant", "all"]);
    running
}

#[test]
fn a_death_between_strikes_leaves_the_release_on_probation() {
    let mut running = with_stumbler();
    let told = running.text(&["plugin", "info", "counter"]);
    assert!(told.contains("0 answered, 0 broken; returns to 0.1.0"), "{told}");
    running.refused(&["send", "counter", "increment", "{\"by\": 100}"]);
    running.refused(&["send", "counter", "increment", "{\"by\": 101}"]);
    running.kill();
    running.start_with(&AT_ONCE);
    assert_eq!(running.value("counter", "release"), "0.6.0", "two are not three");
}

#[test]
fn three_broken_messages_return_the_seat() {
    let running = with_stumbler();
    for by in ["100", "101", "102"] {
        let refused = running.refused(&["send", "counter", "increment", &format!("{{\"by\": {by}}}")]);
        assert!(refused.contains("it stumbles on purpose"), "{refused}");
    }
    eventually("the seat returned", || running.value("counter", "release") == "0.1.0");
    assert_eq!(running.value("counter", "read"), json!(1));
    let listed = running.text(&["plugin", "list"]);
    assert!(listed.contains("✗ 0.6.0 gave its seat back to 0.1.0: 3 distinct messages"), "{listed}");
    let quarantine = running.text(&["plugin", "quarantine", "list"]);
    assert!(quarantine.contains("0.6.0") && quarantine.contains("returned"), "{quarantine}");
    let refused = running.refusal(&["plugin", "install", guest("stumbler").to_str().unwrap()]).to_string();
    assert!(refused.contains("is in quarantine") && refused.contains("quarantine lift counter"), "{refused}");
    let lifted = running.text(&["plugin", "quarantine", "lift", "counter", "0.6.0"]);
    assert!(lifted.contains("telos plugin swap counter 0.6.0"), "{lifted}");
    running.ok(&["plugin", "swap", "counter", "0.6.0"]);
    assert_eq!(running.value("counter", "release"), "0.6.0");
    let none = running.text(&["plugin", "quarantine", "list"]);
    assert!(none.contains("no build is in quarantine"), "{none}");
    let audit = running.text(&["audit"]);
    for kind in ["plugin.permanent", "plugin.returned", "plugin.quarantine-lifted"] {
        assert!(audit.contains(kind), "{kind} is not in\n{audit}");
    }
}
