//! The counter's second release: the same selectors and slots under the same id, so a swap changes only `release`.

use telos_sdk::prelude::*;

struct Counter;

#[derive(Deserialize)]
struct Increment {
    #[serde(default = "one")]
    by: u64,
}

/// Counts.
#[plugin(id = "counter", version = "0.2.0")]
#[slot(name = "count", default = 0, summary = "How far it has counted.")]
impl Counter {
    /// Adds `by`, 1 when it is absent, and answers the new count.
    #[selector]
    #[example(name = "adds one", before = {"count": 1}, returns = 2, after = {"count": 2})]
    #[example(name = "adds more", before = {"count": 1}, arguments = {"by": 2}, returns = 3, after = {"count": 3})]
    #[example(name = "starts from nothing", arguments = {}, returns = 1, after = {"count": 1})]
    #[example(name = "keeps its bounds", before = {"count": 18446744073709551615u64}, refused)]
    fn increment(this: &Receiver, arguments: Increment) -> Result<u64, Failure> {
        let mut count = this.slot::<u64>("count")?;
        *count =
            count.checked_add(arguments.by).ok_or_else(|| Failure::refused("the count is at its end"))?;
        Ok(*count)
    }

    /// Answers the count.
    #[selector(read_only)]
    #[example(name = "reads", before = {"count": 7}, returns = 7, after = {"count": 7})]
    #[example(name = "reads nothing as 0", returns = 0)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("count")?)
    }

    /// Sets the count to 0 and answers what it was.
    #[selector]
    #[example(name = "resets", before = {"count": 7}, returns = 7, after = {"count": 0})]
    fn reset(this: &Receiver) -> Result<u64, Failure> {
        Ok(std::mem::take(&mut *this.slot("count")?))
    }

    /// Answers the version of the release that serves.
    #[selector(read_only)]
    #[example(name = "names itself", returns = "0.2.0")]
    fn release(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("0.2.0")
    }
}

fn one() -> u64 {
    1
}
