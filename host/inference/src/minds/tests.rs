use std::time::Duration;

use super::*;
use crate::scripted::ScriptedEngine;
use crate::{Finish, Role, Turn};

fn minds(engine: &ScriptedEngine) -> Minds {
    minds_with(engine, MindsConfig::default())
}

fn minds_with(engine: &ScriptedEngine, config: MindsConfig) -> Minds {
    Minds::open(Path::new("absent"), Catalogue::bundled(), Arc::new(engine.clone()), config)
}

fn request(text: &str) -> GenerateRequest {
    GenerateRequest::new(vec![Turn { role: Role::User, text: text.into() }])
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn collect(generation: &mut Generation) -> Result<Vec<String>, MindError> {
    let mut pieces = Vec::new();
    while let Some(piece) = generation.next().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

#[tokio::test]
async fn an_answer_streams_and_then_tells_its_cost() {
    let minds = minds(&ScriptedEngine::saying("one two three"));
    let mut generation = minds.generate(request("count to three"), soon(), |_| ()).await.unwrap();
    assert_eq!(generation.usage(), None);
    assert_eq!(collect(&mut generation).await.unwrap(), ["one ", "two ", "three"]);
    let expected = Usage { prompt_tokens: 3, generated_tokens: 3, finish: Finish::Stop };
    assert_eq!(generation.usage(), Some(expected));
    assert_eq!(generation.next().await, Ok(None));
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_and_max_tokens_do_too() {
    let minds = minds(&ScriptedEngine::saying("one two three"));
    let stopping = GenerateRequest { stop: vec!["o t".into()], ..request("x") };
    let mut generation = minds.generate(stopping, soon(), |_| ()).await.unwrap();
    assert_eq!(collect(&mut generation).await.unwrap().concat(), "one tw");
    assert_eq!(generation.usage().unwrap().finish, Finish::Stop);
    let short = GenerateRequest { max_tokens: 2, ..request("x") };
    let mut generation = minds.generate(short, soon(), |_| ()).await.unwrap();
    assert_eq!(collect(&mut generation).await.unwrap().concat(), "one two ");
    assert_eq!(generation.usage().unwrap().finish, Finish::Length);
}

#[tokio::test]
async fn the_first_request_loads_and_reports_it_and_the_second_finds_the_mind_resident() {
    let engine = ScriptedEngine::saying("hi");
    let minds = minds(&engine);
    assert!(minds.list().iter().all(|mind| !mind.is_resident));
    let phases = Mutex::new(Vec::new());
    let first = minds.generate(request("x"), soon(), |progress| phases.lock().push(progress.phase)).await;
    drop(first.unwrap());
    assert_eq!(phases.lock().last(), Some(&LoadPhase::Ready));
    assert!(minds.list()[0].is_resident);
    minds.generate(request("x"), soon(), |_| panic!("it is resident")).await.unwrap();
    assert_eq!(engine.loads(), 1);
}

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_with_the_number_that_fits() {
    let minds = minds(&ScriptedEngine::saying("hi"));
    let long = GenerateRequest { max_tokens: 4_096, ..request("three words here") };
    let refusal = minds.generate(long.clone(), soon(), |_| ()).await.err().unwrap();
    assert!(matches!(refusal, MindError::ContextExceeded { fits: 4_093, prompt_tokens: 3, .. }), "{refusal}");
    assert!(minds.generate(GenerateRequest { max_tokens: 4_093, ..long }, soon(), |_| ()).await.is_ok());
}

#[tokio::test]
async fn dropping_a_generation_frees_the_mind_for_the_next_request() {
    let endless = ScriptedEngine::with_tokens(|_| vec![b"x".to_vec(); 1_000_000]);
    let minds = minds(&endless);
    for _ in 0..3 {
        let mut generation = minds.generate(request("x"), soon(), |_| ()).await.unwrap();
        assert_eq!(generation.next().await.unwrap().as_deref(), Some("x"));
    }
}

#[tokio::test]
async fn a_passed_deadline_ends_waiting_and_generating() {
    let blocked = ScriptedEngine::with_tokens(|_| {
        std::thread::sleep(Duration::from_millis(300));
        vec![b"late".to_vec()]
    });
    let minds = minds(&blocked);
    let deadline = Instant::now() + Duration::from_millis(100);
    let mut generation = minds.generate(request("x"), deadline, |_| ()).await.unwrap();
    assert_eq!(generation.next().await, Err(MindError::Deadline));
    let past = minds.generate(request("x"), Instant::now(), |_| ()).await;
    assert_eq!(past.err(), Some(MindError::Deadline));
}

#[tokio::test]
async fn a_full_mailbox_is_busy() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let engine = ScriptedEngine::with_tokens(move |_| {
        assert!(gate.lock().recv().is_err(), "the gate opens by being dropped");
        vec![]
    });
    let config = MindsConfig { mailbox_entries_max: NonZeroUsize::new(1).unwrap(), ..MindsConfig::default() };
    let minds = minds_with(&engine, config);
    let _running = minds.generate(request("runs"), soon(), |_| ()).await.unwrap();
    let waiting = minds.generate(request("waits"), soon(), |_| ());
    let refused = async {
        let refusal = minds.generate(request("too many"), soon(), |_| ()).await;
        drop(release);
        refusal.err()
    };
    let (waiting, refused) = tokio::join!(waiting, refused);
    assert!(waiting.is_ok());
    assert!(matches!(refused, Some(MindError::Busy { entries: 1, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_panic_in_an_engine_fails_that_request_and_the_next_one_loads_again() {
    let engine = ScriptedEngine::with_text(|request| match request.turns[0].text.as_str() {
        "bad" => panic!("on purpose"),
        _ => "fine".into(),
    });
    let minds = minds(&engine);
    let mut generation = minds.generate(request("bad"), soon(), |_| ()).await.unwrap();
    assert!(matches!(generation.next().await, Err(MindError::Engine { .. })));
    // The thread unwinds a moment after its channel closed.
    let mut answer = minds.generate(request("good"), soon(), |_| ()).await;
    while matches!(answer, Err(MindError::Engine { .. })) {
        answer = minds.generate(request("good"), soon(), |_| ()).await;
    }
    assert_eq!(collect(&mut answer.unwrap()).await.unwrap(), ["fine"]);
    assert_eq!(engine.loads(), 2);
}

#[tokio::test]
async fn a_small_budget_makes_minds_take_turns() {
    let engine = ScriptedEngine::saying("hi");
    let text = Catalogue::bundled().minds()[0].memory_bytes;
    let minds = minds_with(&engine, MindsConfig { memory_bytes_max: text, ..MindsConfig::default() });
    for _ in 0..2 {
        collect(&mut minds.generate(request("x"), soon(), |_| ()).await.unwrap()).await.unwrap();
        minds.embed(None, vec!["x".into()], soon()).await.unwrap();
        let resident: Vec<_> =
            minds.list().into_iter().filter(|mind| mind.is_resident).map(|mind| mind.kind).collect();
        assert_eq!(resident, ["embedding"]);
    }
    assert_eq!(engine.loads(), 4);
}

#[tokio::test]
async fn embeddings_are_of_unit_length_one_per_text() {
    let minds = minds(&ScriptedEngine::saying("hi"));
    let texts = vec!["the blue cat".into(), String::new(), "the blue dog".into()];
    let vectors = minds.embed(None, texts, soon()).await.unwrap();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [384; 3]);
    for vector in vectors {
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[tokio::test]
async fn an_unknown_mind_and_one_of_the_wrong_kind_are_named() {
    let minds = minds(&ScriptedEngine::saying("hi"));
    let named = GenerateRequest { mind: Some("nobody".into()), ..request("x") };
    assert!(matches!(minds.generate(named, soon(), |_| ()).await.err(), Some(MindError::NoSuchMind { .. })));
    let refusal = minds.embed(Some("smollm2-135m"), vec![], soon()).await;
    assert!(matches!(refusal, Err(MindError::WrongKind { .. })));
}
