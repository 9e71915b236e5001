//! Goal: several plugins are exchanged at once by a file, which can be looked at first, whenever the host dies.
//! Method: the real binary, real guests, `kill -9` at random moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::running::{Running, command, guest};

fn set(running: &Running, text: &str) -> String {
    let path = running.path().join("set.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn path(name: &str) -> String {
    guest(name).to_str().unwrap().to_owned()
}

#[test]
fn a_set_is_planned_then_applied_and_says_what_is_wrong() {
    let running = Running::with_counter();
    let install = format!("install = [{:?}, {:?}]\n", path("counter-v2"), path("relay"));
    let waiting = set(&running, &install);
    let output = running.run(&["release", "apply", &waiting, "--plan"]);
    assert_eq!(output.status.code(), Some(1), "it needs grants");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&plan["ok"], &plan["members"][1]["missing_grants"]), (&json!(false), &json!(["messaging"])));
    let refused = running.refusal(&["release", "apply", &waiting]).to_string();
    assert!(refused.contains("relay: it needs a grant: messaging"), "{refused}");
    assert_eq!(running.value("counter", "release"), "0.1.0");
    let granted = set(&running, &format!("{install}grant = \"all\"\n"));
    let plan = running.text(&["release", "apply", &granted, "--plan"]);
    assert!(plan.contains("would be applied") && plan.contains("0.1.0 → 0.2.0"), "{plan}");
    let applied = running.text(&["release", "apply", &granted]);
    assert!(
        applied.contains("counter 0.2.0 serving, after 0.1.0") && applied.contains("all at once"),
        "{applied}"
    );
    let verified = running.text(&["journal", "verify", "--swaps"]);
    assert!(verified.contains("the journal is sound") && verified.contains(" 0 differences"), "{verified}");
    let back = set(&running, "remove = [\"relay\"]\n[swap]\ncounter = \"0.1.0\"\n");
    running.ok(&["release", "apply", &back]);
    assert_eq!(running.value("counter", "release"), "0.1.0");
    for (text, said) in
        [("instal = []", "unknown field `instal`"), ("[swap", "set.toml: "), ("", "a set of 0 members")]
    {
        let refused = running.refused(&["release", "apply", &set(&running, text)]);
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_journal_that_is_compared_while_seats_change_has_no_false_differences() {
    let running = Running::with_counter();
    running.ok(&["plugin", "install", &path("counter-v2")]);
    let (is_over, home) = (Arc::new(AtomicBool::new(false)), running.path().to_owned());
    let swapping = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut swaps = 0;
            while !is_over.load(Ordering::Relaxed) {
                let version = ["0.1.0", "0.2.0"][swaps % 2];
                let swapped = command(&home).args(["plugin", "swap", "counter", version]).output().unwrap();
                assert!(swapped.status.success(), "{swapped:?}");
                swaps += 1;
            }
            swaps
        })
    };
    for _ in 0..12 {
        let verified = running.text(&["journal", "verify", "--swaps"]);
        assert!(verified.contains(" 0 differences"), "{verified}");
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(swapping.join().unwrap() > 2, "seats did change meanwhile");
}

#[test]
fn a_host_that_dies_while_sets_are_applied_serves_whole_ones() {
    let mut running = Running::with_counter();
    let both = format!("install = [{:?}, {:?}]\ngrant = \"all\"\n", path("twin"), path("counter-v2"));
    running.ok(&["release", "apply", &set(&running, &both)]);
    running.ok(&["plugin", "install", &path("twin-v2"), "--grant", "all"]);
    for round in 0..6_u64 {
        let version = ["0.1.0", "0.2.0"][(round % 2) as usize];
        let text = format!("[swap]\ncounter = \"{version}\"\ntwin = \"{version}\"\n");
        let file = set(&running, &text);
        let (mut applying, mut host) = (command(running.path()), running.host.take().unwrap());
        applying.args(["--json", "--patience-s", "1", "release", "apply", &file]);
        let applying = std::thread::spawn(move || applying.output().unwrap());
        std::thread::sleep(Duration::from_millis(12 * round));
        host.kill().unwrap();
        host.wait().unwrap();
        let applying = applying.join().unwrap();
        running.start();
        let said = running.ok(&["send", "twin", "both", "{\"to\": \"counter\"}"])["value"].clone();
        assert_eq!(said[0], said[1], "round {round}: {said}, {applying:?}");
        assert!(!applying.status.success() || said[0] == version, "round {round}: it was acknowledged");
    }
}
