//! JSON as Lua has it, and back.
//!
//! ```text
//! null            `null`                      Lua's nil is the absence of a value
//! whole numbers   integers, up to 2^63 - 1    others are refused rather than rounded
//! arrays          tables from 1 to n          marked, so that an empty one stays an array; `array{}` makes one
//! objects         tables with text keys       an empty table of the script's own is one
//! ```

use mlua::{Function, Lua, Table, Value as Lual};
use serde_json::{Map, Number, Value};
use telos_store::limit::VALUE_BYTES_MAX;

use crate::error::{Refused, ValueError};

/// Tables in tables, as deep as JSON in a slot may be.
const DEPTH_MAX: usize = 127;

/// Metatables that say what an empty table is.
#[derive(Clone)]
pub(super) struct Marks {
    array: Table,
    object: Table,
}

/// What one value may still take.
struct Room {
    bytes: usize,
}

impl Marks {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Marks> {
        Ok(Marks { array: lua.create_table()?, object: lua.create_table()? })
    }

    /// `array(table)` says that a table is an array, also when it is empty.
    pub(super) fn array_function(&self, lua: &Lua) -> mlua::Result<Function> {
        let mark = self.array.clone();
        lua.create_function(move |lua, table: Option<Table>| {
            let table = table.map_or_else(|| lua.create_table(), Ok)?;
            table.set_metatable(Some(mark.clone()))?;
            Ok(table)
        })
    }

    /// A slot's value for the script.
    pub(super) fn to_lua(&self, lua: &Lua, value: &Value, slot: &str) -> mlua::Result<Lual> {
        Ok(match value {
            Value::Null => Lual::NULL,
            Value::Bool(value) => Lual::Boolean(*value),
            Value::Number(number) => number_to_lua(number)
                .map_err(|why| mlua::Error::external(Refused::Value { slot: slot.into(), why }))?,
            Value::String(text) => Lual::String(lua.create_string(text)?),
            Value::Array(items) => {
                let table = lua.create_table_with_capacity(items.len(), 0)?;
                for (index, item) in items.iter().enumerate() {
                    table.raw_set(index + 1, self.to_lua(lua, item, slot)?)?;
                }
                table.set_metatable(Some(self.array.clone()))?;
                Lual::Table(table)
            }
            Value::Object(fields) => {
                let table = lua.create_table_with_capacity(0, fields.len())?;
                for (name, field) in fields {
                    table.raw_set(name.as_str(), self.to_lua(lua, field, slot)?)?;
                }
                table.set_metatable(Some(self.object.clone()))?;
                Lual::Table(table)
            }
        })
    }

    /// A script's value for a slot.
    pub(super) fn read_lua(&self, value: &Lual) -> Result<Value, ValueError> {
        self.convert(value, DEPTH_MAX, &mut Room { bytes: VALUE_BYTES_MAX })
    }

    fn convert(&self, value: &Lual, depth: usize, room: &mut Room) -> Result<Value, ValueError> {
        room.take(1)?;
        match value {
            value if value.is_null() => Ok(Value::Null),
            Lual::Boolean(value) => Ok(Value::Bool(*value)),
            Lual::Integer(value) => Ok(Value::from(*value)),
            Lual::Number(value) => Number::from_f64(*value).map(Value::Number).ok_or(ValueError::NotFinite),
            Lual::String(text) => {
                let text = text.to_str().map_err(|_| ValueError::NotText)?;
                room.take(text.len())?;
                Ok(Value::String(text.to_owned()))
            }
            Lual::Table(table) if depth == 0 => {
                let _ = table;
                Err(ValueError::Nested)
            }
            Lual::Table(table) => self.convert_table(table, depth - 1, room),
            other => Err(ValueError::Kind(other.type_name())),
        }
    }

    fn convert_table(&self, table: &Table, depth: usize, room: &mut Room) -> Result<Value, ValueError> {
        let mark = table.metatable();
        let (mut items, mut fields) = (Vec::new(), Map::new());
        // Keys come in no order; an array's are put in order below.
        for pair in table.pairs::<Lual, Lual>() {
            let (key, value) = pair.map_err(|error| ValueError::Json(error.to_string()))?;
            let value = self.convert(&value, depth, room)?;
            match key {
                Lual::Integer(index) => items.push((index, value)),
                Lual::String(name) => {
                    let name = name.to_str().map_err(|_| ValueError::NotText)?;
                    room.take(name.len())?;
                    fields.insert(name.to_owned(), value);
                }
                _ => return Err(ValueError::Keys),
            }
        }
        let is_array = mark.as_ref() == Some(&self.array);
        let is_object = mark.as_ref() == Some(&self.object);
        match (items.is_empty(), fields.is_empty()) {
            (true, true) if is_array => Ok(Value::Array(Vec::new())),
            (true, _) if !is_array => Ok(Value::Object(fields)),
            (false, true) if !is_object => array_of(items),
            _ => Err(ValueError::Keys),
        }
    }
}

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(ValueError::TooLarge(VALUE_BYTES_MAX))?;
        Ok(())
    }
}

fn array_of(mut items: Vec<(i64, Value)>) -> Result<Value, ValueError> {
    items.sort_by_key(|(index, _)| *index);
    let is_whole = (1..).zip(&items).all(|(place, (index, _))| place == *index);
    if !is_whole {
        return Err(ValueError::Keys);
    }
    Ok(Value::Array(items.into_iter().map(|(_, value)| value).collect()))
}

fn number_to_lua(number: &Number) -> Result<Lual, ValueError> {
    if let Some(whole) = number.as_i64() {
        return Ok(Lual::Integer(whole));
    }
    if let Some(whole) = number.as_u64() {
        return Err(ValueError::Number(whole));
    }
    number.as_f64().map(Lual::Number).ok_or(ValueError::NotFinite)
}
