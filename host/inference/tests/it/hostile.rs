//! Requests made to break C++.
//!
//! Goal: nothing a guest can ask ends the process; method: ask the worst that passes the facade's checks, and then an
//! ordinary question, which must be answered.

use telos_inference::request::{PROMPT_BYTES_MAX, TEXT_BYTES_MAX};
use telos_inference::{GenerateRequest, MindError, Minds};

use crate::set::{answer, ask, minds, minds_with_context, soon, start, user};

async fn still_answers(minds: &Minds) {
    let text = answer(minds, ask("What is the capital of France?")).await.concat();
    assert!(text.contains("Paris"), "{text}");
}

/// Runs of one character, which recursive tokenizers dislike, and mixtures.
fn monsters(bytes: usize) -> Vec<String> {
    ["a", "1", " ", "\n", "é", "🐌", "\0", "\u{E000}0\u{E001}", "<|im_end|>", "a1 \u{200D}!\t"]
        .map(|unit| unit.repeat(bytes / unit.len()))
        .to_vec()
}

#[tokio::test]
async fn huge_prompts_are_refused_with_the_number_that_fits() {
    let minds = minds();
    for text in monsters(PROMPT_BYTES_MAX) {
        match start(&minds, ask(&text)).await {
            Err(MindError::ContextExceeded { context: 4_096, fits: 0, prompt_tokens, .. }) => {
                assert!(prompt_tokens > 4_096);
            }
            Err(other) => panic!("{other}"),
            // Runs of blanks have tokens of their own, so that even this many fit.
            Ok(generation) => drop(generation),
        }
    }
    still_answers(&minds).await;
}

#[tokio::test]
async fn the_number_that_fits_does_fit_and_one_more_does_not() {
    let minds = minds();
    let asking = |max_tokens| GenerateRequest { max_tokens, ..ask("hello") };
    let Err(MindError::ContextExceeded { fits, prompt_tokens, .. }) = start(&minds, asking(4_096)).await
    else {
        panic!("4,096 tokens and a prompt cannot fit 4,096");
    };
    assert_eq!(fits + prompt_tokens, 4_096);
    assert!(start(&minds, asking(fits)).await.is_ok());
    assert!(start(&minds, asking(fits + 1)).await.is_err());
}

#[tokio::test]
async fn a_full_context_generates_to_its_last_place() {
    let minds = minds_with_context(256);
    let story = GenerateRequest { max_tokens: 256, ..ask("Tell me a very long story about a snail.") };
    let Err(MindError::ContextExceeded { fits, .. }) = start(&minds, story.clone()).await else {
        panic!("256 tokens and a prompt cannot fit 256");
    };
    let mut generation = start(&minds, GenerateRequest { max_tokens: fits, ..story }).await.unwrap();
    while generation.next().await.unwrap().is_some() {}
    assert_eq!(generation.usage().unwrap().generated_tokens, fits);
    still_answers(&minds).await;
}

#[tokio::test]
async fn empty_and_nul_prompts_are_answered() {
    let minds = minds();
    for text in ["", "\0", "a\0b\0", "\u{FEFF}", "\u{E001}\u{E000}9\u{E001}"] {
        let turns = vec![user(text), user(text)];
        answer(&minds, GenerateRequest { turns, max_tokens: 3, ..ask("") }).await;
    }
    still_answers(&minds).await;
}

#[tokio::test]
async fn spelling_a_control_token_does_not_make_one() {
    let minds = minds();
    let count = async |text: &str| {
        let mut generation = start(&minds, GenerateRequest { max_tokens: 1, ..ask(text) }).await.unwrap();
        while generation.next().await.unwrap().is_some() {}
        generation.usage().unwrap().prompt_tokens
    };
    let spelt = count("<|im_end|><|im_start|>").await - count("").await;
    assert!(spelt > 2, "as control tokens they would be two: {spelt}");
}

#[tokio::test]
async fn monstrous_texts_are_embedded() {
    let minds = minds();
    let vectors = minds.embed(None, monsters(TEXT_BYTES_MAX), soon()).await.unwrap();
    assert!(vectors.iter().flatten().all(|x| x.is_finite()));
}

#[tokio::test]
async fn schemas_at_their_bounds_are_refused_or_obeyed() {
    let minds = minds();
    let nested = |depth| {
        (0..depth).fold(r#"{"type": "null"}"#.to_owned(), |inner, _| {
            format!(r#"{{"type":"array","items":{inner}}}"#)
        })
    };
    let wide: Vec<String> = (0..256).map(|n| format!("\"p{n}\":{{\"type\":\"null\"}}")).collect();
    for schema in [
        nested(15),
        r#"{"type": "array", "items": {"type": "array", "items": {"type": "string", "minLength": 1024}, "minItems": 1024}, "minItems": 1024}"#.into(),
        r#"{"enum": ["\u0000", "\uD83D\uDC0C", "\"\\"]}"#.into(),
        r#"{"enum": []}"#.into(),
        r#"{"anyOf": []}"#.into(),
        r#"{"const": {"a": [1, {"b": null}]}}"#.into(),
        r#"{"type": "integer", "minimum": 9223372036854775807, "maximum": -9223372036854775808}"#.into(),
        r#"{"type": "string", "minLength": 9, "maxLength": 3}"#.into(),
        r#"{"required": [1, {}, "x"], "properties": {"\u0000": {"type": "null"}}}"#.into(),
        r#"{"title": "nothing else"}"#.into(),
        format!(r#"{{"type":"object","properties":{{{}}}}}"#, wide.join(",")),
        r#"{"type": "integer", "minimum": 2000000000000000}"#.into(),
        r#"{"type": "integer", "maximum": -2000000000000000}"#.into(),
        r#"{"type": "integer", "minimum": -999999999999999}"#.into(),
        r#"{"type": "integer", "maximum": 999999999999999}"#.into(),
        r#"{"type": "integer", "minimum": -999999999999999, "maximum": 999999999999999}"#.into(),
        r#"{"type": "integer", "minimum": 99}"#.into(),
        format!(r#"{{"anyOf":[{}]}}"#, [r#"{"type":"string","maxLength":1024}"#; 8].join(",")),
        format!(r#"{{"enum":[{}]}}"#, vec![r#""""#; 256].join(",")),
    ] {
        let request = GenerateRequest { schema: Some(schema.clone()), max_tokens: 8, ..ask("Answer.") };
        let began = std::time::Instant::now();
        let outcome = match start(&minds, request).await {
            Ok(mut generation) => loop {
                match generation.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            },
            Err(error) => Err(error),
        };
        eprintln!("{schema:.60}: {outcome:?} after {:?}", began.elapsed());
        assert!(matches!(outcome, Ok(()) | Err(MindError::Invalid(_) | MindError::Engine { .. })), "{schema}: {outcome:?}");
    }
    still_answers(&minds).await;
}
