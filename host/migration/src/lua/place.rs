//! Where a script stopped and why, read from what the interpreter says.

use std::borrow::Cow;

use crate::error::{Limit, Refused};
use crate::limits::Limits;
use crate::report::cut;

use super::language::{PAIRS, SORT};

/// What Lua calls the script in its messages, before a line.
pub(super) const NAME: &str = "script";

/// Where a script stopped, and why.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) line: Option<usize>,
    pub(crate) cause: Cause,
}

/// Why a script stopped.
#[derive(Debug)]
pub(crate) enum Cause {
    Refused(Refused),
    Limit(Limit),
    /// In Lua's words.
    Mistake(String),
}

/// Finds what was refused, or what Lua said.
pub(super) fn stopped(error: &mlua::Error, limits: Limits) -> Stopped {
    let cause = match root(error) {
        mlua::Error::MemoryError(_) => Cause::Limit(Limit::Memory(limits.memory_bytes)),
        root => match (root.downcast_ref::<Refused>(), root.downcast_ref::<Limit>()) {
            (Some(refused), _) => Cause::Refused(refused.clone()),
            (_, Some(limit)) => Cause::Limit(*limit),
            _ => {
                let said = said(error);
                let (line, what) = split_line(&said);
                return Stopped {
                    line: line.or_else(|| traced_line(error)),
                    cause: Cause::Mistake(what.into()),
                };
            }
        },
    };
    Stopped { line: traced_line(error), cause }
}

/// The first cause of an error that went through calls.
fn root(error: &mlua::Error) -> &mlua::Error {
    match error {
        mlua::Error::CallbackError { cause, .. }
        | mlua::Error::WithContext { cause, .. }
        | mlua::Error::BadArgument { cause, .. } => root(cause),
        other => other,
    }
}

/// The beginning of Lua's message, without its traceback, which is about the host's functions too.
pub(super) fn said(error: &mlua::Error) -> String {
    let mut innermost = error;
    while let mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } = innermost {
        innermost = cause;
    }
    let text = match innermost {
        mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => Cow::from(text),
        other => Cow::from(other.to_string()),
    };
    let end = text.find("\nstack traceback:").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    if is_address(text) { "an error that is no text".into() } else { cut(after_own(text)) }
}

/// What a value that is no text is told as: by Lua, or by its binding.
fn is_address(text: &str) -> bool {
    ["table", "function", "userdata", "lightuserdata"].iter().any(|kind| {
        let by_lua = text.strip_prefix(kind).is_some_and(|rest| rest.starts_with(": "));
        let bound = text.strip_prefix('<').and_then(|rest| rest.strip_prefix(kind));
        by_lua || bound.is_some_and(|rest| rest.starts_with(" 0x"))
    })
}

/// A message without the place in a function of [`language`](super::language)'s: the script called it.
fn after_own(text: &str) -> &str {
    let place = [SORT.0, PAIRS.0].iter().find_map(|name| text.strip_prefix(name)?.strip_prefix(':'));
    let split = place.and_then(|rest| rest.split_once(": "));
    split.filter(|(line, _)| line.bytes().all(|byte| byte.is_ascii_digit())).map_or(text, |(_, what)| what)
}

/// The line at the front of a message, and the rest of it.
pub(super) fn split_line(said: &str) -> (Option<usize>, &str) {
    let after_name = said.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':'));
    let split = after_name.and_then(|rest| rest.split_once(':'));
    match split.and_then(|(line, what)| Some((line.parse().ok()?, what.trim_start()))) {
        Some((line, what)) => (Some(line), what),
        None => (None, said),
    }
}

/// The innermost line of the script that a traceback names.
fn traced_line(error: &mlua::Error) -> Option<usize> {
    let trace = match error {
        mlua::Error::CallbackError { traceback: text, .. } | mlua::Error::RuntimeError(text) => {
            Cow::from(text)
        }
        other => Cow::from(other.to_string()),
    };
    let named = format!("{NAME}:");
    let mut rest = &*trace;
    while let Some((_, after)) = rest.split_once(&named) {
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(line) = digits.parse() {
            return Some(line);
        }
        rest = after;
    }
    None
}

/// Where in its line the parser stopped: at the word it names, when that is there once.
pub(super) fn column(line: &str, what: &str) -> Option<usize> {
    let word = what.rsplit_once(" near '")?.1.strip_suffix('\'')?;
    let at = line.find(word)?;
    let is_once = line.get(at + word.len()..).is_some_and(|rest| !rest.contains(word));
    is_once.then(|| line.get(..at).map(|before| before.chars().count() + 1)).flatten()
}
