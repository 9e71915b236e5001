//! Goal: what one host exports, another one installs, and it answers the same. Method: a behaviour in JavaScript and a
//! plugin are taken out of one home and into another; what cannot be is refused, and nothing is written over.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use telos_forge::{
    Account, AccountExample, AccountExpectation, AccountSelector, AccountSlot, Behaviour, assemble, engine,
};

use crate::running::{Running, guest};

const TALLY: &str = "export function handle(self, args, telos) {
  if (typeof args.by !== 'number') telos.badArguments('by: a number');
  (self.steps ??= []).push(args.by);
  return self.steps.reduce((sum, step) => sum + step, 0);
}
";

#[test]
fn a_behaviour_in_javascript_serves_in_another_home_and_answers_the_same() {
    let (own, other) = (Running::new(), Running::new());
    own.ok(&["plugin", "install", text(&thin(own.path(), TALLY)), "--grant", "all"]);
    let file = own.path().join("tally.wasm");
    let told = own.ok(&["plugin", "export", "tally", "--output", text(&file)]);
    assert_eq!(
        (&told["id"], &told["version"], &told["has_engine"]),
        (&json!("tally"), &json!("1.0.0"), &json!(true))
    );
    let bytes = fs::read(&file).unwrap();
    assert_eq!(told["bytes"], bytes.len());
    assert!(!holds(&bytes, b"js-engine-h"), "it imports no engine");

    let checked = other.ok(&["plugin", "check", text(&file)]);
    assert_eq!(checked["ok"], true, "{checked}");
    let examples = checked["examples"].as_array().unwrap();
    assert!(examples.len() == 2 && examples.iter().all(|example| example["passed"] == true), "{checked}");
    other.ok(&["plugin", "install", text(&file), "--grant", "all"]);
    for field in ["version", "summary", "generation", "contract", "imports", "selectors", "kind"] {
        let of = |running: &Running| running.ok(&["plugin", "info", "tally"])[field].clone();
        assert_eq!(of(&own), of(&other), "{field}");
    }
    for by in [2, 5] {
        let send =
            |running: &Running| running.ok(&["send", "tally", "add", &json!({ "by": by }).to_string()]);
        assert_eq!(send(&own)["value"], send(&other)["value"]);
    }
}

#[test]
fn any_other_plugin_is_exported_as_it_was_installed() {
    let running = Running::with_counter();
    let file = running.path().join("counter.wasm");
    let told = running.text(&["plugin", "export", "counter", "-o", text(&file)]);
    assert!(told.contains("as it was installed") && told.contains("telos plugin install"), "{told}");
    assert!(fs::read(&file).unwrap() == fs::read(guest("counter")).unwrap());
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_written_over() {
    let running = Running::with_counter();
    let file = running.path().join("taken.wasm");
    fs::write(&file, "mine").unwrap();
    let refused = running.refusal(&["plugin", "export", "counter", "--output", text(&file)]);
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("is there already, and nothing is written over"), "{refused}");
    assert!(refused["data"]["next"].as_str().unwrap().contains("--output FILE"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let nobody =
        running.refused(&["plugin", "export", "nobody", "--output", text(&running.path().join("n.wasm"))]);
    assert!(nobody.contains("nobody"), "{nobody}");
    let nowhere = running.path().join("no/such/directory.wasm");
    let refused = running.refused(&["plugin", "export", "counter", "--output", text(&nowhere)]);
    assert!(refused.contains("cannot be written"), "{refused}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A behaviour's own component, as the forge makes it.
fn thin(directory: &Path, source: &str) -> PathBuf {
    let example = |name: &str, arguments: Value, expect: AccountExpectation| AccountExample {
        name: name.into(),
        before: vec![("steps".into(), json!([1]))],
        arguments,
        recordings: Vec::new(),
        expect,
        after: Vec::new(),
    };
    let account = Account {
        id: "tally".into(),
        version: "1.0.0".into(),
        summary: "Adds up.".into(),
        generation: 1,
        slots: vec![AccountSlot { name: "steps".into(), summary: "What was added.".into(), default: None }],
        selectors: vec![AccountSelector {
            name: "add".into(),
            summary: "Adds a step.".into(),
            arguments: json!({"type": "object"}),
            returns: json!({"type": "number"}),
            read_only: false,
            examples: vec![
                example("two", json!({"by": 2}), AccountExpectation::Value(json!(3))),
                example("a word", json!({"by": "x"}), AccountExpectation::Refusal),
            ],
        }],
    };
    let behaviour = Behaviour::of(&account, source.into(), Vec::new()).unwrap();
    let component =
        assemble(engine().expect("a JavaScript engine; run `cargo xtask engine`"), &behaviour).unwrap();
    let path = directory.join("thin.wasm");
    fs::write(&path, component).unwrap();
    path
}
