//! Asks the host for more than anybody needs: calls without end, lines without end, lists that are longer than its
//! memory, messages that break. It spends next to nothing itself.

use telos_sdk::bindings::telos::host::logging as host;
use telos_sdk::messaging::emit;
use telos_sdk::prelude::*;
use telos_sdk::storage::names;

struct Spammer;

const MIB: usize = 1 << 20;

#[derive(Deserialize)]
struct Times {
    times: u64,
}

/// Spams.
#[plugin]
#[slot(name = "text", default = "", summary = "What it reads without end.")]
impl Spammer {
    /// Reads a slot without end. Never answers.
    #[selector(read_only)]
    fn read_on(this: &Receiver) -> Result<u64, Failure> {
        loop {
            this.object().lookup("text")?;
        }
    }

    /// Lists every name without end. Never answers.
    #[selector(read_only)]
    fn list_on(_this: &Receiver) -> Result<u64, Failure> {
        loop {
            names("", "", 1_000)?;
        }
    }

    /// Emits pieces without end. Never answers.
    #[selector(read_only)]
    fn emit_on(_this: &Receiver) -> Result<u64, Failure> {
        loop {
            emit(&"piece")?;
        }
    }

    /// Logs without end. Never answers.
    #[selector(read_only)]
    fn log_on(_this: &Receiver) -> Result<u64, Failure> {
        loop {
            info!("on and on");
        }
    }

    /// Has the engine fill memory without end, by one instruction at a time that takes long. Never answers.
    #[selector(read_only)]
    fn fill_on(_this: &Receiver) -> Result<u64, Failure> {
        let mut memory = vec![0_u8; 16 * MIB];
        loop {
            std::hint::black_box(&mut memory).fill(1);
        }
    }

    /// Logs so many lines and answers.
    #[selector(read_only)]
    fn log(_this: &Receiver, asked: Times) -> Result<u64, Failure> {
        for number in 0..asked.times {
            info!("line {number}");
        }
        Ok(asked.times)
    }

    /// Sends itself to itself, again and again, at every depth: each message breaks, and the one above goes on.
    #[selector(read_only)]
    fn fan_out(this: &Receiver) -> Result<u64, Failure> {
        loop {
            this.object().send::<_, u64>("fan_out", &Value::Null).ok();
        }
    }

    /// Sends itself so many messages that break, and answers as if nothing had been.
    #[selector(read_only)]
    fn break_often(this: &Receiver, asked: Times) -> Result<u64, Failure> {
        for _ in 0..asked.times {
            this.object().send::<_, u64>("break_once", &Value::Null).ok();
        }
        Ok(asked.times)
    }

    /// Breaks.
    #[selector(read_only)]
    fn break_once(_this: &Receiver) -> Result<u64, Failure> {
        trap()
    }

    /// Logs a text that it says is 1 GiB long, which is more than it has memory.
    #[selector(read_only)]
    fn claim_gibibyte(_this: &Receiver) -> Result<bool, Failure> {
        host::log(host::Level::Info, claimed(&"x", 1 << 30), "{}");
        Ok(true)
    }

    /// Logs a text that is really 24 MiB long.
    #[selector(read_only)]
    fn log_much(_this: &Receiver) -> Result<bool, Failure> {
        host::log(host::Level::Info, &"x".repeat(24 * MIB), "{}");
        Ok(true)
    }

    /// Answers 6 MiB.
    #[selector(read_only)]
    fn answer_much(_this: &Receiver) -> Result<String, Failure> {
        Ok("x".repeat(6 * MIB))
    }

    /// Answers at once: the component is still served.
    #[selector(read_only)]
    #[example(name = "answers", returns = "pong")]
    fn ping(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("pong")
    }
}

/// A text of which the host is told a length that it does not have.
#[expect(unsafe_code, reason = "that is the fault")]
fn claimed(text: &'static &'static str, bytes: usize) -> &'static str {
    // SAFETY: none. Nobody here reads it: it goes to the host as a pointer and a length.
    unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(text.as_ptr(), bytes)) }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}
