//! A later release of the counter whose state is of a second generation, which it carries there and back, and which
//! breaks when it is to add much. What has counted to [`TOO_FAR`] it does not carry back.

use telos_sdk::prelude::*;

struct Counter;

const TOO_FAR: u64 = 1 << 40;

#[derive(Deserialize)]
struct Increment {
    #[serde(default = "one")]
    by: u64,
}

/// Counts in another slot, as long as nobody asks for much.
#[plugin(id = "counter", version = "0.8.0", generation = 2)]
#[slot(name = "tally", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Adds `by`, 1 when it is absent, and answers the new count; from 100 on it panics.
    #[selector]
    #[example(name = "adds one", before = {"tally": 1}, returns = 2, after = {"tally": 2})]
    fn increment(this: &Receiver, arguments: Increment) -> Result<u64, Failure> {
        let mut tally = this.slot::<u64>("tally")?;
        assert!(arguments.by < 100, "it stumbles on purpose");
        *tally += arguments.by;
        Ok(*tally)
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"tally": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("tally")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.8.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.8.0")
    }

    #[evolve]
    fn evolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        match (from, to) {
            (1, 2) => Ok(renamed(slots, "count", "tally")),
            _ => Err(EvolveError::Unsupported),
        }
    }

    #[devolve]
    fn devolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        match (from, to) {
            (2, 1) if slots.get("tally") == Some(&json!(TOO_FAR)) => Err(EvolveError::invalid("too far")),
            (2, 1) => Ok(renamed(slots, "tally", "count")),
            _ => Err(EvolveError::Unsupported),
        }
    }
}

fn renamed(mut slots: Slots, from: &str, to: &str) -> Slots {
    if let Some(value) = slots.remove(from) {
        slots.insert(to.into(), value);
    }
    slots
}

fn one() -> u64 {
    1
}
