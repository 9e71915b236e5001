//! Goal: a process that is killed at any step of making behaviour leaves one ticket with everything that was tried, and
//! the next one goes on with it; no half of a behaviour ever serves.
//! Method: a child sends a message that nobody understands and stops at a failpoint, where it is ended with `kill -9`;
//! then another child at the next step, and last a kernel that answers the message.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use telos_forge::{Policy, TicketState};
use telos_kernel::ProbationTerms;
use telos_store::{Json, ObjectName, Slot, Store, Vote};
use telos_tests::{Sending, TestKernel, copy_tree};

const DIRECTORY: &str = "TELOS_FORGE_CRASH_DIRECTORY";
const FAILPOINT: &str = "TELOS_FORGE_CRASH_FAILPOINT";

const STEPS: [&str; 13] = [
    "forge::opened",
    "forge::specified",
    "forge::written",
    "forge::tried",
    "forge::kept",
    "forge::assembled",
    "kernel::examined",
    "kernel::tried",
    "kernel::bytes-kept",
    "kernel::voted",
    "kernel::published",
    "kernel::decided",
    "forge::swapped-in",
];

const WRONG: &str = "export function handle() { return 'no'; }";
const RIGHT: &str =
    "export function handle(self, args) { return args.reduce((sum, item) => sum + item, 0); }";

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_is_made_however_often_its_host_is_killed() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path()).await;
    for (number, step) in STEPS.into_iter().enumerate() {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(home.path(), copy.path());
        assert!(is_killed(copy.path(), step), "{step}: never came there");
        check(copy.path(), step);
        // It may be past that step by now.
        let _ = is_killed(copy.path(), STEPS[(number + 1) % STEPS.len()]);
        check(copy.path(), step);
        let kernel = TestKernel::over_forging(copy.path(), terms());
        assert_eq!(ask(&kernel).await, json!(6), "{step}");
        let tickets = kernel.workshop().tickets();
        assert_eq!((tickets.len(), tickets[0].state), (1, TicketState::Serving), "{step}");
        assert!(tickets[0].attempts.last().unwrap().passed(), "{step}");
        assert!(kernel.store.verify_open().unwrap().is_clean(), "{step}");
    }
}

/// The child's side; does nothing when it is not one.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let stop = || {
        say("there");
        loop {
            std::thread::park();
        }
    };
    fail::cfg_callback(std::env::var(FAILPOINT).unwrap(), stop).unwrap();
    let kernel = TestKernel::over_forging(Path::new(&directory), terms());
    let answer = ask(&kernel).await;
    say(&format!("done {answer}"));
    std::future::pending::<()>().await;
}

fn terms() -> ProbationTerms {
    ProbationTerms { messages: u64::MAX, ..ProbationTerms::default() }
}

async fn ask(kernel: &TestKernel) -> Value {
    let sending = Sending { within: Some(Duration::from_secs(60)), ..Sending::default() };
    kernel.send_as("list", "sum", json!([1, 2, 3]), sending).await.unwrap().value
}

async fn prepare(home: &Path) {
    let kernel = TestKernel::over_forging(home, terms());
    kernel.install("scripted-architect").await;
    kernel.kernel.new_object("list", &[]).await.unwrap();
    kernel.workshop().set_policy(None, Policy::Auto).unwrap();
    let spec = json!({
        "summary": "Adds numbers up.",
        "arguments": {"type": "array", "items": {"type": "number"}},
        "examples": [{"name": "two", "arguments": [1, 2], "expect": {"value": 3}}],
    });
    let mut unit = kernel.store.begin();
    let id = unit.find(&ObjectName::new("architect").unwrap()).unwrap().unwrap();
    for (slot, value) in [("spec", spec), ("drafts", json!([WRONG, RIGHT]))] {
        unit.set_slot(id, slot, Slot::Value(Json::from_value(&value).unwrap())).unwrap();
    }
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {line}").and_then(|()| out.flush()).unwrap();
}

/// Runs a child that stops at a step, and kills it; false when it answered before.
fn is_killed(home: &Path, step: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["forge_crash::child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, home).env(FAILPOINT, step);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.filter_map(|line| Some(line.split_once("ack ")?.1.to_owned())).next();
    child.kill().unwrap();
    child.wait().unwrap();
    match said.as_deref() {
        Some("there") => true,
        Some("done 6") => false,
        other => panic!("{step}: {other:?}"),
    }
}

fn check(home: &Path, step: &str) {
    let report = Store::verify(&home.join("store")).unwrap();
    assert!(report.is_clean(), "{step}: {:#?}", report.problems);
}
