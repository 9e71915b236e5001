//! A release after the stumbler that has learned nothing.

use telos_sdk::prelude::*;

struct Counter;

#[derive(Deserialize)]
struct Increment {
    #[serde(default = "one")]
    by: u64,
}

/// Counts, as long as nobody asks for much.
#[plugin(id = "counter", version = "0.7.0")]
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

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"count": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("count")?)
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.7.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.7.0")
    }
}

fn one() -> u64 {
    1
}
