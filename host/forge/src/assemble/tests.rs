//! Goal: whatever a behaviour says and does, its component is one that a host can load, and is recognised as assembled;
//! what was not assembled is not. Method: random behaviours for every template, and every byte of one component changed.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wasmparser::{Validator, WasmFeatures};

use super::*;
use crate::behaviour::{Account, AccountExample, AccountExpectation, AccountSelector, AccountSlot};
use crate::engine::engine;

const INTERFACES: [&str; 3] = ["inference", "messaging", "vectors"];

fn carried() -> &'static Engine {
    engine().expect("a JavaScript engine; run `cargo xtask engine`")
}

/// What may be in the way: quotes, braces, NUL, lone marks of every kind of text, and the beginning of a behaviour.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[{}\"'`\\\\\u{0}\u{7f}\u{2028}\u{feff}😀a\n]{0,40}",
        1 => Just(r#"{"descriptor":{},"source":"","uses":[]}"#.to_owned()),
        1 => (0_usize..40_000).prop_map(|length| "x".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn example() -> impl Strategy<Value = AccountExample> {
    let expect = prop_oneof![
        value().prop_map(AccountExpectation::Value),
        value().prop_map(AccountExpectation::Schema),
        Just(AccountExpectation::Refusal),
    ];
    let pairs = || prop::collection::vec((text(), value()), 0..2);
    (text(), pairs(), value(), pairs(), expect, pairs()).prop_map(
        |(name, before, arguments, recordings, expect, after)| AccountExample {
            name,
            before,
            arguments,
            recordings,
            expect,
            after,
        },
    )
}

fn account() -> impl Strategy<Value = Account> {
    let slot = (text(), text(), prop::option::of(value())).prop_map(|(name, summary, default)| AccountSlot {
        name,
        summary,
        default,
    });
    let examples = prop::collection::vec(example(), 0..2);
    let selector = (text(), text(), value(), value(), any::<bool>(), examples).prop_map(
        |(name, summary, arguments, returns, read_only, examples)| AccountSelector {
            name,
            summary,
            arguments,
            returns,
            read_only,
            examples,
        },
    );
    let (slots, selectors) = (prop::collection::vec(slot, 0..2), prop::collection::vec(selector, 0..2));
    (text(), text(), text(), any::<u32>(), slots, selectors).prop_map(
        |(id, version, summary, generation, slots, selectors)| Account {
            id,
            version,
            summary,
            generation,
            slots,
            selectors,
        },
    )
}

/// Some interfaces, in any order, some of them twice.
fn uses() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(INTERFACES.map(str::to_owned).to_vec()), 0..5)
}

fn small(source: &str) -> Behaviour {
    using(Vec::new(), source)
}

fn using(uses: Vec<String>, source: &str) -> Behaviour {
    let account = Account {
        id: "small".into(),
        version: "1.0.0".into(),
        summary: "A test's.".into(),
        generation: 1,
        slots: Vec::new(),
        selectors: Vec::new(),
    };
    Behaviour::of(&account, source.into(), uses).unwrap()
}

/// That a host with no more of WebAssembly than this can load it.
#[track_caller]
fn check_valid(component: &[u8]) {
    let features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
    if let Err(error) = Validator::new_with_features(features).validate_all(component) {
        panic!("not a component that a host can load: {error}");
    }
}

#[track_caller]
fn check_comes_apart(behaviour: &Behaviour, component: &[u8]) {
    let apart = taken_apart(carried(), component).expect("it was assembled");
    assert_eq!(serde_json::to_string(&apart).unwrap(), serde_json::to_string(behaviour).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_behaviour_says_its_component_is_valid_and_comes_apart(
        account in account(), source in text(), uses in uses(),
    ) {
        let behaviour = Behaviour::of(&account, source.clone(), uses.clone()).unwrap();
        prop_assert_eq!(behaviour.account().unwrap(), account.clone());
        match assemble(carried(), &behaviour) {
            Ok(component) => {
                check_valid(&component);
                check_comes_apart(&behaviour, &component);
                let again = Behaviour::of(&account, source, uses.into_iter().rev().collect()).unwrap();
                prop_assert_eq!(assemble(carried(), &again).unwrap(), component);
            }
            Err(AssembleError::TooLarge(bytes)) => prop_assert!(bytes > BEHAVIOUR_BYTES_MAX),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn bytes_that_nobody_assembled_are_not_taken_for_assembled(
        bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0_usize..8,
    ) {
        prop_assert!(taken_apart(carried(), &bytes).is_none());
        let template = carried().templates[which].bytes;
        prop_assert!(taken_apart(carried(), &[template, &bytes].concat()).is_none());
    }
}

#[test]
fn every_set_of_interfaces_has_its_template() {
    assert_eq!(carried().templates.len(), 1 << INTERFACES.len());
    for template in carried().templates {
        let uses = template.uses.iter().map(ToString::to_string).collect();
        let behaviour = using(uses, "export function handle() {}");
        let component = assemble(carried(), &behaviour).unwrap();
        assert!(component.starts_with(template.bytes));
        check_valid(&component);
        check_comes_apart(&behaviour, &component);
        let others = carried().templates.iter().filter(|other| *other != template);
        assert_eq!(others.filter(|other| other.bytes.starts_with(template.bytes)).count(), 0);
    }
    let refused = assemble(carried(), &using(vec!["archive".into()], "")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a behaviour cannot use archive; there are inference, messaging and vectors"
    );
}

/// Lengths are written in as few bytes as they need, and some of those bytes are braces.
#[test]
fn a_behaviour_of_any_length_comes_apart() {
    for length in (0..400).chain(15_000..16_500).chain([65_535, 65_536, SOURCE_BYTES_MAX]) {
        let behaviour = small(&"x".repeat(length));
        check_comes_apart(&behaviour, &assemble(carried(), &behaviour).unwrap());
    }
}

#[test]
fn a_component_with_a_changed_byte_is_assembled_only_if_another_behaviour_makes_it() {
    let behaviour = small("export function handle(self) { return { a: [\"b\"] }; }");
    let component = assemble(carried(), &behaviour).unwrap();
    let text = serde_json::to_vec(&behaviour).unwrap();
    let from = component.windows(text.len()).position(|bytes| bytes == text).unwrap();
    for at in 0..component.len() {
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = component.clone();
            changed[at] ^= change;
            let Some(other) = taken_apart(carried(), &changed) else { continue };
            assert!(
                (from..from + text.len()).contains(&at),
                "byte {at} ^ {change:#x} belongs to no behaviour"
            );
            assert_eq!(assemble(carried(), &other).unwrap(), changed, "byte {at} ^ {change:#x}");
            assert_ne!(serde_json::to_vec(&other).unwrap(), text);
        }
    }
}

#[test]
fn a_component_that_was_cut_or_added_to_is_not_assembled() {
    let component = assemble(carried(), &small("export function handle() {}")).unwrap();
    for length in 0..component.len() {
        assert!(taken_apart(carried(), &component[..length]).is_none(), "cut at {length}");
    }
    assert!(taken_apart(carried(), &[&component[..], &[0]].concat()).is_none());
    assert!(taken_apart(carried(), &[&component[..], &component[8..]].concat()).is_none());
}

/// The same text for people can be written as JSON in many ways, of which one is the assembler's.
#[test]
fn a_behaviour_that_is_written_otherwise_is_not_assembled() {
    let behaviour = small("a");
    let text = serde_json::to_string(&behaviour).unwrap();
    for otherwise in [
        text.replace("\"source\":\"a\"", "\"source\":\"\\u0061\""),
        text.replace("\"source\":\"a\"", "\"source\": \"a\""),
        format!("{text} "),
    ] {
        let template = carried().template(&[]).unwrap();
        let component = complete(template, otherwise.as_bytes(), u32::try_from(otherwise.len()).unwrap());
        check_valid(&component);
        assert!(taken_apart(carried(), &component).is_none(), "{otherwise}");
    }
}

#[test]
fn a_source_past_its_bound_is_refused_with_its_length() {
    assert!(assemble(carried(), &small(&"x".repeat(SOURCE_BYTES_MAX))).is_ok());
    let refused = assemble(carried(), &small(&"x".repeat(SOURCE_BYTES_MAX + 1))).unwrap_err();
    assert_eq!(refused, AssembleError::SourceTooLarge(SOURCE_BYTES_MAX + 1));
    // Counted in bytes, and not in characters.
    let refused = assemble(carried(), &small(&"é".repeat(SOURCE_BYTES_MAX / 2 + 1))).unwrap_err();
    assert_eq!(refused, AssembleError::SourceTooLarge(SOURCE_BYTES_MAX + 2));
}

#[test]
fn a_behaviour_past_its_bound_is_refused_with_its_length() {
    // Each is six bytes in JSON.
    let written = serde_json::to_vec(&small("")).unwrap().len() + 6 * SOURCE_BYTES_MAX;
    let refused = assemble(carried(), &small(&"\0".repeat(SOURCE_BYTES_MAX))).unwrap_err();
    assert_eq!(refused, AssembleError::TooLarge(written));
    let mut account = small("").account().unwrap();
    account.slots.push(AccountSlot {
        name: "a".into(),
        summary: String::new(),
        default: Some(json!("x".repeat(BEHAVIOUR_BYTES_MAX))),
    });
    let refused = assemble(carried(), &Behaviour::of(&account, String::new(), Vec::new()).unwrap());
    assert!(matches!(refused, Err(AssembleError::TooLarge(bytes)) if bytes > BEHAVIOUR_BYTES_MAX));
}
