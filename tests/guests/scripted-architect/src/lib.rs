//! An architect for tests: it has no mind, and answers what its object was given, in order. What it is asked it keeps.

use telos_sdk::prelude::*;

struct Architect;

#[derive(Deserialize)]
struct Asked {
    selector: String,
    #[serde(default = "first")]
    attempt: usize,
}

/// Writes what it was given.
#[plugin(id = "architect", version = "0.1.0")]
#[slot(name = "spec", default = null, summary = "What `specify` answers.")]
#[slot(name = "drafts", default = [], summary = "What `write` answers, by attempt; the last again and again.")]
#[slot(name = "asked", default = [], summary = "What it was asked.")]
impl Architect {
    /// Says what is asked of a behaviour.
    #[selector]
    #[example(name = "says", before = {"spec": {"summary": "x"}}, arguments = {"selector": "a"}, returns = {"summary": "x"})]
    fn specify(this: &Receiver, asked: Asked) -> Result<Value, Failure> {
        this.slot::<Vec<Value>>("asked")?.push(json!({"specify": asked.selector}));
        Ok(this.slot::<Value>("spec")?.clone())
    }

    /// Writes it.
    #[selector]
    #[example(name = "writes", before = {"drafts": ["a", "b"]}, arguments = {"selector": "a", "attempt": 2}, returns = {"source": "b", "mind": "scripted", "seed": 2})]
    fn write(this: &Receiver, asked: Asked) -> Result<Value, Failure> {
        this.slot::<Vec<Value>>("asked")?.push(json!({"write": asked.selector, "attempt": asked.attempt}));
        let drafts = this.slot::<Vec<Value>>("drafts")?;
        let draft = drafts.get(asked.attempt - 1).or(drafts.last());
        match draft {
            Some(Value::String(source)) => {
                Ok(json!({"source": source, "mind": "scripted", "seed": asked.attempt}))
            }
            Some(draft) => Ok(draft.clone()),
            None => Err(Failure::refused("it was given no drafts")),
        }
    }
}

fn first() -> usize {
    1
}
