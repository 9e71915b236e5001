//! Text: streaming, determinism, endings, cancellation, schemas.

use std::time::Instant;

use telos_inference::{Finish, GenerateRequest, LoadPhase, Role, Turn};

use crate::set::{answer, ask, minds, soon, start, user};

#[tokio::test]
async fn an_answer_streams_in_pieces_and_is_about_the_question() {
    let minds = minds();
    let pieces = answer(&minds, ask("What is the capital of France? Answer in one sentence.")).await;
    assert!(pieces.len() > 3, "{pieces:?}");
    assert!(pieces.concat().contains("Paris"), "{pieces:?}");
}

#[tokio::test]
async fn loading_is_reported_up_to_ready_and_only_once() {
    let minds = minds();
    let phases = std::sync::Mutex::new(Vec::new());
    let progress = |progress: telos_inference::LoadProgress| phases.lock().unwrap().push(progress.phase);
    minds.generate(ask("hi"), soon(), progress).await.unwrap();
    assert_eq!(phases.lock().unwrap().last(), Some(&LoadPhase::Ready));
    minds.generate(ask("hi"), soon(), |_| panic!("it is resident")).await.unwrap();
}

#[tokio::test]
async fn equal_seeds_give_equal_text_and_other_seeds_other_text() {
    let minds = minds();
    let with_seed =
        |seed| GenerateRequest { temperature: 1.0, seed, ..ask("Tell me a story about a snail.") };
    let first = answer(&minds, with_seed(7)).await;
    let other = answer(&minds, with_seed(8)).await;
    assert_eq!(first, answer(&minds, with_seed(7)).await);
    assert_ne!(first, other);
}

#[tokio::test]
async fn what_was_asked_before_does_not_change_an_answer() {
    let long = "The snail went on along the wall, and the wall was long and grey. ".repeat(15);
    let request = |end: &str| GenerateRequest { temperature: 0.8, seed: 3, ..ask(&format!("{long} {end}")) };
    let fresh = answer(&minds(), request("What colour was the wall?")).await;
    let warm = minds();
    answer(&warm, request("Who went along the wall?")).await;
    let began = Instant::now();
    assert_eq!(answer(&warm, request("What colour was the wall?")).await, fresh);
    eprintln!("second prompt over a held beginning: {:?}", began.elapsed());
}

#[tokio::test]
async fn max_tokens_and_stop_texts_end_an_answer() {
    let minds = minds();
    let counting = GenerateRequest { max_tokens: 5, ..ask("Count from one to twenty in words.") };
    let mut generation = start(&minds, counting).await.unwrap();
    while generation.next().await.unwrap().is_some() {}
    let usage = generation.usage().unwrap();
    assert_eq!((usage.generated_tokens, usage.finish), (5, Finish::Length));

    let whole = answer(&minds, ask("Name the capital of France.")).await.concat();
    let stop = vec!["Paris".to_owned()];
    let stopped =
        answer(&minds, GenerateRequest { stop, ..ask("Name the capital of France.") }).await.concat();
    assert_eq!(stopped, whole.split("Paris").next().unwrap());
}

#[tokio::test]
async fn dropping_a_generation_lets_the_next_request_run_at_once() {
    let minds = minds();
    answer(&minds, GenerateRequest { max_tokens: 1, ..ask("warm up") }).await;
    let story = GenerateRequest { max_tokens: 2_000, ..ask("Tell me a very long story about a snail.") };
    let mut generation = start(&minds, story).await.unwrap();
    assert!(generation.next().await.unwrap().is_some());
    drop(generation);
    let began = Instant::now();
    answer(&minds, GenerateRequest { max_tokens: 1, ..ask("Hello?") }).await;
    // 2,000 tokens would take far longer than this on any machine of ours.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_schema_shapes_the_answer() {
    let minds = minds();
    let schema = r#"{"type": "object", "required": ["city", "size"], "additionalProperties": false,
        "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"enum": ["small", "large"]}}}"#;
    let request = GenerateRequest { schema: Some(schema.into()), max_tokens: 60, ..ask("Describe Paris.") };
    let mut generation = start(&minds, request).await.unwrap();
    let mut text = String::new();
    while let Some(piece) = generation.next().await.unwrap() {
        text.push_str(&piece);
    }
    assert_eq!(generation.usage().unwrap().finish, Finish::Stop);
    let value: serde_json::Value = serde_json::from_str(&text).expect("the answer is JSON");
    assert!(value["city"].is_string(), "{text}");
    assert!(["small", "large"].contains(&value["size"].as_str().unwrap()), "{text}");
}

#[tokio::test]
async fn earlier_turns_are_remembered_within_a_request() {
    let minds = minds();
    let turns = vec![
        Turn { role: Role::System, text: "You are a helpful assistant.".into() },
        user("My name is Ada."),
        Turn { role: Role::Assistant, text: "Nice to meet you, Ada.".into() },
        user("What is my name?"),
    ];
    let text = answer(&minds, GenerateRequest { turns, ..ask("") }).await.concat();
    assert!(text.contains("Ada"), "{text}");
}

#[tokio::test]
async fn speed_is_printed() {
    let minds = minds();
    let prompt = "The snail went on along the wall, and the wall was long and grey. ".repeat(15);
    let request = GenerateRequest { max_tokens: 50, ..ask(&format!("{prompt} Tell me more.")) };
    answer(&minds, GenerateRequest { max_tokens: 1, ..ask("warm up") }).await;
    let began = Instant::now();
    let mut generation = start(&minds, request).await.unwrap();
    generation.next().await.unwrap();
    let first = began.elapsed();
    while generation.next().await.unwrap().is_some() {}
    let usage = generation.usage().unwrap();
    let rest = (began.elapsed() - first).as_secs_f64();
    let prompt_speed = f64::from(usage.prompt_tokens) / first.as_secs_f64();
    let speed = f64::from(usage.generated_tokens.saturating_sub(1)) / rest;
    eprintln!("{usage:?}: prompt {prompt_speed:.0} tokens/s, answer {speed:.0} tokens/s");
    assert!(usage.generated_tokens > 0);
}
