//! Any bytes, alone and behind a template: no panic, and what is taken for assembled is what assembling makes of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use telos_forge::{Behaviour, assemble, engine, taken_apart};

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let engine = engine().expect("a JavaScript engine; run `cargo xtask engine`");
    check(bytes);
    // Behind an assembled component, and in the place of its end.
    let template = engine.templates[usize::from(which) % engine.templates.len()];
    let uses = template.uses.iter().map(ToString::to_string).collect();
    let behaviour = serde_json::json!({ "descriptor": {}, "source": "", "uses": Vec::<String>::new() });
    let mut behaviour: Behaviour = serde_json::from_value(behaviour).expect("a behaviour");
    behaviour.uses = uses;
    let component = assemble(engine, &behaviour).expect("a small behaviour");
    for keep in [component.len(), component.len().saturating_sub(bytes.len())] {
        check(&[&component[..keep], bytes].concat());
    }
});

fn check(component: &[u8]) {
    let engine = engine().expect("a JavaScript engine; run `cargo xtask engine`");
    if let Some(behaviour) = taken_apart(engine, component) {
        assert_eq!(assemble(engine, &behaviour).as_deref(), Ok(component));
    }
}
