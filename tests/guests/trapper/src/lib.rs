//! Dies in the middle of a message, after the host has accepted a write: the write must vanish with it.

use telos_sdk::prelude::*;

struct Trapper;

/// Traps.
#[plugin]
#[slot(name = "written", default = false, summary = "Whether a write of a message that died was kept.")]
impl Trapper {
    /// Writes, then panics with a message that belongs in the journal.
    #[selector]
    fn panic(this: &Receiver) -> Result<bool, Failure> {
        this.object().write("written", &true)?;
        panic!("the trapper panics on purpose");
    }

    /// Prints 1,000 lines of 100 bytes, then answers.
    #[selector(read_only)]
    fn flood(_this: &Receiver) -> Result<bool, Failure> {
        print_flood();
        Ok(true)
    }

    /// Writes, then executes an instruction that cannot be.
    #[selector]
    fn trap(this: &Receiver) -> Result<bool, Failure> {
        this.object().write("written", &true)?;
        unreachable_instruction()
    }

    /// Writes, then calls itself until the stack ends.
    #[selector]
    fn overflow(this: &Receiver) -> Result<u64, Failure> {
        this.object().write("written", &true)?;
        Ok(descend(1))
    }

    /// Whether a lost write is there after all.
    #[selector(read_only)]
    #[example(name = "nothing was kept", returns = false)]
    fn read(this: &Receiver) -> Result<bool, Failure> {
        Ok(*this.slot("written")?)
    }
}

#[cfg(target_arch = "wasm32")]
fn unreachable_instruction() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn unreachable_instruction() -> ! {
    std::process::abort()
}

#[expect(clippy::print_stdout, reason = "that is the fault")]
fn print_flood() {
    for number in 0..1_000 {
        println!("{number:099}");
    }
}

/// Not a loop in disguise: the array keeps a frame alive across the call.
#[allow(unconditional_recursion, reason = "that is the fault")]
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    descend(depth.wrapping_add(1)).wrapping_add(std::hint::black_box(&frame)[63])
}
