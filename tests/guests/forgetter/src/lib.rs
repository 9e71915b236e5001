//! Changes state and never writes it. What can be stored must be stored all the same; what cannot must fail the
//! message as a covenant violation that names slot and selector.

use std::collections::BTreeMap;

use telos_sdk::prelude::*;

struct Forgetter;

/// Forgets.
#[plugin]
#[slot(name = "count", default = 0, summary = "How many changes were kept.")]
impl Forgetter {
    /// Changes what it read and lets the guard go out of scope. Is stored.
    #[selector]
    #[example(name = "is stored", before = {"count": 1}, returns = 2, after = {"count": 2})]
    fn change(this: &Receiver) -> Result<u64, Failure> {
        let mut count = this.slot::<u64>("count")?;
        *count += 1;
        Ok(*count)
    }

    /// Changes what it read and forgets the guard, whose destructor never runs. Is stored.
    #[selector]
    #[example(name = "is stored", before = {"count": 1}, returns = 2, after = {"count": 2})]
    fn forget(this: &Receiver) -> Result<u64, Failure> {
        let mut count = this.slot::<u64>("count")?;
        *count += 1;
        let answer = *count;
        std::mem::forget(count);
        Ok(answer)
    }

    /// Forgets a guard whose value no longer goes to JSON: pairs cannot be keys. Breaks the covenant at `pairs`.
    #[selector]
    fn leak(this: &Receiver) -> Result<&'static str, Failure> {
        let mut pairs = this.slot::<BTreeMap<(u8, u8), u8>>("pairs")?;
        pairs.insert((1, 2), 3);
        std::mem::forget(pairs);
        Ok("answered")
    }

    /// Changes `count` while a message it awaits changes it too. Breaks the covenant at `count`: neither update is
    /// silently lost.
    #[selector]
    fn race(this: &Receiver) -> Result<u64, Failure> {
        let mut count = this.slot::<u64>("count")?;
        *count += 1;
        this.object().send::<_, u64>("change", &())?;
        Ok(*count)
    }

    /// As `race`, but writes first, and so loses nothing.
    #[selector]
    fn take_turns(this: &Receiver) -> Result<u64, Failure> {
        *this.slot::<u64>("count")? += 1;
        Ok(this.object().send("change", &())?)
    }

    /// What is stored.
    #[selector(read_only)]
    #[example(name = "reads", before = {"count": 7}, returns = 7)]
    fn read(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("count")?)
    }
}
