//! What a script has of the language itself: nothing that reaches the system, or tells by chance.

use mlua::{Function, Lua, Table};

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

/// A new table with all that a script can name of the language itself.
pub(super) fn environment(lua: &Lua) -> mlua::Result<Table> {
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
    Ok(own)
}
