//! Goal: a plugin whose state is of a later generation is dropped in, and the next `telos up` carries every object over,
//! also when starts before it were killed.
//! Method: the real binary, real guests, `kill -9` at random moments of starts.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_store::{ComponentId, Json, ObjectName, Slot, Store, StoreOptions, Vote};

use crate::running::{Running, command, eventually, guest};

#[test]
fn a_later_generation_waits_for_the_next_up_which_says_what_it_did() {
    let mut running = with_staged();
    let plugin = |running: &Running| running.ok(&["plugin", "list"])["plugins"][0].clone();
    let listed = running.text(&["plugin", "list"]);
    assert!(listed.contains("0.3.0 waits: its state is of generation 2"), "{listed}");
    running.stop();
    running.start_with(&["--generations", "check"]);
    let check = plugin(&running)["cause"].to_string();
    assert!(check.contains("0.3.0 waits, and would carry 2 objects from generation 1 to 2"), "{check}");
    running.stop();
    running.start_with(&["--generations", "minimum"]);
    assert_eq!(
        (running.value("counter", "release"), &plugin(&running)["staged_version"]),
        (json!("0.1.0"), &json!("0.3.0"))
    );
    running.stop();
    running.start();
    assert_eq!(running.value("counter", "release"), "0.3.0");
    assert_eq!((running.value("mine", "read"), running.value("counter", "read")), (json!(5), json!(0)));
    let said: Value = running.announced();
    assert_eq!(
        (&said["ready"], &said["generations"][0]["outcome"]),
        (&json!(true), &json!("raised")),
        "{said}"
    );
    let serves = "counter 0.3.0 serves; this start carried 2 objects from generation 1 to 2";
    assert!(said["checks"].to_string().contains(serves), "{said}");
    let audit = running.text(&["audit"]);
    for kind in ["plugin.staged", "generation.raised", "plugin.activated"] {
        assert!(audit.contains(kind), "{kind} is not in\n{audit}");
    }
    running.ok(&["plugin", "rollback", "counter"]);
    assert_eq!(
        (running.value("counter", "release"), running.value("mine", "read")),
        (json!("0.1.0"), json!(5))
    );
}

#[test]
fn a_later_generation_that_comes_while_no_host_runs_serves_from_the_first_start_on() {
    let mut running = Running::with_counter();
    running.ok(&["send", "counter", "increment", "{\"by\": 5}"]);
    running.stop();
    std::fs::copy(guest("counter-v3"), running.path().join("plugins/counter.wasm")).unwrap();
    running.start();
    assert_eq!(
        (running.value("counter", "release"), running.value("counter", "read")),
        (json!("0.3.0"), json!(5))
    );
    assert_eq!(running.inbox_entry("counter.wasm")["state"], "consumed");
}

#[test]
fn a_failed_evolution_is_told_with_what_to_do_and_the_host_is_ready() {
    let mut running = Running::with_counter();
    running.ok(&["object", "new", "mine", "--parent", "counter"]);
    running.ok(&["object", "set", "mine", "count", "901"]);
    let installed = running.text(&["plugin", "install", guest("misevolver").to_str().unwrap()]);
    assert!(installed.contains("counter 0.5.0 staged, after 0.1.0"), "{installed}");
    assert!(installed.contains("next: `telos plugin swap counter 0.5.0` carries it over now"), "{installed}");
    running.stop();
    running.start();
    let said = running.announced();
    assert_eq!(said["ready"], true, "{said}");
    assert_eq!(running.value("mine", "read"), 901);
    let listed = running.text(&["plugin", "list"]);
    let trouble = "✗ 0.5.0 does not serve: object `mine` cannot be carried from generation 1 to 2";
    assert!(listed.contains(trouble), "{listed}");
    let audit = running.text(&["audit"]);
    assert!(audit.contains("generation.failed") && audit.contains("901 is no count"), "{audit}");
    let doctor = running.text(&["doctor"]);
    assert!(doctor.contains("telos plugin swap counter 0.5.0"), "{doctor}");
}

#[test]
fn starts_that_are_killed_while_they_carry_state_over_lose_nothing() {
    const OBJECTS: u32 = 3_000;
    let rounds = if std::env::var_os("TELOS_LONG").is_some() { 200 } else { 6 };
    let mut running = with_staged();
    running.stop();
    make(&running.path().join("store"), OBJECTS);
    let mut seed = 0x9e4e_u64;
    for _ in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        die_after(running.path(), Duration::from_millis((seed >> 33) % 600));
        let report = Store::verify(&running.path().join("store")).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
    running.start();
    assert_eq!(running.value("counter", "release"), "0.3.0");
    assert_eq!(running.value("many/2999", "read"), 2_999);
    running.kill();
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
    let store = Store::open(&running.path().join("store"), StoreOptions::default()).unwrap();
    let mut unit = store.begin();
    for number in 0..OBJECTS {
        let id = unit.find(&ObjectName::new(&format!("many/{number}")).unwrap()).unwrap().unwrap();
        let object = unit.object(id).unwrap().unwrap();
        let tally = object.value("tally").unwrap().to_value();
        assert_eq!((object.generation, tally), (2, json!({"up": number, "down": 0})), "many/{number}");
    }
}

#[test]
fn a_start_that_is_told_to_stop_while_it_carries_state_over_stops_and_changes_nothing() {
    let mut running = with_staged();
    running.stop();
    make(&running.path().join("store"), 12_000);
    let log = std::fs::File::create(running.path().join("up.log")).unwrap();
    let mut up: Command = command(running.path());
    let mut host =
        up.args(["--json", "up"]).stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().unwrap();
    let journal = running.path().join("journal/journal.jsonl");
    eventually("it carries state over", || {
        std::fs::read_to_string(&journal).unwrap().contains("generation.evolving")
    });
    let asked = Command::new("kill").args(["-TERM", &host.id().to_string()]).status().unwrap();
    assert!(asked.success() && host.wait().unwrap().success());
    let said = std::fs::read_to_string(running.path().join("up.log")).unwrap();
    assert_eq!(said, "", "it was never ready");
    assert!(Store::verify(&running.path().join("store")).unwrap().is_clean());
    running.start_with(&["--generations", "minimum"]);
    assert_eq!(
        (running.value("counter", "release"), running.value("many/7", "read")),
        (json!("0.1.0"), json!(7))
    );
}

#[test]
fn a_host_that_dies_while_state_is_carried_over_under_load_serves_the_old_release_or_the_new_one() {
    const OBJECTS: u32 = 2_000;
    let rounds = if std::env::var_os("TELOS_LONG").is_some() { 100 } else { 4 };
    let mut running = with_staged();
    running.stop();
    make(&running.path().join("store"), OBJECTS);
    let (mut acknowledged, mut seed) = (5_u64, 0x51ab_u64);
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        running.start_with(&["--generations", "minimum"]);
        let mut swapping: Command = command(running.path());
        swapping.args(["--json", "--patience-s", "1", "plugin", "swap", "counter", "0.3.0"]);
        let swapping = std::thread::spawn(move || swapping.output().unwrap());
        let until = Instant::now() + Duration::from_millis((seed >> 33) % 1_500);
        while Instant::now() < until {
            acknowledged += u64::from(running.run(&["send", "mine", "increment"]).status.success());
        }
        running.kill();
        let swapped = swapping.join().unwrap().status.success();
        assert!(Store::verify(&running.path().join("store")).unwrap().is_clean());
        running.start_with(&["--generations", "minimum"]);
        let (release, count) = (running.value("counter", "release"), running.value("mine", "read"));
        assert!(release == "0.3.0" || (release == "0.1.0" && !swapped), "round {round}: {release}");
        assert_eq!(count, acknowledged, "round {round}, {release}");
        assert_eq!(running.value("many/1999", "read"), 1_999, "round {round}, {release}");
        running.stop();
    }
    running.start();
    assert_eq!(running.value("counter", "release"), "0.3.0");
    assert_eq!(running.value("mine", "read"), acknowledged);
}

/// Runs a host for a while.
fn die_after(home: &Path, delay: Duration) {
    let mut command: Command = command(home);
    let mut host =
        command.arg("up").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + delay;
    while Instant::now() < until && host.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    host.kill().unwrap();
    host.wait().unwrap();
}

/// A host that serves the counter, with a later generation of it taken in from the inbox.
fn with_staged() -> Running {
    let running = Running::with_counter();
    running.ok(&["object", "new", "mine", "--parent", "counter"]);
    running.ok(&["send", "mine", "increment", "{\"by\": 5}"]);
    std::fs::copy(guest("counter-v3"), running.path().join("plugins/counter.wasm")).unwrap();
    eventually("it is staged", || running.ok(&["plugin", "list"])["plugins"][0]["staged_version"] == "0.3.0");
    assert_eq!(running.value("counter", "release"), "0.1.0");
    running
}

/// More counters, in a store that no host has open.
fn make(store: &Path, objects: u32) {
    let store = Store::open(store, StoreOptions::default()).unwrap();
    for folder in (0..objects).step_by(1_000) {
        make_some(&store, folder..objects.min(folder + 1_000));
    }
}

fn make_some(store: &Store, numbers: Range<u32>) {
    let mut unit = store.begin();
    let root = unit.find(&ObjectName::new("counter").unwrap()).unwrap().unwrap();
    for number in numbers {
        let id = unit.create(ComponentId::new("counter").unwrap(), 1, vec![root]).unwrap();
        let count = Json::from_value(&json!(number)).unwrap();
        unit.set_slot(id, "count", Slot::Value(count)).unwrap();
        unit.bind(&ObjectName::new(&format!("many/{number}")).unwrap(), id).unwrap();
    }
    store.decide(unit, Vote::default()).wait().unwrap();
}
