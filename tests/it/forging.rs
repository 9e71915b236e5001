//! Behaviour that is made for messages which nobody understands, by an architect that has no mind: what it writes, the
//! test gives it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_forge::{Layer, Policy, Ticket, TicketState, WorkshopError};
use telos_kernel::{Failure, ProbationTerms};
use telos_store::{ObjectId, ObjectName};
use telos_tests::{Sending, TestKernel, eventually};

const TERMS: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: u64::MAX, strikes: 3, window: Duration::from_secs(60) };

const SUM: &str = "export function handle(self, args, telos) {
  if (!Array.isArray(args) || !args.every((item) => typeof item === 'number')) telos.badArguments('numbers');
  return args.reduce((sum, item) => sum + item, 0);
}";

/// A home with a scripted architect, and an object `list` that understands nothing.
struct Smithy {
    home: tempfile::TempDir,
    kernel: Option<TestKernel>,
}

impl Smithy {
    async fn with(policy: Policy, drafts: Value) -> Self {
        let home = tempfile::tempdir().unwrap();
        let kernel = TestKernel::over_forging(home.path(), TERMS);
        kernel.install("scripted-architect").await;
        kernel.kernel.new_object("list", &[]).await.unwrap();
        kernel.workshop().set_policy(None, policy).unwrap();
        let smithy = Self { home, kernel: Some(kernel) };
        smithy.give("spec", &sum_spec());
        smithy.give("drafts", &drafts);
        smithy
    }

    fn kernel(&self) -> &TestKernel {
        self.kernel.as_ref().unwrap()
    }

    /// Gives the architect something.
    fn give(&self, slot: &str, value: &Value) {
        let store = &self.kernel().store;
        let mut unit = store.begin();
        let id = unit.find(&ObjectName::new("architect").unwrap()).unwrap().unwrap();
        let value = telos_store::Json::from_value(value).unwrap();
        unit.set_slot(id, slot, telos_store::Slot::Value(value)).unwrap();
        store.decide(unit, telos_store::Vote::default()).wait().unwrap();
    }

    async fn sum(&self, arguments: Value) -> Result<Value, Failure> {
        let sending = Sending { within: Some(Duration::from_secs(30)), ..Sending::default() };
        Ok(self.kernel().send_as("list", "sum", arguments, sending).await?.value)
    }

    fn ticket(&self, number: u64) -> Ticket {
        self.kernel().workshop().ticket(number).unwrap()
    }

    async fn settled(&self, number: u64) -> Ticket {
        eventually("the ticket is settled", || self.ticket(number).is_settled()).await;
        self.ticket(number)
    }

    fn restart(&mut self) {
        drop(self.kernel.take());
        self.kernel = Some(TestKernel::over_forging(self.home.path(), TERMS));
    }

    fn list(&self) -> ObjectId {
        self.kernel().store.begin().find(&ObjectName::new("list").unwrap()).unwrap().unwrap()
    }

    fn decisions(&self, kind: &str) -> usize {
        let rows = self.kernel().store.audit_after(0, 10_000).unwrap();
        rows.iter().filter(|row| row.kind == kind).count()
    }
}

fn sum_spec() -> Value {
    json!({
        "summary": "Adds numbers up.",
        "read_only": true,
        "arguments": {"type": "array", "items": {"type": "number"}},
        "returns": {"type": "number"},
        "examples": [
            {"name": "three", "arguments": [1, 2, 3], "expect": {"value": 6}},
            {"name": "none", "arguments": [], "expect": {"value": 0}},
            {"name": "a word", "arguments": ["x"], "expect": "refusal"},
        ],
    })
}

fn failed(ticket: &Ticket, attempt: usize) -> String {
    ticket.attempts[attempt].faults()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_understood_is_answered_by_what_was_made_for_it() {
    let mut smithy = Smithy::with(Policy::Auto, json!([SUM])).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    assert_eq!(smithy.sum(json!([4])).await.unwrap(), 4, "and from then on at once");
    let ticket = smithy.ticket(1);
    assert_eq!((ticket.state, ticket.approved_by.as_deref()), (TicketState::Serving, Some("auto")));
    assert!(ticket.attempts[0].passed());
    let rows = smithy.kernel().store.audit_after(0, 10_000).unwrap();
    let installed = rows.iter().find(|row| row.kind == "plugin.installed" && row.subject == ticket.component);
    assert!(installed.is_some(), "an ordinary release");
    smithy.restart();
    assert_eq!(smithy.sum(json!([1, 1])).await.unwrap(), 2);
    assert_eq!(smithy.ticket(1).attempts.len(), 1, "the record is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_understand_it_too() {
    let smithy = Smithy::with(Policy::Auto, json!([SUM])).await;
    smithy.sum(json!([1])).await.unwrap();
    let clone = smithy.kernel().send("list", "clone", Value::Null).await.unwrap();
    let clone = clone.as_str().unwrap().to_owned();
    assert_eq!(smithy.kernel().send(&clone, "sum", json!([7])).await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn syntax_errors_and_wrong_answers_are_repaired_with_the_exact_error() {
    let drafts = json!([
        "export function handle(self, args) { return args.reduce((a, b) => a + ; }",
        "export function handle(self, args, telos) { if (!Array.isArray(args)) telos.refuse('no'); return args.length; }",
        SUM,
    ]);
    let smithy = Smithy::with(Policy::Auto, drafts).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    let ticket = smithy.ticket(1);
    assert!(failed(&ticket, 0).starts_with("it starts: SyntaxError: "), "{}", failed(&ticket, 0));
    assert!(failed(&ticket, 0).contains("behaviour.js:1:"), "{}", failed(&ticket, 0));
    let wrong = failed(&ticket, 1);
    assert!(wrong.contains("example `three`: for [1,2,3] it answered 3 instead of 6"), "{wrong}");
    assert_eq!((ticket.attempts.len(), ticket.chosen), (3, Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn hopeless_source_leaves_nothing_behind_and_the_sender_is_told() {
    let smithy = Smithy::with(Policy::Auto, json!(["export function handle() { return 'no'; }"])).await;
    let missed = smithy.sum(json!([1])).await.unwrap_err();
    assert!(matches!(missed, Failure::NotUnderstood { ticket: Some(1), .. }), "{missed}");
    assert!(missed.next_step().unwrap().contains("telos forge show 1"));
    let ticket = smithy.ticket(1);
    assert_eq!((ticket.state, ticket.attempts.len()), (TicketState::Failed, 4));
    assert!(ticket.cause.contains("none of 4 attempts passed"), "{}", ticket.cause);
    assert_eq!(smithy.kernel().kernel.plugins().unwrap().len(), 1, "the architect alone");
    assert!(smithy.kernel().store.releases(None).unwrap().len() == 1);
    let again = smithy.sum(json!([1])).await.unwrap_err();
    assert!(matches!(again, Failure::NotUnderstood { ticket: Some(1), .. }), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_too_far_in_its_trial_fails_and_harms_nobody() {
    let smithy = Smithy::with(Policy::Off, Value::Null).await;
    let spec = serde_json::from_value(sum_spec()).unwrap();
    let workshop = smithy.kernel().workshop();
    for (source, said) in [
        ("export function handle() { for (;;) {} }", "interrupted"),
        (
            "export function handle() { const a = []; for (;;) a.push(new Array(10000).fill(7)); }",
            "out of memory",
        ),
        ("export function handle() { const f = () => 1 + f(); return f(); }", "call stack"),
        ("export function handle() { return 'x'.repeat(10_000_000); }", ""),
        ("export function handle() { return undefined_thing; }", "is not defined"),
        ("export function handle() { return fetch('http://127.0.0.1'); }", "fetch is not defined"),
        (
            "export function handle(self, args, telos) { return telos.send('list', 'sum', args); }",
            "was not made to use messaging",
        ),
        (
            "export function handle(self, args) { self.examples = []; return args.reduce((a, b) => a + b, 0); }",
            "a read-only selector wrote it",
        ),
        (
            "export function handle(self, args) { return args.reduce((a, b) => a + b, 0); }",
            "instead of refusing",
        ),
        ("let calls = 0; export function handle(self, args) { return Math.random(); }", "instead of"),
    ] {
        let tried = workshop.try_source(source, Vec::new(), &spec, "sum").await.unwrap();
        assert!(!tried.passed(), "{source}: {:?}", tried.checks);
        assert!(tried.faults().contains(said), "{source}: {}", tried.faults());
    }
    assert_eq!(smithy.kernel().send("architect", "spec", Value::Null).await.unwrap()["read_only"], true);
    assert_eq!(smithy.kernel().kernel.plugins().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_serves_when_somebody_approves_it() {
    let smithy = Smithy::with(Policy::Propose, json!([SUM])).await;
    let missed = smithy.sum(json!([1])).await.unwrap_err();
    assert!(matches!(missed, Failure::NotUnderstood { ticket: Some(1), .. }), "told at once: {missed}");
    let ticket = smithy.settled(1).await;
    assert_eq!(ticket.state, TicketState::Proposed);
    assert!(smithy.sum(json!([1])).await.is_err(), "nobody has said so yet");
    let swapped = smithy.kernel().workshop().approve(1, None).await.unwrap();
    assert_eq!((swapped.state.as_ref(), swapped.version.as_str()), ("serving", "1.0.0"));
    assert_eq!(smithy.sum(json!([1, 2])).await.unwrap(), 3);
    assert_eq!(smithy.ticket(1).approved_by.as_deref(), Some("operator"));
    let twice = smithy.kernel().workshop().approve(1, None).await.unwrap_err();
    assert!(matches!(twice, WorkshopError::Unfit { .. }), "{twice}");
    assert!(matches!(smithy.kernel().workshop().approve(9, None).await, Err(WorkshopError::NoSuchTicket(9))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_stays_so_until_somebody_opens_it_again() {
    let mut smithy = Smithy::with(Policy::Propose, json!([SUM])).await;
    smithy.sum(json!([1])).await.unwrap_err();
    smithy.settled(1).await;
    let rejected = smithy.kernel().workshop().reject(1, "not today").unwrap();
    assert_eq!(rejected.cause, "declined: not today");
    smithy.restart();
    smithy.sum(json!([1])).await.unwrap_err();
    assert_eq!(smithy.ticket(1).state, TicketState::Rejected);
    smithy.kernel().workshop().reopen(1).unwrap();
    assert_eq!(smithy.settled(1).await.state, TicketState::Proposed);
}

#[tokio::test(flavor = "multi_thread")]
async fn off_means_off_and_an_objects_own_word_counts_first() {
    let smithy = Smithy::with(Policy::Off, json!([SUM])).await;
    let missed = smithy.sum(json!([1])).await.unwrap_err();
    assert!(matches!(missed, Failure::NotUnderstood { ticket: None, .. }), "{missed}");
    assert!(smithy.kernel().workshop().tickets().is_empty());
    smithy.kernel().workshop().set_policy(Some(smithy.list()), Policy::Auto).unwrap();
    assert_eq!(smithy.sum(json!([1])).await.unwrap(), 1);
    let architect = smithy.kernel().send("architect", "dance", Value::Null).await.unwrap_err();
    assert!(matches!(architect, Failure::NotUnderstood { ticket: None, .. }), "{architect}");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_send_it_it_is_made_once() {
    let smithy = Arc::new(Smithy::with(Policy::Auto, json!([SUM])).await);
    let senders: Vec<_> = (0..16_u64)
        .map(|number| {
            let smithy = Arc::clone(&smithy);
            tokio::spawn(async move { smithy.sum(json!([number, 1])).await.unwrap() == number + 1 })
        })
        .collect();
    for sender in senders {
        assert!(sender.await.unwrap());
    }
    assert_eq!((smithy.kernel().workshop().tickets().len(), smithy.decisions("forge.opened")), (1, 1));
    assert_eq!(smithy.ticket(1).attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_within_another_ends_the_whole_root_which_begins_again() {
    let smithy = Smithy::with(Policy::Auto, json!([SUM])).await;
    let kernel = smithy.kernel();
    kernel.install("relay").await;
    let forward = json!({"to": "list", "selector": "sum", "arguments": [20, 3]});
    let sending = Sending { within: Some(Duration::from_secs(30)), ..Sending::default() };
    let answer = kernel.send_as("relay", "forward", forward, sending).await.unwrap();
    assert_eq!(answer.value, 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_its_trial_and_fails_its_probation_goes_back_to_its_writer() {
    // Right for everything that it is tried with.
    let fragile = SUM.replace("return args.reduce", "if (args[0] > 1000) null.x; return args.reduce");
    let smithy = Smithy::with(Policy::Auto, json!([fragile, SUM])).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    for number in 0..3 {
        assert!(smithy.sum(json!([2000, number])).await.is_err());
    }
    eventually("the next attempt serves", || {
        let ticket = smithy.ticket(1);
        ticket.state == TicketState::Serving && ticket.chosen == Some(1)
    })
    .await;
    assert_eq!(smithy.sum(json!([2000, 1])).await.unwrap(), 2001);
    let ticket = smithy.ticket(1);
    assert!(failed(&ticket, 0).contains("its probation: 3 distinct messages"), "{}", failed(&ticket, 0));
    assert!(failed(&ticket, 0).contains("TypeError"), "the writer is told how: {}", failed(&ticket, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_and_was_not_mended_is_not_understood_any_more() {
    let fragile = SUM.replace("return args.reduce", "if (args[0] > 1000) null.x; return args.reduce");
    let hopeless = "export function handle() { return 'no'; }";
    let smithy = Smithy::with(Policy::Auto, json!([fragile, hopeless])).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    let slots = || smithy.kernel().kernel.object("list").unwrap()["slots"].as_array().unwrap().len();
    assert_eq!(slots(), 1);
    for number in 0..3 {
        assert!(smithy.sum(json!([2000, number])).await.is_err());
    }
    eventually("every repair failed", || smithy.ticket(1).state == TicketState::Failed).await;
    let missed = smithy.sum(json!([2, 3])).await.unwrap_err();
    assert!(matches!(missed, Failure::NotUnderstood { ticket: Some(1), .. }), "{missed}");
    assert_eq!(slots(), 0, "nothing is left behind");
    assert!(smithy.kernel().store.verify_open().unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forged_is_counted_while_it_is_tried_and_while_it_serves() {
    let endless = SUM.replace("return args.reduce", "if (args[0] > 1000) for (;;); return args.reduce");
    let smithy = Smithy::with(Policy::Auto, json!([endless])).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    let ticket = smithy.ticket(1);
    let counted: Vec<u64> = ticket.attempts[0].checks.iter().filter_map(|check| check.fuel).collect();
    assert_eq!(counted.len(), 4, "three examples, and the message that missed it");
    assert!(counted.iter().all(|fuel| (1_000..100_000_000).contains(fuel)), "{counted:?}");
    let broken = smithy.sum(json!([2000])).await.unwrap_err();
    assert!(matches!(broken, Failure::Broken { .. }), "{broken}");
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_proposed_for_retirement_and_retired_by_a_word() {
    fail::cfg("forge::unused-time", "return").unwrap();
    let mut smithy = Smithy::with(Policy::Auto, json!([SUM])).await;
    assert_eq!(smithy.sum(json!([2, 3])).await.unwrap(), 5);
    eventually("its retirement is proposed", || smithy.ticket(1).retirement_proposed).await;
    assert!(smithy.ticket(1).cause.contains("telos forge retire 1"), "{}", smithy.ticket(1).cause);
    assert_eq!(smithy.sum(json!([4])).await.unwrap(), 4, "it serves until somebody says so");
    assert_eq!(smithy.decisions("forge.retirement-proposed"), 1);
    let component = smithy.ticket(1).component;
    let retired = smithy.kernel().workshop().retire(1).await.unwrap();
    assert_eq!(retired.state, TicketState::Retired);
    let seated = |smithy: &Smithy| {
        smithy.kernel().store.seats().unwrap().iter().any(|seat| seat.component.as_str() == component)
    };
    assert!(!seated(&smithy));
    let missed = smithy.sum(json!([1])).await.unwrap_err();
    assert!(matches!(missed, Failure::NotUnderstood { ticket: Some(1), .. }), "{missed}");
    smithy.restart();
    assert_eq!((smithy.ticket(1).state, seated(&smithy)), (TicketState::Retired, false));
    smithy.give("drafts", &json!([SUM]));
    smithy.kernel().workshop().reopen(1).unwrap();
    eventually("it serves again", || smithy.ticket(1).state == TicketState::Serving).await;
    assert_eq!(smithy.sum(json!([4, 5])).await.unwrap(), 9);
    let twice = smithy.kernel().workshop().retire(9).await.unwrap_err();
    assert!(matches!(twice, WorkshopError::NoSuchTicket(9)), "{twice}");
    fail::remove("forge::unused-time");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_architect_a_ticket_fails_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let kernel = TestKernel::over_forging(home.path(), TERMS);
    kernel.kernel.new_object("list", &[]).await.unwrap();
    kernel.send("list", "sum", Value::Null).await.unwrap_err();
    eventually("the ticket failed", || kernel.workshop().ticket(1).unwrap().is_settled()).await;
    let ticket = kernel.workshop().ticket(1).unwrap();
    assert!(
        ticket.cause.contains("the architect did not answer: no object is called `architect`"),
        "{}",
        ticket.cause
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_tried_by_hand_and_nothing_is_kept() {
    let smithy = Smithy::with(Policy::Off, Value::Null).await;
    let spec = serde_json::from_value(sum_spec()).unwrap();
    let tried = smithy.kernel().workshop().try_source(SUM, Vec::new(), &spec, "sum").await.unwrap();
    assert!(tried.passed(), "{:?}", tried.checks);
    let wrong =
        smithy.kernel().workshop().try_source("export const handle = 1;", Vec::new(), &spec, "sum").await;
    assert!(wrong.unwrap().faults().contains("it exports handle"));
    assert!(smithy.kernel().workshop().tickets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_more_is_tried_here_where_there_is_no_process_for_it_and_says_so() {
    let smithy = Smithy::with(Policy::Off, json!([])).await;
    let spec = serde_json::from_value(sum_spec()).unwrap();
    let workshop = smithy.kernel().workshop();
    let plain = workshop.try_source(SUM, Vec::new(), &spec, "sum").await.unwrap();
    assert_eq!((plain.passed(), plain.layer), (true, Some(Layer::Restricted)));
    let asking = workshop.try_source(SUM, vec!["messaging".into()], &spec, "sum").await.unwrap();
    assert_eq!((asking.passed(), asking.layer), (true, Some(Layer::Shared)));
}
