use super::*;

#[track_caller]
fn check<T: FromStr + fmt::Display>(text: &str, is_valid: bool) {
    let parsed = text.parse::<T>().ok();
    assert_eq!(parsed.is_some(), is_valid, "{text:?}");
    if let Some(parsed) = parsed {
        assert_eq!(parsed.to_string(), text);
    }
}

#[test]
fn object_ids_are_32_hex_digits() {
    check::<ObjectId>("000000000000000a00000000000000ff", true);
    check::<ObjectId>("000000000000000a00000000000000f", false);
    check::<ObjectId>("+00000000000000a00000000000000ff", false);
    check::<ObjectId>("000000000000000a00000000000000fg", false);
    let id = ObjectId::from_parts(7, u64::MAX);
    assert_eq!((id.high(), id.low()), (7, u64::MAX));
}

#[test]
fn component_ids_are_lower_case_words() {
    check::<ComponentId>("babs", true);
    check::<ComponentId>("a-1", true);
    check::<ComponentId>("", false);
    check::<ComponentId>("1a", false);
    check::<ComponentId>("Babs", false);
    check::<ComponentId>("a_b", false);
    check::<ComponentId>(&"a".repeat(64), true);
    check::<ComponentId>(&"a".repeat(65), false);
}

#[test]
fn object_names_are_ascii_paths() {
    check::<ObjectName>("babs/alice.v-1_2", true);
    check::<ObjectName>("Counter", true);
    check::<ObjectName>("", false);
    check::<ObjectName>("a b", false);
    check::<ObjectName>("ä", false);
    check::<ObjectName>(&"n".repeat(256), true);
    check::<ObjectName>(&"n".repeat(257), false);
}

#[test]
fn digests_are_64_hex_digits() {
    check::<Digest>(&Digest::of(b"telos").to_string(), true);
    check::<Digest>("00", false);
}

#[test]
fn serde_refuses_what_parsing_refuses() {
    assert!(serde_json::from_str::<ComponentId>("\"Not Ok\"").is_err());
    let id = ObjectId::random();
    let text = serde_json::to_string(&id).unwrap();
    assert_eq!(serde_json::from_str::<ObjectId>(&text).unwrap(), id);
}
