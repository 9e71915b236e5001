//! Never answers `spin`: it computes without end and makes no host call on the way, so only an interrupt stops it.

use telos_sdk::messaging::emit;
use telos_sdk::prelude::*;

struct Spinner;

#[derive(Deserialize)]
struct Turns {
    turns: u64,
}

/// Spins.
#[plugin]
impl Spinner {
    /// Never answers.
    #[selector]
    fn spin(_this: &Receiver) -> Result<u64, Failure> {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }

    /// Answers after so many turns.
    #[selector(read_only)]
    #[example(name = "turns twice", arguments = {"turns": 2}, returns = 2)]
    fn turn(_this: &Receiver, asked: Turns) -> Result<u64, Failure> {
        let mut turns = 0_u64;
        while turns < asked.turns {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
        Ok(turns)
    }

    /// Never answers, but emits one chunk first: whoever has it knows that it spins.
    #[selector]
    fn announce_and_spin(this: &Receiver) -> Result<u64, Failure> {
        emit(&"spinning")?;
        Self::spin(this)
    }

    /// Never answers, although it changed a slot first.
    #[selector]
    fn write_and_spin(this: &Receiver) -> Result<u64, Failure> {
        this.object().write("written", &true)?;
        Self::spin(this)
    }

    /// Answers at once: the component is still served.
    #[selector(read_only)]
    #[example(name = "answers", returns = "pong")]
    fn ping(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("pong")
    }
}
