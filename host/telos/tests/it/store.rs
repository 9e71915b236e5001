//! Goal: what a person trusts a store with comes back: backups, restores, the past, and forgetting that is provable.
//! Method: the real binary and a real host; messages in flight, `kill -9`, flipped bits, bytes searched for on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use telos_bridge::{CallOptions, Client, ClientConfig, Endpoint};

use crate::running::{PATIENCE, Running, command, eventually};

/// A place for backups, beside every home.
fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Increments until it is told to stop.
async fn count(endpoint: Endpoint, is_done: Arc<AtomicBool>) {
    let client = Client::connect(endpoint, ClientConfig::default()).await.unwrap();
    while !is_done.load(Ordering::SeqCst) {
        let params = json!({"object": "counter", "selector": "increment", "arguments": null});
        let _ = client.call("object.send", params, CallOptions::with_deadline(PATIENCE)).await;
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_is_what_a_fresh_home_becomes() {
    let (mut running, place) = (Running::with_counter(), place());
    let backup = place.path().join("copy");
    let is_done = Arc::new(AtomicBool::new(false));
    let client = tokio::spawn(count(running.endpoint(), Arc::clone(&is_done)));
    eventually("it counts", || running.value("counter", "read").as_u64().unwrap() > 20);
    let report = running.ok(&["store", "backup", text(&backup)]);
    assert_eq!((&report["is_verified"], &report["path"]), (&json!(true), &json!(text(&backup))));
    let position = report["position"].as_u64().unwrap();
    let then = running.ok(&["object", "show", "counter", "--as-of", &position.to_string()]);
    eventually("it counts on", || running.doctor()["position"].as_u64().unwrap() > position + 20);
    running.kill();
    is_done.store(true, Ordering::SeqCst);
    client.abort();

    let mut fresh = Running::new();
    fresh.kill();
    std::fs::remove_dir_all(fresh.path().join("store")).unwrap();
    let restored = fresh.ok(&["store", "restore", text(&backup)]);
    assert_eq!((&restored["backup_position"], &restored["replaced"]), (&json!(position), &Value::Null));
    assert_eq!(fresh.ok(&["store", "verify"])["clean"], true);
    fresh.start();
    let count = slot(&then, "count");
    assert!(count.as_u64().unwrap() > 20, "{then}");
    assert_eq!(fresh.value("counter", "read"), count);
    assert!(fresh.ok(&["audit"]).to_string().contains("store.restored"));
}

fn slot(object: &Value, name: &str) -> Value {
    let slots = object["slots"].as_array().unwrap();
    slots.iter().find(|slot| slot["name"] == name).map(|slot| slot["value"].clone()).unwrap()
}

/// The decisions that the journal shows, oldest first.
fn audit_lines(running: &Running) -> String {
    let shown = running.run(&["journal", "tail", "--lines", "1000", "--event", "audit."]);
    String::from_utf8(shown.stdout).unwrap()
}

#[test]
fn a_live_home_is_not_restored_over_and_a_stopped_one_keeps_its_old_store() {
    let (mut running, place) = (Running::with_counter(), place());
    let backup = place.path().join("copy");
    running.value("counter", "increment");
    running.ok(&["store", "backup", text(&backup)]);
    running.value("counter", "increment");
    // As many decisions as the restore makes: only the numbers' meaning changes.
    running.ok(&["object", "new", "later"]);
    eventually("the journal shows it", || audit_lines(&running).contains("audit.object.new"));
    let refused = running.refusal(&["store", "restore", text(&backup), "--force"]);
    assert_eq!(refused["data"]["kind"], "in-use", "{refused}");
    let pid = running.host.as_ref().unwrap().id().to_string();
    assert!(refused["message"].as_str().unwrap().contains(&pid), "{refused}");
    let warned = running.run(&["journal", "tail", "--severity", "warn", "--event", "store.restore-failed"]);
    assert!(String::from_utf8(warned.stdout).unwrap().contains(&pid), "the host's journal says so");
    assert_eq!(running.value("counter", "increment"), 3);
    running.kill();
    let restored = running.ok(&["store", "restore", text(&backup)]);
    let replaced = PathBuf::from(restored["replaced"].as_str().unwrap());
    assert!(replaced.join("objects.redb").is_file(), "{}", replaced.display());
    running.start();
    assert_eq!(running.value("counter", "read"), 1);
    eventually("the journal shows the restore, and what was decided after it", || {
        running.ok(&["object", "set", "counter", "note", "1"]);
        let shown = audit_lines(&running);
        let restored = shown.find("audit.store.restored");
        restored.is_some_and(|at| shown[at..].contains("audit.object.set"))
    });
}

#[test]
fn a_backup_with_one_flipped_bit_is_refused_and_the_store_stays() {
    let (mut running, place) = (Running::with_counter(), place());
    running.value("counter", "increment");
    running.kill();
    // Without a host the command copies by itself.
    let backup = place.path().join("copy");
    running.ok(&["store", "backup", text(&backup)]);
    let file = backup.join("objects.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let refused = running.refusal(&["store", "restore", text(&backup), "--force"]);
    assert_eq!(refused["data"]["kind"], "damaged", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("objects.redb: damaged: its checksum is not"), "{message}");
    let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
    let incident = format!("\"incident\":{}", refused["data"]["incident"]);
    assert!(journal.lines().any(|line| line.contains("store.restore-failed") && line.contains(&incident)));
    running.start();
    assert_eq!(running.value("counter", "read"), 1);
}

#[test]
fn a_backup_never_writes_over_anything_nor_into_the_store() {
    let (mut running, place) = (Running::with_counter(), place());
    std::fs::write(place.path().join("mine"), "x").unwrap();
    let inside = running.path().join("store/copy");
    for _ in 0..2 {
        for to in [place.path(), &inside] {
            let refused = running.refusal(&["store", "backup", text(to)]);
            assert_eq!(refused["data"]["kind"], "exists", "{refused}");
        }
        if running.host.is_some() {
            eventually("the journal says so", || {
                let shown = running.run(&["journal", "tail", "--event", "store.backup-failed"]);
                String::from_utf8(shown.stdout).unwrap().lines().count() == 2
            });
            running.kill();
        }
    }
    let refused = running.refusal(&["store", "restore", text(place.path())]);
    assert_eq!(refused["data"]["kind"], "not-a-backup", "{refused}");
}

#[test]
fn a_serving_store_verifies_clean_tells_its_quotas_and_is_rewritten() {
    let running = Running::with_counter();
    running.value("counter", "increment");
    let report = running.ok(&["store", "verify"]);
    assert_eq!((&report["clean"], &report["problems"]), (&json!(true), &json!([])));
    let stats = running.ok(&["store", "stats"]);
    assert!(stats["usage"]["database_bytes"].as_u64() < stats["usage"]["database_bytes_max"].as_u64());
    assert_eq!(stats["history"]["age_ms"], 30_u64 * 24 * 3_600 * 1_000);
    assert!(running.ok(&["store", "rewrite"])["rows"].as_u64().unwrap() > 0);
    assert_eq!(running.value("counter", "increment"), 2);
}

#[test]
fn without_a_host_the_store_is_counted_and_rewritten_all_the_same() {
    let mut running = Running::with_counter();
    running.value("counter", "increment");
    let serving = running.ok(&["store", "stats"]);
    running.kill();
    let stats = running.ok(&["store", "stats"]);
    assert_eq!((&stats["store"], &stats["counts"]), (&serving["store"], &serving["counts"]));
    assert_eq!(stats["usage"]["database_bytes_max"], Value::Null, "that is a running host's: {stats}");
    assert!(running.ok(&["store", "rewrite"])["rows"].as_u64().unwrap() > 0);
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
    let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
    assert!(journal.contains("store.rewritten"), "{journal}");
    running.start();
    assert_eq!(running.value("counter", "increment"), 2);
    let nowhere = place();
    let refused = command(nowhere.path()).args(["--json", "store", "stats"]).output().unwrap();
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["error"]["data"]["kind"], "no-store", "{refused}");
}

#[test]
fn a_damaged_store_is_not_rewritten() {
    let mut running = Running::with_counter();
    running.ok(&["object", "new", "mine"]);
    running.ok(&["object", "set", "mine", "note", "\"BALANCE=1000\""]);
    running.kill();
    let file = running.path().join("store/objects.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let needle = b"BALANCE=1000";
    let at = bytes.windows(needle.len()).position(|bytes| bytes == needle).unwrap();
    bytes[at] ^= 8;
    std::fs::write(&file, &bytes).unwrap();
    let output = command(running.path()).args(["--json", "store", "rewrite"]).output().unwrap();
    assert!(!output.status.success());
    assert!(std::fs::read(&file).unwrap() == bytes, "it was changed");
}

#[test]
fn a_history_pages_through_every_revision() {
    let running = Running::with_counter();
    running.ok(&["object", "new", "mine"]);
    for number in 0..119 {
        running.ok(&["object", "set", "mine", "count", &number.to_string()]);
    }
    let revisions = |page: &Value| -> Vec<u64> {
        let rows = page["revisions"].as_array().unwrap().iter();
        rows.map(|row| row["revision"].as_u64().unwrap()).collect()
    };
    let whole = running.ok(&["object", "history", "mine", "--limit", "500"]);
    assert_eq!(revisions(&whole), (1..=120).rev().collect::<Vec<_>>());
    assert_eq!(whole["next_before"], Value::Null);
    let (mut paged, mut before) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["object", "history", "mine", "--limit", "50"];
        arguments.extend(before.iter().flat_map(|before| ["--before", before]));
        let page = running.ok(&arguments);
        paged.extend(revisions(&page));
        let Some(next) = page["next_before"].as_u64() else { break };
        before = Some(next.to_string());
    }
    assert_eq!(paged, revisions(&whole));
    let old = &whole["revisions"][60];
    let position = old["position"].to_string();
    let shown = running.ok(&["object", "show", "mine", "--as-of", &position]);
    assert_eq!((&shown["revision"], &slot(&shown, "count")), (&old["revision"], &old["slots"]["count"]));
}

#[test]
fn a_past_that_is_not_kept_or_not_yet_there_is_refused_with_a_reason() {
    let running = Running::with_counter();
    let refused = running.refusal(&["object", "show", "counter", "--as-of", "1970-01-02T00:00:00Z"]);
    assert_eq!(refused["data"]["kind"], "too-old", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("the oldest position is 1") && message.contains("30 days"), "{message}");
    let now = running.ok(&["object", "show", "counter", "--as-of", "9999-01-01T00:00:00Z"]);
    assert_eq!(now["as_of"], running.doctor()["position"]);
    for wrong in ["yesterday", "2026-01-01"] {
        let refused = running.refusal(&["object", "show", "counter", "--as-of", wrong]);
        assert_eq!(refused["data"]["kind"], "invalid", "{refused}");
    }
    let refused = running.refused(&["object", "show", "counter", "--as-of", "99999"]);
    assert!(refused.contains("not decided yet"), "{refused}");
    let refused = running.refusal(&["object", "show", "counter", "--as-of", "0"]);
    assert_eq!(refused["data"]["kind"], "no-such-object", "{refused}");
    let early = jiff::Timestamp::now().to_string();
    let before = running.doctor()["position"].as_u64().unwrap();
    running.ok(&["object", "new", "mine"]);
    let refused = running.refusal(&["object", "show", "mine", "--as-of", &early]);
    assert_eq!(refused["data"]["kind"], "no-such-object", "{refused}");
    let message = refused["message"].as_str().unwrap();
    for part in [&early, &format!("stands for position {before}"), "the oldest position is 1", "30 days"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// Files below a directory that contain these bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_is_forgotten_leaves_the_past_and_every_file_of_the_store() {
    let mut running = Running::with_counter();
    let marker = "marmalade-7c1f2a9e";
    running.ok(&["object", "new", "secret"]);
    running.ok(&["object", "set", "secret", "text", &format!("\"{marker}\"")]);
    running.ok(&["object", "set", "secret", "text", "\"harmless\""]);
    running.ok(&["object", "new", "child", "--parent", "secret"]);
    let store = running.path().join("store");
    assert!(!files_with(&store, marker.as_bytes()).is_empty());

    let asked = running.run(&["object", "forget", "secret"]);
    assert_eq!(asked.status.code(), Some(1));
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((&asked["forgotten"], &asked["would_forget"][0]["revisions"]), (&Value::Null, &json!(3)));
    let refused = running.refusal(&["object", "forget", "secret", "--yes"]);
    assert_eq!(refused["data"]["kind"], "still-parent", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("is a parent of object") && !message.contains("more"), "{message}");
    assert_eq!(refused["data"]["incident"], Value::Null, "a refusal is nobody's failure");
    let errors = running.run(&["journal", "tail", "--severity", "error"]);
    assert_eq!(String::from_utf8(errors.stdout).unwrap(), "");
    let done = running.ok(&["object", "forget", "secret", "--yes", "--detach"]);
    assert_eq!((&done["forgotten"]["objects"], &done["forgotten"]["states"]), (&json!(1), &json!(3)));
    assert_eq!((&done["forgotten"]["detached"], &done["traces_left"]), (&json!(1), &json!(0)), "{done}");
    assert!(done["rewritten"]["rows"].is_number(), "{done}");
    let nothing: [PathBuf; 0] = [];
    assert_eq!(files_with(&store, marker.as_bytes()), nothing);

    assert!(running.refused(&["object", "history", "secret"]).contains("no object is called `secret`"));
    assert!(running.ok(&["audit"]).to_string().contains("object.forgotten"));
    running.kill();
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);
    assert_eq!(files_with(&store, marker.as_bytes()), nothing);
}

#[test]
fn a_serving_plugins_root_object_is_not_forgotten() {
    let running = Running::with_counter();
    running.ok(&["object", "new", "other"]);
    let refused = running.refusal(&["object", "forget", "other", "counter", "--yes", "--detach"]);
    assert!(refused["data"]["next"].as_str().unwrap().contains("plugin remove counter"), "{refused}");
    assert_eq!(running.value("counter", "increment"), 1);
    running.ok(&["object", "show", "other"]);
}

#[test]
fn a_full_database_refuses_messages_says_how_to_free_room_and_reads_on() {
    let mut running = Running::with_counter();
    running.value("counter", "increment");
    running.kill();
    running.start_with(&["--database-mib", "0"]);
    let refused = running.refusal(&["send", "counter", "increment"]);
    assert_eq!((&refused["data"]["kind"], &refused["data"]["effect"]), (&json!("full"), &json!("none")));
    assert!(refused["data"]["next"].as_str().unwrap().contains("--database-mib"), "{refused}");
    assert_eq!(running.value("counter", "read"), 1);
    let doctor = running.doctor().to_string();
    assert!(doctor.contains("telos store rewrite"), "{doctor}");
}

#[test]
fn people_get_sentences_and_no_bar_off_a_terminal() {
    let (running, place) = (Running::with_counter(), place());
    let backup = place.path().join("copy");
    let said = command(running.path()).args(["store", "backup", text(&backup)]).output().unwrap();
    let (out, errors) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    assert!(out.starts_with("backed up position ") && out.contains("every row checked"), "{out}");
    assert_eq!(errors, "");
}

/// A start that is refused, whole.
#[track_caller]
fn refused_start(running: &Running) -> (String, String, String) {
    let said = running.refusal(&["up"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&said["data"]["kind"]), text(&said["message"]), text(&said["data"]["next"]))
}

/// Lines of the journal about starts that failed so.
fn failed_starts(running: &Running, kind: &str) -> usize {
    let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
    let is_it =
        |line: &&str| line.contains("host.start-failed") && line.contains(&format!("\"kind\":\"{kind}\""));
    journal.lines().filter(is_it).filter(|line| line.contains("\"ERROR\"")).count()
}

#[test]
fn a_store_that_does_not_open_says_why_and_what_fits() {
    let mut running = Running::with_counter();
    running.kill();
    let file = running.path().join("store/objects.redb");
    let whole = std::fs::read(&file).unwrap();
    let cut = whole.len() / 2;
    for (round, bytes) in [vec![7; 100_000], whole[..cut].to_vec()].into_iter().enumerate() {
        std::fs::write(&file, bytes).unwrap();
        let (kind, message, next) = refused_start(&running);
        assert_eq!(kind, "damaged", "{message}");
        assert!(
            message.contains(text(&running.path().join("store")))
                && message.contains("the database is damaged"),
            "{message}"
        );
        assert_eq!(failed_starts(&running, "damaged"), 1 + round);
        assert!(
            next.contains("`telos store verify`") && next.contains("`telos store restore DIR`"),
            "{next}"
        );
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (kind, message, next) = refused_start(&running);
    assert!(kind == "store" && message.contains("os error 21"), "{message}");
    assert!(next.contains("mend what it names"), "{next}");
    let refused = running.refusal(&["store", "verify"]);
    let next = refused["data"]["next"].as_str().unwrap();
    assert!(!next.contains("restore"), "no backup mends that: {next}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, &whole).unwrap();
    running.start();
    assert_eq!(running.value("counter", "read"), 0);
}

#[test]
fn a_store_whose_file_is_gone_is_missed_and_a_backup_brings_it_back() {
    let (mut running, place) = (Running::with_counter(), place());
    running.value("counter", "increment");
    let backup = place.path().join("copy");
    running.ok(&["store", "backup", text(&backup)]);
    running.kill();
    let file = running.path().join("store/objects.redb");
    for is_emptied in [true, false] {
        if is_emptied {
            std::fs::write(&file, "").unwrap()
        } else {
            std::fs::remove_file(&file).unwrap()
        }
        let (kind, message, next) = refused_start(&running);
        assert!(kind == "gone" && message.contains("objects.redb is missing or holds nothing"), "{message}");
        assert!(next.contains("`telos store restore DIR`") && next.contains("begin with an empty"), "{next}");
        assert_eq!(running.refusal(&["store", "verify"])["data"]["kind"], "gone");
        assert_eq!(file.exists(), is_emptied, "nothing was made");
    }
    running.ok(&["store", "restore", text(&backup)]);
    running.start();
    assert_eq!(running.value("counter", "read"), 1);
}

#[test]
fn an_object_is_not_named_as_another_ones_id() {
    let running = Running::with_counter();
    let id = running.ok(&["object", "show", "counter"])["id"].as_str().unwrap().to_owned();
    let refused = running.refused(&["object", "new", &id]);
    assert!(refused.contains("32 hex digits"), "{refused}");
    assert_eq!(running.value(&id, "increment"), 1);
}

#[test]
fn a_store_that_is_older_than_its_journal_is_told_until_the_next_start() {
    let mut running = Running::with_counter();
    running.kill();
    let file = running.path().join("store/objects.redb");
    let older = std::fs::read(&file).unwrap();
    running.start();
    running.ok(&["object", "new", "mine"]);
    let position = running.doctor()["position"].as_u64().unwrap();
    eventually("the journal shows it", || audit_lines(&running).contains("audit.object.new"));
    running.stop();
    std::fs::write(&file, older).unwrap();
    let told = |running: &Running| {
        let checks = running.doctor()["checks"].clone();
        let checks = checks.as_array().unwrap().clone();
        checks.into_iter().find(|check| check["cause"].as_str().unwrap().contains("commits are missing"))
    };
    running.start();
    let check = told(&running).unwrap();
    assert_eq!(check["state"], "degraded", "{check}");
    let cause = check["cause"].as_str().unwrap();
    assert!(cause.contains(&format!("the journal knows of position {position}: ")), "{cause}");
    assert!(cause.contains("1 decision among them"), "{cause}");
    assert!(check["do_this"].as_str().unwrap().contains("telos store restore"), "{check}");
    let warned = running.run(&["journal", "tail", "--event", "store.older", "--severity", "warn"]);
    assert!(String::from_utf8(warned.stdout).unwrap().contains("commits are missing"));
    running.stop();
    running.start();
    assert_eq!(told(&running), None);

    // What no decision was made in is missed too.
    running.stop();
    let older = std::fs::read(&file).unwrap();
    running.start();
    running.value("counter", "increment");
    running.stop();
    std::fs::write(&file, older).unwrap();
    running.start();
    let check = told(&running).unwrap();
    assert!(!check["cause"].as_str().unwrap().contains("decision"), "{check}");
}

#[test]
fn a_restore_says_how_many_forgotten_objects_are_back_and_doctor_names_the_copies() {
    let (mut running, place) = (Running::with_counter(), place());
    let backup = place.path().join("copy");
    for name in ["first", "second", "third"] {
        running.ok(&["object", "new", name]);
    }
    running.ok(&["store", "backup", text(&backup)]);
    running.ok(&["object", "new", "later"]);
    for name in ["first", "second", "later"] {
        running.ok(&["object", "forget", name, "--yes", "--no-rewrite"]);
    }
    let copies = |running: &Running| {
        let checks = running.doctor()["checks"].clone();
        let checks = checks.as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == "copies")
    };
    assert_eq!(copies(&running), None);
    running.stop();
    let said = running.text(&["store", "restore", text(&backup)]);
    assert!(said.contains("2 objects forgotten since position") && said.contains("are back"), "{said}");
    let again = running.ok(&["store", "restore", text(&backup)]);
    assert_eq!(again["forgotten_back"], 0, "that one had forgotten nothing: {again}");
    std::fs::write(running.path().join("store/objects.redb"), vec![7; 100_000]).unwrap();
    let unread = running.ok(&["store", "restore", text(&backup), "--force"]);
    assert_eq!(unread["forgotten_back"], Value::Null, "{unread}");
    running.start();
    let check = copies(&running).unwrap();
    let cause = check["cause"].as_str().unwrap();
    assert_eq!(check["state"], "ok");
    assert!(cause.contains("3 earlier copies") && cause.contains("what was forgotten since"), "{check}");
}

/// The one file below `blobs`.
fn blob_file(running: &Running, digest: &str) -> PathBuf {
    running.path().join("store/blobs").join(&digest[..2]).join(&digest[2..])
}

#[test]
fn lost_bytes_of_a_release_are_told_and_come_back_from_the_bundle() {
    let mut running = Running::with_counter();
    let digest = running.ok(&["plugin", "info", "counter"])["digest"].as_str().unwrap().to_owned();
    let file = blob_file(&running, &digest);
    std::fs::remove_file(&file).unwrap();
    let told = |running: &Running| {
        let checks = running.doctor()["checks"].clone();
        let checks = checks.as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == "release")
    };
    let check = told(&running).unwrap();
    assert_eq!(check["state"], "degraded");
    assert!(check["cause"].as_str().unwrap().contains("counter 0.1.0"), "{check}");
    assert!(check["do_this"].as_str().unwrap().contains("telos plugin install"), "{check}");
    running.kill();

    let bundle = place();
    std::fs::copy(crate::running::guest("counter"), bundle.path().join("counter.wasm")).unwrap();
    let listed = format!("[[plugin]]\nfile = \"counter.wasm\"\ndigest = \"{digest}\"\n");
    std::fs::write(bundle.path().join("bundle.toml"), listed).unwrap();
    running.start_with(&["--bundle", text(bundle.path())]);
    assert_eq!(told(&running), None);
    assert!(file.is_file());
    assert_eq!(running.value("counter", "increment"), 1);
    let said = running.run(&["journal", "tail", "--event", "store.blob-restored", "--severity", "warn"]);
    assert_eq!(String::from_utf8(said.stdout).unwrap().lines().count(), 1);
}
