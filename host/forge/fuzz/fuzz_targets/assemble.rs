//! Any source, and any words that a behaviour says of itself: no panic, and a component that a host can load and that
//! comes apart again, or an error within the bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use telos_forge::{Account, AccountSlot, Behaviour, SOURCE_BYTES_MAX, assemble, engine, taken_apart};
use wasmparser::{Validator, WasmFeatures};

const INTERFACES: [&str; 3] = ["inference", "messaging", "vectors"];

fuzz_target!(|input: (u8, &str, &str)| {
    let (bits, words, source) = input;
    let engine = engine().expect("a JavaScript engine; run `cargo xtask engine`");
    let uses = (0..).zip(INTERFACES).filter(|(place, _)| bits >> place & 1 == 1);
    let uses = uses.map(|(_, interface)| interface.to_owned()).collect();
    let behaviour = Behaviour::of(&account(words), source.to_owned(), uses).expect("words can be written down");
    match assemble(engine, &behaviour) {
        Ok(component) => {
            let features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
            Validator::new_with_features(features).validate_all(&component).expect("a component that loads");
            let apart = taken_apart(engine, &component).expect("it was assembled");
            assert_eq!((apart.source, apart.uses), (behaviour.source, behaviour.uses));
        }
        Err(_) => assert!(source.len() > SOURCE_BYTES_MAX || 6 * (source.len() + 6 * words.len()) > SOURCE_BYTES_MAX),
    }
});

fn account(words: &str) -> Account {
    let slot = AccountSlot { name: words.into(), summary: words.into(), default: serde_json::from_str(words).ok() };
    Account {
        id: words.into(),
        version: words.into(),
        summary: words.into(),
        generation: 1,
        slots: vec![slot],
        selectors: Vec::new(),
    }
}
