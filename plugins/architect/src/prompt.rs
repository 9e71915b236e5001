//! What a mind is asked. Pure.
//!
//! Short, since a small mind loses what is far above; and with one example, which shows the form and is about nothing
//! that people are likely to ask for.

use telos_sdk::prelude::*;

/// Tokens of a sentence about a message, and of one answer.
const WORDS_MAX: u32 = 256;
/// Tokens of a module: about sixty lines.
const SOURCE_MAX: u32 = 768;
/// Characters of a sample of arguments or slots.
const SAMPLE_CHARS: usize = 800;
/// Characters of source that is to be repaired, and of what was wrong with it.
const REPAIR_CHARS: usize = 3_000;
const FAULT_CHARS: usize = 800;
/// Properties of a schema that the host takes, by the names of slots.
const SLOTS_MAX: usize = 32;

const CONTRACT: &str = "You write JavaScript modules. Answer with one ```js block and nothing else.
The module has one function: export function handle(self, args, telos)
- args: the JSON arguments of the message, exactly as shown.
- self: the object; its slots are properties: self.NAME.
- Return the answer as a JSON value. Do not print it.
- telos.badArguments(text) refuses arguments that do not fit.
- Plain JavaScript. No imports, no async, no TypeScript, no network.";

/// A message that is to be understood.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) selector: &'a str,
    pub(crate) arguments: &'a Value,
    /// The name of the object that gets it.
    pub(crate) object: &'a str,
    pub(crate) slots: &'a serde_json::Map<String, Value>,
}

/// How an answer is asked for. Both have to come to the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    AtOnce,
    Stepwise,
}

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    System,
    User,
    Mind,
}

/// A conversation that a mind is to continue.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) turns: Vec<(Speaker, String)>,
    pub(crate) max_tokens: u32,
    pub(crate) schema: Option<Value>,
    pub(crate) is_warm: bool,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::AtOnce, Self::Stepwise];
}

impl Asked {
    /// The same, for another answer than the likeliest.
    pub(crate) fn warmer(&self) -> Self {
        Self { is_warm: true, ..self.clone() }
    }

    /// As it is kept with what came of it.
    pub(crate) fn to_value(&self) -> Value {
        let line = |(speaker, text): &(Speaker, String)| json!([format!("{speaker:?}").to_lowercase(), text]);
        Value::Array(self.turns.iter().map(line).collect())
    }
}

/// What a message is for, in a sentence, and which slots it writes.
pub(crate) fn purpose(task: &Task<'_>) -> Asked {
    let slots: Vec<&String> = task.slots.keys().take(SLOTS_MAX).collect();
    let mut schema = json!({
        "type": "object",
        "properties": { "summary": {"type": "string", "minLength": 8, "maxLength": 160} },
        "required": ["summary"],
        "additionalProperties": false,
    });
    let mut example = json!({"summary": "Answers the area of the rectangle: width times height."});
    let mut question = "Say in one sentence what the message is to answer.".to_owned();
    if !slots.is_empty() {
        schema["properties"]["writes"] = json!({"type": "array", "items": {"enum": slots}, "maxItems": 4});
        schema["required"] = json!(["summary", "writes"]);
        example["writes"] = json!([]);
        question += " `writes`: slots of self that it changes; none if it only answers.";
    }
    let turns = vec![
        (Speaker::System, format!("Somebody sends a message to an object. {question} Answer in JSON.")),
        (Speaker::User, about(&rectangle())),
        (Speaker::Mind, example.to_string()),
        (Speaker::User, about(task)),
    ];
    Asked { turns, max_tokens: WORDS_MAX, schema: Some(schema), is_warm: false }
}

/// What a message answers for some arguments.
pub(crate) fn answer(task: &Task<'_>, summary: &str, way: Way) -> Asked {
    let any = json!({"anyOf": [
        {"type": "number"}, {"type": "string"}, {"type": "boolean"}, {"type": "array"}, {"type": "object"},
    ]});
    let (properties, required, example) = match way {
        Way::AtOnce => (json!({ "answer": any }), json!(["answer"]), json!({"answer": 12})),
        Way::Stepwise => (
            json!({ "steps": {"type": "string", "maxLength": 240}, "answer": any }),
            json!(["steps", "answer"]),
            json!({"steps": "3 * 4 = 12", "answer": 12}),
        ),
    };
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    let with = |task: &Task<'_>, summary: &str| format!("{}\nwhat it does: {summary}", about(task));
    let turns = vec![
        (Speaker::System, "Work out what the message answers for these args. Answer in JSON.".to_owned()),
        (Speaker::User, with(&rectangle(), "Answers the area of the rectangle: width times height.")),
        (Speaker::Mind, example.to_string()),
        (Speaker::User, with(task, summary)),
    ];
    Asked { turns, max_tokens: WORDS_MAX, schema: Some(schema), is_warm: false }
}

/// A module; where one was tried, a better one.
pub(crate) fn source(task: &Task<'_>, summary: &str, writes: &[&str], repair: Option<(&str, &str)>) -> Asked {
    let with = |task: &Task<'_>, summary: &str| format!("{}\nwhat it does: {summary}", about(task));
    let may_write = match writes {
        [] => "self is only read.".to_owned(),
        writes => format!(
            "It may assign {}.",
            writes.iter().map(|slot| format!("self.{slot}")).collect::<Vec<_>>().join(", ")
        ),
    };
    let mut turns = vec![
        (Speaker::System, CONTRACT.to_owned()),
        (Speaker::User, with(&rectangle(), "Answers the area of the rectangle: width times height.")),
        (
            Speaker::Mind,
            "```js\nexport function handle(self, args, telos) {\n  return args.width * args.height;\n}\n```"
                .to_owned(),
        ),
        (Speaker::User, format!("{}\n{may_write}", with(task, summary))),
    ];
    if let Some((source, faults)) = repair {
        turns.push((Speaker::Mind, format!("```js\n{}\n```", clip(source, REPAIR_CHARS))));
        let faults = clip(faults, FAULT_CHARS);
        turns.push((
            Speaker::User,
            format!("That failed:\n{faults}\nFind the mistake and answer the whole corrected module."),
        ));
    }
    Asked { turns, max_tokens: SOURCE_MAX, schema: None, is_warm: false }
}

fn about(task: &Task<'_>) -> String {
    let slots = clip(&Value::Object(task.slots.clone()).to_string(), SAMPLE_CHARS);
    let arguments = clip(&task.arguments.to_string(), SAMPLE_CHARS);
    format!("message: {} to {}\nargs: {arguments}\nself: {slots}", task.selector, task.object)
}

/// What the one example is about.
fn rectangle() -> Task<'static> {
    use std::sync::LazyLock;
    static ARGUMENTS: LazyLock<Value> = LazyLock::new(|| json!({"width": 3, "height": 4}));
    static SLOTS: LazyLock<serde_json::Map<String, Value>> = LazyLock::new(serde_json::Map::new);
    Task { selector: "area", arguments: &ARGUMENTS, object: "geometry", slots: &SLOTS }
}

/// At most so many characters; what is cut off shows as `...`.
fn clip(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(value: Value) -> serde_json::Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_asked_shows_selector_arguments_and_slots() {
        let (arguments, slots) = (json!([1]), slots(json!({"at": 2})));
        let task = Task { selector: "turn", arguments: &arguments, object: "wheel", slots: &slots };
        let asked = source(&task, "Turns.", &["at"], None);
        let (_, last) = asked.turns.last().unwrap();
        assert_eq!(
            last,
            "message: turn to wheel\nargs: [1]\nself: {\"at\":2}\nwhat it does: Turns.\nIt may assign self.at."
        );
        assert_eq!(purpose(&task).schema.unwrap()["properties"]["writes"]["items"], json!({"enum": ["at"]}));
    }

    #[test]
    fn a_repair_shows_the_source_and_the_exact_fault() {
        let (arguments, slots) = (json!(null), slots(json!({})));
        let task = Task { selector: "x", arguments: &arguments, object: "y", slots: &slots };
        let asked = source(&task, "z", &[], Some(("let a;", "it starts: SyntaxError at behaviour.js:1:2")));
        let texts: Vec<_> = asked.turns.iter().rev().take(2).map(|(_, text)| text.as_str()).collect();
        assert!(
            texts[0].starts_with("That failed:\nit starts: SyntaxError at behaviour.js:1:2\n"),
            "{texts:?}"
        );
        assert_eq!(texts[1], "```js\nlet a;\n```");
        assert!(purpose(&task).schema.unwrap()["properties"]["writes"].is_null(), "it has no slots");
    }

    #[test]
    fn long_samples_are_clipped() {
        let (arguments, slots) = (json!("ä".repeat(5_000)), slots(json!({})));
        let task = Task { selector: "x", arguments: &arguments, object: "y", slots: &slots };
        let asked = answer(&task, "z", Way::AtOnce);
        assert!(asked.turns.last().unwrap().1.chars().count() < 900);
    }
}
