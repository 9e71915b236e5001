//! Behaviours in JavaScript, as the forge makes them.

use serde_json::{Value, json};
use telos_forge::{Account, AccountExample, AccountSelector, AccountSlot, Behaviour, Engine, assemble};

/// The engine.
///
/// # Panics
/// When this was built without one, saying how to build it.
pub fn engine() -> &'static Engine {
    telos_forge::engine().expect("a JavaScript engine; run `cargo xtask engine`")
}

/// A behaviour to make; [`Script::of`] has the rest.
#[derive(Clone)]
pub struct Script {
    /// The component.
    pub id: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its one selector.
    pub selector: &'static str,
    /// Whether that promises to change nothing.
    pub read_only: bool,
    /// JSON Schema of its arguments.
    pub arguments: Value,
    /// Slots that it declares.
    pub slots: Vec<&'static str>,
    /// Interfaces that it uses besides storage and logging.
    pub uses: Vec<&'static str>,
    /// Its examples.
    pub examples: Vec<AccountExample>,
    /// Its source.
    pub source: String,
}

impl Script {
    /// `scripted` 1.0.0, with selector `run` and slot `value`, which may write.
    pub fn of(source: &str) -> Self {
        Self {
            id: "scripted",
            version: "1.0.0",
            selector: "run",
            read_only: false,
            arguments: json!(true),
            slots: vec!["value"],
            uses: Vec::new(),
            examples: Vec::new(),
            source: source.to_owned(),
        }
    }

    /// What it is made of.
    pub fn behaviour(&self) -> Behaviour {
        let slot = |name: &&str| AccountSlot { name: (*name).into(), summary: String::new(), default: None };
        let account = Account {
            id: self.id.into(),
            version: self.version.into(),
            summary: "A test's.".into(),
            generation: 1,
            slots: self.slots.iter().map(slot).collect(),
            selectors: vec![AccountSelector {
                name: self.selector.into(),
                summary: "Runs.".into(),
                arguments: self.arguments.clone(),
                returns: json!(true),
                read_only: self.read_only,
                examples: self.examples.clone(),
            }],
        };
        let uses = self.uses.iter().map(ToString::to_string).collect();
        Behaviour::of(&account, self.source.clone(), uses).expect("a small account")
    }

    /// Its text, as its component hands it over.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.behaviour()).expect("a small behaviour")
    }

    /// Its component.
    pub fn component(&self) -> Vec<u8> {
        assemble(engine(), &self.behaviour()).expect("a small behaviour")
    }
}

/// An example that expects a value.
pub fn example(arguments: Value, value: Value) -> AccountExample {
    AccountExample {
        name: "one".into(),
        before: Vec::new(),
        arguments,
        recordings: Vec::new(),
        expect: telos_forge::AccountExpectation::Value(value),
        after: Vec::new(),
    }
}
