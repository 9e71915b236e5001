use super::*;

#[track_caller]
fn check(text: &str, is_valid: bool) {
    assert_eq!(Json::parse(text).is_ok(), is_valid, "{}", &text[..text.len().min(40)]);
    // What is taken must parse for every later reader.
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), is_valid);
}

#[test]
fn takes_exactly_the_texts_that_parse() {
    check("null", true);
    check(" {\"a\": [1, 2.5, \"x\", true]} ", true);
    check("", false);
    check("{} {}", false);
    check("{\"a\":}", false);
    check("1e999", false);
    check("\"\\ud800\"", false);
    check(&format!("{}1{}", "[".repeat(127), "]".repeat(127)), true);
    check(&format!("{}1{}", "[".repeat(128), "]".repeat(128)), false);
}

#[test]
fn keeps_the_text_as_given() {
    let json = Json::parse("{ \"b\":1, \"a\":2 }").unwrap();
    assert_eq!(json.as_str(), "{ \"b\":1, \"a\":2 }");
    assert_eq!(json.to_value(), serde_json::json!({"a": 2, "b": 1}));
}

#[test]
fn refuses_texts_past_the_bound() {
    let longest = format!("\"{}\"", "a".repeat(limit::VALUE_BYTES_MAX - 2));
    assert!(Json::parse(&longest).is_ok());
    let error = Json::parse(&format!("{longest} ")).unwrap_err();
    assert!(matches!(error, JsonError::TooLarge(_)), "{error}");
}
