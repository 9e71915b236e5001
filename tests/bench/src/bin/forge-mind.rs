//! Behaviour by a real mind: ten messages that nobody taught, each to an object of its own, under the policy `auto`.
//!
//! The architect asks the mind for code where it is fetched (`telos model pull qwen2.5-coder-0.5b`), by greedy decoding
//! with fixed seeds. A row for each message: where its ticket ended, in how many attempts and seconds, and whether the
//! answers are right, to the message that missed it and to another one. What is right only this file knows. The last
//! rows count them, with repair and without: an attempt is a repair when one before it failed.
//!
//! ```text
//! serving    its trial was passed, and it answers
//! right      both answers are right
//! traces     what a failure left: releases, plugins, slots of its object; 0 is asserted
//! ```
//! With `--only SELECTOR` there is one message only; with `--show` sources and faults are told on stderr.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use telos_bench::{Better, Row};
use telos_forge::{Policy, Ticket, TicketState};
use telos_inference::{Catalogue, LlamaEngine, Minds, MindsConfig};
use telos_kernel::ProbationTerms;
use telos_service::KernelMinds;
use telos_store::{Json, ObjectName, Slot, Vote};
use telos_tests::{Sending, TestKernel};

/// No release leaves its probation while this runs.
const TERMS: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: u64::MAX, strikes: 3, window: Duration::from_secs(60) };
/// The longest that an attempt of a ticket is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message that nobody taught, and whether what is answered is right.
struct Task {
    selector: &'static str,
    slots: Value,
    /// The message that misses it, and another one.
    messages: [Value; 2],
    is_right: fn(&Value, &Value) -> bool,
}

/// What became of a task.
struct Outcome {
    ticket: Ticket,
    elapsed: Duration,
    right: [bool; 2],
    traces: usize,
}

#[tokio::main]
async fn main() {
    let home = tempfile::tempdir().expect("a directory");
    let kernel = TestKernel::over_forging_with(home.path(), TERMS, Arc::new(KernelMinds(Arc::new(minds()))));
    kernel.install("architect").await;
    kernel.workshop().set_policy(None, Policy::Auto).expect("a policy");
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let mut outcomes = Vec::new();
    for task in tasks() {
        if only.as_deref().is_some_and(|only| only != task.selector) {
            continue;
        }
        let outcome = run(&kernel, &task).await;
        print(&task, &outcome);
        outcomes.push(outcome);
    }
    sum_up(&outcomes);
}

fn minds() -> Minds {
    let models = std::env::var_os("TELOS_MODELS_DIR").expect("TELOS_MODELS_DIR names the models");
    let engine = LlamaEngine::new(None).expect("llama.cpp: build with `--features llama`");
    Minds::open(Path::new(&models), Catalogue::bundled(), Arc::new(engine), MindsConfig::default())
}

async fn run(kernel: &TestKernel, task: &Task) -> Outcome {
    let object = format!("task/{}", task.selector);
    kernel.kernel.new_object(&object, &[]).await.expect("an object");
    give(kernel, &object, &task.slots);
    let before = traces(kernel, &object);
    let start = Instant::now();
    // Whether it is answered at once or only said to be missed: the ticket tells.
    let _ = send(kernel, &object, task, 0).await;
    let ticket = settled(kernel).await;
    let elapsed = start.elapsed();
    let mut right = [false; 2];
    if ticket.state == TicketState::Serving {
        for (place, is_right) in right.iter_mut().enumerate() {
            let answer = send(kernel, &object, task, place).await;
            *is_right = answer.is_some_and(|answer| (task.is_right)(&task.messages[place], &answer));
        }
    }
    let after = traces(kernel, &object);
    let traces = if ticket.state == TicketState::Serving { 0 } else { usize::from(before != after) };
    assert_eq!(traces, 0, "{}: a failure left something: {before} became {after}", task.selector);
    Outcome { ticket, elapsed, right, traces }
}

async fn send(kernel: &TestKernel, object: &str, task: &Task, place: usize) -> Option<Value> {
    let sending = Sending { within: Some(Duration::from_secs(130)), ..Sending::default() };
    let answer = kernel.send_as(object, task.selector, task.messages[place].clone(), sending).await;
    answer.ok().map(|answer| answer.value)
}

/// The newest ticket, once nothing more comes of it, or for as long as somebody waits.
async fn settled(kernel: &TestKernel) -> Ticket {
    let mut start = Instant::now();
    let mut seen = 0;
    loop {
        let ticket =
            kernel.workshop().tickets().into_iter().next().expect("a ticket: does this host have an engine?");
        if ticket.attempts.len() != seen {
            (seen, start) = (ticket.attempts.len(), Instant::now());
        }
        if start.elapsed() > PATIENCE {
            return ticket;
        }
        if ticket.state != TicketState::Proposed && ticket.is_settled() {
            return ticket;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn give(kernel: &TestKernel, object: &str, slots: &Value) {
    let mut unit = kernel.store.begin();
    let id = unit.find(&ObjectName::new(object).expect("a name")).expect("a look").expect("an object");
    for (name, value) in slots.as_object().into_iter().flatten() {
        let value = Json::from_value(value).expect("a small value");
        unit.set_slot(id, name, Slot::Value(value)).expect("a slot");
    }
    kernel.store.decide(unit, Vote::default()).wait().expect("a commit");
}

/// What a failure must not change.
fn traces(kernel: &TestKernel, object: &str) -> String {
    let mut unit = kernel.store.begin();
    let id = unit.find(&ObjectName::new(object).expect("a name")).expect("a look").expect("an object");
    let object = unit.object(id).expect("a look").expect("an object");
    let releases = kernel.store.releases(None).expect("releases").len();
    let plugins = kernel.kernel.plugins().expect("plugins").len();
    format!("{releases} releases, {plugins} plugins, slots {:?}", object.slots)
}

fn print(task: &Task, outcome: &Outcome) {
    let ticket = &outcome.ticket;
    if std::env::args().any(|argument| argument == "--show") {
        show(ticket);
    }
    let more = json!({
        "selector": task.selector,
        "state": ticket.state,
        "attempts": ticket.attempts.len(),
        "right": outcome.right == [true; 2],
        "right_where_missed": outcome.right[0],
        "passed_at_first": ticket.chosen == Some(0),
        "traces": outcome.traces,
        "mind": ticket.attempts.first().map(|attempt| attempt.mind.clone()),
        "cause": ticket.cause,
    });
    row(
        "a message that nobody understands → its ticket is settled, the mind's work and the trials included",
        "s",
        Better::Lower,
        outcome.elapsed.as_secs_f64(),
        None,
        more,
    );
}

#[expect(clippy::print_stderr, reason = "a benchmark that is looked into")]
fn show(ticket: &Ticket) {
    eprintln!("== {} {}", ticket.selector, serde_json::to_string(&ticket.spec).unwrap_or_default());
    for attempt in &ticket.attempts {
        eprintln!("-- {} ms\n{}\n-- faults:\n{}", attempt.elapsed_ms, attempt.source, attempt.faults());
    }
}

fn sum_up(outcomes: &[Outcome]) {
    let count = |is_one: &dyn Fn(&&Outcome) -> bool| outcomes.iter().filter(is_one).count();
    let serves = |outcome: &&Outcome| outcome.ticket.state == TicketState::Serving;
    let at_first = |outcome: &&Outcome| serves(outcome) && outcome.ticket.chosen == Some(0);
    let is_right = |outcome: &&Outcome| outcome.right == [true; 2];
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.elapsed.as_secs_f64()).sum();
    let attempts: usize = outcomes.iter().map(|outcome| outcome.ticket.attempts.len()).sum();
    for (case, ours, peer) in [
        (
            "messages whose behaviour came to serve, with repair against without",
            count(&serves),
            count(&at_first),
        ),
        (
            "messages that are answered right, with repair against without",
            count(&|outcome| serves(outcome) && is_right(outcome)),
            count(&|outcome| at_first(outcome) && is_right(outcome)),
        ),
    ] {
        let more = json!({ "messages": outcomes.len(), "attempts": attempts, "seconds": seconds });
        row(
            case,
            "messages",
            Better::Higher,
            ours as f64,
            Some((peer as f64, "the first attempt alone")),
            more,
        );
    }
}

fn row(
    case: &'static str,
    unit: &'static str,
    better: Better,
    ours: f64,
    peer: Option<(f64, &'static str)>,
    more: Value,
) {
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    Row { bench: "forge-mind", case, unit, better, ours, peer, runs: 1, more }.print();
}

fn tasks() -> Vec<Task> {
    let task = |selector, messages, is_right| Task { selector, slots: json!({}), messages, is_right };
    vec![
        task("sum", [json!([3, 1, 4, 1, 5]), json!([10, -2.5])], |asked, answer| {
            answer.as_f64() == Some(numbers(asked).iter().sum())
        }),
        task("reverse", [json!("hello world"), json!("abc")], |asked, answer| {
            answer.as_str() == Some(&text(asked).chars().rev().collect::<String>())
        }),
        task("count_words", [json!("the quick brown fox jumps"), json!("one two")], |asked, answer| {
            answer.as_f64() == Some(text(asked).split(' ').count() as f64)
        }),
        Task {
            selector: "greet",
            slots: json!({"name": "Ada"}),
            messages: [Value::Null, Value::Null],
            is_right: |_, answer| {
                let greeting = answer.as_str().unwrap_or_default();
                greeting.contains("Ada") && greeting != "Ada"
            },
        },
        task("celsius_to_fahrenheit", [json!(100), json!(-40)], |asked, answer| {
            let expected = asked.as_f64().unwrap_or_default() * 1.8 + 32.0;
            answer.as_f64().is_some_and(|answer| (answer - expected).abs() < 1e-9)
        }),
        task(
            "sort_by_key",
            [
                json!({"items": [{"name": "Bo", "age": 31}, {"name": "Al", "age": 9}, {"name": "Cy", "age": 20}], "key": "age"}),
                json!({"items": [{"name": "Bo", "age": 31}, {"name": "Al", "age": 39}], "key": "name"}),
            ],
            |asked, answer| {
                let key = text(&asked["key"]);
                let mut items = asked["items"].as_array().cloned().unwrap_or_default();
                items.sort_by(|one, other| match (one[key].as_f64(), other[key].as_f64()) {
                    (Some(one), Some(other)) => one.total_cmp(&other),
                    _ => text(&one[key]).cmp(text(&other[key])),
                });
                answer == &Value::Array(items)
            },
        ),
        task("median", [json!([5, 1, 4, 10]), json!([10, 9, 1])], |asked, answer| {
            let mut numbers = numbers(asked);
            numbers.sort_by(f64::total_cmp);
            let half = numbers.len() / 2;
            let expected = if numbers.len().is_multiple_of(2) {
                (numbers[half - 1] + numbers[half]) / 2.0
            } else {
                numbers[half]
            };
            answer.as_f64() == Some(expected)
        }),
        task("title_case", [json!("the quick brown fox"), json!("hello")], |asked, answer| {
            let title = |word: &str| word[..1].to_uppercase() + &word[1..];
            answer.as_str() == Some(&text(asked).split(' ').map(title).collect::<Vec<_>>().join(" "))
        }),
        task("fizzbuzz", [json!(15), json!(5)], |asked, answer| {
            let up_to = asked.as_i64().unwrap_or_default();
            let word = |number: i64| match (number % 3, number % 5) {
                (0, 0) => "FizzBuzz".to_owned(),
                (0, _) => "Fizz".to_owned(),
                (_, 0) => "Buzz".to_owned(),
                _ => number.to_string(),
            };
            let expected: Vec<_> = (1..=up_to).map(word).collect();
            // As a list, or as lines.
            let found: Vec<_> = match answer {
                Value::String(lines) => lines.lines().map(str::to_owned).collect(),
                list => list.as_array().into_iter().flatten().map(spelled).collect(),
            };
            found == expected
        }),
        task(
            "merge",
            [
                json!({"first": {"a": 1, "b": 2}, "second": {"b": 3, "c": 4}}),
                json!({"first": {"x": "y"}, "second": {}}),
            ],
            |asked, answer| {
                let mut merged = asked["first"].as_object().cloned().unwrap_or_default();
                merged.extend(asked["second"].as_object().cloned().unwrap_or_default());
                answer == &Value::Object(merged)
            },
        ),
    ]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// A number as its digits, a text as it is.
fn spelled(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
