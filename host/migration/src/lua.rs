//! Scripts in Lua: the only file, with those below it, that names `mlua`.
//!
//! ```text
//! bounds   memory by the allocator; instructions and time by a hook; depth of calls and of syntax by Lua itself
//! absent   io, os, package, debug, load, coroutines, chance, metatables, pcall: a refusal ends the script
//! order    `pairs` goes in the order of keys, sorting keeps the order of equals, and no function tells an address, so
//!          that the same store gives the same result
//! ```
//! Without `pcall` nothing that was refused can be passed over; without coroutines and metatables no code runs where
//! the hook does not look.

mod language;
mod place;
mod value;

use std::borrow::Cow;
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
use crate::report::{LINE_BYTES_MAX, cut};
use crate::script::Script;

use place::{NAME, column, said, split_line, stopped};
use value::Marks;

pub(crate) use place::{Cause, Stopped};

/// Instructions between two looks at the bounds: some ten microseconds.
const STEP: u32 = 10_000;

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
    let hand = Hand { bench: Arc::clone(bench), marks: Marks::new(lua)? };
    let own = language::environment(lua, &hand.tostring(lua)?)?;
    own.set("null", mlua::Value::NULL)?;
    own.set("array", hand.marks.array_function(lua)?)?;
    own.set("print", hand.print(lua)?)?;
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
            hand.bench.lock().print(&hand.line(&values));
            Ok(())
        })
    }

    /// Values as one line: as many of them as a line takes, whatever there are.
    fn line(&self, values: &mlua::MultiValue) -> String {
        let mut line = String::new();
        for (place, value) in values.iter().enumerate() {
            if line.len() > LINE_BYTES_MAX {
                break;
            }
            line.push_str(if place > 0 { " " } else { "" });
            match value {
                mlua::Value::String(text) => line.push_str(&beginning(&text.as_bytes())),
                other => line.push_str(&self.shown(other)),
            }
        }
        line
    }

    /// Lua's own tells where in memory a table is, which is another place each time.
    fn tostring(&self, lua: &Lua) -> mlua::Result<Function> {
        let hand = self.clone();
        lua.create_function(move |lua, value: mlua::Value| match value {
            text @ mlua::Value::String(_) => Ok(text),
            mlua::Value::Integer(_) | mlua::Value::Number(_) => {
                lua.create_string(value.to_string()?).map(mlua::Value::String)
            }
            other => lua.create_string(hand.shown(&other)).map(mlua::Value::String),
        })
    }

    /// A value other than text as a person reads it: tables as JSON.
    fn shown(&self, value: &mlua::Value) -> String {
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

/// More of a text than a line takes, and no more than that of a long one.
fn beginning(text: &[u8]) -> Cow<'_, str> {
    // A letter that is cut is four bytes at most, and past what is kept.
    String::from_utf8_lossy(text.get(..LINE_BYTES_MAX + 4).unwrap_or(text))
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
            let wrong = |why: ValueError| mlua::Error::external(Refused::Value { slot: cut(&slot), why });
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

#[cfg(test)]
mod tests;
