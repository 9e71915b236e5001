//! Never says what it is: its `describe` computes without end. `#[plugin]` writes honest descriptors, so this one is
//! written by hand.

use telos_sdk::descriptor::Descriptor;
use telos_sdk::{Failure, Plugin, Receiver};

struct Ponderer;

impl Plugin for Ponderer {
    fn describe() -> Descriptor {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }

    fn answer(_this: &Receiver, _selector: &str, _arguments: &str) -> Result<String, Failure> {
        Err(Failure::UnknownSelector)
    }
}

#[cfg(target_arch = "wasm32")]
const _: () = {
    type Exported = telos_sdk::Component<Ponderer>;
    telos_sdk::bindings::export!(Exported with_types_in telos_sdk::bindings);
};

// So that what only an export calls is no dead code natively either.
#[cfg(not(target_arch = "wasm32"))]
const _: fn() -> Descriptor = <Ponderer as Plugin>::describe;
