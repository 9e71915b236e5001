//! A release of the counter that carries most state over, and breaks every rule of `evolve` on the counts that ask for
//! it: whatever it does, the host must keep what was stored and serve what served.

use std::time::SystemTime;

use telos_sdk::prelude::*;

struct Counter;

/// Evolves badly.
#[plugin(id = "counter", version = "0.5.0", generation = 2)]
#[slot(name = "total", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"total": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("total")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.5.0")
    }

    #[evolve]
    fn evolve(mut slots: Slots, _from: u32, _to: u32) -> Result<Slots, EvolveError> {
        let count = slots.remove("count").unwrap_or_default();
        match count.as_u64() {
            Some(901) => return Err(EvolveError::invalid("901 is no count")),
            Some(902) => return Err(EvolveError::Unsupported),
            Some(903) => trap(),
            Some(904) => spin(),
            Some(905) => drop(hoard()),
            Some(906) => drop(slots.insert("large".into(), "x".repeat(300 * 1024).into())),
            Some(907) => slots.extend((0..2_000).map(|number| (format!("slot-{number}"), json!(number)))),
            Some(908) => drop(slots.insert("now".into(), now().into())),
            Some(909) => drop(slots.insert("read".into(), json!("the name of a method"))),
            Some(911) => {
                slots.extend((0..3).map(|number| (format!("part-{number}"), "x".repeat(250 * 1024).into())))
            }
            Some(912) => panic!("the misevolver panics on purpose"),
            Some(910) => {
                slots.extend((0..20).map(|number| (format!("{number}"), "x".repeat(250 * 1024).into())))
            }
            _ => {}
        }
        slots.insert("total".into(), count);
        Ok(slots)
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn hoard() -> Vec<u8> {
    std::hint::black_box(vec![1; 200 << 20])
}

/// What evolving must not depend on.
fn now() -> String {
    format!("{:?}", SystemTime::now())
}
