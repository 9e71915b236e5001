//! Goal: an operator's script changes a stopped home's objects in one step that can be seen before and undone after.
//! Method: the real binary over the home of a host that was killed; what it says, what the host says when it is back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::running::{Running, command, eventually};

/// Splits what was one slot, for all people, and keeps a count in another object.
const SPLIT: &str = r#"local count = 0
for name, person in store.names("people/") do
  local first, last = person:get("name"):match("^(%S+) (%S+)$")
  person:set("first", first)
  person:set("last", last)
  person:remove("name")
  count = count + 1
end
store.find("counter"):set("people", count)
print(count, "people")
"#;

/// A killed host's home with two people beside the counter.
fn stopped() -> Running {
    let mut running = Running::with_counter();
    for (who, full) in [("people/ada", "\"Ada Lovelace\""), ("people/grace", "\"Grace Hopper\"")] {
        running.ok(&["object", "new", who]);
        running.ok(&["object", "set", who, "name", full]);
    }
    running.value("counter", "increment");
    running.kill();
    running
}

fn script(place: &Path, text: impl AsRef<[u8]>) -> String {
    let path = place.join("evolve.lua");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Every file of a home with its bytes, but for who holds the store's lock.
fn bytes(home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut waiting) = (Vec::new(), vec![home.to_path_buf()]);
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() && !path.ends_with("store/pid") {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn slot(object: &Value, name: &str) -> Value {
    let slots = object["slots"].as_array().unwrap();
    slots.iter().find(|slot| slot["name"] == name).map(|slot| slot["value"].clone()).unwrap_or_default()
}

#[test]
fn a_script_does_what_its_dry_run_said_and_the_host_serves_on() {
    let (mut running, place) = (stopped(), tempfile::tempdir().unwrap());
    let script = script(place.path(), SPLIT);
    let before = bytes(running.path());
    let mut told = running.ok(&["store", "evolve", "--script", &script, "--dry-run"]);
    assert_eq!(bytes(running.path()), before);
    assert_eq!(
        (&told["dry_run"], &told["objects"], &told["backup"]),
        (&json!(true), &json!(3), &Value::Null)
    );
    assert_eq!(told["printed"]["lines"], json!(["2 people"]));

    let done = running.ok(&["store", "evolve", "--script", &script]);
    let backup = done["backup"].as_str().unwrap().to_owned();
    (told["dry_run"], told["backup"]) = (json!(false), json!(backup));
    assert_eq!(done, told);
    assert!(backup.contains("store.before-evolve-"), "{backup}");
    let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
    assert!(journal.lines().any(|line| line.contains("\"store.evolved\"") && line.contains("evolve.lua")));
    assert_eq!(running.ok(&["store", "verify"])["clean"], true);

    running.start();
    let ada = running.ok(&["object", "show", "people/ada"]);
    assert_eq!((slot(&ada, "first"), slot(&ada, "name")), (json!("Ada"), Value::Null));
    let position = done["position"].as_u64().unwrap();
    let past = (position - 1).to_string();
    let then = running.ok(&["object", "show", "people/ada", "--as-of", &past]);
    assert_eq!(slot(&then, "name"), "Ada Lovelace");
    assert_eq!((running.value("counter", "increment"), running.audited() > 0), (json!(2), true));
    let audit = running.ok(&["audit"]);
    let fact = audit["rows"].as_array().unwrap().iter().find(|row| row["kind"] == "store.evolved").unwrap();
    assert_eq!(fact["detail"]["script_sha256"], done["script_sha256"]);
    assert_eq!((&fact["detail"]["objects"], &fact["detail"]["backup"]), (&json!(3), &json!(backup)));
    eventually("the journal shows the decision", || {
        let shown = running.run(&["journal", "tail", "--lines", "1000", "--event", "audit.store.evolved"]);
        String::from_utf8(shown.stdout).unwrap().lines().count() == 1
    });

    running.kill();
    running.ok(&["store", "restore", &backup]);
    running.start();
    assert_eq!(slot(&running.ok(&["object", "show", "people/ada"]), "name"), "Ada Lovelace");
    assert_eq!(running.value("counter", "increment"), 2);
}

#[test]
fn a_running_hosts_home_is_not_evolved() {
    let (running, place) = (Running::with_counter(), tempfile::tempdir().unwrap());
    let script = script(place.path(), SPLIT);
    for arguments in [
        &["store", "evolve", "--script", &script, "--dry-run"][..],
        &["store", "evolve", "--script", &script],
    ] {
        let refused = running.refusal(arguments);
        assert_eq!(
            (&refused["data"]["kind"], &refused["data"]["effect"]),
            (&json!("in-use"), &json!("none"))
        );
        let pid = running.host.as_ref().unwrap().id().to_string();
        assert!(refused["message"].as_str().unwrap().contains(&pid), "{refused}");
    }
    let warned = running.run(&["journal", "tail", "--severity", "warn", "--event", "store.evolve-failed"]);
    assert_eq!(String::from_utf8(warned.stdout).unwrap().lines().count(), 1, "a dry run writes nothing");
    assert_eq!(running.value("counter", "increment"), 1);
}

#[test]
fn whatever_is_wrong_with_a_script_is_said_with_its_place_and_changes_nothing() {
    let (running, place) = (stopped(), tempfile::tempdir().unwrap());
    let store = running.path().join("store");
    let before = bytes(&store);
    let check = |text: &[u8], kind: &str, says: &str| {
        let script = script(place.path(), text);
        let refused = running.refusal(&["store", "evolve", "--script", &script]);
        assert_eq!(
            (&refused["data"]["kind"], &refused["data"]["effect"]),
            (&json!(kind), &json!("none")),
            "{refused}"
        );
        assert!(refused["message"].as_str().unwrap().contains(says), "{says}: {refused}");
        assert_eq!(bytes(&store), before, "{kind}");
        let journal = std::fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap();
        let kind = format!("\"{kind}\"");
        assert!(journal.lines().any(|line| line.contains("store.evolve-failed") && line.contains(&kind)));
        let left: Vec<PathBuf> =
            std::fs::read_dir(running.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!left.iter().any(|path| path.to_string_lossy().contains("before-evolve")), "{left:?}");
    };
    check(b"-- one\nlocal x = )\n", "syntax", "evolve.lua:2:11: unexpected symbol near ')'");
    check(b"-- one\n\xff", "not-utf8", "evolve.lua:2: not UTF-8");
    check(&vec![b'-'; 300_000], "too-large", "262144");
    let half_way = "for name, person in store.names('people/') do\n  person:set('seen', true)\n  if name == 'people/grace' then error('no further') end\nend";
    check(half_way.as_bytes(), "script", "evolve.lua:3: no further (at object ");
    let unknown = b"store.find('counter'):set('a', 1)\nstore.get('00000000000000000000000000000001')";
    check(unknown, "no-such-object", "evolve.lua:2: no object 00000000000000000000000000000001");
    check(b"store.find('counter'):set('a', ('x'):rep(300000))", "too-large", "slot \"a\"");
    check(
        b"store.find('counter').generation = 4000",
        "generation-unknown",
        "4000; the highest one known is 1",
    );
    check(b"store.find('counter'):set('increment', 1)", "invalid", "increment");
    check(b"print(('x'):rep(1000000000))", "limit", "bytes of values");
    let refused = running.refusal(&["store", "evolve", "--script", "/does/not/exist.lua"]);
    assert_eq!(refused["data"]["kind"], "no-script", "{refused}");
    let nowhere = command(Path::new("/does/not/exist"))
        .args(["--json", "store", "evolve", "--script", "/does/not/exist.lua"])
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&nowhere.stdout).unwrap();
    assert_eq!(said["error"]["data"]["kind"], "no-store", "{said}");
    assert_eq!(running.run(&["store", "evolve"]).status.code(), Some(2));
    assert_eq!(bytes(&store), before);
}

#[test]
fn people_read_what_would_change_and_what_did() {
    let (running, place) = (stopped(), tempfile::tempdir().unwrap());
    let script = script(place.path(), SPLIT);
    let said = |arguments: &[&str]| {
        let output = command(running.path()).args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let dry = said(&["store", "evolve", "--script", &script, "--dry-run"]);
    let done = said(&["store", "evolve", "--script", &script]);
    let common = |text: &str| {
        text.lines().filter(|line| !line.contains("position")).take(9).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(common(&dry)[..9], common(&done)[..9], "{dry}\n{done}");
    assert!(
        dry.contains("people/ada first: nothing -> \"Ada\"") && dry.contains("nothing was written"),
        "{dry}"
    );
    assert!(done.contains("the store as it was is in ") && done.contains("changed 3 objects"), "{done}");
    let again =
        said(&["store", "evolve", "--script", &self::script(place.path(), "print('idle')"), "--dry-run"]);
    assert_eq!(again, "idle\nnothing differs; the store is as it was\n");
}

/// Many objects that all hold the same number, and what makes it the next one.
const MAKE_MANY: &str = r#"for number = 1, 3000 do
  local object = store.create("operator")
  object:set("n", 0)
  store.bind("many/" .. number, object)
end
"#;
const COUNT_UP: &str = r#"for _, object in store.names("many/") do object:set("n", object:get("n") + 1) end"#;
const LOOK: &str = r#"local seen, count = {}, 0
for _, object in store.names("many/") do
  seen[object:get("n")] = true
  count = count + 1
end
print(count)
for number in pairs(seen) do print(number) end
"#;

#[test]
fn a_run_that_is_killed_at_any_time_leaves_all_or_nothing() {
    let (mut running, place) = (Running::new(), tempfile::tempdir().unwrap());
    running.kill();
    running.ok(&["store", "evolve", "--script", &script(place.path(), MAKE_MANY)]);
    let look = || {
        let told = running.ok(&["store", "evolve", "--script", &script(place.path(), LOOK), "--dry-run"]);
        let lines: Vec<u64> = told["printed"]["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!((lines.len(), lines[0]), (2, 3000), "half of it: {lines:?}");
        lines[1]
    };
    let began = std::time::Instant::now();
    running.ok(&["store", "evolve", "--script", &script(place.path(), COUNT_UP)]);
    let whole = began.elapsed();
    let (rounds, mut last) = (if std::env::var_os("TELOS_LONG").is_some() { 60 } else { 6 }, look());
    assert_eq!(last, 1);
    for round in 0..rounds {
        let count_up = script(place.path(), COUNT_UP);
        let mut child = command(running.path())
            .args(["store", "evolve", "--script", &count_up])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The random part is when it dies, so this waits for time to pass.
        std::thread::sleep(whole * round / rounds);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(running.ok(&["store", "verify"])["clean"], true, "round {round}");
        let now = look();
        assert!((last..=last + 1).contains(&now), "round {round}: {last}, {now}");
        last = now;
    }
    running.ok(&["store", "evolve", "--script", &script(place.path(), COUNT_UP)]);
    assert_eq!(look(), last + 1);
    assert!(!running.path().join("store/objects.draft").exists());
    running.start();
    running.ok(&["object", "show", "many/1"]);
}
