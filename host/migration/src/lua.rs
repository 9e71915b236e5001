//! Scripts in Lua: the only file, with those below it, that names `mlua`.
//!
//! ```text
//! bounds   memory by the allocator; instructions and time by a hook; depth of calls and of syntax by Lua itself
//! absent   io, os, package, debug, load, coroutines, chance, metatables, pcall: a refusal ends the script
//! order    `pairs` goes in the order of keys, so that the same store gives the same result
//! ```
//! Without `pcall` nothing that was refused can be passed over; without coroutines and metatables no code runs where
//! the hook does not look.

mod value;

use std::sync::Arc;
use std::time::Instant;

use mlua::{
    Function, HookTriggers, Lua, LuaOptions, MetaMethod, StdLib, Table, UserData, UserDataFields,
    UserDataMethods, UserDataRef, VmState,
};
use parking_lot::Mutex;
use telos_store::ObjectId;

use crate::bench::{Bench, Shared};
use crate::error::{EvolveError, Limit, Refused, ValueError};
use crate::limits::Limits;
use crate::script::Script;

use value::Marks;

/// What Lua calls the script in its messages, before a line.
const NAME: &str = "script";
/// Instructions between two looks at the bounds: some ten microseconds.
const STEP: u32 = 10_000;
/// What is kept of the language's own functions.
const GLOBALS: [&str; 13] = [
    "assert", "error", "ipairs", "rawequal", "rawget", "rawlen", "rawset", "select", "tonumber", "type",
    "string", "table", "utf8",
];
/// What is kept of mathematics: all but chance.
const MATHS: [&str; 17] = [
    "abs",
    "ceil",
    "exp",
    "floor",
    "fmod",
    "huge",
    "log",
    "max",
    "maxinteger",
    "min",
    "mininteger",
    "modf",
    "pi",
    "sqrt",
    "tointeger",
    "type",
    "ult",
];
/// `pairs` in the order of keys: numbers, then texts. Keys of other kinds come last, in no order.
const PAIRS: &str = r#"
local next, sort, type = next, table.sort, type
local rank = { number = 1, string = 2 }
local function before(one, other)
  local first, second = rank[type(one)] or 3, rank[type(other)] or 3
  if first ~= second then return first < second end
  return first < 3 and one < other
end
return function(of)
  local keys, count, at = {}, 0, 0
  for key in next, of do count = count + 1; keys[count] = key end
  sort(keys, before)
  return function()
    at = at + 1
    if at <= count then return keys[at], of[keys[at]] end
  end
end
"#;

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

/// Parses a script; nothing of it runs.
pub(crate) fn check(script: &Script) -> Result<(), EvolveError> {
    let parsed = Lua::new_with(StdLib::NONE, LuaOptions::default())
        .and_then(|lua| chunk(&lua, script).into_function().map(drop));
    parsed.map_err(|error| {
        let said = said(&error);
        let (line, what) = split_line(&said);
        let line = line.unwrap_or(1);
        let column = script.text().lines().nth(line.saturating_sub(1)).and_then(|text| column(text, what));
        EvolveError::Syntax { path: script.path().into(), line, column, what: what.into() }
    })
}

/// Runs a script over a bench. Blocks until it ends, or a bound ends it.
pub(crate) fn run(script: &Script, bench: &Shared, limits: Limits) -> Result<(), Stopped> {
    let ended = prepare(bench, limits)
        .and_then(|(lua, environment)| chunk(&lua, script).set_environment(environment).exec());
    ended.map_err(|error| stopped(&error, limits))
}

/// Text alone: compiled code could do anything.
fn chunk<'a>(lua: &Lua, script: &'a Script) -> mlua::Chunk<'a> {
    lua.load(script.text()).set_name(format!("={NAME}")).set_mode(mlua::ChunkMode::Text)
}

fn prepare(bench: &Shared, limits: Limits) -> mlua::Result<(Lua, Table)> {
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    let environment = environment(&lua, bench)?;
    lua.set_memory_limit(limits.memory_bytes)?;
    let (began, mut left) = (Instant::now(), limits.instructions / u64::from(STEP));
    let left = Mutex::new(move || {
        left = left.saturating_sub(1);
        left == 0
    });
    lua.set_hook(HookTriggers::new().every_nth_instruction(STEP), move |_, _| {
        let limit = if (left.lock())() {
            Limit::Instructions(limits.instructions)
        } else if began.elapsed() > limits.time {
            Limit::Seconds(limits.time.as_secs())
        } else {
            return Ok(VmState::Continue);
        };
        Err(mlua::Error::external(limit))
    })?;
    Ok((lua, environment))
}

/// All that a script can name.
fn environment(lua: &Lua, bench: &Shared) -> mlua::Result<Table> {
    let (own, all) = (lua.create_table()?, lua.globals());
    for name in GLOBALS {
        own.set(name, all.get::<mlua::Value>(name)?)?;
    }
    let (maths, all_maths) = (lua.create_table()?, all.get::<Table>("math")?);
    for name in MATHS {
        maths.set(name, all_maths.get::<mlua::Value>(name)?)?;
    }
    all.get::<Table>("string")?.set("dump", mlua::Value::Nil)?;
    own.set("math", maths)?;
    own.set("pairs", lua.load(PAIRS).set_name("=pairs").eval::<Function>()?)?;
    let marks = Marks::new(lua)?;
    own.set("null", mlua::Value::NULL)?;
    own.set("array", marks.array_function(lua)?)?;
    let hand = Hand { bench: Arc::clone(bench), marks };
    own.set("print", hand.print(lua)?)?;
    own.set("tostring", hand.tostring(lua)?)?;
    own.set("store", hand.store(lua)?)?;
    Ok(own)
}

/// What every function of a script's has in hand.
#[derive(Clone)]
struct Hand {
    bench: Shared,
    marks: Marks,
}

/// An object as a script has it: its identity. What it holds is read when it is asked for.
struct Item {
    id: ObjectId,
    hand: Hand,
}

impl Hand {
    fn item(&self, id: ObjectId) -> Item {
        Item { id, hand: self.clone() }
    }

    /// Asks the bench.
    fn ask<T>(&self, ask: impl FnOnce(&mut Bench) -> Result<T, Refused>) -> mlua::Result<T> {
        ask(&mut self.bench.lock()).map_err(mlua::Error::external)
    }

    fn print(&self, lua: &Lua) -> mlua::Result<Function> {
        let hand = self.clone();
        lua.create_function(move |_, values: mlua::MultiValue| {
            let words: Vec<String> = values.iter().map(|value| hand.shown(value)).collect();
            hand.bench.lock().print(words.join(" "));
            Ok(())
        })
    }

    /// Lua's own tells where in memory a table is, which is another place each time.
    fn tostring(&self, lua: &Lua) -> mlua::Result<Function> {
        let hand = self.clone();
        lua.create_function(move |_, value: mlua::Value| match value {
            mlua::Value::Integer(_) | mlua::Value::Number(_) => value.to_string(),
            other => Ok(hand.shown(&other)),
        })
    }

    /// A value as a person reads it: texts as they are, tables as JSON.
    fn shown(&self, value: &mlua::Value) -> String {
        if let mlua::Value::String(text) = value {
            return text.to_string_lossy();
        }
        if let Some(item) = value.as_userdata().and_then(|item| item.borrow::<Item>().ok()) {
            return item.id.to_string();
        }
        match self.marks.read_lua(value) {
            Ok(json) => json.to_string(),
            Err(_) => value.type_name().to_owned(),
        }
    }

    fn store(&self, lua: &Lua) -> mlua::Result<Table> {
        let store = lua.create_table()?;
        self.add(lua, &store, "get", |hand, id: String| Ok(hand.item(hand.ask(|bench| bench.get(&id))?)))?;
        self.add(lua, &store, "find", |hand, name: String| {
            Ok(hand.ask(|bench| bench.find(&name))?.map(|id| hand.item(id)))
        })?;
        self.add(lua, &store, "create", |hand, owner: String| {
            Ok(hand.item(hand.ask(|bench| bench.create(&owner))?))
        })?;
        self.add(lua, &store, "bind", |hand, (name, item): (String, UserDataRef<Item>)| {
            hand.ask(|bench| bench.bind(&name, item.id))
        })?;
        self.add(lua, &store, "unbind", |hand, name: String| {
            Ok(hand.ask(|bench| bench.unbind(&name))?.map(|id| hand.item(id)))
        })?;
        self.add(lua, &store, "owners", |hand, ()| {
            let owners = hand.ask(Bench::owners)?;
            Ok(owners.iter().map(ToString::to_string).collect::<Vec<_>>())
        })?;
        store.set("objects", self.objects(lua)?)?;
        store.set("names", self.names(lua)?)?;
        Ok(store)
    }

    fn add<A: mlua::FromLuaMulti, R: mlua::IntoLuaMulti>(
        &self,
        lua: &Lua,
        to: &Table,
        name: &str,
        act: impl Fn(&Hand, A) -> mlua::Result<R> + 'static,
    ) -> mlua::Result<()> {
        let hand = self.clone();
        to.set(name, lua.create_function(move |_, arguments: A| act(&hand, arguments))?)
    }

    /// `for object in store.objects(owner)`, or over all of them.
    fn objects(&self, lua: &Lua) -> mlua::Result<Function> {
        let hand = self.clone();
        lua.create_function(move |lua, owner: Option<String>| {
            let mut walk = hand.ask(|bench| bench.walk(owner.as_deref()))?;
            let hand = hand.clone();
            lua.create_function_mut(move |_, _: mlua::MultiValue| {
                Ok(hand.ask(|bench| bench.next(&mut walk))?.map(|id| hand.item(id)))
            })
        })
    }

    /// `for name, object in store.names(prefix)`.
    fn names(&self, lua: &Lua) -> mlua::Result<Function> {
        let hand = self.clone();
        lua.create_function(move |lua, prefix: Option<String>| {
            let mut walk = Bench::walk_names(prefix.as_deref().unwrap_or_default());
            let hand = hand.clone();
            lua.create_function_mut(move |_, _: mlua::MultiValue| {
                let next = hand.ask(|bench| bench.next_name(&mut walk))?;
                let (name, id) = next.unzip();
                Ok((name.map(|name| name.to_string()), id.map(|id| hand.item(id))))
            })
        })
    }
}

impl UserData for Item {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("id", |_, item| Ok(item.id.to_string()));
        fields.add_field_method_get("owner", |_, item| {
            Ok(item.hand.ask(|bench| bench.object(item.id))?.owner.to_string())
        });
        fields.add_field_method_get("generation", |_, item| {
            Ok(item.hand.ask(|bench| bench.object(item.id))?.generation)
        });
        fields.add_field_method_set("generation", |_, item, generation: i64| {
            item.hand.ask(|bench| bench.set_generation(item.id, generation))
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get", |lua, item, slot: String| {
            let found = item.hand.ask(|bench| bench.value(item.id, &slot))?;
            let Some(value) = found else { return Ok(mlua::Value::Nil) };
            item.hand.marks.to_lua(lua, &value, &slot)
        });
        methods.add_method("set", |_, item, (slot, value): (String, mlua::Value)| {
            let wrong = |why: ValueError| mlua::Error::external(Refused::Value { slot: slot.clone(), why });
            let value = item.hand.marks.read_lua(&value).map_err(wrong)?;
            item.hand.ask(|bench| bench.set(item.id, &slot, &value))
        });
        methods.add_method("remove", |_, item, slot: String| {
            item.hand.ask(|bench| bench.remove(item.id, &slot))
        });
        methods.add_method("rename", |_, item, (from, to): (String, String)| {
            item.hand.ask(|bench| bench.rename_slot(item.id, &from, &to))
        });
        methods.add_method("slots", |_, item, ()| {
            let object = item.hand.ask(|bench| bench.object(item.id))?;
            let values = object.slots.iter().filter(|(_, slot)| !slot.is_method());
            Ok(values.map(|(name, _)| name.clone()).collect::<Vec<_>>())
        });
        methods.add_method("parents", |_, item, ()| {
            let object = item.hand.ask(|bench| bench.object(item.id))?;
            Ok(object.parents.iter().map(|parent| item.hand.item(*parent)).collect::<Vec<_>>())
        });
        methods.add_method("set_parents", |_, item, parents: Vec<UserDataRef<Item>>| {
            let parents = parents.iter().map(|parent| parent.id).collect();
            item.hand.ask(|bench| bench.set_parents(item.id, parents))
        });
        methods.add_method("names", |_, item, ()| {
            let names = item.hand.ask(|bench| bench.names_of(item.id))?;
            Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        });
        methods.add_meta_method(MetaMethod::Eq, |_, item, other: UserDataRef<Item>| Ok(item.id == other.id));
        methods.add_meta_method(MetaMethod::ToString, |_, item, ()| Ok(item.id.to_string()));
    }
}

/// Finds what was refused, or what Lua said.
fn stopped(error: &mlua::Error, limits: Limits) -> Stopped {
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

/// Lua's message without its traceback, which is about the host's functions too.
fn said(error: &mlua::Error) -> String {
    let mut innermost = error;
    while let mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } = innermost {
        innermost = cause;
    }
    let text = match innermost {
        mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => text.clone(),
        other => other.to_string(),
    };
    let end = text.find("\nstack traceback:").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    if text.starts_with("table: 0x") { "an error that is no text".into() } else { text.to_owned() }
}

/// The line at the front of a message, and the rest of it.
fn split_line(said: &str) -> (Option<usize>, &str) {
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
        mlua::Error::CallbackError { traceback, .. } => traceback.clone(),
        other => other.to_string(),
    };
    let named = format!("{NAME}:");
    let mut rest = trace.as_str();
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
fn column(line: &str, what: &str) -> Option<usize> {
    let word = what.rsplit_once(" near '")?.1.strip_suffix('\'')?;
    let at = line.find(word)?;
    let is_once = line.get(at + word.len()..).is_some_and(|rest| !rest.contains(word));
    is_once.then(|| line.get(..at).map(|before| before.chars().count() + 1)).flatten()
}

#[cfg(test)]
mod tests;
