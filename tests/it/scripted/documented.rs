//! Goal: what README.md and the declarations say of JavaScript is so. Method: README's behaviours are run as they are
//! printed there, and the names that are declared are compared with those that a behaviour finds.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use telos_kernel::Failure;
use telos_tests::TestKernel;
use telos_tests::behaviour::Script;

use super::{breaks, run, try_install, with, with_script};

const CHAPTER: &str = "## Behaviours in JavaScript";

/// A behaviour of the chapter, and the messages below it: arguments, and what is answered.
struct Printed {
    source: String,
    messages: Vec<(Value, String)>,
}

/// Every `js` block of the chapter with the `text` block that follows it.
fn printed() -> Vec<Printed> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, chapter) = readme.split_once(CHAPTER).expect("README.md has the chapter");
    let chapter = chapter.split("\n## ").next().unwrap();
    let blocks = chapter.split("```js\n").skip(1);
    blocks.map(printed_in).collect()
}

fn printed_in(block: &str) -> Printed {
    let (source, rest) = block.split_once("```").unwrap();
    let (_, messages) = rest.split_once("```text\n").expect("a text block below each js block");
    let (messages, _) = messages.split_once("```").unwrap();
    let message = |line: &str| {
        let (arguments, answer) = line.split_once(" → ").unwrap_or_else(|| panic!("no arrow in {line}"));
        (serde_json::from_str(arguments.trim()).unwrap(), answer.trim().to_owned())
    };
    Printed { source: source.into(), messages: messages.lines().map(message).collect() }
}

/// As README.md prints it: the answer as JSON, or the kind of failure and its words.
fn shown(answer: Result<Value, Failure>) -> String {
    match answer {
        Ok(value) => value.to_string(),
        Err(Failure::BadArguments(why)) => format!("bad arguments: {why}"),
        Err(Failure::Refused(why)) => format!("refused: {why}"),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviours_of_the_readme_answer_as_it_says() {
    let printed = printed();
    assert!(printed.len() >= 3, "found {} behaviours", printed.len());
    for Printed { source, messages } in printed {
        assert!(!messages.is_empty(), "{source}");
        let kernel = TestKernel::with_guests(&["counter"]).await;
        let uses = if source.contains("telos.send(") { vec!["messaging"] } else { Vec::new() };
        try_install(&kernel, &Script { uses, ..Script::of(&source) }).await.unwrap();
        for (arguments, answer) in messages {
            let found = shown(run(&kernel, arguments.clone()).await);
            let same = serde_json::from_str::<Value>(&answer).map(|answer| answer.to_string());
            assert_eq!(found, same.unwrap_or(answer), "{arguments} to\n{source}");
        }
    }
}

/// Names of the members of each interface in the declarations, sorted.
fn declared() -> BTreeMap<String, Vec<String>> {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut interface = None;
    for line in telos_forge::DECLARATIONS.lines() {
        if let Some(name) = line.strip_prefix("interface ") {
            interface = name.strip_suffix(" {").map(str::to_owned);
        }
        let member =
            line.strip_prefix("  ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if let (Some(interface), Some(member)) = (&interface, member) {
            let member = member.strip_prefix("readonly ").unwrap_or(member);
            let name = member.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap();
            declared.entry(interface.clone()).or_default().push(name.into());
        }
    }
    declared.values_mut().for_each(|names| names.sort());
    declared
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_that_is_declared_is_there_and_no_other() {
    let kernel =
        with("export function handle(self, args, telos) { return Object.keys(telos).sort(); }").await;
    assert_eq!(run(&kernel, Value::Null).await.unwrap(), json!(declared()["Telos"]));
    // Deserialising says which there are.
    let source = "export function handle(self, args, telos) { telos.generate('a', { nothing: 1 }); }";
    let kernel = with_script(&Script { uses: vec!["inference"], ..Script::of(source) }).await;
    let said = breaks(&kernel, Value::Null).await;
    let (_, expected) = said.split_once("expected one of ").unwrap_or_else(|| panic!("{said}"));
    let mut options: Vec<&str> =
        expected.split('`').skip(1).step_by(2).filter(|name| *name != "prompt").collect();
    options.sort_unstable();
    assert_eq!(options, declared()["GenerateOptions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_to_be_undefined_is() {
    let source = "export function handle(self, args, telos) {
        return [telos.find('nobody'), telos.read(telos.receiver, 'nothing'), self.nothing].map((value) => typeof value);
    }";
    let found = run(&with(source).await, Value::Null).await.unwrap();
    assert_eq!(found, json!(["undefined", "undefined", "undefined"]));
}
