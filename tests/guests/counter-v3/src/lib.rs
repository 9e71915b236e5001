//! The counter's third release: it counts both ways, so its state is of a second generation, and `evolve` carries a
//! count of the first one over. `decrement` is new and `reset` is gone.

use telos_sdk::prelude::*;

struct Counter;

/// How often it counted which way.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    up: u64,
    down: u64,
}

impl Tally {
    fn count(&self) -> u64 {
        self.up.saturating_sub(self.down)
    }
}

/// Counts both ways.
#[plugin(id = "counter", version = "0.3.0", generation = 2)]
#[slot(name = "tally", default = {"up": 0, "down": 0}, summary = "How far it has counted each way.")]
impl Counter {
    /// Adds one and answers the new count.
    #[selector]
    #[example(name = "adds one", before = {"tally": {"up": 2, "down": 1}}, returns = 2, after = {"tally": {"up": 3, "down": 1}})]
    fn increment(this: &Receiver) -> Result<u64, Failure> {
        let mut tally = this.slot::<Tally>("tally")?;
        tally.up = tally.up.checked_add(1).ok_or_else(|| Failure::refused("the count is at its end"))?;
        Ok(tally.count())
    }

    /// Takes one away and answers the new count.
    #[selector]
    #[example(name = "takes one", before = {"tally": {"up": 2, "down": 1}}, returns = 0, after = {"tally": {"up": 2, "down": 2}})]
    #[example(name = "stops at 0", refused)]
    fn decrement(this: &Receiver) -> Result<u64, Failure> {
        let mut tally = this.slot::<Tally>("tally")?;
        if tally.count() == 0 {
            return Err(Failure::refused("the count is at 0"));
        }
        tally.down += 1;
        Ok(tally.count())
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"tally": {"up": 7, "down": 2}}, returns = 5)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(this.slot::<Tally>("tally")?.count())
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.3.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.3.0")
    }

    #[evolve]
    fn evolve(mut slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        for step in from..to {
            match step {
                1 => count_to_tally(&mut slots)?,
                _ => return Err(EvolveError::Unsupported),
            }
        }
        Ok(slots)
    }

    /// What was counted down is not told apart any more; the count stays.
    #[devolve]
    fn devolve(mut slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        if (from, to) != (2, 1) {
            return Err(EvolveError::Unsupported);
        }
        if let Some(tally) = slots.remove("tally") {
            let tally: Tally =
                Tally::deserialize(tally).map_err(|error| EvolveError::invalid(error.to_string()))?;
            slots.insert("count".into(), json!(tally.count()));
        }
        Ok(slots)
    }
}

/// An object that never counted has no slot, in either generation.
fn count_to_tally(slots: &mut Slots) -> Result<(), EvolveError> {
    let Some(count) = slots.remove("count") else { return Ok(()) };
    let up =
        count.as_u64().ok_or_else(|| EvolveError::invalid(format!("count is {count}, no whole number")))?;
    slots.insert("tally".into(), json!({"up": up, "down": 0}));
    Ok(())
}
