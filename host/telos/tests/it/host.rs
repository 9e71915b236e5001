//! Goal: a real host in a process of its own does what the README says, through the command line, files and kills.
//! Method: the real binary with an empty home, real guests, real sockets; `kill -9` while clients are at work.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bridge::{CallOptions, Client, ClientConfig, Endpoint};

use crate::running::{PATIENCE, Running, command, eventually, guest};

#[test]
fn an_empty_home_becomes_a_host_that_counts_explains_itself_and_survives_a_restart() {
    let mut running = Running::with_counter();
    assert_eq!(running.value("counter", "increment"), 1);
    assert_eq!(running.ok(&["object", "new", "mine", "--parent", "counter"])["name"], "mine");
    assert_eq!(running.ok(&["send", "mine", "increment", "{\"by\": 4}"])["value"], 5);
    assert_eq!(running.doctor()["ready"], true);
    assert_eq!(running.ok(&["plugin", "list"])["plugins"][0]["state"], "serving");
    let rows = running.ok(&["audit"]);
    assert!(rows.to_string().contains("plugin.installed"), "{rows}");
    running.kill();
    running.start();
    assert_eq!(running.value("mine", "read"), 5);
    assert_eq!(running.value("counter", "read"), 1);
}

#[test]
fn the_journal_shows_decisions_and_guests_lines_once_and_in_order() {
    let running = Running::with_counter();
    running.ok(&["plugin", "install", guest("relay").to_str().unwrap(), "--grant", "all"]);
    running.ok(&["send", "relay", "log", "{\"x\": 1}"]);
    let mut said = String::new();
    eventually("the journal shows the decision", || {
        let output = running.run(&["journal", "tail", "--lines", "100"]);
        said = String::from_utf8(output.stdout).unwrap();
        said.matches("audit.plugin.installed").count() >= 2 && said.contains("plugin.log")
    });
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let installed = lines.iter().filter(|line| line["event_name"] == "audit.plugin.installed").count();
    assert_eq!(installed, 2, "{said}");
    let sequences: Vec<_> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
}

#[test]
fn copying_a_file_into_the_inbox_swaps_the_plugin() {
    let running = Running::with_counter();
    running.value("counter", "increment");
    std::fs::copy(guest("counter-v2"), running.path().join("plugins/new.wasm")).unwrap();
    eventually("0.2.0 serves", || running.value("counter", "release") == "0.2.0");
    assert_eq!(running.value("counter", "read"), 1);
    assert_eq!(running.ok(&["plugin", "rollback", "counter"])["version"], "0.1.0");
    assert_eq!(running.value("counter", "release"), "0.1.0");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(running.value("counter", "release"), "0.1.0", "a consumed file does not come back");
}

#[test]
fn every_copy_over_the_same_file_swaps_the_plugin_also_back() {
    let mut running = Running::with_counter();
    let inbox = running.path().join("plugins/counter.wasm");
    for (name, version) in [("counter-v2", "0.2.0"), ("counter", "0.1.0"), ("counter-v2", "0.2.0")] {
        std::fs::copy(guest(name), &inbox).unwrap();
        eventually("the copied release serves", || running.value("counter", "release") == version);
    }
    running.ok(&["plugin", "rollback", "counter"]);
    running.kill();
    running.start();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        running.value("counter", "release"),
        "0.1.0",
        "what was dealt with is no news after a restart"
    );
}

#[test]
fn a_half_copied_file_waits_and_a_bad_one_is_refused_while_the_old_one_serves() {
    let mut running = Running::with_counter();
    let (whole, inbox) =
        (std::fs::read(guest("counter-v2")).unwrap(), running.path().join("plugins/slow.wasm"));
    for end in [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4] {
        std::fs::write(&inbox, &whole[..end]).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(running.value("counter", "release"), "0.1.0");
    std::fs::write(&inbox, &whole).unwrap();
    eventually("the whole file serves", || running.value("counter", "release") == "0.2.0");
    std::fs::write(running.path().join("plugins/bad.wasm"), "not wasm at all").unwrap();
    eventually("the bad file is refused", || running.inbox_entry("bad.wasm")["state"] == "refused");
    let refused = running.inbox_entry("bad.wasm");
    assert!(refused["cause"].to_string().contains("not a WebAssembly component"), "{refused}");
    assert_eq!(running.value("counter", "release"), "0.2.0");
    assert!(running.ok(&["audit"]).to_string().contains("plugin.refused"));
    running.kill();
    running.start();
    assert_eq!(running.inbox_entry("bad.wasm"), refused, "the cause is still known after a restart");
}

#[test]
fn a_candidate_that_something_else_stands_in_the_way_of_waits_and_serves_when_that_is_gone() {
    let running = Running::new();
    running.ok(&["object", "new", "counter"]);
    std::fs::copy(guest("counter"), running.path().join("plugins/counter.wasm")).unwrap();
    eventually("it waits and says why", || {
        let entry = running.inbox_entry("counter.wasm");
        entry["state"] == "waiting" && entry["cause"].to_string().contains("telos object unname counter")
    });
    running.ok(&["object", "unname", "counter"]);
    eventually("it serves", || running.inbox_entry("counter.wasm")["state"] == "consumed");
    assert_eq!(running.value("counter", "increment"), 1);
}

#[test]
fn a_dropped_in_manifest_only_lowers_limits_and_an_operator_raises_them() {
    let running = Running::new();
    let folder = running.path().join("plugins/counter");
    let aside = running.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    std::fs::copy(guest("counter"), aside.join("counter.wasm")).unwrap();
    let manifest = "id = \"counter\"\n[limits]\nmemory_mib = 32\ncpu_ms = 60000\n";
    std::fs::write(aside.join("plugin.toml"), manifest).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    eventually("it serves", || running.inbox_entry("counter.wasm")["state"] == "consumed");
    let limits = |running: &Running| running.ok(&["plugin", "info", "counter"])["limits"].clone();
    assert_eq!(limits(&running), json!({"memory_mib": 32, "cpu_ms": 1000}));
    let said = running.inbox_entry("counter.wasm");
    assert!(said["cause"].to_string().contains("60000 ms it asks for"), "{said}");
    running.ok(&["plugin", "install", folder.to_str().unwrap()]);
    assert_eq!(limits(&running), json!({"memory_mib": 32, "cpu_ms": 60000}));
}

#[test]
fn audit_and_history_show_the_newest_decisions_in_order() {
    let running = Running::with_counter();
    for number in 0..12 {
        running.ok(&["object", "new", &format!("object-{number}")]);
    }
    let numbers = |rows: &Value| -> Vec<u64> {
        rows.as_array().unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&running.ok(&["audit", "--limit", "3"])["rows"]), [11, 12, 13]);
    assert_eq!(numbers(&running.ok(&["audit", "--limit", "3", "--before", "11"])["rows"]), [8, 9, 10]);
    let about = running.ok(&["audit", "--limit", "1", "--subject", "counter"]);
    assert_eq!(about["rows"][0]["kind"], "plugin.installed");
    let history = running.ok(&["plugin", "history", "counter"]);
    assert_eq!(numbers(&history["events"]), [1]);
}

#[test]
fn two_files_with_one_id_are_told_apart_and_an_unknown_key_is_named() {
    let running = Running::new();
    let inbox = running.path().join("plugins");
    std::fs::copy(guest("counter"), inbox.join("a.wasm")).unwrap();
    eventually("a serves", || running.ok(&["plugin", "list"]).to_string().contains("counter 0.1.0 serves"));
    std::fs::copy(guest("counter-v2"), inbox.join("b.wasm")).unwrap();
    eventually("b waits", || {
        let entry = running.inbox_entry("b.wasm");
        entry["state"] == "waiting" && entry["cause"].to_string().contains("holds `counter` too")
    });
    assert_eq!(running.value("counter", "release"), "0.1.0");
    std::fs::remove_file(inbox.join("a.wasm")).unwrap();
    eventually("b serves when a is gone", || running.value("counter", "release") == "0.2.0");
    std::fs::create_dir(inbox.join("x")).unwrap();
    std::fs::copy(guest("relay"), inbox.join("x/x.wasm")).unwrap();
    std::fs::write(inbox.join("x/plugin.toml"), "id = \"relay\"\nmemroy_mib = 1\n").unwrap();
    eventually("the key is named", || running.ok(&["plugin", "list"]).to_string().contains("memroy_mib"));
}

#[test]
fn bad_input_gets_one_sentence_and_code_1() {
    let running = Running::with_counter();
    let said = running.refused(&["send", "nobody", "read"]);
    assert_eq!(said, "no object is called `nobody`");
    let said = running.refused(&["send", "counter", "fly"]);
    assert!(said.contains("does not understand `fly`"), "{said}");
    let said = running.refused(&["plugin", "install", "/nonexistent.wasm"]);
    assert!(said.contains("/nonexistent.wasm"), "{said}");
    let said = running.refused(&["plugin", "grant", "counter", "teleport"]);
    assert!(said.contains("there is no interface `teleport`"), "{said}");
    assert_eq!(running.run(&["send", "counter", "increment", "{broken"]).status.code(), Some(2));
    assert_eq!(running.value("counter", "read"), 0);
}

#[test]
fn a_message_over_its_deadline_says_so_and_that_nothing_happened() {
    let running = Running::with_counter();
    running.ok(&["plugin", "install", guest("spinner").to_str().unwrap(), "--grant", "all"]);
    let output = running.run(&["send", "spinner", "spin", "--deadline-ms", "100"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &said["error"]["data"]["kind"]),
        (Some(1), &json!("deadline")),
        "{said}"
    );
    assert_eq!(said["error"]["data"]["effect"], "none");
    assert_eq!(running.value("counter", "increment"), 1);
}

#[test]
fn a_home_in_use_is_refused_and_the_host_in_it_serves_on() {
    let running = Running::with_counter();
    let second = command(running.path()).arg("up").stdin(Stdio::null()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("next:"), "{said}");
    let pid = running.host.as_ref().unwrap().id().to_string();
    assert!(said.contains(&pid), "it names who uses it: {said}");
    assert_eq!(running.value("counter", "increment"), 1);
}

#[test]
fn a_stopped_store_verifies_clean() {
    let mut running = Running::with_counter();
    running.value("counter", "increment");
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
    running.kill();
    let report = running.ok(&["store", "verify"]);
    assert_eq!(report["clean"], true, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_one_client_to_one_object_run_in_the_order_in_which_they_were_sent() {
    const SENT: u64 = 60;
    let running = Running::with_counter();
    let client = Client::connect(running.endpoint(), ClientConfig::default()).await.unwrap();
    for round in 0..5 {
        let mut answers = Vec::new();
        for _ in 0..SENT {
            let params = json!({"object": "counter", "selector": "increment", "arguments": null});
            answers.push(client.stream("object.send", params, CallOptions::with_deadline(PATIENCE)).await);
        }
        let mut counts = Vec::new();
        for mut answer in answers {
            while let Some(event) = answer.recv().await {
                if let telos_bridge::Event::Done(outcome) = event {
                    counts.push(outcome.unwrap()["value"].as_u64().unwrap());
                }
            }
        }
        assert_eq!(counts, (round * SENT + 1..=(round + 1) * SENT).collect::<Vec<_>>());
    }
    client.close().await;
}

/// Counts its own object up for as long as it may, and knows every answer beforehand: the count of those before, plus
/// one. So no request is lost, none comes twice, and none ends in anything but its true outcome. Gives the last count.
async fn count_until(
    endpoint: Endpoint,
    object: String,
    is_done: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> u64 {
    let client = Client::connect(endpoint, ClientConfig::default()).await.unwrap();
    let mut count = 0;
    while !is_done.load(Ordering::SeqCst) {
        let params = json!({"object": object, "selector": "increment", "arguments": null});
        let answer = client.call("object.send", params, CallOptions::with_deadline(PATIENCE)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{object}, {count} before: {error}"));
        count += 1;
        assert_eq!(answer["value"], count, "{object}: {answer}");
        total.fetch_add(1, Ordering::SeqCst);
    }
    client.close().await;
    count
}

/// Eight clients count while the host ends over and over and is started again.
async fn count_through(rounds: u64, end: fn(&mut Running)) {
    const CLIENTS: usize = 8;
    const COUNTS: u64 = 50;
    let mut running = Running::with_counter();
    for number in 0..CLIENTS {
        running.ok(&["object", "new", &format!("mine/{number}"), "--parent", "counter"]);
    }
    let (is_done, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let count = count_until(
                running.endpoint(),
                format!("mine/{number}"),
                Arc::clone(&is_done),
                Arc::clone(&total),
            );
            tokio::spawn(count)
        })
        .collect();
    for round in 0..rounds {
        let (before, deadline) = (total.load(Ordering::SeqCst), Instant::now() + PATIENCE);
        while total.load(Ordering::SeqCst) < before + COUNTS {
            assert!(Instant::now() < deadline, "round {round}: nobody counts any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running = tokio::task::spawn_blocking(move || {
            end(&mut running);
            running.start();
            running
        })
        .await
        .unwrap();
    }
    is_done.store(true, Ordering::SeqCst);
    for (number, client) in clients.into_iter().enumerate() {
        let count = client.await.unwrap();
        assert_eq!(running.value(&format!("mine/{number}"), "read"), count);
    }
    assert!(total.load(Ordering::SeqCst) >= rounds * COUNTS);
    running.kill();
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
}

/// Makes objects one after the other; every call must succeed, since each name is asked for once.
async fn name_until(endpoint: Endpoint, client_number: usize, is_done: Arc<AtomicBool>) -> u64 {
    let client = Client::connect(endpoint, ClientConfig::default()).await.unwrap();
    let mut made = 0;
    while !is_done.load(Ordering::SeqCst) {
        let name = format!("made/{client_number}/{made}");
        let options = CallOptions::with_deadline(PATIENCE);
        let answer = client.call("object.new", json!({"name": name}), options).await;
        assert_eq!(answer.unwrap_or_else(|error| panic!("{name}: {error}"))["name"], name.as_str());
        made += 1;
    }
    client.close().await;
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_while_an_operator_works_repeats_nothing_and_denies_nothing() {
    let mut running = Running::new();
    let is_done = Arc::new(AtomicBool::new(false));
    let naming: Vec<_> = (0..8)
        .map(|number| tokio::spawn(name_until(running.endpoint(), number, Arc::clone(&is_done))))
        .collect();
    for _ in 0..rounds() {
        running = tokio::task::spawn_blocking(move || {
            let before = running.audited();
            eventually("objects are made", || running.audited() > before + 20);
            running.kill();
            running.start();
            running
        })
        .await
        .unwrap();
    }
    is_done.store(true, Ordering::SeqCst);
    let mut made = 0;
    for client in naming {
        made += client.await.unwrap();
    }
    assert_eq!(running.audited(), made, "each was made once");
}

fn rounds() -> u64 {
    if std::env::var_os("TELOS_LONG").is_some() { 100 } else { 5 }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load_settles_every_request_with_its_true_outcome() {
    count_through(rounds(), Running::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_stop_under_load_settles_every_request_with_its_true_outcome() {
    count_through(rounds(), Running::stop).await;
}

#[test]
fn a_tail_shows_as_many_lines_as_it_was_asked_for() {
    const LINES: usize = 3_000;
    let mut running = Running::with_counter();
    running.kill();
    let journal = running.path().join("journal/journal.jsonl");
    let said = std::fs::read_to_string(&journal).unwrap();
    let lines = said.split_inclusive('\n').cycle().take(LINES).collect::<String>();
    std::fs::write(&journal, lines).unwrap();
    running.start();
    let output = running.run(&["journal", "tail", "--lines", &LINES.to_string()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", said.lines().last().unwrap());
    assert_eq!(said.lines().count(), LINES);
}

#[test]
fn a_follower_of_the_journal_ends_with_the_host() {
    let mut running = Running::with_counter();
    let mut following = command(running.path());
    following.args(["--json", "journal", "tail", "--follow"]).stdout(Stdio::piped());
    let mut following = following.spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("event_name"), "{first}");
    running.stop();
    assert!(lines.all(|line| line.is_ok()));
    assert!(following.wait().unwrap().success());
}

#[test]
fn a_long_stream_arrives_whole_and_costs_nothing_to_who_does_not_read_it() {
    let running = Running::new();
    running.ok(&["plugin", "install", guest("relay").to_str().unwrap(), "--grant", "all"]);
    let arguments = ["send", "relay", "stream", "{\"n\": 5000}"];
    assert_eq!(running.ok(&arguments)["value"], 5_000);
    let output = running.run(&[&arguments[..], &["--stream"]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", said.lines().last().unwrap());
    assert_eq!(said.lines().count(), 5_001, "its pieces and its result");
}

#[test]
fn a_client_whose_host_is_killed_says_so_and_ends() {
    let mut running = Running::with_counter();
    let mut follow = command(running.path());
    follow.args(["--json", "--patience-s", "5", "journal", "tail", "--follow"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    running.kill();
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    let output = follow.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("does not answer; waiting for it for up to 5 s").count(), 1, "{said}");
    let data = &last["error"]["data"];
    assert_eq!((output.status.code(), &data["kind"]), (Some(1), &json!("silent")), "{last}");
    assert_eq!(data["effect"], "none", "it only looked: {last}");
}
