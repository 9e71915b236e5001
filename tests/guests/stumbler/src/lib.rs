//! A later release of the counter that breaks when it is to add much.

use telos_sdk::prelude::*;

struct Counter;

#[derive(Deserialize)]
struct Increment {
    #[serde(default = "one")]
    by: u64,
}

#[derive(Deserialize)]
struct Dwell {
    turns: u64,
}

/// Counts, as long as nobody asks for much.
#[plugin(id = "counter", version = "0.6.0")]
#[slot(name = "count", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Adds `by`, 1 when it is absent, and answers the new count; from 100 on it panics.
    #[selector]
    #[example(name = "adds one", before = {"count": 1}, returns = 2, after = {"count": 2})]
    fn increment(this: &Receiver, arguments: Increment) -> Result<u64, Failure> {
        let mut count = this.slot::<u64>("count")?;
        assert!(arguments.by < 100, "it stumbles on purpose");
        *count += arguments.by;
        Ok(*count)
    }

    /// Adds one after so many turns, which may take long.
    #[selector]
    #[example(name = "turns", arguments = {"turns": 2}, returns = 1)]
    fn dwell(this: &Receiver, asked: Dwell) -> Result<u64, Failure> {
        let mut turns = 0_u64;
        while turns < asked.turns {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
        let mut count = this.slot::<u64>("count")?;
        *count += 1;
        Ok(*count)
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"count": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("count")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.6.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.6.0")
    }
}

fn one() -> u64 {
    1
}
