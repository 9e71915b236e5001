//! What a script has of the language itself: nothing that reaches the system, and nothing that tells by chance, the
//! clock or where in memory a value is. So the same script over the same store does the same each time.

use mlua::{Function, Lua, MultiValue, Table, Value as Lual};

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
/// `table.sort`: a merge sort, which keeps the order of equals. Lua's own chooses by the clock what it compares with,
/// and its instructions are not counted. Costs the room of a second table.
pub(super) const SORT: (&str, &str) = (
    "sort",
    r#"
local error, type = error, type
local function less(one, other) return one < other end
return function(list, before)
  if type(list) ~= "table" then error("table.sort takes a table, this is a " .. type(list), 2) end
  before = before or less
  local from, to, after, width = list, {}, #list + 1, 1
  while width < after - 1 do
    for first = 1, after - 1, 2 * width do
      local left, right = first, first + width
      local left_end, right_end = right, right + width
      if left_end > after then left_end = after end
      if right_end > after then right_end = after end
      for at = first, right_end - 1 do
        if left < left_end and (right >= right_end or not before(from[right], from[left])) then
          to[at], left = from[left], left + 1
        else
          to[at], right = from[right], right + 1
        end
      end
    end
    from, to, width = to, from, 2 * width
  end
  if from ~= list then
    for at = 1, after - 1 do list[at] = from[at] end
  end
end
"#,
);
/// `pairs` in the order of keys: numbers, texts, then false and true. Keys of other kinds have no order but that of
/// memory.
pub(super) const PAIRS: (&str, &str) = (
    "pairs",
    r#"
local error, next, sort, type = error, next, table.sort, type
local rank = { number = 1, string = 2, boolean = 3 }
local function before(one, other)
  local first, second = rank[type(one)], rank[type(other)]
  if first ~= second then return first < second end
  if first == 3 then return other and not one end
  return one < other
end
return function(of)
  if type(of) ~= "table" then error("pairs takes a table, this is a " .. type(of), 2) end
  local keys, count, at = {}, 0, 0
  for key in next, of do
    if not rank[type(key)] then
      error("pairs goes in the order of keys, and a " .. type(key) .. " as a key has none", 2)
    end
    count = count + 1
    keys[count] = key
  end
  sort(keys, before)
  return function()
    at = at + 1
    if at <= count then return keys[at], of[keys[at]] end
  end
end
"#,
);

/// A new table with all that a script can name of the language itself. `tostring` shows what has no text of its own.
pub(super) fn environment(lua: &Lua, tostring: &Function) -> mlua::Result<Table> {
    let (own, all) = (lua.create_table()?, lua.globals());
    let (texts, tables) = (all.get::<Table>("string")?, all.get::<Table>("table")?);
    texts.set("dump", Lual::Nil)?;
    // Texts have it as a method by the same table.
    texts.set("format", format(lua, texts.get("format")?, tostring.clone())?)?;
    tables.set("sort", written(lua, SORT)?)?;
    for name in GLOBALS {
        own.set(name, all.get::<Lual>(name)?)?;
    }
    let (maths, all_maths) = (lua.create_table()?, all.get::<Table>("math")?);
    for name in MATHS {
        maths.set(name, all_maths.get::<Lual>(name)?)?;
    }
    own.set("math", maths)?;
    own.set("pairs", written(lua, PAIRS)?)?;
    own.set("tostring", tostring)?;
    Ok(own)
}

/// A function of this file's that is written in Lua: its instructions are counted as the script's are.
fn written(lua: &Lua, (name, text): (&str, &str)) -> mlua::Result<Function> {
    lua.load(text).set_name(format!("={name}")).eval()
}

/// `string.format` over what `tostring` shows.
fn format(lua: &Lua, own: Function, tostring: Function) -> mlua::Result<Function> {
    lua.create_function(move |_, (pattern, mut values): (mlua::String, MultiValue)| {
        if asks_for_an_address(&pattern.as_bytes()) {
            return Err(mlua::Error::runtime("string.format has no %p: where a value is differs each time"));
        }
        for value in values.iter_mut().filter(|value| has_an_address(value)) {
            *value = tostring.call(&*value)?;
        }
        own.call::<Lual>((pattern, values)).map_err(named)
    })
}

/// An error of Lua's own function, which does not know by which name it was called from here.
fn named(error: mlua::Error) -> mlua::Error {
    match error {
        mlua::Error::RuntimeError(text) => mlua::Error::RuntimeError(text.replacen("'?'", "'format'", 1)),
        other => other,
    }
}

/// Whether a pattern of `string.format` has a `%p`.
pub(super) fn asks_for_an_address(pattern: &[u8]) -> bool {
    let mut rest = pattern.iter();
    while rest.any(|byte| *byte == b'%') {
        if rest.find(|byte| !b"-+ #.0123456789".contains(byte)) == Some(&b'p') {
            return true;
        }
    }
    false
}

fn has_an_address(value: &Lual) -> bool {
    !matches!(value, Lual::Nil | Lual::Boolean(_) | Lual::Integer(_) | Lual::Number(_) | Lual::String(_))
}
