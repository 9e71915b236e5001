//! The architect: a persona that says what a behaviour is to do, and writes it.
//!
//! ```text
//! specify   selector, arguments, object              what is asked, and examples of it; no source is seen
//! write     the same, the spec, and what was wrong   one ES module
//! ```
//! Made for a mind of half a billion parameters: as little as can be is left to it. What arguments fit is read off the
//! message that was missed ([`sample`]), and the check of that is put behind whatever the mind writes ([`module`]). Of
//! what a behaviour should answer the mind is believed as far as it says the same twice ([`wanted`]).
//!
//! Never here: judging what was written. The host tries it, and says what was wrong.

mod mind;
mod module;
mod prompt;
mod sample;
mod wanted;

use telos_sdk::prelude::*;

use mind::Mind;
use prompt::Task;

struct Architect;

/// A message that nobody understands.
#[derive(Deserialize)]
struct Missed {
    selector: String,
    #[serde(default)]
    arguments: Value,
    object: Prototype,
}

/// The object that missed it.
#[derive(Deserialize)]
struct Prototype {
    name: String,
    #[serde(default)]
    slots: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Ordered {
    #[serde(flatten)]
    missed: Missed,
    spec: Spec,
    attempt: u64,
    previous: Option<Previous>,
}

/// What of a spec goes into a prompt.
#[derive(Deserialize)]
struct Spec {
    summary: String,
    #[serde(default)]
    slots: Vec<SlotOf>,
}

#[derive(Deserialize)]
struct SlotOf {
    name: String,
}

/// The best attempt so far.
#[derive(Deserialize)]
struct Previous {
    source: String,
    faults: String,
}

/// Writes behaviour for messages that nobody understands.
#[plugin(kind = persona)]
impl Architect {
    /// Says what is asked of a behaviour, and gives examples of it.
    #[selector(read_only)]
    #[example(name = "believes what is said twice", arguments = {"selector": "tick", "arguments": null, "object": {"name": "clock", "slots": {}}}, generate = "{\"summary\":\"Answers tock.\"}", generate = "{\"answer\":\"tock\"}", generate = "{\"steps\":\"It is a clock.\",\"answer\":\"tock\"}", returns = {"summary": "Answers tock.", "read_only": true, "arguments": true, "returns": {"type": "string"}, "slots": [], "examples": [{"name": "as it was missed", "before": [], "arguments": null, "expect": {"value": "tock"}, "after": []}]})]
    #[example(name = "keeps the type where values differ", arguments = {"selector": "turn", "arguments": [true], "object": {"name": "wheel", "slots": {"at": 4}}}, generate = "{\"summary\":\"Turns it.\",\"writes\":[\"at\"]}", generate = "{\"answer\":5}", generate = "{\"steps\":\"\",\"answer\":7}", returns = {"summary": "Turns it.", "read_only": false, "arguments": {"type": "array", "items": {"type": "boolean"}}, "returns": {"type": "number"}, "slots": [{"name": "at", "summary": ""}], "examples": [{"name": "as it was missed", "before": [["at", 4]], "arguments": [true], "expect": {"schema": {"type": "number"}}, "after": []}]})]
    fn specify(this: &Receiver, missed: Missed) -> Result<Value, Failure> {
        let _ = this;
        let mind = Mind::chosen()?;
        let purpose = mind.say(&prompt::purpose(&missed.task()), 1)?;
        let purpose = wanted::Purpose::of(&purpose, &missed.selector, &missed.object.slots);
        let samples = sample::variants(&missed.arguments);
        let mut examples = Vec::new();
        for (place, arguments) in samples.into_iter().enumerate() {
            let task = Task { arguments: &arguments, ..missed.task() };
            let mut votes = Vec::new();
            for (seed, way) in (1..).zip(prompt::Way::ALL) {
                let said = mind.say(&prompt::answer(&task, &purpose.summary, way), seed)?;
                votes.push(wanted::vote(&said));
            }
            examples.push(wanted::Example { place, arguments, votes });
        }
        Ok(wanted::spec(&purpose, sample::schema(&missed.arguments), &missed.object.slots, &examples))
    }

    /// Writes the module, or a better one where it is told what was wrong.
    #[selector(read_only)]
    #[example(name = "writes", arguments = {"selector": "area", "arguments": {"side": 2}, "object": {"name": "square", "slots": {}}, "spec": {"summary": "Answers the area."}, "attempt": 1}, generate = "Here it is:\n```js\nexport function handle(self, args) {\n  return args.side * args.side;\n}\n```", schema = {"type": "object", "required": ["source", "uses", "prompt", "mind", "seed"], "properties": {"seed": {"const": 1}, "uses": {"const": []}, "source": {"type": "string", "pattern": "return args\\.side \\* args\\.side;"}}})]
    #[example(name = "asks again when nothing was changed", arguments = {"selector": "one", "arguments": null, "object": {"name": "x"}, "spec": {"summary": "Answers one."}, "attempt": 2, "previous": {"source": "export function handle() { return 2; }", "faults": "it answered 2 instead of 1"}}, generate = "```js\nexport function handle() { return 2; }\n```", generate = "```js\nexport function handle() { return 1; }\n```", schema = {"type": "object", "properties": {"seed": {"const": 2}, "source": {"type": "string", "pattern": "return 1;"}}})]
    fn write(this: &Receiver, ordered: Ordered) -> Result<Value, Failure> {
        let _ = this;
        let mind = Mind::chosen()?;
        let task = ordered.missed.task();
        let previous = ordered.previous.as_ref();
        let old = previous.map(|previous| module::written(&previous.source));
        let repair = previous.zip(old.as_deref()).map(|(previous, old)| (old, previous.faults.as_str()));
        let slots: Vec<_> = ordered.spec.slots.iter().map(|slot| slot.name.as_str()).collect();
        let asked = prompt::source(&task, &ordered.spec.summary, &slots, repair);
        let mut source = module::extract(&mind.say(&asked, ordered.attempt)?);
        if old.as_deref() == Some(source.as_str()) {
            // The likeliest tokens are the ones that were wrong.
            source = module::extract(&mind.say(&asked.warmer(), ordered.attempt)?);
        }
        Ok(json!({
            "source": module::complete(&source, &ordered.missed.arguments),
            "uses": [],
            "prompt": asked.to_value(),
            "mind": mind.name(),
            "seed": ordered.attempt,
        }))
    }
}

impl Missed {
    fn task(&self) -> Task<'_> {
        Task {
            selector: &self.selector,
            arguments: &self.arguments,
            object: &self.object.name,
            slots: &self.object.slots,
        }
    }
}
