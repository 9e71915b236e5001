//! The counter's fourth release: its state is of a third generation, and `evolve` carries both earlier ones over, in
//! one call for an object of the first.

use telos_sdk::prelude::*;

struct Counter;

/// Counts below 0 too.
#[plugin(id = "counter", version = "0.4.0", generation = 3)]
#[slot(name = "sum", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Adds one and answers the new count.
    #[selector]
    #[example(name = "adds one", before = {"sum": -1}, returns = 0, after = {"sum": 0})]
    fn increment(this: &Receiver) -> Result<i64, Failure> {
        let mut sum = this.slot::<i64>("sum")?;
        *sum = sum.checked_add(1).ok_or_else(|| Failure::refused("the count is at its end"))?;
        Ok(*sum)
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"sum": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<i64, Failure> {
        Ok(*this.slot("sum")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.4.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.4.0")
    }

    #[evolve]
    fn evolve(mut slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        for step in from..to {
            match step {
                1 => replace(&mut slots, "count", "tally", |count| json!({"up": count, "down": 0})),
                2 => replace(&mut slots, "tally", "sum", |tally| {
                    let side = |name: &str| tally[name].as_i64().unwrap_or_default();
                    json!(side("up") - side("down"))
                }),
                _ => return Err(EvolveError::Unsupported),
            }
        }
        Ok(slots)
    }
}

fn replace(slots: &mut Slots, old: &str, new: &str, change: impl FnOnce(Value) -> Value) {
    if let Some(value) = slots.remove(old) {
        slots.insert(new.into(), change(value));
    }
}
