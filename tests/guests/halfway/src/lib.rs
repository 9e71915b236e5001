//! A release of the counter whose state is of a third generation. It takes the state of both earlier ones, and carries it
//! back to the second only.

use telos_sdk::prelude::*;

struct Counter;

#[derive(Deserialize)]
struct Increment {
    #[serde(default = "one")]
    by: u64,
}

/// Counts in a third slot.
#[plugin(id = "counter", version = "0.9.0", generation = 3)]
#[slot(name = "sum", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Adds `by`, 1 when it is absent, and answers the new count.
    #[selector]
    #[example(name = "adds one", before = {"sum": 1}, returns = 2, after = {"sum": 2})]
    fn increment(this: &Receiver, arguments: Increment) -> Result<u64, Failure> {
        let mut sum = this.slot::<u64>("sum")?;
        *sum += arguments.by;
        Ok(*sum)
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"sum": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("sum")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.9.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.9.0")
    }

    #[evolve]
    fn evolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        match (from, to) {
            (1, 3) => Ok(renamed(slots, "count", "sum")),
            (2, 3) => Ok(renamed(slots, "tally", "sum")),
            _ => Err(EvolveError::Unsupported),
        }
    }

    #[devolve]
    fn devolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        match (from, to) {
            (3, 2) => Ok(renamed(slots, "sum", "tally")),
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
