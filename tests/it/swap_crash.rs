//! Goal: a process that is killed at any named step of changing who serves leaves the old release in the seat or the new
//! one, never neither and never half of a set, with the state that it knows and every answered message; also when the
//! next process is killed as well.
//! Method: a child changes seats under load and stops at a failpoint, where the parent ends it with `kill -9`. Who
//! serves, read by a kernel over what is left, must be what was before or what comes after, and what the load counted
//! must be what was answered, or one message more. Then another child is killed in the same home, and a last one is not.

mod scenario;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use telos_store::Store;
use telos_tests::{TestKernel, copy_tree};

use scenario::{Scenario, picture};

const DIRECTORY: &str = "TELOS_SWAP_CRASH_DIRECTORY";
const SCENARIO: &str = "TELOS_SWAP_CRASH_SCENARIO";
const FAILPOINT: &str = "TELOS_SWAP_CRASH_FAILPOINT";

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It came to the failpoint, and was killed there.
    Killed,
    /// It did all that it was to do.
    Done,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_installs() {
    prove(Scenario::Install).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_swaps() {
    prove(Scenario::Swap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_stages() {
    prove(Scenario::Stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_evolves() {
    prove(Scenario::Evolve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_applies_a_set() {
    prove(Scenario::Set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_removes() {
    prove(Scenario::Remove).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_seat_returns() {
    prove(Scenario::Return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_seat_returns_and_its_state_with_it() {
    prove(Scenario::ReturnWithState).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_an_operator_goes_back_and_the_state_with_him() {
    prove(Scenario::GoBack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_start_raises_state() {
    prove(Scenario::RaiseAtStart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_seat_is_parked_because_its_state_does_not_go_back() {
    prove(Scenario::ParkWithState).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_seat_is_parked() {
    prove(Scenario::Park).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_release_becomes_permanent() {
    prove(Scenario::Permanent).await;
}

/// The child's side; does nothing when it is not one.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let scenario = Scenario::named(&std::env::var(SCENARIO).unwrap());
    let arm = || std::env::var(FAILPOINT).is_ok_and(|failpoint| stop_at(&failpoint));
    // A start raises state before there is a load, and the load itself makes a release permanent; elsewhere it is under
    // way before anything is changed.
    let is_armed_first = matches!(scenario, Scenario::Permanent | Scenario::RaiseAtStart);
    let is_armed = is_armed_first && arm();
    let kernel = Arc::new(scenario.start(Path::new(&directory)).await);
    for object in scenario::load(Path::new(&directory)) {
        tokio::spawn(count_for_ever(Arc::clone(&kernel), object));
    }
    if !is_armed {
        tokio::time::sleep(Duration::from_millis(20)).await;
        arm();
    }
    scenario.act(&kernel).await;
    say("done");
    // Whoever reads this ends the process.
    std::future::pending::<()>().await;
}

async fn count_for_ever(kernel: Arc<TestKernel>, object: String) {
    loop {
        // While nobody serves, and for a message that is refused, nothing was counted.
        if let Ok(count) = kernel.send(&object, "increment", Value::Null).await {
            say(&format!("counted {object} {count}"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {line}").and_then(|()| out.flush()).unwrap();
}

/// Stops the thread that passes a failpoint for the so manieth time, for ever.
fn stop_at(failpoint: &str) -> bool {
    let (name, pass) = failpoint.split_once(' ').unwrap();
    let left = AtomicU64::new(pass.parse().unwrap());
    let stop = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            say("there");
            loop {
                std::thread::park();
            }
        }
    };
    fail::cfg_callback(name, stop).is_ok()
}

async fn prove(scenario: Scenario) {
    let home = tempfile::tempdir().unwrap();
    scenario.prepare(home.path()).await;
    let before = picture(home.path()).await;
    let after = {
        let done = copy(home.path());
        assert_eq!(run(scenario, done.path(), None).1, End::Done);
        picture(done.path()).await
    };
    assert_ne!(before, after);
    let steps = scenario.steps();
    for (number, failpoint) in steps.iter().enumerate() {
        for pass in passes() {
            let (copy, mut counts) = (copy(home.path()), BTreeMap::new());
            let next = steps[(number + 1) % steps.len()];
            let mut is_after = false;
            for (round, failpoint) in
                [Some((*failpoint, pass)), Some((next, 1)), None].into_iter().enumerate()
            {
                let what = format!("{scenario:?}, round {round}, {failpoint:?}");
                let (heard, end) = run(scenario, copy.path(), failpoint);
                // What is still to be done goes by every step.
                let comes_there = round == 0 || (round == 1 && !is_after);
                assert!(!comes_there || pass > 1 || end == End::Killed, "{what}: never came there");
                counts.extend(heard);
                let found = check(copy.path(), &mut counts, &what).await;
                // What was decided stays so, and what was not killed was decided.
                let may_be_before = !is_after && failpoint.is_some();
                is_after = found == after;
                assert!(
                    is_after || (may_be_before && found == before),
                    "{what}: {found:#}\nbefore {before:#}\nafter {after:#}"
                );
            }
        }
    }
}

/// Which passes of a failpoint are died at; the load passes those of every commit as well.
fn passes() -> impl Iterator<Item = u64> {
    1..=if std::env::var_os("TELOS_LONG").is_some() { 12 } else { 1 }
}

/// Runs a child; answers what it acknowledged last of each object, and how it ended.
fn run(scenario: Scenario, home: &Path, failpoint: Option<(&str, u64)>) -> (BTreeMap<String, u64>, End) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["swap_crash::child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, home).env(SCENARIO, format!("{scenario:?}"));
    if let Some((name, pass)) = failpoint {
        command.env(FAILPOINT, format!("{name} {pass}"));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    listen(&mut child)
}

fn listen(child: &mut Child) -> (BTreeMap<String, u64>, End) {
    let (mut counts, mut end) = (BTreeMap::new(), None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some((_, said)) = line.split_once("ack ") else { continue };
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["counted", object, count] => drop(counts.insert(object.to_owned(), count.parse().unwrap())),
            ["there"] => end = Some(End::Killed),
            ["done"] => end = Some(End::Done),
            _ => {}
        }
        if end.is_some() {
            // `kill -9`; what it said until then is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (counts, end.expect("the child came to its end"))
}

/// Verifies what is left, and answers who serves. What the load counted becomes what is known of it.
async fn check(home: &Path, counts: &mut BTreeMap<String, u64>, what: &str) -> Value {
    let report = Store::verify(&home.join("store")).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    let kernel = TestKernel::over_on_terms(home, scenario::LONG);
    assert!(kernel.store.verify_open().unwrap().is_clean(), "{what}");
    for object in scenario::load(home) {
        let found = scenario::counted(&kernel, &object).await;
        let known = counts.get(&object).copied().unwrap_or(scenario::FIRST);
        assert!((known..=known + 1).contains(&found), "{what}: {object} has {found}, {known} was answered");
        counts.insert(object, found);
    }
    drop(kernel);
    picture(home).await
}

fn copy(home: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(home, copy.path());
    copy
}
