use super::*;

fn valid() -> GenerateRequest {
    GenerateRequest::new(vec![Turn { role: Role::User, text: "hello".into() }])
}

#[track_caller]
fn check(change: impl Fn(&mut GenerateRequest), refused_for: &str) {
    let mut request = valid();
    change(&mut request);
    match request.check() {
        Err(MindError::Invalid(message)) => assert!(message.starts_with(refused_for), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_within_its_bounds_passes() {
    assert_eq!(valid().check(), Ok(()));
    let edge = GenerateRequest {
        max_tokens: MAX_TOKENS_MAX,
        temperature: TEMPERATURE_MAX,
        stop: vec!["x".repeat(STOP_BYTES_MAX); STOPS_MAX],
        turns: vec![Turn { role: Role::User, text: "x".repeat(PROMPT_BYTES_MAX) }],
        ..valid()
    };
    assert_eq!(edge.check(), Ok(()));
}

#[test]
fn every_bound_refuses_the_next_value_by_name() {
    check(|r| r.turns.clear(), "turns:");
    check(|r| r.turns = vec![r.turns[0].clone(); TURNS_MAX + 1], "turns:");
    check(|r| r.turns[0].text = "x".repeat(PROMPT_BYTES_MAX + 1), "turns: bytes");
    check(|r| r.max_tokens = 0, "max-tokens");
    check(|r| r.max_tokens = MAX_TOKENS_MAX + 1, "max-tokens");
    check(|r| r.temperature = -0.1, "temperature");
    check(|r| r.temperature = 2.1, "temperature");
    check(|r| r.temperature = f32::NAN, "temperature");
    check(|r| r.temperature = f32::INFINITY, "temperature");
    check(|r| r.stop = vec!["x".into(); STOPS_MAX + 1], "stop: texts");
    check(|r| r.stop = vec![String::new()], "stop: bytes");
    check(|r| r.schema = Some("{".into()), "schema");
}

#[test]
fn texts_to_embed_are_bounded() {
    assert_eq!(check_texts(&vec!["x".repeat(TEXT_BYTES_MAX); TEXTS_MAX]), Ok(()));
    assert!(check_texts(&vec![String::new(); TEXTS_MAX + 1]).is_err());
    assert!(check_texts(&["x".repeat(TEXT_BYTES_MAX + 1)]).is_err());
}
