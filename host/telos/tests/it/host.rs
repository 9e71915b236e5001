//! Goal: a real host in a process of its own does what the README says, through the command line, files and kills.
//! Method: the real binary with an empty home, real guests, real sockets; `kill -9` while clients are at work.

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
    assert_eq!(running.ok(&["doctor"])["ready"], true);
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
fn a_half_copied_file_waits_and_a_bad_one_is_refused_while_the_old_one_serves() {
    let running = Running::with_counter();
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
    let entry = |running: &Running| {
        let listing = running.ok(&["plugin", "list"]);
        let inbox = listing["inbox"].as_array().unwrap().clone();
        inbox.into_iter().find(|entry| entry["path"].as_str().unwrap().ends_with("bad.wasm"))
    };
    eventually("the bad file is refused", || {
        entry(&running).is_some_and(|entry| entry["state"] == "refused")
    });
    let cause = entry(&running).unwrap()["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("not a WebAssembly component"), "{cause}");
    assert_eq!(running.value("counter", "release"), "0.2.0");
    assert!(running.ok(&["audit"]).to_string().contains("plugin.refused"));
}

#[test]
fn two_files_with_one_id_are_told_apart_and_an_unknown_key_is_named() {
    let running = Running::new();
    let inbox = running.path().join("plugins");
    std::fs::copy(guest("counter"), inbox.join("a.wasm")).unwrap();
    eventually("a serves", || running.ok(&["plugin", "list"]).to_string().contains("counter 0.1.0 serves"));
    std::fs::copy(guest("counter-v2"), inbox.join("b.wasm")).unwrap();
    eventually("b is refused", || {
        running.ok(&["plugin", "list"]).to_string().contains("holds `counter` too")
    });
    assert_eq!(running.value("counter", "release"), "0.1.0");
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
    running.ok(&["plugin", "install", guest("spinner").to_str().unwrap()]);
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

/// What one client knows of its own counter: every acknowledged increment, and those whose fate it never learned.
struct Account {
    acknowledged: u64,
    unknown: u64,
    last: u64,
}

async fn count_until(
    endpoint: Endpoint,
    object: String,
    is_done: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Account {
    let client = Client::connect(endpoint, ClientConfig::default()).await.unwrap();
    let mut account = Account { acknowledged: 0, unknown: 0, last: 0 };
    while !is_done.load(Ordering::SeqCst) {
        let params = json!({"object": object, "selector": "increment", "arguments": null});
        match client.call("object.send", params, CallOptions::with_deadline(PATIENCE)).await {
            Ok(answer) => {
                let count = answer["value"].as_u64().unwrap();
                assert!(count > account.last, "{object}: {count} after {}", account.last);
                assert!(
                    count <= account.acknowledged + account.unknown + 1,
                    "{object}: an increment came twice"
                );
                account.last = count;
                account.acknowledged += 1;
                total.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => account.unknown += 1,
        }
    }
    client.close().await;
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load_loses_and_repeats_no_acknowledged_effect() {
    const CLIENTS: usize = 8;
    let rounds = if std::env::var_os("TELOS_LONG").is_some() { 100 } else { 5 };
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
    for _ in 0..rounds {
        let before = total.load(Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while total.load(Ordering::SeqCst) < before + 50 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running = tokio::task::spawn_blocking(move || {
            running.kill();
            running.start();
            running
        })
        .await
        .unwrap();
    }
    is_done.store(true, Ordering::SeqCst);
    for (number, client) in clients.into_iter().enumerate() {
        let account = client.await.unwrap();
        let count = running.value(&format!("mine/{number}"), "read").as_u64().unwrap();
        assert!(
            count >= account.acknowledged,
            "mine/{number}: {count} of {} acknowledged",
            account.acknowledged
        );
        assert!(count <= account.acknowledged + account.unknown, "mine/{number}: an effect came twice");
    }
    running.kill();
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
}
