//! From the contract's exports to an author's functions: parse, dispatch, settle, answer.
//!
//! ```text
//! handle    a receiver for this message -> the selector's function -> its answer as JSON -> settle every guard
//!           a failure on the way answers that failure and writes nothing more: the host discards the rest
//! describe  the descriptor that `#[plugin]` wrote; no host call may happen here
//! ```

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::exports::telos::host::{handler, lifecycle};
use crate::descriptor::{Descriptor, EvolveError, SlotValue, Slots, parse_slots, slot_values};
use crate::object::Object;
use crate::state::{Breach, Receiver};

/// A component's behaviour. `#[plugin]` implements it.
pub trait Plugin {
    /// The component's account of itself. Pure: equal every time.
    fn describe() -> Descriptor;

    /// The answer to one message, as JSON text. `arguments` is JSON text.
    ///
    /// # Errors
    /// [`Failure::UnknownSelector`] for a selector without a function, and whatever the function answers.
    fn answer(this: &Receiver, selector: &str, arguments: &str) -> Result<String, Failure>;

    /// One object's slots carried up from generation `from` to `to`. Pure.
    ///
    /// # Errors
    /// [`EvolveError::Unsupported`] unless the plugin has an `#[evolve]` function.
    fn evolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        let _ = (slots, from, to);
        Err(EvolveError::Unsupported)
    }

    /// The way back, for a release that is returned. Pure.
    ///
    /// # Errors
    /// [`EvolveError::Unsupported`] unless the plugin has a `#[devolve]` function.
    fn devolve(slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
        let _ = (slots, from, to);
        Err(EvolveError::Unsupported)
    }
}

/// The type of [`Plugin::answer`].
#[doc(hidden)]
pub type Answer = fn(&Receiver, &str, &str) -> Result<String, Failure>;

/// Why there is no answer. The host discards the message's writes.
///
/// Not an [`std::error::Error`] itself, so that `?` turns every error into [`Failure::Refused`] with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The arguments do not fit; says what was expected.
    BadArguments(String),
    /// The request is understood and declined, in the plugin's own words.
    Refused(String),
    /// The component has no such selector.
    UnknownSelector,
}

/// The contract's exports over a [`Plugin`]; `#[plugin]` exports it.
pub struct Component<P>(PhantomData<P>);

impl Failure {
    /// The arguments do not fit; `expected` says what would.
    pub fn bad_arguments(expected: impl Into<String>) -> Self {
        Self::BadArguments(expected.into())
    }

    /// The request is declined; `cause` is shown to the sender.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self::Refused(cause.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadArguments(expected) => write!(f, "the arguments do not fit: {expected}"),
            Self::Refused(cause) => write!(f, "refused: {cause}"),
            Self::UnknownSelector => f.write_str("no such selector"),
        }
    }
}

/// Calls a selector's function that takes no arguments; whatever was sent is ignored.
///
/// # Errors
/// What the function answers, or a refusal when its result is not JSON.
pub fn answer<R: Serialize>(
    this: &Receiver,
    function: impl FnOnce(&Receiver) -> Result<R, Failure>,
) -> Result<String, Failure> {
    encode(&function(this)?)
}

/// Parses `arguments` and calls a selector's function with them.
///
/// `null` stands for no arguments: a type that does not take `null` is given `{}`.
///
/// # Errors
/// [`Failure::BadArguments`] with the parser's words, and as [`answer`].
pub fn answer_with<A: DeserializeOwned, R: Serialize>(
    this: &Receiver,
    arguments: &str,
    function: impl FnOnce(&Receiver, A) -> Result<R, Failure>,
) -> Result<String, Failure> {
    encode(&function(this, decode(arguments)?)?)
}

fn decode<A: DeserializeOwned>(arguments: &str) -> Result<A, Failure> {
    serde_json::from_str(arguments)
        .or_else(|error| match arguments.trim() {
            "null" => serde_json::from_str("{}"),
            _ => Err(error),
        })
        .map_err(|error| Failure::BadArguments(error.to_string()))
}

fn encode<R: Serialize>(answer: &R) -> Result<String, Failure> {
    serde_json::to_string(answer)
        .map_err(|error| Failure::Refused(format!("the answer is not JSON: {error}")))
}

impl<P: Plugin> handler::Guest for Component<P> {
    fn handle(message: handler::Message) -> Result<String, handler::Failure> {
        let receiver = Receiver::new(Object::from(message.receiver), message.trace);
        let answer = P::answer(&receiver, &message.selector, &message.arguments)?;
        match receiver.settle() {
            Ok(()) => Ok(answer),
            Err(breach) => Err(covenant(breach, message.selector)),
        }
    }
}

fn covenant(breach: Breach, selector: String) -> handler::Failure {
    handler::Failure::Covenant(handler::CovenantViolation {
        slot: breach.slot,
        selector,
        cause: breach.cause,
    })
}

impl From<Failure> for handler::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::BadArguments(expected) => Self::BadArguments(expected),
            Failure::Refused(cause) => Self::Refused(cause),
            Failure::UnknownSelector => Self::UnknownSelector,
        }
    }
}

impl<P: Plugin> lifecycle::Guest for Component<P> {
    fn describe() -> Descriptor {
        P::describe()
    }

    fn evolve(slots: Vec<SlotValue>, from: u32, to: u32) -> Result<Vec<SlotValue>, lifecycle::EvolveError> {
        carry(slots, |slots| P::evolve(slots, from, to))
    }

    fn devolve(slots: Vec<SlotValue>, from: u32, to: u32) -> Result<Vec<SlotValue>, lifecycle::EvolveError> {
        carry(slots, |slots| P::devolve(slots, from, to))
    }
}

fn carry(
    slots: Vec<SlotValue>,
    way: impl FnOnce(Slots) -> Result<Slots, EvolveError>,
) -> Result<Vec<SlotValue>, lifecycle::EvolveError> {
    let carried = way(parse_slots(slots)?)?;
    Ok(slot_values(Value::Object(carried.into_iter().collect())))
}
