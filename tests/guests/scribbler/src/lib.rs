//! Writes from selectors that promise to change nothing: through a guard, by a call, and by a call whose error it
//! hides. None of the writes may be stored, and every message must fail as a covenant violation.

use telos_sdk::prelude::*;

struct Scribbler;

/// Scribbles.
#[plugin]
#[slot(name = "text", default = "clean", summary = "What a read-only selector managed to write.")]
impl Scribbler {
    /// Changes what it read through a guard.
    #[selector(read_only)]
    fn scribble(this: &Receiver) -> Result<String, Failure> {
        let mut text = this.slot::<String>("text")?;
        text.push_str(", scribbled");
        Ok(text.clone())
    }

    /// Calls write.
    #[selector(read_only)]
    fn scribble_directly(this: &Receiver) -> Result<&'static str, Failure> {
        this.object().write("text", "scribbled")?;
        Ok("scribbled")
    }

    /// Calls write, is refused, and answers as if nothing had been.
    #[selector(read_only)]
    fn scribble_secretly(this: &Receiver) -> Result<&'static str, Failure> {
        this.object().write("text", "scribbled").ok();
        Ok("I did nothing")
    }

    /// What is stored.
    #[selector(read_only)]
    #[example(name = "reads", returns = "clean")]
    fn read(this: &Receiver) -> Result<String, Failure> {
        Ok(this.slot::<String>("text")?.clone())
    }

    /// A write that is allowed.
    #[selector]
    #[example(name = "writes", returns = "written", after = {"text": "written"})]
    fn write(this: &Receiver) -> Result<&'static str, Failure> {
        this.object().write("text", "written")?;
        Ok("written")
    }
}
