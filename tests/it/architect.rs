//! The architect with minds that follow a script: what it asks, and what the host makes of what it writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use telos_forge::{Policy, TicketState};
use telos_kernel::ProbationTerms;
use telos_kernel::seams::{GenerateRequest, LoadProgress, MindError, MindInfo, Minds, TokenSource, Usage};
use telos_tests::{Sending, TestKernel, eventually};

const TERMS: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: u64::MAX, strikes: 3, window: Duration::from_secs(60) };

/// Says what is next of its modules where no schema is asked for, the last again and again; one answer to everything else.
struct Coder {
    modules: Mutex<Vec<&'static str>>,
    answer: Value,
    asked: Mutex<Vec<GenerateRequest>>,
}

impl Coder {
    fn next_module(&self) -> &'static str {
        let mut modules = self.modules.lock();
        if modules.len() > 1 { modules.remove(0) } else { modules[0] }
    }
}

struct Whole(Option<String>);

#[async_trait]
impl TokenSource for Whole {
    async fn next(&mut self) -> Result<Option<String>, MindError> {
        Ok(self.0.take())
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage { prompt_tokens: 1, generated_tokens: 1, is_cut: false })
    }
}

#[async_trait]
impl Minds for Coder {
    fn list(&self) -> Vec<MindInfo> {
        let mind = |name: &str, is_default| MindInfo {
            name: name.to_owned(),
            is_embedding: false,
            context: 4_096,
            dimension: 0,
            is_default,
            is_fetched: true,
        };
        vec![mind("qwen2.5-coder-0.5b", false), mind("smollm2-135m", true)]
    }

    async fn generate(
        &self,
        request: GenerateRequest,
        _deadline: Instant,
        _progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        let text = match &request.schema {
            Some(schema) if schema["properties"]["summary"].is_object() => {
                json!({"summary": "Adds the numbers up."}).to_string()
            }
            Some(_) => json!({ "answer": self.answer }).to_string(),
            None => format!("```js\n{}\n```", self.next_module()),
        };
        self.asked.lock().push(request);
        Ok(Box::new(Whole(Some(text))))
    }

    async fn embed(
        &self,
        _mind: Option<String>,
        _texts: Vec<String>,
        _deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        Err(MindError::NoSuchMind("none".into()))
    }
}

async fn smithy(answer: Value, modules: &[&'static str]) -> (tempfile::TempDir, TestKernel, Arc<Coder>) {
    let home = tempfile::tempdir().unwrap();
    let coder = Arc::new(Coder { modules: Mutex::new(modules.to_vec()), answer, asked: Mutex::default() });
    let kernel = TestKernel::over_forging_with(home.path(), TERMS, Arc::clone(&coder) as Arc<dyn Minds>);
    kernel.install("architect").await;
    kernel.workshop().set_policy(None, Policy::Auto).unwrap();
    kernel.kernel.new_object("list", &[]).await.unwrap();
    (home, kernel, coder)
}

async fn total(kernel: &TestKernel, arguments: Value) -> Result<Value, telos_kernel::Failure> {
    let sending = Sending { within: Some(Duration::from_secs(30)), ..Sending::default() };
    Ok(kernel.send_as("list", "total", arguments, sending).await?.value)
}

const NAIVE: &str = "export function handle(self, args) {
  let total = 0;
  for (const number of args.numbers) total += number;
  return total;
}";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mind_says_twice_is_held_against_right_code_too() {
    let (_home, kernel, coder) = smithy(json!("five"), &[NAIVE]).await;
    assert!(total(&kernel, json!({"numbers": [2, 3]})).await.is_err());
    eventually("the ticket is settled", || kernel.workshop().ticket(1).unwrap().is_settled()).await;
    let ticket = kernel.workshop().ticket(1).unwrap();
    let faults = ticket.attempts[0].faults();
    assert!(faults.contains("it answered 5 instead of \"five\""), "{faults}");
    let warm = coder.asked.lock().iter().filter(|request| request.temperature > 0.0).count();
    assert_eq!(warm, 3, "each repair changed nothing, and was asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wrong_is_told_to_the_mind_and_repaired() {
    let (_home, kernel, coder) =
        smithy(json!(5), &["export function handle(self, args) { return args.; }", NAIVE]).await;
    assert_eq!(total(&kernel, json!({"numbers": [2, 3]})).await.unwrap(), 5);
    assert_eq!(total(&kernel, json!({"numbers": [1]})).await.unwrap(), 1);
    for wrong in [json!({}), json!({"numbers": ["a"]}), json!(null)] {
        let refused = total(&kernel, wrong).await.unwrap_err().to_string();
        assert!(refused.contains("wanted are arguments like"), "{refused}");
    }
    let ticket = kernel.workshop().ticket(1).unwrap();
    assert_eq!((ticket.attempts.len(), ticket.chosen), (2, Some(1)));
    assert_eq!(ticket.attempts[1].mind, "qwen2.5-coder-0.5b");
    let asked = coder.asked.lock();
    let repair = asked.iter().rfind(|request| request.schema.is_none()).unwrap();
    let said = &repair.turns.last().unwrap().1;
    assert!(said.contains("it starts: SyntaxError") && said.contains("behaviour.js:1:"), "{said}");
    assert_eq!((repair.seed, repair.mind.as_deref()), (2, Some("qwen2.5-coder-0.5b")));
    let is_schema = |request: &&GenerateRequest| request.schema.is_some();
    assert_eq!(asked.iter().filter(is_schema).count(), 5, "a purpose, and two ways for each of two examples");
}

#[tokio::test(flavor = "multi_thread")]
async fn hopeless_minds_leave_nothing_behind() {
    let modules = ["nonsense", "more nonsense", "else {", "import x from 'y';"];
    let (_home, kernel, _) = smithy(json!(5), &modules).await;
    assert!(total(&kernel, json!({"numbers": [2, 3]})).await.is_err());
    eventually("the ticket is settled", || kernel.workshop().ticket(1).unwrap().is_settled()).await;
    assert_eq!(kernel.workshop().ticket(1).unwrap().state, TicketState::Failed);
    assert_eq!(kernel.store.releases(None).unwrap().len(), 1, "the architect's alone");
}
