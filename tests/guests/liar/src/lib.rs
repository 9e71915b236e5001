//! Promises what it does not keep. Which lie it tells stands in its bytes, after `TELOS-LIE:`, so that a test makes one
//! component for each of them. `#[plugin]` writes honest descriptors, so this one is written by hand.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use telos_sdk::descriptor::{Descriptor, Example, Expectation, Kind, Selector};
use telos_sdk::{Failure, Plugin, Receiver};

struct Liar;

/// Eleven bytes of mark, then the lie.
static LIE: [u8; 11] = *b"TELOS-LIE:0";

fn lie() -> u8 {
    std::hint::black_box(&LIE)[10]
}

impl Plugin for Liar {
    fn describe() -> Descriptor {
        let mut descriptor = honest();
        let selector = &mut descriptor.selectors[0];
        match lie() {
            b'1' => selector.examples[0].expect = Expectation::Value("8".into()),
            b'6' => selector.examples = vec![example(); 100],
            b'7' => selector.examples[0].expect = Expectation::Schema(doubling_schema()),
            b'a' => descriptor.summary = RandomState::new().hash_one(1).to_string(),
            b'b' => descriptor.summary = format!("{:?}", SystemTime::now()),
            b'c' => descriptor.summary = calls().to_string(),
            b'd' => descriptor.summary = "x".repeat(300 << 10),
            b'e' => descriptor.summary = "x".repeat(3 << 20),
            b'f' => selector.arguments = "anything".into(),
            b'g' => selector.arguments = "[".repeat(100_000),
            b'h' => descriptor.selectors = (0..300).map(|number| named(&format!("s{number}"))).collect(),
            b'i' => descriptor.summary = claimed(1 << 30),
            b'j' => descriptor.selectors.push(named("seven")),
            b'k' => selector.name = "se ven".into(),
            _ => {}
        }
        descriptor
    }

    fn answer(this: &Receiver, _selector: &str, _arguments: &str) -> Result<String, Failure> {
        match lie() {
            b'2' | b'6' => spin(),
            b'3' => trap(),
            b'4' => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
            b'5' => this.object().write("seven", &7)?,
            _ => {}
        }
        Ok("7".into())
    }
}

fn honest() -> Descriptor {
    Descriptor {
        id: "liar".into(),
        version: "0.1.0".into(),
        kind: Kind::Behaviour,
        summary: "Says seven.".into(),
        generation: 1,
        slots: Vec::new(),
        selectors: vec![named("seven")],
    }
}

fn named(name: &str) -> Selector {
    Selector {
        name: name.into(),
        summary: "Seven.".into(),
        arguments: "true".into(),
        returns: "true".into(),
        read_only: true,
        examples: vec![example()],
    }
}

fn example() -> Example {
    Example {
        name: "says seven".into(),
        before: Vec::new(),
        arguments: "null".into(),
        recordings: Vec::new(),
        expect: Expectation::Value("7".into()),
        after: Vec::new(),
    }
}

/// Forty definitions, each of which asks twice for the next: nobody comes to its end.
fn doubling_schema() -> String {
    let definition = |number| {
        let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, number + 1);
        format!(r#""d{number}":{{"allOf":[{next},{next}]}}"#)
    };
    let definitions: Vec<String> = (0..40).map(definition).collect();
    format!(r##"{{"$defs":{{{},"d40":{{"type":"integer"}}}},"$ref":"#/$defs/d0"}}"##, definitions.join(","))
}

/// How often this memory was asked: once, since every call has its own.
fn calls() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// A text of which the host is told a length that it does not have.
#[expect(unsafe_code, reason = "that is the fault")]
fn claimed(bytes: usize) -> String {
    let text = Box::leak(Box::new(*b"x"));
    // SAFETY: none. Nobody here reads it: it goes to the host as a pointer and a length.
    unsafe { String::from_raw_parts(text.as_mut_ptr(), bytes, bytes) }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

#[cfg(target_arch = "wasm32")]
const _: () = {
    type Exported = telos_sdk::Component<Liar>;
    telos_sdk::bindings::export!(Exported with_types_in telos_sdk::bindings);
};

// So that what only an export calls is no dead code natively either.
#[cfg(not(target_arch = "wasm32"))]
const _: (fn() -> Descriptor, telos_sdk::plugin::Answer) =
    (<Liar as Plugin>::describe, <Liar as Plugin>::answer);
